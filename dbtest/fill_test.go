package dbtest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// heldStore is a Store whose next Lookup, when it is told so, has its answer and does not give it yet.
type heldStore struct {
	keycote.Store
	hold            atomic.Bool
	answered, given chan struct{}
	followed        atomic.Int64 // readings of the feed that have begun
}

func (s *heldStore) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	r, err := s.Store.Lookup(ctx, digests)
	if s.hold.CompareAndSwap(true, false) {
		s.answered <- struct{}{}
		<-s.given
	}
	return r, err
}

func (s *heldStore) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	s.followed.Add(1)
	return s.Store.Changes(ctx, after)
}

// A lookup has its answer when the key is revoked, by the same Manager or by another whose change comes by the feed,
// and gives it afterwards. What it brings is not cached.
func TestFillInFlight(t *testing.T) {
	onEach(t, "fill in flight", onceEach, func(t *testing.T, e *engine) {
		store, _, here := e.fresh(t)
		ctx := t.Context()
		held := &heldStore{Store: store, answered: make(chan struct{}), given: make(chan struct{})}
		m := follower(t, held, here.kek)
		require.Eventually(t, func() bool { return held.followed.Load() > 1 }, time.Minute, time.Millisecond, "it follows")
		other, err := openHost(ctx, store, here.kek)
		require.NoError(t, err)
		for _, tt := range []struct {
			name    string
			revoker *keycote.Manager
		}{{"the same", m}, {"another", other}} {
			key, secret, err := other.Issue(ctx, keycote.IssueParams{Name: tt.name})
			require.NoError(t, err)
			held.hold.Store(true)
			late := make(chan error, 1)
			go func() {
				_, err := m.Verify(ctx, secret.Reveal(), keycote.Request{})
				late <- err
			}()
			<-held.answered
			_, err = tt.revoker.Revoke(ctx, key.ID, "leaked")
			require.NoError(t, err)
			if tt.revoker == other {
				read := held.followed.Load() + 2 // the first of these begins after the revocation, and has been followed
				require.Eventually(t, func() bool { return held.followed.Load() >= read }, time.Minute, time.Millisecond)
			}
			held.given <- struct{}{}
			require.NoError(t, <-late, "it was asked before")
			_, err = m.Verify(ctx, secret.Reveal(), keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrRevoked, tt.name)
		}
	})
}
