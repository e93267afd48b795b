package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keycote/keycote"
)

// reevent lets a store take another EventQuery for the one that it was given.
func reevent(change func(q *keycote.EventQuery)) func(*broken) {
	return func(s *broken) {
		s.events = func(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
			change(&q)
			return s.Store.Events(ctx, q)
		}
	}
}

// reuse lets a store take another UsageQuery for the one that it was given.
func reuse(change func(q *keycote.UsageQuery)) func(*broken) {
	return func(s *broken) {
		s.usage = func(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
			change(&q)
			return s.Store.Usage(ctx, q)
		}
	}
}

// summed lets a store sum up a record's Uses from the rows of the use log that count says.
func summed(count func(u keycote.UseCount) bool) func(*broken) {
	return reshape(func(ctx context.Context, s *broken, r *keycote.Record) {
		rows, _ := s.Store.Usage(ctx, keycote.UsageQuery{Tenant: r.Tenant, KeyID: r.ID, Limit: 1000})
		r.Uses = nil
		for _, u := range rows {
			if count(u) {
				r.Uses = add(r.Uses, keycote.UseCount{
					Tenant: u.Tenant, KeyID: u.KeyID, Version: u.Version, N: u.N, First: u.First, Last: u.Last,
				})
			}
		}
		slices.SortFunc(r.Uses, func(x, y keycote.UseCount) int { return x.Version - y.Version })
	})
}

