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

// BenchmarkCachedKeyMemory is F10: what one key with two scopes takes in the cache, its index, its terms and its count
// of uses included.
func BenchmarkCachedKeyMemory(b *testing.B) {
	const n = 100_000
	store := memstore.New()
	m := benchOver(b, store, &keycote.Options{MaxStale: time.Hour, CacheSize: 2 * n})
	tokens := make([]string, n)
	for i := range tokens {
		_, secret, err := m.Issue(b.Context(), keycote.IssueParams{
			Name: fmt.Sprintf("key %d", i), App: "shop", Owner: fmt.Sprintf("owner %d", i),
			Scopes: []string{"orders:read", "orders:write"},
		})
		require.NoError(b, err)
		tokens[i] = secret.Reveal()
	}
	require.NoError(b, m.Flush(b.Context()))
	r := keycote.Request{Scopes: []string{"orders:read"}, Route: "GET /orders/{id}", UserAgent: "bench/1.0"}
	before := heap()
	for _, token := range tokens {
		_, err := m.Verify(b.Context(), token, r)
		require.NoError(b, err)
	}
	perKey := float64(heap()-before) / n
	for b.Loop() {
		_, _ = m.Verify(b.Context(), tokens[0], r)
	}
	b.ReportMetric(perKey, "B/key")
	require.Less(b, perKey, 600.0)
	runtime.KeepAlive(store)
}
