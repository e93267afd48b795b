package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// Many writers, with transactions of different length, and a follower that reads on and on: it sees each change, once,
// in the order of the commits. With numbers drawn from a sequence this fails on PostgreSQL at once (tried): a
// transaction that drew early commits late, behind the follower's back.
func TestFeedLosesNothing(t *testing.T) { eachEngine(t, "feed under writers", feedLosesNothing) }

const (
	feedWriters = 6
	feedRounds  = 20
)

func feedLosesNothing(t *testing.T, e *engine) {
	ctx := t.Context()
	store, db, here := e.fresh(t)
	_, start, err := store.Changes(ctx, "")
	require.NoError(t, err)
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("%s: %v", e.name, err)) // a goroutine's FailNow would not end the test
		}
	}

	var group sync.WaitGroup
	for writer := range feedWriters {
		group.Go(func() {
			for round := range feedRounds {
				name := fmt.Sprintf("%d %02d", writer, round)
				b := keycote.Batch{ID: name, Insert: []keycote.Record{record("t", name)}}
				switch {
				case writer%3 == 0 && e.server != nil: // one of a host's, with work of its own before and after
					must(asAHost(ctx, db, func(tx *sql.Tx) error {
						view := store.Tx(tx)
						if _, err := view.Get(ctx, "t", "none"); err != keycote.ErrNotFound {
							return err
						}
						if err := view.Commit(ctx, b); err != nil {
							return err
						}
						for range writer + round%7 {
							if _, err := view.Get(ctx, "t", name); err != nil {
								return err
							}
						}
						return nil
					}))
				case writer%3 == 1: // long by itself
					for i := range 1 + round%15 {
						more := fmt.Sprintf("%s more %02d", name, i)
						b.Items = append(b.Items, keycote.Item{Tenant: "t", Space: more, Name: "n", Revision: 1, Body: []byte("x")})
					}
					fallthrough
				default:
					must(store.Commit(ctx, b))
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()

	var followed []keycote.Change
	at := start
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		changes, next, err := store.Changes(ctx, at)
		require.NoError(t, err)
		followed, at = append(followed, changes...), next
	}
	again, end, err := store.Changes(ctx, start)
	require.NoError(t, err)
	require.Equal(t, at, end)
	require.Equal(t, again, followed, "what is seen while it is written, and afterwards")

	seen, next := map[string]int{}, map[byte]int{}
	for _, ch := range followed {
		if ch.ID == "" {
			seen[ch.Space]++
			continue
		}
		seen[ch.ID]++
		require.Equal(t, fmt.Sprintf("%c %02d", ch.ID[0], next[ch.ID[0]]), ch.ID, "each writer's, in its order")
		next[ch.ID[0]]++
	}
	records := 0
	for name, n := range seen {
		require.Equal(t, 1, n, name)
		if len(name) == 4 {
			records++
		}
	}
	require.Equal(t, feedWriters*feedRounds, records)
	var items int
	require.NoError(t, db.QueryRowContext(ctx, here.named("SELECT COUNT(*) FROM keycote_items")).Scan(&items))
	require.Len(t, seen, records+items)
	here.requireSound(t, db)
}

// asAHost is inTx for a transaction that the database may end for the sake of another one: that is the host's to try again.
func asAHost(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) (err error) {
	for range 10 {
		err = inTx(ctx, db, do)
		if err == nil || !strings.Contains(err.Error(), "Error 1213") && !strings.Contains(err.Error(), "40P01") {
			break
		}
	}
	return err
}

func inTx(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// A transaction of the host's that holds the head is waited for: what comes after it in the feed cannot be seen before
// it.
func TestFeedWaitsForAnOpenTransaction(t *testing.T) {
	onServers(t, "feed behind an open transaction", func(t *testing.T, e *engine) {
		ctx := t.Context()
		store, db, _ := e.fresh(t)
		_, start, err := store.Changes(ctx, "")
		require.NoError(t, err)
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		require.NoError(t, store.Tx(tx).Commit(ctx, keycote.Batch{ID: "early", Insert: []keycote.Record{record("t", "early")}}))

		late := make(chan error, 1)
		go func() {
			late <- store.Commit(ctx, keycote.Batch{ID: "late", Insert: []keycote.Record{record("t", "late")}})
		}()
		// Events and counts wait for nobody.
		require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "events", Events: everything("x").Events, Uses: everything("x").Uses}))
		changes, _, err := store.Changes(ctx, start)
		require.NoError(t, err)
		require.Empty(t, changes)
		_, present, err := store.Changes(ctx, "")
		require.NoError(t, err)
		require.Equal(t, start, present)
		select {
		case err := <-late:
			require.Fail(t, "the late one was committed first", "%v", err)
		default:
		}
		require.NoError(t, tx.Commit())
		require.NoError(t, <-late)
		changes, _, err = store.Changes(ctx, start)
		require.NoError(t, err)
		require.Len(t, changes, 2)
		require.Equal(t, []string{"early", "late"}, []string{changes[0].ID, changes[1].ID})
	})
}

// A host's transaction may stand on a moment of its own. What a Commit compares there is the present all the same, or
// it fails; it never goes by what was.
func TestCommitInASnapshot(t *testing.T) {
	onServers(t, "commit in a snapshot", func(t *testing.T, e *engine) {
		for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			t.Run(level.String(), func(t *testing.T) {
				ctx := t.Context()
				store, db, here := e.fresh(t)
				r := record("t", "k")
				require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "1", Insert: []keycote.Record{r}}))
				tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
				require.NoError(t, err)
				defer func() { _ = tx.Rollback() }()
				old, err := store.Tx(tx).Get(ctx, "t", "none") // fixes the moment
				require.ErrorIs(t, err, keycote.ErrNotFound)
				require.Zero(t, old)

				changed := r
				changed.Revision, changed.Digests, changed.Labels = 2, [][]byte{digest("new")}, map[string]string{"new": "label"}
				require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "2", Update: []keycote.Record{changed}}))

				view := store.Tx(tx)
				stale := r
				stale.Revision = 2
				err = view.Commit(ctx, keycote.Batch{ID: "3", Update: []keycote.Record{stale}})
				if keycote.CodeOf(err) == "" { // an outage: it fails to serialize
					require.Error(t, err)
					require.NotEqual(t, sql.LevelReadCommitted, level, "%v", err)
					return
				}
				require.ErrorIs(t, err, keycote.ErrConflict)
				next := r
				next.Revision, next.Digests, next.Labels = 3, nil, nil
				require.NoError(t, view.Commit(ctx, keycote.Batch{ID: "4", Update: []keycote.Record{next}}))
				require.NoError(t, tx.Commit())
				got, err := store.Get(ctx, "t", "k")
				require.NoError(t, err)
				require.Empty(t, got.Digests, "what the update of the moment before had put in")
				require.Empty(t, got.Labels)
				var left int
				require.NoError(t, db.QueryRowContext(ctx, here.named("SELECT COUNT(*) FROM keycote_digests")).Scan(&left))
				require.Zero(t, left)
			})
		}
	})
}
