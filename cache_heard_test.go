package keycote_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/keycote/keycote"
)

// floodedFeed is a Store whose feed can tell of changes that nobody has made, after those that somebody has.
type floodedFeed struct {
	keycote.Store
	flood int
}

func (s *floodedFeed) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	changes, next, err := s.Store.Changes(ctx, after)
	for ; err == nil && s.flood > 0; s.flood-- {
		changes = append(changes, keycote.Change{ID: fmt.Sprint("key_", s.flood), Revision: 2})
	}
	return changes, next, err
}

// What was read before a change is not kept after it, however this process has heard of the change.
func TestNothingIsKeptFromBeforeAChangeThatWasHeardOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		heard func(feed *prunedFeed, flood *floodedFeed)
	}{
		{"by name", func(*prunedFeed, *floodedFeed) {}},
		{"among more than are remembered", func(_ *prunedFeed, flood *floodedFeed) { flood.flood = 6000 }},
		{"by a feed that is lost", func(feed *prunedFeed, _ *floodedFeed) { feed.pruned++ }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			flood := &floodedFeed{Store: r.store}
			feed := &prunedFeed{Store: flood}
			g := &readGate{Store: feed}
			here := r.caching(t, g, time.Hour)
			access, token := issue(t, r.m, keycote.IssueParams{Name: "k"})
			credential, _ := add(t, r.m, "k")
			position := here.Follow(t.Context(), "")
			revoke := func(k *keycote.Key) func() {
				return func() {
					_, err := r.m.Revoke(t.Context(), k.ID, "stolen")
					require.NoError(t, err)
					tt.heard(feed, flood)
					position = here.Follow(t.Context(), position)
					require.Zero(t, flood.flood)
				}
			}
			g.hold("lookup").during(t,
				func() { _, _ = here.Verify(t.Context(), token, keycote.Request{}) }, revoke(access))
			require.ErrorIs(t, verifies(t, here, token), keycote.ErrRevoked)
			position = here.Follow(t.Context(), position)
			g.hold("get").during(t,
				func() { _, _, _ = here.Use(t.Context(), credential.ID, keycote.Request{}) }, revoke(credential))
			_, err := opened(t, here, credential.ID)
			require.ErrorIs(t, err, keycote.ErrRevoked)
		})
	}
}

// second starts two calls, the second one while the first waits for its answer, after meanwhile and some time. It is
// for a bubble.
func (h *heldAnswer) second(first, meanwhile func(), later time.Duration, second func()) {
	var wg sync.WaitGroup
	wg.Go(first)
	<-h.read
	meanwhile()
	time.Sleep(later)
	wg.Go(second)
	synctest.Wait() // for the first one's answer
	close(h.goOn)
	wg.Wait()
}

// Who asks after his key was committed here is not told what another one's read has found before.
func TestWhoAsksAfterACommitTakesNoMissFromBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		g := &readGate{Store: w.store}
		here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{MaxStale: time.Hour})
		require.NoError(t, err)
		tx := w.begin()
		in, committed := here.In(tx)
		_, token := issue(t, in, keycote.IssueParams{Name: "k"})
		var late error
		g.hold("lookup").second(
			func() { _, _ = here.Verify(t.Context(), token, keycote.Request{}) },
			func() {
				tx.commit(t)
				committed()
			}, 0,
			func() { late = verifies(t, here, token) },
		)
		require.NoError(t, late)
	})
}

// Who waits for another's read takes what it finds only if that is younger than MaxStale, counted from when the read
// was sent.
func TestWhoWaitsTakesNoAnswerThatIsTooOld(t *testing.T) {
	t.Parallel()
	for waited, want := range map[time.Duration]keycote.Code{stale - 1: "", stale: keycote.ErrRevoked} {
		t.Run(waited.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil) // whose clock stands still
				g := &readGate{Store: r.store}
				here := r.caching(t, g, stale)
				access, token := issue(t, r.m, keycote.IssueParams{Name: "k"})
				credential, _ := add(t, r.m, "k")
				revoke := func(k *keycote.Key) func() {
					return func() { _, err := r.m.Revoke(t.Context(), k.ID, "stolen"); require.NoError(t, err) }
				}
				var late error
				g.hold("lookup").second(
					func() { _, _ = here.Verify(t.Context(), token, keycote.Request{}) }, revoke(access), waited,
					func() { late = verifies(t, here, token) })
				require.Equal(t, want, keycote.CodeOf(late))
				g.hold("get").second(
					func() { _, _, _ = here.Use(t.Context(), credential.ID, keycote.Request{}) }, revoke(credential), waited,
					func() { _, late = opened(t, here, credential.ID) })
				require.Equal(t, want, keycote.CodeOf(late))
			})
		})
	}
}

// What a key of a root keyring has made is not honoured from the cache once the key is known to be gone.
func TestTheCacheForgetsWhatAGoneKeyHasMade(t *testing.T) {
	t.Parallel()
	for name, follows := range map[string]bool{"by the feed": true, "by a look at the keyrings": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			here := r.caching(t, r.store, time.Hour)
			k, token := issue(t, r.m, keycote.IssueParams{Name: "k"})
			position := here.Follow(t.Context(), "")
			require.NoError(t, verifies(t, here, token))
			position = here.Follow(t.Context(), position)
			r.change(t, "", "index", rotated(prf.HMACSHA256PRFKeyTemplate()), r.kek)
			r.change(t, "", "index", dropOld, r.kek)
			require.NoError(t, verifies(t, here, token), "nobody has told")
			if follows {
				here.Follow(t.Context(), position)
			} else {
				r.clock.advance(time.Minute)
				_, err := here.Get(t.Context(), k.ID)
				require.NoError(t, err)
			}
			require.ErrorIs(t, verifies(t, here, token), keycote.ErrUnknownKey)
		})
	}
}
