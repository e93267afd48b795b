// Command chi protects routes of github.com/go-chi/chi, whose middleware is that of net/http.
package main

import (
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/keyhttp"
)

func main() { demo.Main(demo.Curl, routes) }

func routes(keys *keycote.Manager) http.Handler {
	r := chi.NewRouter()
	r.Route("/orders", func(r chi.Router) {
		r.With(keyhttp.Require(keys, nil, "orders:read")).Get("/{id}", order)
		r.With(keyhttp.Require(keys, nil, "orders:write")).Put("/{id}", order)
	})
	return r
}

func order(w http.ResponseWriter, r *http.Request) {
	grant, _ := keyhttp.FromContext(r.Context())
	fmt.Fprintf(w, "order %s, for %s\n", chi.URLParam(r, "id"), grant.KeyID)
}
