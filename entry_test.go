package keycote_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// A Key that is put together again from what the cache keeps is the Key that the store has, and each caller's own.
func TestTheKeyOfACachedGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: time.Hour})
	for name, p := range map[string]keycote.IssueParams{
		"little": {Name: "little"},
		"all": {
			Name: "all", App: "shop", Owner: "ann", Scopes: []string{"a:read", "b:**"}, Labels: map[string]string{"k": "v", "x": ""},
			Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, ExpiresAt: worldStart.Add(time.Hour),
			Limit: keycote.Limit{Rate: 5, Per: time.Minute, Burst: 7, Quota: 9, Period: time.Hour},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, _, err := w.Issue(t.Context(), p)
			require.NoError(t, err)
			_, s, err := w.Rotate(t.Context(), k.ID, keycote.RotateParams{Overlap: time.Minute})
			require.NoError(t, err)
			r := keycote.Request{Addr: netip.MustParseAddr("192.0.2.1")}
			_, err = w.Verify(t.Context(), s.Reveal(), r) // its first use is written down
			require.NoError(t, err)
			want, err := w.Verify(t.Context(), s.Reveal(), r)
			require.NoError(t, err)
			for range 2 {
				got, err := here.Verify(t.Context(), s.Reveal(), r)
				require.NoError(t, err)
				require.Equal(t, want.Key(), got.Key())
				require.Equal(t, want.ExpiresAt, got.ExpiresAt)
				require.Equal(t, want.Owner, got.Owner)
				require.Equal(t, len(p.Scopes) > 0, got.Allows("a:read"))
				key := got.Key() // what a caller does to his copy is nobody else's
				key.Versions[0].Hint = "changed"
				for i := range key.Scopes {
					key.Scopes[i] = "**"
				}
				for i := range key.Networks {
					key.Networks[i] = netip.MustParsePrefix("0.0.0.0/0")
				}
			}
		})
	}
}

// The counts of an entry that leaves the cache stay, and those of the entry in its place join them in one row.
func TestCountsOfAnEntryThatIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: time.Second})
	k, token := issueCached(t, w.Manager, "k")
	r := keycote.Request{Route: "GET /", UserAgent: "x"}
	const rounds, each = 10, 3
	for range rounds {
		for range each {
			_, err := here.Verify(t.Context(), token, r)
			require.NoError(t, err)
		}
		require.Equal(t, 1, here.UseRows())
		w.clock.Advance(time.Second)
	}
	require.NoError(t, here.Flush(t.Context()))
	rows, sums := w.usage()
	require.Len(t, rows, 1)
	require.EqualValues(t, rounds*each, sums[""])
	require.Equal(t, k.ID, rows[0].KeyID)
	require.Equal(t, worldStart.Add((rounds-1)*time.Second), rows[0].Last)
}
