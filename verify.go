package keycote

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// maxValue bounds what is taken for a key at all, in bytes. Longer input is refused, never cut: two values with a common
// beginning must not meet (Okta 2024: bcrypt cut a cache key at 72 bytes).
const maxValue = 4096

// Request is what a key is wanted for, and from where.
type Request struct {
	Scopes           []string   // all are required
	Addr             netip.Addr // zero: unknown, which a key bound to networks refuses
	Route, UserAgent string     // for the use log; Route is a pattern ("GET /orders/{id}"), not a path
	Endpoint         string     // of Use: where the value goes; another origin than the key's is ErrAddress, before it is opened
}

// Grant is the answer of Verify and Use: a small value that shares nothing with the cache.
type Grant struct {
	KeyID, Tenant string
	App, Owner    string
	Version       int
	Superseded    bool // a newer version exists
	ExpiresAt     time.Time
	Endpoint      string // of Use
	of            granted
	at            int64         // when it was granted, in microseconds
	limits        *[]LimitState // nil: there are none, as for most; a Grant is copied at every turn
}

// granted is what a Grant is of: a record of its own, stripped, or an entry of the cache.
type granted interface {
	key(now time.Time, uses []UseCount) *Key
	grants() []string
}

// found is the key that a value belongs to.
type found struct {
	*standing         // nil: there is none, or it could not be asked for
	rec       *record // as the store has it; nil when the cache answered
	at        int     // the version, of rec
	entry     *entry  // of the cache, which is shared; nil when the store answered
}

func (r *record) found(at int) found { return found{standing: r.standing(at), rec: r, at: at} }

func (e *entry) found() found { return found{standing: &e.standing, entry: e} }

// Verify checks an access key presented to the host. Every refusal of identity matches [ErrUnauthenticated] and its own
// code, ErrUnauthenticated being all that a client may be told: [ErrUnknownKey], [ErrTampered], [ErrRevoked],
// [ErrDisabled], [ErrExpired], [ErrAddress], judged in this order. [ErrScope], [ErrLimited] and [ErrUnavailable] do not
// match it. The key's [Limit] is judged last, and only what it lets through counts against it. The
// *Error carries the key's id when it is known. Verify is not put to Authorize.
//
// A mistyped or made-up value of issued form is refused without a read of the store; any other value costs one, unless
// Options.IssuedOnly is set.
func (m *Manager) Verify(ctx context.Context, token string, r Request) (Grant, error) {
	if m.broken != nil {
		return Grant{}, &Error{Op: opVerify, Code: ErrInvalid, Err: m.broken}
	}
	now := m.now()
	f, err := m.answer(ctx, token, now)
	if err == nil {
		err = m.judge(f.standing, now, r)
	}
	var limits []LimitState
	if err == nil && f.limit.limited() {
		limits, err = m.take(ctx, f.standing)
	}
	if err == nil && f.rec != nil {
		err = m.markUsed(ctx, &f, now, r)
	}
	if err != nil {
		return Grant{}, m.refuse(ctx, f.standing, now, r, err)
	}
	m.countUse(ctx, f.standing, f.entry, r, now)
	g := Grant{
		KeyID: f.id, Tenant: f.tenant, App: f.app, Owner: f.owner, Version: f.number, Superseded: f.superseded,
		ExpiresAt: f.expiresAt(), at: now.UnixMicro(),
	}
	if len(limits) > 0 {
		kept := limits
		g.limits = &kept
	}
	if f.rec == nil {
		g.of = f.entry
	} else {
		f.rec.strip()
		g.of = f.rec
	}
	return g, nil
}

// refuse counts a refusal and makes its error.
func (m *Manager) refuse(ctx context.Context, s *standing, now time.Time, r Request, err error) error {
	id := ""
	k := useKey{tenant: m.tenant, addr: r.Addr}
	if s != nil {
		id = s.id
		k = useKey{tenant: s.tenant, key: id, version: s.number, addr: r.Addr, route: r.Route, agent: r.UserAgent}
	}
	err = wrapError(ctx, opVerify, id, err)
	if k.outcome = CodeOf(err); k.outcome != ErrUnavailable {
		m.count(ctx, k, now)
	}
	return err
}

// answer finds the key and the version that a value belongs to: in the cache if there is one, else in the store.
func (m *Manager) answer(ctx context.Context, value string, now time.Time) (found, error) {
	if m.cache.stale == 0 || m.tx != nil {
		m.refresh(ctx, now)
		list, err := m.digestsOf(ctx, value)
		if err != nil {
			return found{}, err
		}
		return m.find(ctx, list)
	}
	if len(value) > maxValue {
		return found{}, ErrUnknownKey
	}
	k, moment := newCacheKey(m.tenant, value), m.cache.stamp(now)
	switch e, missed := m.cache.get(&k, moment); {
	case e != nil:
		return e.found(), nil
	case missed:
		return found{}, ErrUnknownKey
	}
	m.refresh(ctx, now)                                // what is cached must not wait for a store that hangs
	if _, err := m.digestsOf(ctx, value); err != nil { // what was made up is refused here
		return found{}, err
	}
	got, err := m.cache.reads.do(ctx, &m.cache, k, func(ctx context.Context, f *flight[fetched]) { m.fill(ctx, k, f, value) })
	switch {
	case err != nil:
		return found{}, err
	case got.entry != nil:
		return got.entry.found(), nil
	}
	return got.rec.clone().found(got.at), nil // each caller strips his own
}

