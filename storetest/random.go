package storetest

import (
	"crypto/rand"
	"encoding/binary"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// random is SplitMix64: a few lines that give the same numbers for a seed under every version of Go.
type random struct{ state uint64 }

// seedVariable repeats a run of the model with the seed that a failure printed.
const seedVariable = "KEYCOTE_STORETEST_SEED"

// newRandom draws a seed, or reads it from the environment, and prints it with a failure.
func newRandom(t testing.TB) *random {
	t.Helper()
	var b [8]byte
	_, _ = rand.Read(b[:])
	seed := binary.BigEndian.Uint64(b[:])
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, seedVariable)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: %s=%d", seedVariable, seed)
		}
	})
	return &random{seed}
}

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n-1.
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

// chance is true once in n times.
func (r *random) chance(n int) bool { return r.below(n) == 0 }

func pick[T any](r *random, list ...T) T { return list[r.below(len(list))] }
