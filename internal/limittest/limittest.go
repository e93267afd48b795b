// Package limittest says what a [keycote.Limiter] must do, for the one inside the root package and for those beside it.
package limittest

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// Clock is a Limiter's clock, that a test moves. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, back when d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start is on a whole microsecond and no rounder than that.
var start = time.Date(2026, 3, 1, 12, 0, 0, 123457000, time.UTC)

// Run holds a Limiter to its contract. open makes an empty one that goes by the clock.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) keycote.Limiter) {
	for _, c := range []struct {
		name string
		run  func(*bench)
	}{
		{"a burst, and then one by one", oneByOne},
		{"a quota's period starts at the first use", quota},
		{"both policies are judged before either is taken from", both},
		{"the states", states},
		{"a changed limit takes over what was used", change},
		{"a policy that is taken away for a while forgives nothing", takenAway},
		{"keys do not meet", apart},
		{"a clock that goes back", back},
		{"the largest numbers", large},
		{"many at once", concurrently},
		{"as the model says", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := &Clock{now: start}
			c.run(&bench{T: t, Clock: clock, limiter: open(t, clock.Now), id: "key_1"})
		})
	}
}

type bench struct {
	*testing.T
	*Clock
	limiter keycote.Limiter
	tenant  string
	id      string
}

func (b *bench) take(l keycote.Limit) (time.Duration, []keycote.LimitState) {
	b.Helper()
	wait, states, err := b.limiter.Take(b.Context(), b.tenant, b.id, l)
	require.NoError(b, err)
	require.GreaterOrEqual(b, wait, time.Duration(0))
	return wait, states
}

// takes takes n uses, which must be there.
func (b *bench) takes(n int, l keycote.Limit) {
	b.Helper()
	for i := range n {
		wait, _ := b.take(l)
		require.Zero(b, wait, "use %d of %d", i+1, n)
	}
}

// refused asks for a use that must not be there, for this long exactly: neither a microsecond less nor one more.
func (b *bench) refused(want time.Duration, l keycote.Limit) {
	b.Helper()
	wait, _ := b.take(l)
	require.Equal(b, want, wait)
}

func oneByOne(b *bench) {
	l := keycote.Limit{Rate: 3, Per: 7 * time.Second, Burst: 2} // one every 2.333333… s
	b.takes(2, l)
	const third = 2_333_334 * time.Microsecond
	b.refused(third, l)
	b.refused(third, l)
	b.Advance(third - time.Microsecond)
	b.refused(time.Microsecond, l)
	b.Advance(time.Microsecond)
	b.takes(1, l)
	b.refused(2_333_333*time.Microsecond, l) // what was rounded up is not lost
	b.Advance(time.Hour)
	b.takes(2, l)
	b.refused(third, l)

	b.id = "without a burst"
	l.Burst = 0
	b.takes(3, l)
	b.refused(third, l)

	b.id = "at the sustained rate"
	l = keycote.Limit{Rate: 10, Per: time.Second, Burst: 1}
	for range 100 {
		b.takes(1, l)
		b.Advance(100 * time.Millisecond)
	}
}

func quota(b *bench) {
	l := keycote.Limit{Quota: 3, Period: time.Hour}
	b.Advance(37 * time.Minute)
	b.takes(1, l)
	b.Advance(20 * time.Minute)
	b.takes(2, l)
	b.refused(40*time.Minute, l)
	b.Advance(40*time.Minute - time.Microsecond)
	b.refused(time.Microsecond, l)
	b.Advance(time.Microsecond)
	b.takes(3, l)
	b.refused(time.Hour, l)
	b.Advance(10 * time.Hour) // the next period begins with a use, not with the end of the last
	b.takes(3, l)
	b.refused(time.Hour, l)
}

func both(b *bench) {
	l := keycote.Limit{Rate: 1, Per: time.Second, Burst: 1, Quota: 2, Period: time.Minute}
	b.takes(1, l)
	for range 10 {
		b.refused(time.Second, l) // the quota is not taken from
	}
	b.Advance(time.Second)
	b.takes(1, l)
	b.refused(59*time.Second, l) // the later of the two
	b.Advance(time.Second)
	b.refused(58*time.Second, l)
	b.refused(58*time.Second, l)
	b.Advance(58 * time.Second) // and the rate was not taken from
	b.takes(1, l)
}

