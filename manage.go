package keycote

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// maxTries bounds how often a change is made again because another process was faster. Whoever is beaten was beaten by a
// change that went through; but a Revoke has to get through a key that everybody changes at once.
const maxTries = 32

// errLost says that a Batch met ErrConflict: what it was made from is no longer so.
var errLost = errors.New("another change was faster")

// wrapError puts what failed into an Error that names operation and key. What carries no Code is an outage.
func wrapError(ctx context.Context, op, id string, err error) error {
	if err == nil {
		return nil
	}
	switch e := err.(type) {
	case *ValidationError:
		return e
	case *Error:
		if e.Op != "" {
			return e
		}
		return &Error{Op: op, ID: cmp.Or(id, e.ID), Code: e.Code, RetryAfter: e.RetryAfter, Limits: e.Limits, Err: e.Err}
	case Code:
		return &Error{Op: op, ID: id, Code: e}
	}
	if errors.Is(err, errLost) {
		return &Error{Op: op, ID: id, Code: ErrConflict}
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = errors.Join(ctx.Err(), err) // drivers have words of their own for a cancelled call
	}
	return &Error{Op: op, ID: id, Code: ErrUnavailable, Err: causeOf(err)}
}

func (m *Manager) fail(ctx context.Context, action Action, id string, err error) error {
	return wrapError(ctx, string(action), id, err)
}

// commitBatch commits b. It answers errLost for a conflict, ErrNotFound, the Violation of a taken name or digest, or
// what the Store failed with. A Commit with an unknown outcome is repeated as it is, once.
func commitBatch(ctx context.Context, store Store, b Batch) error {
	err := storeAnswer(store.Commit(ctx, b))
	if err != nil && CodeOf(err) == "" && !errors.Is(err, errLost) && ctx.Err() == nil {
		err = storeAnswer(store.Commit(ctx, b))
	}
	return err
}

// storeAnswer reads the answers that the contract gives to a Store.
func storeAnswer(err error) error {
	if err == nil {
		return nil
	}
	var v Violation
	switch {
	case errors.As(err, &v):
		return v
	case errors.Is(err, ErrConflict):
		return errLost
	case errors.Is(err, ErrNotFound):
		return ErrNotFound
	}
	return causeOf(err)
}

// authorize asks the host's rule. Without an actor the host itself calls, which a host with a rule must not do by
// accident.
func (m *Manager) authorize(ctx context.Context, action Action, key *Key) error {
	if m.opts.Authorize == nil {
		return nil
	}
	actor, ok := ActorFrom(ctx)
	if !ok {
		return &Error{Code: ErrForbidden, Err: errors.New("the context has no actor, and Options.Authorize is set")}
	}
	if err := m.opts.Authorize(ctx, actor, action, key); err != nil {
		return &Error{Code: ErrForbidden, Err: causeOf(err)}
	}
	return nil
}

// ceiling refuses grants beyond what the actor may grant. The host itself has no ceiling.
func ceiling(ctx context.Context, scopes []string) error {
	if actor, ok := ActorFrom(ctx); ok && !withinCeiling(scopes, actor.MaxScopes) {
		return &Error{Code: ErrForbidden, Err: errors.New("the key's scopes are wider than the actor may grant")}
	}
	return nil
}

// openRecord checks the seal of what a Store answered and reads its body. With full it also holds every column against
// the body: Lookup brings no columns.
func (m *Manager) openRecord(ctx context.Context, raw *Record, tenant, id string, full bool) (*record, error) {
	roots := m.roots()
	if !roots.record.made(raw.Seal) {
		if err := m.reloadUnknown(ctx, m.rings.forSeals); err != nil {
			return nil, err
		}
		roots = m.roots()
	}
	if !sealHolds(roots.record.mac, raw.Seal, recordLabel, raw.Body) {
		return nil, m.tampered(ctx, tenant, id, "the seal does not hold")
	}
	rec, err := decodeRecord(raw.Body)
	switch {
	case errors.Is(err, errNewer):
		return nil, &Error{Code: ErrUnavailable, Err: errNewer}
	case err != nil:
		return nil, m.tampered(ctx, tenant, id, "the body is malformed")
	case rec.tenant != tenant || rec.id != id:
		return nil, m.tampered(ctx, tenant, id, "the body is another key's")
	case full && !sameColumns(*raw, rec.columns()):
		return nil, m.tampered(ctx, tenant, id, "a column is not what the body says")
	}
	return rec, nil
}

