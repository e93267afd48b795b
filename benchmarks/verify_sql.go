package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// verifyOnSQL is F5: Verify without a cache on SQL, beside a SELECT of the same columns, written by hand and prepared by
// the same driver, and the Verify of F2.
func verifyOnSQL(ctx context.Context, l *lab) ([]line, error) {
	inMemory, err := newUncached(ctx, nil)
	if err != nil {
		return nil, err
	}
	return l.eachDatabase(ctx, func(ctx context.Context, d *database) ([]line, error) {
		k, err := newKEK()
		if err != nil {
			return nil, err
		}
		t, err := d.newTables(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = t.store.Close() }()
		m, err := keycote.New(ctx, t.store, k, nil)
		if err != nil {
			return nil, err
		}
		tokens, err := issue(ctx, m, l.sqlKeys)
		if err != nil {
			return nil, err
		}
		byHand, err := t.selectByHand(ctx)
		if err != nil {
			return nil, err
		}
		next, r := inTurn(len(tokens)), request()
		timings, err := interleave(l.rounds, l.slice, inMemory.valid(ctx), byHand, side{name: "verify", run: func() error {
			_, err := m.Verify(ctx, tokens[next()], r)
			return err
		}})
		if err != nil {
			return nil, err
		}
		statements, err := t.statementsOfVerify(ctx, k, tokens[0])
		return []line{
			{
				what: "`Verify` without a cache on " + d.name, limit: "a prepared SELECT of the same columns, and F2's `Verify`",
				goal: goal{atMost, 1.2}, got: times(timings[2], plus(timings[0], timings[1])), unit: unitTimes,
				note: took(timings[2]) + " to " + took(timings[1]) + " and " + took(timings[0]),
			},
			{
				what: "statements of a `Verify` on " + d.name, goal: goal{counted, 1}, got: exactly(statements), unit: "statements",
			},
		}, err
	})
}

// selectByHand looks the same keys up without the library.
func (t *tables) selectByHand(ctx context.Context) (side, error) {
	digests, err := t.digests(ctx)
	if err != nil {
		return side{}, err
	}
	stmt, err := t.db.PrepareContext(ctx, t.text("SELECT r.tenant, r.id, r.body, r.seal FROM keycote_digests d"+
		" JOIN keycote_records r ON r.tenant = d.tenant AND r.id = d.id WHERE d.digest = ?"))
	if err != nil {
		return side{}, err
	}
	next := inTurn(len(digests))
	return side{name: "SELECT", run: func() error {
		var tenant, id string
		var body, seal []byte
		return stmt.QueryRowContext(ctx, digests[next()]).Scan(&tenant, &id, &body, &seal)
	}}, nil
}

func (t *tables) digests(ctx context.Context) (digests [][]byte, err error) {
	rows, err := t.db.QueryContext(ctx, t.text("SELECT digest FROM keycote_digests"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var digest []byte
		if err := rows.Scan(&digest); err != nil {
			return nil, err
		}
		digests = append(digests, digest)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(digests) == 0 {
		return nil, sql.ErrNoRows
	}
	return digests, nil
}

// statementsOfVerify counts what one Verify asks the driver for.
func (t *tables) statementsOfVerify(ctx context.Context, k keycote.KEK, token string) (n int64, err error) {
	db, count := t.counting()
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := sqlstore.New(ctx, db, t.dialect)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m, err := keycote.New(ctx, store, k, nil)
	if err != nil {
		return 0, err
	}
	before := count.Load()
	_, err = m.Verify(ctx, token, request())
	return count.Load() - before, err
}
