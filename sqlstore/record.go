package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/keycote/keycote"
)

// recordColumns is everything of a record r, with the rows that belong to it packed into columns. One statement sees
// one state of the database whatever the isolation is; with a statement for each table a record could be read with the
// digests of its next revision, and would then look as if it had been tampered with.
func recordColumns(d *dialect, lock string) string {
	of := func(table, packed string) string {
		return ", (SELECT " + packed + " FROM " + table + " t WHERE t.tenant = r.tenant AND t.id = r.id" + lock + ")"
	}
	return d.packing + "r.tenant, r.id, r.kind, r.name, r.app, r.owner, r.state, r.search, " +
		"r.created_at, r.expires_at, r.rotated_at, r.revision, r.body, r.seal" +
		of("keycote_digests", d.pack("t.place", d.hex("t.digest"))) +
		of("keycote_labels", d.pack(d.hexText("t.label"), d.hexText("t.value"))) +
		of("keycote_totals", d.pack("t.version", "t.n", "t.first_at", "t.last_at"))
}

func scanRecord(rows *sql.Rows) (keycote.Record, error) {
	var r keycote.Record
	var name, digests, labels, totals sql.NullString
	var created, rotated, revision loose
	var expires looseOrNull
	err := rows.Scan(&r.Tenant, &r.ID, &r.Kind, &name, &r.App, &r.Owner, &r.State, &r.Search,
		&created, &expires, &rotated, &revision, &r.Body, &r.Seal, &digests, &labels, &totals)
	if err != nil {
		return keycote.Record{}, err
	}
	r.Name, r.Revision = name.String, int64(revision)
	r.CreatedAt, r.RotatedAt = timeOf(int64(created)), timeOf(int64(rotated))
	if expires.valid {
		r.ExpiresAt = timeOf(int64(expires.n))
	}
	// What of these cannot be read becomes what no record has; totals are under no seal, and are left out.
	if r.Digests, err = unpackDigests(digests); err != nil {
		r.Digests = [][]byte{{}}
	}
	if r.Labels, err = unpackLabels(labels); err != nil {
		r.Labels = map[string]string{"": ""}
	}
	r.Uses, _ = unpackTotals(totals, r.Tenant, r.ID)
	return r, nil
}

func unpackDigests(packed sql.NullString) ([][]byte, error) {
	rows, err := unpack(packed, 2)
	if err != nil || rows == nil {
		return nil, err
	}
	type digest struct {
		place int64
		bytes []byte
	}
	all := make([]digest, len(rows))
	for i, row := range rows {
		place, err := numbers(row[:1])
		if err != nil {
			return nil, err
		}
		if all[i].bytes, err = unhex(row[1]); err != nil {
			return nil, err
		}
		all[i].place = place[0]
	}
	slices.SortFunc(all, func(a, b digest) int {
		return cmp.Or(cmp.Compare(a.place, b.place), bytes.Compare(a.bytes, b.bytes))
	})
	out := make([][]byte, len(all))
	for i, d := range all {
		out[i] = d.bytes
	}
	return out, nil
}

func unpackLabels(packed sql.NullString) (map[string]string, error) {
	rows, err := unpack(packed, 2)
	if err != nil || rows == nil {
		return nil, err
	}
	labels := make(map[string]string, len(rows))
	for _, row := range rows {
		label, err := unhex(row[0])
		if err != nil {
			return nil, err
		}
		value, err := unhex(row[1])
		if err != nil {
			return nil, err
		}
		labels[string(label)] = string(value)
	}
	return labels, nil
}

func unpackTotals(packed sql.NullString, tenant, id string) ([]keycote.UseCount, error) {
	rows, err := unpack(packed, 4)
	if err != nil || rows == nil {
		return nil, err
	}
	uses := make([]keycote.UseCount, len(rows))
	for i, row := range rows {
		n, err := numbers(row)
		if err != nil {
			return nil, err
		}
		uses[i] = keycote.UseCount{
			Tenant: tenant, KeyID: id, Version: int(n[0]), N: n[1], First: timeOf(n[2]), Last: timeOf(n[3]),
		}
	}
	slices.SortFunc(uses, func(a, b keycote.UseCount) int { return cmp.Compare(a.Version, b.Version) })
	return uses, nil
}

func getStatement(d *dialect) string {
	return "SELECT " + recordColumns(d, "") + oneRecord
}

// lockStatement reads what getStatement does, and locks the record.
func lockStatement(d *dialect) string {
	return "SELECT " + recordColumns(d, d.innerLock) + oneRecord + d.lock
}

const oneRecord = " FROM keycote_records r WHERE r.tenant = ? AND r.id = ?"

// Get returns one record, as it was at one moment, with its totals; [keycote.ErrNotFound].
func (s *Store) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	var found []keycote.Record
	err := s.read(ctx, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		found = append(found, r)
		return err
	}, s.get, s.getText, tenant, id)
	switch {
	case err != nil:
		return keycote.Record{}, err
	case len(found) == 0:
		return keycote.Record{}, keycote.ErrNotFound
	}
	return found[0], nil
}

// lookupStatement starts at the digests, so that the size of the store does not matter.
func lookupStatement(d *dialect, n int) string {
	return "SELECT r.tenant, r.id, r.body, r.seal FROM keycote_digests d" + d.leads + "keycote_records r" +
		" WHERE d.digest IN (" + marks(n) + ") AND r.tenant = d.tenant AND r.id = d.id"
}

// Lookup returns the one record that digests lead to, with Tenant, ID, Body and Seal alone. It is one statement,
// prepared for up to 8 digests. [keycote.ErrNotFound]; [keycote.ErrConflict] when they lead to two.
func (s *Store) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	if len(digests) == 0 {
		return keycote.Record{}, keycote.ErrNotFound
	}
	var prepared *sql.Stmt
	statement := ""
	if len(digests) <= maxPrepared {
		prepared = s.lookup[len(digests)-1]
	}
	if prepared == nil {
		statement = lookupStatement(s.d, len(digests))
	}
	args := make([]any, len(digests))
	for i, d := range digests {
		args[i] = d
	}
	var found keycote.Record
	n := 0
	err := s.read(ctx, func(rows *sql.Rows) error {
		var r keycote.Record
		if err := rows.Scan(&r.Tenant, &r.ID, &r.Body, &r.Seal); err != nil {
			return err
		}
		if n == 0 || r.Tenant != found.Tenant || r.ID != found.ID {
			found = r
			n++
		}
		return nil
	}, prepared, statement, args...)
	switch {
	case err != nil:
		return keycote.Record{}, err
	case n == 0:
		return keycote.Record{}, keycote.ErrNotFound
	case n > 1:
		return keycote.Record{}, keycote.ErrConflict
	}
	return found, nil
}