var brokenLogs = []breakage{
	{
		"events lose what is personal",
		[]string{"EventRoundTrip"},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
			for i := range b.Events {
				b.Events[i].Personal = nil
			}
		}),
	},
	{
		"an event replaces one of its ID",
		[]string{"EventTwice", "BatchIsAtomic"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			b.Events = slices.DeleteFunc(b.Events, func(e keycote.EventRecord) bool {
				there, _ := s.Store.Events(ctx, keycote.EventQuery{AllTenants: true, Limit: 1000})
				return slices.ContainsFunc(there, func(o keycote.EventRecord) bool { return o.ID == e.ID })
			})
		}),
	},
	{"events go with their key", []string{"EventOutlivesItsKey"}, func(s *broken) {
		s.events = func(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
			events, err := s.Store.Events(ctx, q)
			return slices.DeleteFunc(events, func(e keycote.EventRecord) bool {
				_, err := s.Store.Get(ctx, e.Tenant, e.KeyID)
				return err != nil
			}), err
		}
	}},
	{"events up to and with Until", []string{"EventFilters"}, reevent(func(q *keycote.EventQuery) {
		if !q.Filter.Until.IsZero() {
			q.Filter.Until = q.Filter.Until.Add(time.Microsecond)
		}
	})},
	{"events ignore the action", []string{"EventFilters"}, reevent(func(q *keycote.EventQuery) { q.Filter.Action = "" })},
	{
		"events of every tenant",
		[]string{"EventFilters", "EventPages"},
		reevent(func(q *keycote.EventQuery) { q.AllTenants = true }),
	},
	{
		"events are always oldest first",
		[]string{"EventPages"},
		reevent(func(q *keycote.EventQuery) { q.Filter.Newest = false }),
	},
	{"events by time", []string{"EventPages"}, func(s *broken) {
		s.events = func(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
			events, err := s.Store.Events(ctx, q)
			slices.SortStableFunc(events, func(x, y keycote.EventRecord) int { return x.At.Compare(y.At) })
			return events, err
		}
	}},
	{"redaction takes the actor alone", []string{"EventRedacted"}, func(s *broken) {
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			there, _ := s.Store.Events(ctx, keycote.EventQuery{AllTenants: true, Limit: 1000})
			for i, r := range b.Redact {
				for _, e := range there {
					if e.ID == r.ID {
						b.Redact[i].Personal = e.Personal
					}
				}
			}
			return s.Store.Commit(ctx, b)
		}
	}},
	{
		"redaction of another tenant's event",
		[]string{"EventRedacted"},
		recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
			there, _ := s.Store.Events(ctx, keycote.EventQuery{AllTenants: true, Limit: 1000})
			for i, r := range b.Redact {
				for _, e := range there {
					if e.ID == r.ID {
						b.Redact[i].Tenant = e.Tenant
					}
				}
			}
		}),
	},
	{
		"redaction of what is gone fails",
		[]string{"EventRedacted"},
		refuse(func(_ context.Context, _ *broken, b keycote.Batch) error {
			if slices.ContainsFunc(b.Redact, func(e keycote.EventRecord) bool { return e.ID == "evt_none" }) {
				return keycote.ErrNotFound
			}
			return nil
		}),
	},
	{"versions have 16 bits", []string{"UseRoundTrip"}, recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
		for i := range b.Uses {
			b.Uses[i].Version = min(b.Uses[i].Version, math.MaxInt16)
		}
	})},
	{"the last count replaces", []string{"UseAddsUp", "RaceOfUses"}, func(s *broken) {
		var mu sync.Mutex
		last := map[string]int64{}
		row := func(u keycote.UseCount) string {
			return fmt.Sprint(u.Tenant, u.KeyID, u.Version, u.Outcome, u.Addr, u.Route, u.Agent, u.Window)
		}
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			for _, u := range b.Uses {
				last[row(u)] = u.N
			}
			return s.Store.Commit(ctx, b)
		}
		s.usage = func(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
			rows, err := s.Store.Usage(ctx, q)
			for i, u := range rows {
				rows[i].N = last[row(u)]
			}
			return rows, err
		}
	}},
	{"Last moves back", []string{"UseAddsUp"}, func(s *broken) {
		last := time.Time{}
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			for _, u := range b.Uses {
				last = u.Last
			}
			return s.Store.Commit(ctx, b)
		}
		s.usage = func(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
			rows, err := s.Store.Usage(ctx, q)
			for i := range rows {
				rows[i].Last = last
			}
			return rows, err
		}
	}},
	{"one count of a row in a Batch", []string{"UseAddsUp"}, recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
		b.Uses = slices.CompactFunc(b.Uses, func(x, y keycote.UseCount) bool { return byUse(x, y) == 0 })
	})},
	{"refusals are totals", []string{"UseTotals"}, summed(func(keycote.UseCount) bool { return true })},
	{
		"pruning loses totals",
		[]string{"PruneKeepsTotals", "Model"},
		summed(func(u keycote.UseCount) bool { return u.Outcome == "" }),
	},
	{"List has no Uses", []string{"UseTotals", "ListFilters"}, func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			records, err := s.Store.List(ctx, q)
			for i := range records {
				records[i].Uses = nil
			}
			return records, err
		}
	}},
	{"counts need a record", []string{"UseWithoutRecord"}, recast(func(ctx context.Context, s *broken, b *keycote.Batch) {
		b.Uses = slices.DeleteFunc(b.Uses, func(u keycote.UseCount) bool {
			_, err := s.Store.Get(ctx, u.Tenant, u.KeyID)
			return err != nil
		})
	})},
	{
		"counts without a record fail",
		[]string{"UseWithoutRecord"},
		refuse(func(ctx context.Context, s *broken, b keycote.Batch) error {
			for _, u := range b.Uses {
				if _, err := s.Store.Get(ctx, u.Tenant, u.KeyID); err != nil {
					return err
				}
			}
			return nil
		}),
	},
	{"usage after the window alone", []string{"UsagePages"}, reuse(func(q *keycote.UsageQuery) {
		if !q.After.Window.IsZero() {
			q.After = keycote.UseCount{Window: q.After.Window, KeyID: "\U0010ffff"}
		}
	})},
	{"versions in the order of text", []string{"UsagePages"}, func(s *broken) {
		s.usage = func(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
			rows, err := s.Store.Usage(ctx, q)
			slices.SortStableFunc(rows, func(x, y keycote.UseCount) int {
				if x.KeyID != y.KeyID || !x.Window.Equal(y.Window) {
					return byUse(x, y)
				}
				return strings.Compare(fmt.Sprint(x.Version), fmt.Sprint(y.Version))
			})
			return rows, err
		}
	}},
	{"usage up to and with Until", []string{"UsageFilters"}, reuse(func(q *keycote.UsageQuery) {
		if !q.Until.IsZero() {
			q.Until = q.Until.Add(time.Microsecond)
		}
	})},
	{"usage of every key", []string{"UsageFilters"}, reuse(func(q *keycote.UsageQuery) { q.KeyID = "" })},
	{"pruning without limit", []string{"PruneBounds"}, recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
		b.Prune = slices.Clone(b.Prune)
		for i := range b.Prune {
			b.Prune[i].Limit = 1000
		}
	})},
	{
		"pruning up to and with the bound",
		[]string{"PruneBounds"},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
			b.Prune = slices.Clone(b.Prune)
			for i, p := range b.Prune {
				if !p.EventsBefore.IsZero() {
					b.Prune[i].EventsBefore = p.EventsBefore.Add(time.Microsecond)
				}
			}
		}),
	},
	{"pruning of every tenant", []string{"PruneBounds"}, recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
		b.Prune = slices.Clone(b.Prune)
		for i := range b.Prune {
			b.Prune[i].AllTenants = true
		}
	})},
}

