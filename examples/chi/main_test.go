package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/examples/internal/demotest"
	"github.com/keycote/keycote/keytest"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	demotest.HTTP(t, routes)
}

func TestScopes(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	handler := routes(env.Manager)
	reader, writer := env.Issue("orders:read"), env.Issue("orders:write")
	for _, c := range []struct {
		method, token string
		want          int
	}{
		{"GET", reader, http.StatusOK},
		{"PUT", reader, http.StatusForbidden},
		{"GET", writer, http.StatusForbidden},
		{"PUT", writer, http.StatusOK},
	} {
		r := httptest.NewRequest(c.method, "/orders/7", nil)
		r.Header.Set("X-API-Key", c.token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, c.want, w.Code, c.method)
	}
}
