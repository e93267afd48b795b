package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// scaleEnv says how many keys TestScale makes.
const scaleEnv = "KEYCOTE_DBTEST_SCALE"

// Among many keys of many tenants every question has the answer that the generator knows, and a late page is one like
// the first. How long each took stands in the log; docs/scaling.md has it for a million:
//
//	KEYCOTE_DBTEST_SCALE=1000000 go test -run 'TestScale$' -parallel 1 -timeout 2h -v ./dbtest
func TestScale(t *testing.T) {
	onEach(t, "scale", onceEach, func(t *testing.T, e *engine) {
		keys := 3000
		if s := os.Getenv(scaleEnv); s != "" {
			n, err := strconv.Atoi(s)
			require.NoError(t, err)
			require.Zero(t, n%scaleTenants, "each tenant has as many")
			keys = n
		}
		store, db, here := e.fresh(t)
		w := &scaleWorld{keys: keys, store: store, db: db, here: here, kek: here.kek}
		t.Cleanup(w.empty(t))
		began := time.Now()
		w.tokens = fillScale(t, store, db, here, keys, 100_000)
		w.note("fill", "%.0f keys/s", float64(keys)/time.Since(began).Seconds())
		w.size(t)
		w.verify(t)
		w.pages(t)
		w.searches(t)
		w.disable(t)
		w.cached(t)
		t.Logf("%s, %d keys\n%s", e.name, keys, strings.Join(w.lines, "\n"))
	})
}

type scaleWorld struct {
	keys   int
	store  *sqlstore.Store
	db     *sql.DB
	here   place
	kek    string
	tokens map[int]string // by the key's number
	lines  []string
}

func (w *scaleWorld) note(what, format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf("| %s | %s |", what, fmt.Sprintf(format, args...)))
}

// empty is faster than to delete row by row, which comes after it.
func (w *scaleWorld) empty(t *testing.T) func() {
	return func() {
		if w.here.dialect == sqlstore.SQLite {
			return
		}
		for _, table := range tables {
			_, err := w.db.Exec(w.here.named("TRUNCATE TABLE keycote_" + table)) // the test's context has ended
			require.NoError(t, err)
		}
	}
}

func (w *scaleWorld) manager(t *testing.T, stale time.Duration) *keycote.Manager {
	t.Helper()
	kek, err := keycote.LocalKEK(w.kek)
	require.NoError(t, err)
	m, err := keycote.New(t.Context(), w.store, kek, &keycote.Options{
		Now: func() time.Time { return scaleNow }, MaxStale: stale,
	})
	require.NoError(t, err)
	return m
}

