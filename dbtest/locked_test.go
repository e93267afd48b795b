package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// bare are the ways to open a file with nothing set: a rollback journal, and no busy_timeout.
func bare(path string) map[string]place {
	ways := map[string]place{"modernc": {driver: "sqlite", dsn: path, dialect: sqlstore.SQLite}}
	if cgoEngine != nil {
		ways["mattn"] = place{
			driver: cgoEngine.driver, dialect: sqlstore.SQLite,
			dsn: "file:" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=0", // its default is five seconds
		}
	}
	return ways
}

func eachBare(t *testing.T, test func(t *testing.T, p place)) {
	t.Parallel()
	for name := range bare("") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, bare(newFile(t))[name])
		})
	}
}

// Two that verify, and one that changes, are no outage to each other.
func TestVerifyBesideChangesWithNothingSet(t *testing.T) {
	eachBare(t, func(t *testing.T, p place) {
		ctx := t.Context()
		db := p.open(t)
		require.NoError(t, sqlstore.Migrate(ctx, db, p.dialect))
		handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
		require.NoError(t, err)
		kek, err := aead.New(handle)
		require.NoError(t, err)
		m, err := keycote.New(ctx, p.store(t, db), keycote.NewKEK("test", kek), nil)
		require.NoError(t, err)
		key, secret, err := m.Issue(ctx, keycote.IssueParams{Name: "n"})
		require.NoError(t, err)

		const readers = 2
		stop := make(chan struct{})
		errs := make(chan error, readers)
		for range readers {
			go func() {
				for {
					select {
					case <-stop:
						errs <- nil
						return
					default:
					}
					_, err := m.Verify(ctx, secret.Reveal(), keycote.Request{})
					if err != nil && !errors.Is(err, keycote.ErrDisabled) && !errors.Is(err, keycote.ErrRevoked) {
						errs <- err
						return
					}
				}
			}()
		}
		var failed error
		for i := 0; i < 40 && failed == nil; i++ {
			change := m.Disable
			if i%2 == 1 {
				change = m.Enable
			}
			_, failed = change(ctx, key.ID, "")
		}
		if failed == nil {
			_, failed = m.Revoke(ctx, key.ID, "")
		}
		close(stop)
		for range readers {
			failed = errors.Join(failed, <-errs)
		}
		require.NoError(t, failed)
		requireSound(t, db)
	})
}

// held takes a lock on the file, until release is called.
func (p place) held(t testing.TB, statements ...string) (release func()) {
	t.Helper()
	conn, err := p.open(t).Conn(t.Context())
	require.NoError(t, err)
	for _, s := range statements {
		rows, err := conn.QueryContext(t.Context(), s)
		require.NoError(t, err)
		for rows.Next() {
		}
		require.NoError(t, errors.Join(rows.Err(), rows.Close()))
	}
	return func() {
		_, err := conn.ExecContext(context.WithoutCancel(t.Context()), "ROLLBACK")
		require.NoError(t, errors.Join(err, conn.Close()))
	}
}

var (
	reading = []string{"BEGIN", "SELECT n FROM keycote_head"}
	alone   = []string{"BEGIN EXCLUSIVE"}
)

// atThird calls fn when a statement of that text is asked for the third time, and counts.
func atThird(w *watch, text string, fn func()) *int {
	count := new(int)
	w.intercept(func(seen string) error {
		if seen == text {
			if *count++; *count == 3 {
				fn()
			}
		}
		return nil
	})
	return count
}

// Without WAL a COMMIT waits for those who read; and it can be given up until it has happened.
func TestCommitWaitsForReaders(t *testing.T) {
	eachBare(t, func(t *testing.T, p place) {
		db, w := p.openWatched(t)
		require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
		store := p.store(t, db)
		release := p.held(t, reading...)
		ctx, cancel := context.WithCancel(t.Context())
		tries := atThird(w, "COMMIT", cancel)
		require.ErrorIs(t, store.Commit(ctx, everything("one")), context.Canceled)
		w.intercept(nil)
		require.Equal(t, 3, *tries)
		requireParts(t, db, "one", 0)

		tries = atThird(w, "COMMIT", release)
		require.NoError(t, store.Commit(t.Context(), everything("one")))
		w.intercept(nil)
		require.Equal(t, 3, *tries)
		requireParts(t, db, "one", whole)
		requireIdle(t, db)
	})
}

