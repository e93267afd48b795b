package keycote_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// usage are all use counts, and their sum by outcome.
func (w *world) usage() (rows []keycote.UseCount, sums map[keycote.Code]int64) {
	w.t.Helper()
	q := keycote.UsageQuery{AllTenants: true, Limit: 1000}
	sums = map[keycote.Code]int64{}
	for {
		page, err := w.store.Store.Usage(w.t.Context(), q)
		require.NoError(w.t, err)
		for _, r := range page {
			sums[r.Outcome] += r.N
		}
		rows = append(rows, page...)
		if len(page) < q.Limit {
			return rows, sums
		}
		q.After = page[len(page)-1]
	}
}

func TestTheSumIsExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, token := w.issue(keycote.IssueParams{Scopes: []string{"a:b"}})
	const workers, each = 8, 200
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for n := range each {
				r := keycote.Request{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Route: fmt.Sprint("GET /", n%3)}
				_, err := w.Verify(t.Context(), token, r)
				require.NoError(t, err)
				r.Scopes = []string{"x:y"}
				_, err = w.Verify(t.Context(), token, r)
				require.ErrorIs(t, err, keycote.ErrScope)
				_, err = w.Verify(t.Context(), "nobody's", r)
				require.ErrorIs(t, err, keycote.ErrUnknownKey)
				if n%50 == 0 {
					require.NoError(t, w.Flush(t.Context()))
					w.clock.Advance(20 * time.Second)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, w.Flush(t.Context()))
	_, sums := w.usage()
	require.Equal(t, map[keycote.Code]int64{
		"": workers * each, keycote.ErrScope: workers * each, keycote.ErrUnknownKey: workers * each,
	}, sums)
	got, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.EqualValues(t, workers*each, got.Versions[0].Uses)
}

func TestARowOfTheUseLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, token := w.issue(keycote.IssueParams{})
	r := keycote.Request{Addr: netip.MustParseAddr("::ffff:192.0.2.1"), Route: "GET /orders/{id}", UserAgent: "curl/8"}
	for range 3 {
		_, err := w.Verify(t.Context(), token, r)
		require.NoError(t, err)
		w.clock.Advance(time.Second)
	}
	credential := w.add(keycote.AddParams{})
	_, _, err := w.Use(t.Context(), credential.ID, r)
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	rows, _ := w.usage()
	want := keycote.UseCount{
		KeyID: key.ID, Version: 1, Addr: "192.0.2.1", Route: "GET /orders/{id}", Agent: "curl/8",
		Window: worldStart.Truncate(time.Minute), N: 3, First: worldStart, Last: worldStart.Add(2 * time.Second),
	}
	require.Len(t, rows, 2)
	require.Equal(t, want, rows[0])
	want.KeyID, want.N, want.First, want.Last = credential.ID, 1, worldStart.Add(3*time.Second), worldStart.Add(3*time.Second)
	require.Equal(t, want, rows[1])
}

func TestLastUsedMovesForwardAndBySuccessesOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, token := w.issue(keycote.IssueParams{Scopes: []string{"a:b"}})
	last := func() time.Time {
		require.NoError(t, w.Flush(t.Context()))
		got, err := w.Get(t.Context(), key.ID)
		require.NoError(t, err)
		require.Equal(t, got.LastUsedAt, got.Versions[0].LastUsedAt)
		return got.LastUsedAt
	}
	require.Zero(t, last())
	require.Empty(t, w.verdict(token))
	require.Equal(t, worldStart, last())
	w.clock.Advance(time.Hour)
	_, err := w.Verify(t.Context(), token, keycote.Request{Scopes: []string{"x:y"}})
	require.Error(t, err)
	require.Equal(t, worldStart, last(), "a refusal is no use")
	w.clock.Set(worldStart.Add(-time.Hour))
	require.Empty(t, w.verdict(token))
	require.Equal(t, worldStart, last(), "it does not go back")
	w.clock.Set(worldStart.Add(2 * time.Hour))
	require.Empty(t, w.verdict(token))
	require.Equal(t, worldStart.Add(2*time.Hour), last())
	w.rotate(key.ID, keycote.RotateParams{})
	for range 5 {
		w.rotate(key.ID, keycote.RotateParams{})
	}
	got, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, worldStart.Add(2*time.Hour), got.LastUsedAt, "also of a version that is no longer kept")
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	try := func(addr string) {
		_, err := w.Verify(t.Context(), "nobody's", keycote.Request{Addr: netip.MustParseAddr(addr), Route: "GET /", UserAgent: "x"})
		require.Error(t, err)
	}
	for _, addr := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2::1", "2001:db8:1:2:ffff::%eth0", "2001:db8:1:3::1"} {
		try(addr)
	}
	require.NoError(t, w.Flush(t.Context()))
	rows, _ := w.usage()
	got := map[string]int64{}
	for _, r := range rows {
		got[r.Addr] = r.N
		require.Empty(t, r.Route+r.Agent+r.KeyID)
	}
	require.Equal(t, map[string]int64{"192.0.2.1": 2, "2001:db8:1:2::/64": 2, "2001:db8:1:3::/64": 1}, got)
}

func TestStrangersAreBoundedByWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const addresses = 3000
	for round := range 3 {
		for i := range addresses {
			addr := netip.AddrFrom4([4]byte{10, byte(round), byte(i >> 8), byte(i)})
			_, err := w.Verify(t.Context(), "nobody's", keycote.Request{Addr: addr})
			require.Error(t, err)
		}
		require.NoError(t, w.Flush(t.Context()))
	}
	rows, sums := w.usage()
	require.EqualValues(t, 3*addresses, sums[keycote.ErrUnknownKey])
	require.Equal(t, 4096+1, len(rows), "at most 4,096 a window, the rest in one, however often they are flushed")
	w.clock.Advance(time.Minute)
	_, err := w.Verify(t.Context(), "nobody's", keycote.Request{Addr: netip.MustParseAddr("10.9.9.9")})
	require.Error(t, err)
	require.NoError(t, w.Flush(t.Context()))
	again, _ := w.usage()
	require.Equal(t, len(rows)+1, len(again))
	require.Equal(t, "10.9.9.9", again[len(again)-1].Addr, "the next window begins anew")
}

func TestTextOfTheUseLogIsCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"128 bytes":      {strings.Repeat("a", 128), strings.Repeat("a", 128)},
		"129 bytes":      {strings.Repeat("a", 129), strings.Repeat("a", 128)},
		"a rune is kept": {strings.Repeat("a", 127) + "é", strings.Repeat("a", 127)},
		"control":        {"a\x00b\nc\u202ed", "abcd"},
		"not UTF-8":      {"a\xffb", "a\ufffdb"},
		"much not UTF-8": {strings.Repeat("\xffa", 64), strings.Repeat("\ufffda", 32)},
		"long":           {strings.Repeat("é", 100_000), strings.Repeat("é", 64)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			_, token := w.issue(keycote.IssueParams{})
			_, err := w.Verify(t.Context(), token, keycote.Request{Route: c.in, UserAgent: c.in})
			require.NoError(t, err)
			require.NoError(t, w.Flush(t.Context()))
			rows, _ := w.usage()
			require.Equal(t, c.want, rows[0].Route)
			require.Equal(t, c.want, rows[0].Agent)
			require.True(t, utf8.ValidString(rows[0].Route))
			require.LessOrEqual(t, len(rows[0].Route), 128)
		})
	}
}

func TestAFlushThatFailsCountsNothingTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		applied bool // what the Store says is an error, but it was written
	}{{"not written", false}, {"written, and the answer lost", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			_, token := w.issue(keycote.IssueParams{})
			use := func() {
				require.Empty(t, w.verdict(token))
				_, err := w.Get(t.Context(), "key_00000000000000000000000000")
				require.ErrorIs(t, err, keycote.ErrNotFound)
			}
			use()
			if c.applied {
				w.store.hook(nil, func(keycote.Batch, error) error { return errAway })
			} else {
				w.store.away()
			}
			require.ErrorIs(t, w.Flush(t.Context()), keycote.ErrUnavailable)
			use()
			require.ErrorIs(t, w.Flush(t.Context()), keycote.ErrUnavailable)
			use()
			w.store.back()
			require.NoError(t, w.Flush(t.Context()))
			require.NoError(t, w.Flush(t.Context()))
			_, sums := w.usage()
			require.EqualValues(t, 3, sums[""])
			var refused int64
			for _, e := range eventsOf(t, w.Manager, keycote.EventFilter{Action: keycote.ActionRead}) {
				refused += e.Count
			}
			require.EqualValues(t, 3, refused)
		})
	}
}

func TestWithoutRunTheNextWindowWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, token := w.issue(keycote.IssueParams{})
	w.clock.Set(worldStart.Truncate(time.Minute).Add(time.Minute - time.Microsecond))
	require.Empty(t, w.verdict(token))
	_, sums := w.usage()
	require.Empty(t, sums, "the window is not over")
	w.clock.Advance(time.Microsecond)
	require.Empty(t, w.verdict(token))
	_, sums = w.usage()
	require.EqualValues(t, 2, sums[""])
	require.Empty(t, w.verdict(token))
	_, sums = w.usage()
	require.EqualValues(t, 2, sums[""])
	w.store.away()
	w.clock.Advance(time.Minute)
	require.Empty(t, w.verdict(token), "a use log that cannot be written refuses nobody")
	w.store.back()
	require.NoError(t, w.Flush(t.Context()))
	_, sums = w.usage()
	require.EqualValues(t, 4, sums[""])
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &keycote.Options{Now: time.Now})
		_, token := w.issue(keycote.IssueParams{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		require.Empty(t, w.verdict(token))
		time.Sleep(9 * time.Second)
		synctest.Wait()
		_, sums := w.usage()
		require.Empty(t, sums)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, sums = w.usage()
		require.EqualValues(t, 1, sums[""], "it flushes")
		w.store.away()
		require.Empty(t, w.verdict(token))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.store.back()
		require.Empty(t, w.verdict(token))
		cancel()
		synctest.Wait()
		require.NoError(t, <-done)
		_, sums = w.usage()
		require.EqualValues(t, 3, sums[""], "and once more at the end")
	})
}

func TestFlushOfACancelledCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, token := w.issue(keycote.IssueParams{})
	require.Empty(t, w.verdict(token))
	err := w.Flush(cancelled(t))
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, w.Flush(t.Context()))
	_, sums := w.usage()
	require.EqualValues(t, 1, sums[""])
}
