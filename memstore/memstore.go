// Package memstore keeps keys in memory: for tests, for programs whose keys need not outlive them, and as the reference
// of what [keycote.Store] means. It is one mutex and a few sorted slices, made to be read; only Lookup is made to be
// fast.
//
// What it cannot do: it has no clock, so it counts where the contract says time. It remembers at least the last 250,000
// Batch IDs and the last 250,000 changes. A process that commits more than two Batches a second for a whole day, or 400
// changes a second for ten minutes, goes past what a Store promises. For a memory that means little: its Commit never
// has an unknown outcome, and a follower that fell behind is told so, with ErrNotFound.
package memstore

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/keycote/keycote"
)

// maxPage is the most that one call answers.
const maxPage = 1000

// Store is a [keycote.Store] in memory. The zero Store is empty and ready. It is safe for concurrent use, must not be
// copied, and starts no goroutine.
type Store struct {
	mu sync.RWMutex

	// What a slice points to is never changed, only replaced, so that an answer may be made of it.
	records []*keycote.Record      // by (Tenant, ID); without Uses
	items   []*keycote.Item        // by (Tenant, Name, Space)
	events  []*keycote.EventRecord // by ID
	uses    []*keycote.UseCount    // in the order of UsageQuery

	digests map[digest]*keycote.Record
	names   map[name]*keycote.Record
	totals  map[recordID][]keycote.UseCount // by version

	feed    feed
	batches memory
}

type (
	digest   [24]byte
	recordID struct{ tenant, id string }
	name     struct {
		tenant string
		kind   keycote.Kind
		name   string
	}
)

var _ keycote.Store = (*Store)(nil)

// New returns an empty Store.
func New() *Store { return &Store{} }

// Get returns the record of tenant and id, or [keycote.ErrNotFound].
func (s *Store) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	if err := ctx.Err(); err != nil {
		return keycote.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.record(tenant, id)
	if r == nil {
		return keycote.Record{}, keycote.ErrNotFound
	}
	return unshared(s.withUses(r)), nil
}

// Lookup returns Tenant, ID, Body and Seal of the record that holds any of digests. It allocates nothing. It answers
// [keycote.ErrNotFound] when there is none, and [keycote.ErrConflict] when there are two.
func (s *Store) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	if err := ctx.Err(); err != nil {
		return keycote.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found *keycote.Record
	for _, d := range digests {
		if len(d) != len(digest{}) {
			continue
		}
		switch r := s.digests[digest(d)]; {
		case r == nil || r == found:
		case found == nil:
			found = r
		default:
			return keycote.Record{}, keycote.ErrConflict
		}
	}
	if found == nil {
		return keycote.Record{}, keycote.ErrNotFound
	}
	return keycote.Record{Tenant: found.Tenant, ID: found.ID, Body: found.Body, Seal: found.Seal}, nil
}

// List returns one page of the records that q matches.
func (s *Store) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	from := keycote.Record{Tenant: q.Tenant, ID: q.After}
	if q.AllTenants {
		from.Tenant = q.AfterTenant
	}
	return read(ctx, s, func(out []keycote.Record) []keycote.Record {
		rows := s.records
		if !q.AllTenants {
			rows = span(rows, func(r *keycote.Record) int { return strings.Compare(r.Tenant, q.Tenant) })
		}
		if q.After != "" || q.AllTenants && q.AfterTenant != "" {
			rows = beyond(rows, &from, q.Filter.Newest, byRecordID)
		}
		for r := range walk(rows, q.Filter.Newest) {
			if r := s.withUses(r); q.Match(r) {
				if out = append(out, unshared(r)); len(out) == limit(q.Limit) {
					break
				}
			}
		}
		return out
	})
}

