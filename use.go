package keycote

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Use opens a credential for a program that presents it now. Each call is counted in the use log, none is an event of
// its own. It is put to Authorize (ActionUse) only when ctx carries an Actor. For HTTP, keyhttp.Transport does this
// without handing the value out.
//
// It fails with [ErrNotFound]; with [ErrInvalid] for an access key; with [ErrRevoked], [ErrDisabled] or [ErrExpired]
// when the credential is not active; with [ErrAddress] when r.Endpoint is of another origin than the credential's,
// before it is opened; with [ErrScope] when r.Scopes asks for any, since a credential has none; with [ErrForbidden],
// [ErrTampered], [ErrShredded], [ErrKEK] and [ErrUnavailable].
func (m *Manager) Use(ctx context.Context, id string, r Request) (Grant, Secret, error) {
	if err := m.callable(ctx, ActionUse); err != nil {
		return Grant{}, Secret{}, err
	}
	now := m.now()
	rec, uses, err := m.credential(ctx, id, now)
	if err == nil {
		if _, ok := ActorFrom(ctx); ok {
			err = m.authorize(ctx, ActionUse, rec.key(now, uses))
		}
	}
	if err == nil {
		err = judgeUse(rec, rec.stateAt(micros(now)), r)
	}
	var secret Secret
	if err == nil {
		secret, err = m.open(ctx, rec)
	}
	k := useKey{tenant: m.tenant, key: idOrNone(id), addr: r.Addr, route: r.Route, agent: r.UserAgent}
	if rec != nil {
		k.version = rec.current().number
	}
	if err != nil {
		err = m.fail(ctx, ActionUse, idOrNone(id), err)
		k.outcome = CodeOf(err)
		switch {
		case k.outcome == ErrUnavailable:
		case rec == nil, k.outcome == ErrForbidden:
			m.refused(ctx, ActionUse, id, "", err)
		default:
			m.count(ctx, k, now)
		}
		return Grant{}, Secret{}, err
	}
	m.count(ctx, k, now)
	expires, endpoint := rec.current().expiresAt, rec.endpoint
	rec = rec.clone() // it may be on lease
	rec.strip()
	return Grant{
		KeyID: rec.id, Tenant: rec.tenant, App: rec.app, Owner: rec.owner, Version: k.version, ExpiresAt: expires,
		Endpoint: endpoint, of: rec, at: now.UnixMicro(),
	}, secret, nil
}

// loaded is a record as Get gives it.
type loaded struct {
	rec *record // shared, and never written to
	raw *Record
}

// credential returns what Use judges: on lease within MaxStale, else from the store.
func (m *Manager) credential(ctx context.Context, id string, now time.Time) (*record, []UseCount, error) {
	var got loaded
	var err error
	if m.cache.stale == 0 || m.tx != nil {
		m.refresh(ctx, now)
		got.rec, got.raw, err = m.load(ctx, id)
	} else {
		r := recordKey{m.tenant, id}
		if l := m.cache.leased(r, m.cache.stamp(now)); l != nil {
			return l.rec, nil, nil
		}
		m.refresh(ctx, now) // what is on lease must not wait for a store that hangs
		got, err = m.cache.loads.do(ctx, &m.cache, r, func(ctx context.Context, f *flight[loaded]) { m.borrow(ctx, r, f) })
	}
	if err != nil {
		if _, ok := ActorFrom(ctx); ok {
			err = m.hidden(ctx, ActionUse, id, got.raw, err)
		}
		return nil, nil, err
	}
	if got.raw == nil { // on lease by now
		return got.rec, nil, nil
	}
	return got.rec, got.raw.Uses, nil
}

