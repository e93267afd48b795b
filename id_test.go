package keycote

import (
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// idTime reads the milliseconds out of an id.
func idTime(t *testing.T, id string) time.Time {
	t.Helper()
	n := new(big.Int)
	for _, c := range id[len(id)-idChars:] {
		n.Lsh(n, 5).Or(n, big.NewInt(int64(strings.IndexRune(crockford, c))))
	}
	return time.UnixMilli(n.Rsh(n, 80).Int64()).UTC()
}

func TestIDForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		now  time.Time
		want time.Time
	}{
		{"today", time.Date(2026, 3, 4, 5, 6, 7, 8_900_000, time.UTC), time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.UTC)},
		{"1970", time.UnixMilli(0), time.UnixMilli(0).UTC()},
		{"before 1970", time.UnixMilli(-1), time.UnixMilli(0).UTC()},
		{"year 9999", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var ids idSource
			key, event := ids.next(keyIDPrefix, c.now), ids.next(eventIDPrefix, c.now)
			require.Regexp(t, `^key_[0-7][0-9a-hjkmnp-tv-z]{25}$`, key)
			require.Regexp(t, `^evt_[0-7][0-9a-hjkmnp-tv-z]{25}$`, event)
			require.True(t, keyIDOK(key))
			require.False(t, keyIDOK(event))
			require.True(t, idOK(eventIDPrefix, event))
			require.Equal(t, c.want, idTime(t, key))
		})
	}
}

// TestIDsRise: order by id is order of making, in which lists and trails are read.
func TestIDsRise(t *testing.T) {
	t.Parallel()
	var ids idSource
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last := ""
	for i, now := range []time.Time{
		start,
		start, // the clock stands still
		start.Add(time.Nanosecond),
		start.Add(time.Millisecond),
		start.Add(-time.Hour), // and goes back
		start.Add(-time.Hour).Add(time.Millisecond),
		time.Time{},
		start.Add(time.Second),
		start,
	} {
		for range 50 {
			id := ids.next(keyIDPrefix, now)
			require.Less(t, last, id, "step %d", i)
			last = id
		}
	}
	require.Equal(t, start.Add(time.Second), idTime(t, last))

	full := idSource{last: [16]byte{4: 1, 5: 0x7f}}
	for i := 6; i < 16; i++ {
		full.last[i] = 0xff
	}
	before := string(appendCrockford([]byte(keyIDPrefix), &full.last))
	require.Less(t, before, full.next(keyIDPrefix, time.UnixMilli(0)), "the random bits carry into the milliseconds")
}

func TestIDsAreUnique(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 1000
	var ids idSource
	made := make([][]string, workers)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				made[w] = append(made[w], ids.next(keyIDPrefix, now.Add(time.Duration(i%3)*time.Millisecond)))
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for _, list := range made {
		last := ""
		for _, id := range list {
			require.False(t, seen[id], id)
			require.Less(t, last, id, "ids rise for each goroutine too")
			seen[id], last = true, id
		}
	}
	require.Len(t, seen, workers*each)

	var other idSource
	require.False(t, seen[other.next(keyIDPrefix, now)], "another process in the same millisecond")
}

func TestIDOK(t *testing.T) {
	t.Parallel()
	const good = "key_01jd8q2v7nx5m0c3r9t4bke6wz"
	for _, c := range []struct {
		name, id string
		want     bool
	}{
		{"good", good, true},
		{"empty", "", false},
		{"the word alone", "key_", false},
		{"another word", "evt_" + good[4:], false},
		{"no word", good[4:], false},
		{"short", good[:len(good)-1], false},
		{"long", good + "0", false},
		{"upper case", strings.ToUpper(good), false},
		{"a letter that Crockford left out", good[:29] + "u", false},
		{"another one", good[:29] + "l", false},
		{"a newline", good[:29] + "\n", false},
		{"a pasted key", "kc_" + strings.Repeat("0", tokenTail), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, keyIDOK(c.id))
		})
	}
}
