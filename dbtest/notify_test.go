package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

func onPostgres(e *engine) bool { return e.dialect == sqlstore.Postgres }

// hearing counts what a Listening hears, and passes it on.
type hearing struct {
	*sqlstore.Listening
	mu    sync.Mutex
	wakes int
	heard chan struct{} // a token for each, as many as fit
}

func (h *hearing) Notify(ctx context.Context, wake func()) error {
	return h.Listening.Notify(ctx, func() {
		h.mu.Lock()
		h.wakes++
		h.mu.Unlock()
		wake()
		select {
		case h.heard <- struct{}{}:
		default:
		}
	})
}

func (h *hearing) wait(t testing.TB) {
	t.Helper()
	select {
	case <-h.heard:
	case <-time.After(30 * time.Second):
		require.Fail(t, "nothing was heard")
	}
}

func (h *hearing) none(t testing.TB) {
	t.Helper()
	for len(h.heard) > 0 {
		<-h.heard
	}
}

// hears opens a store that listens by a connection of the given name.
func hears(t testing.TB, e *engine, here place, name string) *hearing {
	t.Helper()
	store := here.store(t, here.open(t))
	l, err := store.WithListener(listeners[e.driver](here.dsn + " application_name=" + name))
	require.NoError(t, err)
	return &hearing{Listening: l, heard: make(chan struct{}, 1024)}
}

// follower is a second process's Manager, which keeps what it has read until it hears of a change.
func follower(t testing.TB, store keycote.Store, file string) *keycote.Manager {
	t.Helper()
	kek, err := keycote.LocalKEK(file)
	require.NoError(t, err)
	m, err := keycote.New(t.Context(), store, kek, &keycote.Options{MaxStale: time.Hour})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return m
}

// A revocation is heard of by other processes, by whatever driver they listen; and so is one that they were deaf for.
func TestRevocationIsHeard(t *testing.T) {
	onEach(t, "notifications", onPostgres, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		ctx := t.Context()
		writer, err := openHost(ctx, here.store(t, here.open(t)), here.kek)
		require.NoError(t, err)
		name := fmt.Sprintf("listener_of_%s", e.driver)
		store := hears(t, e, here, name)
		m := follower(t, store, here.kek)
		store.wait(t) // it has begun to listen
		cut := func() (n int) {
			admin := e.pool(t)
			require.NoError(t, admin.QueryRowContext(ctx, "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity"+
				" WHERE application_name = $1 AND datname = current_database()", name).Scan(&n))
			return n
		}
		for round := range 6 {
			key, secret, err := writer.Issue(ctx, keycote.IssueParams{Name: fmt.Sprint("key ", round)})
			require.NoError(t, err)
			require.Eventually(t, func() bool { // until what was followed before does not stand between
				_, err = m.Verify(ctx, secret.Reveal(), keycote.Request{})
				return err == nil
			}, 30*time.Second, time.Millisecond)
			store.none(t)
			if round%2 == 1 {
				require.Equal(t, 1, cut(), "one connection listens")
			}
			_, err = writer.Revoke(ctx, key.ID, "leaked")
			require.NoError(t, err)
			store.wait(t)
			require.Eventually(t, func() bool {
				_, err = m.Verify(ctx, secret.Reveal(), keycote.Request{})
				return err != nil
			}, 30*time.Second, time.Millisecond)
			require.ErrorIs(t, err, keycote.ErrRevoked)
		}
	})
}

// What is told: commits that change records or items, in whatever transaction, and no others; nobody else's store.
func TestWhoIsTold(t *testing.T) {
	onEach(t, "who is told", onPostgres, func(t *testing.T, e *engine) {
		ctx := t.Context()
		mine, db, here := e.fresh(t)
		other, _, _ := e.fresh(t)
		store := hears(t, e, here, "who")
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- store.Notify(ctx, func() {}) }()
		store.wait(t)
		n := 0
		silent := func(what string, err error) {
			require.NoError(t, err, what)
			// A notification is heard after all that were committed before it: what was told in between shows here.
			store.mu.Lock()
			before := store.wakes
			store.mu.Unlock()
			n++
			item := keycote.Item{Space: "s", Name: fmt.Sprint(n), Revision: 1, Body: []byte("x")}
			require.NoError(t, mine.Commit(ctx, keycote.Batch{Items: []keycote.Item{item}}))
			store.wait(t)
			store.mu.Lock()
			defer store.mu.Unlock()
			require.Equal(t, before+1, store.wakes, what)
		}
		all := everything("x")
		silent("events and uses", mine.Commit(ctx, keycote.Batch{ID: "1", Events: all.Events, Uses: all.Uses}))
		silent("another store", other.Commit(ctx, everything("other")))
		refused := everything("refused")
		refused.Update = []keycote.Record{record("t", "none")}
		require.Error(t, mine.Commit(ctx, refused))
		silent("a refused Batch", nil)
		silent("a host that rolls back", func() error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if err := mine.Tx(tx).Commit(ctx, everything("rolled back")); err != nil {
				return err
			}
			return tx.Rollback()
		}())
		require.NoError(t, inTx(ctx, db, func(tx *sql.Tx) error {
			return mine.Tx(tx).Commit(ctx, keycote.Batch{ID: "of a host", Insert: []keycote.Record{record("t", "k")}})
		}))
		store.wait(t)
		stop()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// A store that cannot hear does not say that it can.
func TestWhoDoesNotListen(t *testing.T) {
	eachEngine(t, "who does not listen", func(t *testing.T, e *engine) {
		store, db, _ := e.fresh(t)
		_, pretends := any(store).(keycote.Notifier)
		require.False(t, pretends)
		_, err := store.WithListener(nil)
		require.Error(t, err)
		never := func(context.Context, string, func()) error { return nil }
		l, err := store.WithListener(never)
		if !onPostgres(e) {
			require.ErrorContains(t, err, "no notifications")
			return
		}
		require.NoError(t, err)
		require.NoError(t, inTx(t.Context(), db, func(tx *sql.Tx) error {
			view := l.Tx(tx)
			_, pretends := any(view).(keycote.Notifier)
			require.False(t, pretends)
			_, err := view.WithListener(never)
			require.Error(t, err)
			return nil
		}))
	})
}

// Two schemas of one database, and two prefixes of one schema, have channels of their own.
func TestChannels(t *testing.T) {
	onEach(t, "channels", onPostgres, func(t *testing.T, e *engine) {
		ctx := t.Context()
		_, admin, here := e.fresh(t)
		seen := map[string]string{}
		note := func(name string, p place, db *sql.DB) {
			l, err := p.store(t, db).WithListener(func(_ context.Context, channel string, _ func()) error {
				require.Regexp(t, "^keycote_[0-9a-f]{32}$", channel)
				require.Empty(t, seen[channel], name)
				seen[channel] = name
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, l.Notify(ctx, nil))
		}
		note("the first", here, admin)
		for _, schema := range []string{"one_" + e.driver, "Two " + e.driver} {
			_, err := admin.ExecContext(ctx, `CREATE SCHEMA "`+schema+`"`)
			require.NoError(t, err)
			p := here
			p.dsn += ` search_path='"` + schema + `"'`
			for _, dialect := range []sqlstore.Dialect{here.dialect, sqlstore.Postgres, sqlstore.Postgres.WithPrefix("other_")} {
				p.dialect = dialect
				db := p.open(t)
				require.NoError(t, sqlstore.Migrate(ctx, db, dialect))
				note(schema+string(dialect), p, db)
			}
		}
		require.Len(t, seen, 7)
	})
}
