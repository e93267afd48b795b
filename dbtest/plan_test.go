package dbtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// Every statement that is asked often reaches its rows by an index and in their order: neither a scan of a table nor a
// sort, on an empty store as on one with statistics.
func TestQueryPlans(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	openStore(t, path)
	db, w := openWatched(t, path)
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	ctx := t.Context()
	require.NoError(t, store.Commit(ctx, keycote.Batch{Insert: []keycote.Record{record("t", "k")}}))
	_, position, err := store.Changes(ctx, "")
	require.NoError(t, err)

	tests := hotReads(store, position)
	raw := openFile(t, path)
	for _, state := range []string{"fresh", "analyzed"} {
		if state == "analyzed" {
			fill(t, store)
			_, err := raw.ExecContext(ctx, "ANALYZE")
			require.NoError(t, err)
		}
		for _, test := range tests {
			w.take()
			require.NoError(t, test.call(ctx), test.name)
			seen := w.take()
			require.Len(t, seen, 1, "%s is one statement", test.name)
			plan := explain(t, raw, seen[0])
			for _, step := range plan {
				if step == "SCAN h" { // the head of the feed is one row
					continue
				}
				if test.walk && strings.HasPrefix(step, "SCAN ") && strings.Contains(step, " USING ") {
					continue
				}
				require.NotContains(t, step, "SCAN ", "%s, %s: %s", state, test.name, strings.Join(plan, "\n"))
				require.NotContains(t, step, "TEMP B-TREE", "%s, %s: %s", state, test.name, strings.Join(plan, "\n"))
			}
		}
	}
}

// hotRead is one statement that is asked often.
type hotRead struct {
	name string
	call func(context.Context) error
	walk bool // an index is walked in its order, from its start
}

func hotReads(store *sqlstore.Store, position string) []hotRead {
	listed := func(q keycote.Query) func(context.Context) error {
		return func(ctx context.Context) error { _, err := store.List(ctx, q); return err }
	}
	items := func(q keycote.ItemQuery) func(context.Context) error {
		return func(ctx context.Context) error { _, err := store.Items(ctx, q); return err }
	}
	events := func(q keycote.EventQuery) func(context.Context) error {
		return func(ctx context.Context) error { _, err := store.Events(ctx, q); return err }
	}
	usage := func(q keycote.UsageQuery) func(context.Context) error {
		return func(ctx context.Context) error { _, err := store.Usage(ctx, q); return err }
	}
	looked := func(n int) func(context.Context) error {
		return func(ctx context.Context) error {
			digests := make([][]byte, n)
			for i := range digests {
				digests[i] = digest("t/k" + strings.Repeat("x", i))
			}
			_, err := store.Lookup(ctx, digests)
			return err
		}
	}
	return []hotRead{
		{"get", func(ctx context.Context) error { _, err := store.Get(ctx, "t", "k"); return err }, false},
		{"lookup of one", looked(1), false},
		{"lookup of two", looked(2), false},
		{"lookup of eight", looked(8), false},
		{"lookup of nine", looked(9), false},
		{"list", listed(keycote.Query{Tenant: "t", Limit: 50}), false},
		{"list on", listed(keycote.Query{Tenant: "t", After: "k"}), false},
		{"list newest", listed(keycote.Query{Tenant: "t", After: "k", Filter: keycote.Filter{Newest: true}}), false},
		{"list by name", listed(keycote.Query{Tenant: "t", Filter: keycote.Filter{Name: "n"}}), false},
		{"list by kind and name", listed(keycote.Query{Tenant: "t", Filter: keycote.Filter{Name: "n", Kind: keycote.KindAccess}}), false},
		{"list by name, all tenants", listed(keycote.Query{AllTenants: true, Filter: keycote.Filter{Name: "n"}}), false},
		{"list by app", listed(keycote.Query{Tenant: "t", After: "a", Filter: keycote.Filter{App: "a"}}), false},
		{"list by owner", listed(keycote.Query{Tenant: "t", After: "a", Filter: keycote.Filter{Owner: "a"}}), false},
		{"list by label", listed(keycote.Query{Tenant: "t", After: "a", Filter: keycote.Filter{Labels: map[string]string{"a": "b", "c": "d"}}}), false},
		{"list by label, all tenants", listed(keycote.Query{AllTenants: true, After: "a", Filter: keycote.Filter{Labels: map[string]string{"a": "b"}}}), false},
		{"list by state", listed(keycote.Query{Tenant: "t", Now: epoch, Filter: keycote.Filter{State: keycote.StateActive, UnusedSince: epoch}}), false},
		{"list by use", listed(keycote.Query{Tenant: "t", After: "a", Filter: keycote.Filter{NeverUsed: true}}), false},
		{"list all", listed(keycote.Query{AllTenants: true}), true},
		{"list all on", listed(keycote.Query{AllTenants: true, AfterTenant: "t", After: "k"}), false},
		{"list all newest", listed(keycote.Query{AllTenants: true, AfterTenant: "t", After: "k", Filter: keycote.Filter{Newest: true}}), false},
		{"item", items(keycote.ItemQuery{Space: "keyring", Name: "index"}), false},
		{"items of a space", items(keycote.ItemQuery{Space: "keyring", Tenant: "t", After: "a"}), false},
		{"items of all tenants", items(keycote.ItemQuery{Space: "keyring", AllTenants: true, AfterTenant: "t", After: "a"}), false},
		{"items by name", items(keycote.ItemQuery{Space: "keyring", AllTenants: true, Name: "data"}), false},
		{"items of all spaces", items(keycote.ItemQuery{AllTenants: true, Limit: 1}), true},
		{"events", events(keycote.EventQuery{Tenant: "t", Filter: keycote.EventFilter{After: "e"}}), false},
		{"events of a key", events(keycote.EventQuery{Tenant: "t", Filter: keycote.EventFilter{KeyID: "k", After: "e", Newest: true}}), false},
		{"events of an actor", events(keycote.EventQuery{Tenant: "t", Filter: keycote.EventFilter{Actor: "k"}}), false},
		{"events of all tenants", events(keycote.EventQuery{AllTenants: true, Filter: keycote.EventFilter{After: "e"}}), false},
		{"usage", usage(keycote.UsageQuery{Tenant: "t", Since: epoch, After: keycote.UseCount{Tenant: "t", Window: epoch}}), false},
		{"usage of a key", usage(keycote.UsageQuery{Tenant: "t", KeyID: "k", Since: epoch, After: keycote.UseCount{Tenant: "t", Window: epoch, KeyID: "k"}}), false},
		{"changes", func(ctx context.Context) error { _, _, err := store.Changes(ctx, position); return err }, false},
		{"present position", func(ctx context.Context) error { _, _, err := store.Changes(ctx, ""); return err }, false},
	}
}

