package keycote_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// grown is what the heap has grown by for each of n keys when they have been verified, and from then until their counts
// have been written.
func grown(t testing.TB, n int) (counted, written float64, m *keycote.Manager, tokens []string) {
	t.Helper()
	store := &weightless{Store: memstore.New()}
	m = benchOver(t, store, &keycote.Options{MaxStale: time.Hour, CacheSize: 2 * n})
	tokens = make([]string, n)
	for i := range tokens {
		_, secret, err := m.Issue(t.Context(), keycote.IssueParams{
			Name: fmt.Sprintf("key %d", i), App: "shop", Owner: fmt.Sprintf("owner %d", i),
			Scopes: []string{"orders:read", "orders:write"},
		})
		require.NoError(t, err)
		tokens[i] = secret.Reveal()
	}
	require.NoError(t, m.Flush(t.Context()))
	before := heap()
	for _, token := range tokens {
		_, err := m.Verify(t.Context(), token, benchRequest)
		require.NoError(t, err)
	}
	counted = float64(heap()-before) / float64(n)
	kept := heap()
	store.on = true // of what is written nothing stays
	require.NoError(t, m.Flush(t.Context()))
	written = float64(heap()-kept) / float64(n)
	return counted, written, m, tokens
}

// BenchmarkCachedKeyMemory is F10: what one key with two scopes takes in the cache, its index, its terms and its count
// of uses included.
func BenchmarkCachedKeyMemory(b *testing.B) {
	perKey, _, m, tokens := grown(b, 100_000)
	for b.Loop() {
		_, _ = m.Verify(b.Context(), tokens[0], benchRequest)
	}
	b.ReportMetric(perKey, "B/key")
}

// A process that caches many keys must stay small, and must not keep what it has written until it writes again. It is
// not parallel, since the heap is everybody's.
func TestCachedKeyMemory(t *testing.T) {
	var counted, written float64
	for range 4 { // something that an earlier test left behind may grow meanwhile
		var m *keycote.Manager
		var tokens []string
		counted, written, m, tokens = grown(t, 20_000)
		runtime.KeepAlive(m)
		runtime.KeepAlive(tokens)
		if counted < 600 && written < 20 {
			return
		}
	}
	require.Less(t, counted, 600.0, "bytes a key")
	require.Less(t, written, 20.0, "bytes a key that a flush leaves behind")
}
