package keycote

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ringRefresh is how often a process compares its keyrings with the store's. Rotation inside a keyring relies on it:
	// a new key waits two of these before anything is made with it.
	ringRefresh = time.Minute
	// ringRetry bounds how often a token, seal or value that names an unknown key makes a process read a keyring again.
	ringRetry = time.Second
	// maxTenantRings bounds the tenants' keyrings held open: 1.6 kB each.
	maxTenantRings = 4096
)

// rootRings are the three keyrings that belong to no tenant, as of one reading.
type rootRings struct {
	index, record, trail *keyring
	decoy                Record // sealed, and nobody's
}

func (r *rootRings) all() []*keyring { return []*keyring{r.index, r.record, r.trail} }

// expect names the revisions under which a Batch was made.
func (r *rootRings) expect(more ...*keyring) []ItemRef {
	refs := append(make([]ItemRef, 0, 4), r.index.ref, r.record.ref, r.trail.ref)
	for _, ring := range more {
		if ring != nil {
			refs = append(refs, ring.ref)
		}
	}
	return refs
}

// rings opens keyrings and keeps them, bounded, following what other processes do to them.
type rings struct {
	keks keks
	now  func() time.Time
	log  *slog.Logger

	changed func() // called when root keyrings of another revision have been read

	roots   atomic.Pointer[rootRings]
	checked atomic.Int64 // microseconds: when roots were last held against the store

	reading chan struct{} // holds a token while the roots are read: one reading at a time

	forTokens, forSeals *reloadGate // apart, so that made-up tokens cannot spend what a record's seal needs

	tenants ringCache
}

// reloadGate lets an unknown key make us read the root keyrings, once a second.
type reloadGate struct {
	turn    chan struct{} // holds a token while somebody reads; it guards what follows
	retried time.Time     // when somebody last did
	unread  bool          // and it failed
}

func newReloadGate() *reloadGate { return &reloadGate{turn: make(chan struct{}, 1)} }

func newRings(k keks, now func() time.Time, log *slog.Logger) *rings {
	return &rings{
		keks: k, now: now, log: log, reading: make(chan struct{}, 1), forTokens: newReloadGate(), forSeals: newReloadGate(),
	}
}

// start opens the root keyrings, or makes them on an empty store.
func (r *rings) start(ctx context.Context, store Store) error {
	found, err := r.readRoots(ctx, store)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		empty, err := isEmpty(ctx, store)
		if err != nil {
			return err
		}
		if empty {
			if err := r.createRoots(ctx, store); err != nil {
				return err
			}
		}
		// Whoever was faster than we has left keyrings, and perhaps keys, between our two looks.
		if found, err = r.readRoots(ctx, store); err != nil {
			return err
		}
	}
	if len(found) != 3 {
		return &Error{Code: ErrTampered, Err: fmt.Errorf("the store has %d of 3 root keyrings, and is not empty", len(found))}
	}
	roots, err := r.openRoots(ctx, found, nil)
	if err != nil {
		return err
	}
	r.install(roots)
	return nil
}

func isEmpty(ctx context.Context, store Store) (bool, error) {
	items, err := store.Items(ctx, ItemQuery{AllTenants: true, Limit: 1})
	if err != nil || len(items) > 0 {
		return false, causeOf(err)
	}
	records, err := store.List(ctx, Query{AllTenants: true, Limit: 1})
	if err != nil || len(records) > 0 {
		return false, causeOf(err)
	}
	events, err := store.Events(ctx, EventQuery{AllTenants: true, Limit: 1})
	return len(events) == 0, causeOf(err)
}

func (r *rings) createRoots(ctx context.Context, store Store) error {
	batch := Batch{ID: newBatchID()}
	for _, name := range []string{ringIndex, ringRecord, ringTrail} {
		_, item, err := r.keks.create(ctx, "", name)
		if err != nil {
			return &Error{Code: kekFailure(ctx), Err: causeOf(err)}
		}
		batch.Items = append(batch.Items, item)
	}
	err := commitBatch(ctx, store, batch)
	if errors.Is(err, errLost) {
		return nil // another process made them
	}
	return err
}

// kekFailure is the code of a KEK that did not do what New needs.
func kekFailure(ctx context.Context) Code {
	if ctx.Err() != nil {
		return ErrUnavailable
	}
	return ErrKEK
}

func (r *rings) readRoots(ctx context.Context, store Store) (map[string]Item, error) {
	items, err := store.Items(ctx, ItemQuery{Space: spaceKeyring, Limit: 100})
	if err != nil {
		return nil, causeOf(err) // whatever a Store says here, it is an outage
	}
	found := map[string]Item{}
	for _, item := range items {
		switch item.Name {
		case ringIndex, ringRecord, ringTrail:
			found[item.Name] = item
		}
	}
	return found, nil
}

