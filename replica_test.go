package keycote_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

const (
	lag         = 5 * time.Second
	copiedStale = time.Minute
)

// copied is a Store with a replica that has what it had when copy was called.
type copied struct {
	keycote.Store
	lag time.Duration

	mu      sync.Mutex
	records []keycote.Record
	fails   error
	hangs   bool
	reads   int    // of the Store itself
	copies  int    // of the replica
	during  func() // runs while the replica is asked
}

func (s *copied) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	return s.Store.Lookup(ctx, digests)
}

func (s *copied) Replica() (func(context.Context, [][]byte) (keycote.Record, error), time.Duration) {
	return s.lookupCopy, s.lag
}

func (s *copied) lookupCopy(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	s.mu.Lock()
	s.copies++
	records, fails, hangs, during := s.records, s.fails, s.hangs, s.during
	s.mu.Unlock()
	if during != nil {
		during()
	}
	if hangs {
		<-ctx.Done()
		return keycote.Record{}, ctx.Err()
	}
	if fails != nil {
		return keycote.Record{}, fails
	}
	for _, r := range records {
		for _, d := range digests {
			if slices.ContainsFunc(r.Digests, func(has []byte) bool { return bytes.Equal(has, d) }) {
				return keycote.Record{Tenant: r.Tenant, ID: r.ID, Body: r.Body, Seal: r.Seal}, nil
			}
		}
	}
	return keycote.Record{}, keycote.ErrNotFound
}

// copy brings the replica up to date.
func (s *copied) copy(t *testing.T) {
	t.Helper()
	records, err := s.List(t.Context(), keycote.Query{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = records
}

// asked says how often the Store and its replica were asked since the last time.
func (s *copied) asked() (reads, copies int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reads, copies = s.reads, s.copies
	s.reads, s.copies = 0, 0
	return reads, copies
}

// copying is a test's own process, and a store that two processes work on.
type copying struct {
	*keycote.Manager
	t      *testing.T
	store  *copied
	writer *keycote.Manager // another process, without a replica
	kek    keycote.KEK
}

// inCopies runs a test in a bubble, long enough after the start for the replica to be asked.
func inCopies(t *testing.T, stale time.Duration, test func(t *testing.T, c *copying)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &copying{t: t, store: &copied{Store: memstore.New(), lag: lag}, kek: newSpyKEK(t, "kek")}
		var err error
		c.writer, err = keycote.New(t.Context(), c.store.Store, c.kek, nil)
		require.NoError(t, err)
		c.Manager, err = keycote.New(t.Context(), c.store, c.kek, &keycote.Options{MaxStale: stale})
		require.NoError(t, err)
		time.Sleep(lag + 1)
		test(t, c)
	})
}

// issue makes a key elsewhere, which the replica has.
func (c *copying) issue() (*keycote.Key, string) {
	key, token := issueCached(c.t, c.writer, "k")
	c.store.copy(c.t)
	return key, token
}

func (c *copying) verify(token string) error {
	_, err := c.Verify(c.t.Context(), token, keycote.Request{})
	return err
}

// requireAsked compares what was asked since the last time.
func (c *copying) requireAsked(reads, copies int, why string) {
	c.t.Helper()
	r, k := c.store.asked()
	require.Equal(c.t, []int{reads, copies}, []int{r, k}, "store and replica: "+why)
}

// follow runs Run, until the function that it returns is called.
func (c *copying) follow() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() { cancel(); require.NoError(c.t, <-ended) }
}

func TestReplicaIsAskedInTheStoresPlace(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		_, token := c.issue()
		require.NoError(t, c.verify(token))
		c.requireAsked(0, 1, "what is not cached")
	})
}

func TestReplicaIsNeverAskedWithoutMaxStale(t *testing.T) {
	inCopies(t, 0, func(t *testing.T, c *copying) {
		_, token := c.issue()
		require.NoError(t, c.verify(token))
		c.requireAsked(1, 0, "MaxStale is 0")
	})
}

func TestReplicaLagIsSubtracted(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		require.NoError(t, c.verify(token))
		_, err := c.writer.Revoke(t.Context(), key.ID, "")
		require.NoError(t, err)
		c.store.copy(t)
		time.Sleep(copiedStale - lag - 1)
		require.NoError(t, c.verify(token), "still within the bound")
		time.Sleep(time.Nanosecond)
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked)
	})
}

func TestReplicaMustLagLessThanMaxStale(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		lag, stale time.Duration
		ok         bool
	}{
		{"less", lag, lag + 1, true},
		{"the same", lag, lag, false},
		{"more", lag, lag - 1, false},
		{"no promise", 0, lag, false},
		{"a negative one, never used", -1, 0, false},
		{"never used", lag, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := &copied{Store: memstore.New(), lag: tt.lag}
			_, err := keycote.New(t.Context(), store, newSpyKEK(t, "kek"), &keycote.Options{MaxStale: tt.stale})
			if tt.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, keycote.ErrInvalid)
		})
	}
}

