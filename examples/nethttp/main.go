// Command nethttp protects the routes of an http.ServeMux.
package main

import (
	"fmt"
	"net/http"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/keyhttp"
)

func main() { demo.Main(demo.Curl, routes) }

func routes(keys *keycote.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /orders/{id}", keyhttp.Require(keys, nil, "orders:read")(http.HandlerFunc(order)))
	mux.Handle("PUT /orders/{id}", keyhttp.Require(keys, nil, "orders:write")(http.HandlerFunc(order)))
	return mux
}

func order(w http.ResponseWriter, r *http.Request) {
	grant, _ := keyhttp.FromContext(r.Context())
	fmt.Fprintf(w, "order %s, for %s\n", r.PathValue("id"), grant.KeyID)
}
