package dbtest

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/keycote/keycote/sqlstore"
)

// modernc is how the last line of a run names the database of openFile.
const modernc = "SQLite (modernc.org/sqlite, a file in WAL mode)"

// dsn is what the package comment of sqlstore recommends.
func dsn(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
}

// openFile opens a file as recommended; more is added to the DSN, where the last word counts.
func openFile(t testing.TB, path string, more ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path)+strings.Join(more, ""))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "keycote test.db")
}

func openStore(t testing.TB, path string, more ...string) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := openFile(t, path, more...)
	require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store, db
}

// requireSound fails when SQLite finds the file damaged, or the tables do not agree with each other.
func requireSound(t testing.TB, db *sql.DB) {
	t.Helper()
	place{driver: "sqlite"}.requireSound(t, db)
}

func (p place) requireSound(t testing.TB, db *sql.DB) {
	t.Helper()
	if strings.HasPrefix(p.driver, "sqlite") {
		var answer string
		require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&answer))
		require.Equal(t, "ok", answer)
	}
	for _, faults := range []string{
		"SELECT COUNT(*) FROM keycote_digests d WHERE NOT EXISTS (SELECT 1 FROM keycote_records r WHERE r.tenant = d.tenant AND r.id = d.id)",
		"SELECT COUNT(*) FROM keycote_labels l WHERE NOT EXISTS (SELECT 1 FROM keycote_records r WHERE r.tenant = l.tenant AND r.id = l.id)",
		"SELECT (SELECT MAX(n) FROM keycote_feed) - (SELECT n FROM keycote_head)",
		"SELECT (SELECT COUNT(*) FROM keycote_feed) - (SELECT MAX(n) - MIN(n) + 1 FROM keycote_feed)",
	} {
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), p.named(faults)).Scan(&n))
		require.Zero(t, n, faults)
	}
}
