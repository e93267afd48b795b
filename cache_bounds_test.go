package keycote

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newTestCache is a cache of size entries, and a way to make one for a key of its own.
func newTestCache(size int) (c *cache, entryOf func(n int) *entry) {
	c = &cache{}
	c.init(&Options{MaxStale: time.Hour, CacheSize: size}, time.Now, 0, &useLog{})
	return c, func(n int) *entry {
		id := fmt.Sprint("key_", n)
		rec := &record{id: id, kind: KindAccess, state: StateActive, revision: 1, versions: []version{{number: 1, state: StateActive}}}
		return c.newEntry(newCacheKey("", id), c.clocks(time.Now()), rec, 0)
	}
}

// held counts what a cache has by each of its ways.
func (c *cache) held() (entries, hits, listed, misses int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.shards {
		hits += len(c.shards[i].hits)
		misses += len(c.shards[i].misses)
	}
	for _, e := range c.byRecord {
		for ; e != nil; e = e.next {
			listed++
		}
	}
	return c.weight, hits, listed, misses
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100, 1000} {
		c, entryOf := newTestCache(size)
		for n := range 5 * size {
			c.put(entryOf(n), c.epoch.Load())
			c.putMiss(newCacheKey("miss", fmt.Sprint(n)), c.clocks(time.Now()), c.epoch.Load())
			entries, hits, listed, misses := c.held()
			require.LessOrEqual(t, entries, size+cacheShards)
			require.Equal(t, entries, hits)
			require.Equal(t, entries, listed, "all can be found by their record")
			require.LessOrEqual(t, misses, max(size/missShare, cacheShards))
		}
		for n := range 5 * size {
			c.evict(recordKey{"", fmt.Sprint("key_", n)})
		}
		entries, hits, listed, _ := c.held()
		require.Zero(t, entries+hits+listed, "an evicted record leaves nothing")
	}
}

// Two values whose keys share the eight bytes that an index looks at push each other out, and neither gets the other's
// answer.
func TestKeysThatShareASlot(t *testing.T) {
	t.Parallel()
	c, entryOf := newTestCache(100)
	one, other := entryOf(1), entryOf(2)
	other.sum = one.sum
	other.sum[31] ^= 1
	get := func(e *entry) *entry {
		got, missed := c.get(&e.sum, c.clocks(time.Now()))
		require.False(t, missed)
		return got
	}
	c.put(one, c.epoch.Load())
	require.Same(t, one, get(one))
	require.Nil(t, get(other))
	require.Zero(t, c.revision(recordKey{other.tenant, other.id}))
	c.put(other, c.epoch.Load())
	require.Same(t, other, get(other))
	require.Nil(t, get(one))
	entries, hits, listed, _ := c.held()
	require.Equal(t, []int{1, 1, 1}, []int{entries, hits, listed})
	c.evict(recordKey{"", "key_1"})
	require.Same(t, other, get(other), "the one that was pushed out takes nothing with it")
	c.evict(recordKey{"", "key_2"})
	require.Nil(t, get(other))
}

// A key with all the labels that it may have takes as much of CacheSize as it takes of memory.
func TestLargeEntriesWeighMore(t *testing.T) {
	t.Parallel()
	c, entryOf := newTestCache(1000)
	large := &record{
		kind: KindAccess, state: StateActive, revision: 1, versions: []version{{number: 1, state: StateActive}},
		labels: map[string]string{},
	}
	for n := range 64 {
		large.labels[fmt.Sprint("label ", n)] = strings.Repeat("x", 500)
	}
	for n := range 500 {
		large.id = fmt.Sprint("key_", n)
		c.put(c.newEntry(newCacheKey("", large.id), c.clocks(time.Now()), large, 0), c.epoch.Load())
		c.lend(&lease{rec: &record{id: large.id, revision: 1}, size: 32_000}, c.epoch.Load())
	}
	_, hits, _, _ := c.held()
	require.Less(t, hits, 1000/30+cacheShards)
	require.Less(t, len(c.leases), 1000/30)
	for n := range 500 {
		id := fmt.Sprint("key_", n)
		require.EqualValues(t, 1, c.revision(recordKey{"", id}), "what was pushed out is not forgotten")
		c.evict(recordKey{"", id})
	}
	require.Zero(t, c.weight+c.lent)
	c.put(entryOf(1), c.epoch.Load())
	require.Equal(t, 1, c.weight)
}

// A read that meets an entry while it is being dropped began in an epoch before the change, and serves nobody who calls
// after it.
func TestWhatIsBeingDroppedServesNobodyLater(t *testing.T) {
	t.Parallel()
	c, entryOf := newTestCache(100)
	e := entryOf(1)
	c.put(e, c.epoch.Load())
	before := c.epoch.Load()
	c.uses.mu.Lock() // so that the eviction waits in the middle
	var wg sync.WaitGroup
	wg.Go(func() { c.evict(recordKey{"", "key_1"}) })
	led, gate := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		_, _ = c.reads.do(context.Background(), c, e.sum, func(_ context.Context, f *flight[fetched]) {
			f.value.entry, f.record, f.known, f.ended = e, recordKey{"", "key_1"}, e.known, true
			close(led)
			<-gate
		})
	})
	<-led
	require.Equal(t, before, c.epoch.Load(), "the epoch comes last")
	c.uses.mu.Unlock()
	for c.epoch.Load() == before {
		runtime.Gosched()
	}
	wg.Go(func() {
		got, err := c.reads.do(context.Background(), c, e.sum, func(_ context.Context, f *flight[fetched]) {
			f.err, f.ended = ErrUnknownKey, true
		})
		require.ErrorIs(t, err, ErrUnknownKey)
		require.Nil(t, got.entry)
	})
	close(gate)
	wg.Wait()
}
