package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/keycote/keycote"
)

const pageSize = 50

// pages is F8: a page far into a tenant's keys beside the first page.
func pages(ctx context.Context, l *lab) ([]line, error) {
	return l.eachDatabase(ctx, func(ctx context.Context, d *database) ([]line, error) {
		t, err := d.newTables(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = t.store.Close() }()
		if err := t.fill(ctx, l.position+pageSize); err != nil {
			return nil, err
		}
		page := func(name, after string) side {
			return side{name: name, run: func() error {
				records, err := t.store.List(ctx, keycote.Query{Tenant: crowded, After: after, Limit: pageSize, Now: epoch})
				if err == nil && len(records) != pageSize {
					err = fmt.Errorf("a page of %d records", len(records))
				}
				return err
			}}
		}
		timings, err := interleave(l.rounds, l.slice, page("first", ""), page("far", filledID(l.position-1)))
		if err != nil {
			return nil, err
		}
		return []line{{
			what: "page at a far position on " + d.name, limit: "page at position 0", goal: goal{atMost, 2},
			got: times(timings[1], timings[0]), unit: unitTimes,
			note: "position " + number(float64(l.position)) + "; " + took(timings[1]) + " to " + took(timings[0]),
		}}, nil
	})
}

// crowded is the tenant of the filled rows.
const crowded = "crowded"

// epoch is when they were made.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func filledID(i int) string { return fmt.Sprintf("key_%026d", i) }

// fill inserts n records, of the size that records have, through the Store. A Store does not look into a body, so
// nothing is sealed.
func (t *tables) fill(ctx context.Context, n int) error {
	const perBatch = 1_000
	body, seal := make([]byte, 250), make([]byte, 37)
	for from := 0; from < n; from += perBatch {
		batch := keycote.Batch{ID: fmt.Sprintf("%sfill-%d", t.prefix, from)}
		for i := from; i < min(from+perBatch, n); i++ {
			digest := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(t.prefix), uint64(i)))
			name := fmt.Sprintf("key %d", i)
			batch.Insert = append(batch.Insert, keycote.Record{
				Tenant: crowded, ID: filledID(i), Kind: keycote.KindAccess, Name: name, Digests: [][]byte{digest[:24]},
				App: "shop", Owner: "ana", State: keycote.StateActive, Search: name + "\nshop\nkc_…abcd", CreatedAt: epoch,
				RotatedAt: epoch, Revision: 1, Body: body, Seal: seal,
			})
		}
		if err := t.store.Commit(ctx, batch); err != nil {
			return err
		}
	}
	if t.driver != "pgx" {
		return nil
	}
	_, err := t.db.ExecContext(ctx, t.text("ANALYZE keycote_records")) // as the server does by itself a little later
	return err
}
