package keycote_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// slowest is the longest that one of n calls at once has taken.
func slowest(n int, call func()) time.Duration {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var most time.Duration
	for range n {
		wg.Go(func() {
			began := time.Now()
			call()
			mu.Lock()
			defer mu.Unlock()
			most = max(most, time.Since(began))
		})
	}
	wg.Wait()
	return most
}

const chosen = "some-chosen-Value-of-theirs-12345"

// However slow a store is, the callers for one value wait together and not for each other.
func TestASlowStoreMakesNoQueue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stale time.Duration
		hangs bool
		value string // "": a key that is there
		want  error
		most  time.Duration
	}{
		"answers are older than MaxStale": {stale: time.Second, most: 5 * time.Second},
		"fresh answers":                   {stale: time.Minute, most: 4 * time.Second},
		"a chosen value that is unknown":  {stale: time.Minute, value: chosen, want: keycote.ErrUnknownKey, most: 5 * time.Second},
		"it hangs":                        {stale: time.Minute, hangs: true, want: keycote.ErrUnavailable, most: 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, writer, h := hungWorld(t, c.stale)
				_, value := issueCached(t, writer, "k")
				if c.value != "" {
					value = c.value
				}
				h.slow.Store(int64(1600 * time.Millisecond))
				h.all.Store(c.hangs)
				require.LessOrEqual(t, slowest(40, func() {
					_, err := m.Verify(t.Context(), value, keycote.Request{})
					if c.want == nil {
						require.NoError(t, err)
					} else {
						require.ErrorIs(t, err, c.want)
					}
				}), c.most)
				require.LessOrEqual(t, h.lookups.Load(), int64(15)) // a second and a half apart, and not 40
			})
		})
	}
}

func TestUseReadsAKeyringOnceForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		k := addHung(t, writer)
		h.slow.Store(int64(100 * time.Millisecond))
		before := h.rings.Load()
		require.Less(t, slowest(500, func() {
			_, _, err := m.Use(t.Context(), k.ID, keycote.Request{})
			require.NoError(t, err)
		}), time.Second)
		require.EqualValues(t, 1, h.rings.Load()-before)
	})
}

// Who waits while somebody else asks for an unknown index key waits no longer than a store may take.
func TestAnUnknownIndexKeyIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, other, _ := hungWorld(t, time.Minute)
		_, foreign := issueCached(t, other, "k")
		m, _, h := hungWorld(t, time.Minute)
		h.items.Store(true)
		require.Less(t, slowest(3, func() {
			_, err := m.Verify(t.Context(), foreign, keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrUnavailable)
		}), time.Minute)
	})
}

// swapIndex puts another key into the place of the index keyring's one.
func swapIndex(t *testing.T, s keycote.Store, kek keycote.KEK) {
	t.Helper()
	for n, change := range []func(*keyset.Manager) error{rotated(prf.HMACSHA256PRFKeyTemplate()), dropOld} {
		items, err := s.Items(t.Context(), keycote.ItemQuery{Space: "keyring", Name: "index", Limit: 1})
		require.NoError(t, err)
		next, err := keycote.NextKeyring(t.Context(), items[0], kek, change, kek)
		require.NoError(t, err)
		require.NoError(t, s.Commit(t.Context(), keycote.Batch{ID: fmt.Sprint("swap", n), Items: []keycote.Item{next}}))
	}
}

// What an index key has found that is gone by now is not published by one who has waited meanwhile.
func TestARemovedIndexKeyFindsNothingMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hung{Store: memstore.New()}
		kek := newSpyKEK(t, "kek")
		m, err := keycote.New(t.Context(), h, kek, &keycote.Options{MaxStale: time.Minute})
		require.NoError(t, err)
		_, token := issueCached(t, m, "k")
		position := m.Follow(t.Context(), "")
		h.first.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = m.Verify(t.Context(), token, keycote.Request{}) })
		synctest.Wait()
		wg.Go(func() { _, _ = m.Verify(t.Context(), token, keycote.Request{}) })
		synctest.Wait()
		swapIndex(t, h.Store, kek)
		m.Follow(t.Context(), position)
		refused := func() {
			_, err = m.Verify(t.Context(), token, keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrUnknownKey)
		}
		refused()
		wg.Wait()
		refused()
	})
}

type slowKEK struct {
	keycote.KEK
	takes atomic.Int64
}

func (k *slowKEK) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Duration(k.takes.Load())):
	}
	return k.KEK.DecryptWithContext(ctx, ciphertext, ad)
}

// A KMS that takes its time holds one call up, and not the keyrings back.
func TestRootKeyringsUnderASlowKEK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		kek := newSpyKEK(t, "kek")
		slow := &slowKEK{KEK: kek}
		m, err := keycote.New(t.Context(), store, slow, nil)
		require.NoError(t, err)
		_, token := issueCached(t, m, "k")
		swapIndex(t, store, kek)
		slow.takes.Store(int64(4 * time.Second))
		time.Sleep(time.Minute)
		began := time.Now()
		_, err = m.Verify(t.Context(), token, keycote.Request{})
		require.ErrorIs(t, err, keycote.ErrUnknownKey, "its index key is gone")
		require.Less(t, time.Since(began), 5*time.Second, "one keyring was opened")
	})
}

// A store that is slow to take counts must not keep events out.
func TestRefusalsAreNotBehindTheCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _, h := hungWorld(t, time.Hour)
		_, token := issueCached(t, m, "k")
		h.commits.Store(int64(500 * time.Millisecond))
		_, _, err := m.Use(t.Context(), "key_00vhnczb00jj8et3xd3r143dpc", keycote.Request{})
		require.ErrorIs(t, err, keycote.ErrNotFound)
		for i := range 5_000 { // ten batches
			r := keycote.Request{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
			_, err := m.Verify(t.Context(), token, r)
			require.NoError(t, err)
		}
		time.Sleep(61 * time.Second)
		_, err = m.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
		told := 0
		for e, err := range m.Events(t.Context(), keycote.EventFilter{Action: keycote.ActionUse}) {
			require.NoError(t, err)
			require.Equal(t, keycote.ErrNotFound, e.Outcome)
			told++
		}
		require.Equal(t, 1, told)
		require.Less(t, m.UseRows(), 4_000, "and what there was time for is written")
	})
}

// Of a value that anybody can make at any time, nobody is told what was so before he called.
func TestAChosenValueMadeMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		h.late.Store(int64(900 * time.Millisecond))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = m.Verify(t.Context(), chosen, keycote.Request{}) })
		synctest.Wait()
		_, _, err := writer.Issue(t.Context(), keycote.IssueParams{Name: "c", Secret: keycote.NewSecret(chosen)})
		require.NoError(t, err)
		_, err = m.Verify(t.Context(), chosen, keycote.Request{})
		require.NoError(t, err)
		wg.Wait()
	})
}

// A read that was overtaken does not put back what it had found.
func TestALateReadIsNotPublishedOverANewerOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, writer, h := hungWorld(t, time.Minute)
		k, token := issueCached(t, writer, "k")
		h.late.Store(int64(3 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = m.Verify(t.Context(), token, keycote.Request{}) }) // it has read, and is late
		synctest.Wait()
		h.late.Store(0)
		_, err := writer.Disable(t.Context(), k.ID, "")
		require.NoError(t, err)
		refused := func() {
			_, err = m.Verify(t.Context(), token, keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrDisabled)
		}
		refused() // by a read of its own
		wg.Wait()
		refused()
	})
}
