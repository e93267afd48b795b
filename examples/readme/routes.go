package main

import (
	"fmt"
	"net/http"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
)

func routes(keys *keycote.Manager) http.Handler {
	read := keyhttp.Require(keys, nil, "orders:read")
	mux := http.NewServeMux()
	mux.Handle("GET /orders", read(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keyhttp.FromContext(r.Context())
		fmt.Fprintln(w, "the orders, for key", grant.KeyID)
	})))
	return mux
}
