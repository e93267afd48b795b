package keycote

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

// localLimiter is the Limiter of one process. It keeps a meter for each key with a Limit that was used, until nothing in
// it counts any more: a bucket that has leaked out, and no period that runs, is what a key never used has.
//
// It reads the clock under its lock, so that two uses are judged in the order of their times. Time is what has passed
// since it was made: on the machine's own clock that is the monotonic one, which no one can set.
type localLimiter struct {
	now    func() time.Time
	origin time.Time
	seed   maphash.Seed
	most   int // meters of one shard
	shards [limitShards]limitShard
}

type limitShard struct {
	mu     sync.Mutex
	meters map[recordKey]*meter
	sweep  int   // how many there may be before the idle ones are looked for
	swept  int64 // when that was last, in microseconds
}

const (
	limitShards = 64
	// maxMeters bounds the keys whose uses count at the same moment. None of theirs is forgotten to make room for another:
	// that would hand out fresh quotas. The next key's use is answered as by a Limiter that fails.
	maxMeters  = 1 << 20
	minSweep   = 64
	sweepPause = time.Second // a full shard is not searched anew for every use
)

var errLimiterFull = errors.New("too many keys with a limit are in use at once in this process")

func newLocalLimiter(now func() time.Time) *localLimiter {
	return &localLimiter{now: now, origin: now(), seed: maphash.MakeSeed(), most: maxMeters / limitShards}
}

// Take implements Limiter.
func (c *localLimiter) Take(_ context.Context, tenant, id string, l Limit) (time.Duration, []LimitState, error) {
	p := policiesOf(l)
	s := &c.shards[maphash.String(c.seed, id)%limitShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := c.now().Sub(c.origin).Microseconds()
	k := recordKey{tenant, id}
	kept := s.meters[k]
	if kept == nil {
		if !s.room(now, c.most) {
			return 0, nil, errLimiterFull
		}
		kept = &meter{at: now}
		s.meters[recordKey{strings.Clone(tenant), strings.Clone(id)}] = kept // a record's strings may be cut from its body
	}
	wait := kept.take(now, p)
	return span(wait), kept.states(now, l, p), nil
}

// room makes room for one more meter. The idle ones are looked for whenever as many were added as were left, so each use
// pays for a few.
func (s *limitShard) room(now int64, most int) bool {
	if s.meters == nil {
		s.meters, s.sweep, s.swept = map[recordKey]*meter{}, min(minSweep, most), now-sweepPause.Microseconds()
	}
	if len(s.meters) < s.sweep {
		return true
	}
	if ago := now - s.swept; len(s.meters) >= most && ago >= 0 && ago < sweepPause.Microseconds() {
		return false
	}
	s.swept = now
	for k, m := range s.meters {
		if m.settle(now); m.idle() {
			delete(s.meters, k)
		}
	}
	s.sweep = min(max(2*len(s.meters), minSweep), most)
	return len(s.meters) < most
}