// A write of any kind searches, too.
func TestWritePlans(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	first, _ := openStore(t, path)
	fill(t, first)
	db, w := openWatched(t, path)
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	ctx := t.Context()
	w.take()
	require.NoError(t, store.Commit(ctx, everything("plan")))
	update := record("t", "new of plan")
	update.Revision, update.Name, update.Labels, update.Digests = 2, "", nil, nil
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "2", Update: []keycote.Record{update}, Insert: []keycote.Record{record("t", "k")}}))
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "3", Delete: []keycote.RecordRef{{Tenant: "t", ID: "k", Revision: 1}},
		Prune: []keycote.Prune{{Tenant: "t", EventsBefore: epoch.Add(-time.Hour), UsesBefore: epoch.Add(-time.Hour), Limit: 10},
			{AllTenants: true, EventsBefore: epoch.Add(-time.Hour), UsesBefore: epoch.Add(-time.Hour), Limit: 10}}}))
	raw := openFile(t, path)
	n := 0
	for _, s := range w.take() {
		if s.text == "BEGIN IMMEDIATE" || s.text == "COMMIT" || strings.HasPrefix(s.text, "PRAGMA ") {
			continue
		}
		n++
		plan := explain(t, raw, s)
		for _, step := range plan {
			if strings.HasSuffix(step, "-ROW VALUES CLAUSE") || strings.HasPrefix(step, "USE TEMP B-TREE FOR LAST ") {
				continue // rows that are to be inserted, and the few that are to be removed
			}
			require.NotContains(t, step, "SCAN ", "%s\n%s", s.text, strings.Join(plan, "\n"))
			require.NotContains(t, step, "TEMP B-TREE", "%s\n%s", s.text, strings.Join(plan, "\n"))
		}
	}
	require.Greater(t, n, 30)
}
