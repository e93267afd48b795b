package storetest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func counts(uses ...keycote.UseCount) keycote.Batch { return keycote.Batch{Uses: uses} }

func useRoundTrip(t testing.TB, s keycote.Store) {
	uses := []keycote.UseCount{
		{
			Tenant: "acme", KeyID: "key_1", Version: 7, Outcome: keycote.ErrScope, Addr: "2001:db8::/64", Route: "POST /…", Agent: "ä/1.0",
			Window: epoch, N: 1<<40 + 1, First: epoch.Add(time.Microsecond), Last: epoch.Add(2 * time.Microsecond),
		},
		{Tenant: "acme", Window: hours(1), Outcome: keycote.ErrUnknownKey, N: 1, First: hours(1), Last: hours(1)},
		use("acme", "key_1", 1, hours(2).In(time.FixedZone("east", 3600)), 5),
		use("acme", "key_1", 1<<31-1, hours(3), 1),
	}
	must(t, s, counts(uses...))
	for i := range uses {
		uses[i].Window, uses[i].First, uses[i].Last = uses[i].Window.UTC(), uses[i].First.UTC(), uses[i].Last.UTC()
	}
	require.Equal(t, uses, usageAll(t, s, keycote.UsageQuery{Tenant: "acme"}, 10))
}

func useAddsUp(t testing.TB, s keycote.Store) {
	u := func(n int64, first, last int) keycote.UseCount {
		return use("", "key_1", 1, epoch, n, func(u *keycote.UseCount) {
			u.First, u.Last = epoch.Add(time.Duration(first)*time.Microsecond), epoch.Add(time.Duration(last)*time.Microsecond)
		})
	}
	for _, step := range []struct {
		name string
		add  []keycote.UseCount
		want keycote.UseCount
	}{
		{"a new row", []keycote.UseCount{u(3, 10, 20)}, u(3, 10, 20)},
		{"inside", []keycote.UseCount{u(1, 12, 18)}, u(4, 10, 20)},
		{"earlier", []keycote.UseCount{u(1, 5, 15)}, u(5, 5, 20)},
		{"later", []keycote.UseCount{u(1, 25, 30)}, u(6, 5, 30)},
		{"wider", []keycote.UseCount{u(10, 1, 40)}, u(16, 1, 40)},
		{"twice in a batch", []keycote.UseCount{u(1, 3, 50), u(2, 0, 9)}, u(19, 0, 50)},
		{"large", []keycote.UseCount{u(1<<40, 10, 20)}, u(1<<40+19, 0, 50)},
	} {
		must(t, s, counts(step.add...))
		require.Equal(t, []keycote.UseCount{step.want}, usageAll(t, s, keycote.UsageQuery{}, 10), step.name)
	}
	others := []keycote.UseCount{
		u(1, 0, 1),
		u(1, 0, 1),
		u(1, 0, 1),
		u(1, 0, 1),
		u(1, 0, 1),
		u(1, 0, 1),
		u(1, 0, 1),
		u(1, 0, 1),
	}
	others[0].Tenant, others[1].KeyID, others[2].Version, others[3].Outcome = "acme", "key_2", 2, keycote.ErrScope
	others[4].Addr, others[5].Route, others[6].Agent, others[7].Window = "", "", "", hours(1)
	must(t, s, counts(others...))
	require.Len(
		t,
		usageAll(t, s, keycote.UsageQuery{AllTenants: true}, 100),
		1+len(others),
		"rows that differ in anything else are rows of their own",
	)
	require.Equal(
		t,
		u(1<<40+19, 0, 50),
		usageAll(t, s, keycote.UsageQuery{KeyID: "key_1", Until: hours(1)}, 100)[3],
		"and leave this one alone",
	)
}