// tampered makes the error of a record that was changed behind the library's back, and tells the operator.
func (m *Manager) tampered(ctx context.Context, tenant, id, what string) error {
	if !keyIDOK(id) {
		id = ""
	}
	m.log.LogAttrs(ctx, slog.LevelError, "keycote: a record was tampered with",
		slog.String("tenant", tenant), slog.String("key", id), slog.String("what", what))
	return &Error{ID: id, Code: ErrTampered, Err: errors.New(what)}
}

// load reads a key of this view. raw is set when the Store has the record, also when it cannot be read.
func (m *Manager) load(ctx context.Context, id string) (rec *record, raw *Record, err error) {
	if !askable(id) {
		return nil, nil, ErrNotFound
	}
	found, err := m.store.Get(ctx, m.tenant, id)
	if err != nil {
		return nil, nil, storeAnswer(err)
	}
	rec, err = m.openRecord(ctx, &found, m.tenant, id, true)
	return rec, &found, err
}

// askable keeps out of the databases what not each of them takes. It is no stricter than that: a record whose id column
// was tampered with is listed, and must be within reach of Delete, be its id empty or full of control characters.
func askable(id string) bool {
	return len(id) <= 255 && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0
}

// change is one attempt at a management call that writes a record.
type change struct {
	*Manager
	ctx    context.Context
	action Action
	now    time.Time
	roots  *rootRings
	rec    *record // as it will be
	had    *record // as it is; nil for a new key
	events []Event
	first  [1]Event // where they begin
	ring   *keyring // of the tenant, when a value is sealed
	made   *keyring // ring, when this change makes it
	items  []Item
	dry    bool
	secret Secret     // to be shown once
	counts []UseCount // of the record that is there
}

func (m *Manager) newChange(ctx context.Context, action Action, dry bool) *change {
	c := &change{Manager: m, ctx: ctx, action: action, now: m.time(), roots: m.roots(), dry: dry}
	c.events = c.first[:0]
	return c
}

// settled ends an attempt that has nothing to write.
var errSettled = errors.New("nothing to write")

// attempts runs try until it is not beaten by another process. After a defeat the keyrings are read again: it may have
// been a fence that refused.
func (m *Manager) attempts(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if !errors.Is(err, errLost) || n == maxTries || m.tx != nil {
			return err
		}
		m.rings.tenants.drop(m.tenant)
		if err := m.rings.reload(ctx, m.store); err != nil {
			return err
		}
	}
}

// edit changes the key with this id: it reads it, asks Authorize, lets f change a copy, and commits that with its
// events. f answers errSettled when there is nothing to change.
func (m *Manager) edit(ctx context.Context, action Action, id string, dry bool, f func(*change) error) (*Key, Secret, error) {
	if err := m.begin(ctx, action); err != nil {
		return nil, Secret{}, err
	}
	var key *Key
	var secret Secret
	var name string
	err := m.attempts(ctx, func() error {
		c := m.newChange(ctx, action, dry)
		rec, raw, err := m.load(ctx, id)
		if err != nil {
			return m.hidden(ctx, action, id, raw, err)
		}
		name = rec.name
		if m.opts.Authorize != nil {
			if err := m.authorize(ctx, action, rec.key(c.now, raw.Uses)); err != nil {
				return err
			}
		}
		c.had, c.rec = rec, rec.clone()
		switch err := f(c); {
		case errors.Is(err, errSettled):
			key, secret = rec.key(c.now, raw.Uses), c.secret
			return nil
		case err != nil:
			if taken, ok := err.(Violation); ok {
				err = &ValidationError{[]Violation{taken}}
			}
			return err
		}
		if dry {
			c.rec.revision, c.rec.updatedAt = c.had.revision+1, c.now
		} else {
			err := c.commit()
			if taken, ok := err.(Violation); ok {
				if taken.Field == fieldSecret {
					c.collision(c.events[len(c.events)-1].Reason)
				}
				return &ValidationError{[]Violation{taken}}
			}
			if err != nil {
				return err
			}
		}
		key, secret = c.rec.key(c.now, raw.Uses), c.secret
		return nil
	})
	if err != nil {
		err = m.fail(ctx, action, idOrNone(id), err)
		if !dry {
			m.refused(ctx, action, id, name, err)
		}
		return nil, Secret{}, err
	}
	if dry {
		key.ID, secret = "", Secret{}
	}
	return key, secret, nil
}