// fetched is what a read for the cache has found: an entry, or a record whose version needs its first use written down.
// Such a one is not published: each of its verifications has to see to that.
type fetched struct {
	entry *entry
	rec   *record
	at    int
}

// fill reads what the cache does not know, and publishes it.
func (m *Manager) fill(ctx context.Context, k cacheKey, f *flight[fetched], value string) {
	switch e, missed := m.cache.get(&k, m.cache.stamp(m.now())); { // another one has filled it since we looked
	case e != nil:
		f.value.entry, f.record, f.known, f.ended = e, recordKey{e.tenant, e.id}, e.known, true
		return
	case missed:
		f.err, f.ended = ErrUnknownKey, true
		return
	}
	// By the index keys of now: a keyring that changes after this changes the epoch as well.
	list, err := m.digestsOf(ctx, value)
	var got found
	copied := false
	f.known = f.began
	if err == nil {
		if got, copied = m.findCopy(ctx, list, f.began); copied {
			f.known = f.began.before(m.replica.lag)
		} else {
			got, err = m.findNewest(ctx, list)
		}
	}
	switch {
	case err == nil && needsMark(got.rec, &got.rec.versions[got.at]):
		f.value.rec, f.value.at = got.rec, got.at
	case err == nil:
		f.value.entry = m.cache.newEntry(k, f.known, got.rec, got.at)
		m.cache.put(f.value.entry, f.epoch)
	case errors.Is(err, ErrUnknownKey) && issuedForm(value):
		m.cache.putMiss(k, f.known, f.epoch)
	case errors.Is(err, ErrUnknownKey): // it may be made at any time
		f.known = stamp{}
	}
	if err == nil {
		f.record = recordKey{got.tenant, got.id}
	}
	f.err = err
	f.ended = err == nil || ctx.Err() == nil
}

// findNewest is find for a process that remembers revisions: a record that is older than it was is read once more, and
// not believed if it still is.
func (m *Manager) findNewest(ctx context.Context, list []digest) (found, error) {
	got, err := m.find(ctx, list)
	for range 2 {
		if err != nil {
			return got, err
		}
		r := recordKey{got.tenant, got.id}
		least := m.cache.revision(r)
		if got.revision >= least {
			return got, nil
		}
		got, err = m.find(ctx, list)
		switch {
		case err != nil, got.tenant != r.tenant, got.id != r.id: // another record has to be looked at as the first was
		case got.revision < least:
			return found{}, m.tampered(ctx, r.tenant, r.id, olderThanItWas)
		default:
			return got, nil
		}
	}
	return found{}, m.tampered(ctx, got.tenant, got.id, olderThanItWas)
}

const olderThanItWas = "the record is older than it was"

// digestsOf returns what a value is found by, or ErrUnknownKey for one that can be refused without asking the store.
func (m *Manager) digestsOf(ctx context.Context, value string) ([]digest, error) {
	index := m.roots().index
	if issuedForm(value) {
		t, ok := takeApart(value)
		if !ok {
			return nil, ErrUnknownKey
		}
		id := t.indexKey()
		o, ok := index.compute(id, tokenMessage(&t))
		if !ok && !index.known[id] {
			if err := m.reloadUnknown(ctx, m.rings.forTokens); err != nil {
				return nil, err
			}
			o, ok = m.roots().index.compute(id, tokenMessage(&t))
		}
		if !ok || !t.proves(&o) {
			return nil, ErrUnknownKey
		}
		return []digest{{digestToken, id, o.sum()}}, nil
	}
	if m.opts.IssuedOnly || !presentable(value) {
		return nil, ErrUnknownKey
	}
	list := make([]digest, 0, 2*len(index.enabled))
	sum := sha256.Sum256([]byte(value))
	chosen, imported := chosenSumMessage(m.tenant, sum), importMessage(sum)
	for _, id := range index.enabled {
		if o, ok := index.compute(id, chosen); ok {
			list = append(list, digest{digestChosen, id, o.sum()})
		}
		if o, ok := index.compute(id, imported); ok {
			list = append(list, digest{digestImport, id, o.sum()})
		}
	}
	return list, nil
}

// find asks the store, once, whose value has these digests.
func (m *Manager) find(ctx context.Context, list []digest) (found, error) {
	return m.findIn(ctx, m.store.Lookup, list)
}

