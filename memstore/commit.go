package memstore

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/keycote/keycote"
)

// Commit applies b whole or not at all: it judges everything first, and changes something only when nothing is left
// that could fail. It answers a [keycote.Violation] with [keycote.ErrExists], [keycote.ErrConflict] and
// [keycote.ErrNotFound] as [keycote.Store] says, [keycote.ErrInvalid] for a digest that has not 24 bytes, and ctx's
// error when ctx has ended.
func (s *Store) Commit(ctx context.Context, b keycote.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.batches.knows(b.ID) {
		return nil
	}
	edits, err := s.edits(b)
	if err != nil {
		return err
	}
	for _, judge := range []func() error{
		func() error { return s.judgeItems(b) },
		func() error { return s.judgeEvents(b) },
		func() error { return s.judgeNames(edits) },
		func() error { return s.judgeDigests(edits) },
	} {
		if err := judge(); err != nil {
			return err
		}
	}
	s.batches.keep(b.ID)
	s.applyEdits(edits)
	s.applyItems(b.Items)
	s.applyEvents(b)
	for _, u := range b.Uses {
		s.count(u)
	}
	for _, p := range b.Prune {
		s.prune(p)
	}
	return nil
}

// edit is what a Batch does to one record: old is nil for an insert, new for a delete.
type edit struct{ old, new *keycote.Record }

// edits holds what b wants against the records that are there.
func (s *Store) edits(b keycote.Batch) (map[recordID]edit, error) {
	edits := make(map[recordID]edit, len(b.Insert)+len(b.Update)+len(b.Delete))
	for _, r := range b.Insert {
		id, old := recordID{r.Tenant, r.ID}, s.record(r.Tenant, r.ID)
		if _, twice := edits[id]; twice || old != nil {
			return nil, keycote.ErrConflict
		}
		edits[id] = edit{nil, keptRecord(r)}
	}
	change := func(tenant, id string, revision int64, new *keycote.Record) error {
		old := s.record(tenant, id)
		_, twice := edits[recordID{tenant, id}]
		switch {
		case twice:
			return keycote.ErrConflict
		case old == nil:
			return keycote.ErrNotFound
		case old.Revision != revision:
			return keycote.ErrConflict
		}
		edits[recordID{tenant, id}] = edit{old, new}
		return nil
	}
	for _, r := range b.Update {
		if err := change(r.Tenant, r.ID, r.Revision-1, keptRecord(r)); err != nil {
			return nil, err
		}
	}
	for _, ref := range b.Delete {
		if err := change(ref.Tenant, ref.ID, ref.Revision, nil); err != nil {
			return nil, err
		}
	}
	return edits, nil
}

// keptRecord is r as the Store keeps it: its own, times in UTC, counts apart.
func keptRecord(r keycote.Record) *keycote.Record {
	r = unshared(r)
	r.CreatedAt, r.ExpiresAt, r.RotatedAt = r.CreatedAt.UTC(), r.ExpiresAt.UTC(), r.RotatedAt.UTC()
	r.Uses = nil
	return &r
}

func (s *Store) judgeItems(b keycote.Batch) error {
	for _, ref := range b.Expect {
		if s.itemRevision(ref.Tenant, ref.Space, ref.Name) != ref.Revision {
			return keycote.ErrConflict
		}
	}
	type itemID struct{ tenant, space, name string }
	named := map[itemID]bool{}
	for _, i := range b.Items {
		id := itemID{i.Tenant, i.Space, i.Name}
		if named[id] || i.Revision < 1 || s.itemRevision(i.Tenant, i.Space, i.Name) != i.Revision-1 {
			return keycote.ErrConflict
		}
		named[id] = true
	}
	return nil
}

// itemRevision is 0 for an item that is absent.
func (s *Store) itemRevision(tenant, space, name string) int64 {
	if i := find(s.items, &keycote.Item{Tenant: tenant, Space: space, Name: name}, byItem); i != nil {
		return i.Revision
	}
	return 0
}

func (s *Store) judgeEvents(b keycote.Batch) error {
	named := map[string]bool{}
	for _, e := range b.Events {
		if named[e.ID] || find(s.events, &e, byEventID) != nil {
			return keycote.ErrConflict
		}
		named[e.ID] = true
	}
	return nil
}

