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
	"github.com/keycote/keycote/sqlstore"
)

const (
	scaleTenants = 1000
	scaleYear    = 360 * 24 * time.Hour // over which the keys were made, evenly
	scaleBatch   = 1000                 // keys of a transaction
	scaleRows    = 100                  // of a statement: modernc's SQLite looks for each parameter among all others
)

// scaleNow is when the last key has been made, and all questions are asked.
var scaleNow = epoch.Add(scaleYear)

// scaleKey is what the generator decides of its key number i. Each tenant has every thousandth key; n says which of the
// tenant's it is, and each attribute goes by another divisor of it.
type scaleKey struct {
	i, n int
	made time.Time
}

func scaleKeyOf(i, keys int) scaleKey {
	step := scaleYear / time.Duration(keys)
	return scaleKey{i: i, n: i / scaleTenants, made: epoch.Add(time.Duration(i+1) * step).Truncate(time.Microsecond)}
}

func (k scaleKey) tenant() string { return fmt.Sprintf("tenant-%04d", k.i%scaleTenants) }
func (k scaleKey) name() string   { return fmt.Sprintf("deploy key %d", k.n) }
func (k scaleKey) team() string   { return fmt.Sprintf("team-%d", k.n%5) }
func (k scaleKey) app() string    { return fmt.Sprintf("app-%d", k.n%4) }

// expiresAt is zero for half of the keys; the others go on for 1 to 89 days.
func (k scaleKey) expiresAt() time.Time {
	if k.n%2 == 0 {
		return time.Time{}
	}
	return scaleNow.Add(time.Duration(1+k.n*8%89) * 24 * time.Hour)
}

// usedAt is zero for a third of the keys; the others were used once, half-way between their making and now.
func (k scaleKey) usedAt() time.Time {
	if k.n%3 == 0 {
		return time.Time{}
	}
	return k.made.Add(scaleNow.Sub(k.made) / 2).Truncate(time.Microsecond)
}

func (k scaleKey) touchedAt() time.Time {
	if used := k.usedAt(); !used.IsZero() {
		return used
	}
	return k.made
}

// filler is a Store for a Manager that issues a great many keys: the records and events are what the Manager has made
// and sealed, but they are written a thousand at a time, by one statement for each table, and make no changes in the
// feed. Nobody else may use the store meanwhile. It is not safe for concurrent use.
type filler struct {
	*sqlstore.Store
	db    *sql.DB
	here  place
	items map[keycote.ItemQuery][]keycote.Item // a year passes, and the keyrings would be read each minute of it
	rows  map[string][][]any
	n     int
}

// Items answers what the store did at first.
func (f *filler) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	if found, ok := f.items[q]; ok {
		return found, nil
	}
	found, err := f.Store.Items(ctx, q)
	if err == nil {
		f.items[q] = found
	}
	return found, err
}

var scaleColumns = map[string]string{
	"records": "tenant, id, kind, name, app, owner, state, search, " +
		"created_at, expires_at, rotated_at, revision, body, seal",
	"digests": "digest, tenant, id, place",
	"labels":  "tenant, id, label, value",
	"totals":  "tenant, id, version, n, first_at, last_at",
	"events":  "id, tenant, key_id, actor, action, outcome, at, body, seal, personal",
}

func (f *filler) add(table string, row ...any) { f.rows[table] = append(f.rows[table], row) }

