package dbtest

import (
	"sync/atomic"
	"time"
)

// wrongClock is a host's clock that is wrong, or jumps.
type wrongClock struct{ by atomic.Int64 }

func (c *wrongClock) Now() time.Time       { return time.Now().Add(time.Duration(c.by.Load())) }
func (c *wrongClock) set(by time.Duration) { c.by.Store(int64(by)) }