// borrow reads a credential and publishes its lease. One that is older than it was is read once more, and not believed if
// it still is.
func (m *Manager) borrow(ctx context.Context, r recordKey, f *flight[loaded]) {
	f.record = r
	if l := m.cache.leased(r, m.cache.stamp(m.now())); l != nil { // another one has borrowed it since we looked
		f.value.rec, f.known, f.ended = l.rec, l.known, true
		return
	}
	var err error
	f.known = f.began
	select {
	case m.lanes.credentials <- struct{}{}:
		defer func() { <-m.lanes.credentials }()
		f.value.rec, f.value.raw, err = m.load(ctx, r.id)
		if least := m.cache.revision(r); err == nil && f.value.rec.revision < least {
			f.value.rec, f.value.raw, err = m.load(ctx, r.id)
			if err == nil && f.value.rec.revision < least {
				err = m.tampered(ctx, r.tenant, r.id, olderThanItWas)
			}
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil && f.value.rec.kind == KindCredential {
		m.cache.lend(&lease{f.value.rec, f.known, len(f.value.raw.Body)}, f.epoch)
	}
	f.err = err
	f.ended = err == nil || ctx.Err() == nil
}

// judgeUse decides whether a credential may be opened for this request.
func judgeUse(rec *record, state State, r Request) error {
	switch {
	case rec.kind != KindCredential:
		return &Error{Code: ErrInvalid, Err: errors.New("an access key has no value to use")}
	case state == StateRevoked:
		return ErrRevoked
	case state == StateDisabled:
		return ErrDisabled
	case state == StateExpired:
		return ErrExpired
	case state != StateActive:
		return ErrTampered
	case len(r.Scopes) > 0:
		return ErrScope
	}
	if r.Endpoint == "" {
		return nil
	}
	bound, ok := endpointOrigin(rec.endpoint)
	wanted, ok2 := endpointOrigin(r.Endpoint)
	switch {
	case !ok:
		return &Error{Code: ErrAddress, Err: errors.New("the credential's endpoint is malformed")}
	case !ok2:
		return &Error{Code: ErrAddress, Err: errors.New("the request does not say for certain where it goes")}
	case bound != wanted:
		err := fmt.Errorf("the request goes to %s, the credential belongs to %s", wanted, bound)
		return &Error{Code: ErrAddress, Err: err}
	}
	return nil
}

// Reveal shows a credential's value to a person, who must say why; an event is committed before it returns. It works on
// a disabled and on an expired credential.
//
// It fails with a [*ValidationError] without a reason; with [ErrInvalid] for an access key, which has nothing to reveal, and
// in a host's own transaction, where a rollback would take the event away;
// with [ErrRevoked] when the value was erased; with [ErrNotFound], [ErrForbidden], [ErrTampered], [ErrShredded],
// [ErrKEK], and with [ErrUnavailable] also when the event could not be written.
func (m *Manager) Reveal(ctx context.Context, id, reason string) (Secret, error) {
	if err := m.begin(ctx, ActionReveal); err != nil {
		return Secret{}, err
	}
	if m.tx != nil { // its event would go with a rollback, and the value would have been seen
		err := errors.New("nothing can be revealed in a host's own transaction")
		return Secret{}, &Error{Op: string(ActionReveal), ID: idOrNone(id), Code: ErrInvalid, Err: err}
	}
	var secret Secret
	var name string
	err := m.attempts(ctx, func() error {
		c := m.newChange(ctx, ActionReveal, false)
		rec, raw, err := m.load(ctx, id)
		if err != nil {
			return m.hidden(ctx, ActionReveal, id, raw, err)
		}
		name, c.rec = rec.name, rec
		if m.opts.Authorize != nil {
			if err := m.authorize(ctx, ActionReveal, rec.key(c.now, raw.Uses)); err != nil {
				return err
			}
		}
		if found := checkCall(callParams{Reason: reason, NeedReason: true, Credential: true}); len(found) > 0 {
			return &ValidationError{found}
		}
		switch {
		case rec.kind != KindCredential:
			return &Error{Code: ErrInvalid, Err: errors.New("an access key has nothing to reveal")}
		case rec.state == StateRevoked:
			return ErrRevoked
		}
		c.event(reason)
		rows, err := sealEvents(c.roots, c.events...)
		if err != nil {
			return err
		}
		if err := c.send(Batch{ID: newBatchID(), Expect: []ItemRef{c.roots.trail.ref}, Events: rows}); err != nil {
			return err
		}
		secret, err = m.open(ctx, rec)
		return err
	})
	if err != nil {
		err = m.fail(ctx, ActionReveal, idOrNone(id), err)
		m.refused(ctx, ActionReveal, id, name, err)
		return Secret{}, err
	}
	return secret, nil
}

// open is the one gate through which a sealed value leaves: for Use, which counts it, and for Reveal, which has
// committed an event. A test counts its callers. Any failure is an error; nothing that was not opened is handed out.
func (m *Manager) open(ctx context.Context, rec *record) (Secret, error) {
	v := rec.current()
	ring, err := m.dataRing(ctx, true)
	if err != nil {
		return Secret{}, err
	}
	if ring != nil && !ring.shredded && !ring.made([]byte(v.sealed)) && m.tx == nil {
		// Another process has added a key since this keyring was read.
		if ring, err = m.rings.dataNow(ctx, m.store, m.tenant); err != nil {
			return Secret{}, err
		}
	}
	switch {
	case ring == nil:
		return Secret{}, m.tampered(ctx, rec.tenant, rec.id, "there is a sealed value, and no keyring")
	case ring.shredded:
		return Secret{}, ErrShredded
	}
	origin, ok := endpointOrigin(rec.endpoint)
	if !ok {
		return Secret{}, m.tampered(ctx, rec.tenant, rec.id, "the endpoint is malformed")
	}
	value, err := ring.aead.Decrypt([]byte(v.sealed), valueAD(rec.tenant, rec.id, v.number, origin))
	if err != nil || len(value) == 0 {
		return Secret{}, m.tampered(ctx, rec.tenant, rec.id, "the sealed value does not open")
	}
	return NewSecret(string(value)), nil
}

// keep seals a credential's value into v. The first credential of a tenant makes its keyring.
func (c *change) keep(v *version, secret Secret) error {
	ring, err := c.dataRing(c.ctx, false)
	if err == nil && ring == nil {
		ring, err = c.firstRing()
	}
	switch {
	case err != nil:
		return err
	case ring.shredded:
		return ErrShredded
	}
	c.ring = ring
	origin, ok := endpointOrigin(c.rec.endpoint)
	if !ok {
		return &ValidationError{[]Violation{{Field: "endpoint", Code: "syntax"}}}
	}
	value := secret.Reveal()
	sealed, err := ring.aead.Encrypt([]byte(value), valueAD(c.rec.tenant, c.rec.id, v.number, origin))
	if err != nil {
		return err
	}
	v.source, v.sealed, v.hint = sourceGiven, string(sealed), hintOf(value, "")
	return nil
}

// firstRing makes the keyring of a tenant that has no credential yet. One that has was robbed of it: a new keyring would
// let that pass, and stand in the way of the old one when it is brought back.
func (c *change) firstRing() (*keyring, error) {
	there, err := c.store.List(c.ctx, Query{Tenant: c.tenant, Filter: Filter{Kind: KindCredential}, Now: c.now, Limit: 1})
	if err != nil {
		return nil, storeAnswer(err)
	}
	if len(there) > 0 {
		ring, err := c.dataRing(c.ctx, true) // whoever made the credential since we looked made the keyring, too
		if err == nil && ring == nil {
			err = &Error{Code: ErrTampered, Err: errors.New("the tenant has credentials and no keyring")}
		}
		return ring, err
	}
	ring, item, err := c.rings.keks.create(c.ctx, c.tenant, ringData)
	if err != nil {
		return nil, fmt.Errorf("the tenant's keyring could not be made: %w", err)
	}
	c.made, c.items = ring, append(c.items, item)
	return ring, nil
}

// rehearse is for a dry run what keep and give are for a call: it says what they would say, as far as it can be known,
// and makes neither a keyring nor a value.
func (c *change) rehearse(secret Secret) error {
	if !secret.IsZero() {
		c.rec.current().hint = hintOf(secret.Reveal(), "")
	}
	if c.rec.kind != KindCredential {
		return nil
	}
	ring, err := c.dataRing(c.ctx, false)
	if err == nil && ring != nil && ring.shredded {
		err = ErrShredded
	}
	return err
}

// dataRing returns the keyring of the view's tenant, nil when it has none: as the store has it now, or as it was last
// seen. In a host's own transaction nothing that is read or made becomes anybody else's.
func (m *Manager) dataRing(ctx context.Context, now bool) (*keyring, error) {
	switch {
	case m.tx != nil:
		item, err := readData(ctx, m.store, m.tenant)
		if err != nil {
			return nil, err
		}
		m.tx.mu.Lock()
		had := m.tx.rings[m.tenant]
		m.tx.mu.Unlock()
		if had != nil && had.ref.Revision == item.Revision {
			return had, nil
		}
		return m.rings.openData(ctx, item, nil)
	case now && m.cache.stale > 0:
		if ring := m.vouchedRing(); ring != nil {
			return ring, nil
		}
		return m.cache.rings.do(ctx, &m.cache, m.tenant, func(ctx context.Context, f *flight[*keyring]) {
			if f.value, f.known = m.vouchedRing(), f.began; f.value == nil {
				f.value, f.err = m.rings.dataNow(ctx, m.store, m.tenant)
				if f.err == nil && !m.cache.changedAnySince(f.epoch) {
					m.rings.tenants.vouch(f.value, f.began)
				}
			}
			f.ended = f.err == nil || ctx.Err() == nil
		})
	case now:
		return m.rings.dataNow(ctx, m.store, m.tenant)
	}
	return m.rings.data(ctx, m.store, m.tenant)
}

// vouchedRing returns the keyring of the view's tenant if it may still be used without asking the store.
func (m *Manager) vouchedRing() *keyring {
	moment := m.cache.stamp(m.now())
	fed := m.cache.fed.Load()
	ring, known := m.rings.tenants.peekKnown(m.tenant)
	if ring == nil || known == nil || !m.cache.fresh(*known, moment, fed) {
		return nil
	}
	return ring
}
