package storetest

import (
	"bytes"
	"slices"

	"github.com/keycote/keycote"
)

// naive is a Store without any index: lists that are searched from end to end and sorted for each answer. It says what
// is right in another way than memstore does: it applies a Batch to a copy of everything and looks afterwards at what
// came out.
type naive struct {
	records []keycote.Record
	items   []keycote.Item
	events  []keycote.EventRecord
	uses    []keycote.UseCount
	totals  []keycote.UseCount
	changes []keycote.Change
	batches []string
}

// commit applies b, or returns what a Store may answer instead.
func (n *naive) commit(b keycote.Batch) []error {
	if slices.Contains(n.batches, b.ID) {
		return nil
	}
	next := naive{
		records: slices.Clone(
			n.records,
		), items: slices.Clone(n.items), events: slices.Clone(n.events), uses: slices.Clone(n.uses),
		totals: slices.Clone(n.totals), changes: n.changes, batches: append(n.batches, b.ID),
	}
	faults := next.write(b)
	if len(faults) == 0 {
		faults = next.clashes()
	}
	if len(faults) == 0 {
		*n = next
	}
	return faults
}

func (n *naive) write(b keycote.Batch) (faults []error) {
	for _, ref := range b.Expect {
		if n.itemRevision(ref.Tenant, ref.Space, ref.Name) != ref.Revision {
			faults = append(faults, keycote.ErrConflict)
		}
	}
	for _, ref := range b.Delete {
		switch i := n.index(ref.Tenant, ref.ID); {
		case i < 0:
			faults = append(faults, keycote.ErrNotFound)
		case n.records[i].Revision != ref.Revision:
			faults = append(faults, keycote.ErrConflict)
		default:
			n.changes = append(n.changes, keycote.Change{
				Tenant: ref.Tenant, ID: ref.ID, Revision: ref.Revision + 1, Digests: n.records[i].Digests,
			})
			n.records = slices.Delete(n.records, i, i+1)
			n.totals = slices.DeleteFunc(
				n.totals,
				func(u keycote.UseCount) bool { return u.Tenant == ref.Tenant && u.KeyID == ref.ID },
			)
		}
	}
	for _, r := range b.Update {
		switch i := n.index(r.Tenant, r.ID); {
		case i < 0:
			faults = append(faults, keycote.ErrNotFound)
		case n.records[i].Revision != r.Revision-1:
			faults = append(faults, keycote.ErrConflict)
		default:
			n.changes = append(n.changes, keycote.Change{
				Tenant: r.Tenant, ID: r.ID, Revision: r.Revision, Digests: slices.Concat(n.records[i].Digests, r.Digests),
			})
			n.records[i] = asKept(r)
		}
	}
	for _, r := range b.Insert {
		if n.index(r.Tenant, r.ID) >= 0 {
			faults = append(faults, keycote.ErrConflict)
			continue
		}
		n.changes = append(n.changes, keycote.Change{Tenant: r.Tenant, ID: r.ID, Revision: r.Revision, Digests: r.Digests})
		n.records = append(n.records, asKept(r))
	}
	for _, i := range b.Items {
		if n.itemRevision(i.Tenant, i.Space, i.Name) != i.Revision-1 {
			faults = append(faults, keycote.ErrConflict)
			continue
		}
		n.changes = append(n.changes, keycote.Change{Tenant: i.Tenant, Space: i.Space, Revision: i.Revision})
		n.items = slices.DeleteFunc(n.items, func(old keycote.Item) bool {
			return old.Tenant == i.Tenant && old.Space == i.Space && old.Name == i.Name
		})
		if len(i.Body) > 0 {
			n.items = append(n.items, i)
		}
	}
	for _, e := range b.Events {
		if slices.ContainsFunc(n.events, func(old keycote.EventRecord) bool { return old.ID == e.ID }) {
			faults = append(faults, keycote.ErrConflict)
		}
		n.events = append(n.events, e)
	}
	for _, r := range b.Redact {
		for i, e := range n.events {
			if e.Tenant == r.Tenant && e.ID == r.ID {
				n.events[i].Actor, n.events[i].Personal = r.Actor, r.Personal
			}
		}
	}
	for _, u := range b.Uses {
		n.uses = add(n.uses, u)
		if u.Outcome == "" && u.KeyID != "" {
			n.totals = add(n.totals, keycote.UseCount{
				Tenant: u.Tenant, KeyID: u.KeyID, Version: u.Version, N: u.N, First: u.First, Last: u.Last,
			})
		}
	}
	for _, p := range b.Prune {
		n.prune(p)
	}
	return faults
}

