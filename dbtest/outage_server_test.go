package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// coded is an error as the drivers of PostgreSQL make theirs.
type coded string

func (c coded) Error() string    { return "ERROR: something (SQLSTATE " + string(c) + ")" }
func (c coded) SQLState() string { return string(c) }

// A Commit that the database ended for the sake of another is tried again, and goes through; any other failure, and one
// that does not cease, is an outage, and never an answer about keys.
func TestTransientErrors(t *testing.T) {
	onEach(t, "deadlocks", mainServers, func(t *testing.T, e *engine) {
		_, db, here := e.fresh(t)
		pool, w := here.openWatched(t)
		store := here.store(t, pool)
		transient, lasting := []error{coded("40001"), coded("40P01"), coded("23505")}, []error{coded("23514"), coded("57014"), errBroken}
		if e.dialect == sqlstore.MySQL {
			number := func(text string) error { return fmt.Errorf("wrapped by the host: %w", errors.New(text)) }
			transient = []error{number("Error 1213 (40001): Deadlock found"), number("Error 1020 (HY000): changed"),
				number("Error 1062 (23000): Duplicate entry 'Error 1 (2)' for key")}
			lasting = []error{number("Error 1406 (22001): Data too long for column 'Error 1213'"), number("Error 12130"),
				number("Error 1205 (HY000): Lock wait timeout"), errBroken} // which took 50 s already
		}
		n := 0
		commit := func(fails int, why error) (string, error) {
			n++
			id := fmt.Sprintf("%d", n)
			w.intercept(func(text string) error {
				if strings.HasPrefix(text, "INSERT INTO") && strings.Contains(text, "records") && fails > 0 {
					fails--
					return why
				}
				return nil
			})
			defer w.intercept(nil)
			return id, store.Commit(t.Context(), everything(id))
		}
		for _, why := range transient {
			for _, fails := range []int{1, 9} {
				id, err := commit(fails, why)
				require.NoError(t, err, "%v, %d times", why, fails)
				here.requireParts(t, db, id, whole)
			}
			id, err := commit(1000, why)
			require.ErrorIs(t, err, why, "it has an end")
			require.Empty(t, keycote.CodeOf(err))
			here.requireParts(t, db, id, 0)
		}
		for _, why := range lasting {
			id, err := commit(1, why)
			require.ErrorIs(t, err, why)
			require.Empty(t, keycote.CodeOf(err))
			here.requireParts(t, db, id, 0)
		}
	})
}

// Two hosts' transactions, each holding what the other's key change needs, end in a deadlock of which one survives.
func TestDeadlockWithAHost(t *testing.T) {
	onServers(t, "deadlock with a host", func(t *testing.T, e *engine) {
		ctx := t.Context()
		store, db, here := e.fresh(t)
		must := func(statement string) {
			_, err := db.ExecContext(ctx, here.named(statement))
			require.NoError(t, err)
		}
		must("CREATE TABLE keycote_host (n INT NOT NULL PRIMARY KEY, v INT NOT NULL)")
		defer must("DROP TABLE keycote_host")
		must("INSERT INTO keycote_host (n, v) VALUES (1, 0)")
		// The host's transaction holds its own row, and then wants the head; a Commit holds the head for another that wants
		// the row.
		first, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		defer func() { _ = first.Rollback() }()
		second, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		defer func() { _ = second.Rollback() }()
		const touch = "UPDATE keycote_host SET v = v + 1 WHERE n = 1"
		_, err = first.ExecContext(ctx, here.named(touch))
		require.NoError(t, err)
		require.NoError(t, store.Tx(second).Commit(ctx, everything("second")))

		var group sync.WaitGroup
		var ofFirst, ofSecond error
		view := store.Tx(first)
		group.Go(func() { ofFirst = finish(first, view.Commit(ctx, everything("first"))) })
		group.Go(func() {
			_, err := second.ExecContext(ctx, here.named(touch))
			ofSecond = finish(second, err)
		})
		group.Wait()
		require.NotEqual(t, ofFirst == nil, ofSecond == nil, "%v; %v", ofFirst, ofSecond)
		require.Empty(t, keycote.CodeOf(ofFirst))
		want := map[bool]int{true: whole, false: 0}
		here.requireParts(t, db, "first", want[ofFirst == nil])
		here.requireParts(t, db, "second", want[ofSecond == nil])
		if ofFirst != nil {
			require.Error(t, view.Commit(ctx, everything("again")), "the view has ended with its transaction")
		}
		here.requireParts(t, db, "again", 0)
	})
}