// openRoots opens all three, less those that are as they were: had is nil at the start. Where some open and others do
// not, the KEK is right and the store is not.
func (r *rings) openRoots(ctx context.Context, found map[string]Item, had *rootRings) (*rootRings, error) {
	var opened rootRings
	slots := map[string]**keyring{ringIndex: &opened.index, ringRecord: &opened.record, ringTrail: &opened.trail}
	failures := map[string]error{}
	mixed := false
	var proof *keyring // one that has opened before
	if had != nil {
		proof = had.record
		for _, ring := range had.all() {
			if item := found[ring.ref.Name]; item.Revision == ring.ref.Revision {
				*slots[ring.ref.Name], mixed = ring, true
			}
		}
	}
	for name, slot := range slots {
		if *slot != nil {
			continue
		}
		ring, err := r.keks.open(ctx, found[name])
		switch {
		case err == nil && ring.shredded:
			failures[name] = errMalformed // nothing shreds a root keyring
		case err != nil:
			failures[name] = err
		default:
			*slot, proof, mixed = ring, ring, true
		}
	}
	for name, failure := range failures {
		ring, err := r.keks.blame(ctx, found[name], failure, proof)
		switch {
		case err == nil:
			*slots[name] = ring
		case mixed && CodeOf(err) == ErrKEK:
			return nil, &Error{Code: ErrTampered, Err: causeOf(failure)}
		default:
			return nil, err
		}
	}
	var err error
	opened.decoy, _, err = sealRecord(&opened, &record{
		id: keyIDPrefix, kind: KindAccess, name: "decoy", scopes: []string{"a:read", "a:write"}, state: StateActive,
		versions: []version{{number: 1, state: StateActive, digests: []digest{{kind: digestToken}}}}, revision: 1,
	})
	return &opened, err
}

func (r *rings) install(roots *rootRings) {
	r.roots.Store(roots)
	r.checked.Store(r.now().UnixMicro())
}

// refresh holds the root keyrings against the store's once a minute. A store that cannot be asked, or a keyring that
// does not open, leaves them as they are, to be asked again a second later: what they verify is still genuine, and no
// change gets past the fence.
func (r *rings) refresh(ctx context.Context, store Store, now time.Time) {
	us, before := now.UnixMicro(), r.checked.Load()
	if age := us - before; age >= 0 && age < ringRefresh.Microseconds() || !r.checked.CompareAndSwap(before, us) {
		return
	}
	if err := r.reloadWithin(ctx, store, inlineWait); err != nil {
		r.checked.CompareAndSwap(us, r.now().UnixMicro()-(ringRefresh-ringRetry).Microseconds())
		r.log.LogAttrs(ctx, slog.LevelError, "keycote: the root keyrings could not be read again", slog.Any("error", err))
	}
}

// reload reads the root keyrings again and opens those that have changed.
func (r *rings) reload(ctx context.Context, store Store) error {
	return r.reloadWithin(ctx, store, storeWait)
}

// reloadWithin is reload with a bound on the store's part. The KEK's has its own, and is seldom needed.
func (r *rings) reloadWithin(ctx context.Context, store Store, wait time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case r.reading <- struct{}{}:
	case <-limited.Done():
		return &Error{Code: ErrUnavailable, Err: limited.Err()}
	}
	defer func() { <-r.reading }()
	found, err := r.readRoots(limited, store)
	if err != nil {
		return err
	}
	had := r.roots.Load()
	changed := false
	for _, ring := range had.all() {
		switch item := found[ring.ref.Name]; {
		case item.Revision < ring.ref.Revision:
			return &Error{Code: ErrTampered, Err: fmt.Errorf("the %s keyring is gone or older than it was", ring.ref.Name)}
		case item.Revision > ring.ref.Revision:
			changed = true
		}
	}
	if !changed {
		r.checked.Store(r.now().UnixMicro())
		return nil
	}
	opening, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	roots, err := r.openRoots(opening, found, had)
	if err != nil {
		return err
	}
	r.install(roots)
	if r.changed != nil {
		r.changed()
	}
	return nil
}

// reloadUnknown is reload for a token or seal that names a key we do not know: at most once a second, so that made-up
// ones cannot turn into reads. Who comes while it is under way waits for it. It fails when the keyrings could not be
// read, and for the rest of that second: an outage must read neither as an unknown key nor as tampering.
func (r *rings) reloadUnknown(ctx context.Context, store Store, g *reloadGate) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return &Error{Code: ErrUnavailable, Err: ctx.Err()}
	}
	defer func() { <-g.turn }()
	now := r.now()
	if since := now.Sub(g.retried); since >= 0 && since < ringRetry {
		if g.unread {
			return &Error{Code: ErrUnavailable, Err: errors.New("the root keyrings could not be read a moment ago")}
		}
		return nil
	}
	if err := r.reload(ctx, store); err != nil {
		if ctx.Err() == nil { // else it says nothing about the store
			g.retried, g.unread = now, true
		}
		r.log.LogAttrs(ctx, slog.LevelError, "keycote: the root keyrings could not be read again", slog.Any("error", err))
		return &Error{Code: ErrUnavailable, Err: causeOf(err)}
	}
	g.retried, g.unread = now, false
	return nil
}