// A read waits for a COMMIT, prepared or not; in a transaction of the host's nothing is repeated.
func TestReadsWaitForACommit(t *testing.T) {
	eachBare(t, func(t *testing.T, p place) {
		db, w := p.openWatched(t)
		require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
		store := p.store(t, db)
		require.NoError(t, store.Commit(t.Context(), keycote.Batch{Insert: []keycote.Record{record("t", "a")}}))
		reads := map[string]func(context.Context, *sqlstore.Store) error{
			"prepared": func(ctx context.Context, s *sqlstore.Store) error {
				_, err := s.Lookup(ctx, [][]byte{digest("t/a")})
				return err
			},
			"by its text": func(ctx context.Context, s *sqlstore.Store) error {
				page, err := s.List(ctx, keycote.Query{Tenant: "t"})
				if err == nil && len(page) != 1 {
					err = fmt.Errorf("%d records", len(page))
				}
				return err
			},
		}
		for name, read := range reads {
			w.take()
			require.NoError(t, read(t.Context(), store))
			seen := w.take()
			require.Len(t, seen, 1, "%s: nothing is asked besides where nothing is locked", name)

			release := p.held(t, alone...)
			ctx, cancel := context.WithCancel(t.Context())
			tries := atThird(w, seen[0].text, cancel)
			require.ErrorIs(t, read(ctx, store), context.Canceled, name)
			w.intercept(nil)
			require.Equal(t, 3, *tries, name)

			tries = atThird(w, seen[0].text, release)
			require.NoError(t, read(t.Context(), store), name)
			w.intercept(nil)
			require.Equal(t, 3, *tries, name)

			release = p.held(t, alone...)
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			w.take()
			require.ErrorContains(t, read(t.Context(), store.Tx(tx)), "database is locked", name)
			require.Len(t, w.take(), 1, "%s: in a view nothing is repeated", name)
			require.NoError(t, tx.Rollback())
			release()
		}
	})
}

// Where a busy_timeout is set SQLite has waited, and the store does not wait once more.
func TestReadsGoByBusyTimeout(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	p := place{driver: "sqlite", dsn: "file:" + path + "?_pragma=busy_timeout(20)", dialect: sqlstore.SQLite}
	db, w := p.openWatched(t)
	require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
	store := p.store(t, db)
	release := p.held(t, alone...)
	w.take()
	_, err := store.Get(t.Context(), "t", "a")
	require.ErrorContains(t, err, "database is locked")
	require.NotContains(t, err.Error(), "set busy_timeout")
	require.Len(t, w.take(), 2, "the read, and the question for busy_timeout")
	release()
	_, err = store.Get(t.Context(), "t", "a")
	require.ErrorIs(t, err, keycote.ErrNotFound)
}

// What is locked for good is an outage, whose error says what helps.
func TestLockedForGoodWithNothingSet(t *testing.T) {
	t.Parallel()
	p := bare(newFile(t))["modernc"]
	db := p.open(t)
	require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
	store := p.store(t, db)
	release := p.held(t, alone...)
	calls := []func() error{
		func() error { return store.Commit(t.Context(), everything("one")) },
		func() error { _, err := store.Get(t.Context(), "t", "a"); return err },
		func() error { _, err := sqlstore.New(t.Context(), db, p.dialect); return err },
		func() error { return sqlstore.Migrate(t.Context(), db, p.dialect) },
	}
	errs := make(chan error, len(calls))
	for _, call := range calls {
		go func() { errs <- call() }()
	}
	for range calls {
		err := <-errs
		require.ErrorContains(t, err, "database is locked")
		require.ErrorContains(t, err, "set busy_timeout and WAL: see package sqlstore")
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, keycote.CodeOf(err))
	}
	release()
	require.NoError(t, store.Commit(t.Context(), everything("one")))
}

// Several that start at once on a new file all come up, whatever the DSN.
func TestStartsAtOnce(t *testing.T) {
	t.Parallel()
	ways := map[string]func(string) place{
		"modernc, as recommended": func(path string) place {
			return place{driver: "sqlite", dsn: dsn(path), dialect: sqlstore.SQLite}
		},
	}
	if cgoEngine != nil {
		ways["mattn, as recommended"] = func(path string) place {
			return place{driver: cgoEngine.driver, dsn: cgoEngine.dsn(path), dialect: sqlstore.SQLite}
		}
	}
	for name := range bare("") {
		ways[name+", nothing set"] = func(path string) place { return bare(path)[name] }
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for round := range 15 {
				p := way(newFile(t))
				const n = 6
				errs := make(chan error, n)
				start := make(chan struct{})
				for i := range n {
					db := p.open(t)
					go func() {
						<-start
						errs <- p.comeUp(t.Context(), db, fmt.Sprint("starter ", i))
					}()
				}
				close(start)
				var failed error
				for range n {
					failed = errors.Join(failed, <-errs)
				}
				require.NoError(t, failed, "round %d", round)
			}
		})
	}
}

// comeUp is what a program does when it starts.
func (p place) comeUp(ctx context.Context, db *sql.DB, id string) error {
	if err := sqlstore.Migrate(ctx, db, p.dialect); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	store, err := sqlstore.New(ctx, db, p.dialect)
	if err != nil {
		return fmt.Errorf("new: %w", err)
	}
	if err := store.Commit(ctx, everything(id)); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	_, err = store.List(ctx, keycote.Query{AllTenants: true})
	return errors.Join(err, store.Close())
}
