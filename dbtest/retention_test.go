package dbtest

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// retained is a store whose rows a test adds to and ages, past the store.
type retained struct {
	*sqlstore.Store
	p  place
	db *sql.DB
}

// retaining opens one on tables of its own, which no other test gets: its feed loses its first entry.
func retaining(t *testing.T, e *engine, name string) *retained {
	db, p := e.bare(t, name)
	require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
	return &retained{p.store(t, db), p, db}
}

func (r *retained) exec(t *testing.T, statement string) {
	t.Helper()
	_, err := r.db.ExecContext(t.Context(), r.p.named(statement))
	require.NoError(t, err)
}

func (r *retained) row(t *testing.T, statement string, dest ...any) {
	t.Helper()
	require.NoError(t, r.db.QueryRowContext(t.Context(), r.p.named(statement)).Scan(dest...))
}

// changes adds n of them, as old as the last one.
func (r *retained) changes(t *testing.T, n int) {
	t.Helper()
	var head, at int64
	r.row(t, "SELECT h.n, f.at FROM keycote_head h JOIN keycote_feed f ON f.n = h.n", &head, &at)
	tx, err := r.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	exec := func(statement string) {
		_, err := tx.ExecContext(t.Context(), r.p.named(statement))
		require.NoError(t, err)
	}
	for last := head + int64(n); head < last; {
		var rows []string
		for ; head < last && len(rows) < 500; head++ { // SQLite's bound, before 3.8.8
			rows = append(rows, fmt.Sprintf("(%d, 'mark', %d, '', '', 's', 0)", head+1, at))
		}
		exec("INSERT INTO keycote_feed (n, mark, at, tenant, id, space, revision) VALUES " + strings.Join(rows, ", "))
	}
	exec(fmt.Sprintf("UPDATE keycote_head SET n = %d", head))
	require.NoError(t, tx.Commit())
}

// The feed keeps 10,000 changes of any age and all of the last ten minutes, by the database's clock, and lets go of the
// rest as new ones come in.
func TestFeedRetention(t *testing.T) {
	onEach(t, "what the feed keeps", onceEach, func(t *testing.T, e *engine) {
		r := retaining(t, e, "feed")
		ctx := t.Context()
		_, start, err := r.Changes(ctx, "")
		require.NoError(t, err)
		edge := func() (first, last int64) {
			r.row(t, "SELECT MIN(n), MAX(n) FROM keycote_feed", &first, &last)
			return first, last
		}
		revision := int64(0)
		commit := func() {
			revision++
			require.NoError(t, r.Commit(ctx, keycote.Batch{Items: []keycote.Item{
				{Space: "s", Name: "n", Revision: revision, Body: []byte("x")}}}))
		}
		grow := func(commits int) { // each behind 255 other changes, so that it sweeps
			for range commits {
				r.changes(t, 255)
				commit()
			}
		}
		const old = 59 * 256 // the commits of grow then end a stretch of the feed
		commit()
		r.changes(t, old-1)
		grow(3)
		_, _, err = r.Changes(ctx, start)
		require.NoError(t, err, "all of it is young")

		age := func(but int) { // nor the last one, which changes goes by
			_, last := edge()
			r.exec(t, fmt.Sprintf("UPDATE keycote_feed SET at = at - 601000000 WHERE n NOT IN (%d, %d)", but, last))
		}
		age(3000)
		grow(10)
		first, last := edge()
		require.EqualValues(t, old+13*256, last)
		require.EqualValues(t, 3000, first, "who stands on a young entry would miss the older ones behind it")
		_, _, err = r.Changes(ctx, start)
		require.ErrorIs(t, err, keycote.ErrNotFound)
		page, _, err := r.Changes(ctx, "3000.mark")
		require.NoError(t, err)
		require.Len(t, page, 1000)

		age(0)
		grow(30)
		first, last = edge()
		require.GreaterOrEqual(t, last-first, int64(10000))
		require.Less(t, last-first, int64(10000+600))
	})
}

// The ID of a Batch is known for a day at least, by the database's clock, and not for ever.
func TestBatchRetention(t *testing.T) {
	onEach(t, "what is known of batches", onceEach, func(t *testing.T, e *engine) {
		r := retaining(t, e, "batches")
		ctx := t.Context()
		known := func() (n int) {
			r.row(t, "SELECT COUNT(*) FROM keycote_batches", &n)
			return n
		}
		commit := func(n int, name string) {
			for i := range n {
				require.NoError(t, r.Commit(ctx, keycote.Batch{ID: fmt.Sprint(name, i)}))
			}
		}
		commit(1, "old ")
		var at int64
		r.row(t, "SELECT done_at FROM keycote_batches", &at)
		require.WithinDuration(t, time.Now(), time.UnixMicro(at), time.Hour, "microseconds since 1970, in UTC")
		for i := 1; i < 100; i++ { // as old as that one
			r.exec(t, fmt.Sprintf("INSERT INTO keycote_batches (id, done_at) SELECT 'old %d', done_at FROM keycote_batches WHERE id = 'old 0'", i))
		}
		age := func(seconds int) {
			r.exec(t, fmt.Sprintf("UPDATE keycote_batches SET done_at = done_at - %d", int64(seconds)*1_000_000))
		}
		age(24*3600 + 60)
		commit(20, "a day later ") // one of them sweeps
		require.Equal(t, 120, known())
		require.NoError(t, r.Commit(ctx, keycote.Batch{ID: "old 0", Delete: []keycote.RecordRef{{ID: "none"}}}), "it is known")
		age(2 * 3600)
		commit(32, "new ") // two sweeps of 64
		require.Equal(t, 20+32, known())
	})
}
