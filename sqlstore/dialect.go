package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Dialect names a kind of database. The zero Dialect is none.
type Dialect int

const (
	SQLite   Dialect = iota + 1
	Postgres         // declared, and refused by New and Migrate for now
	MySQL            // and MariaDB; declared, and refused by New and Migrate for now
)

// String returns the name under which the dialect's migrations are kept.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "sqlite"
	case Postgres:
		return "postgres"
	case MySQL:
		return "mysql"
	}
	return "unknown dialect " + strconv.Itoa(int(d))
}

// dialect is all that differs between databases. Statements are written once, with ? for a parameter, and put together
// from these parts; nothing else asks which database it is talking to.
type dialect struct {
	name string // also the folder of the migrations

	numbered    bool   // parameters are $1, $2…
	lock        string // ends a SELECT whose rows stay as they are until commit
	now         string // the database's clock, in microseconds since 1970
	hasSchema   string // answers a row when keycote_schema exists
	uncancelled bool   // see session

	// contains: column holds the text of one parameter, bytes and not patterns: there is nothing to escape.
	contains func(column string) string
	// hex writes text or bytes in hexadecimal, so that packed rows need no escaping.
	hex func(column string) string
	// pack makes one text of all rows of a subquery: fields by blanks, rows by commas.
	pack func(fields ...string) string
	// onConflict ends an INSERT: a row with the same key is changed by set, or left alone when there is none.
	onConflict func(key []string, set ...string) string
	// inserted is, in set, the value that was to be inserted.
	inserted func(column string) string
	// beyond is the condition for rows strictly after a place in the order of columns, as an index range.
	beyond func(columns []string, newest bool, place []any) (string, []any)

	// check looks at the database's settings that would make it answer wrongly.
	check func(ctx context.Context, x session) error
	// atomic runs fn in a transaction that holds the right to write from its start.
	atomic func(ctx context.Context, s *Store, fn func(session) error) error
}

func dialectOf(d Dialect) (*dialect, error) {
	switch d {
	case SQLite:
		return &sqlite, nil
	case Postgres, MySQL:
		return nil, fmt.Errorf("sqlstore: %v is not supported yet: use sqlstore.SQLite", d)
	}
	return nil, fmt.Errorf("sqlstore: %v", d)
}

// text gives a statement the parameters that the database knows. A ? inside a quoted text stays.
func (d *dialect) text(statement string) string {
	if !d.numbered {
		return statement
	}
	var b strings.Builder
	b.Grow(len(statement) + 16)
	n, quoted := 0, false
	for i := range len(statement) {
		c := statement[i]
		if c == '\'' {
			quoted = !quoted // a doubled quote closes and opens again
		}
		if c != '?' || quoted {
			b.WriteByte(c)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}
