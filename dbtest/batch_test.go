package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// everything is a Batch that writes to every table, all of it named after id.
func everything(id string) keycote.Batch {
	r := record("t", "new of "+id)
	return keycote.Batch{
		ID:     id,
		Insert: []keycote.Record{r},
		Items:  []keycote.Item{{Tenant: "t", Space: "s", Name: id, Revision: 1, Body: []byte("item of " + id)}},
		Events: []keycote.EventRecord{{Tenant: "t", ID: "event of " + id, KeyID: r.ID, Actor: "actor", Action: keycote.ActionIssue,
			At: epoch, Body: []byte("event"), Seal: []byte("seal"), Personal: []byte("personal")}},
		Uses: []keycote.UseCount{{Tenant: "t", KeyID: r.ID, Version: 1, Window: epoch, N: 1, First: epoch, Last: epoch}},
	}
}

// parts counts what is there of everything(id), of the feed as well: 0 is nothing, whole is all of it.
func (p place) parts(ctx context.Context, db *sql.DB, id string) (int, error) {
	statement := "SELECT (SELECT COUNT(*) FROM keycote_records WHERE tenant = 't' AND id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_digests WHERE tenant = 't' AND id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_labels WHERE tenant = 't' AND id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_totals WHERE tenant = 't' AND id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_uses WHERE tenant = 't' AND key_id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_events WHERE tenant = 't' AND key_id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_feed WHERE tenant = 't' AND id = 'new of ID')" +
		" + (SELECT COUNT(*) FROM keycote_items WHERE tenant = 't' AND name = 'ID')" +
		" + (SELECT COUNT(*) FROM keycote_batches WHERE id = 'ID')"
	var n int
	err := db.QueryRowContext(ctx, strings.ReplaceAll(p.named(statement), "ID", id)).Scan(&n)
	return n, err
}

const whole = 9

// fill gives the store enough rows for statistics to mean something.
func fill(t testing.TB, store keycote.Store) {
	t.Helper()
	for tenant := range 3 {
		b := keycote.Batch{ID: fmt.Sprintf("fill %d", tenant)}
		for i := range 40 {
			r := record(fmt.Sprintf("tenant %d", tenant), fmt.Sprintf("key %03d", i))
			r.App, r.Owner = fmt.Sprintf("app %d", i%7), fmt.Sprintf("owner %d", i%3)
			b.Insert = append(b.Insert, r)
			b.Items = append(b.Items, keycote.Item{Tenant: r.Tenant, Space: fmt.Sprintf("space %d", i%2), Name: r.ID, Revision: 1, Body: r.Body})
			b.Events = append(b.Events, keycote.EventRecord{Tenant: r.Tenant, ID: fmt.Sprintf("evt %d %03d", tenant, i), KeyID: r.ID,
				Actor: r.Owner, Action: keycote.ActionIssue, At: epoch.Add(time.Duration(i) * time.Second), Body: r.Body})
			b.Uses = append(b.Uses, keycote.UseCount{Tenant: r.Tenant, KeyID: r.ID, Version: 1, Window: epoch.Add(time.Duration(i%5) * time.Minute),
				N: 1, First: epoch, Last: epoch})
		}
		require.NoError(t, store.Commit(t.Context(), b))
	}
}

func explain(t testing.TB, db *sql.DB, s statement) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+s.text, s.args...)
	require.NoError(t, err, s.text)
	defer func() { _ = rows.Close() }()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		plan = append(plan, detail)
	}
	require.NoError(t, rows.Err())
	return plan
}
