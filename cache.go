package keycote

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// The verify cache. With Options.MaxStale an answer may be given without the store for less than that time after it was
// last known to be true: it was known to be true just before its read was sent, and again just before each reading of
// the change feed that reached the end without naming it. Nothing is served past the bound while it is read again.

const (
	defaultCacheSize = 100_000
	cacheShards      = 64
	// missShare is the part of the cache that answers "unknown": values of issued form alone, whose keys cannot come into
	// being later. It is bounded apart, so that they cannot push out keys that exist.
	missShare = 8
)

// cacheKey is the SHA-256 of L(tenant of the view) ‖ value. Without the length, tenant "acmex" could warm an entry that
// "acme" hits; an unbound Manager has the key space of the empty name, which no view can have.
type cacheKey [sha256.Size]byte

func newCacheKey(tenant, value string) cacheKey {
	var buf [512]byte
	b := binary.BigEndian.AppendUint32(buf[:0], uint32(len(tenant)))
	b = append(b, tenant...)
	return sha256.Sum256(append(b, value...))
}

// stamp is a moment on both clocks, in nanoseconds. The wall clock may be set; the monotonic one may stand still while a
// machine sleeps. Elapsed is the larger of the two differences.
type stamp struct{ wall, mono int64 }

func (s stamp) until(now stamp) time.Duration {
	return time.Duration(max(now.wall-s.wall, now.mono-s.mono))
}

// recordKey names a record across tenants.
type recordKey struct{ tenant, id string }

// cached is what the store said of a value. It is immutable and shared: nothing of it is handed out.
type cached struct {
	rec   *record // stripped; nil: no such key
	at    int     // the version
	known stamp
	use   atomic.Pointer[lastUse]
}

// cache answers for at most stale. The zero cache, with stale 0, answers nothing.
type cache struct {
	stale   time.Duration
	start   time.Time // origin of the monotonic clock
	shards  [cacheShards]cacheShard
	fed     atomic.Pointer[stamp] // just before the feed was last read to its end
	wall    atomic.Int64          // the latest wall clock seen
	epoch   atomic.Int64          // counts changes: a fill that began before one does not publish
	perHits int
	perMiss int

	mu       sync.Mutex
	byRecord map[recordKey][]cacheKey
	flights  map[cacheKey]*flight

	leaseMu sync.RWMutex
	leases  map[recordKey]*lease
}

// lease is a credential as the store had it, for Use.
type lease struct {
	rec   *record // whole; shared, and never written to
	known stamp
}

type cacheShard struct {
	mu     sync.RWMutex
	hits   map[cacheKey]*cached
	misses map[cacheKey]*cached
}

func (c *cache) init(stale time.Duration, size int) {
	if size == 0 {
		size = defaultCacheSize
	}
	c.stale, c.start = stale, systemClock()
	c.perHits = max(size/cacheShards, 1)
	c.perMiss = max(c.perHits/missShare, 1)
	c.reset()
}

// reset drops everything.
func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch.Add(1)
	c.byRecord = map[recordKey][]cacheKey{}
	c.leaseMu.Lock()
	c.leases = map[recordKey]*lease{}
	c.leaseMu.Unlock()
	if c.flights == nil {
		c.flights = map[cacheKey]*flight{}
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.hits, s.misses = map[cacheKey]*cached{}, map[cacheKey]*cached{}
		s.mu.Unlock()
	}
}

func (c *cache) shard(k *cacheKey) *cacheShard { return &c.shards[k[0]%cacheShards] }

// stamp reads both clocks. When the wall clock went back, everything is dropped: what was read before cannot be dated.
func (c *cache) stamp(now time.Time) stamp {
	s := stamp{now.UnixNano(), int64(sinceStart(c.start))}
	last := c.wall.Load()
	switch {
	case s.wall > last:
		c.wall.CompareAndSwap(last, s.wall)
	case last-s.wall > int64(time.Second) && c.wall.CompareAndSwap(last, s.wall):
		c.reset()
	}
	return s
}

// get returns what is known of k and still fresh.
func (c *cache) get(k *cacheKey, now stamp) *cached {
	s := c.shard(k)
	s.mu.RLock()
	a := s.hits[*k]
	if a == nil {
		a = s.misses[*k]
	}
	s.mu.RUnlock()
	if a == nil || !c.fresh(a.known, now) || a.rec == nil && a.known.until(now) >= c.stale {
		return nil // the feed does not vouch for a miss: a key may be shown before the transaction that makes it commits
	}
	return a
}

// maxVouched bounds how long the feed alone may vouch for an answer. Who can write to the database can also delete what
// the feed would have said.
const maxVouched = 5 * time.Minute

