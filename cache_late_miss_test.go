package keycote_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// That a key is not there may be answered for less than MaxStale after it was true, also to one who waits for another's
// read: the key that he presents may have been committed, elsewhere, since that read was sent.
func TestWhoWaitsForAMissTakesNoneThatIsTooOld(t *testing.T) {
	t.Parallel()
	const most = 200 * time.Millisecond
	for name, tt := range map[string]struct {
		waited time.Duration // by the first one, when the second one asks
		want   keycote.Code
	}{
		"it is good": {most - 1, keycote.ErrUnknownKey}, "it is too old": {most, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				g := &readGate{Store: w.store}
				here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{MaxStale: most})
				require.NoError(t, err)
				tx := w.begin()
				in, committed := w.In(tx)
				_, token := issue(t, in, keycote.IssueParams{Name: "k"})
				var wg sync.WaitGroup
				held := g.hold("lookup")
				wg.Go(func() { _, _ = here.Verify(t.Context(), token, keycote.Request{}) })
				<-held.read
				tx.commit(t)
				committed()
				time.Sleep(tt.waited)
				var late error
				wg.Go(func() { late = verifies(t, here, token) })
				synctest.Wait() // it waits for the first one's read
				close(held.goOn)
				wg.Wait()
				require.Equal(t, tt.want, keycote.CodeOf(late))
			})
		})
	}
}

// The same for a credential whose id is known before it is committed.
func TestWhoWaitsForACredentialTakesNoAnswerThatIsTooOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 200 * time.Millisecond
		w := newWorld(t, nil)
		w.add(keycote.AddParams{Name: "there"}) // with the keyring
		g := &readGate{Store: w.store}
		here, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{MaxStale: most})
		require.NoError(t, err)
		tx := w.begin()
		in, committed := w.In(tx)
		k, _ := add(t, in, "k")
		var wg sync.WaitGroup
		held := g.hold("get")
		wg.Go(func() { _, _, _ = here.Use(t.Context(), k.ID, keycote.Request{}) })
		<-held.read
		tx.commit(t)
		committed()
		time.Sleep(most)
		var late error
		wg.Go(func() { _, late = opened(t, here, k.ID) })
		synctest.Wait()
		close(held.goOn)
		wg.Wait()
		require.NoError(t, late)
	})
}
