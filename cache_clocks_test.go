package keycote_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// What is cached grows old by the host's clock and by the machine's, whichever has gone further: a host's clock may be
// set, and a machine's may stand still while the machine sleeps. In a bubble both are the test's.
func TestTheCacheGrowsOldByEitherClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		moves func(w *world, d time.Duration)
	}{
		{"the host's", func(w *world, d time.Duration) { w.clock.Advance(d) }},
		{"the machine's", func(_ *world, d time.Duration) { time.Sleep(d) }},
		{"both", func(w *world, d time.Duration) { w.clock.Advance(d); time.Sleep(d) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				here := w.another(&keycote.Options{MaxStale: stale})
				_, token := w.issue(keycote.IssueParams{Name: "there"})
				gone, none := w.issue(keycote.IssueParams{Name: "gone"})
				require.NoError(t, w.Delete(t.Context(), gone.ID, ""))
				credential := w.add(keycote.AddParams{})
				reads := func() (n [4]int) {
					require.NoError(t, verifies(t, here, token))
					n[0] = w.store.readsOf("lookup")
					require.ErrorIs(t, verifies(t, here, none), keycote.ErrUnknownKey)
					n[1] = w.store.readsOf("lookup") - n[0]
					_, err := opened(t, here, credential.ID)
					require.NoError(t, err)
					n[2], n[3] = w.store.readsOf("get"), w.store.readsOf("items")
					return n
				}
				reads()
				before := reads()
				require.Zero(t, before[1], "all is cached")
				tt.moves(w, stale-1)
				require.Equal(t, before, reads(), "within MaxStale the store is not asked")
				tt.moves(w, 1)
				after := reads()
				require.Equal(t, 1, after[0]-before[0], "a key")
				require.Equal(t, 1, after[1], "a miss")
				require.Equal(t, 1, after[2]-before[2], "a credential")
				require.Equal(t, 1, after[3]-before[3], "its keyring")
			})
		})
	}
}

// A keyring is leased for as long as a key, and from when it was read itself: a credential that was read later does not
// make it younger.
func TestTheLeaseOnAKeyringEndsWithMaxStale(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	here := r.caching(t, r.store, stale).Tenant("acme")
	first, _ := add(t, r.m.Tenant("acme"), "first")
	second, _ := add(t, r.m.Tenant("acme"), "second")
	_, err := opened(t, here, first.ID)
	require.NoError(t, err)
	r.clock.advance(stale / 2)
	_, err = opened(t, here, second.ID)
	require.NoError(t, err)
	r.shred(t, "acme")
	r.clock.advance(stale / 2)
	for _, k := range []*keycote.Key{second, first} {
		value, err := opened(t, here, k.ID)
		require.ErrorIs(t, err, keycote.ErrShredded)
		require.True(t, value == "")
	}
}
