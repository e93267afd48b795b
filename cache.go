package keycote

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
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

// cache answers for at most stale. The zero cache, with stale 0, answers nothing.
type cache struct {
	stale   time.Duration
	start   time.Time // origin of the monotonic clock
	ownTime bool      // the host's clock is the machine's
	now     func() time.Time
	lag     time.Duration // of a replica that is asked; 0: there is none
	uses    *useLog
	seed    maphash.Seed
	shards  [cacheShards]cacheShard
	fed     atomic.Pointer[stamp] // just before the feed was last read to its end
	wall    atomic.Int64          // the latest wall clock seen, to within wallGrain
	epoch   atomic.Int64          // counts changes: a fill that began before one does not publish
	size    int                   // of all shards together: they do not fill evenly
	perMiss int

	mu       sync.Mutex
	weight   int               // of all entries
	byRecord map[uint64]*entry // by a hash of recordKey; the first of a list
	terms    map[string]*terms
	news     news

	// The epoch at which a record was last changed, and of the last change that may have been of any: what was read before
	// it is not published. By hashes of recordKeys: two that share one only spoil a read.
	changes    map[uint64]int64
	changedAny int64

	// The highest revisions of records that have left the cache, by the same hash.
	floors map[uint64]int64

	leaseMu sync.RWMutex
	leases  map[recordKey]*lease
	lent    int // the weight of all leases

	reads flights[cacheKey, fetched]
	loads flights[recordKey, loaded]
	rings flights[string, *keyring] // by tenant
}

// lease is a credential as the store had it, for Use.
type lease struct {
	rec   *record // whole; shared, and never written to
	known stamp
	size  int // of its body
}

// weight is 1 for each kilobyte that is begun, so that keys with all the labels that they may have do not take many
// times the memory that CacheSize promises.
func (e *entry) weight() int { return 1 + (len(e.rest)+64*(len(e.scopes)+len(e.networks)))>>10 }

func (l *lease) weight() int { return 1 + l.size>>10 }

// cacheShard finds entries by 8 of the 32 bytes of their keys, which halves the index. Two keys that share them push each
// other out: nobody gets another's answer, because the entry holds its whole key, and who wants to push out a key that
// he does not know has to find such a value among 2^64.
type cacheShard struct {
	mu     sync.RWMutex
	hits   map[uint64]*entry
	misses map[cacheKey]stamp
	_      [24]byte // a shard has a line of the processor's cache to itself
}

func (c *cache) init(opts *Options, now func() time.Time, lag time.Duration, uses *useLog) {
	size := opts.CacheSize
	if size == 0 {
		size = defaultCacheSize
	}
	c.stale, c.start, c.ownTime, c.uses, c.seed = opts.MaxStale, systemClock(), opts.Now == nil, uses, maphash.MakeSeed()
	c.size, c.now, c.lag = size, now, lag
	c.perMiss = max(size/cacheShards/missShare, 1)
	c.reset()
}

// reset drops everything. What the entries have counted stays with the use log.
func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteAll()
	for h, e := range c.byRecord {
		for ; e != nil; e = e.next {
			c.floor(h, e.standing.revision)
		}
	}
	c.weight, c.byRecord, c.terms = 0, map[uint64]*entry{}, map[string]*terms{}
	c.leaseMu.Lock()
	for r, l := range c.leases {
		c.floor(c.hash(r), l.rec.revision)
	}
	c.leases, c.lent = map[recordKey]*lease{}, 0
	c.leaseMu.Unlock()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.hits, s.misses = map[uint64]*entry{}, map[cacheKey]stamp{}
		s.mu.Unlock()
	}
	// The epoch comes last, here as in evict: whoever has found something before it was dropped began in an earlier one.
	c.changedAny = c.epoch.Add(1)
	clear(c.changes)
}

func (c *cache) shard(k *cacheKey) *cacheShard { return &c.shards[k[0]%cacheShards] }

// slot is what a shard finds k by.
func (k *cacheKey) slot() uint64 { return binary.LittleEndian.Uint64(k[8:16]) }

// wallGrain is how far the latest wall clock seen may lie behind: noting each one would have all callers write to one
// place.
const wallGrain = int64(10 * time.Millisecond)

