package sqlstore

import (
	"context"
	"fmt"
	"strings"
)

// Dialect names a kind of database, and the prefix of the tables in it. The zero Dialect is none. Dialects are compared
// with ==.
type Dialect string

const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql" // and MariaDB
)

// defaultPrefix is what the statements in this package are written with.
const defaultPrefix = "keycote_"

// WithPrefix returns the same dialect with tables, and all else that has a name in the database, whose names begin with
// prefix instead of "keycote_": 1 to 30 of a-z, 0-9 and "_", a letter first, else [New] and [Migrate] fail. Stores of
// different prefixes know nothing of each other. In which schema (PostgreSQL's search_path) or database (MySQL) the
// tables stand is the connection's business.
func (d Dialect) WithPrefix(prefix string) Dialect {
	name, _, _ := strings.Cut(string(d), ":")
	if prefix == defaultPrefix {
		return Dialect(name)
	}
	return Dialect(name + ":" + prefix)
}

// String returns the dialect's name, and behind a colon its prefix, where it has one of its own.
func (d Dialect) String() string { return string(d) }

// dialect is all that differs between databases. Statements are written once, with ? for a parameter, and put together
// from these parts; nothing else asks which database it is talking to.
type dialect struct {
	name   string // also the folder of the migrations
	prefix string // of the tables

	numbered  bool   // parameters are $1, $2…
	prepared  bool   // the statements of the hot path are worth preparing on every connection
	embedded  bool   // in the process; see session and repeated
	lock      string // ends a SELECT whose rows stay as they are, and are nobody else's, until commit
	innerLock string // ends the SELECTs inside such a one
	share     string // ends a SELECT whose rows stay as they are until commit
	now       string // the database's clock, in microseconds since 1970
	hasSchema string // answers a row when keycote_schema exists
	packing   string // follows the SELECT of a statement with packed columns
	leads     string // joins two tables of which the left one is walked first
	notifies  string // ends an UPDATE that tells the channel of its parameter, at the commit; "": nobody can be told
	schema    string // answers the schema that the tables stand in, if the server can do what notifies says

	// contains: column holds the text of one parameter, bytes and not patterns: there is nothing to escape.
	contains func(column string) string
	// hex and hexText write bytes and text in hexadecimal, so that packed rows need no escaping.
	hex, hexText func(column string) string
	// pack makes one text of all rows of a subquery: fields by blanks, rows by commas.
	pack func(fields ...string) string
	// insertNew inserts a row, and answers false when there is one of that key, the first column, already.
	insertNew func(ctx context.Context, x session, table string, columns, values []string, args ...any) (bool, error)
	// onConflict ends an INSERT: a row with the same key is changed by set.
	onConflict func(key []string, set ...string) string
	// inserted is, in set, the value that was to be inserted.
	inserted func(column string) string
	// beyond is the condition for rows strictly after a place in the order of columns, as an index range.
	beyond func(columns []string, newest bool, place []any) (string, []any)
	// deleteFirst removes at most limit rows that meet cond, the first in the order of order.
	deleteFirst func(table, key, cond, order string, limit int) string

	// check looks at the database's settings that would make it answer wrongly.
	check func(ctx context.Context, x session) error
	// atomic runs fn in a transaction of its own.
	atomic func(ctx context.Context, s *Store, fn func(session) error) error
	// migrating runs fn while no other process migrates.
	migrating func(ctx context.Context, s *Store, fn func(session) error) error
	// transient says of an error that ended a transaction of its own, and left nothing of it, that the next may succeed.
	transient func(error) bool
}

// dialectOf returns what d stands for.
func dialectOf(d Dialect) (*dialect, error) {
	name, prefix, own := strings.Cut(string(d), ":")
	if !own {
		prefix = defaultPrefix
	}
	if !validPrefix(prefix) {
		return nil, fmt.Errorf("sqlstore: %q is no prefix for names of tables", prefix)
	}
	for _, known := range []dialect{sqlite, postgres, mysql} {
		if known.name == name {
			known.prefix = prefix
			return &known, nil
		}
	}
	return nil, fmt.Errorf("sqlstore: unknown dialect %q", name)
}

// validPrefix leaves room for the longest name within the 63 bytes that PostgreSQL keeps of one.
func validPrefix(prefix string) bool {
	if len(prefix) < 1 || len(prefix) > 30 || prefix[0] < 'a' || prefix[0] > 'z' {
		return false
	}
	return strings.Trim(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
