package sqlstore

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

// postgres needs PostgreSQL 12. Columns of text have COLLATE "C", so that text is compared, and ordered, by its bytes.
// Nothing is prepared by hand: pgx does that by itself, and a pooler between may not carry it.
var postgres = dialect{
	name:     "postgres",
	numbered: true,
	lock:     " FOR UPDATE",
	share:    " FOR SHARE",
	// Not clock_timestamp(), which may change within a statement, so that no index is used to compare with it.
	now: "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS bigint)",
	// Not to_regclass, which finds the tables of any schema in search_path, where they are somebody else's.
	hasSchema: "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace" +
		" WHERE n.nspname = current_schema() AND c.relname = 'keycote_schema'",
	leads: " CROSS JOIN ",
	// In the UPDATE that there is anyway: a statement of its own would be one more round trip. The payload is empty.
	notifies: " RETURNING pg_notify(?, '')",
	schema:   "SELECT current_schema() WHERE to_regproc('pg_notify') IS NOT NULL",
	contains: func(column string) string { return "strpos(" + column + ", ?) > 0" },
	hex:      func(column string) string { return "encode(" + column + ", 'hex')" },
	hexText:  func(column string) string { return "encode(convert_to(" + column + ", 'UTF8'), 'hex')" },
	pack: func(fields ...string) string {
		return "string_agg(" + strings.Join(fields, " || ' ' || ") + ", ',')"
	},
	insertNew:  insertOrNothing,
	onConflict: onConflict,
	inserted:   func(column string) string { return "excluded." + column },
	beyond:     beyondByRow,
	// What somebody else is pruning, or counting on, is left to the next time. The WITH is evaluated once; an IN may not
	// be, and would then remove more than limit.
	deleteFirst: func(table, key, cond, order string, limit int) string {
		return "WITH first AS (SELECT " + key + " FROM " + table + " WHERE " + cond + " ORDER BY " + order +
			" LIMIT " + strconv.Itoa(limit) + " FOR UPDATE SKIP LOCKED)" +
			" DELETE FROM " + table + " WHERE (" + key + ") IN (SELECT " + key + " FROM first)"
	},
	check:     postgresCheck,
	atomic:    transaction,
	migrating: postgresMigrating,
	transient: postgresTransient,
}

// postgresCheck refuses other encodings than UTF-8: text could not be kept as it is.
func postgresCheck(ctx context.Context, x session) error {
	var encoding string
	if _, err := x.one(ctx, []any{&encoding}, "SHOW server_encoding"); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return errors.New("sqlstore: the database keeps text as " + encoding + ": it must be UTF8")
	}
	return nil
}

// postgresMigrating takes a lock that ends with the transaction, so that it does no harm behind a pooler. PostgreSQL
// takes back tables like rows: a migration is there as a whole or not at all.
func postgresMigrating(ctx context.Context, s *Store, fn func(session) error) error {
	return transaction(ctx, s, func(x session) error {
		h := fnv.New64a()
		_, _ = h.Write([]byte("keycote " + s.d.prefix)) // never fails
		if _, err := x.exec(ctx, "SELECT pg_advisory_xact_lock(?)", int64(h.Sum64())); err != nil {
			return err
		}
		return fn(x)
	})
}

// postgresTransient knows deadlocks and failures to serialize. A violation of a unique index can only come from one who
// writes without taking the head's row first: the next try finds what was written, and says what it is.
func postgresTransient(err error) bool {
	var state interface{ SQLState() string } // *pgconn.PgError of pgx, *pq.Error
	return errors.As(err, &state) && slices.Contains([]string{"40001", "40P01", "23505"}, state.SQLState())
}