// clashes looks for names and digests that two records have.
func (n *naive) clashes() []error {
	var names, secrets []error
	for i, r := range n.records {
		for _, other := range n.records[:i] {
			if r.Name != "" && r.Tenant == other.Tenant && r.Kind == other.Kind && r.Name == other.Name {
				names = []error{keycote.Violation{Field: "name", Code: keycote.ErrExists}}
			}
			for _, d := range r.Digests {
				if slices.ContainsFunc(other.Digests, func(o []byte) bool { return bytes.Equal(o, d) }) {
					secrets = []error{keycote.Violation{Field: "secret", Code: keycote.ErrExists}}
				}
			}
		}
	}
	if names != nil {
		return names
	}
	return secrets
}

func (n *naive) index(tenant, id string) int {
	return slices.IndexFunc(n.records, func(r keycote.Record) bool { return r.Tenant == tenant && r.ID == id })
}

func (n *naive) itemRevision(tenant, space, name string) int64 {
	for _, i := range n.items {
		if i.Tenant == tenant && i.Space == space && i.Name == name {
			return i.Revision
		}
	}
	return 0
}

func add(rows []keycote.UseCount, u keycote.UseCount) []keycote.UseCount {
	for i, old := range rows {
		if byUse(old, u) == 0 {
			rows[i].N += u.N
			if u.First.Before(old.First) {
				rows[i].First = u.First
			}
			if u.Last.After(old.Last) {
				rows[i].Last = u.Last
			}
			return rows
		}
	}
	return append(rows, u)
}

func (n *naive) prune(p keycote.Prune) {
	slices.SortStableFunc(n.events, func(x, y keycote.EventRecord) int { return x.At.Compare(y.At) })
	slices.SortStableFunc(n.uses, func(x, y keycote.UseCount) int { return x.Window.Compare(y.Window) })
	left := p.Limit
	n.events = slices.DeleteFunc(n.events, func(e keycote.EventRecord) bool {
		goes := left > 0 && e.At.Before(p.EventsBefore) && (p.AllTenants || e.Tenant == p.Tenant)
		if goes {
			left--
		}
		return goes
	})
	left = p.Limit
	n.uses = slices.DeleteFunc(n.uses, func(u keycote.UseCount) bool {
		goes := left > 0 && u.Window.Before(p.UsesBefore) && (p.AllTenants || u.Tenant == p.Tenant)
		if goes {
			left--
		}
		return goes
	})
}

// all is what dump must find.
func (n *naive) all() contents {
	c := contents{
		Items:  orNil(slices.Clone(n.items)),
		Events: orNil(slices.Clone(n.events)),
		Uses:   orNil(slices.Clone(n.uses)),
	}
	for _, r := range n.records {
		for _, u := range n.totals {
			if u.Tenant == r.Tenant && u.KeyID == r.ID {
				r.Uses = append(r.Uses, u)
			}
		}
		slices.SortFunc(r.Uses, func(x, y keycote.UseCount) int { return x.Version - y.Version })
		c.Records = append(c.Records, r)
	}
	slices.SortFunc(c.Records, byRecord)
	slices.SortFunc(c.Items, func(x, y keycote.Item) int {
		return bytes.Compare([]byte(x.Tenant+"\x00"+x.Name+"\x00"+x.Space), []byte(y.Tenant+"\x00"+y.Name+"\x00"+y.Space))
	})
	slices.SortFunc(c.Events, func(x, y keycote.EventRecord) int { return bytes.Compare([]byte(x.ID), []byte(y.ID)) })
	slices.SortFunc(c.Uses, byUse)
	return c
}

func (n *naive) lookup(digests [][]byte) (keycote.Record, error) {
	var found []keycote.Record
	for _, r := range n.records {
		if slices.ContainsFunc(r.Digests, func(d []byte) bool {
			return slices.ContainsFunc(digests, func(asked []byte) bool { return bytes.Equal(asked, d) })
		}) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return keycote.Record{}, keycote.ErrNotFound
	case 1:
		return found[0], nil
	}
	return keycote.Record{}, keycote.ErrConflict
}