func useTotals(t testing.TB, s keycote.Store) {
	r := record(
		"acme",
		"key_1",
		func(r *keycote.Record) { r.Uses = []keycote.UseCount{use("acme", "key_1", 9, epoch, 99)} },
	)
	must(t, s, insert(r, record("acme", "key_2"), record("other", "key_1")))
	requireUses := func(about string, want ...keycote.UseCount) {
		t.Helper()
		got, err := s.Get(t.Context(), "acme", "key_1")
		require.NoError(t, err)
		require.Equal(t, want, orNil(got.Uses), "Get, %s", about)
		require.Equal(t, want, listAll(t, s, keycote.Query{Tenant: "acme", Now: epoch}, 10)[0].Uses, "List, %s", about)
	}
	requireUses("Uses of an insert are ignored")
	total := func(version int, n int64, first, last time.Time) keycote.UseCount {
		return keycote.UseCount{Tenant: "acme", KeyID: "key_1", Version: version, N: n, First: first, Last: last}
	}
	refuse := func(u *keycote.UseCount) { u.Outcome, u.Last = keycote.ErrExpired, hours(100) }
	must(t, s, counts(use("acme", "key_1", 1, hours(1), 5, refuse), use("acme", "key_1", 3, hours(1), 5, refuse)))
	requireUses("refusals do not count")

	other := func(u *keycote.UseCount) { u.Addr, u.Route, u.Agent = "198.51.100.0/24", "other", "other" }
	must(
		t,
		s,
		counts(
			use("acme", "key_1", 2, hours(4), 2),
			use("acme", "key_1", 1, hours(5), 3),
			use("acme", "key_1", 1, hours(3), 4),
		),
		counts(use("acme", "key_1", 1, hours(4), 1, other), use("acme", "key_1", 1, hours(9), 7, refuse)),
		counts(
			use("acme", "key_2", 1, hours(1), 50),
			use("other", "key_1", 1, hours(1), 60),
			use("acme", "", 0, hours(1), 70),
		),
	)
	one := total(1, 8, hours(3).Add(time.Second), hours(5).Add(2*time.Second))
	two := total(2, 2, hours(4).Add(time.Second), hours(4).Add(2*time.Second))
	requireUses("by version, over windows, addresses and routes", one, two)

	before, err := s.Get(t.Context(), "acme", "key_1")
	require.NoError(t, err)
	require.EqualValues(t, 1, before.Revision, "a count never touches a record")
	must(t, s, update(next(r)))
	requireUses("after an update, whose Uses are ignored", one, two)
	must(t, s, counts(use("acme", "key_1", 1, hours(1), 1)))
	one = total(1, 9, hours(1).Add(time.Second), one.Last)
	requireUses("a count that comes late moves First, not Last", one, two)
}

func useWithoutRecord(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	must(t, s, counts(use("", "key_1", 1, hours(1), 1)), insert(r), counts(use("", "key_1", 1, hours(2), 2)))
	got, err := s.Get(t.Context(), "", "key_1")
	require.NoError(t, err)
	require.Len(t, got.Uses, 1)
	require.EqualValues(t, 3, got.Uses[0].N, "a count that came before its record")
	must(t, s, remove(r), counts(use("", "key_1", 1, hours(2), 4), use("", "key_never", 1, hours(3), 5)))
	want := []keycote.UseCount{
		use("", "key_1", 1, hours(1), 1),
		use("", "key_1", 1, hours(2), 6),
		use("", "key_never", 1, hours(3), 5),
	}
	require.Equal(t, want, usageAll(t, s, keycote.UsageQuery{}, 10), "counts of what is gone, or never was, are kept")
	require.Empty(t, dump(t, s).Records)
}

// usePopulation commits counts that differ in every column, in no order, and returns them in the order of UsageQuery.
func usePopulation(t testing.TB, s keycote.Store) []keycote.UseCount {
	t.Helper()
	r := newRandom(t)
	var all []keycote.UseCount
	seen := map[keycote.UseCount]bool{}
	for len(all) < 80 {
		u := use(
			pick(r, "", "Acme", "acme"),
			pick(r, "", "key_1", "key_2", "KEY_1"),
			r.below(12),
			hours(r.below(3)),
			1,
			func(u *keycote.UseCount) {
				u.Outcome = pick(r, "", "", keycote.ErrExpired, keycote.ErrScope)
				u.Addr, u.Route, u.Agent = pick(
					r,
					"",
					"192.0.2.0/24",
					"10.0.0.0/8",
				), pick(
					r,
					"",
					"a",
					"B",
				), pick(
					r,
					"",
					"curl",
					"Curl",
				)
			},
		)
		if !seen[u] {
			seen[u] = true
			all = append(all, u)
		}
	}
	for _, tenant := range []string{"", "Acme", "acme"} { // rows that differ in the tenant alone
		all = append(all, use(tenant, "key_1", 100, hours(1), 1))
	}
	must(t, s, counts(all[:40]...), counts(all[40:]...))
	slices.SortFunc(all, byUse)
	return all
}

