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

// readGate is the Store of one process, which can hold the next answer to a read back once it has been read.
type readGate struct {
	keycote.Store
	next atomic.Pointer[heldAnswer]
}

// heldAnswer is an answer on its way: of a "get", a "lookup" or a tenant's "keyring".
type heldAnswer struct {
	of         string
	read, goOn chan struct{}
}

func (g *readGate) hold(of string) *heldAnswer {
	h := &heldAnswer{of, make(chan struct{}), make(chan struct{})}
	g.next.Store(h)
	return h
}

func (g *readGate) answer(of string) {
	if h := g.next.Load(); h != nil && h.of == of && g.next.CompareAndSwap(h, nil) {
		close(h.read)
		<-h.goOn
	}
}

func (g *readGate) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	r, err := g.Store.Get(ctx, tenant, id)
	g.answer("get")
	return r, err
}

func (g *readGate) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	r, err := g.Store.Lookup(ctx, digests)
	g.answer("lookup")
	return r, err
}

func (g *readGate) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	items, err := g.Store.Items(ctx, q)
	if q.Tenant != "" {
		g.answer("keyring")
	}
	return items, err
}

// heldFor bounds what no test should wait for.
const heldFor = time.Minute

// during lets call begin, does meanwhile once the answer has been read that it waits for, and then lets it end.
func (h *heldAnswer) during(t testing.TB, call, meanwhile func()) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(h.goOn)
	wg.Go(call)
	select {
	case <-h.read:
		meanwhile()
	case <-time.After(heldFor):
		t.Error("nothing was read: ", h.of)
	}
}

// caching is a process that caches, over a Store of its own.
func (r *rig) caching(t testing.TB, s keycote.Store, stale time.Duration) *keycote.Manager {
	t.Helper()
	m, err := keycote.New(t.Context(), s, r.kek, r.options(t, &keycote.Options{MaxStale: stale}))
	require.NoError(t, err)
	return m
}

// shred shreds a tenant's keyring, as another process does.
func (r *rig) shred(t testing.TB, tenant string) {
	t.Helper()
	stone := keycote.Tombstone(*r.store.rows(t).item(t, tenant, "data"), r.clock.Now())
	require.NoError(t, r.store.Commit(t.Context(), keycote.Batch{ID: "shred " + tenant, Items: []keycote.Item{stone}}))
}

// opened is what Use hands out.
func opened(t testing.TB, m *keycote.Manager, id string) (value string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), heldFor)
	defer cancel()
	_, secret, err := m.Use(ctx, id, keycote.Request{})
	return secret.Reveal(), heard(err)
}

// A credential that was read before a change of it must not be leased after the change.
func TestUseDoesNotLeaseWhatItReadBeforeAChange(t *testing.T) {
	t.Parallel()
	next := canary("The-next-Value-of-theirs-2")
	rotate := func(t *testing.T, m *keycote.Manager, id string) {
		_, _, err := m.Rotate(t.Context(), id, keycote.RotateParams{Secret: keycote.NewSecret(next)})
		require.NoError(t, err)
	}
	revoke := func(t *testing.T, m *keycote.Manager, id string) {
		_, err := m.Revoke(t.Context(), id, "stolen")
		require.NoError(t, err)
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, m *keycote.Manager, id string)
		value  string
		code   keycote.Code
	}{
		{"rotate", rotate, next, ""},
		{"revoke", revoke, "", keycote.ErrRevoked},
	} {
		for _, elsewhere := range []bool{false, true} {
			name := tt.name + " here"
			if elsewhere {
				name = tt.name + " elsewhere"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, nil)
				g := &readGate{Store: r.store}
				here := r.caching(t, g, time.Hour)
				k, _ := add(t, r.m, "k")
				position := here.Follow(t.Context(), "")
				g.hold("get").during(t,
					func() { _, _, _ = here.Use(t.Context(), k.ID, keycote.Request{}) }, // it asked before the change
					func() {
						if !elsewhere {
							tt.change(t, here, k.ID)
							return
						}
						tt.change(t, r.m, k.ID)
						here.Follow(t.Context(), position)
					},
				)
				value, err := opened(t, here, k.ID)
				require.Equal(t, tt.code, keycote.CodeOf(err))
				require.True(t, value == tt.value)
			})
		}
	}
}

// Who asks after a change must see it, also while one who asked before it still waits for the store. In a bubble it
// costs nothing to wait for him for a while.
func TestUseAfterAChangeDoesNotTakeAReadFromBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		g := &readGate{Store: r.store}
		here := r.caching(t, g, time.Hour)
		k, _ := add(t, r.m, "k")
		var during error
		g.hold("get").during(t,
			func() { _, _, _ = here.Use(t.Context(), k.ID, keycote.Request{}) },
			func() {
				_, err := here.Revoke(t.Context(), k.ID, "stolen")
				require.NoError(t, err)
				_, during = opened(t, here, k.ID)
			},
		)
		require.ErrorIs(t, during, keycote.ErrRevoked)
		_, err := opened(t, here, k.ID)
		require.ErrorIs(t, err, keycote.ErrRevoked)
	})
}

// A keyring that was read before the feed named it must not be taken for the present one afterwards.
func TestUseDoesNotKeepAKeyringReadBeforeAChange(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	g := &readGate{Store: r.store}
	here := r.caching(t, g, time.Hour)
	k, _ := add(t, r.m.Tenant("acme"), "k")
	position := here.Follow(t.Context(), "")
	g.hold("keyring").during(t,
		func() { _, _, _ = here.Tenant("acme").Use(t.Context(), k.ID, keycote.Request{}) }, // it asked before
		func() {
			r.shred(t, "acme")
			here.Follow(t.Context(), position)
		},
	)
	value, err := opened(t, here.Tenant("acme"), k.ID)
	require.ErrorIs(t, err, keycote.ErrShredded)
	require.True(t, value == "")
}
