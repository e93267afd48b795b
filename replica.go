package keycote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A replica answers as of some moment less than its lag ago. So what is read from it was known to be true that much
// before the read was sent, and a change committed since may be missing from it. Such a change either was heard of
// before the read, and then the primary is asked for that record until a lag has passed, or is heard of later, and then
// the cache's epoch keeps what was read from being published, or evicts it. Nothing else makes the feed vouch for an
// entry that came from the replica: its record was the present one when the change before it was followed.

const (
	// replicaWait bounds what a replica that hangs may cost.
	replicaWait = time.Second
	// replicaRest is how long a replica that failed is left in peace.
	replicaRest = 10 * time.Second
	// maxRecent bounds the changed records that are remembered by name. Beyond it all reads go to the primary.
	maxRecent = 4096
)

type lookup func(ctx context.Context, digests [][]byte) (Record, error)

// replica of the zero value is none.
type replica struct {
	lookup lookup
	lag    time.Duration
	failed atomic.Pointer[stamp]
}

// init takes what the store offers. With stale 0 it is never asked.
func (r *replica) init(store Store, stale time.Duration) error {
	s, ok := store.(Replicated)
	if !ok {
		return nil
	}
	look, lag := s.Replica()
	switch {
	case look == nil:
		return nil
	case lag <= 0:
		return errors.New("the replica's lag is not positive")
	case stale == 0:
		return nil
	case stale <= lag:
		return fmt.Errorf("MaxStale must be more than the replica's lag of %v", lag)
	}
	r.lookup, r.lag = look, lag
	return nil
}

// findCopy asks the replica. It reports false where the primary has to be asked: see Replicated.
func (m *Manager) findCopy(ctx context.Context, list []digest, now stamp) (found, bool) {
	r := &m.replica
	if r.lookup == nil || m.cache.lost(r.lag, now) {
		return found{}, false
	}
	if failed := r.failed.Load(); failed != nil && failed.since(now) < replicaRest {
		return found{}, false
	}
	got, err := m.findIn(ctx, m.lookupCopy, list)
	if err != nil || needsMark(got.rec, &got.rec.versions[got.at]) {
		return found{}, false
	}
	name := recordKey{got.tenant, got.id}
	return got, got.revision >= m.cache.revision(name) && !m.cache.heard(name, r.lag, now)
}

// lookupCopy is the replica's Lookup, which may fail without being asked again at once.
func (m *Manager) lookupCopy(ctx context.Context, digests [][]byte) (Record, error) {
	limited, cancel := context.WithTimeout(ctx, replicaWait)
	defer cancel()
	raw, err := m.replica.lookup(limited, digests)
	switch {
	case err == nil, errors.Is(err, ErrNotFound), ctx.Err() != nil:
	case errors.Is(err, ErrConflict):
		err = ErrNotFound // while it is being brought up to date, perhaps: the primary's word counts
	default:
		now := m.cache.stamp(m.now())
		m.replica.failed.Store(&now)
		m.logFailure(ctx, "the replica could not be asked, and is left out for a while", err)
	}
	return raw, err
}

// before is the moment that much earlier on both clocks.
func (s stamp) before(d time.Duration) stamp { return stamp{s.wall - int64(d), s.mono - int64(d)} }

// since is the smaller of the two clocks' differences: what has passed for certain.
func (s stamp) since(now stamp) time.Duration {
	return time.Duration(min(now.wall-s.wall, now.mono-s.mono))
}

// news is what was heard of lately, for a replica that may not have it yet. The cache's lock guards it.
type news struct {
	records map[recordKey]stamp
	all     stamp // when last it was not known what had changed
}

// note remembers a change of a record. c.mu is held.
func (c *cache) note(r recordKey) {
	if c.lag == 0 {
		return
	}
	now := c.clocks(c.now())
	if _, known := c.news.records[r]; !known && len(c.news.records) >= maxRecent {
		for old, at := range c.news.records {
			if at.since(now) > c.lag {
				delete(c.news.records, old)
			}
		}
		if len(c.news.records) >= maxRecent {
			c.noteAll()
			return
		}
	}
	if c.news.records == nil {
		c.news.records = map[recordKey]stamp{}
	}
	c.news.records[r] = now
}

// noteAll remembers that anything may have changed. c.mu is held.
func (c *cache) noteAll() {
	if c.lag > 0 {
		c.news = news{all: c.clocks(c.now())}
	}
}

// changedAll is for changes that are not of one record: who read before them vouches for nothing.
func (c *cache) changedAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteAll()
	c.changedAny = c.epoch.Add(1)
}

// lost reports whether within d of now it became unknown what had changed.
func (c *cache) lost(d time.Duration, now stamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.news.all.since(now) <= d
}

// heard reports whether a record may have changed within d of now.
func (c *cache) heard(r recordKey, d time.Duration, now stamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.news.records[r]
	return ok && at.since(now) <= d || c.news.all.since(now) <= d
}