func idOrNone(id string) string {
	if keyIDOK(id) {
		return id
	}
	return ""
}

// hidden is the answer about a key that could not be read: who may not touch it is not told what is wrong with it.
func (m *Manager) hidden(ctx context.Context, action Action, id string, raw *Record, err error) error {
	if raw == nil {
		return err
	}
	if refusal := m.authorize(ctx, action, unreadable(m.tenant, id)); refusal != nil {
		return refusal
	}
	return err
}

func unreadable(tenant, id string) *Key {
	k := asked(tenant)
	k.ID, k.State = id, StateUnreadable
	return k
}

// asked is a key of which nothing is known but its tenant.
func asked(tenant string) *Key {
	return &Key{
		Tenant: tenant, Scopes: []string{}, Networks: []netip.Prefix{}, Labels: map[string]string{}, Versions: []Version{},
	}
}

// event is the event of this change. Revision and hash are filled in by commit.
func (c *change) event(reason string, changes ...FieldChange) {
	actor, _ := ActorFrom(c.ctx)
	c.events = append(c.events, Event{
		ID: c.ids.next(eventIDPrefix, c.now), Tenant: c.rec.tenant, KeyID: c.rec.id, Name: c.rec.name,
		Version: c.rec.current().number, Action: c.action, Actor: actor.ID, Addr: actor.Addr.Unmap().WithZone(""),
		Reason: reason, At: c.now, Changes: changes,
	})
}

// commit seals the record and its event and writes them in one Batch.
func (c *change) commit() error {
	b := Batch{ID: newBatchID(), Items: c.items, Expect: c.roots.expect()}
	if c.ring != nil && c.made == nil {
		b.Expect = append(b.Expect, c.ring.ref)
	}
	c.rec.revision = 1
	if c.had != nil {
		c.rec.revision = c.had.revision + 1
	}
	if c.action != actionVerify { // a first use is written down, but is nobody's update
		c.rec.updatedAt = c.now
	}
	row, hash, err := sealRecord(c.roots, c.rec)
	if err != nil {
		return err
	}
	if c.had == nil {
		b.Insert = []Record{row}
	} else {
		b.Update = []Record{row}
	}
	last := &c.events[len(c.events)-1]
	last.Revision, last.BodyHash = c.rec.revision, hash
	if b.Events, err = sealEvents(c.roots, c.events...); err != nil {
		return err
	}
	err = c.send(b)
	c.changed(recordKey{c.rec.tenant, c.rec.id})
	if err != nil {
		return err
	}
	if c.made != nil {
		if c.tx != nil {
			c.tx.mu.Lock()
			c.tx.rings[c.tenant] = c.made
			c.tx.mu.Unlock()
		} else {
			c.rings.tenants.put(c.made)
		}
	}
	return nil
}

// changed drops what is cached of a key after a Batch was sent, whatever came of it: an outcome may be unknown. In a
// host's own transaction that waits for its commit.
func (m *Manager) changed(k recordKey) {
	if m.tx == nil {
		m.cache.evict(k)
		return
	}
	m.tx.mu.Lock()
	defer m.tx.mu.Unlock()
	m.tx.keys = append(m.tx.keys, k)
}

// send commits a Batch; in a host's own transaction nothing is repeated.
func (m *Manager) send(ctx context.Context, b Batch) error {
	if m.tx != nil {
		return storeAnswer(m.store.Commit(ctx, b))
	}
	return commitBatch(ctx, m.store, b)
}

func (c *change) send(b Batch) error { return c.Manager.send(c.ctx, b) }

// sealRecord makes what a Store keeps of rec, and the hash that its event carries.
func sealRecord(roots *rootRings, rec *record) (row Record, hash []byte, err error) {
	row = rec.columns()
	row.Body = rec.encode()
	if row.Seal, err = seal(roots.record.mac, recordLabel, row.Body); err != nil {
		return row, nil, err
	}
	sum := sha256.Sum256(row.Body)
	return row, sum[:], nil
}

func sealEvents(roots *rootRings, events ...Event) ([]EventRecord, error) {
	rows := make([]EventRecord, 0, len(events))
	for i := range events {
		row := encodeEvent(&events[i])
		var err error
		if row.Seal, err = seal(roots.trail.mac, eventLabel, row.Body); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}
