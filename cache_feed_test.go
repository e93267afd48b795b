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
)

// A follower that came after a revocation elsewhere must not take an answer from before it, whatever the feed said of
// everything else meanwhile.
func TestCacheFollowersHeedTheFeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := &lookupGate{Store: w.store, held: make(chan struct{}, 64)}
	here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{Now: w.clock.Now, MaxStale: stale})
	require.NoError(t, err)
	k, token := issueCached(t, w.Manager, "k")
	position := here.Follow(t.Context(), "")
	release := make(chan struct{})
	g.hold.Store(&release)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = here.Verify(context.WithoutCancel(t.Context()), token, keycote.Request{}) })
	<-g.held // the leader has read, and waits
	g.hold.Store(nil)
	_, err = w.Revoke(t.Context(), k.ID, "")
	require.NoError(t, err)
	var late error
	started := make(chan struct{})
	wg.Go(func() {
		close(started)
		_, late = here.Verify(context.WithoutCancel(t.Context()), token, keycote.Request{})
	})
	<-started
	w.clock.Advance(2 * stale)
	here.Follow(t.Context(), position)
	close(release)
	wg.Wait()
	require.ErrorIs(t, late, keycote.ErrRevoked)
}

// A reading of the feed that names a key and vouches for all others must not vouch for what somebody has looked up just
// before it, and judges just after it.
func TestCacheLooksUpUnderTheFeedThatVouches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		g := &lookupGate{Store: w.store, held: make(chan struct{}, 64)}
		var step atomic.Pointer[func()]
		here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{MaxStale: stale, Now: func() time.Time {
			if f := step.Swap(nil); f != nil {
				(*f)()
			}
			return w.clock.Now()
		}})
		require.NoError(t, err)
		k, token := issueCached(t, w.Manager, "k")
		position := here.Follow(t.Context(), "")
		release := make(chan struct{})
		g.hold.Store(&release)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = here.Verify(t.Context(), token, keycote.Request{}) })
		<-g.held // the leader has read, and waits
		g.hold.Store(nil)
		_, err = w.Revoke(t.Context(), k.ID, "")
		require.NoError(t, err)
		w.clock.Advance(2 * stale)
		var late error
		wg.Go(func() { _, late = here.Verify(t.Context(), token, keycote.Request{}) })
		synctest.Wait() // it waits for the leader's read
		follow := func() { here.Follow(t.Context(), position) }
		step.Store(&follow)
		close(release)
		wg.Wait()
		require.Nil(t, step.Load(), "the follower has looked at the clock")
		require.ErrorIs(t, late, keycote.ErrRevoked)
	})
}

// Who can write to the database can also delete what the feed would have said.
func TestTheFeedDoesNotVouchForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	_, token := issueCached(t, w.Manager, "k")
	position := here.Follow(t.Context(), "")
	_, err := here.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	lookups := w.store.readsOf("lookup")
	for passed := time.Duration(0); passed < 5*time.Minute; passed += stale / 2 {
		w.clock.Advance(stale / 2)
		position = here.Follow(t.Context(), position)
		_, err = here.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
	}
	require.Equal(t, lookups+1, w.store.readsOf("lookup"))
}