// judgeNames and judgeDigests look at the state after the Batch: what a record has that the Batch changes is free, and
// what two of the Batch's records want is taken.
func (s *Store) judgeNames(edits map[recordID]edit) error {
	wanted := map[name]bool{}
	for _, e := range edits {
		if e.new == nil || e.new.Name == "" {
			continue
		}
		n := nameOf(e.new)
		if wanted[n] || s.stays(edits, s.names[n]) {
			return keycote.Violation{Field: "name", Code: keycote.ErrExists}
		}
		wanted[n] = true
	}
	return nil
}

func (s *Store) judgeDigests(edits map[recordID]edit) error {
	wanted := map[digest]*keycote.Record{}
	for _, e := range edits {
		if e.new == nil {
			continue
		}
		for _, d := range e.new.Digests {
			if len(d) != len(digest{}) {
				return keycote.ErrInvalid
			}
			if other := wanted[digest(d)]; other != nil && other != e.new || s.stays(edits, s.digests[digest(d)]) {
				return keycote.Violation{Field: "secret", Code: keycote.ErrExists}
			}
			wanted[digest(d)] = e.new
		}
	}
	return nil
}

// stays reports whether holder is a record that the Batch leaves as it is.
func (s *Store) stays(edits map[recordID]edit, holder *keycote.Record) bool {
	if holder == nil {
		return false
	}
	_, changed := edits[recordID{holder.Tenant, holder.ID}]
	return !changed
}

func nameOf(r *keycote.Record) name { return name{r.Tenant, r.Kind, r.Name} }

// applyEdits takes all old names and digests away before it gives out the new ones, so that they can change hands.
func (s *Store) applyEdits(edits map[recordID]edit) {
	if s.digests == nil {
		s.digests, s.names = map[digest]*keycote.Record{}, map[name]*keycote.Record{}
	}
	for _, e := range edits {
		if e.old != nil {
			delete(s.names, nameOf(e.old))
			for _, d := range e.old.Digests {
				delete(s.digests, digest(d))
			}
		}
	}
	inOrder := func(a, b recordID) int { return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.id, b.id)) }
	for _, id := range slices.SortedFunc(maps.Keys(edits), inOrder) {
		e := edits[id]
		s.feed.add(e.change(id))
		if e.new == nil {
			s.records = drop(s.records, e.old, byRecordID)
			delete(s.totals, id)
			continue
		}
		s.records = put(s.records, e.new, byRecordID)
		if e.new.Name != "" {
			s.names[nameOf(e.new)] = e.new
		}
		for _, d := range e.new.Digests {
			s.digests[digest(d)] = e.new
		}
	}
}

func (e edit) change(id recordID) keycote.Change {
	c := keycote.Change{Tenant: id.tenant, ID: id.id}
	if e.old != nil {
		c.Revision, c.Digests = e.old.Revision+1, slices.Clone(e.old.Digests)
	}
	if e.new != nil {
		c.Revision = e.new.Revision
		for _, d := range e.new.Digests {
			if !slices.ContainsFunc(c.Digests, func(old []byte) bool { return bytes.Equal(old, d) }) {
				c.Digests = append(c.Digests, d)
			}
		}
	}
	return c
}

func (s *Store) applyItems(items []keycote.Item) {
	for _, i := range items {
		if len(i.Body) == 0 {
			s.items = drop(s.items, &i, byItem)
		} else {
			s.items = put(s.items, &i, byItem)
		}
		s.feed.add(keycote.Change{Tenant: i.Tenant, Space: i.Space, Revision: i.Revision})
	}
}

func (s *Store) applyEvents(b keycote.Batch) {
	for _, e := range b.Events {
		e := unsharedEvent(e)
		e.At = e.At.UTC()
		s.events = put(s.events, &e, byEventID)
	}
	for _, r := range b.Redact {
		if old := find(s.events, &r, byEventID); old != nil && old.Tenant == r.Tenant {
			e := *old
			e.Actor, e.Personal = r.Actor, slices.Clone(r.Personal)
			s.events = put(s.events, &e, byEventID)
		}
	}
}
