package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/keycote/keycote/keytest"
)

func TestOrders(t *testing.T) {
	env := keytest.New(t, nil)
	for token, want := range map[string]int{
		env.Issue("orders:read"):  http.StatusOK,
		env.Issue("orders:write"): http.StatusForbidden,
		"made up":                 http.StatusUnauthorized,
	} {
		r := httptest.NewRequest("GET", "/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		routes(env.Manager).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("got %d, want %d", w.Code, want)
		}
	}
}
