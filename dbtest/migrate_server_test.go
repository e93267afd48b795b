package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// bare is a place without tables, which are dropped at the end if they are there then.
func (e *engine) bare(t *testing.T, name string) (*sql.DB, place) {
	t.Helper()
	if e.server == nil {
		p := place{e.driver, e.dsn(newFile(t)), e.dialect.WithPrefix(name + "_"), newKEK(t)}
		return p.open(t), p
	}
	p := place{e.driver, e.dsn(e.server.database), e.dialect.WithPrefix(fmt.Sprintf("%s%d_", name, len(e.name))), newKEK(t)}
	return e.pool(t), p
}

// Several processes migrate at once, from nothing, while one of them has begun to work with the store already.
func TestMigrateAtOnce(t *testing.T) {
	eachEngine(t, "migrations", func(t *testing.T, e *engine) {
		_, p := e.bare(t, "at_once")
		const n = 5
		errs := make(chan error, n)
		for range n {
			db := p.open(t)
			go func() {
				err := sqlstore.Migrate(t.Context(), db, p.dialect)
				var store *sqlstore.Store
				if err == nil {
					store, err = sqlstore.New(t.Context(), db, p.dialect)
				}
				if err == nil {
					err = errors.Join(store.Commit(t.Context(), keycote.Batch{Uses: everything("x").Uses}), store.Close())
				}
				errs <- err
			}()
		}
		for range n {
			require.NoError(t, <-errs)
		}
		store := p.store(t, p.open(t))
		uses, err := store.Usage(t.Context(), keycote.UsageQuery{AllTenants: true})
		require.NoError(t, err)
		require.Len(t, uses, 1)
		require.EqualValues(t, n, uses[0].N)
	})
}

// A process that knows version 1 goes on with a later schema that says so, and with no other.
func TestNewerSchema(t *testing.T) {
	eachEngine(t, "newer schemas", func(t *testing.T, e *engine) {
		db, p := e.bare(t, "newer")
		ctx := t.Context()
		require.NoError(t, sqlstore.Migrate(ctx, db, p.dialect))
		tests := []struct {
			name, later string
			sound       bool
		}{
			{"compatible", "(2, 1)", true},
			{"incompatible", "(2, 2)", false},
			{"silent", "(2, NULL)", false},
			{"compatible with what came before only", "(2, 1), (3, 2)", false},
		}
		for _, test := range tests {
			_, err := db.ExecContext(ctx, p.named("INSERT INTO keycote_schema (version, oldest) VALUES "+test.later))
			require.NoError(t, err)
			store, err := sqlstore.New(ctx, db, p.dialect)
			again := sqlstore.Migrate(ctx, db, p.dialect)
			if test.sound {
				require.NoError(t, err, test.name)
				require.NoError(t, store.Close())
				require.NoError(t, again, test.name)
			} else {
				require.ErrorContains(t, err, "migrated by a newer Keycote", test.name)
				require.ErrorContains(t, again, "migrated by a newer Keycote", test.name)
			}
			_, err = db.ExecContext(ctx, p.named("DELETE FROM keycote_schema WHERE version > 1"))
			require.NoError(t, err)
		}
		_, err := sqlstore.New(ctx, db, e.dialect.WithPrefix("nothing_"))
		require.ErrorContains(t, err, "call sqlstore.Migrate")
	})
}

// What Schema returns makes the store that Migrate makes: by another tool, statement by statement.
func TestSchema(t *testing.T) {
	eachEngine(t, "schema by another tool", func(t *testing.T, e *engine) {
		db, p := e.bare(t, "schema")
		scripts, err := sqlstore.Schema(p.dialect)
		require.NoError(t, err)
		require.Len(t, scripts, 1)
		for _, script := range scripts {
			require.NotContains(t, script, "keycote_")
			for statement := range strings.SplitSeq(strings.TrimSuffix(script, ";\n"), ";\n") {
				_, err := db.ExecContext(t.Context(), statement)
				require.NoError(t, err, statement)
			}
		}
		store := p.store(t, db)
		require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect), "there is nothing left to do")
		require.NoError(t, store.Commit(t.Context(), everything("one")))
		p.requireParts(t, db, "one", whole)
	})
}

