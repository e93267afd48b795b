package keytest

import (
	"sync/atomic"
	"time"
)

// Clock is a clock that stands still until a test moves it. It starts at the real time, so that what a handler works
// out with time.Now agrees with it as long as nobody has moved it, give or take how long the test has run. It is safe
// for concurrent use. [New] makes it; the zero Clock is not usable.
type Clock struct {
	base  func() time.Time
	ahead atomic.Int64 // of base, in nanoseconds
}

// newClock makes a clock that is ahead of base; nil is the moment of this call, for good.
func newClock(base func() time.Time) *Clock {
	if base == nil {
		start := startTime()
		base = func() time.Time { return start }
	}
	return &Clock{base: base}
}

// Now returns the clock's time. Unless the caller brought an Options.Now, it is in UTC and has whole microseconds, as a
// Key's times have: a time worked out from it equals the one that comes back from the store.
func (c *Clock) Now() time.Time { return c.base().Add(time.Duration(c.ahead.Load())) }

// Advance moves the clock by d: forward, or back when d is negative, as a real clock is sometimes put back. It returns
// at once, and every later Now of any goroutine sees it. Nothing else happens by itself: what has become due is done by
// the Manager's next call, or by Flush.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// startTime reads the machine's clock, here and nowhere else.
func startTime() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