// stamp reads both clocks. When the wall clock went back by a second, everything is dropped: what was read before cannot
// be dated.
func (c *cache) stamp(now time.Time) stamp {
	s := c.clocks(now)
	last := c.wall.Load()
	switch {
	case s.wall > last+wallGrain:
		c.wall.CompareAndSwap(last, s.wall)
	case last-s.wall >= int64(time.Second)-wallGrain && c.wall.CompareAndSwap(last, s.wall):
		c.reset()
	}
	return s
}

// clocks reads both clocks, and does not look whether one was set.
func (c *cache) clocks(now time.Time) stamp {
	s := stamp{wall: now.UnixNano()}
	if c.ownTime {
		s.mono = int64(now.Sub(c.start)) // a look at the clock costs as much as the lookup
	} else {
		s.mono = int64(sinceStart(c.start))
	}
	return s
}

// get returns what is known of k and still fresh: an entry, or that the store has no such key.
func (c *cache) get(k *cacheKey, now stamp) (e *entry, missed bool) {
	s, fed := c.shard(k), c.fed.Load()
	s.mu.RLock()
	e = s.hits[k.slot()]
	var known stamp
	if e == nil || e.sum != *k {
		e = nil
		known, missed = s.misses[*k]
	}
	s.mu.RUnlock()
	if e != nil && !c.fresh(e.known, now, fed) {
		return nil, false
	}
	// The feed does not vouch for a miss: a key may be shown before the transaction that makes it commits.
	return e, missed && known.until(now) < c.stale
}

// maxVouched bounds how long the feed alone may vouch for an answer. Who can write to the database can also delete what
// the feed would have said.
const maxVouched = 5 * time.Minute

// fresh reports whether what was known at a stamp may still be answered. fed MUST be read before what was known is looked
// up: a reading of the feed that drops it in between vouches for all the rest, and would vouch for it.
func (c *cache) fresh(known, now stamp, fed *stamp) bool {
	age := known.until(now)
	if age >= c.stale && fed != nil && age < max(maxVouched, c.stale) {
		age = fed.until(now)
	}
	return age < c.stale
}

// change notes that a record is another than before, in a new epoch. c.mu is held.
func (c *cache) change(h uint64) {
	epoch := c.epoch.Add(1)
	if len(c.changes) >= maxRecent {
		c.changedAny = epoch // more than are remembered by name
		clear(c.changes)
	}
	if c.changes == nil {
		c.changes = map[uint64]int64{}
	}
	c.changes[h] = epoch
}

// since reports whether a record may have been changed after an epoch. c.mu is held.
func (c *cache) since(h uint64, epoch int64) bool {
	return c.changedAny > epoch || c.changes[h] > epoch
}

func (c *cache) changedSince(r recordKey, epoch int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since(c.hash(r), epoch)
}

// changedAnySince reports whether after an epoch it became unknown what had changed, or a keyring did.
func (c *cache) changedAnySince(epoch int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changedAny > epoch
}

// floor remembers the revision of what leaves the cache. c.mu is held.
func (c *cache) floor(h uint64, revision int64) {
	if revision <= c.floors[h] {
		return
	}
	if c.floors == nil {
		c.floors = map[uint64]int64{}
	}
	if _, there := c.floors[h]; !there {
		for old := range c.floors {
			if len(c.floors) < c.size {
				break
			}
			delete(c.floors, old)
		}
	}
	c.floors[h] = revision
}

// put publishes an entry, unless its record was changed after its read began: it may have been read before. Of two reads
// at once the older is not published either.
func (c *cache) put(e *entry, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := recordKey{e.tenant, e.id}
	h := c.hash(r)
	if c.since(h, epoch) || e.standing.revision < c.highest(r) {
		return
	}
	s, slot := c.shard(&e.sum), e.sum.slot()
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.hits[slot]; old != nil {
		c.remove(s, old)
	}
	weight := e.weight()
	for _, old := range s.hits { // an empty shard has none to give, so each may have one entry more than size allows
		if c.weight+weight <= c.size {
			break
		}
		c.remove(s, old)
	}
	delete(s.misses, e.sum)
	s.hits[slot] = e
	c.weight += weight
	e.next, c.byRecord[h] = c.byRecord[h], e
}