var brokenFeeds = []breakage{
	{"the feed loses an update", []string{"FeedShowsChanges", "FeedFollowedWhileWriting", "Model"}, func(s *broken) {
		s.changes = func(ctx context.Context, after string) ([]keycote.Change, string, error) {
			changes, position, err := s.Store.Changes(ctx, after)
			return slices.DeleteFunc(
				changes,
				func(c keycote.Change) bool { return c.ID != "" && c.Revision == 4 },
			), position, err
		}
	}},
	{
		"the feed is out of order",
		[]string{"FeedShowsChanges", "FeedPages", "KeyringKeyAdded", "RaceOfExpectAndItem"},
		func(s *broken) {
			s.changes = func(ctx context.Context, after string) ([]keycote.Change, string, error) {
				changes, position, err := s.Store.Changes(ctx, after)
				slices.Reverse(changes)
				return changes, position, err
			}
		},
	},
	{"the feed starts at the beginning", []string{"FeedStart"}, func(s *broken) {
		start := ""
		s.changes = func(ctx context.Context, after string) ([]keycote.Change, string, error) {
			if start == "" {
				_, start, _ = s.Store.Changes(ctx, "")
			}
			if after == "" {
				after = start
			}
			return s.Store.Changes(ctx, after)
		}
	}},
	{"the feed has digests of after only", []string{"FeedShowsDigestsBeforeAndAfter"}, func(s *broken) {
		s.changes = func(ctx context.Context, after string) ([]keycote.Change, string, error) {
			changes, position, err := s.Store.Changes(ctx, after)
			for i, c := range changes {
				r, _ := s.Store.Get(ctx, c.Tenant, c.ID)
				changes[i].Digests = r.Digests
			}
			return changes, position, err
		}
	}},
	{
		"the feed tells of use counts",
		[]string{"FeedIgnoresTheRest"},
		recast(func(_ context.Context, _ *broken, b *keycote.Batch) {
			if len(b.Uses) > 0 {
				b.Items = append(b.Items, keycote.Item{Tenant: b.ID, Space: "noise", Name: "noise", Revision: 1, Body: []byte("x")})
			}
		}),
	},
	{"the feed's position is always its end", []string{"FeedPages"}, func(s *broken) {
		s.changes = func(ctx context.Context, after string) ([]keycote.Change, string, error) {
			changes, _, err := s.Store.Changes(ctx, after)
			if err != nil {
				return nil, "", err
			}
			_, position, err := s.Store.Changes(ctx, "")
			return changes, position, err
		}
	}},
	{"an unknown position is the present one", []string{"FeedUnknownPosition"}, func(s *broken) {
		s.changes = func(ctx context.Context, after string) ([]keycote.Change, string, error) {
			changes, position, err := s.Store.Changes(ctx, after)
			if errors.Is(err, keycote.ErrNotFound) {
				return s.Store.Changes(ctx, "")
			}
			return changes, position, err
		}
	}},
	{"numbers are drawn before the commit", []string{"FeedFollowedWhileWriting"}, numberedBefore},
}

