package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
)

// text gives a statement the names and parameters that the database knows. A ? inside a quoted text stays. No statement
// holds a value, so that nothing else can look like the prefix.
func (d *dialect) text(statement string) string {
	if d.prefix != defaultPrefix && d.prefix != "" {
		statement = strings.ReplaceAll(statement, defaultPrefix, d.prefix)
	}
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

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// session runs statements of one dialect. With whole set, which is so inside a transaction of an embedded database, a
// statement runs to its end and the context is asked in between: SQLite answers an interrupt by rolling the whole
// transaction back, a host's own too, and database/sql would let the statements that follow commit one by one.
type session struct {
	d        *dialect
	q        querier
	whole    bool
	repeated repeated // nil: nothing is prepared
}

// repeated holds what a Batch has asked for, prepared from the second time on: a large one asks the same for each row,
// and in an embedded database reading a statement costs more than running it.
type repeated map[string]*sql.Stmt

func (r repeated) close() error {
	var errs []error
	for _, stmt := range r {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// uncancelled is the context that a statement runs under, or why it must not begin.
func (x session) uncancelled(ctx context.Context) (context.Context, error) {
	if !x.whole {
		return ctx, nil
	}
	return context.WithoutCancel(ctx), ctx.Err()
}

// prepared returns nil for a statement that is to be run by its text.
func (x session) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if x.repeated == nil {
		return nil, nil
	}
	stmt, seen := x.repeated[text]
	if stmt != nil || !seen {
		x.repeated[text] = stmt
		return stmt, nil
	}
	stmt, err := x.q.PrepareContext(ctx, text)
	if err == nil {
		x.repeated[text] = stmt
	}
	return stmt, err
}

// exec returns how many rows the statement changed. MySQL counts an UPDATE that changes nothing in one of two ways, as
// its driver is told: only a DELETE, and an INSERT of SQLite and PostgreSQL, may be judged by it.
func (x session) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	ctx, err := x.uncancelled(ctx)
	if err != nil {
		return 0, err
	}
	text := x.d.text(statement)
	stmt, err := x.prepared(ctx, text)
	if err != nil {
		return 0, err
	}
	var res sql.Result
	if stmt != nil {
		res, err = stmt.ExecContext(ctx, args...)
	} else {
		res, err = x.q.ExecContext(ctx, text, args...)
	}
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query hands every row to each.
func (x session) query(ctx context.Context, each func(*sql.Rows) error, statement string, args ...any) error {
	ctx, err := x.uncancelled(ctx)
	if err != nil {
		return err
	}
	text := x.d.text(statement)
	stmt, err := x.prepared(ctx, text)
	if err != nil {
		return err
	}
	var rows *sql.Rows
	if stmt != nil {
		rows, err = stmt.QueryContext(ctx, args...)
	} else {
		rows, err = x.q.QueryContext(ctx, text, args...)
	}
	if err != nil {
		return err
	}
	return drain(rows, each)
}

// one reads the first row into dest and says whether there was one.
func (x session) one(ctx context.Context, dest []any, statement string, args ...any) (bool, error) {
	found := false
	err := x.query(ctx, func(rows *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return rows.Scan(dest...)
	}, statement, args...)
	return found, err
}

func drain(rows *sql.Rows, each func(*sql.Rows) error) error {
	defer func() { _ = rows.Close() }()
	some := false
	for ; rows.Next(); some = true {
		if err := each(rows); err != nil {
			return err
		}
	}
	switch err := rows.Err(); {
	case err == nil:
		return rows.Close()
	case some:
		return halfRead{err}
	default:
		return err
	}
}

// halfRead is an error behind the first row: the statement must not be repeated, for each has been called.
type halfRead struct{ error }

func (e halfRead) Unwrap() error { return e.error }

// maxRows are inserted by one statement at most: SQLite before 3.32 takes 999 parameters.
const maxRows = 50

// insert inserts rows, as many by a statement as it takes. Each value is ? or an expression without a parameter.
func (x session) insert(ctx context.Context, table string, columns, values []string, rows [][]any, end string) error {
	row := "(" + strings.Join(values, ", ") + ")"
	for len(rows) > 0 {
		n := min(len(rows), maxRows)
		var args []any
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		_, err := x.exec(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES "+
			strings.TrimSuffix(strings.Repeat(row+", ", n), ", ")+end, args...)
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// marks returns n parameters: "?, ?, ?".
func marks(n int) string {
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}

// parameters returns n values for insert.
func parameters(n int) []string {
	return strings.Split(marks(n), ", ")
}
