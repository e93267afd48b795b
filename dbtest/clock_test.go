package dbtest

import (
	"strconv"
	"sync/atomic"
	"time"
)

// wrongClock is a host's clock that is wrong, jumps, or stands still.
type wrongClock struct {
	by   atomic.Int64
	saw  atomic.Pointer[time.Time] // since when it steps back
	stop atomic.Int64              // the moment, in µs, at which it stands; 0: it goes
}

// sawStep is shorter than the second by which a clock must go back to be taken for one that was set.
const sawStep = 400 * time.Millisecond

func (c *wrongClock) Now() time.Time {
	if at := c.stop.Load(); at != 0 {
		return time.UnixMicro(at)
	}
	now := time.Now()
	if since := c.saw.Load(); since != nil {
		return now.Add(-now.Sub(*since).Truncate(sawStep))
	}
	return now.Add(time.Duration(c.by.Load()))
}

func (c *wrongClock) set(by time.Duration) {
	c.by.Store(int64(by))
	c.saw.Store(nil)
	c.stop.Store(0)
}

// parse sets the clock as one line says: "saw", an offset, or a moment to stand at.
func (c *wrongClock) parse(text string) error {
	if at, err := strconv.ParseInt(text, 10, 64); err == nil {
		c.stop.Store(at)
		return nil
	}
	if text == "saw" {
		now := time.Now()
		c.set(0)
		c.saw.Store(&now)
		return nil
	}
	by, err := time.ParseDuration(text)
	if err == nil {
		c.set(by)
	}
	return err
}
