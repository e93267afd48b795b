package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// population fills s with records that differ in all that a Filter asks for, and returns them as List must answer them,
// in order.
func population(t testing.TB, s keycote.Store, r *random, n int) []keycote.Record {
	t.Helper()
	var b keycote.Batch
	all := make([]keycote.Record, n)
	for i := range all {
		tenant, id := pick(r, "", "Acme", "acme", "b"), fmt.Sprintf("key_%03d", i)
		all[i] = record(tenant, id, func(rec *keycote.Record) {
			rec.Kind = pick(r, keycote.KindAccess, keycote.KindCredential)
			rec.State = pick(r, keycote.StateActive, keycote.StateActive, keycote.StateDisabled, keycote.StateRevoked)
			rec.Name = fmt.Sprint(pick(r, "Billing", "billing", "Rechnung 100%", "a_b", `a\b`), " ", i)
			if rec.State == keycote.StateRevoked {
				rec.Name = ""
			}
			rec.App, rec.Owner = pick(r, "", "shop", "Shop", "crm"), pick(r, "", "ann", "Ann", "bob")
			rec.Search = search(fmt.Sprintf("Billing %d\n%s\nkc_…%04d", i, rec.App, i))
			rec.Labels = nil
			for _, label := range []string{"env", "team"} {
				if !r.chance(3) {
					rec.Labels = orEmpty(rec.Labels)
					rec.Labels[label] = pick(r, "", "prod", "Prod", "test")
				}
			}
			rec.CreatedAt = hours(-r.below(5))
			rec.RotatedAt = hours(-r.below(5))
			rec.ExpiresAt = pick(r, time.Time{}, hours(-1), hours(0), hours(1), hours(2))
		})
		for version := range r.below(3) {
			u := use(tenant, id, version+1, hours(-r.below(5)), int64(i+1))
			b.Uses = append(b.Uses, u)
			all[i].Uses = append(all[i].Uses, keycote.UseCount{
				Tenant: tenant, KeyID: id, Version: version + 1, N: u.N, First: u.First, Last: u.Last,
			})
		}
	}
	b.Insert = slices.Clone(all)
	slices.SortFunc(
		b.Insert,
		func(x, y keycote.Record) int { return cmp.Compare(string(x.Digests[0]), string(y.Digests[0])) },
	)
	must(t, s, b)
	slices.SortFunc(all, byRecord)
	for i := range all {
		all[i] = asKept(all[i])
	}
	return all
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	return m
}

func byRecord(x, y keycote.Record) int {
	return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.ID, y.ID))
}

// matching is what List must answer for q, all pages together: Query.Match is the judge.
func matching(all []keycote.Record, q keycote.Query) []keycote.Record {
	var out []keycote.Record
	for _, r := range all {
		if q.Match(r) {
			out = append(out, r)
		}
	}
	if q.Filter.Newest {
		slices.Reverse(out)
	}
	return out
}

