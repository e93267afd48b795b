package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

func TestNewChecksTheSchema(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare string
		want    string
	}{
		{"unmigrated", "", "no keycote schema: call sqlstore.Migrate"},
		{"older", "DELETE FROM keycote_schema", "no keycote schema"},
		{"newer", "INSERT INTO keycote_schema (version) VALUES (99)", "has version 99"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := openFile(t, newFile(t))
			if test.prepare != "" {
				require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
				_, err := db.ExecContext(t.Context(), test.prepare)
				require.NoError(t, err)
			}
			_, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
			require.ErrorContains(t, err, test.want)
			require.Empty(t, keycote.CodeOf(err))
		})
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	db := openFile(t, newFile(t))
	require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
	_, err := db.ExecContext(t.Context(), "INSERT INTO keycote_schema (version) VALUES (99)")
	require.NoError(t, err)
	require.ErrorContains(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite), "newer Keycote")
}

func TestUnknownDialects(t *testing.T) {
	t.Parallel()
	db := openFile(t, newFile(t))
	for _, d := range []sqlstore.Dialect{"", "oracle", "oracle:kc_", sqlstore.SQLite.WithPrefix(""), sqlstore.SQLite.WithPrefix("a-b"),
		sqlstore.SQLite.WithPrefix("_a"), sqlstore.SQLite.WithPrefix("A"), sqlstore.SQLite.WithPrefix(strings.Repeat("a", 31))} {
		require.ErrorContains(t, sqlstore.Migrate(t.Context(), db, d), "sqlstore: ", d)
		_, err := sqlstore.New(t.Context(), db, d)
		require.ErrorContains(t, err, "sqlstore: ", d)
		_, err = sqlstore.Schema(d)
		require.ErrorContains(t, err, "sqlstore: ", d)
	}
}

func TestNilDatabase(t *testing.T) {
	t.Parallel()
	for _, d := range []sqlstore.Dialect{sqlstore.SQLite, sqlstore.Postgres, sqlstore.MySQL} {
		require.EqualError(t, sqlstore.Migrate(t.Context(), nil, d), "sqlstore: the database is nil", d)
		_, err := sqlstore.New(t.Context(), nil, d)
		require.EqualError(t, err, "sqlstore: the database is nil", d)
	}
}

// Migrate may be repeated, and be run at once from several pools; a store in use does not mind.
func TestMigrateTwiceAndAtOnce(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	const n = 6
	errs := make(chan error, n)
	for range n {
		db := openFile(t, path)
		go func() { errs <- sqlstore.Migrate(t.Context(), db, sqlstore.SQLite) }()
	}
	for range n {
		require.NoError(t, <-errs)
	}
	store, db := openStore(t, path)
	require.NoError(t, store.Commit(t.Context(), everything("one")))
	require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
	requireParts(t, db, "one", whole)
}

// A migration that is interrupted leaves nothing.
func TestMigrateIsWhole(t *testing.T) {
	t.Parallel()
	db, w := openWatched(t, newFile(t))
	for at := 3; ; at += 5 {
		count, hit := 0, false
		w.intercept(func(string) error {
			if count++; count == at {
				hit = true
				return errBroken
			}
			return nil
		})
		err := sqlstore.Migrate(t.Context(), db, sqlstore.SQLite)
		w.intercept(nil)
		if !hit {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, errBroken)
		var tables int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM sqlite_master").Scan(&tables))
		require.Zero(t, tables)
	}
}

// UTF-16 would lose bytes and order.
func TestUTF16IsRefused(t *testing.T) {
	t.Parallel()
	db := openFile(t, newFile(t))
	db.SetMaxOpenConns(1)
	_, err := db.ExecContext(t.Context(), "PRAGMA encoding = 'UTF-16'")
	require.NoError(t, err)
	require.ErrorContains(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite), "UTF-16")
}

// Where no busy_timeout is set, as by a bare path, a write waits for another one all the same.
func TestAWriteWaitsWithoutBusyTimeout(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	_, holder := openStore(t, path)
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	conn, err := holder.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- store.Commit(t.Context(), everything("one")) }()
	time.Sleep(50 * time.Millisecond) // it would have failed by now
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, <-done)
	requireParts(t, db, "one", whole)
}

// A write that another holds up longer than busy_timeout is an outage, and no answer about keys.
func TestBusyIsNoCode(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	_, holder := openStore(t, path)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(20)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	conn, err := holder.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	err = store.Commit(t.Context(), everything("one"))
	require.ErrorContains(t, err, "locked")
	require.Empty(t, keycote.CodeOf(err))

	// A second writer of the same Store waits in a queue that its context ends.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, errors.Is(store.Commit(ctx, everything("two")), context.Canceled))
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, store.Commit(t.Context(), everything("one")))
	requireParts(t, db, "one", whole)
}
