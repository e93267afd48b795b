package keycote

import "time"

// The clock of the machine is read here and nowhere else: everything that judges time takes it from Options.Now, so that
// tests can stand at a deadline and one microsecond to either side.

func systemClock() time.Time { return time.Now() }

// sinceStart reads the monotonic clock, which no one can set: it bounds how long a cached answer is used, whatever a
// host's own clock says.
func sinceStart(start time.Time) time.Duration { return time.Since(start) }

// newTicker paces Run. It decides nothing: what is due is judged by Options.Now.
func newTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

// newTimer puts off what has failed. It decides nothing, either.
func newTimer(d time.Duration) *time.Timer { return time.NewTimer(d) }
