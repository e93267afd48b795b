package keycote

import "time"

// The clock of the machine is read here and nowhere else: everything that judges time takes it from Options.Now, so that
// tests can stand at a deadline and one microsecond to either side.

func systemClock() time.Time { return time.Now() }

// newTicker paces Run. It decides nothing: what is due is judged by Options.Now.
func newTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
