package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"time"
)

// sqlite needs SQLite 3.24 (2018), for ON CONFLICT.
var sqlite = dialect{
	name:      "sqlite",
	now:       "CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
	hasSchema: "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'keycote_schema'",
	prepared:  true,
	embedded:  true,
	contains:  func(column string) string { return "instr(" + column + ", ?) > 0" },
	leads:     " CROSS JOIN ",
	hex:       func(column string) string { return "hex(" + column + ")" },
	hexText:   func(column string) string { return "hex(" + column + ")" },
	pack: func(fields ...string) string {
		return "group_concat(" + strings.Join(fields, " || ' ' || ") + ")"
	},
	insertNew:  insertOrNothing,
	onConflict: onConflict,
	inserted:   func(column string) string { return "excluded." + column },
	beyond:     beyondByRow,
	deleteFirst: func(table, key, cond, order string, limit int) string {
		return "DELETE FROM " + table + " WHERE (" + key + ") IN (SELECT " + key + " FROM " + table + " WHERE " + cond +
			" ORDER BY " + order + " LIMIT " + strconv.Itoa(limit) + ")"
	},
	check:     sqliteCheck,
	atomic:    sqliteAtomic,
	migrating: sqliteAtomic, // tables are taken back like rows
}

// sqliteCheck refuses UTF-16, where text is kept in another form, invalid UTF-8 is lost, and the order is another; and
// what would show half of what another one writes.
func sqliteCheck(ctx context.Context, x session) error {
	var encoding string
	var uncommitted int64
	for name, dest := range map[string]any{"encoding": &encoding, "read_uncommitted": &uncommitted} {
		if _, err := x.one(ctx, []any{dest}, "PRAGMA "+name); err != nil {
			return err
		}
	}
	switch {
	case encoding != "UTF-8":
		return errors.New("sqlstore: the database's encoding is " + encoding + ": only UTF-8 keeps text as it is")
	case uncommitted != 0: // with a shared cache one could see half a Batch, or what is then taken back
		return errors.New("sqlstore: read_uncommitted is on: it must be off, as it is by default")
	}
	return nil
}

// sqliteAtomic begins IMMEDIATE whatever the DSN says: a transaction that reads first and writes later fails on a
// collision without waiting. database/sql has no word for that, hence a connection and statements by hand; it goes back
// to the pool without an open transaction, or not at all.
func sqliteAtomic(ctx context.Context, s *Store, fn func(session) error) (err error) {
	// Writers of one process stand in a queue that a context can leave. SQLite's own waiting is a poll: unfair, and deaf
	// to cancelling.
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var conn *sql.Conn
	if err := s.opening(ctx, func() (err error) { conn, err = s.db.Conn(ctx); return err }); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			sqliteReset(ctx, conn, err)
		}
		_ = conn.Close()
	}()
	x := session{d: s.d, q: conn, whole: true}
	timeout, err := sqliteBegin(ctx, x)
	if err != nil {
		return err
	}
	if err := fn(x); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Without WAL it waits for those who read. One that has found the file locked has left the transaction as it was,
	// and can be repeated or taken back; otherwise a cancelled call could not tell whether it happened.
	err = whileBusy(ctx, timeout, func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
		return err
	})
	committed = err == nil
	return err
}

// sqliteBegin waits for the right to write as long as the connection's busy_timeout says, by asking every few
// milliseconds. SQLite's own waiting asks the more rarely the longer it lasts, ten times a second in the end: beside a
// process that writes without a pause, two such processes in a test, it found the file locked for all of five seconds.
// It does not hear of a context's end either. It returns busy_timeout.
func sqliteBegin(ctx context.Context, x session) (timeout time.Duration, err error) {
	timeout, err = sqliteTimeout(ctx, x)
	if err != nil {
		return 0, err
	}
	if timeout > 0 {
		if _, err := x.exec(ctx, "PRAGMA busy_timeout = 0"); err != nil {
			return 0, err
		}
		defer func() {
			back := "PRAGMA busy_timeout = " + strconv.FormatInt(timeout.Milliseconds(), 10)
			if _, wrong := x.exec(context.WithoutCancel(ctx), back); wrong != nil {
				err = errors.Join(err, errSetting, wrong)
			}
		}()
	}
	begin := func() error { _, err := x.exec(ctx, "BEGIN IMMEDIATE"); return err }
	if timeout == 0 {
		return 0, whileBusy(ctx, 0, begin)
	}
	return timeout, repeat(ctx, timeout, begin)
}

// errSetting marks a connection that did not get its busy_timeout back.
var errSetting = errors.New("sqlstore: the connection's busy_timeout could not be set again")

// sqliteReset leaves no transaction on conn after why. Where BEGIN failed there may be none, which is no fault; a
// connection of which that is not known is thrown away, and its transaction with it.
func sqliteReset(ctx context.Context, conn *sql.Conn, why error) {
	_, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	none := err != nil && strings.Contains(err.Error(), "no transaction is active")
	if (err == nil || none) && !errors.Is(why, errSetting) {
		return
	}
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}