// data returns a tenant's keyring to seal under, or nil when it has none yet. One that is behind is harmless here: the
// fence refuses what is sealed under it.
func (r *rings) data(ctx context.Context, store Store, tenant string) (*keyring, error) {
	if ring := r.tenants.peek(tenant); ring != nil {
		return ring, nil
	}
	return r.dataNow(ctx, store, tenant)
}

// dataNow returns a tenant's keyring as the store has it now: to open under. One shredded a moment ago opens nothing
// any more.
func (r *rings) dataNow(ctx context.Context, store Store, tenant string) (*keyring, error) {
	item, err := readData(ctx, store, tenant)
	if err != nil {
		return nil, err
	}
	return r.tenants.load(ctx, tenant, func(had *keyring) (*keyring, error) {
		if had != nil && item.Revision < had.ref.Revision { // another call has read a newer one since we looked
			if item, err = readData(ctx, store, tenant); err != nil {
				return nil, err
			}
		}
		return r.openData(ctx, item, had)
	})
}

// readData reads a tenant's keyring; Revision 0 says that there is none.
func readData(ctx context.Context, store Store, tenant string) (Item, error) {
	items, err := store.Items(ctx, ItemQuery{Space: spaceKeyring, Tenant: tenant, Name: ringData, Limit: 1})
	if err != nil || len(items) == 0 {
		return Item{}, causeOf(err)
	}
	return items[0], nil
}

// openData opens item, unless it is what had is of.
func (r *rings) openData(ctx context.Context, item Item, had *keyring) (*keyring, error) {
	switch {
	case had != nil && item.Revision < had.ref.Revision:
		return nil, &Error{Code: ErrTampered, Err: errors.New("the tenant's keyring is gone or older than it was")}
	case had != nil && item.Revision == had.ref.Revision:
		return had, nil
	case item.Revision == 0:
		return nil, nil
	}
	ring, err := r.keks.open(ctx, item)
	if err == nil {
		return ring, nil
	}
	return r.keks.blame(ctx, item, err, r.roots.Load().record)
}

// ringCache is a bounded LRU of tenants' keyrings. One goroutine at a time loads a tenant's; the others wait for it, or
// for their own contexts.
type ringCache struct {
	mu    sync.Mutex
	slots map[string]*list.Element
	order list.List // most recently used first
}

type ringSlot struct {
	tenant string
	turn   chan struct{} // holds a token while nobody loads
	ring   atomic.Pointer[keyring]
	known  atomic.Pointer[knownRing] // since when the ring was known to be the store's
}

type knownRing struct {
	ring *keyring
	at   stamp
}

func (c *ringCache) slot(tenant string) *ringSlot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots == nil {
		c.slots = map[string]*list.Element{}
	}
	if e, ok := c.slots[tenant]; ok {
		c.order.MoveToFront(e)
		return e.Value.(*ringSlot)
	}
	s := &ringSlot{tenant: tenant, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	c.slots[tenant] = c.order.PushFront(s)
	for c.order.Len() > maxTenantRings {
		oldest := c.order.Remove(c.order.Back()).(*ringSlot)
		delete(c.slots, oldest.tenant)
	}
	return s
}

// peek returns what is held, without waiting.
func (c *ringCache) peek(tenant string) *keyring { return c.slot(tenant).ring.Load() }

// peekKnown is peek, with the moment at which the store had this keyring; nil if that is not known.
func (c *ringCache) peekKnown(tenant string) (*keyring, *stamp) {
	s := c.slot(tenant)
	ring, known := s.ring.Load(), s.known.Load()
	if known == nil || known.ring != ring {
		return ring, nil
	}
	return ring, &known.at
}

// vouch notes that the store had ring at a moment.
func (c *ringCache) vouch(ring *keyring, at stamp) {
	if ring == nil {
		return
	}
	if s := c.slot(ring.ref.Tenant); s.ring.Load() == ring {
		s.known.Store(&knownRing{ring, at})
	}
}

// put keeps a keyring that has just been committed.
func (c *ringCache) put(ring *keyring) {
	c.slot(ring.ref.Tenant).ring.CompareAndSwap(nil, ring)
}

func (c *ringCache) load(ctx context.Context, tenant string, read func(had *keyring) (*keyring, error)) (*keyring, error) {
	s := c.slot(tenant)
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, &Error{Code: ErrUnavailable, Err: ctx.Err()}
	}
	defer func() { s.turn <- struct{}{} }()
	ring, err := read(s.ring.Load())
	if err == nil {
		s.ring.Store(ring)
	}
	return ring, err
}

// drop forgets a tenant's keyring, so that the next call reads it.
func (c *ringCache) drop(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.slots[tenant]; ok {
		c.order.Remove(e)
		delete(c.slots, tenant)
	}
}

// clear forgets all of them.
func (c *ringCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.slots)
	c.order.Init()
}