// Items returns one page of the items of q.
func (s *Store) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	from := keycote.Item{Tenant: q.Tenant, Name: q.After}
	if q.AllTenants {
		from.Tenant = q.AfterTenant
	}
	return read(ctx, s, func(out []keycote.Item) []keycote.Item {
		rows := s.items
		if !q.AllTenants {
			rows = span(rows, func(i *keycote.Item) int { return strings.Compare(i.Tenant, q.Tenant) })
		}
		if q.After != "" || q.AllTenants && q.AfterTenant != "" {
			rows = beyond(rows, &from, false, byTenantAndName)
		}
		for _, i := range rows {
			if (q.Space == "" || i.Space == q.Space) && (q.Name == "" || i.Name == q.Name) {
				if out = append(out, *i); len(out) == limit(q.Limit) {
					break
				}
			}
		}
		return out
	})
}

// Events returns one page of the events of q.
func (s *Store) Events(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
	f := q.Filter
	match := func(e *keycote.EventRecord) bool {
		return (q.AllTenants || e.Tenant == q.Tenant) &&
			(f.KeyID == "" || e.KeyID == f.KeyID) &&
			(f.Actor == "" || e.Actor == f.Actor) &&
			(f.Action == "" || e.Action == f.Action) &&
			(f.Since.IsZero() || !e.At.Before(f.Since)) &&
			(f.Until.IsZero() || e.At.Before(f.Until))
	}
	return read(ctx, s, func(out []keycote.EventRecord) []keycote.EventRecord {
		rows := s.events
		if f.After != "" {
			rows = beyond(rows, &keycote.EventRecord{ID: f.After}, f.Newest, byEventID)
		}
		for e := range walk(rows, f.Newest) {
			if match(e) {
				if out = append(out, unsharedEvent(*e)); len(out) == limit(q.Limit) {
					break
				}
			}
		}
		return out
	})
}

// Usage returns one page of the use counts of q.
func (s *Store) Usage(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
	match := func(u *keycote.UseCount) bool {
		return (q.AllTenants || u.Tenant == q.Tenant) &&
			(q.KeyID == "" || u.KeyID == q.KeyID) &&
			(q.Since.IsZero() || !u.Window.Before(q.Since)) &&
			(q.Until.IsZero() || u.Window.Before(q.Until))
	}
	return read(ctx, s, func(out []keycote.UseCount) []keycote.UseCount {
		rows := s.uses
		if byUse(&q.After, &keycote.UseCount{}) != 0 {
			rows = beyond(rows, &q.After, false, byUse)
		}
		for _, u := range rows {
			if match(u) {
				if out = append(out, *u); len(out) == limit(q.Limit) {
					break
				}
			}
		}
		return out
	})
}

// Changes returns what was committed after a position, and the position reached. One that this Store did not give out,
// or no longer reaches, is [keycote.ErrNotFound].
func (s *Store) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	s.mu.Lock() // the feed draws its id when it is first asked
	defer s.mu.Unlock()
	return s.feed.since(after)
}

// read is the frame of all that answers pages.
func read[T any](ctx context.Context, s *Store, page func(empty []T) []T) ([]T, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return page(nil), nil
}

func limit(n int) int {
	if n < 1 || n > maxPage {
		return maxPage
	}
	return n
}

func (s *Store) record(tenant, id string) *keycote.Record {
	return find(s.records, &keycote.Record{Tenant: tenant, ID: id}, byRecordID)
}

// withUses is what a Query judges: it still shares everything with s.
func (s *Store) withUses(r *keycote.Record) keycote.Record {
	full := *r
	full.Uses = s.totals[recordID{r.Tenant, r.ID}]
	return full
}

// unshared is r with maps and slices of its own. Bodies, seals and single digests are read-only for both sides.
func unshared(r keycote.Record) keycote.Record {
	r.Digests = slices.Clone(r.Digests)
	r.Labels = maps.Clone(r.Labels)
	r.Uses = slices.Clone(r.Uses)
	return r
}

func unsharedEvent(e keycote.EventRecord) keycote.EventRecord {
	e.Personal = slices.Clone(e.Personal)
	return e
}