// filters are values for each field of a Filter, some of which match none.
func filters() map[string][]func(*keycote.Filter) {
	type f = keycote.Filter
	out := map[string][]func(*f){}
	add := func(field string, set func(*f)) { out[field] = append(out[field], set) }
	for _, v := range []keycote.Kind{keycote.KindAccess, keycote.KindCredential, "none", "Access"} {
		add("Kind", func(q *f) { q.Kind = v })
	}
	for _, v := range []keycote.State{keycote.StateActive, keycote.StateDisabled, keycote.StateRevoked, keycote.StateExpired} {
		add("State", func(q *f) { q.State = v })
	}
	for _, v := range []string{"Billing 3", "billing 3", "Billing", "a_b 7", "a%", "BILLING 3"} {
		add("Name", func(q *f) { q.Name = v })
	}
	for _, v := range []string{"shop", "Shop", "SHOP", "shop "} {
		add("App", func(q *f) { q.App = v })
	}
	for _, v := range []string{"ann", "Ann", "an", "bob"} {
		add("Owner", func(q *f) { q.Owner = v })
	}
	for _, v := range []string{"billing", "g 3", "shop", "\n", "kc_…0", "kc_0", "%", "_", `\`, "illing 1", "none", "g 1\n"} {
		add("Search", func(q *f) { q.Search = v })
	}
	for _, v := range []map[string]string{
		{"env": "prod"}, {"env": "Prod"}, {"env": ""}, {"env": "prod", "team": "prod"}, {"env": "prod", "team": ""}, {"none": ""}, {"Env": "prod"},
	} {
		add("Labels", func(q *f) { q.Labels = v })
	}
	add("NeverUsed", func(q *f) { q.NeverUsed = true })
	// Bounds around what is there, and some that no count of microseconds since 1970 can tell.
	bounds := []time.Time{
		time.Date(300000, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(-300000, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Unix(math.MaxInt64/1_000_000, 999_999_999), time.Unix(1<<60, 1), time.Unix(-1<<60, 1),
	}
	for n := -6; n <= 3; n++ {
		for _, fine := range []time.Duration{-time.Microsecond, -1, 0, 1, time.Microsecond, time.Second, 2 * time.Second, 2*time.Second + 1} {
			bounds = append(bounds, hours(n).Add(fine))
		}
	}
	for _, v := range bounds {
		add("ExpiresBefore", func(q *f) { q.ExpiresBefore = v })
		add("UnusedSince", func(q *f) { q.UnusedSince = v })
		add("RotatedBefore", func(q *f) { q.RotatedBefore = v })
	}
	return out
}

func listFilters(t testing.TB, s keycote.Store) {
	r := newRandom(t)
	all := population(t, s, r, 120)
	values := filters()
	fields := slices.Sorted(maps.Keys(values))
	check := func(q keycote.Query, limit int) {
		t.Helper()
		require.Equal(t, matching(all, q), orNil(listAll(t, s, q, limit)), "%+v", q)
	}
	check(keycote.Query{AllTenants: true, Now: epoch}, 1000)
	for _, field := range fields { // each value alone, on one page
		for _, set := range values[field] {
			q := keycote.Query{AllTenants: true, Now: epoch}
			set(&q.Filter)
			check(q, 1000)
		}
	}
	for n := -2; n <= 3; n++ { // each state around each moment at which one begins
		for _, fine := range []time.Duration{-time.Microsecond, -1, 0, 1, time.Microsecond} {
			for _, set := range values["State"] {
				q := keycote.Query{AllTenants: true, Now: hours(n).Add(fine)}
				set(&q.Filter)
				check(q, 1000)
			}
		}
	}
	for range 150 { // several together, by pages, both ways
		q := keycote.Query{
			Tenant:     pick(r, "", "Acme", "acme", "b", "none"),
			AllTenants: r.chance(2),
			Now:        hours(r.below(4) - 1),
		}
		q.Filter.Newest = r.chance(2)
		for range r.below(4) {
			pick(r, values[pick(r, fields...)]...)(&q.Filter)
		}
		check(q, 1+r.below(20))
	}
}

func listSearchIsLiteral(t testing.TB, s keycote.Store) {
	texts := []string{
		"100%",
		"100",
		"a_b",
		"axb",
		`a\b`,
		"ab",
		"%",
		"_",
		`\`,
		`\%`,
		`\_`,
		"%%",
		"[a]",
		"a*b",
		"a?b",
		"ä",
		"a\u0308",
		"a.b",
		"'",
		"a b",
		"ß",
		"ss",
	}
	var b keycote.Batch
	for i, text := range texts {
		b.Insert = append(
			b.Insert,
			record("", fmt.Sprintf("key_%02d", i), func(r *keycote.Record) { r.Search = "x" + text + "y\napp\nkc_…1234" }),
		)
	}
	must(t, s, b)
	for _, text := range texts {
		var want []string
		for _, r := range b.Insert {
			if strings.Contains(r.Search, text) {
				want = append(want, "/"+r.ID)
			}
		}
		q := keycote.Query{Now: epoch, Filter: keycote.Filter{Search: text}}
		require.Equal(t, want, ids(listAll(t, s, q, 1000)), "search for %q", text)
		q.Filter.Search = "x" + text + "y\n"
		require.Len(t, listAll(t, s, q, 1000), 1, "search for %q", text)
	}
	for _, text := range []string{"%app%", "a%b", "x%a", "_pp", `\app`, "X", "APP", "xÄy"} {
		q := keycote.Query{Now: epoch, Filter: keycote.Filter{Search: text}}
		require.Empty(t, listAll(t, s, q, 1000), "search for %q", text)
	}
}

func listPages(t testing.TB, s keycote.Store) {
	all := population(t, s, newRandom(t), 40)
	for _, newest := range []bool{false, true} {
		for _, limit := range []int{1, 2, 7, 39, 40, 41, 1000} {
			for _, q := range []keycote.Query{{AllTenants: true}, {}, {Tenant: "Acme"}, {Tenant: "acme"}, {Tenant: "none"}} {
				q.Now, q.Filter.Newest = epoch, newest
				require.Equal(t, matching(all, q), orNil(listAll(t, s, q, limit)), "by %d: %+v", limit, q)
				q.Filter.Kind = keycote.KindAccess
				require.Equal(t, matching(all, q), orNil(listAll(t, s, q, limit)), "by %d: %+v", limit, q)
			}
		}
	}
}

// listPagesWhileChanging inserts before, behind and at the walker's place and deletes the row it stands on: what is
// there all the while comes once.
func listPagesWhileChanging(t testing.TB, s keycote.Store) {
	for _, newest := range []bool{false, true} {
		tenant := fmt.Sprint("newest ", newest)
		steady := map[string]bool{}
		fleeting := map[string]keycote.Record{}
		var b keycote.Batch
		for n := range 30 {
			r := record(tenant, fmt.Sprintf("key_%03d", 10*n))
			b.Insert = append(b.Insert, r)
			if n%3 == 0 {
				fleeting[r.ID] = r
			} else {
				steady[r.ID] = true
			}
		}
		must(t, s, b)
		q := keycote.Query{Tenant: tenant, Now: epoch, Filter: keycote.Filter{Newest: newest}}
		var seen []string
		turn := 0
		for _, r := range pages(t, 4, func(after *keycote.Record) ([]keycote.Record, error) {
			q.Limit = 4
			if after != nil {
				q.After = after.ID
				turn++
				var b keycote.Batch
				for n := range 5 { // everywhere
					b.Insert = append(b.Insert, record(tenant, fmt.Sprintf("key_%03d_%03d", 60*n, turn)))
				}
				must(t, s, b)
				if r, there := fleeting[after.ID]; there {
					must(t, s, remove(r))
					delete(fleeting, after.ID)
				}
				for id, r := range fleeting {
					must(t, s, remove(r))
					delete(fleeting, id)
					break
				}
			}
			return s.List(t.Context(), q)
		}) {
			seen = append(seen, r.ID)
		}
		if newest {
			slices.Reverse(seen)
		}
		require.True(t, slices.IsSorted(seen), "newest %v: %v", newest, seen)
		require.Len(t, slices.Compact(slices.Clone(seen)), len(seen), "newest %v: a row came twice", newest)
		for id := range steady {
			require.Contains(t, seen, id, "newest %v: a row was skipped", newest)
		}
	}
}

func listPositionNeedNoRow(t testing.TB, s keycote.Store) {
	must(
		t,
		s,
		insert(
			record("", "key_1"),
			record("", "key_3"),
			record("acme", "key_1"),
			record("acme", "key_3"),
			record("b", "key_2"),
		),
	)
	for name, c := range map[string]struct {
		query keycote.Query
		want  []string
	}{
		"no such row":                    {keycote.Query{After: "key_2"}, []string{"/key_3"}},
		"no such row, newest":            {keycote.Query{After: "key_2", Filter: keycote.Filter{Newest: true}}, []string{"/key_1"}},
		"after the last":                 {keycote.Query{Tenant: "acme", After: "key_3"}, nil},
		"before the first":               {keycote.Query{Tenant: "acme", After: "key_1", Filter: keycote.Filter{Newest: true}}, nil},
		"AfterTenant is for AllTenants":  {keycote.Query{Tenant: "acme", AfterTenant: "zzz"}, []string{"acme/key_1", "acme/key_3"}},
		"AfterTenant is for all, newest": {keycote.Query{Tenant: "acme", AfterTenant: "a", Filter: keycote.Filter{Newest: true}}, []string{"acme/key_3", "acme/key_1"}},
		"skip a tenant":                  {keycote.Query{AllTenants: true, AfterTenant: "acme", After: "~"}, []string{"b/key_2"}},
		"skip the unnamed tenant":        {keycote.Query{AllTenants: true, After: "~"}, []string{"acme/key_1", "acme/key_3", "b/key_2"}},
		"in the unnamed tenant":          {keycote.Query{AllTenants: true, After: "key_1"}, []string{"/key_3", "acme/key_1", "acme/key_3", "b/key_2"}},
		"the start of a tenant":          {keycote.Query{AllTenants: true, AfterTenant: "acme"}, []string{"acme/key_1", "acme/key_3", "b/key_2"}},
		"a tenant that is none":          {keycote.Query{AllTenants: true, AfterTenant: "acme\x01", After: "key_9"}, []string{"b/key_2"}},
		"a tenant's start, newest":       {keycote.Query{AllTenants: true, AfterTenant: "acme", Filter: keycote.Filter{Newest: true}}, []string{"/key_3", "/key_1"}},
		"inside, newest": {
			keycote.Query{AllTenants: true, AfterTenant: "acme", After: "key_2", Filter: keycote.Filter{Newest: true}},
			[]string{"acme/key_1", "/key_3", "/key_1"},
		},
		"the unnamed tenant, newest": {keycote.Query{AllTenants: true, After: "key_2", Filter: keycote.Filter{Newest: true}}, []string{"/key_1"}},
	} {
		c.query.Limit, c.query.Now = 100, epoch
		got, err := s.List(t.Context(), c.query)
		require.NoError(t, err, name)
		require.Equal(t, c.want, orNil(ids(got)), name)
	}
}

func listLimit(t testing.TB, s keycote.Store) {
	var b keycote.Batch
	for i := range 1_003 {
		id := fmt.Sprintf("%04d", i)
		b.Insert = append(b.Insert, keycote.Record{
			ID: id, Kind: keycote.KindAccess, Name: id, State: keycote.StateActive, CreatedAt: epoch, RotatedAt: epoch, Revision: 1,
		})
		b.Events = append(b.Events, keycote.EventRecord{ID: id, At: epoch})
		b.Items = append(b.Items, item("", "job", id, 1))
		b.Uses = append(b.Uses, use("", id, 1, epoch, 1))
	}
	must(t, s, b)
	for asked, want := range map[int]int{1: 1, 999: 999, 1000: 1000, 1001: 1000, 1_000_000: 1000, 0: 1000, -1: 1000} {
		records, err := s.List(t.Context(), keycote.Query{Now: epoch, Limit: asked})
		require.NoError(t, err)
		items, err := s.Items(t.Context(), keycote.ItemQuery{Space: "job", Limit: asked})
		require.NoError(t, err)
		events, err := s.Events(t.Context(), keycote.EventQuery{Limit: asked})
		require.NoError(t, err)
		uses, err := s.Usage(t.Context(), keycote.UsageQuery{Limit: asked})
		require.NoError(t, err)
		require.Equal(
			t,
			[]int{want, want, want, want},
			[]int{len(records), len(items), len(events), len(uses)},
			"limit %d",
			asked,
		)
	}
}
