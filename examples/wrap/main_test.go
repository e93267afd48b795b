package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demotest"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	demotest.HTTP(t, routes)
}

// TestForged: no spelling of the header's name lets a client say whose key it has.
func TestForged(t *testing.T) {
	t.Parallel()
	var got http.Header
	h := forKey(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	r := httptest.NewRequest(http.MethodGet, "/orders/7", nil)
	for _, name := range []string{"X-Key-Id", "X_Key_Id", "x_key-id", "X.Key.Id", "X-Key-Id2", "Authorization", "X-Api-Key"} {
		r.Header[name] = []string{"forged"}
	}
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(keycote.WithGrant(r.Context(), keycote.Grant{KeyID: "key_1"})))
	for name, values := range got {
		if name == "X-Key-Id" && strings.Join(values, ",") == "key_1" || name == "X-Key-Id2" {
			continue
		}
		t.Errorf("%s: %q", name, values)
	}
	if len(got) != 2 {
		t.Errorf("got %d headers, want 2", len(got))
	}
}
