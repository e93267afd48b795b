package memstore

import (
	"cmp"
	"iter"
	"slices"
	"sort"

	"github.com/keycote/keycote"
)

func byRecordID(a, b *keycote.Record) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
}

func byTenantAndName(a, b *keycote.Item) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name))
}

func byItem(a, b *keycote.Item) int {
	return cmp.Or(byTenantAndName(a, b), cmp.Compare(a.Space, b.Space))
}

func byEventID(a, b *keycote.EventRecord) int { return cmp.Compare(a.ID, b.ID) }

func byUse(a, b *keycote.UseCount) int {
	return cmp.Or(a.Window.Compare(b.Window), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Route, b.Route),
		cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Tenant, b.Tenant))
}

// find returns the row that order calls equal to key, or nil.
func find[T any](rows []*T, key *T, order func(a, b *T) int) *T {
	if i, found := slices.BinarySearchFunc(rows, key, order); found {
		return rows[i]
	}
	return nil
}

// put places row where order wants it, instead of the one that it calls equal.
func put[T any](rows []*T, row *T, order func(a, b *T) int) []*T {
	i, found := slices.BinarySearchFunc(rows, row, order)
	if found {
		rows[i] = row
		return rows
	}
	return slices.Insert(rows, i, row)
}

// drop removes the row that order calls equal to key, if there is one.
func drop[T any](rows []*T, key *T, order func(a, b *T) int) []*T {
	i, found := slices.BinarySearchFunc(rows, key, order)
	if !found {
		return rows
	}
	return slices.Delete(rows, i, i+1)
}

// span returns the stretch of rows for which side answers 0: it is negative before and positive behind.
func span[T any](rows []*T, side func(*T) int) []*T {
	low := sort.Search(len(rows), func(i int) bool { return side(rows[i]) >= 0 })
	high := sort.Search(len(rows), func(i int) bool { return side(rows[i]) > 0 })
	return rows[low:high]
}

// beyond returns the rows strictly after from, or strictly before it when the walk goes backwards.
func beyond[T any](rows []*T, from *T, backwards bool, order func(a, b *T) int) []*T {
	if backwards {
		return rows[:sort.Search(len(rows), func(i int) bool { return order(rows[i], from) >= 0 })]
	}
	return rows[sort.Search(len(rows), func(i int) bool { return order(rows[i], from) > 0 }):]
}

func walk[T any](rows []*T, backwards bool) iter.Seq[*T] {
	if !backwards {
		return slices.Values(rows)
	}
	return func(yield func(*T) bool) {
		for _, row := range slices.Backward(rows) {
			if !yield(row) {
				return
			}
		}
	}
}
