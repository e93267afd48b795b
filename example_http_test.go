package keycote_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// protect lets requests through to next whose key has the scope. What a client is told is a status and no more: which of
// the many reasons made a key unknown is for the use log.
func protect(keys *keycote.Manager, scope string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		grant, err := keys.Verify(r.Context(), token, keycote.Request{
			Scopes: []string{scope}, Addr: peer.Addr(), Route: r.Pattern, UserAgent: r.UserAgent(),
		})
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(keycote.WithGrant(r.Context(), grant)))
		case errors.Is(err, keycote.ErrUnauthenticated):
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "unauthorized", http.StatusUnauthorized)
		case errors.Is(err, keycote.ErrScope):
			http.Error(w, "forbidden", http.StatusForbidden)
		case errors.Is(err, keycote.ErrLimited):
			http.Error(w, "too many requests", http.StatusTooManyRequests)
		default: // an outage must not read as a wrong key
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
		}
	})
}

// A service whose routes are protected by access keys.
func Example() {
	ctx := context.Background()
	keys, err := keycote.New(ctx, memstore.New(), exampleKEK(), nil)
	if err != nil {
		log.Fatal(err)
	}

	orders := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keycote.GrantFrom(r.Context())
		fmt.Fprintf(w, "the orders of %s", grant.App)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", protect(keys, "orders:read", orders))
	mux.Handle("POST /orders", protect(keys, "orders:write", orders))

	_, secret, err := keys.Issue(ctx, keycote.IssueParams{Name: "ci", App: "shop", Scopes: []string{"orders:read"}})
	if err != nil {
		log.Fatal(err)
	}
	ask := func(method, token string) {
		r := httptest.NewRequest(method, "/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	ask("GET", secret.Reveal())
	ask("POST", secret.Reveal())
	ask("GET", "a guess")
	// Output:
	// 200 the orders of shop
	// 403 forbidden
	// 401 unauthorized
}
