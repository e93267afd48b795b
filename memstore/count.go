package memstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/keycote/keycote"
)

// count adds u to its row and, when it is a success of a key, to the total of the key's version.
func (s *Store) count(u keycote.UseCount) {
	u.Window, u.First, u.Last = u.Window.UTC(), u.First.UTC(), u.Last.UTC()
	row := u
	if old := find(s.uses, &u, byUse); old != nil {
		row = sum(*old, u)
	}
	s.uses = put(s.uses, &row, byUse)
	if u.Outcome != "" || u.KeyID == "" {
		return
	}
	if s.totals == nil {
		s.totals = map[recordID][]keycote.UseCount{}
	}
	id := recordID{u.Tenant, u.KeyID}
	total := keycote.UseCount{Tenant: u.Tenant, KeyID: u.KeyID, Version: u.Version, N: u.N, First: u.First, Last: u.Last}
	versions := s.totals[id]
	i, found := slices.BinarySearchFunc(
		versions,
		total,
		func(a, b keycote.UseCount) int { return cmp.Compare(a.Version, b.Version) },
	)
	if found {
		versions[i] = sum(versions[i], total)
	} else {
		versions = slices.Insert(versions, i, total)
	}
	s.totals[id] = versions
}

// sum is row and what came to it: N adds up, First and Last widen.
func sum(row, more keycote.UseCount) keycote.UseCount {
	row.N += more.N
	if more.First.Before(row.First) {
		row.First = more.First
	}
	if more.Last.After(row.Last) {
		row.Last = more.Last
	}
	return row
}

// prune lets go of the oldest events and use counts that p names. Totals stay.
func (s *Store) prune(p keycote.Prune) {
	s.events = without(
		s.events,
		p,
		p.EventsBefore,
		func(e *keycote.EventRecord) (string, time.Time) { return e.Tenant, e.At },
	)
	s.uses = without(s.uses, p, p.UsesBefore, func(u *keycote.UseCount) (string, time.Time) { return u.Tenant, u.Window })
}

func without[T any](rows []*T, p keycote.Prune, before time.Time, of func(*T) (string, time.Time)) []*T {
	var old []*T
	for _, row := range rows {
		if tenant, at := of(row); at.Before(before) && (p.AllTenants || tenant == p.Tenant) {
			old = append(old, row)
		}
	}
	slices.SortStableFunc(old, func(a, b *T) int {
		_, x := of(a)
		_, y := of(b)
		return x.Compare(y)
	})
	gone := map[*T]bool{}
	for _, row := range old[:min(len(old), max(p.Limit, 0))] {
		gone[row] = true
	}
	return slices.DeleteFunc(rows, func(row *T) bool { return gone[row] })
}
