package memstore_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
	"github.com/keycote/keycote/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) keycote.Store { return memstore.New() })
}

func TestZeroStoreIsReady(t *testing.T) {
	t.Parallel()
	var s memstore.Store
	_, err := s.Get(t.Context(), "", "key_1")
	require.ErrorIs(t, err, keycote.ErrNotFound)
	_, err = s.Lookup(t.Context(), [][]byte{digest(1)})
	require.ErrorIs(t, err, keycote.ErrNotFound)
	_, position, err := s.Changes(t.Context(), "")
	require.NoError(t, err)

	fill(t, &s, 1)
	r, err := s.Lookup(t.Context(), [][]byte{digest(0)})
	require.NoError(t, err)
	require.Equal(t, "key_0000000", r.ID)
	changes, _, err := s.Changes(t.Context(), position)
	require.NoError(t, err)
	require.Len(t, changes, 1)
}

func TestDigestOfAnotherLength(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	for _, d := range [][]byte{nil, {}, make([]byte, 23), make([]byte, 25)} {
		err := s.Commit(
			t.Context(),
			keycote.Batch{Insert: []keycote.Record{{ID: "key_1", Revision: 1, Digests: [][]byte{d}}}},
		)
		require.ErrorIs(t, err, keycote.ErrInvalid)
		_, err = s.Lookup(t.Context(), [][]byte{d})
		require.ErrorIs(t, err, keycote.ErrNotFound)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	s := memstore.New()
	fill(t, s, 100)
	ctx, digests := context.Background(), [][]byte{digest(7)}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := s.Lookup(ctx, digests); err != nil {
			panic(err)
		}
	}))
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := memstore.New()
			fill(b, s, n)
			asked := make([][][]byte, n)
			for i := range asked {
				asked[i] = [][]byte{digest(i)}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := s.Lookup(b.Context(), asked[i*7919%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func digest(n int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d", n))
	return sum[:24]
}

func fill(t testing.TB, s keycote.Store, n int) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	var b keycote.Batch
	for i := range n {
		b.Insert = append(b.Insert, keycote.Record{
			ID: fmt.Sprintf("key_%07d", i), Kind: keycote.KindAccess, Name: fmt.Sprint("name ", i), State: keycote.StateActive,
			Digests: [][]byte{digest(i)}, CreatedAt: at, RotatedAt: at, Revision: 1, Body: []byte("body"), Seal: []byte("seal"),
		})
	}
	require.NoError(t, s.Commit(t.Context(), b))
}
