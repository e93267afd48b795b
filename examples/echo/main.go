// Command echo protects routes of github.com/labstack/echo.
package main

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/keyhttp"
)

func main() { demo.Main(demo.Curl, routes) }

func routes(keys *keycote.Manager) http.Handler {
	e := echo.New()
	e.GET("/orders/:id", order, scoped(keys, "orders:read"))
	e.PUT("/orders/:id", order, scoped(keys, "orders:write"))
	return e
}

func scoped(keys *keycote.Manager, scopes ...string) echo.MiddlewareFunc {
	return echo.WrapMiddleware(keyhttp.Require(keys, nil, scopes...))
}

func order(c echo.Context) error {
	grant, _ := keyhttp.FromContext(c.Request().Context())
	return c.String(http.StatusOK, fmt.Sprintf("order %s, for %s\n", c.Param("id"), grant.KeyID))
}
