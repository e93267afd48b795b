// Command gin protects routes of github.com/gin-gonic/gin.
package main

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/keyhttp"
)

func main() { demo.Main(demo.Curl, routes) }

func routes(keys *keycote.Manager) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	r.GET("/orders/:id", scoped(keys, "orders:read"), order)
	r.PUT("/orders/:id", scoped(keys, "orders:write"), order)
	return r
}

// scoped lets gin go on when keyhttp does. What keyhttp refuses it has answered already. The route is named as net/http's
// mux would name it, since that is where Require looks for what it writes into the use log.
func scoped(keys *keycote.Manager, scopes ...string) gin.HandlerFunc {
	middleware := keyhttp.Require(keys, nil, scopes...)
	return func(c *gin.Context) {
		passed := false
		next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			passed = true
			c.Request = r // with the grant in its context
		})
		c.Request.Pattern = c.Request.Method + " " + c.FullPath()
		middleware(next).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort()
		}
	}
}

func order(c *gin.Context) {
	grant, _ := keyhttp.FromContext(c.Request.Context())
	c.String(http.StatusOK, "order %s, for %s\n", c.Param("id"), grant.KeyID)
}
