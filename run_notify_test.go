package keycote_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// quiet is a Store that hears of no commit.
type quiet struct {
	keycote.Store
	reads atomic.Int64 // of the feed
	hold  atomic.Pointer[chan struct{}]
}

func (s *quiet) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	s.reads.Add(1)
	if hold := s.hold.Load(); hold != nil {
		<-*hold
	}
	return s.Store.Changes(ctx, after)
}

// notifying is one that does, by whatever notify is.
type notifying struct {
	*quiet
	notify func(ctx context.Context, wake func()) error
}

func (s notifying) Notify(ctx context.Context, wake func()) error { return s.notify(ctx, wake) }

// listens calls wake at the start and leaves it where a test finds it.
func listens(wakes *atomic.Pointer[func()]) func(context.Context, func()) error {
	return func(ctx context.Context, wake func()) error {
		wake()
		wakes.Store(&wake)
		<-ctx.Done()
		return ctx.Err()
	}
}

// inBubble runs a test in which time passes only when everybody waits: a Manager by which keys are changed, and a run of
// another one over the same store.
func inBubble(t *testing.T, test func(t *testing.T, store *quiet, writer *keycote.Manager, open opener)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := newSpyKEK(t, "kek")
		store := &quiet{Store: memstore.New()}
		writer, err := keycote.New(t.Context(), store, kek, nil)
		require.NoError(t, err)
		test(t, store, writer, func(s keycote.Store, stale time.Duration) (*keycote.Manager, func()) {
			m, err := keycote.New(t.Context(), s, kek, &keycote.Options{MaxStale: stale})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			return m, func() { cancel(); require.NoError(t, <-ended) }
		})
	})
}

type opener func(s keycote.Store, stale time.Duration) (m *keycote.Manager, stop func())

func TestRunFollowsAtAWake(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, writer *keycote.Manager, open opener) {
		key, token := issueCached(t, writer, "k")
		var wake atomic.Pointer[func()]
		other, stop := open(notifying{store, listens(&wake)}, time.Hour)
		synctest.Wait()
		verify := func() error { _, err := other.Verify(t.Context(), token, keycote.Request{}); return err }
		require.NoError(t, verify())
		began := time.Now()
		_, err := writer.Revoke(t.Context(), key.ID, "")
		require.NoError(t, err)
		require.NoError(t, verify(), "nobody has told")
		(*wake.Load())()
		synctest.Wait()
		require.ErrorIs(t, verify(), keycote.ErrRevoked)
		require.Zero(t, time.Since(began), "not by the poll")
		stop()
		(*wake.Load())() // does no harm
	})
}

func TestRunPollsWhoIsSilent(t *testing.T) {
	for name, notify := range map[string]func(context.Context, func()) error{
		"no notifier":              nil,
		"one that hears nothing":   listens(new(atomic.Pointer[func()])),
		"one that cannot listen":   func(context.Context, func()) error { return errors.New("no connection") },
		"one that ends by itself":  func(context.Context, func()) error { return nil },
		"one that wakes and fails": func(_ context.Context, wake func()) error { wake(); return errors.New("cut") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *quiet, writer *keycote.Manager, open opener) {
				key, token := issueCached(t, writer, "k")
				var s keycote.Store = store
				if notify != nil {
					s = notifying{store, notify}
				}
				other, stop := open(s, time.Hour)
				time.Sleep(1500 * time.Millisecond) // the bubble's: its position is taken
				_, err := other.Verify(t.Context(), token, keycote.Request{})
				require.NoError(t, err)
				_, err = writer.Revoke(t.Context(), key.ID, "")
				require.NoError(t, err)
				time.Sleep(time.Second)
				_, err = other.Verify(t.Context(), token, keycote.Request{})
				require.ErrorIs(t, err, keycote.ErrRevoked)
				stop()
			})
		})
	}
}

func TestRunListensAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, _ *keycote.Manager, open opener) {
		starts := make(chan int64, 100) // milliseconds since the first
		var lasts atomic.Int64
		began := time.Now()
		notify := func(ctx context.Context, wake func()) error {
			starts <- time.Since(began).Milliseconds()
			wake()
			select {
			case <-time.After(time.Duration(lasts.Load())):
			case <-ctx.Done():
			}
			return errors.New("cut")
		}
		seen := func() (at []int64) {
			for len(starts) > 0 {
				at = append(at, <-starts)
			}
			return at
		}
		_, stop := open(notifying{store, notify}, time.Minute)
		time.Sleep(60 * time.Second)
		require.Equal(t, []int64{0, 100, 300, 700, 1500, 3100, 6300, 12700, 22700, 32700, 42700, 52700}, seen())
		lasts.Store(int64(time.Minute)) // from the next one on it listens for a while
		time.Sleep(130 * time.Second)
		require.Equal(t, []int64{62700, 122800, 182900}, seen(), "soon, once it has listened")
		stop()
	})
}

