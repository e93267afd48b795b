package dbtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/storetest"
)

// TestConformance holds the store to the contract of every Store, with a place of its own for each promise.
func TestConformance(t *testing.T) {
	eachEngine(t, "storetest", func(t *testing.T, e *engine) {
		storetest.Run(t, func(t testing.TB) keycote.Store {
			store, _, _ := e.fresh(t)
			return store
		})
	})
}

// TestConformanceInTx holds the view inside a transaction of the host to the same: the promises are no other ones
// there.
func TestConformanceInTx(t *testing.T) {
	onEach(t, "storetest in a transaction", onceEach, func(t *testing.T, e *engine) {
		storetest.Run(t, func(t testing.TB) keycote.Store {
			store, db, _ := e.fresh(t)
			tx, err := db.BeginTx(context.WithoutCancel(t.Context()), nil)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, tx.Rollback()) })
			return patient{store.Tx(tx)}
		})
	})
}

// patient keeps a call's context from ending while it runs: drivers of servers close the connection of a statement that
// is cancelled, and the host's transaction is gone with it. What a view does then has a test of its own.
type patient struct{ keycote.Store }

func (p patient) Commit(ctx context.Context, b keycote.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.Store.Commit(context.WithoutCancel(ctx), b)
}
