package keycote

import (
	"net/netip"
	"slices"
	"time"
)

// What the cache keeps of a key is laid out for two ends: that a hit touches few lines of the processor's cache, each of
// which costs more than the hash of the value when there are many keys, and that a key takes little memory. So an entry
// is one object that holds all that differs from key to key, its count of uses included; what many keys have in common
// is kept once; and what Verify does not need is kept as bytes, to be decoded when somebody asks for the Key.

// terms are what many keys have in common. They are immutable.
type terms struct {
	tenant, app string
	kind        Kind
	state       State
	scopes      []string
	networks    []netip.Prefix
	limit       Limit
}

// standing is what Verify judges a value by, and tells of it: of a key and of the version that has the value. It is
// immutable.
type standing struct {
	*terms
	id, owner  string
	revision   int64
	number     int   // the version's
	expires    int64 // microseconds, unless never
	never      bool
	over       bool // it ended by rotation, or its state is not known: no clock is asked
	superseded bool
}

// standing is of version at.
func (r *record) standing(at int) *standing {
	v := &r.versions[at]
	both := &struct {
		standing
		terms terms
	}{
		standing{
			id: r.id, owner: r.owner, revision: r.revision, number: v.number,
			never: v.expiresAt.IsZero(), over: v.state != StateActive, superseded: at < len(r.versions)-1,
		},
		terms{r.tenant, r.app, r.kind, r.state, r.scopes, r.networks, r.limit},
	}
	s := &both.standing
	s.terms = &both.terms
	if !s.never {
		s.expires = v.expiresAt.UnixMicro()
	}
	return s
}

// live is version.live: a deadline is in whole microseconds, so it is reached when the microseconds of the clock are.
func (s *standing) live(now time.Time) bool {
	return !s.over && (s.never || now.UnixMicro() < s.expires)
}

func (s *standing) expiresAt() time.Time {
	if s.never {
		return time.Time{}
	}
	return time.UnixMicro(s.expires).UTC()
}

func (s *standing) grants() []string { return s.scopes }

// entry is what the cache knows of a value. But for its tally and next it is immutable, and nothing of it is handed out
// that could be changed.
type entry struct {
	sum   cacheKey
	known stamp
	standing
	rest  string // of the record: the body of all that is not in standing, without digests and sealed values
	next  *entry // of the same record, or of one whose hash is the same; the cache's lock guards it
	tally tally
}

// maxTerms bounds the terms that are offered to keys yet to come. Beyond it the offer begins anew; keys keep what they
// have.
const maxTerms = 4096

// newEntry makes an entry. The record stays the caller's.
func (c *cache) newEntry(k cacheKey, known stamp, rec *record, at int) *entry {
	e := &entry{sum: k, known: known, standing: *rec.standing(at)}
	e.terms = c.share(e.terms)
	kept := record{
		id: rec.id, name: rec.name, owner: rec.owner, endpoint: rec.endpoint, labels: rec.labels,
		createdAt: rec.createdAt, createdBy: rec.createdBy, updatedAt: rec.updatedAt, revision: rec.revision,
	}
	for i := range rec.versions {
		v := &rec.versions[i]
		kept.versions = append(kept.versions, version{
			number: v.number, state: v.state, hint: v.hint, createdAt: v.createdAt, expiresAt: v.expiresAt,
		})
	}
	e.rest = string(kept.encode())
	if own, err := decodeFields(e.rest); err == nil { // always
		e.id, e.owner = own.id, own.owner // as parts of rest, where they take no room and hold no larger text
	}
	return e
}

// share returns terms equal to t that other keys may have, too.
func (c *cache) share(t *terms) *terms {
	text := (&record{
		tenant: t.tenant, app: t.app, kind: t.kind, state: t.state, scopes: t.scopes, networks: t.networks, limit: t.limit,
	}).encode()
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.terms[string(text)]; known != nil {
		return known
	}
	own := string(text)
	r, err := decodeFields(own)
	if err != nil {
		return t // never: it was encoded a moment ago
	}
	if len(c.terms) >= maxTerms {
		clear(c.terms)
	}
	scopes := slices.Clip(slices.Clone(r.scopes)) // alone, not as a part of the whole record
	t = &terms{r.tenant, r.app, r.kind, r.state, scopes, r.networks, r.limit}
	c.terms[own] = t
	return t
}

// record is the record that the entry was made of, without digests and sealed values: a new one for each caller.
func (e *entry) record() *record {
	r, err := decodeFields(e.rest)
	if err != nil {
		return &record{versions: make([]version, 1)} // never: it was encoded here
	}
	t := e.terms
	r.tenant, r.app, r.kind, r.state, r.limit = t.tenant, t.app, t.kind, t.state, t.limit
	r.scopes, r.networks = t.scopes, t.networks // which record.key copies
	return r
}

func (e *entry) key(now time.Time, uses []UseCount) *Key { return e.record().key(now, uses) }