// An interrupted migration is begun again, whatever it left.
func TestMigrateInterrupted(t *testing.T) {
	onEach(t, "interrupted migrations", mainServers, func(t *testing.T, e *engine) {
		_, p := e.bare(t, "interrupted")
		db, w := p.openWatched(t)
		for at := 3; ; at += 4 {
			ctx, cancel := context.WithCancel(t.Context())
			count, hit := 0, false
			w.intercept(func(string) error {
				if count++; count == at {
					hit = true
					return errBroken
				}
				return nil
			})
			err := sqlstore.Migrate(ctx, db, p.dialect)
			w.intercept(nil)
			cancel()
			if !hit {
				require.NoError(t, err)
				break
			}
			require.ErrorIs(t, err, errBroken)
			_, err = sqlstore.New(t.Context(), db, p.dialect)
			require.Error(t, err, "after %d statements", at)
		}
		store := p.store(t, db)
		require.NoError(t, store.Commit(t.Context(), everything("one")))
		p.requireParts(t, db, "one", whole)
		p.requireSound(t, db)
	})
}

// Two stores in one database know nothing of each other.
func TestPrefixes(t *testing.T) {
	eachEngine(t, "prefixes", func(t *testing.T, e *engine) {
		db, a := e.bare(t, "left")
		b := place{a.driver, a.dsn, a.dialect.WithPrefix("right_" + strings.TrimPrefix(string(a.dialect), string(e.dialect)+":")), ""}
		for _, p := range []place{a, b} {
			require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
		}
		left, right := a.store(t, db), b.store(t, db)
		require.NoError(t, left.Commit(t.Context(), everything("one")))
		_, err := right.Get(t.Context(), "t", "new of one")
		require.ErrorIs(t, err, keycote.ErrNotFound)
		_, at, err := left.Changes(t.Context(), "")
		require.NoError(t, err)
		_, _, err = right.Changes(t.Context(), at)
		require.ErrorIs(t, err, keycote.ErrNotFound)
		require.NoError(t, right.Commit(t.Context(), everything("one")))
		a.requireParts(t, db, "one", whole)
		b.requireParts(t, db, "one", whole)
	})
}

// A person who looks with psql or mysql sees names, times and labels, and an expired key as one.
func TestViewsForPeople(t *testing.T) {
	onServers(t, "views for people", func(t *testing.T, e *engine) {
		store, db, p := e.fresh(t)
		r := record("t", "k")
		r.Name, r.Labels = "Ключ “1”", map[string]string{"team": "é"}
		r.ExpiresAt = epoch.AddDate(-1, 0, 0)
		b := everything("one")
		b.Insert, b.Uses = append(b.Insert, r), append(b.Uses, keycote.UseCount{Tenant: "t", KeyID: "k", Version: 1, Window: epoch, N: 7,
			First: epoch, Last: epoch})
		require.NoError(t, store.Commit(t.Context(), b))
		var name, state, labels, created, expires, used, uses string
		cast := "CAST(%s AS CHAR(60))"
		if e.dialect == sqlstore.Postgres {
			cast = "CAST(%s AS text)"
		}
		columns := []string{"name", "state"}
		for _, c := range []string{"labels", "created_at", "expires_at", "used_at", "uses"} {
			columns = append(columns, fmt.Sprintf(cast, c))
		}
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback() }()
		if e.dialect == sqlstore.Postgres {
			_, err := tx.ExecContext(t.Context(), "SET LOCAL TimeZone = 'UTC'")
			require.NoError(t, err)
		}
		require.NoError(t, tx.QueryRowContext(t.Context(), p.named("SELECT "+strings.Join(columns, ", ")+
			" FROM keycote_show_keys WHERE id = 'k'")).Scan(&name, &state, &labels, &created, &expires, &used, &uses))
		require.Equal(t, []string{r.Name, "expired", "7"}, []string{name, state, uses})
		require.JSONEq(t, `{"team": "é"}`, labels)
		require.Contains(t, created, "2026-03-01 12:00:00.123456")
		require.Contains(t, expires, "2025-03-01 12:00:00.123456")
		require.Contains(t, used, "2026-03-01 12:00:00.123456")
		var action, actor, at string
		require.NoError(t, tx.QueryRowContext(t.Context(), p.named("SELECT action, actor, "+fmt.Sprintf(cast, "at")+
			" FROM keycote_show_events WHERE key_id = 'new of one'")).Scan(&action, &actor, &at))
		require.Equal(t, []string{"issue", "actor"}, []string{action, actor})
		require.Contains(t, at, "2026-03-01 12:00:00.123456")
	})
}