func byUse(x, y keycote.UseCount) int {
	return cmp.Or(
		x.Window.Compare(y.Window),
		cmp.Compare(x.KeyID, y.KeyID),
		cmp.Compare(x.Version, y.Version),
		cmp.Compare(
			x.Outcome,
			y.Outcome,
		),
		cmp.Compare(x.Addr, y.Addr),
		cmp.Compare(x.Route, y.Route),
		cmp.Compare(x.Agent, y.Agent),
		cmp.Compare(x.Tenant, y.Tenant),
	)
}

// matchingUses is what Usage must answer, all pages together.
func matchingUses(all []keycote.UseCount, q keycote.UsageQuery) []keycote.UseCount {
	var out []keycote.UseCount
	for _, u := range all {
		if (q.AllTenants || u.Tenant == q.Tenant) && (q.KeyID == "" || u.KeyID == q.KeyID) &&
			(q.Since.IsZero() || !u.Window.Before(q.Since)) && (q.Until.IsZero() || u.Window.Before(q.Until)) {
			out = append(out, u)
		}
	}
	return out
}

func usagePages(t testing.TB, s keycote.Store) {
	all := usePopulation(t, s)
	for _, limit := range []int{1, 2, 7, 82, 83, 84} {
		for _, q := range []keycote.UsageQuery{{AllTenants: true}, {}, {Tenant: "acme"}, {Tenant: "acme", KeyID: "key_1"}} {
			require.Equal(t, matchingUses(all, q), orNil(usageAll(t, s, q, limit)), "by %d: %+v", limit, q)
		}
	}
	after := all[40]
	after.N, after.First, after.Last = 999, hours(9), hours(9)
	got, err := s.Usage(t.Context(), keycote.UsageQuery{AllTenants: true, After: after, Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, all[41:], got, "N, First and Last of After do not count")
	after.Agent += "\x01"
	got, err = s.Usage(t.Context(), keycote.UsageQuery{AllTenants: true, After: after, Limit: 1000})
	require.NoError(t, err)
	require.Equal(
		t,
		all[slices.IndexFunc(all, func(u keycote.UseCount) bool { return byUse(u, after) > 0 }):],
		got,
		"a position that is no row",
	)
}

func usageFilters(t testing.TB, s keycote.Store) {
	all := usePopulation(t, s)
	for _, tenant := range []string{"", "acme", "Acme", "none"} {
		for _, key := range []string{"", "key_1", "KEY_1", "none"} {
			for n := range 4 {
				for _, fine := range []time.Duration{-1, 0, 1} {
					at := hours(n).Add(fine)
					for _, q := range []keycote.UsageQuery{{Since: at}, {Until: at}, {Since: at, Until: hours(n + 1)}, {Since: at, Until: at}} {
						q.Tenant, q.KeyID = tenant, key
						require.Equal(t, matchingUses(all, q), orNil(usageAll(t, s, q, 1000)), "%+v", q)
						q.AllTenants = true
						require.Equal(t, matchingUses(all, q), orNil(usageAll(t, s, q, 1000)), "%+v", q)
					}
				}
			}
		}
	}
}

func pruneBounds(t testing.TB, s keycote.Store) {
	var b keycote.Batch
	for _, tenant := range []string{"", "acme"} {
		for n := range 10 {
			b.Events = append(b.Events, event(tenant, "evt_"+tenant+string(rune('0'+n)), hours(n)))
			b.Uses = append(b.Uses, use(tenant, "key_1", 1, hours(n), 1))
		}
	}
	must(t, s, b)
	left := func(tenant string) (events, uses []int) {
		for _, e := range eventsAll(t, s, keycote.EventQuery{Tenant: tenant}, 100) {
			events = append(events, int(e.At.Sub(epoch)/time.Hour))
		}
		for _, u := range usageAll(t, s, keycote.UsageQuery{Tenant: tenant}, 100) {
			uses = append(uses, int(u.Window.Sub(epoch)/time.Hour))
		}
		return events, uses
	}
	from := func(n int) (out []int) {
		for ; n < 10; n++ {
			out = append(out, n)
		}
		return out
	}
	for _, step := range []struct {
		name                           string
		prune                          keycote.Prune
		events, uses, acmeEvs, acmeUse int // the first that is left
	}{
		{"no bound", keycote.Prune{Limit: 100}, 0, 0, 0, 0},
		{"strictly before", keycote.Prune{EventsBefore: hours(0), UsesBefore: hours(0), Limit: 100}, 0, 0, 0, 0},
		{"finer than a microsecond", keycote.Prune{EventsBefore: hours(0).Add(1), UsesBefore: hours(0).Add(1), Limit: 100}, 1, 1, 0, 0},
		{"events alone", keycote.Prune{EventsBefore: hours(2), Limit: 100}, 2, 1, 0, 0},
		{"counts alone", keycote.Prune{UsesBefore: hours(3), Limit: 100}, 2, 3, 0, 0},
		{"the oldest first", keycote.Prune{EventsBefore: hours(9), UsesBefore: hours(9), Limit: 2}, 4, 5, 0, 0},
		{"a tenant", keycote.Prune{Tenant: "acme", EventsBefore: hours(1), UsesBefore: hours(2), Limit: 100}, 4, 5, 1, 2},
		{"all tenants", keycote.Prune{AllTenants: true, EventsBefore: hours(5), UsesBefore: hours(6), Limit: 100}, 5, 6, 5, 6},
		{"an unknown tenant", keycote.Prune{Tenant: "none", EventsBefore: hours(100), UsesBefore: hours(100), Limit: 100}, 5, 6, 5, 6},
		{"all tenants, a few", keycote.Prune{AllTenants: true, EventsBefore: hours(100), UsesBefore: hours(100), Limit: 4}, 7, 8, 7, 8},
	} {
		must(t, s, keycote.Batch{Prune: []keycote.Prune{step.prune}})
		events, uses := left("")
		acmeEvents, acmeUses := left("acme")
		require.Equal(t, [][]int{from(step.events), from(step.uses), from(step.acmeEvs), from(step.acmeUse)},
			[][]int{events, uses, acmeEvents, acmeUses}, step.name)
	}
	must(
		t,
		s,
		keycote.Batch{
			Prune: []keycote.Prune{{EventsBefore: hours(100), Limit: 100}, {Tenant: "acme", UsesBefore: hours(100), Limit: 100}},
		},
	)
	events, uses := left("")
	acmeEvents, acmeUses := left("acme")
	require.Equal(
		t,
		[][]int{nil, from(8), from(7), nil},
		[][]int{events, uses, acmeEvents, acmeUses},
		"several in a batch",
	)
}

func pruneKeepsTotals(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	must(
		t,
		s,
		insert(r),
		counts(use("", "key_1", 1, hours(1), 5), use("", "key_1", 1, hours(2), 6), use("", "key_1", 2, hours(3), 7)),
	)
	before := get(t, s, "key_1").Uses
	require.Len(t, before, 2)
	must(t, s, keycote.Batch{Prune: []keycote.Prune{{UsesBefore: hours(3), Limit: 100}}})
	require.Len(t, usageAll(t, s, keycote.UsageQuery{}, 10), 1)
	require.Equal(t, before, get(t, s, "key_1").Uses)
	must(t, s, keycote.Batch{Prune: []keycote.Prune{{AllTenants: true, UsesBefore: hours(100), Limit: 100}}})
	require.Empty(t, usageAll(t, s, keycote.UsageQuery{}, 10))
	require.Equal(t, before, get(t, s, "key_1").Uses)
	require.Equal(t, before, listAll(t, s, keycote.Query{Now: epoch}, 10)[0].Uses)

	must(t, s, counts(use("", "key_1", 1, hours(4), 1)))
	after := get(t, s, "key_1").Uses
	require.EqualValues(t, 12, after[0].N, "and goes on from there")
	require.Equal(t, before[0].First, after[0].First)
	q := keycote.Query{Now: epoch, Filter: keycote.Filter{UnusedSince: hours(3)}}
	must(t, s, insert(record("", "key_2")))
	require.Equal(t, []string{"/key_2"}, ids(listAll(t, s, q, 10)), "UnusedSince asks the totals")
}
