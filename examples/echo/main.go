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

// scoped names the route as net/http's mux would, since that is where Require looks for what it writes into the use log.
func scoped(keys *keycote.Manager, scopes ...string) echo.MiddlewareFunc {
	required := echo.WrapMiddleware(keyhttp.Require(keys, nil, scopes...))
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		handler := required(next)
		return func(c echo.Context) error {
			c.Request().Pattern = c.Request().Method + " " + c.Path()
			return handler(c)
		}
	}
}

func order(c echo.Context) error {
	grant, _ := keyhttp.FromContext(c.Request().Context())
	return c.String(http.StatusOK, fmt.Sprintf("order %s, for %s\n", c.Param("id"), grant.KeyID))
}
