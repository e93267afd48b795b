package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keycote/keycote"
)

// reshape lets a store answer records in another shape, by Get and List.
func reshape(change func(ctx context.Context, s *broken, r *keycote.Record)) func(*broken) {
	return func(s *broken) {
		s.get = func(ctx context.Context, tenant, id string) (keycote.Record, error) {
			r, err := s.Store.Get(ctx, tenant, id)
			if err == nil {
				change(ctx, s, &r)
			}
			return r, err
		}
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			records, err := s.Store.List(ctx, q)
			for i := range records {
				change(ctx, s, &records[i])
			}
			return records, err
		}
	}
}

// relist lets a store take another Query for the one that it was given.
func relist(change func(q *keycote.Query)) func(*broken) {
	return func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			change(&q)
			return s.Store.List(ctx, q)
		}
	}
}

// judgedBy lets a store filter by another rule than Query.Match.
func judgedBy(match func(q keycote.Query, r keycote.Record) bool) func(*broken) {
	return func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			all := q
			all.Filter, all.Limit = keycote.Filter{Newest: q.Filter.Newest}, 1000
			records, err := s.Store.List(ctx, all)
			records = slices.DeleteFunc(records, func(r keycote.Record) bool { return !match(q, r) })
			return records[:min(len(records), q.Limit)], err
		}
	}
}

