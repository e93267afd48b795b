package sqlstore

import (
	"bytes"
	"cmp"
	"database/sql"
	"maps"
	"slices"

	"github.com/keycote/keycote"
)

type recordID struct{ tenant, id string }

func (a recordID) compare(b recordID) int {
	return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.id, b.id))
}

// edit is what a Batch does to one record.
type edit struct {
	recordID
	old, new *keycote.Record // nil: it was not there, or will not be
}

// records compares first and writes then: deletes and what updates give up before what they and inserts take, so that a
// name or a digest can move from one record to another within a Batch.
func (c *commit) records() error {
	edits, err := c.edits()
	if err != nil || len(edits) == 0 {
		return err
	}
	if err := c.namesFree(edits); err != nil {
		return err
	}
	if err := c.digestsFree(edits); err != nil {
		return err
	}
	for _, e := range edits {
		if err := c.giveUp(e, len(edits) > 1); err != nil {
			return err
		}
	}
	for _, e := range edits {
		if err := c.put(e); err != nil {
			return err
		}
		c.changes = append(c.changes, e.change())
	}
	return nil
}

// edits reads what is there and holds it against what the Batch expects, in the order of (tenant, id).
func (c *commit) edits() ([]*edit, error) {
	byID := map[recordID]*edit{}
	deleted := map[recordID]int64{}
	add := func(tenant, id string) (*edit, error) {
		e := &edit{recordID: recordID{tenant, id}}
		if byID[e.recordID] != nil {
			return nil, keycote.ErrConflict // two changes of one record: both cannot be the next revision
		}
		byID[e.recordID] = e
		return e, nil
	}
	for _, ref := range c.b.Delete {
		e, err := add(ref.Tenant, ref.ID)
		if err != nil {
			return nil, err
		}
		deleted[e.recordID] = ref.Revision
	}
	for _, list := range [][]keycote.Record{c.b.Insert, c.b.Update} {
		for i := range list {
			e, err := add(list[i].Tenant, list[i].ID)
			if err != nil {
				return nil, err
			}
			e.new = &list[i]
		}
	}
	inserted := make(map[recordID]bool, len(c.b.Insert))
	for _, r := range c.b.Insert {
		inserted[recordID{r.Tenant, r.ID}] = true
	}
	edits := slices.SortedFunc(maps.Values(byID), func(a, b *edit) int { return a.compare(b.recordID) })
	for _, e := range edits {
		if err := c.load(e); err != nil {
			return nil, err
		}
		switch expected, gone := deleted[e.recordID]; {
		case inserted[e.recordID]:
			if e.old != nil {
				return nil, keycote.ErrConflict
			}
		case e.old == nil:
			return nil, keycote.ErrNotFound
		case gone && e.old.Revision != expected, !gone && e.old.Revision != e.new.Revision-1:
			return nil, keycote.ErrConflict
		}
	}
	return edits, nil
}

func (c *commit) load(e *edit) error {
	return c.query(c.ctx, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		e.old = &r
		return err
	}, getStatement(c.d)+c.d.lock, e.tenant, e.id)
}

func taken(field string) error { return keycote.Violation{Field: field, Code: keycote.ErrExists} }

// stays says whether the holder of a name or digest goes on having it. One that the Batch changes gives it up, and what
// it has afterwards is compared within the Batch.
func stays(edits []*edit, holder recordID) bool {
	_, changed := slices.BinarySearchFunc(edits, holder, func(e *edit, id recordID) int { return e.compare(id) })
	return !changed
}

func (c *commit) namesFree(edits []*edit) error {
	type name struct {
		tenant string
		kind   keycote.Kind
		name   string
	}
	mine := map[name]bool{}
	for _, e := range edits {
		if e.new == nil || e.new.Name == "" {
			continue
		}
		n := name{e.tenant, e.new.Kind, e.new.Name}
		if mine[n] {
			return taken("name")
		}
		mine[n] = true
		holder := recordID{tenant: e.tenant}
		found, err := c.one(c.ctx, []any{&holder.id},
			"SELECT id FROM keycote_records WHERE tenant = ? AND kind = ? AND name = ?"+c.d.lock, n.tenant, string(n.kind), n.name)
		if err != nil {
			return err
		}
		if found && stays(edits, holder) {
			return taken("name")
		}
	}
	return nil
}

