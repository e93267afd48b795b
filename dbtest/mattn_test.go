//go:build cgo

package dbtest

import (
	"net/url"

	_ "github.com/mattn/go-sqlite3"

	"github.com/keycote/keycote/sqlstore"
)

func init() {
	cgoEngine = &engine{
		name: "SQLite (github.com/mattn/go-sqlite3, a file in WAL mode)", driver: "sqlite3", dialect: sqlstore.SQLite, dsn: mattnDSN, variant: true,
	}
}

// mattnDSN says what dsn says, in the other driver's words.
func mattnDSN(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1"
}