// fresh reports whether what was known at a stamp may still be answered.
func (c *cache) fresh(known, now stamp) bool {
	age := known.until(now)
	if fed := c.fed.Load(); age >= c.stale && fed != nil && age < max(maxVouched, c.stale) {
		age = fed.until(now)
	}
	return age < c.stale
}

// put publishes an answer, unless anything has changed since its read began: what it read may be what was changed.
func (c *cache) put(k cacheKey, a *cached, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch.Load() != epoch {
		return
	}
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.rec == nil {
		for old := range s.misses {
			if len(s.misses) < c.perMiss {
				break
			}
			delete(s.misses, old)
		}
		s.misses[k] = a
		return
	}
	for old, b := range s.hits {
		if len(s.hits) < c.perHits {
			break
		}
		delete(s.hits, old)
		c.forget(recordKey{b.rec.tenant, b.rec.id}, old)
	}
	delete(s.misses, k)
	r := recordKey{a.rec.tenant, a.rec.id}
	if b := s.hits[k]; b == nil {
		c.byRecord[r] = append(c.byRecord[r], k)
	} else if old := (recordKey{b.rec.tenant, b.rec.id}); old != r { // a chosen value may pass from one key to another
		c.forget(old, k)
		c.byRecord[r] = append(c.byRecord[r], k)
	}
	s.hits[k] = a
}

// revision is the highest known of what k leads to, fresh or not; 0 when that is not known.
func (c *cache) revision(k *cacheKey, r recordKey) int64 {
	s := c.shard(k)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.hits[*k]; a != nil && a.rec.tenant == r.tenant && a.rec.id == r.id {
		return a.rec.revision
	}
	return 0
}

// forget drops k from the index. c.mu is held.
func (c *cache) forget(r recordKey, k cacheKey) {
	keys := c.byRecord[r]
	for i := range keys {
		if keys[i] == k {
			keys[i] = keys[len(keys)-1]
			keys = keys[:len(keys)-1]
			break
		}
	}
	if len(keys) == 0 {
		delete(c.byRecord, r)
	} else {
		c.byRecord[r] = keys
	}
}

// dropMisses forgets what was not there.
func (c *cache) dropMisses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch.Add(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.misses)
		s.mu.Unlock()
	}
}

// evict drops what is known of a record, after a change to it was committed. Misses are not evicted: an issued value
// that was not there comes into being only by the commit of a transaction in which it was made.
func (c *cache) evict(r recordKey) {
	if c.stale == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch.Add(1)
	for _, k := range c.byRecord[r] {
		s := c.shard(&k)
		s.mu.Lock()
		delete(s.hits, k)
		s.mu.Unlock()
	}
	delete(c.byRecord, r)
	c.leaseMu.Lock()
	delete(c.leases, r)
	c.leaseMu.Unlock()
}

// leased returns a credential that may still be used without asking the store.
func (c *cache) leased(r recordKey, now stamp) *record {
	c.leaseMu.RLock()
	defer c.leaseMu.RUnlock()
	if l := c.leases[r]; l != nil && c.fresh(l.known, now) {
		return l.rec
	}
	return nil
}

// leaseRevision is the highest revision known of a credential, fresh or not; 0 when that is not known.
func (c *cache) leaseRevision(r recordKey) int64 {
	c.leaseMu.RLock()
	defer c.leaseMu.RUnlock()
	if l := c.leases[r]; l != nil {
		return l.rec.revision
	}
	return 0
}

// lend publishes a credential, by the rule of put.
func (c *cache) lend(l *lease, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch.Load() != epoch {
		return
	}
	c.leaseMu.Lock()
	defer c.leaseMu.Unlock()
	for old := range c.leases {
		if len(c.leases) < c.perHits*cacheShards {
			break
		}
		delete(c.leases, old)
	}
	c.leases[recordKey{l.rec.tenant, l.rec.id}] = l
}

// flight is one read that several callers wait for.
type flight struct {
	done   chan struct{}
	epoch  int64
	answer *cached // nil: each has to read for himself
	err    error
}

// join returns the read that is under way for k, or makes the caller its leader. A read that began before a change is not
// joined: whoever calls after the change must see it.
func (c *cache) join(k cacheKey) (f *flight, leader bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[k]; f != nil && f.epoch == c.epoch.Load() {
		return f, false
	}
	f = &flight{done: make(chan struct{}), epoch: c.epoch.Load()}
	c.flights[k] = f
	return f, true
}

// land ends a read and lets its followers go.
func (c *cache) land(k cacheKey, f *flight) {
	c.mu.Lock()
	if c.flights[k] == f {
		delete(c.flights, k)
	}
	c.mu.Unlock()
	close(f.done)
}