// numberedBefore keeps a feed of its own, numbered as a database's sequence does it: drawn within the transaction, and
// seen when that ends. The first Batch of writer 0 draws first and ends when a reader has seen a higher number, which
// is then behind the reader's position for good. Nothing is hidden and nothing lost: who reads from an older position
// finds it all.
func numberedBefore(s *broken) {
	type entry struct {
		number int
		change keycote.Change
	}
	var (
		mu            sync.Mutex
		drawn         int
		feed          []entry // by number; what is committed
		first, passed = make(chan struct{}), make(chan struct{})
		once          sync.Once
	)
	s.commit = func(ctx context.Context, b keycote.Batch) error {
		if b.ID != "batch 0 0" {
			<-first
		}
		mu.Lock()
		var mine []entry
		for _, r := range slices.Concat(b.Insert, b.Update) {
			drawn++
			c := keycote.Change{Tenant: r.Tenant, ID: r.ID, Revision: r.Revision, Digests: r.Digests}
			mine = append(mine, entry{drawn, c})
		}
		for _, i := range b.Items {
			drawn++
			mine = append(mine, entry{drawn, keycote.Change{Tenant: i.Tenant, Space: i.Space, Revision: i.Revision}})
		}
		mu.Unlock()
		if b.ID == "batch 0 0" {
			close(first)
			<-passed
		}
		if err := s.Store.Commit(ctx, b); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		feed = append(feed, mine...)
		slices.SortFunc(feed, func(x, y entry) int { return x.number - y.number })
		return nil
	}
	s.changes = func(_ context.Context, after string) ([]keycote.Change, string, error) {
		mu.Lock()
		defer mu.Unlock()
		position, _ := strconv.Atoi(after)
		if after == "" && len(feed) > 0 {
			position = feed[len(feed)-1].number
		}
		var changes []keycote.Change
		for _, e := range feed {
			if e.number > position {
				changes, position = append(changes, e.change), e.number
				once.Do(func() { close(passed) })
			}
		}
		return changes, strconv.Itoa(position), nil
	}
}

var brokenRaces = []breakage{
	{"Expect is read before the lock", []string{"RaceOfExpectAndItem"}, func(s *broken) {
		checked, changed := make(chan struct{}, racers), make(chan struct{})
		var once sync.Once
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			switch {
			case len(b.Expect) > 0:
				if err := s.Store.Commit(ctx, keycote.Batch{Expect: b.Expect}); err != nil {
					return err
				}
				b.Expect = nil
				checked <- struct{}{}
				<-changed
			case b.Items[0].Revision == 2:
				<-checked
				defer once.Do(func() { close(changed) })
			}
			return s.Store.Commit(ctx, b)
		}
	}},
	{"names are read before the lock", []string{"RaceOfNames"}, func(s *broken) {
		var all sync.WaitGroup
		all.Add(racers)
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			r := b.Insert[0]
			taken := slices.ContainsFunc(allOf(ctx, s, r.Tenant), func(o keycote.Record) bool { return o.Name == r.Name })
			all.Done()
			all.Wait()
			if taken {
				return nameTaken()
			}
			b.Insert = []keycote.Record{r}
			b.Insert[0].Kind = keycote.Kind(r.ID) // so that memstore's own index does not see it
			return s.Store.Commit(ctx, b)
		}
	}},
	{"a page is read row by row", []string{"RaceOfReaders"}, func(s *broken) {
		reading, written := make(chan struct{}), make(chan struct{})
		var started, done sync.Once
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			if len(b.Update) == 0 {
				return s.Store.Commit(ctx, b)
			}
			<-reading
			defer done.Do(func() { close(written) })
			return s.Store.Commit(ctx, b)
		}
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			q.Limit = 1
			page, err := s.Store.List(ctx, q)
			started.Do(func() { close(reading) })
			<-written
			if err != nil || len(page) == 0 {
				return page, err
			}
			q.After = page[0].ID
			rest, err := s.Store.List(ctx, q)
			return append(page, rest...), err
		}
	}},
}
