package dbtest

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/keycote/keycote/sqlstore"
)

// engine is a database together with the driver, and its settings, through which it is reached.
type engine struct {
	name    string // as the last lines of a run have it
	driver  string // of database/sql
	dialect sqlstore.Dialect
	server  *server // nil: each store has a file of its own
	variant bool    // another way to a database that is here already
	dsn     func(database string) string

	mu   sync.Mutex
	db   *sql.DB  // of a server
	free []string // prefixes whose tables are there, and empty
	made int
}

// engines are those of this run. TestMain fills it.
var engines []*engine

// eachEngine runs a test on every engine. suite is what the last lines of a run say of it.
func eachEngine(t *testing.T, suite string, test func(t *testing.T, e *engine)) {
	onEach(t, suite, func(*engine) bool { return true }, test)
}

// onServers is eachEngine for what a file cannot do.
func onServers(t *testing.T, suite string, test func(t *testing.T, e *engine)) {
	onEach(t, suite, func(e *engine) bool { return e.server != nil }, test)
}

// onceEach and mainServers choose one engine of each database, and of each server.
func onceEach(e *engine) bool    { return !e.variant }
func mainServers(e *engine) bool { return e.server != nil && !e.variant }

func onEach(t *testing.T, suite string, chosen func(*engine) bool, test func(t *testing.T, e *engine)) {
	t.Parallel()
	for _, e := range engines {
		if !chosen(e) {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			// Once the subtests have ended, too.
			t.Cleanup(func() { ran(t, e.name, suite) })
			test(t, e)
		})
	}
}

// place is where a store stands: enough for another process to find it.
type place struct {
	driver, dsn string
	dialect     sqlstore.Dialect
	kek         string // the file of a KEK, for those who need one
}

// open opens a pool of its own.
func (p place) open(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open(p.driver, p.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// store opens the store there, in db.
func (p place) store(t testing.TB, db *sql.DB) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.New(t.Context(), db, p.dialect)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// fresh returns an empty store, the pool that it uses, and where it stands.
func (e *engine) fresh(t testing.TB) (*sqlstore.Store, *sql.DB, place) {
	t.Helper()
	if e.server == nil {
		p := place{e.driver, e.dsn(newFile(t)), e.dialect, newKEK(t)}
		db := p.open(t)
		require.NoError(t, sqlstore.Migrate(t.Context(), db, p.dialect))
		return p.store(t, db), db, p
	}
	db := e.pool(t)
	prefix := e.prefix(t, db)
	p := place{e.driver, e.dsn(e.server.database), e.dialect.WithPrefix(prefix), newKEK(t)}
	t.Cleanup(func() { e.giveBack(t, prefix) })
	return p.store(t, db), db, p
}

func newKEK(t testing.TB) string { return filepath.Join(t.TempDir(), "kek") }

// pool is one for all tests on a server: its connections are few.
func (e *engine) pool(t testing.TB) *sql.DB {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.db == nil {
		db, err := sql.Open(e.driver, e.dsn(e.server.database))
		require.NoError(t, err)
		db.SetMaxOpenConns(16)
		db.SetMaxIdleConns(16)
		e.db = db
	}
	return e.db
}

// prefix has tables, all of them empty. Making them takes a server longer than most tests do, so they are used again.
func (e *engine) prefix(t testing.TB, db *sql.DB) string {
	t.Helper()
	e.mu.Lock()
	if n := len(e.free); n > 0 {
		prefix := e.free[n-1]
		e.free = e.free[:n-1]
		e.mu.Unlock()
		return prefix
	}
	e.made++
	prefix := fmt.Sprintf("%s%d_", e.driver, e.made)
	if strings.Contains(e.name, "interpolate") {
		prefix = "i_" + prefix
	}
	e.mu.Unlock()
	require.NoError(t, sqlstore.Migrate(t.Context(), db, e.dialect.WithPrefix(prefix)))
	return prefix
}

// tables are all that have rows of a store; head and feed have their first row besides.
var tables = []string{"records", "digests", "labels", "totals", "items", "events", "uses", "batches"}

func (e *engine) giveBack(t testing.TB, prefix string) {
	if t.Failed() {
		return // for a look
	}
	statements := []string{"UPDATE %shead SET n = 0", "DELETE FROM %sfeed WHERE n > 0"}
	for _, table := range tables {
		statements = append(statements, "DELETE FROM %s"+table)
	}
	for _, s := range statements {
		_, err := e.db.Exec(fmt.Sprintf(s, prefix)) // the test's context has ended
		require.NoError(t, err)
	}
	// The feed of another store has another start.
	_, err := e.db.Exec(fmt.Sprintf("INSERT INTO %[1]sfeed (n, mark, at, tenant, id, space, revision) "+
		"SELECT 1, CONCAT('x', MAX(mark)), MAX(at), '', '', '', 0 FROM %[1]sfeed", prefix))
	require.NoError(t, err)
	for _, s := range []string{"DELETE FROM %sfeed WHERE n = 0", "UPDATE %sfeed SET n = 0, mark = SUBSTRING(mark FROM 1 FOR 30)"} {
		_, err := e.db.Exec(fmt.Sprintf(s, prefix))
		require.NoError(t, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.free = append(e.free, prefix)
}

// named puts the prefix of p into a statement that is written for the default one.
func (p place) named(statement string) string {
	_, prefix, own := strings.Cut(string(p.dialect), ":")
	if !own {
		return statement
	}
	return strings.ReplaceAll(statement, "keycote_", prefix)
}