func states(b *bench) {
	l := keycote.Limit{Rate: 2, Per: time.Second, Burst: 4, Quota: 5, Period: time.Hour}
	want := func(rate, quota int64, full, end time.Duration) []keycote.LimitState {
		return []keycote.LimitState{
			{Policy: "rate", Limit: 2, Window: time.Second, Remaining: rate, Reset: full},
			{Policy: "quota", Limit: 5, Window: time.Hour, Remaining: quota, Reset: end},
		}
	}
	_, got := b.take(l)
	require.Equal(b, want(3, 4, 500*time.Millisecond, time.Hour), got)
	b.takes(2, l)
	_, got = b.take(l)
	require.Equal(b, want(0, 1, 2*time.Second, time.Hour), got)
	b.Advance(300 * time.Millisecond)
	wait, got := b.take(l)
	require.Equal(b, 200*time.Millisecond, wait)
	require.Equal(b, want(0, 1, 1700*time.Millisecond, time.Hour-300*time.Millisecond), got)
	_, got = b.take(keycote.Limit{Rate: 2, Per: time.Second, Burst: 5})
	require.Equal(b, want(0, 0, 2200*time.Millisecond, 0)[:1], got)

	b.id = "refused by its rate before a period began"
	b.takes(1, keycote.Limit{Rate: 1, Per: time.Second})
	_, got = b.take(keycote.Limit{Rate: 1, Per: time.Second, Quota: 9, Period: time.Minute})
	require.Equal(b, keycote.LimitState{Policy: "quota", Limit: 9, Window: time.Minute, Remaining: 9}, got[1])
}

func change(b *bench) {
	l := keycote.Limit{Rate: 1, Per: time.Minute, Burst: 10}
	b.takes(10, l)
	l.Burst = 12
	b.takes(2, l)
	b.refused(time.Minute, l)
	l.Rate = 60 // at once, and no allowance with it
	b.refused(time.Second, l)
	l.Burst = 3 // what exceeds the new bucket is forgiven, or a key would be locked out for long
	b.refused(time.Second, l)
	b.Advance(3 * time.Second)
	b.takes(3, l)

	b.id = "slower"
	l = keycote.Limit{Rate: 10, Per: time.Second, Burst: 10}
	b.takes(10, l)
	b.Advance(250 * time.Millisecond) // 2.5 uses come back
	l = keycote.Limit{Rate: 1, Per: time.Hour, Burst: 10}
	b.takes(2, l)
	b.refused(time.Hour, l) // the half is rounded to the key's cost
	b.Advance(time.Second)
	b.refused(time.Hour-time.Second, l)

	b.id = "refused under the new one, which stays so"
	b.takes(1, keycote.Limit{Rate: 10, Per: time.Second, Burst: 1, Quota: 1, Period: time.Minute})
	l = keycote.Limit{Rate: 1, Per: 2 * time.Hour, Burst: 1}
	b.refused(2*time.Hour, l)
	b.Advance(time.Second)
	b.refused(2*time.Hour-time.Second, l)
	l = keycote.Limit{Quota: 1, Period: time.Hour}
	b.refused(time.Hour-time.Second, l)
	b.Advance(time.Minute)
	b.refused(time.Hour-time.Minute-time.Second, l)

	b.id = "quota"
	l = keycote.Limit{Quota: 2, Period: time.Hour}
	b.takes(2, l)
	b.Advance(30 * time.Minute)
	l.Quota = 3
	b.takes(1, l)
	b.refused(30*time.Minute, l)
	l.Period = 2 * time.Hour
	b.refused(90*time.Minute, l)
	l.Quota = 1
	b.refused(90*time.Minute, l)
	l.Period = 30 * time.Minute // which is over
	b.takes(1, l)
	b.refused(30*time.Minute, l)
}

