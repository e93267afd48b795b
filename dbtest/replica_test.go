package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// promised is a lag that has always passed already, so that no test has to wait for it: the replicas here stay behind
// for good, which shows who has answered.
const promised = time.Nanosecond

// replicaOf opens a copy of what stands there now, which nothing will bring up to date.
func replicaOf(t testing.TB, db *sql.DB, here place) *sql.DB {
	t.Helper()
	ctx := t.Context()
	if strings.HasPrefix(here.driver, "sqlite") {
		path := filepath.Join(t.TempDir(), "replica.db")
		_, err := db.ExecContext(ctx, "VACUUM INTO ?", path)
		require.NoError(t, err)
		copied := here
		copied.dsn = "file:" + path + "?_pragma=busy_timeout(5000)" // the other driver sets one by itself
		return copied.open(t)
	}
	_, prefix, _ := strings.Cut(string(here.dialect), ":")
	copied, schema, drop := here, "replica_"+strings.Trim(prefix, "_"), " CASCADE"
	if strings.HasPrefix(string(here.dialect), string(sqlstore.MySQL)) { // where a schema is a database, of the whole server
		var database string
		require.NoError(t, db.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&database))
		schema, drop = database+"_"+schema, ""
		copied.dsn = strings.Replace(here.dsn, "/"+database, "/"+schema, 1)
	} else {
		copied.dsn += " search_path=" + schema
	}
	_, err := db.ExecContext(ctx, "CREATE SCHEMA "+schema)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.ExecContext(context.WithoutCancel(ctx), "DROP SCHEMA "+schema+drop)
		require.NoError(t, err)
	})
	for _, table := range []string{"schema", "records", "digests"} {
		_, err := db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE %s.%s AS SELECT * FROM %s", schema, prefix+table, prefix+table))
		require.NoError(t, err)
	}
	return copied.open(t)
}

// requireReplica holds that a Manager over store asks the replica, and the store for what the replica does not have.
func requireReplica(t testing.TB, store keycote.Store, kek string, revoked, fresh string) {
	t.Helper()
	k, err := keycote.LocalKEK(kek)
	require.NoError(t, err)
	verify := func(stale time.Duration, token string) error {
		m, err := keycote.New(t.Context(), store, k, &keycote.Options{MaxStale: stale})
		require.NoError(t, err)
		_, err = m.Verify(t.Context(), token, keycote.Request{})
		return err
	}
	require.NoError(t, verify(time.Hour, revoked), "the replica has not heard of it")
	require.NoError(t, verify(time.Hour, fresh), "the store has it")
	require.ErrorIs(t, verify(0, revoked), keycote.ErrRevoked, "without MaxStale the store is asked")
}

func TestStaleReplica(t *testing.T) {
	eachEngine(t, "replica", func(t *testing.T, e *engine) {
		store, db, here := e.fresh(t)
		ctx := t.Context()
		writer, err := openHost(ctx, store, here.kek)
		require.NoError(t, err)
		issue := func(name string) (*keycote.Key, string) {
			key, secret, err := writer.Issue(ctx, keycote.IssueParams{Name: name})
			require.NoError(t, err)
			return key, secret.Reveal()
		}
		key, revoked := issue("revoked")
		replica := replicaOf(t, db, here)
		_, err = writer.Revoke(ctx, key.ID, "leaked")
		require.NoError(t, err)
		_, fresh := issue("fresh")

		whole, err := store.WithReplica(ctx, replica, promised)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, whole.Close()) })
		requireReplica(t, whole, here.kek, revoked, fresh)

		_, err = whole.WithReplica(ctx, replica, promised)
		require.ErrorContains(t, err, "already")
		_, err = store.WithReplica(ctx, replica, 0)
		require.ErrorContains(t, err, "not positive")
		_, err = store.WithReplica(ctx, nil, promised)
		require.ErrorContains(t, err, "nil")
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback()) }()
		_, err = store.Tx(tx).WithReplica(ctx, replica, promised)
		require.ErrorContains(t, err, "view")
		lookup, _ := whole.Tx(tx).Replica()
		require.Nil(t, lookup, "a view has none")

		if !onPostgres(e) {
			return
		}
		listen := listeners[e.driver](here.dsn)
		listening, err := store.WithListener(listen)
		require.NoError(t, err)
		last, err := listening.WithReplica(ctx, replica, promised)
		require.NoError(t, err)
		first, err := whole.WithListener(listen)
		require.NoError(t, err)
		for name, both := range map[string]*sqlstore.Listening{"replica last": last, "replica first": first} {
			requireReplica(t, both, here.kek, revoked, fresh)
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			heard := false
			_ = both.Notify(ctx, func() { heard = true; cancel() })
			cancel()
			require.True(t, heard, name)
		}
	})
}