func TestRunEndsAfterItsNotifier(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, _ *keycote.Manager, open opener) {
		ended := false
		_, stop := open(notifying{store, func(ctx context.Context, _ func()) error {
			<-ctx.Done()
			time.Sleep(time.Minute) // a connection that takes its time to close
			ended = true
			return ctx.Err()
		}}, time.Minute)
		synctest.Wait()
		stop()
		require.True(t, ended)
	})
}

func TestWakesAreCoalesced(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, _ *keycote.Manager, open opener) {
		var wake atomic.Pointer[func()]
		_, stop := open(notifying{store, listens(&wake)}, time.Minute)
		synctest.Wait()
		held := make(chan struct{})
		store.hold.Store(&held)
		before := store.reads.Load()
		(*wake.Load())()
		synctest.Wait() // it is being followed
		for range 1000 {
			(*wake.Load())()
		}
		store.hold.Store(nil)
		close(held)
		synctest.Wait()
		require.EqualValues(t, 2, store.reads.Load()-before, "the one under way, and one for all that came meanwhile")
		stop()
	})
}

// Without a cache there is nothing that has to hear of changes at once.
func TestNoNotifierWithoutACache(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, _ *keycote.Manager, open opener) {
		asked := false
		_, stop := open(notifying{store, func(context.Context, func()) error { asked = true; return nil }}, 0)
		time.Sleep(10 * time.Second)
		stop()
		require.False(t, asked)
	})
}

func TestPollingGoesByMaxStale(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stale time.Duration
		polls int64 // in ten seconds
	}{
		{"no cache", 0, 10},
		{"a minute", time.Minute, 10},
		{"two seconds", 2 * time.Second, 10},
		{"one second", time.Second, 20},
		{"half a second", 500 * time.Millisecond, 40},
		{"a millisecond", time.Millisecond, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *quiet, _ *keycote.Manager, open opener) {
				_, stop := open(store, tt.stale)
				time.Sleep(10*time.Second + time.Millisecond)
				synctest.Wait()
				require.Equal(t, tt.polls, store.reads.Load())
				stop()
			})
		})
	}
}

// A key in use is read once and vouched for by the feed from then on, also where MaxStale is one of Run's own steps.
func TestTheFeedVouchesInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, writer *keycote.Manager, open opener) {
		_, token := issueCached(t, writer, "k")
		g := &lookupGate{Store: store}
		other, stop := open(g, time.Second)
		time.Sleep(1100 * time.Millisecond)
		for range 1000 {
			_, err := other.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
			time.Sleep(10 * time.Millisecond)
		}
		require.EqualValues(t, 1, g.lookups.Load())
		stop()
	})
}

// hanging is a Notifier whose use log cannot be written for now.
type hanging struct {
	notifying
	hung chan struct{}
}

func (s hanging) Commit(ctx context.Context, b keycote.Batch) error {
	if len(b.Uses) > 0 {
		<-s.hung
	}
	return s.notifying.Commit(ctx, b)
}

// A flush of 400 counts held a revocation up for a third of a second, when one loop did both.
func TestARevocationDoesNotWaitForTheUseLog(t *testing.T) {
	inBubble(t, func(t *testing.T, store *quiet, writer *keycote.Manager, open opener) {
		key, token := issueCached(t, writer, "k")
		var wake atomic.Pointer[func()]
		s := hanging{notifying{store, listens(&wake)}, make(chan struct{})}
		other, stop := open(s, time.Hour)
		time.Sleep(2 * time.Second)
		verify := func() error { _, err := other.Verify(t.Context(), token, keycote.Request{}); return err }
		require.NoError(t, verify())
		time.Sleep(10 * time.Second) // it is being written
		_, err := writer.Revoke(t.Context(), key.ID, "")
		require.NoError(t, err)
		(*wake.Load())()
		synctest.Wait()
		require.ErrorIs(t, verify(), keycote.ErrRevoked)
		close(s.hung)
		stop()
	})
}
