package keycote_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// Who can write to the database, and holds a key that was disabled, may put the row back as it was. A process that has seen
// the newer one does not believe the older, by whatever way it comes upon it.

func putBack(t *testing.T, w *world, tenant string, older keycote.Record) {
	t.Helper()
	now, err := w.store.Store.Get(t.Context(), tenant, older.ID)
	require.NoError(t, err)
	for _, b := range []keycote.Batch{
		{ID: "away", Delete: []keycote.RecordRef{{Tenant: tenant, ID: older.ID, Revision: now.Revision}}},
		{ID: "back", Insert: []keycote.Record{older}},
	} {
		require.NoError(t, w.store.Store.Commit(t.Context(), b))
	}
}

func TestAFollowerNoticesAnOlderRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := &lookupGate{Store: w.store, held: make(chan struct{}, 64)}
	here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{Now: w.clock.Now, MaxStale: stale})
	require.NoError(t, err)
	k, token := issueCached(t, w.Manager, "k")
	older := w.raw(k.ID)
	_, err = w.Disable(t.Context(), k.ID, "")
	require.NoError(t, err)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrDisabled)
	putBack(t, w, "", older)
	w.clock.Advance(stale)
	release := make(chan struct{})
	g.hold.Store(&release)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var follow error
	wg.Go(func() { _, _ = here.Verify(ctx, token, keycote.Request{}) })
	<-g.held
	g.hold.Store(nil)
	wg.Go(func() { _, follow = here.Verify(context.WithoutCancel(t.Context()), token, keycote.Request{}) })
	cancel()
	close(release)
	wg.Wait()
	require.ErrorIs(t, follow, keycote.ErrTampered)
}

func TestAnotherViewNoticesAnOlderRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	k, token := issueCached(t, w.Tenant("acme"), "k")
	older, err := w.store.Store.Get(t.Context(), "acme", k.ID)
	require.NoError(t, err)
	_, err = w.Tenant("acme").Disable(t.Context(), k.ID, "")
	require.NoError(t, err)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrDisabled)
	putBack(t, w, "acme", older)
	w.clock.Advance(stale)
	_, err = here.Tenant("acme").Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrTampered)
}

func TestAFeedEntryMakesNobodyForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	position := here.Follow(t.Context(), "")
	k, token := issueCached(t, w.Manager, "k")
	older := w.raw(k.ID)
	_, err := w.Disable(t.Context(), k.ID, "")
	require.NoError(t, err)
	position = here.Follow(t.Context(), position)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrDisabled)
	putBack(t, w, "", older) // and a forged entry of the feed
	here.Follow(t.Context(), position)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrTampered)
}

// Nor does a feed that was taken away, upon which everything that is cached is dropped.
func TestALostFeedMakesNobodyForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	k, token := issueCached(t, w.Manager, "k")
	older := w.raw(k.ID)
	_, err := w.Disable(t.Context(), k.ID, "")
	require.NoError(t, err)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrDisabled)
	putBack(t, w, "", older)
	require.Empty(t, here.Follow(t.Context(), "no position"), "the feed does not know it")
	lookups := w.store.readsOf("lookup")
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrTampered)
	require.Greater(t, w.store.readsOf("lookup"), lookups, "it was read again")
}
