package dbtest

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/keycote/keycote/sqlstore"
)

// dsn is what the package comment of sqlstore recommends.
func dsn(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
}

func openFile(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "keycote test.db")
}

func openStore(t testing.TB, path string) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := openFile(t, path)
	require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, db
}
