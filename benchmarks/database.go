package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // database/sql's "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql's "pgx"
	_ "modernc.org/sqlite"             // database/sql's "sqlite"

	"github.com/keycote/keycote/sqlstore"
)

// database is one made for this run, and dropped after it.
type database struct {
	name    string // SQLite, PostgreSQL or MariaDB
	version string
	driver  string
	dsn     string
	dialect sqlstore.Dialect
	db      *sql.DB
	drop    func(context.Context) error
	stores  atomic.Int64 // how many prefixes were given out
}

// openDatabases opens a SQLite file, and a database on each server that runs on its standard port and lets us in. One
// that is not there is noted, and named in the table.
func (l *lab) openDatabases(ctx context.Context) error {
	for _, open := range []struct {
		name string
		open func(context.Context) (*database, error)
	}{{"SQLite", openSQLite}, {"PostgreSQL", openPostgres}, {"MariaDB", openMariaDB}} {
		db, err := open.open(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			l.absent = append(l.absent, absence{open.name, err})
			continue
		}
		db.name = open.name
		l.databases = append(l.databases, db)
	}
	return nil
}

// closeDatabases drops what openDatabases has made, also when ctx has ended meanwhile.
func (l *lab) closeDatabases(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, db := range l.databases {
		errs = append(errs, db.db.Close(), db.drop(ctx))
	}
	l.databases = nil
	return errors.Join(errs...)
}

func openSQLite(ctx context.Context) (*database, error) {
	dir, err := os.MkdirTemp("", "keycote-bench-")
	if err != nil {
		return nil, err
	}
	d := &database{
		driver: "sqlite", dialect: sqlstore.SQLite,
		dsn: "file:" + (&url.URL{Path: filepath.Join(dir, "keys.db")}).EscapedPath() +
			"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)",
		drop: func(context.Context) error { return os.RemoveAll(dir) },
	}
	if err := d.open(ctx, "SELECT 'SQLite ' || sqlite_version()"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return d, nil
}

func openPostgres(ctx context.Context) (*database, error) {
	var errs []error
	for _, user := range []string{"postgres", "root"} {
		d, err := onServer(ctx, "pgx", sqlstore.Postgres, func(database string) string {
			return fmt.Sprintf("host=127.0.0.1 port=5432 user=%s dbname=%s sslmode=disable", user, database)
		}, "postgres", " WITH (FORCE)", "SELECT 'PostgreSQL ' || current_setting('server_version')")
		if err == nil {
			return d, nil
		}
		errs = append(errs, fmt.Errorf("at 127.0.0.1:5432 as %s: %w", user, err))
	}
	return nil, errors.Join(errs...)
}

func openMariaDB(ctx context.Context) (*database, error) {
	var errs []error
	for _, address := range []string{"tcp(127.0.0.1:3306)", "unix(/run/mysqld/mysqld.sock)"} {
		d, err := onServer(ctx, "mysql", sqlstore.MySQL, func(database string) string {
			return "root@" + address + "/" + database
		}, "", "", "SELECT VERSION()")
		if err == nil {
			return d, nil
		}
		errs = append(errs, fmt.Errorf("at %s as root: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

// onServer makes a database on a server.
func onServer(
	ctx context.Context, driver string, dialect sqlstore.Dialect, dsn func(database string) string, admin, force, version string,
) (*database, error) {
	var random [6]byte
	_, _ = rand.Read(random[:])
	name := "keycote_bench_" + hex.EncodeToString(random[:])
	administer := func(ctx context.Context, statement string) error {
		db, err := sql.Open(driver, dsn(admin))
		if err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, statement)
		return errors.Join(err, db.Close())
	}
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := administer(asking, "CREATE DATABASE "+name); err != nil {
		return nil, err
	}
	d := &database{driver: driver, dialect: dialect, dsn: dsn(name), drop: func(ctx context.Context) error {
		return administer(ctx, "DROP DATABASE "+name+force)
	}}
	if err := d.open(ctx, version); err != nil {
		return nil, errors.Join(err, d.drop(ctx))
	}
	return d, nil
}

func (d *database) open(ctx context.Context, version string) (err error) {
	if d.db, err = sql.Open(d.driver, d.dsn); err != nil {
		return err
	}
	if err := d.db.QueryRowContext(ctx, version).Scan(&d.version); err != nil {
		return errors.Join(err, d.db.Close())
	}
	return nil
}

// tables are the store's, under a prefix that nothing else in the database has.
type tables struct {
	*database
	prefix  string
	dialect sqlstore.Dialect
	store   *sqlstore.Store
}

func (d *database) newTables(ctx context.Context) (*tables, error) {
	prefix := fmt.Sprintf("b%d_", d.stores.Add(1))
	t := &tables{database: d, prefix: prefix, dialect: d.dialect.WithPrefix(prefix)}
	if err := sqlstore.Migrate(ctx, d.db, t.dialect); err != nil {
		return nil, err
	}
	var err error
	t.store, err = sqlstore.New(ctx, d.db, t.dialect)
	return t, err
}

// text writes a statement of ours for this database: keycote_ is the prefix, ? a parameter.
func (t *tables) text(statement string) string {
	statement = strings.ReplaceAll(statement, "keycote_", t.prefix)
	if t.driver != "pgx" {
		return statement
	}
	var b strings.Builder
	n := 0
	for _, c := range statement {
		if c == '?' {
			n++
			fmt.Fprintf(&b, "$%d", n)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}