func (c *commit) digestsFree(edits []*edit) error {
	mine := map[string]recordID{}
	for _, e := range edits {
		if e.new == nil {
			continue
		}
		for _, digest := range e.new.Digests {
			if other, there := mine[string(digest)]; there && other != e.recordID {
				return taken("secret")
			}
			mine[string(digest)] = e.recordID
			var holder recordID
			found, err := c.one(c.ctx, []any{&holder.tenant, &holder.id},
				"SELECT tenant, id FROM keycote_digests WHERE digest = ?"+c.d.lock, digest)
			if err != nil {
				return err
			}
			if found && stays(edits, holder) {
				return taken("secret")
			}
		}
	}
	return nil
}

func (e *edit) sameDigests() bool {
	return e.old != nil && e.new != nil && slices.EqualFunc(e.old.Digests, e.new.Digests, bytes.Equal)
}

func (e *edit) sameLabels() bool {
	return e.old != nil && e.new != nil && maps.Equal(e.old.Labels, e.new.Labels)
}

// giveUp removes what the record will not have any more. others: the Batch has further records, one of which may take
// the name.
func (c *commit) giveUp(e *edit, others bool) error {
	if e.old == nil {
		return nil
	}
	const ofRecord = " WHERE tenant = ? AND id = ?"
	if len(e.old.Digests) > 0 && !e.sameDigests() {
		if err := c.run("DELETE FROM keycote_digests"+ofRecord, e.tenant, e.id); err != nil {
			return err
		}
	}
	if len(e.old.Labels) > 0 && !e.sameLabels() {
		if err := c.run("DELETE FROM keycote_labels"+ofRecord, e.tenant, e.id); err != nil {
			return err
		}
	}
	if e.new == nil {
		if err := c.run("DELETE FROM keycote_totals"+ofRecord, e.tenant, e.id); err != nil {
			return err
		}
		return c.run("DELETE FROM keycote_records"+ofRecord, e.tenant, e.id)
	}
	if others && e.old.Name != "" && (e.old.Name != e.new.Name || e.old.Kind != e.new.Kind) {
		return c.run("UPDATE keycote_records SET name = NULL"+ofRecord, e.tenant, e.id)
	}
	return nil
}

func (c *commit) put(e *edit) error {
	r := e.new
	if r == nil {
		return nil
	}
	values := []any{
		string(r.Kind), named(r.Name), r.App, r.Owner, string(r.State), r.Search,
		micros(r.CreatedAt), never(r.ExpiresAt), micros(r.RotatedAt), r.Revision, r.Body, r.Seal, r.Tenant, r.ID,
	}
	statement := "UPDATE keycote_records SET kind = ?, name = ?, app = ?, owner = ?, state = ?, search = ?, created_at = ?, " +
		"expires_at = ?, rotated_at = ?, revision = ?, body = ?, seal = ? WHERE tenant = ? AND id = ?"
	if e.old == nil {
		statement = "INSERT INTO keycote_records (kind, name, app, owner, state, search, created_at, expires_at, rotated_at, " +
			"revision, body, seal, tenant, id) VALUES (" + marks(len(values)) + ")"
	}
	if err := c.run(statement, values...); err != nil {
		return err
	}
	if !e.sameDigests() {
		for i, digest := range unique(r.Digests) {
			err := c.run("INSERT INTO keycote_digests (digest, tenant, id, place) VALUES (?, ?, ?, ?)", digest, r.Tenant, r.ID, i)
			if err != nil {
				return err
			}
		}
	}
	if !e.sameLabels() {
		for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
			err := c.run("INSERT INTO keycote_labels (tenant, id, label, value) VALUES (?, ?, ?, ?)",
				r.Tenant, r.ID, label, r.Labels[label])
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// change is the feed's entry: its digests are those of before and after.
func (e *edit) change() keycote.Change {
	ch := keycote.Change{Tenant: e.tenant, ID: e.id}
	if e.old != nil {
		ch.Revision, ch.Digests = e.old.Revision+1, e.old.Digests
	}
	if e.new != nil {
		ch.Revision = e.new.Revision
		ch.Digests = slices.Concat(ch.Digests, e.new.Digests)
	}
	ch.Digests = unique(ch.Digests)
	return ch
}

// unique returns digests in their order, each once.
func unique(digests [][]byte) [][]byte {
	seen := make(map[string]bool, len(digests))
	out := make([][]byte, 0, len(digests))
	for _, d := range digests {
		if !seen[string(d)] {
			seen[string(d)] = true
			out = append(out, d)
		}
	}
	return out
}
