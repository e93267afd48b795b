package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/keycote/keycote"
)

func routes(keys *keycote.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", require(keys, "orders:read", func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keycote.GrantFrom(r.Context())
		fmt.Fprintln(w, "the orders, for key", grant.KeyID)
	}))
	return mux
}

// require lets next answer requests whose key has the scope.
func require(keys *keycote.Manager, scope string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		grant, err := keys.Verify(r.Context(), token, keycote.Request{Scopes: []string{scope}, Route: r.Pattern})
		switch {
		case err == nil:
			next(w, r.WithContext(keycote.WithGrant(r.Context(), grant)))
		case errors.Is(err, keycote.ErrUnauthenticated): // unknown, revoked, expired...: the client is not told which
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "unauthorized", http.StatusUnauthorized)
		case errors.Is(err, keycote.ErrScope):
			http.Error(w, "forbidden", http.StatusForbidden)
		default: // the store is away; that says nothing about the key
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
		}
	}
}
