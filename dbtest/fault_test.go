package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// faulty is a store whose statements can be counted, failed and cancelled, on a pool of one connection: whatever a
// Commit leaves open there, the next statement meets.
func faulty(t *testing.T) (*sqlstore.Store, *sql.DB, *watch) {
	t.Helper()
	path := newFile(t)
	openStore(t, path)
	db, w := openWatched(t, path)
	db.SetMaxOpenConns(1)
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, db, w
}

// requireIdle fails when the pool's connection is inside a transaction.
func requireIdle(t *testing.T, db *sql.DB) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func requireParts(t *testing.T, db *sql.DB, id string, want int) {
	t.Helper()
	place{}.requireParts(t, db, id, want)
}

func (p place) requireParts(t *testing.T, db *sql.DB, id string, want int) {
	t.Helper()
	n, err := p.parts(t.Context(), db, id)
	require.NoError(t, err)
	require.Equal(t, want, n, "parts of batch %s", id)
}

var errBroken = errors.New("disk on fire")

// At every statement of a Commit in turn the disk fails, or the call is cancelled, before the statement or behind it.
func TestFaultAtEveryStatement(t *testing.T) {
	t.Parallel()
	modes := []struct {
		name string
		// fault is called at the statement chosen; its error keeps the statement from running.
		fault func(cancel context.CancelFunc) error
		want  error
	}{
		{"driver error", func(context.CancelFunc) error { return errBroken }, errBroken},
		{"cancelled", func(cancel context.CancelFunc) error { cancel(); return nil }, context.Canceled},
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			store, db, w := faulty(t)
			w.take()
			require.NoError(t, store.Commit(t.Context(), everything("sound")))
			total := len(w.take())
			require.Greater(t, total, 15)
			for at := range total + 1 {
				id := fmt.Sprintf("fault at %d", at)
				ctx, cancel := context.WithCancel(t.Context())
				count, text := 0, ""
				w.intercept(func(statement string) error {
					defer func() { count++ }()
					if count != at {
						return nil
					}
					text = statement
					return mode.fault(cancel)
				})
				err := store.Commit(ctx, everything(id))
				w.intercept(nil)
				cancel()
				switch {
				case text == "": // all was over before the fault
					require.GreaterOrEqual(t, at, total-1)
					require.NoError(t, err)
					requireParts(t, db, id, whole)
				case text == "COMMIT" && mode.want == context.Canceled: // too late to cancel: it is done, and said to be
					require.NoError(t, err)
					requireParts(t, db, id, whole)
				default:
					require.ErrorIs(t, err, mode.want, "at %s", text)
					require.Empty(t, keycote.CodeOf(err))
					requireParts(t, db, id, 0)
				}
				requireIdle(t, db)
				require.NoError(t, store.Commit(t.Context(), everything(id)), "repeated as it is")
				requireParts(t, db, id, whole)
			}
		})
	}
}

// The same in a transaction of the host, whose own work has to stay.
func TestFaultInTx(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"driver error", "cancelled"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			store, db, w := faulty(t)
			_, err := db.ExecContext(t.Context(), "CREATE TABLE host (n INTEGER)")
			require.NoError(t, err)
			done := false
			for at := 0; !done; at++ {
				before, id, after := fmt.Sprintf("before %d", at), fmt.Sprintf("fault at %d", at), fmt.Sprintf("after %d", at)
				tx, err := db.BeginTx(t.Context(), nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(t.Context(), "INSERT INTO host (n) VALUES (?)", at)
				require.NoError(t, err)
				view := store.Tx(tx)
				require.NoError(t, view.Commit(t.Context(), everything(before)))
				ctx, cancel := context.WithCancel(t.Context())
				count, hit := 0, false
				w.intercept(func(string) error {
					defer func() { count++ }()
					if count != at {
						return nil
					}
					hit = true
					if mode == "cancelled" {
						cancel()
						return nil
					}
					return errBroken
				})
				failed := view.Commit(ctx, everything(id))
				w.intercept(nil)
				cancel()
				_, err = view.Get(t.Context(), "t", "new of "+id)
				if failed == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, keycote.ErrNotFound)
				}
				require.NoError(t, view.Commit(t.Context(), everything(after)))
				require.NoError(t, tx.Commit())

				want := 0
				if failed == nil {
					want = whole
				}
				requireParts(t, db, before, whole)
				requireParts(t, db, id, want)
				requireParts(t, db, after, whole)
				var n int
				require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM host WHERE n = ?", at).Scan(&n))
				require.Equal(t, 1, n)
				done = !hit
			}
		})
	}
}

// A savepoint that cannot be taken back closes the view.
func TestTxThatCannotBeTakenBack(t *testing.T) {
	t.Parallel()
	store, db, w := faulty(t)
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	view := store.Tx(tx)
	w.intercept(func(text string) error {
		if text == "ROLLBACK TO SAVEPOINT keycote_commit" || text[:6] == "UPDATE" {
			return errBroken
		}
		return nil
	})
	require.ErrorIs(t, view.Commit(t.Context(), everything("one")), errBroken)
	w.intercept(nil)
	require.ErrorContains(t, view.Commit(t.Context(), everything("two")), "roll the transaction back")
	require.NoError(t, tx.Rollback())
	requireParts(t, db, "one", 0)
	requireParts(t, db, "two", 0)
	require.NoError(t, store.Commit(t.Context(), everything("one")))
}

// A connection of which nobody knows whether it is in a transaction does not come back.
func TestConnectionThatCannotRollBack(t *testing.T) {
	t.Parallel()
	store, db, w := faulty(t)
	opened := w.connections()
	w.intercept(func(text string) error {
		if text == "COMMIT" || text == "ROLLBACK" {
			return errBroken
		}
		return nil
	})
	require.ErrorIs(t, store.Commit(t.Context(), everything("one")), errBroken)
	w.intercept(nil)
	requireIdle(t, db)
	require.Equal(t, opened+1, w.connections())
	requireParts(t, db, "one", 0)
	require.NoError(t, store.Commit(t.Context(), everything("one")))
}

// Many callers, each cancelled at a moment of its own: nothing stays half done, nothing stays open.
func TestCancelUnderLoad(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	openStore(t, path)
	db, w := openWatched(t, path)
	db.SetMaxOpenConns(4)
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })

	// Every seventh statement of all that run cancels the call that is the oldest.
	const calls = 120
	cancels := make(chan context.CancelFunc, calls)
	count := 0
	w.intercept(func(string) error {
		if count++; count%7 == 0 {
			select {
			case cancel := <-cancels:
				cancel()
			default:
			}
		}
		return nil
	})
	errs := make([]error, calls)
	done := make(chan int)
	running := 0
	for i := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cancels <- cancel
		go func() {
			errs[i] = store.Commit(ctx, everything(fmt.Sprintf("load %d", i)))
			done <- i
		}()
		if running++; running == 8 {
			<-done
			running--
		}
	}
	for ; running > 0; running-- {
		<-done
	}
	w.intercept(nil)
	failed := 0
	for i, err := range errs {
		want := whole
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			want = 0
			failed++
		}
		requireParts(t, db, fmt.Sprintf("load %d", i), want)
	}
	require.NotZero(t, failed)
	require.NotEqual(t, calls, failed)
	db.SetMaxOpenConns(1)
	requireIdle(t, db)
}