func takenAway(b *bench) {
	rate := keycote.Limit{Rate: 1, Per: time.Hour, Burst: 1}
	whole := rate
	whole.Quota, whole.Period = 1, 2*time.Hour
	b.takes(1, whole)
	b.refused(time.Hour, rate)
	b.Advance(time.Hour)
	b.takes(1, rate)
	b.refused(time.Hour, whole)
	b.Advance(time.Minute)
	b.refused(time.Hour-time.Minute, whole)
	b.takes(2, keycote.Limit{Quota: 3, Period: 2 * time.Hour})
	b.refused(time.Hour-time.Minute, keycote.Limit{Quota: 3, Period: 2 * time.Hour})
	b.refused(time.Hour-time.Minute, rate)
}

func apart(b *bench) {
	l := keycote.Limit{Rate: 1, Per: time.Hour}
	for _, k := range [][2]string{
		{"", "key_1"}, {"acme", "key_1"}, {"acmek", "ey_1"}, {"acme:key", "_1"}, {"acme", "key:_1"}, {"acme:key:", "_1"},
		{"key_1", ""}, {"{acme}", "key_1"}, {"acme\x00", "key_1"}, {"acme ", "key_1"}, {"Acme", "key_1"}, {"acme", "key_1:"},
		{"äöü", "key_1"}, {"*", "key_1"}, {"acme", "KEY_1"}, {"acme\n", "key_1"},
	} {
		b.tenant, b.id = k[0], k[1]
		b.takes(1, l)
		b.refused(time.Hour, l)
	}
}

func back(b *bench) {
	l := keycote.Limit{Rate: 1, Per: time.Minute, Burst: 3}
	b.takes(3, l)
	b.Advance(-1000 * time.Hour)
	b.refused(time.Minute, l) // nothing came back
	b.Advance(time.Minute)
	b.takes(1, l) // and it does not wait for the old time to return
	b.refused(time.Minute, l)

	b.id = "refusals are judged from there as well"
	b.takes(3, l)
	b.Advance(-time.Hour)
	b.refused(time.Minute, l)
	b.Advance(30 * time.Second)
	b.refused(30*time.Second, l)

	b.id = "quota"
	l = keycote.Limit{Quota: 2, Period: time.Hour}
	b.takes(2, l)
	b.Advance(30 * time.Minute)
	b.Advance(-10 * time.Minute)
	b.refused(40*time.Minute, l)
	b.Advance(-1000 * time.Hour)
	b.refused(time.Hour, l)
	b.Advance(30 * time.Minute)
	b.refused(30*time.Minute, l)
	b.Advance(30 * time.Minute)
	b.takes(2, l)
}

// large holds the largest numbers that a Limit may have: nothing overflows, and nothing opens by it.
func large(b *bench) {
	const year = 366 * 24 * time.Hour
	l := keycote.Limit{Rate: 1_000_000_000, Per: time.Second, Burst: 1, Quota: 1_000_000_000_000_000, Period: year}
	b.takes(1, l)
	b.refused(time.Microsecond, l)
	b.Advance(time.Microsecond)
	_, got := b.take(l)
	require.Equal(b, l.Quota-2, got[1].Remaining)
	require.Equal(b, year-time.Microsecond, got[1].Reset)

	b.id = "slow"
	l = keycote.Limit{Rate: 1, Per: year, Burst: 1_000_000_000}
	b.takes(1_000, l)
	_, got = b.take(l)
	require.EqualValues(b, 1_000_000_000-1_001, got[0].Remaining)
	require.GreaterOrEqual(b, got[0].Reset, 200*year, "the longest there is")
	b.Advance(year)
	_, got = b.take(l)
	require.EqualValues(b, 1_000_000_000-1_001, got[0].Remaining)
	l.Burst = 1
	b.refused(year, l)

	b.id = "fast and slow"
	l = keycote.Limit{Rate: 1_000_000_000, Per: year, Burst: 1}
	b.takes(1, l)
	b.refused(31_623*time.Microsecond, l) // 31,622.4 µs
	b.Advance(31_622 * time.Microsecond)
	b.refused(time.Microsecond, l)
	b.Advance(time.Microsecond)
	b.takes(1, l)
	b.Advance(100 * year)
	b.takes(1, l)
}

