package keycote_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/internal/limittest"
)

func TestLocalLimiter(t *testing.T) {
	t.Parallel()
	limittest.Run(t, func(_ *testing.T, now func() time.Time) keycote.Limiter { return keycote.NewLocalLimiter(now, 0) })
}

// TestLocalLimiterForgetsWhatIsOver: memory is for the keys whose uses still count.
func TestLocalLimiterForgetsWhatIsOver(t *testing.T) {
	t.Parallel()
	clock := &handClock{now: worldStart}
	l := keycote.NewLocalLimiter(clock.Now, 0)
	quick := keycote.Limit{Rate: 1, Per: time.Second}
	daily := keycote.Limit{Quota: 1, Period: 24 * time.Hour}
	take := func(id string, limit keycote.Limit) time.Duration {
		wait, _, err := l.Take(t.Context(), "acme", id, limit)
		require.NoError(t, err)
		return wait
	}
	for i := range 100 {
		require.Zero(t, take(fmt.Sprintf("daily %d", i), daily))
	}
	for i := range 200_000 {
		require.Zero(t, take(fmt.Sprintf("quick %d", i), quick))
		clock.Advance(time.Millisecond) // a thousand of them count at any moment
	}
	require.Less(t, keycote.Meters(l), 10_000)
	for i := range 100 {
		require.Positive(t, take(fmt.Sprintf("daily %d", i), daily), "a period that runs is never forgotten")
	}
}

// TestLocalLimiterIsFull: no running count is given up for another one's sake.
func TestLocalLimiterIsFull(t *testing.T) {
	t.Parallel()
	clock := &handClock{now: worldStart}
	const most = 64 * 16
	l := keycote.NewLocalLimiter(clock.Now, most)
	limit := keycote.Limit{Quota: 1, Period: time.Hour}
	var in []string
	full := 0
	for i := range 3 * most {
		id := fmt.Sprintf("key %d", i)
		if _, _, err := l.Take(t.Context(), "", id, limit); err != nil {
			full++
			continue
		}
		in = append(in, id)
	}
	require.Positive(t, full)
	require.LessOrEqual(t, keycote.Meters(l), most)
	require.Len(t, in, keycote.Meters(l))
	for _, id := range in {
		wait, _, err := l.Take(t.Context(), "", id, limit)
		require.NoError(t, err, "who is in stays in")
		require.Equal(t, time.Hour, wait)
	}
	clock.Advance(time.Hour)
	for i := range most / 8 { // so few that no shard has more than its part
		_, _, err := l.Take(t.Context(), "", fmt.Sprintf("other %d", i), keycote.Limit{Rate: 1, Per: time.Second})
		require.NoError(t, err, "those whose period is over have made room")
	}
}
