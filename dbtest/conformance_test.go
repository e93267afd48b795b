package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/storetest"
)

// unsynced spares the waiting for a disk, which is not what these tests are about.
const unsynced = "&_pragma=synchronous(OFF)"

// TestConformance holds the store to the contract of every Store, on a file of its own for each promise.
func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) keycote.Store {
		store, _ := openStore(t, newFile(t), unsynced)
		return store
	})
	ran(t, modernc, "storetest")
}

// TestConformanceInTx holds the view inside a transaction of the host to the same: the promises are no other ones there.
func TestConformanceInTx(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) keycote.Store {
		store, db := openStore(t, newFile(t), unsynced)
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback() }) // the test's context has ended it already
		return store.Tx(tx)
	})
	ran(t, modernc, "storetest in a transaction")
}