func TestReplicaThatCannotTellIsNotBelieved(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails error
	}{
		{"it has no such key", keycote.ErrNotFound},
		{"two records", keycote.ErrConflict},
		{"an error", errors.New("no connection")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inCopies(t, copiedStale, func(t *testing.T, c *copying) {
				_, token := c.issue()
				c.store.fails = tt.fails
				require.NoError(t, c.verify(token))
				c.requireAsked(1, 1, "the store's word counts")
			})
		})
	}
}

func TestReplicaThatFailsIsLeftInPeace(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		_, token := c.issue()
		c.store.hangs = true
		began := time.Now()
		require.NoError(t, c.verify(token))
		require.Equal(t, time.Second, time.Since(began), "it has a second")
		c.requireAsked(1, 1, "it hangs")
		_, second := issueCached(t, c.writer, "k2")
		require.NoError(t, c.verify(second))
		c.requireAsked(1, 0, "it is left in peace")
		c.store.copy(t)
		c.store.hangs = false
		time.Sleep(copiedStale)
		require.NoError(t, c.verify(second))
		c.requireAsked(0, 1, "and asked again")
	})
}

func TestReplicaWithAnOlderRecordIsNotBelieved(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		_, err := c.writer.Update(t.Context(), key.ID, keycote.Patch{Owner: ptr("o")})
		require.NoError(t, err)
		c.store.fails = keycote.ErrNotFound
		require.NoError(t, c.verify(token))
		c.requireAsked(1, 1, "the new revision is known")
		c.store.fails = nil
		time.Sleep(copiedStale) // nobody follows the feed: the entry is no longer fresh
		require.NoError(t, c.verify(token))
		c.requireAsked(1, 1, "the replica has an older one")
	})
}

func TestReplicaDoesNotKnowOfAFirstUse(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, old := c.issue()
		_, s, err := c.writer.Rotate(t.Context(), key.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
		require.NoError(t, err)
		c.store.copy(t)
		require.NoError(t, c.verify(s.Reveal()))
		c.requireAsked(1, 1, "the mark is made of what the store has")
		require.ErrorIs(t, c.verify(old), keycote.ErrExpired, "of which the replica knows nothing")
		c.requireAsked(1, 1, "the change is this process's own")
	})
}

func TestReplicaDoesNotAnswerAfterAChangeOfThisProcess(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		_, other := issueCached(t, c.writer, "other")
		c.store.copy(t)
		require.NoError(t, c.verify(token))
		c.store.asked()
		_, err := c.Revoke(t.Context(), key.ID, "")
		require.NoError(t, err)
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked, "on the next call")
		require.NoError(t, c.verify(other))
		c.requireAsked(1, 2, "other keys are still the replica's")
	})
}

// A change that the follower has consumed before the read evicts nothing after it: the read must not be the replica's.
func TestReplicaDoesNotAnswerAfterAChangeThatWasHeardOf(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		stop := c.follow()
		time.Sleep(2*lag + 1500*time.Millisecond) // the position is taken, and a lag has passed
		_, err := c.writer.Revoke(t.Context(), key.ID, "")
		require.NoError(t, err)
		time.Sleep(time.Second) // it was heard of
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked)
		c.requireAsked(1, 1, "the replica is behind")
		stop()
	})
}

// What is read from the replica while a change is heard of is not kept.
func TestReplicaAnswerIsNotKeptAfterAChange(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		c.store.during = func() {
			_, err := c.Revoke(context.WithoutCancel(t.Context()), key.ID, "")
			require.NoError(t, err)
		}
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked, "it was heard of before the answer was given")
		c.store.during = nil
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked)
	})
}

func TestReplicaDoesNotAnswerWhenThePlaceInTheFeedIsNew(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		_, err := c.writer.Revoke(t.Context(), key.ID, "") // before the position: nobody will tell
		require.NoError(t, err)
		stop := c.follow()
		time.Sleep(1500 * time.Millisecond)
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked)
		c.requireAsked(1, 0, "what was missed may be missing there as well")
		stop()
	})
}

// The feed vouches for what came from the replica as it does for the rest, and no change is lost by that.
func TestFeedVouchesForWhatTheReplicaSaid(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		stop := c.follow()
		time.Sleep(2*lag + 1500*time.Millisecond)
		require.NoError(t, c.verify(token))
		c.requireAsked(0, 1, "the fill")
		time.Sleep(2 * copiedStale)
		require.NoError(t, c.verify(token))
		c.requireAsked(0, 0, "the feed vouches")
		_, err := c.writer.Revoke(t.Context(), key.ID, "")
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.ErrorIs(t, c.verify(token), keycote.ErrRevoked)
		stop()
	})
}

func TestReplicaIsForVerifyAlone(t *testing.T) {
	inCopies(t, copiedStale, func(t *testing.T, c *copying) {
		key, token := c.issue()
		in, _ := c.In(c.store)
		_, err := in.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
		c.requireAsked(1, 0, "a view of a transaction")
		_, err = c.Get(t.Context(), key.ID)
		require.NoError(t, err)
		c.requireAsked(0, 0, "Get")
		_, _, err = c.Issue(t.Context(), keycote.IssueParams{
			Name: "chosen", Secret: keycote.NewSecret("Xr4!uLongChosenValue-91"), DryRun: true,
		})
		require.NoError(t, err)
		c.requireAsked(1, 0, "Issue looks whether a chosen value is taken")
	})
}
