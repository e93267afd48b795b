package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keycote/keycote"
)

// routesPerKey makes the rows of a flush: one for each key and route.
const routesPerKey = 100

// useLog is F7 as far as it exists: a flush of use counts beside the same rows written raw, by COPY on PostgreSQL and by
// INSERTs of 1,000 rows elsewhere, into an empty table of the same shape. There is no chain yet, and what a use costs
// on the hot path is a part of F1.
func useLog(ctx context.Context, l *lab) ([]line, error) {
	return l.eachDatabase(ctx, func(ctx context.Context, d *database) ([]line, error) {
		t, err := d.newTables(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = t.store.Close() }()
		var minutes atomic.Int64
		m, err := newManager(ctx, t.store, &keycote.Options{MaxStale: 24 * time.Hour, Now: func() time.Time {
			return epoch.Add(time.Duration(minutes.Load()) * time.Minute)
		}})
		if err != nil {
			return nil, err
		}
		tokens, err := issue(ctx, m, max(l.useRows/routesPerKey, 1))
		if err != nil {
			return nil, err
		}
		raw, err := t.newRawUses(ctx)
		if err != nil {
			return nil, err
		}
		rows := len(tokens) * routesPerKey
		timings, err := interleave(l.rounds, l.slice,
			side{name: "raw", before: func() error { raw.next(rows); return nil }, run: func() error { return raw.write(ctx) }},
			side{name: "flush", run: func() error { return m.Flush(ctx) }, before: func() error {
				minutes.Add(1) // a window of its own, so that all rows are new
				return useAll(ctx, m, tokens)
			}})
		if err != nil {
			return nil, err
		}
		if err := t.holds(ctx, "keycote_uses", rows*l.rounds); err != nil {
			return nil, err
		}
		rate := func(t timing) string { return number(float64(rows) / t.median().Seconds()) }
		return []line{{
			what: "rows/s of the use log's writer, without a chain, on " + d.name, limit: raw.how, goal: goal{atLeast, 0.8},
			got: times(timings[0], timings[1]), unit: unitTimes,
			note: rate(timings[1]) + " of " + rate(timings[0]) + ", flushes of " + number(float64(rows)),
		}}, nil
	})
}

// useAll uses each key on each route.
func useAll(ctx context.Context, m *keycote.Manager, tokens []string) error {
	r := request()
	for i := range routesPerKey {
		r.Route = fmt.Sprintf("GET /orders/%d", i)
		for _, token := range tokens {
			if _, err := m.Verify(ctx, token, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds fails when a table has other than n rows: a flush that wrote less would only look fast.
func (t *tables) holds(ctx context.Context, table string, n int) error {
	var got int
	if err := t.db.QueryRowContext(ctx, t.text("SELECT COUNT(*) FROM "+table)).Scan(&got); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%s has %d rows and not %d", table, got, n)
	}
	return nil
}

// rawUses writes rows of the use log without the library.
type rawUses struct {
	t       *tables
	how     string
	columns []string
	rows    [][]any
	window  int64
}

func (t *tables) newRawUses(ctx context.Context) (*rawUses, error) {
	r := &rawUses{t: t, how: "INSERTs of 1,000 rows in one transaction", columns: []string{
		"tenant", "window_at", "key_id", "version", "outcome", "addr", "route", "agent", "n", "first_at", "last_at",
	}}
	var create string
	switch t.driver {
	case "pgx":
		r.how = "COPY"
		create = "CREATE TABLE keycote_raw (LIKE keycote_uses INCLUDING ALL)"
	case "mysql":
		create = "CREATE TABLE keycote_raw LIKE keycote_uses"
	default:
		const schema = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC" // table, indexes
		rows, err := t.db.QueryContext(ctx, schema, t.prefix+"uses")
		if err != nil {
			return nil, err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return nil, err
			}
			create += strings.ReplaceAll(text, t.prefix+"uses", t.prefix+"raw") + ";"
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	_, err := t.db.ExecContext(ctx, t.text(create))
	return r, err
}

// next makes n rows that are not there yet.
func (r *rawUses) next(n int) {
	r.window += time.Minute.Microseconds()
	r.rows = r.rows[:0]
	for i := range n {
		at := epoch.UnixMicro() + r.window
		r.rows = append(r.rows, []any{"", at, filledID(i / routesPerKey), int64(1), "", "",
			fmt.Sprintf("GET /orders/%d", i%routesPerKey), "bench/1.0", int64(1), at, at})
	}
}

func (r *rawUses) write(ctx context.Context) error {
	if r.t.driver == "pgx" {
		return r.copy(ctx)
	}
	const perStatement = 1_000
	tx, err := r.t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for from := 0; from < len(r.rows); from += perStatement {
		some := r.rows[from:min(from+perStatement, len(r.rows))]
		if err := r.insert(ctx, tx, some); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (r *rawUses) insert(ctx context.Context, tx *sql.Tx, rows [][]any) error {
	marks := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(r.columns)), ", ") + ")"
	statement := "INSERT INTO keycote_raw (" + strings.Join(r.columns, ", ") + ") VALUES " +
		strings.TrimSuffix(strings.Repeat(marks+", ", len(rows)), ", ")
	var args []any
	for _, row := range rows {
		args = append(args, row...)
	}
	_, err := tx.ExecContext(ctx, r.t.text(statement), args...)
	return err
}

func (r *rawUses) copy(ctx context.Context) error {
	conn, err := r.t.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Raw(func(c any) error {
		own, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("%T is not pgx's connection", c)
		}
		_, err := own.Conn().CopyFrom(ctx, pgx.Identifier{r.t.prefix + "raw"}, r.columns, pgx.CopyFromRows(r.rows))
		return err
	})
}