// Commit keeps what b inserts for later.
func (f *filler) Commit(ctx context.Context, b keycote.Batch) error {
	if len(b.Update)+len(b.Delete)+len(b.Items)+len(b.Redact)+len(b.Uses)+len(b.Prune) > 0 {
		return fmt.Errorf("dbtest: a batch that does more than to insert")
	}
	for _, r := range b.Insert {
		var expires any
		if !r.ExpiresAt.IsZero() {
			expires = r.ExpiresAt.UnixMicro()
		}
		f.add("records", r.Tenant, r.ID, string(r.Kind), r.Name, r.App, r.Owner, string(r.State), r.Search,
			r.CreatedAt.UnixMicro(), expires, r.RotatedAt.UnixMicro(), r.Revision, r.Body, r.Seal)
		for place, digest := range r.Digests {
			f.add("digests", digest, r.Tenant, r.ID, place)
		}
		for label, value := range r.Labels {
			f.add("labels", r.Tenant, r.ID, label, value)
		}
	}
	for _, e := range b.Events {
		f.add("events", e.ID, e.Tenant, e.KeyID, e.Actor, string(e.Action), string(e.Outcome), e.At.UnixMicro(),
			e.Body, e.Seal, e.Personal)
	}
	if f.n += len(b.Insert); f.n%scaleBatch == 0 {
		return f.flush(ctx)
	}
	return nil
}

func (f *filler) flush(ctx context.Context) error {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for table, rows := range f.rows {
		for len(rows) > 0 {
			part := rows[:min(len(rows), scaleRows)]
			rows = rows[len(part):]
			var b strings.Builder
			b.WriteString("INSERT INTO keycote_" + table + " (" + scaleColumns[table] + ") VALUES ")
			var args []any
			for i, row := range part {
				b.WriteString([]string{"(", ", ("}[min(i, 1)])
				for j, v := range row {
					b.WriteString([]string{"", ", "}[min(j, 1)])
					args = append(args, v)
					if strings.HasPrefix(string(f.here.dialect), string(sqlstore.Postgres)) {
						fmt.Fprintf(&b, "$%d", len(args))
					} else {
						b.WriteByte('?')
					}
				}
				b.WriteByte(')')
			}
			if _, err := tx.ExecContext(ctx, f.here.named(b.String()), args...); err != nil {
				return err
			}
		}
	}
	clear(f.rows)
	return tx.Commit()
}

// fillScale makes keys, and returns the values of at most keep of them, in the order of their numbers: of key 0, of key
// keys/keep, and so on.
func fillScale(t *testing.T, store *sqlstore.Store, db *sql.DB, here place, keys, keep int) (tokens map[int]string) {
	ctx := t.Context()
	kek, err := keycote.LocalKEK(here.kek)
	require.NoError(t, err)
	_, err = keycote.New(ctx, store, kek, &keycote.Options{Now: func() time.Time { return epoch }}) // makes the keyrings
	require.NoError(t, err)
	f := &filler{Store: store, db: db, here: here}
	f.items, f.rows = map[keycote.ItemQuery][]keycote.Item{}, map[string][][]any{}
	now := epoch
	m, err := keycote.New(ctx, f, kek, &keycote.Options{Now: func() time.Time { return now }})
	require.NoError(t, err)
	tokens = map[int]string{}
	for i := range keys {
		k := scaleKeyOf(i, keys)
		now = k.made
		key, secret, err := m.Tenant(k.tenant()).Issue(ctx, keycote.IssueParams{
			Name: k.name(), App: k.app(), Owner: "platform", Scopes: []string{"orders:read", "orders:write"},
			ExpiresAt: k.expiresAt(), Labels: map[string]string{"team": k.team()},
		})
		require.NoError(t, err)
		if i%max(keys/keep, 1) == 0 {
			tokens[i] = secret.Reveal()
		}
		if used := k.usedAt(); !used.IsZero() {
			f.add("totals", key.Tenant, key.ID, 1, 1, used.UnixMicro(), used.UnixMicro())
		}
	}
	require.NoError(t, f.flush(ctx))
	analyze := "ANALYZE keycote_%s"
	if strings.HasPrefix(string(here.dialect), string(sqlstore.MySQL)) {
		analyze = "ANALYZE TABLE keycote_%s"
	}
	for table := range scaleColumns {
		_, err := db.ExecContext(ctx, here.named(fmt.Sprintf(analyze, table)))
		require.NoError(t, err)
	}
	return tokens
}
