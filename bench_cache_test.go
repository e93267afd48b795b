package keycote_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// BenchmarkCachedVerify is F1: Verify from the cache, all checks and the use counted, beside one HMAC-SHA-256 and one
// lookup in a plain map of the same size.
func BenchmarkCachedVerify(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("%d-keys", n), func(b *testing.B) {
			m := benchManager(b, &keycote.Options{MaxStale: time.Hour})
			ctx := context.Background()
			r := benchRequest
			tokens := make([]string, n)
			plain := map[[32]byte]*keycote.Key{}
			for i := range tokens {
				k, secret, err := m.Issue(ctx, keycote.IssueParams{
					Name: fmt.Sprintf("key %d", i), App: "shop", Scopes: []string{"orders:read", "orders:write"},
				})
				require.NoError(b, err)
				tokens[i] = secret.Reveal()
				_, err = m.Verify(ctx, tokens[i], r)
				require.NoError(b, err)
				plain[sum(tokens[i])] = k
			}
			i := 0
			next := func() string {
				if i += 7919; i >= n {
					i %= n
				}
				return tokens[i]
			}
			bench(b,
				step{"limit/hmac-and-map", func() {
					if plain[sum(next())] == nil {
						b.Fatal("not there")
					}
				}},
				step{"verify", func() {
					if _, err := m.Verify(ctx, next(), r); err != nil {
						b.Fatal(err)
					}
				}},
			)
		})
	}
}

var benchKey = []byte("0123456789abcdef0123456789abcdef")

// sum is HMAC-SHA-256 in one shot: the two pads are hashed with their message, and nothing is allocated.
func sum(s string) [32]byte {
	var inner, outer [64 + 128]byte
	for i, c := range benchKey {
		inner[i], outer[i] = c^0x36, c^0x5c
	}
	for i := len(benchKey); i < 64; i++ {
		inner[i], outer[i] = 0x36, 0x5c
	}
	in := sha256.Sum256(inner[:64+copy(inner[64:], s)])
	return sha256.Sum256(outer[:64+copy(outer[64:], in[:])])
}

func TestBenchmarksHMAC(t *testing.T) {
	t.Parallel()
	h := hmac.New(sha256.New, benchKey)
	h.Write([]byte("message"))
	want := h.Sum(nil)
	got := sum("message")
	require.Equal(t, want, got[:])
}
