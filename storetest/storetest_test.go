package storetest_test

import (
	"testing"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
	"github.com/keycote/keycote/storetest"
)

func TestMemstore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) keycote.Store { return memstore.New() })
}