// putMiss publishes that the store has no such key, unless anything has changed since the read began: nobody knows whose
// value it is.
func (c *cache) putMiss(k cacheKey, known stamp, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch.Load() != epoch {
		return
	}
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.hits[k.slot()]; old != nil && old.sum == k {
		if old.known.mono > known.mono {
			return
		}
		c.remove(s, old)
	}
	for old := range s.misses {
		if len(s.misses) < c.perMiss {
			break
		}
		delete(s.misses, old)
	}
	s.misses[k] = known
}

// remove drops an entry of s. c.mu and s.mu are held.
func (c *cache) remove(s *cacheShard, e *entry) {
	delete(s.hits, e.sum.slot())
	c.weight -= e.weight()
	h := c.hash(recordKey{e.tenant, e.id})
	c.floor(h, e.standing.revision)
	switch first := c.byRecord[h]; {
	case first != e:
		for other := first; other != nil; other = other.next {
			if other.next == e {
				other.next = e.next
			}
		}
	case e.next == nil:
		delete(c.byRecord, h)
	default:
		c.byRecord[h] = e.next
	}
	c.uses.retire(e)
}

func (c *cache) hash(r recordKey) uint64 { return maphash.Comparable(c.seed, r) }

// revision is the highest that was seen of a record, as far as that is remembered: of all that are cached, and of as many
// others as CacheSize says.
func (c *cache) revision(r recordKey) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.highest(r)
}

// highest is revision. c.mu is held.
func (c *cache) highest(r recordKey) int64 {
	h := c.hash(r)
	highest := c.floors[h]
	for e := c.byRecord[h]; e != nil; e = e.next {
		if e.tenant == r.tenant && e.id == r.id {
			highest = max(highest, e.standing.revision)
		}
	}
	c.leaseMu.RLock()
	defer c.leaseMu.RUnlock()
	if l := c.leases[r]; l != nil {
		highest = max(highest, l.rec.revision)
	}
	return highest
}

// dropMisses forgets what was not there.
func (c *cache) dropMisses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.misses)
		s.mu.Unlock()
	}
	c.epoch.Add(1)
}

// evict drops what is known of a record, after a change to it was committed. Misses are not evicted: an issued value
// that was not there comes into being only by the commit of a transaction in which it was made.
func (c *cache) evict(r recordKey) {
	if c.stale == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(r) // before the epoch: a read that begins in between has to see one of them
	h := c.hash(r)
	for e := c.byRecord[h]; e != nil; {
		next := e.next
		if e.tenant == r.tenant && e.id == r.id {
			s := c.shard(&e.sum)
			s.mu.Lock()
			c.remove(s, e)
			s.mu.Unlock()
		}
		e = next
	}
	c.leaseMu.Lock()
	c.unlend(r)
	c.leaseMu.Unlock()
	c.change(h)
}

// unlend drops a lease. c.mu and c.leaseMu are held.
func (c *cache) unlend(r recordKey) {
	if l := c.leases[r]; l != nil {
		c.floor(c.hash(r), l.rec.revision)
		c.lent -= l.weight()
		delete(c.leases, r)
	}
}

// leased returns a credential that may still be used without asking the store.
func (c *cache) leased(r recordKey, now stamp) *lease {
	fed := c.fed.Load()
	c.leaseMu.RLock()
	defer c.leaseMu.RUnlock()
	if l := c.leases[r]; l != nil && c.fresh(l.known, now, fed) {
		return l
	}
	return nil
}

// lend publishes a credential, by the rule of put.
func (c *cache) lend(l *lease, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := recordKey{l.rec.tenant, l.rec.id}
	if c.since(c.hash(r), epoch) || l.rec.revision < c.highest(r) {
		return
	}
	c.leaseMu.Lock()
	defer c.leaseMu.Unlock()
	c.unlend(r)
	weight := l.weight()
	for old := range c.leases {
		if c.lent+weight <= c.size {
			break
		}
		c.unlend(old)
	}
	c.leases[r] = l
	c.lent += weight
}
