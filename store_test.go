package keycote

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQueryMatch(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	const instant = time.Microsecond
	active := Record{
		Tenant: "acme", ID: "key_1", Kind: KindAccess, Name: "Billing", App: "shop", Owner: "ann", State: StateActive,
		Search: "billing\nshop\nkc_…ab_d", Labels: map[string]string{"env": "prod", "note": ""},
		CreatedAt: now.Add(-3 * time.Hour), RotatedAt: now.Add(-2 * time.Hour), ExpiresAt: now.Add(time.Hour),
		Uses: []UseCount{{Version: 1, Last: now.Add(-time.Hour)}, {Version: 2, Last: now.Add(-90 * time.Minute)}},
	}
	with := func(edit func(*Record)) Record {
		r := active
		edit(&r)
		return r
	}
	in := func(state State, expires time.Time) Record {
		return with(func(r *Record) { r.State, r.ExpiresAt = state, expires })
	}
	never := in(StateActive, time.Time{})
	unused := with(func(r *Record) { r.Uses = nil })

	for _, c := range []struct {
		name   string
		filter Filter
		record Record
		want   bool
	}{
		{"nothing asked", Filter{}, active, true},
		{"newest is no condition", Filter{Newest: true}, active, true},
		{"kind", Filter{Kind: KindAccess}, active, true},
		{"another kind", Filter{Kind: KindCredential}, active, false},
		{"name", Filter{Name: "Billing"}, active, true},
		{"name in another case", Filter{Name: "billing"}, active, false},
		{"part of the name", Filter{Name: "Bill"}, active, false},
		{"the name that a revoked key had", Filter{Name: "Billing"}, with(func(r *Record) { r.Name, r.State = "", StateRevoked }), false},
		{"app", Filter{App: "shop"}, active, true},
		{"another app", Filter{App: "Shop"}, active, false},
		{"owner", Filter{Owner: "ann"}, active, true},
		{"another owner", Filter{Owner: "an"}, active, false},

		{"search in the name", Filter{Search: "illin"}, active, true},
		{"search in the hint", Filter{Search: "…ab_"}, active, true},
		{"a wildcard is a character", Filter{Search: "b%g"}, active, false},
		{"another wildcard is a character", Filter{Search: "ab_d"}, active, true},
		{"search is folded before", Filter{Search: "Billing"}, active, false},

		{"label", Filter{Labels: map[string]string{"env": "prod"}}, active, true},
		{"empty label", Filter{Labels: map[string]string{"note": ""}}, active, true},
		{"an absent label is not an empty one", Filter{Labels: map[string]string{"team": ""}}, active, false},
		{"all labels", Filter{Labels: map[string]string{"env": "prod", "note": ""}}, active, true},
		{"one label of two", Filter{Labels: map[string]string{"env": "prod", "note": "x"}}, active, false},
		{"labels of a record that has none", Filter{Labels: map[string]string{"env": ""}}, with(func(r *Record) { r.Labels = nil }), false},

		{"active", Filter{State: StateActive}, active, true},
		{"active for ever", Filter{State: StateActive}, never, true},
		{"active up to its expiry", Filter{State: StateActive}, in(StateActive, now.Add(1)), true},
		{"not at its expiry", Filter{State: StateActive}, in(StateActive, now), false},
		{"expired at its expiry", Filter{State: StateExpired}, in(StateActive, now), true},
		{"not yet expired", Filter{State: StateExpired}, in(StateActive, now.Add(1)), false},
		{"never expired", Filter{State: StateExpired}, never, false},
		{"disabled", Filter{State: StateDisabled}, in(StateDisabled, time.Time{}), true},
		{"disabled wins over expired", Filter{State: StateDisabled}, in(StateDisabled, now), true},
		{"disabled is not expired", Filter{State: StateExpired}, in(StateDisabled, now), false},
		{"disabled is not active", Filter{State: StateActive}, in(StateDisabled, time.Time{}), false},
		{"revoked", Filter{State: StateRevoked}, in(StateRevoked, now), true},
		{"revoked is not expired", Filter{State: StateExpired}, in(StateRevoked, now), false},
		{"a state that no record has", Filter{State: StateUnreadable}, active, false},
		{"a state of versions", Filter{State: StateEnded}, active, false},

		{"expires before", Filter{ExpiresBefore: now.Add(time.Hour + instant)}, active, true},
		{"expires then", Filter{ExpiresBefore: now.Add(time.Hour)}, active, false},
		{"never expires", Filter{ExpiresBefore: now.AddDate(1000, 0, 0)}, never, false},
		{"expired before", Filter{ExpiresBefore: now}, in(StateActive, now.Add(-instant)), true},

		{"last used before, by any version", Filter{UnusedSince: now.Add(-time.Hour + instant)}, active, true},
		{"last used then", Filter{UnusedSince: now.Add(-time.Hour)}, active, false},
		{"never used and made before", Filter{UnusedSince: now.Add(-3*time.Hour + instant)}, unused, true},
		{"never used and made then", Filter{UnusedSince: now.Add(-3 * time.Hour)}, unused, false},

		{"rotated before", Filter{RotatedBefore: now.Add(-2*time.Hour + instant)}, active, true},
		{"rotated then", Filter{RotatedBefore: now.Add(-2 * time.Hour)}, active, false},

		{"all at once", Filter{
			Kind: KindAccess, State: StateActive, Name: "Billing", App: "shop", Owner: "ann", Search: "bill", Labels: map[string]string{"env": "prod"},
			ExpiresBefore: now.Add(2 * time.Hour), UnusedSince: now, RotatedBefore: now,
		}, active, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, Query{Tenant: "acme", Filter: c.filter, Now: now}.Match(c.record))
			require.Equal(t, c.want, Query{AllTenants: true, Filter: c.filter, Now: now}.Match(c.record))
			require.False(t, Query{Tenant: "Acme", Filter: c.filter, Now: now}.Match(c.record), "another tenant")
			require.False(t, Query{Filter: c.filter, Now: now}.Match(c.record), "the unnamed tenant")
			require.Equal(
				t,
				c.want,
				Query{Tenant: "acme", After: "key_9", AfterTenant: "z", Filter: c.filter, Now: now}.Match(c.record),
				"the position is not its business",
			)
		})
	}
}