func (m *Manager) findIn(ctx context.Context, look lookup, list []digest) (found, error) {
	if m.tx == nil { // a transaction may hold the connection that those in the lane wait for
		lane := m.lanes.of(list[0].kind)
		select {
		case lane <- struct{}{}:
		case <-ctx.Done():
			return found{}, ctx.Err()
		}
		defer func() { <-lane }()
	}
	rec, at, err := m.lookup(ctx, look, list)
	switch {
	case errors.Is(err, ErrNotFound):
		if list[0].kind == digestToken {
			m.decoy(m.roots())
		}
		return found{}, ErrUnknownKey
	case err != nil:
		return found{}, err
	case m.bound && rec.tenant != m.tenant:
		return found{}, ErrUnknownKey
	}
	return rec.found(at), nil
}

// lanes bound the lookups under way at once, so that a slow store is not buried. Values of other than issued form have a
// lane of their own: anybody can make them up, and they must not starve keys that were issued.
type lanes struct{ issued, others, credentials chan struct{} }

const (
	issuedLane = 256
	othersLane = 32
)

func newLanes() lanes {
	return lanes{make(chan struct{}, issuedLane), make(chan struct{}, othersLane), make(chan struct{}, issuedLane)}
}

func (l *lanes) of(kind digestKind) chan struct{} {
	if kind == digestToken {
		return l.issued
	}
	return l.others
}

// decoy does for a genuine value without a record what would be done for one with a record, so that the time of an
// answer does not tell the two apart.
func (m *Manager) decoy(roots *rootRings) {
	if sealHolds(roots.record.mac, roots.decoy.Seal, recordLabel, roots.decoy.Body) {
		_, _ = decodeRecord(roots.decoy.Body)
	}
}

// presentable reports whether a value of other than issued form may be a key: visible ASCII of a bounded length.
func presentable(value string) bool {
	if value == "" || len(value) > maxValue {
		return false
	}
	for i := range len(value) {
		if value[i] < 0x21 || value[i] > 0x7e {
			return false
		}
	}
	return true
}

// lookup asks once, by look, for all of list, and returns the record with the version that holds one of them: of the
// same kind and under the same index key, or somebody has pointed the digest at another record. A digest of a RequestID
// belongs to the record itself; at is then the current version.
func (m *Manager) lookup(ctx context.Context, look lookup, list []digest) (rec *record, at int, err error) {
	sums := make([][]byte, len(list))
	for i := range list {
		sums[i] = list[i].sum[:]
	}
	raw, err := look(ctx, sums)
	if err != nil {
		err = storeAnswer(err)
		if errors.Is(err, errLost) {
			return nil, 0, m.tampered(ctx, m.tenant, "", "one value leads to two records")
		}
		return nil, 0, err
	}
	if rec, err = m.openRecord(ctx, &raw, raw.Tenant, raw.ID, false); err != nil {
		if m.bound && raw.Tenant != m.tenant && !m.owns(raw.Body) {
			err = ErrNotFound // what is wrong with another tenant's key is not this one's to know
		}
		return nil, 0, err
	}
	for i := range rec.versions {
		if holdsAny(rec.versions[i].digests, list) {
			return rec, i, nil
		}
	}
	if rec.request != nil && holdsAny(rec.request.digests, list) {
		return rec, len(rec.versions) - 1, nil
	}
	return nil, 0, m.tampered(ctx, raw.Tenant, raw.ID, "the digest that was found is not in the body")
}

// owns reports whether a body that is not to be trusted says that it is of this view's tenant.
func (m *Manager) owns(body []byte) bool {
	rec, err := decodeRecord(body)
	return err == nil && rec.tenant == m.tenant
}

func holdsAny(kept, list []digest) bool {
	for i := range kept {
		if slices.Contains(list, kept[i]) {
			return true
		}
	}
	return false
}

// judge decides on a key whose seal holds. An ended version is judged by what its record says, and only then is the
// clock asked.
func (m *Manager) judge(s *standing, now time.Time, r Request) error {
	switch {
	case s.kind != KindAccess:
		return ErrUnknownKey
	case s.state == StateRevoked:
		return ErrRevoked
	case s.state == StateDisabled:
		return ErrDisabled
	case s.state != StateActive:
		return ErrTampered
	case !s.live(now), m.marks.ended(s):
		return ErrExpired
	case !allowedFrom(s.networks, r.Addr):
		return ErrAddress
	case !allows(s.scopes, r.Scopes):
		return ErrScope
	}
	return nil
}

// Key returns a copy of the key as Verify judged it, without counters. Of the zero Grant it is nil.
func (g Grant) Key() *Key {
	if g.of == nil {
		return nil
	}
	return g.of.key(time.UnixMicro(g.at), nil)
}

// Allows reports whether the key's scopes meet all of scopes, by the rule that Verify uses. The zero Grant allows
// nothing but an empty list.
func (g Grant) Allows(scopes ...string) bool {
	if g.of == nil {
		return len(scopes) == 0
	}
	return allows(g.of.grants(), scopes)
}
