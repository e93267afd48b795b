package keycote_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// A hit allocates nothing, whatever is asked of it. Not parallel: testing.AllocsPerRun wants the process for itself. In
// a bubble the machine's clock stands still, so that no minute ends, after which the uses are written.
func TestACachedVerifyAllocatesNothing(t *testing.T) {
	for name, now := range map[string]func() time.Time{
		"the host's clock": (&handClock{now: worldStart}).Now, "the machine's clock": nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			g := &lookupGate{Store: memstore.New()}
			m, err := keycote.New(t.Context(), g, newSpyKEK(t, "kek"), &keycote.Options{MaxStale: time.Hour, Now: now})
			require.NoError(t, err)
			_, token := issue(t, m, keycote.IssueParams{
				Name: "k", App: "shop", Owner: "anna", Scopes: []string{"orders:read", "orders:write", "stock:**"},
				Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
			})
			for _, addr := range []string{"192.0.2.7", "2001:db8::7"} {
				r := keycote.Request{
					Scopes: []string{"orders:write", "stock:item:read"}, Addr: netip.MustParseAddr(addr),
					Route: "GET /orders/{id}", UserAgent: "curl/8.5.0",
				}
				verify := func() {
					if _, err := m.Verify(t.Context(), token, r); err != nil {
						t.Error("not verified")
					}
				}
				verify() // which fills, or begins to count a place
				require.Zero(t, testing.AllocsPerRun(100, verify), "%s, %s", name, addr)
				require.EqualValues(t, 1, g.lookups.Load(), "%s, %s", name, addr)
			}
		})
	}
}