// times calls f n times and notes how long the median call took, and the 99th of a hundred.
func (w *scaleWorld) times(what string, n int, f func(i int)) (median time.Duration) {
	took := make([]time.Duration, n)
	for i := range n {
		began := time.Now()
		f(i)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	micro := func(d time.Duration) string { return d.Round(time.Microsecond).String() }
	w.note(what, "p50 %s, p99 %s", micro(took[n/2]), micro(took[n*99/100]))
	return took[n/2]
}

// size is what the tables and their indexes take.
func (w *scaleWorld) size(t *testing.T) {
	var n int64
	question := "SELECT SUM(pg_total_relation_size(c.oid)) FROM pg_class c " +
		"WHERE c.relkind = 'r' AND starts_with(c.relname, 'keycote_')"
	switch {
	case w.here.dialect == sqlstore.SQLite:
		question = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	case strings.HasPrefix(string(w.here.dialect), string(sqlstore.MySQL)):
		question = "SELECT SUM(data_length + index_length) FROM information_schema.tables " +
			"WHERE table_schema = DATABASE() AND LEFT(table_name, LENGTH('keycote_')) = 'keycote_'"
	}
	require.NoError(t, w.db.QueryRowContext(t.Context(), w.here.named(question)).Scan(&n))
	w.note("size", "%d MB, %d bytes a key", n>>20, n/int64(w.keys))
	require.Greater(t, n, int64(w.keys)*300)
}

// verify presents keys from all over the store, each once.
func (w *scaleWorld) verify(t *testing.T) {
	m := w.manager(t, 0)
	numbers := sortedKeys(w.tokens)
	w.times("Verify, not cached", 1000, func(i int) {
		k := scaleKeyOf(numbers[i*len(numbers)/1000], w.keys)
		grant, err := m.Verify(t.Context(), w.tokens[k.i], keycote.Request{Scopes: []string{"orders:read"}})
		require.NoError(t, err)
		require.Equal(t, k.tenant(), grant.Tenant)
	})
	digests := make([][]byte, 1000)
	first := "SELECT digest FROM keycote_digests ORDER BY digest LIMIT 1000"
	rows, err := w.db.QueryContext(t.Context(), w.here.named(first))
	require.NoError(t, err)
	for i := 0; rows.Next(); i++ {
		require.NoError(t, rows.Scan(&digests[i]))
	}
	require.NoError(t, rows.Err())
	w.times("Lookup", len(digests), func(i int) {
		_, err := w.store.Lookup(t.Context(), digests[i*7919%1000:][:1])
		require.NoError(t, err)
	})
}

func sortedKeys(m map[int]string) []int {
	numbers := make([]int, 0, len(m))
	for i := range m {
		numbers = append(numbers, i)
	}
	slices.Sort(numbers)
	return numbers
}

// pages reads the first page of all keys, and the one that ends with the last key.
func (w *scaleWorld) pages(t *testing.T) {
	ctx := t.Context()
	page := func(q keycote.Query, want int) []keycote.Record {
		q.AllTenants, q.Now, q.Limit = true, scaleNow, 50
		rows, err := w.store.List(ctx, q)
		require.NoError(t, err)
		require.Len(t, rows, want)
		return rows
	}
	back := page(keycote.Query{Filter: keycote.Filter{Newest: true}}, 50) // the last fifty, in reverse
	last := keycote.Query{AfterTenant: back[49].Tenant, After: back[49].ID}
	var first, late []time.Duration // in turn, so that the machine's moods hit both
	for range 201 {
		began := time.Now()
		page(keycote.Query{}, 50)
		first = append(first, time.Since(began))
		began = time.Now()
		rows := page(last, 49)
		late = append(late, time.Since(began))
		require.Equal(t, back[0].ID, rows[48].ID)
	}
	slices.Sort(first)
	slices.Sort(late)
	w.note("page of 50 at 0", "p50 %s", first[100].Round(time.Microsecond))
	w.note(fmt.Sprintf("page of 50 at %d", w.keys-50), "p50 %s, %.2f x", late[100].Round(time.Microsecond),
		float64(late[100])/float64(first[100]))
	require.Less(t, late[0], 4*first[0]+5*time.Millisecond, "a late page costs what the first does")
}

// searches asks for what a person looks for, in one tenant, and holds the whole answer against the generator.
func (w *scaleWorld) searches(t *testing.T) {
	m := w.manager(t, 0)
	old := scaleNow.Add(-90 * 24 * time.Hour)
	soon := scaleNow.Add(30 * 24 * time.Hour)
	for _, s := range []struct {
		name   string
		filter keycote.Filter
		want   func(k scaleKey) bool
	}{
		{"by name", keycote.Filter{Name: "deploy key 1"}, func(k scaleKey) bool { return k.n == 1 }},
		{"by part of a name", keycote.Filter{Search: "KEY 2"}, func(k scaleKey) bool {
			return strings.Contains(k.name(), "key 2")
		}},
		{"by label", keycote.Filter{Labels: map[string]string{"team": "team-2"}}, func(k scaleKey) bool {
			return k.n%5 == 2
		}},
		{"by app", keycote.Filter{App: "app-1"}, func(k scaleKey) bool { return k.n%4 == 1 }},
		{"expires within 30 days", keycote.Filter{ExpiresBefore: soon}, func(k scaleKey) bool {
			return !k.expiresAt().IsZero() && k.expiresAt().Before(soon)
		}},
		{"not used for 90 days", keycote.Filter{UnusedSince: old}, func(k scaleKey) bool {
			return k.touchedAt().Before(old)
		}},
		{"never used", keycote.Filter{NeverUsed: true}, func(k scaleKey) bool { return k.usedAt().IsZero() }},
		{"older than 90 days", keycote.Filter{RotatedBefore: old}, func(k scaleKey) bool { return k.made.Before(old) }},
		{"label and expiry, none", keycote.Filter{Labels: map[string]string{"team": "team-2"}, ExpiresBefore: scaleNow},
			func(scaleKey) bool { return false }},
	} {
		for _, tenant := range []int{0, 500, scaleTenants - 1} {
			var want, got []string
			view := m.Tenant(scaleKey{i: tenant}.tenant())
			for i := tenant; i < w.keys; i += scaleTenants {
				if k := scaleKeyOf(i, w.keys); s.want(k) {
					want = append(want, k.name())
				}
			}
			for key, err := range view.List(t.Context(), s.filter) {
				require.NoError(t, err)
				got = append(got, key.Name)
			}
			require.Equal(t, want, got, "%s in tenant %d", s.name, tenant)
		}
		w.times(s.name+", a page of 50", 200, func(i int) {
			_, err := m.Tenant(scaleKey{i: i * 5}.tenant()).Page(t.Context(), s.filter, "", 50)
			require.NoError(t, err)
		})
	}
	w.times("expires within 30 days, all tenants, a page of 50", 20, func(int) {
		w.listed(t, keycote.Filter{ExpiresBefore: soon})
	})
	w.times("has expired, all tenants, none: every key is read", 1, func(int) {
		require.Empty(t, w.listed(t, keycote.Filter{ExpiresBefore: scaleNow}))
	})
}

func (w *scaleWorld) listed(t *testing.T, f keycote.Filter) []keycote.Record {
	rows, err := w.store.List(t.Context(), keycote.Query{AllTenants: true, Now: scaleNow, Filter: f, Limit: 50})
	require.NoError(t, err)
	return rows
}

// disable refuses by a filter in one tenant, and nobody beside it.
func (w *scaleWorld) disable(t *testing.T) {
	m := w.manager(t, 0)
	view := m.Tenant(scaleKey{i: 1}.tenant())
	want := 0
	for i := 1; i < w.keys; i += scaleTenants {
		if scaleKeyOf(i, w.keys).n%4 == 1 {
			want++
		}
	}
	began := time.Now()
	n, err := view.DisableAll(t.Context(), keycote.Filter{App: "app-1"}, "the app is gone")
	took := time.Since(began)
	require.NoError(t, err)
	require.Equal(t, want, n)
	w.note("DisableAll", "%d keys, %.0f keys/s", n, float64(n)/took.Seconds())
	require.Equal(t, want, w.count(t, "tenant = '"+scaleKey{i: 1}.tenant()+"' AND app = 'app-1' AND state = 'disabled'"))
	require.Equal(t, want, w.count(t, "state <> 'active'"))
	require.Equal(t, w.keys, w.count(t, "1 = 1"))
	w.times("Issue, one after the other", 100, func(i int) {
		_, _, err := view.Issue(t.Context(), keycote.IssueParams{Name: fmt.Sprint("one more ", i)})
		require.NoError(t, err)
	})
}

func (w *scaleWorld) count(t *testing.T, where string) (n int) {
	require.NoError(t, w.db.QueryRowContext(t.Context(),
		w.here.named("SELECT COUNT(*) FROM keycote_records WHERE "+where)).Scan(&n))
	return n
}

// cached fills the cache, as far as there are keys for it.
func (w *scaleWorld) cached(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	m := w.manager(t, time.Hour)
	numbers := sortedKeys(w.tokens)
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	call := func(i int) error {
		_, err := m.Verify(ctx, w.tokens[i], keycote.Request{Scopes: []string{"orders:read"}})
		return err
	}
	before := heap()
	disabled := 0
	for _, i := range numbers {
		if err := call(i); err != nil {
			require.ErrorIs(t, err, keycote.ErrDisabled)
			disabled++
		}
	}
	require.Less(t, disabled, len(numbers)/scaleTenants+2)
	grown := heap() - before
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	w.note("full cache", "%d entries, %d bytes each; the process has %d MB from the system", len(numbers),
		grown/int64(len(numbers)), s.Sys>>20)
	w.times("Verify, cached", 1000, func(i int) {
		_ = call(numbers[i*len(numbers)/1000])
	})
	runtime.KeepAlive(m)
}