func concurrently(b *bench) {
	l := keycote.Limit{Rate: 1, Per: time.Hour, Burst: 50, Quota: 40, Period: time.Hour}
	var mu sync.Mutex
	var group sync.WaitGroup
	allowed := 0
	for range 8 {
		group.Go(func() {
			for range 20 {
				wait, _, err := b.limiter.Take(b.Context(), b.tenant, b.id, l)
				if err != nil {
					b.Error(err)
					return
				}
				if wait == 0 {
					mu.Lock()
					allowed++
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	require.Equal(b, 40, allowed)
}

// model runs random uses beside GCRA in its other form, virtual scheduling, in fractions of any length; it then counts
// every window of every run by hand.
func model(b *bench) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		b.id = fmt.Sprintf("key_%d", seed)
		l := keycote.Limit{Rate: 1 + r.IntN(50), Per: time.Duration(1+r.IntN(100)) * time.Second, Burst: r.IntN(20)}
		if seed%2 == 0 {
			l.Quota, l.Period = int64(1+r.IntN(30)), time.Duration(1+r.IntN(200))*time.Second
		}
		m := newTheory(l)
		interval := l.Per / time.Duration(l.Rate)
		var taken []time.Time
		for range 120 {
			wait, _ := b.take(l)
			require.Equal(b, m.take(b.Now()), wait, "seed %d, %+v", seed, l)
			if wait == 0 {
				taken = append(taken, b.Now())
			}
			switch r.IntN(4) {
			case 0: // exactly when it was told to come
				b.Advance(wait)
			case 1:
				b.Advance(max(wait-time.Microsecond, 0))
			case 2:
				b.Advance(time.Duration(r.Int64N(int64(3 * interval))).Truncate(time.Microsecond))
			}
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				window := taken[j].Sub(taken[i])
				most := float64(m.burst) + float64(l.Rate)*float64(window)/float64(l.Per)
				require.LessOrEqual(b, float64(j-i+1), most+1e-9, "seed %d: %+v in %v", seed, l, window)
			}
		}
	}
}

// theory is a Limit as the standards write it: a use conforms if it comes no earlier than TAT - τ, and then TAT becomes
// max(now, TAT) + T.
type theory struct {
	limit       keycote.Limit
	burst       int64
	tat, t, tau *big.Rat // microseconds
	first       int64
	used        int64
	period      int64
}

func newTheory(l keycote.Limit) *theory {
	m := &theory{limit: l, burst: int64(l.Burst), first: math.MinInt64, tat: new(big.Rat), period: l.Period.Microseconds()}
	if m.burst == 0 {
		m.burst = int64(l.Rate)
	}
	m.t = big.NewRat(l.Per.Microseconds(), int64(l.Rate))
	m.tau = new(big.Rat).Mul(m.t, big.NewRat(m.burst-1, 1))
	return m
}

func (m *theory) take(at time.Time) time.Duration {
	now := at.UnixMicro()
	earliest := ceil(new(big.Rat).Sub(m.tat, m.tau))
	waits := []int64{0, earliest - now}
	running := m.limit.Quota > 0 && m.first != math.MinInt64 && now-m.first < m.period
	if running && m.used >= m.limit.Quota {
		waits = append(waits, m.first+m.period-now)
	}
	if wait := slices.Max(waits); wait > 0 {
		return time.Duration(wait) * time.Microsecond
	}
	if n := big.NewRat(now, 1); n.Cmp(m.tat) > 0 {
		m.tat = n
	}
	m.tat = new(big.Rat).Add(m.tat, m.t)
	if !running {
		m.first, m.used = now, 0
	}
	m.used++
	return 0
}

func ceil(r *big.Rat) int64 {
	q, rest := new(big.Int).DivMod(r.Num(), r.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		q.Add(q, big.NewInt(1))
	}
	return q.Int64()
}