func finish(tx *sql.Tx, err error) error {
	if err != nil {
		return errors.Join(err, ignore(tx.Rollback()))
	}
	return tx.Commit()
}

// ignore is for the end of a transaction that may have ended already.
func ignore(error) error { return nil }

// Cancelling inside a host's transaction may take the whole transaction with it, as the driver likes; it never leaves
// half a Batch, and never a part of the transaction.
func TestCancelledInTx(t *testing.T) {
	onServers(t, "cancelled in a transaction", func(t *testing.T, e *engine) {
		_, db, here := e.fresh(t)
		pool, w := here.openWatched(t)
		store := here.store(t, pool)
		for at := 0; ; at += 3 {
			before, id := fmt.Sprintf("before %d", at), fmt.Sprintf("cancelled at %d", at)
			tx, err := pool.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			view := store.Tx(tx)
			require.NoError(t, view.Commit(t.Context(), everything(before)))
			ctx, cancel := context.WithCancel(t.Context())
			count, hit := 0, false
			w.intercept(func(string) error {
				if count++; count == at+1 {
					hit = true
					cancel()
				}
				return nil
			})
			failed := view.Commit(ctx, everything(id))
			w.intercept(nil)
			cancel()
			committed := tx.Commit()
			_ = tx.Rollback()
			want := 0
			if committed == nil {
				want = whole
			}
			here.requireParts(t, db, before, want)
			if failed != nil {
				require.ErrorIs(t, failed, context.Canceled)
				require.Empty(t, keycote.CodeOf(failed))
				want = 0
			}
			here.requireParts(t, db, id, want)
			if !hit {
				require.NoError(t, failed)
				return
			}
		}
	})
}

// A setting under which the database would answer wrongly is found when the store is opened.
func TestSettingsThatAreRefused(t *testing.T) {
	onEach(t, "settings", mainServers, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		tests := map[string]string{}
		if e.dialect == sqlstore.MySQL {
			tests["?sql_mode=''"] = "sql_mode is not strict"
			tests["?group_concat_max_len=1024"] = "group_concat_max_len"
		} else {
			latin := "latin_" + e.server.database
			admin := e.pool(t)
			_, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+latin+" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
			require.NoError(t, err)
			defer func() {
				_, err := admin.Exec("DROP DATABASE " + latin + " WITH (FORCE)")
				require.NoError(t, err)
			}()
			tests[" dbname="+latin] = "LATIN1"
		}
		for setting, want := range tests {
			p := here
			p.dsn += setting
			db, err := sql.Open(p.driver, p.dsn)
			require.NoError(t, err)
			require.ErrorContains(t, sqlstore.Migrate(t.Context(), db, p.dialect), want)
			_, err = sqlstore.New(t.Context(), db, p.dialect)
			require.ErrorContains(t, err, want)
			require.NoError(t, db.Close())
		}
	})
}

// A server that is away is an outage for every call.
func TestServerAway(t *testing.T) {
	onServers(t, "server away", func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		db := here.open(t)
		store, err := sqlstore.New(t.Context(), db, here.dialect)
		require.NoError(t, err)
		require.NoError(t, store.Close())
		require.NoError(t, db.Close())
		ctx := t.Context()
		_, get := store.Get(ctx, "t", "k")
		_, lookup := store.Lookup(ctx, [][]byte{digest("d")})
		_, list := store.List(ctx, keycote.Query{AllTenants: true})
		_, items := store.Items(ctx, keycote.ItemQuery{AllTenants: true})
		_, _, changes := store.Changes(ctx, "")
		for call, err := range map[string]error{"get": get, "lookup": lookup, "list": list, "items": items, "changes": changes,
			"commit": store.Commit(ctx, everything("x"))} {
			require.Error(t, err, call)
			require.Empty(t, keycote.CodeOf(err), call)
		}
	})
}
