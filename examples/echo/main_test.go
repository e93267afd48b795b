package main

import (
	"testing"

	"github.com/keycote/keycote/examples/internal/demotest"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	demotest.HTTP(t, routes)
}

func TestScopes(t *testing.T) {
	t.Parallel()
	demotest.Scopes(t, routes)
}

func TestUseLog(t *testing.T) {
	t.Parallel()
	demotest.UseLog(t, routes, "GET /orders/:id")
}
