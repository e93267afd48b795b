package dbtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

const closed = "sqlstore: the Store is closed"

// A Store that is closed says so, whatever it is asked, and has changed nothing.
func TestClosedStore(t *testing.T) {
	onEach(t, "a closed store", onceEach, func(t *testing.T, e *engine) {
		_, db, p := e.fresh(t)
		store, err := sqlstore.New(t.Context(), db, p.dialect)
		require.NoError(t, err)
		copied, err := store.WithReplica(t.Context(), p.open(t), time.Second)
		require.NoError(t, err)
		lookup, _ := copied.Replica()
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		before := store.Tx(tx)

		require.NoError(t, before.Close(), "which does nothing")
		require.NoError(t, before.Commit(t.Context(), keycote.Batch{ID: "one"}))
		require.NoError(t, copied.Close())
		require.NoError(t, copied.Close(), "again")
		require.NoError(t, store.Close(), "what it was made of")

		for _, s := range []*sqlstore.Store{store, copied, before, store.Tx(tx)} {
			for _, call := range callsOf(s) {
				require.EqualError(t, call(t.Context()), closed)
			}
		}
		require.NoError(t, tx.Rollback())
		_, err = lookup(t.Context(), [][]byte{digest("a")})
		require.EqualError(t, err, closed)
		_, err = store.WithReplica(t.Context(), db, time.Second)
		require.EqualError(t, err, closed)
		_, err = store.WithListener(nil)
		require.EqualError(t, err, closed)
		p.requireParts(t, db, "two", 0)
	})
}

// callsOf are all that ask the database.
func callsOf(s *sqlstore.Store) []func(context.Context) error {
	return []func(context.Context) error{
		func(ctx context.Context) error { return s.Commit(ctx, everything("two")) },
		func(ctx context.Context) error { _, err := s.Get(ctx, "t", "a"); return err },
		func(ctx context.Context) error { _, err := s.Lookup(ctx, [][]byte{digest("a")}); return err },
		func(ctx context.Context) error { _, err := s.Lookup(ctx, make([][]byte, 20)); return err },
		func(ctx context.Context) error { _, err := s.List(ctx, keycote.Query{}); return err },
		func(ctx context.Context) error { _, err := s.Items(ctx, keycote.ItemQuery{}); return err },
		func(ctx context.Context) error { _, err := s.Events(ctx, keycote.EventQuery{}); return err },
		func(ctx context.Context) error { _, err := s.Usage(ctx, keycote.UsageQuery{}); return err },
		func(ctx context.Context) error { _, _, err := s.Changes(ctx, ""); return err },
	}
}

// Reads that go on while the Store is closed end in that one error too.
func TestCloseBesideReads(t *testing.T) {
	t.Parallel()
	db := openFile(t, newFile(t))
	require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
	for range 20 {
		store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
		require.NoError(t, err)
		const readers = 4
		begun, errs := make(chan struct{}, readers), make(chan error, readers)
		for range readers {
			go func() {
				var err error
				for n := 0; err == nil || errors.Is(err, keycote.ErrNotFound); n++ {
					if n == 1 {
						begun <- struct{}{}
					}
					_, err = store.Get(t.Context(), "t", "a")
				}
				errs <- err
			}()
		}
		for range readers {
			<-begun
		}
		require.NoError(t, store.Close())
		for range readers {
			require.EqualError(t, <-errs, closed)
		}
	}
}