var brokenText = []breakage{
	{"names are unique whatever their case", []string{"NameUnique", "TextComparedByBytes"}, refuse(
		func(ctx context.Context, s *broken, b keycote.Batch) error {
			for _, r := range b.Insert {
				for _, o := range allOf(ctx, s, r.Tenant) {
					if r.Name != "" && o.Kind == r.Kind && strings.EqualFold(o.Name, r.Name) {
						return nameTaken()
					}
				}
				for _, o := range b.Insert {
					if o.ID != r.ID && o.Tenant == r.Tenant && o.Kind == r.Kind && o.Name != r.Name &&
						strings.EqualFold(o.Name, r.Name) {
						return nameTaken()
					}
				}
			}
			return nil
		})},
	{
		"names are normalised",
		[]string{"TextComparedByBytes"},
		alter(func(r *keycote.Record) { r.Name = strings.ReplaceAll(r.Name, "e\u0301", "é") }),
	},
	{
		"names are cut at 255 bytes",
		[]string{"RecordRoundTrip"},
		alter(func(r *keycote.Record) { r.Name = r.Name[:min(len(r.Name), 255)] }),
	},
	{
		"apps are trimmed",
		[]string{"TextComparedByBytes"},
		alter(func(r *keycote.Record) { r.App = strings.TrimSpace(r.App) }),
	},
	{
		"quotes are doubled",
		[]string{"TextHostile"},
		alter(func(r *keycote.Record) { r.Owner = strings.ReplaceAll(r.Owner, "'", "''") }),
	},
	{"ids ignore trailing blanks", []string{"RecordAbsent"}, func(s *broken) {
		s.get = func(ctx context.Context, tenant, id string) (keycote.Record, error) {
			return s.Store.Get(ctx, tenant, strings.TrimRight(id, " "))
		}
	}},
	{
		"filters ignore case",
		[]string{"TextComparedByBytes", "ListFilters"},
		judgedBy(func(q keycote.Query, r keycote.Record) bool {
			app := q.Filter.App
			q.Filter.App = ""
			return q.Match(r) && (app == "" || strings.EqualFold(app, r.App))
		}),
	},
	{"the order ignores case", []string{"TextComparedByBytes"}, func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			records, err := s.Store.List(ctx, q)
			if !q.Filter.Newest {
				return records, err
			}
			all := q
			all.After, all.Limit = "", 1000
			records, err = s.Store.List(ctx, all)
			slices.SortStableFunc(records, func(x, y keycote.Record) int {
				return -strings.Compare(strings.ToLower(x.ID), strings.ToLower(y.ID))
			})
			after := slices.IndexFunc(records, func(r keycote.Record) bool { return r.ID == q.After })
			return records[after+1 : min(len(records), after+1+q.Limit)], err
		}
	}},
	{
		"% and _ are wildcards",
		[]string{"ListSearchIsLiteral", "Model"},
		judgedBy(func(q keycote.Query, r keycote.Record) bool {
			pattern := "(?s)" + strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(q.Filter.Search))
			q.Filter.Search = ""
			return q.Match(r) && regexp.MustCompile(pattern).MatchString(r.Search)
		}),
	},
	{"a backslash escapes", []string{"ListSearchIsLiteral"}, relist(func(q *keycote.Query) {
		q.Filter.Search = strings.ReplaceAll(q.Filter.Search, `\`, "")
	})},
}

var brokenReads = []breakage{
	{"another tenant's id is found", []string{"RecordOfAnotherTenant"}, func(s *broken) {
		s.get = func(ctx context.Context, tenant, id string) (keycote.Record, error) {
			r, err := s.Store.Get(ctx, tenant, id)
			if err != nil {
				return s.Store.Get(ctx, "", id)
			}
			return r, nil
		}
	}},
	{"the absent is empty", []string{"RecordAbsent"}, func(s *broken) {
		s.get = func(ctx context.Context, tenant, id string) (keycote.Record, error) {
			r, err := s.Store.Get(ctx, tenant, id)
			if errors.Is(err, keycote.ErrNotFound) {
				return keycote.Record{}, nil
			}
			return r, err
		}
	}},
	{"times are local", []string{"RecordRoundTrip"}, reshape(func(_ context.Context, _ *broken, r *keycote.Record) {
		r.CreatedAt = r.CreatedAt.In(time.FixedZone("local", 3600))
	})},
	{"answers are shared", []string{"NothingShared"}, func(s *broken) {
		kept := map[string]keycote.Record{}
		s.get = func(ctx context.Context, tenant, id string) (keycote.Record, error) {
			if r, there := kept[id]; there {
				return r, nil
			}
			r, err := s.Store.Get(ctx, tenant, id)
			kept[id] = r
			return r, err
		}
	}},
	{"keeps the caller's map", []string{"NothingShared"}, func(s *broken) {
		kept := map[string]map[string]string{}
		s.commit = func(ctx context.Context, b keycote.Batch) error {
			for _, r := range b.Insert {
				kept[r.ID] = r.Labels
			}
			return s.Store.Commit(ctx, b)
		}
		reshape(func(_ context.Context, _ *broken, r *keycote.Record) { r.Labels = kept[r.ID] })(s)
	}},
	{"the first of two is found", []string{"LookupOfTwoRecords", "Model"}, func(s *broken) {
		s.lookup = func(ctx context.Context, digests [][]byte) (keycote.Record, error) {
			for _, d := range digests {
				if r, err := s.Store.Lookup(ctx, [][]byte{d}); err == nil {
					return r, nil
				}
			}
			return keycote.Record{}, keycote.ErrNotFound
		}
	}},
	{"only the first digest is looked up", []string{"LookupFindsByAnyDigest"}, func(s *broken) {
		s.lookup = func(ctx context.Context, digests [][]byte) (keycote.Record, error) {
			return s.Store.Lookup(ctx, digests[:min(1, len(digests))])
		}
	}},
	{"digests are compared by their start", []string{"LookupFindsByAnyDigest"}, func(s *broken) {
		s.lookup = func(ctx context.Context, digests [][]byte) (keycote.Record, error) {
			all, _ := s.Store.List(ctx, keycote.Query{AllTenants: true, Limit: 1000})
			for _, r := range all {
				for _, d := range r.Digests {
					for _, asked := range digests {
						if len(asked) >= 16 && bytes.Equal(d[:16], asked[:16]) {
							return r, nil
						}
					}
				}
			}
			return keycote.Record{}, keycote.ErrNotFound
		}
	}},
	{"lookup has a cache", []string{"LookupFollowsDigests", "DigestMovesInOneBatch"}, func(s *broken) {
		kept := map[string]keycote.Record{}
		s.lookup = func(ctx context.Context, digests [][]byte) (keycote.Record, error) {
			key := fmt.Sprintf("%x", digests)
			if r, there := kept[key]; there {
				return r, nil
			}
			r, err := s.Store.Lookup(ctx, digests)
			if err == nil {
				kept[key] = r
			}
			return r, err
		}
	}},
	{
		"expired a moment late",
		[]string{"ListFilters"},
		relist(func(q *keycote.Query) { q.Now = q.Now.Add(-time.Microsecond) }),
	},
	{"bounds are cut to the microsecond", []string{"ListFilters"}, relist(func(q *keycote.Query) {
		q.Filter.ExpiresBefore = q.Filter.ExpiresBefore.Truncate(time.Microsecond)
	})},
	{"far bounds wrap around", []string{"ListFilters"}, relist(func(q *keycote.Query) {
		if !q.Filter.RotatedBefore.IsZero() {
			q.Filter.RotatedBefore = time.UnixMicro(q.Filter.RotatedBefore.Add(time.Microsecond - 1).UnixMicro())
		}
	})},
	{"expiry before includes it", []string{"ListFilters"}, relist(func(q *keycote.Query) {
		if !q.Filter.ExpiresBefore.IsZero() {
			q.Filter.ExpiresBefore = q.Filter.ExpiresBefore.Add(time.Microsecond)
		}
	})},
	{
		"unused since knows only what was used",
		[]string{"ListFilters", "PruneKeepsTotals", "Model"},
		judgedBy(func(q keycote.Query, r keycote.Record) bool {
			return q.Match(r) && (q.Filter.UnusedSince.IsZero() || len(r.Uses) > 0)
		}),
	},
	{"any label will do", []string{"ListFilters"}, judgedBy(func(q keycote.Query, r keycote.Record) bool {
		labels := q.Filter.Labels
		q.Filter.Labels = nil
		any := len(labels) == 0
		for name, value := range labels {
			has, ok := r.Labels[name]
			any = any || ok && has == value
		}
		return any && q.Match(r)
	})},
	{"disabled and expired is expired", []string{"ListFilters"}, judgedBy(func(q keycote.Query, r keycote.Record) bool {
		if r.State == keycote.StateDisabled && !r.ExpiresAt.IsZero() && !q.Now.Before(r.ExpiresAt) {
			r.State = keycote.StateActive
		}
		return q.Match(r)
	})},
	{"pages begin one row late", []string{"ListPages"}, func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			records, err := s.Store.List(ctx, q)
			if q.After != "" && len(records) > 0 {
				records = records[1:]
			}
			return records, err
		}
	}},
	{
		"newest is oldest",
		[]string{"ListPages", "TextComparedByBytes"},
		relist(func(q *keycote.Query) { q.Filter.Newest = false }),
	},
	{"pages by count", []string{"ListPagesWhileChanging"}, func(s *broken) {
		given := 0
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			if q.After == "" {
				given = 0
			}
			limit := q.Limit
			q.After, q.Limit = "", 1000
			records, err := s.Store.List(ctx, q)
			page := records[min(given, len(records)):min(given+limit, len(records))]
			given += len(page)
			return page, err
		}
	}},
	{"a position must be a row", []string{"ListPositionNeedNoRow"}, func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			if _, err := s.Store.Get(ctx, q.Tenant, q.After); err != nil && q.After != "" {
				return nil, nil
			}
			return s.Store.List(ctx, q)
		}
	}},
	{"AfterTenant is always heeded", []string{"ListPositionNeedNoRow"}, func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			if !q.AllTenants && q.AfterTenant > q.Tenant {
				return nil, nil
			}
			return s.Store.List(ctx, q)
		}
	}},
	{"a page has no limit", []string{"ListLimit"}, func(s *broken) {
		s.list = func(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
			records, err := s.Store.List(ctx, q)
			if len(records) == 1000 {
				q.After = records[999].ID
				more, _ := s.Store.List(ctx, q)
				records = append(records, more...)
			}
			return records, err
		}
	}},
	{"no limit is no row", []string{"ListLimit"}, func(s *broken) {
		s.items = func(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
			if q.Limit < 1 {
				return nil, nil
			}
			return s.Store.Items(ctx, q)
		}
	}},
	{"items of one name are one", []string{"ItemRoundTrip"}, reitem(func(q *keycote.ItemQuery) {
		if q.Name != "" {
			q.Space, q.AllTenants = "", true
		}
	})},
	{"item pages forget the tenant", []string{"ItemPages"}, reitem(func(q *keycote.ItemQuery) { q.AfterTenant = "" })},
	{
		"items of all tenants are the unnamed one's",
		[]string{"ItemQueryNarrows", "ItemPages"},
		reitem(func(q *keycote.ItemQuery) { q.AllTenants = false }),
	},
	{"items have a cache", []string{"KeyringKeyAdded", "KeyringRewrapped", "ItemRevisions"}, func(s *broken) {
		var mu sync.Mutex
		kept := map[keycote.ItemQuery][]keycote.Item{}
		s.items = func(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
			mu.Lock()
			defer mu.Unlock()
			if items, there := kept[q]; there {
				return items, nil
			}
			items, err := s.Store.Items(ctx, q)
			if len(items) > 0 {
				kept[q] = items
			}
			return items, err
		}
	}},
}

// reitem lets a store take another ItemQuery for the one that it was given.
func reitem(change func(q *keycote.ItemQuery)) func(*broken) {
	return func(s *broken) {
		s.items = func(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
			change(&q)
			return s.Store.Items(ctx, q)
		}
	}
}
