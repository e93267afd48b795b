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
	judged   bool            // the Batch has a change of this record that may be
}

// compare reads what is there, in the order of (tenant, id), and holds it against what the Batch expects.
func (c *commit) compare() error {
	byID := map[recordID]*edit{}
	at := func(tenant, id string) *edit {
		e := byID[recordID{tenant, id}]
		if e == nil {
			e = &edit{recordID: recordID{tenant, id}}
			byID[e.recordID] = e
		}
		return e
	}
	for _, list := range [][]keycote.Record{c.b.Insert, c.b.Update} {
		for i := range list {
			at(list[i].Tenant, list[i].ID).new = &list[i]
		}
	}
	for _, ref := range c.b.Delete {
		at(ref.Tenant, ref.ID)
	}
	c.edits = slices.SortedFunc(maps.Values(byID), func(a, b *edit) int { return a.compare(b.recordID) })
	for _, e := range c.edits {
		if err := c.load(e); err != nil {
			return err
		}
	}
	for _, r := range c.b.Insert {
		e := at(r.Tenant, r.ID)
		if e.judged || e.old != nil {
			return keycote.ErrConflict
		}
		e.judged = true
	}
	for _, r := range c.b.Update {
		if err := at(r.Tenant, r.ID).follows(r.Revision - 1); err != nil {
			return err
		}
	}
	for _, ref := range c.b.Delete {
		if err := at(ref.Tenant, ref.ID).follows(ref.Revision); err != nil {
			return err
		}
	}
	return nil
}

// follows says whether the change may take the place of revision.
func (e *edit) follows(revision int64) error {
	switch {
	case e.judged: // of two changes of one record both cannot be the next
		return keycote.ErrConflict
	case e.old == nil:
		return keycote.ErrNotFound
	case e.old.Revision != revision:
		return keycote.ErrConflict
	}
	e.judged = true
	return nil
}

// records looks for names and digests that are taken, and writes: deletes and what updates give up go before what they
// and inserts take, so that a name or a digest can move from one record to another within a Batch.
func (c *commit) records() error {
	if err := c.namesFree(); err != nil {
		return err
	}
	if err := c.digestsFree(); err != nil {
		return err
	}
	for _, e := range c.edits {
		if err := c.giveUp(e); err != nil {
			return err
		}
	}
	for _, e := range c.edits {
		if err := c.put(e); err != nil {
			return err
		}
	}
	return nil
}

func (c *commit) load(e *edit) error {
	return c.query(c.ctx, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		e.old = &r
		return err
	}, lockStatement(c.d), e.tenant, e.id)
}

const digestSize = 24 // the digest is bytes 8 to 32 of a PRF's output

func taken(field string) error { return keycote.Violation{Field: field, Code: keycote.ErrExists} }

// stays says whether the holder of a name or digest goes on having it. One that the Batch changes gives it up, and what
// it has afterwards is compared within the Batch.
func (c *commit) stays(holder recordID) bool {
	_, changed := slices.BinarySearchFunc(c.edits, holder, func(e *edit, id recordID) int { return e.compare(id) })
	return !changed
}

func (c *commit) namesFree() error {
	type name struct {
		tenant string
		kind   keycote.Kind
		name   string
	}
	mine := map[name]bool{}
	for _, e := range c.edits {
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
			"SELECT id FROM keycote_records WHERE tenant = ? AND kind = ? AND name = ?"+c.d.lock,
			n.tenant, string(n.kind), n.name)
		if err != nil {
			return err
		}
		if found && c.stays(holder) {
			return taken("name")
		}
	}
	return nil
}

func (c *commit) digestsFree() error {
	mine := map[string]recordID{}
	for _, e := range c.edits {
		if e.new == nil {
			continue
		}
		for _, digest := range e.new.Digests {
			if len(digest) != digestSize {
				return keycote.ErrInvalid
			}
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
			if found && c.stays(holder) {
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

// giveUp removes what the record will not have any more; of its name only where another record may take it.
func (c *commit) giveUp(e *edit) error {
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
	if len(c.edits) > 1 && e.old.Name != "" && (e.old.Name != e.new.Name || e.old.Kind != e.new.Kind) {
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
	statement := "UPDATE keycote_records SET kind = ?, name = ?, app = ?, owner = ?, state = ?, search = ?, " +
		"created_at = ?, expires_at = ?, rotated_at = ?, revision = ?, body = ?, seal = ? WHERE tenant = ? AND id = ?"
	if e.old == nil {
		statement = "INSERT INTO keycote_records (kind, name, app, owner, state, search, created_at, expires_at, " +
			"rotated_at, revision, body, seal, tenant, id) VALUES (" + marks(len(values)) + ")"
	}
	if err := c.run(statement, values...); err != nil {
		return err
	}
	if !e.sameDigests() {
		var rows [][]any
		for i, digest := range unique(r.Digests) {
			rows = append(rows, []any{digest, r.Tenant, r.ID, i})
		}
		columns := []string{"digest", "tenant", "id", "place"}
		if err := c.insert(c.ctx, "keycote_digests", columns, parameters(len(columns)), rows, ""); err != nil {
			return err
		}
	}
	if !e.sameLabels() {
		var rows [][]any
		for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
			rows = append(rows, []any{r.Tenant, r.ID, label, r.Labels[label]})
		}
		columns := []string{"tenant", "id", "label", "value"}
		return c.insert(c.ctx, "keycote_labels", columns, parameters(len(columns)), rows, "")
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
