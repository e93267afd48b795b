package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
)

// mysql needs MariaDB 10.5, or MySQL 8.0, on which no test has run. Text stands in columns of bytes: of all collations
// none compares as a Store must, utf8mb4_bin takes "acme " for "acme".
var mysql = dialect{
	name:     "mysql",
	prepared: true,
	lock:     " FOR UPDATE",
	// In a host's transaction a SELECT that locks nothing sees the moment of the first one.
	innerLock: " FOR UPDATE",
	share:     " LOCK IN SHARE MODE",
	// Not UNIX_TIMESTAMP, which goes by the session's time zone and is wrong for an hour when clocks are put back.
	now:       "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))",
	hasSchema: "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'keycote_schema'",
	packing:   "/*+ SET_VAR(group_concat_max_len = " + strconv.Itoa(mysqlPacked) + ") */ ",
	leads:     " STRAIGHT_JOIN ",
	contains:  func(column string) string { return "LOCATE(?, " + column + ") > 0" },
	hex:       func(column string) string { return "HEX(" + column + ")" },
	hexText:   func(column string) string { return "HEX(" + column + ")" },
	pack: func(fields ...string) string {
		return "GROUP_CONCAT(CONCAT(" + strings.Join(fields, ", ' ', ") + "))"
	},
	insertNew: mysqlInsertNew,
	onConflict: func(_ []string, set ...string) string {
		return " ON DUPLICATE KEY UPDATE " + strings.Join(set, ", ")
	},
	inserted: func(column string) string { return "VALUES(" + column + ")" },
	beyond:   beyondByColumn,
	// In a DELETE neither MySQL before 8.0.21 nor MariaDB before 11.1 looks for the rows of an IN by an index.
	deleteFirst: func(table, _, cond, order string, limit int) string {
		return "DELETE FROM " + table + " WHERE " + cond + " ORDER BY " + order + " LIMIT " + strconv.Itoa(limit)
	},
	check:     mysqlCheck,
	atomic:    transaction,
	migrating: mysqlMigrating,
	transient: mysqlTransient,
}

// mysqlPacked is MariaDB's default for the length of packed rows, in bytes; a record with all the labels it may have
// needs an eighth of it. What is longer is cut without an error.
const mysqlPacked = 1 << 20

func mysqlCheck(ctx context.Context, x session) error {
	var version, mode, isolation string
	var packed int64
	var single bool
	var database sql.NullString
	_, err := x.one(ctx, []any{&version, &mode, &packed, &single, &database},
		"SELECT VERSION(), @@SESSION.sql_mode, @@SESSION.group_concat_max_len, @@SESSION.autocommit, DATABASE()")
	if err == nil { // MySQL has the one name, MariaDB before 11.1 the other
		_, err = x.one(ctx, []any{new(string), &isolation},
			"SHOW SESSION VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')")
	}
	switch {
	case err != nil:
		return err
	case !single: // each connection would stand on the moment of its first read: a revocation would never be seen
		return errors.New("sqlstore: autocommit is off: it must be on, as it is by default")
	case isolation == "READ-UNCOMMITTED": // of a Batch one could see half, or what is then taken back
		return errors.New("sqlstore: the isolation is READ UNCOMMITTED: any other will do")
	case !database.Valid:
		return errors.New("sqlstore: the connection has no database chosen: name one in the DSN")
	case !strings.Contains(mode, "STRICT_TRANS_TABLES") && !strings.Contains(mode, "STRICT_ALL_TABLES"):
		return errors.New("sqlstore: sql_mode is not strict: the database would cut what is too long, without an error")
	case strings.Contains(version, "MariaDB") && packed < mysqlPacked: // MySQL takes it from the statement
		return errors.New("sqlstore: group_concat_max_len must be 1048576, which is the default, or more")
	}
	return nil
}

// mysqlMigrating holds a lock of the server's, for the length of a connection. MySQL commits at each CREATE, so that an
// interrupted migration stays where it is: its statements can all be repeated.
func mysqlMigrating(ctx context.Context, s *Store, fn func(session) error) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	x := session{d: s.d, q: conn}
	if err := s.d.check(ctx, x); err != nil {
		return err // without a database there is no name for the lock
	}
	const name = "CONCAT('keycote ', SHA1(CONCAT(DATABASE(), '.keycote_')))"
	for held := false; !held; {
		var got sql.NullInt64
		if _, err := x.one(ctx, []any{&got}, "SELECT GET_LOCK("+name+", 1)"); err != nil {
			return err
		}
		if !got.Valid {
			return errors.New("sqlstore: the database gives no lock for the migration")
		}
		held = got.Int64 == 1
	}
	defer func() {
		if _, err := x.one(context.WithoutCancel(ctx), []any{new(any)}, "SELECT RELEASE_LOCK("+name+")"); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the lock goes with the connection
		}
	}()
	return fn(x)
}

// mysqlInsertNew does without IGNORE, which would cut what is too long, and without ON DUPLICATE KEY, whose count of
// rows depends on the driver's clientFoundRows. A failed INSERT leaves the transaction as it was, so that one can look
// for the reason.
func mysqlInsertNew(ctx context.Context, x session, table string, columns, values []string, args ...any) (bool, error) {
	_, err := x.exec(ctx, insertStatement(table, columns, values), args...)
	if mysqlNumber(err) != 1062 {
		return err == nil, err
	}
	found, looked := x.one(ctx, []any{new(any)}, "SELECT 1 FROM "+table+" WHERE "+columns[0]+" = ?"+x.d.lock, args[0])
	if looked != nil || !found {
		return false, errors.Join(err, looked)
	}
	return false, nil
}

// mysqlTransient knows deadlocks, and rows that changed under an isolation of the server's own. As for 1062, see
// postgresTransient. A lock waited for in vain (1205) is none: that took innodb_lock_wait_timeout, 50 s by default, and
// ten times that would be eight minutes.
func mysqlTransient(err error) bool {
	switch mysqlNumber(err) {
	case 1213, 1020, 1062:
		return true
	}
	return false
}

// mysqlNumber is the number in the text "Error 1213 (40001): …" or "Error 1213: …", with which the driver's errors
// begin; 0 for any other. They have the number in a field, which nobody can read who does not import the driver.
func mysqlNumber(err error) int {
	if err == nil {
		return 0
	}
	_, rest, _ := strings.Cut(err.Error(), "Error ")
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	n, _ := strconv.Atoi(digits) // 0 when there is none
	return n
}
