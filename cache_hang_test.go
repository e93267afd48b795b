package keycote_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// hung is a Store that hangs, or is slow, where it is told to.
type hung struct {
	keycote.Store
	items, commit atomic.Bool
	all, first    atomic.Bool // all lookups hang, or the next one
	lookups, gets atomic.Int64
	rings         atomic.Int64 // readings of items
	slow, late    atomic.Int64 // nanoseconds that pass before, or after, a read
	commits       atomic.Int64 // nanoseconds that a commit takes
}

// hungWorld is a Manager over one, and another one that writes past it.
func hungWorld(t *testing.T, stale time.Duration) (m, writer *keycote.Manager, h *hung) {
	t.Helper()
	h = &hung{Store: memstore.New()}
	kek := newSpyKEK(t, "kek")
	writer, err := keycote.New(t.Context(), h.Store, kek, nil)
	require.NoError(t, err)
	m, err = keycote.New(t.Context(), h, kek, &keycote.Options{MaxStale: stale})
	require.NoError(t, err)
	return m, writer, h
}

func addHung(t *testing.T, m *keycote.Manager) *keycote.Key {
	t.Helper()
	k, err := m.Add(t.Context(), keycote.AddParams{
		Name: "k", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("Some-long-Value-of-theirs-1"),
	})
	require.NoError(t, err)
	return k
}

func (h *hung) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	h.rings.Add(1)
	time.Sleep(time.Duration(h.slow.Load()))
	if h.items.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Store.Items(ctx, q)
}

func (h *hung) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	h.lookups.Add(1)
	if h.all.Load() || h.first.CompareAndSwap(true, false) {
		<-ctx.Done()
		return keycote.Record{}, ctx.Err()
	}
	time.Sleep(time.Duration(h.slow.Load()))
	r, err := h.Store.Lookup(ctx, digests)
	time.Sleep(time.Duration(h.late.Load()))
	return r, err
}

func (h *hung) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	h.gets.Add(1)
	time.Sleep(time.Duration(h.slow.Load()))
	return h.Store.Get(ctx, tenant, id)
}

func (h *hung) Commit(ctx context.Context, b keycote.Batch) error {
	if h.commit.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-time.After(time.Duration(h.commits.Load())):
	case <-ctx.Done():
		return ctx.Err()
	}
	return h.Store.Commit(ctx, b)
}

// What is on lease, or cached, does not wait for a store that hangs: not for the keyrings that are due, and for the counts
// of a window that is over only as long as any call.
func TestUseOnLeaseNeedsNoStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _, h := hungWorld(t, time.Hour)
		k := addHung(t, m)
		_, _, err := m.Use(t.Context(), k.ID, keycote.Request{})
		require.NoError(t, err)
		time.Sleep(61 * time.Second) // the root keyrings are due
		h.items.Store(true)
		began := time.Now()
		_, _, err = m.Use(t.Context(), k.ID, keycote.Request{})
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
	})
}

func TestACachedVerifyWaitsLittleForCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _, h := hungWorld(t, time.Hour)
		_, token := issueCached(t, m, "k")
		verify := func() {
			_, err := m.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
		}
		verify()
		time.Sleep(61 * time.Second)
		h.commit.Store(true)
		began := time.Now()
		verify()
		require.Less(t, time.Since(began), 5*time.Second)
		began = time.Now()
		verify()
		require.Zero(t, time.Since(began), "one call in a window is enough")
		h.commit.Store(false)
		require.NoError(t, m.Flush(t.Context()))
		usage, err := h.Usage(t.Context(), keycote.UsageQuery{Limit: 10})
		require.NoError(t, err)
		n := int64(0)
		for _, u := range usage {
			n += u.N
		}
		require.EqualValues(t, 3, n, "what could not be written is written later, once")
	})
}

func TestAFirstUseWaitsForLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _, h := hungWorld(t, 0)
		k, _ := issueCached(t, m, "k")
		_, s, err := m.Rotate(t.Context(), k.ID, keycote.RotateParams{})
		require.NoError(t, err)
		h.commit.Store(true)
		began := time.Now()
		_, err = m.Verify(t.Context(), s.Reveal(), keycote.Request{})
		require.NoError(t, err)
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

// A read on a connection that has died without a word holds nobody up but him who sent it.
func TestAHungLeaderIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		_, token := issueCached(t, writer, "k")
		h.first.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = m.Verify(t.Context(), token, keycote.Request{}) })
		synctest.Wait()
		for range 5 {
			ctx, done := context.WithTimeout(t.Context(), 2*time.Second)
			wg.Go(func() {
				defer done()
				_, err := m.Verify(ctx, token, keycote.Request{})
				require.NoError(t, err)
			})
		}
		wg.Wait()
		require.EqualValues(t, 2, h.lookups.Load(), "one of those who waited has read for all of them")
	})
}

func TestACancelledLeaderLeavesNoHerd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		_, token := issueCached(t, writer, "k")
		h.first.Store(true)
		stuck, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = m.Verify(stuck, token, keycote.Request{}) })
		synctest.Wait()
		h.slow.Store(int64(10 * time.Millisecond))
		for range 200 {
			wg.Go(func() {
				_, err := m.Verify(t.Context(), token, keycote.Request{})
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		require.EqualValues(t, 2, h.lookups.Load())
	})
}

func TestUseReadsOnceForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		k := addHung(t, writer)
		h.slow.Store(int64(100 * time.Millisecond))
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				_, s, err := m.Use(t.Context(), k.ID, keycote.Request{})
				require.NoError(t, err)
				require.Equal(t, "Some-long-Value-of-theirs-1", s.Reveal())
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, h.gets.Load())
	})
}

// Changes of other keys neither send those who wait for a read round again, nor keep what was read from being cached.
func TestOtherKeysChangesHoldNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		_, token := issueCached(t, writer, "k")
		other, _ := issueCached(t, writer, "other")
		position := m.Follow(t.Context(), "")
		h.slow.Store(int64(100 * time.Millisecond))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_, err := m.Verify(t.Context(), token, keycote.Request{})
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		owner := "somebody else"
		_, err := writer.Update(t.Context(), other.ID, keycote.Patch{Owner: &owner})
		require.NoError(t, err)
		m.Follow(t.Context(), position)
		wg.Wait()
		require.EqualValues(t, 1, h.lookups.Load())
		_, err = m.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
		require.EqualValues(t, 1, h.lookups.Load(), "it was published")
	})
}

// A key's own change while it is read does both: who called after it was heard of has it read again.
func TestItsOwnChangeIsSeenByWhoCallsAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		k, token := issueCached(t, writer, "k")
		position := m.Follow(t.Context(), "")
		h.late.Store(int64(100 * time.Millisecond)) // between the read and its answer
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := m.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
		})
		synctest.Wait()
		_, err := writer.Disable(t.Context(), k.ID, "")
		require.NoError(t, err)
		m.Follow(t.Context(), position)
		for range 20 {
			wg.Go(func() {
				_, err := m.Verify(t.Context(), token, keycote.Request{})
				require.ErrorIs(t, err, keycote.ErrDisabled)
			})
		}
		wg.Wait()
		require.EqualValues(t, 2, h.lookups.Load())
	})
}

func TestAStaleHitHidesNoMiss(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := &lookupGate{Store: w.store, held: make(chan struct{}, 64)}
	here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{Now: w.clock.Now, MaxStale: stale})
	require.NoError(t, err)
	k, token := issueCached(t, w.Manager, "k")
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	require.NoError(t, w.Delete(t.Context(), k.ID, ""))
	w.clock.Advance(stale)
	before := g.lookups.Load()
	for range 10 {
		_, err = here.Verify(t.Context(), token, keycote.Request{})
		require.ErrorIs(t, err, keycote.ErrUnknownKey)
	}
	require.EqualValues(t, 1, g.lookups.Load()-before)
}
