package keycote

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/keycote/keycote/internal/special"
)

// Add keeps a credential: its value is sealed under the tenant's keyring, bound to tenant, key, version and the
// endpoint's origin.
//
// It fails with a [*ValidationError] that names every broken rule, a taken name among them; with [ErrForbidden] when
// Authorize refuses; with [ErrShredded] when the tenant's keyring was destroyed; with [ErrConflict] when the RequestID
// was used with other parameters, or its key revoked since; with [ErrUnavailable] when store, KEK, probe or a host's rule
// could not be asked. With a RequestID used before it returns the key that is there.
func (m *Manager) Add(ctx context.Context, p AddParams) (*Key, error) {
	key, _, err := m.create(ctx, ActionAdd, creation{
		kind: KindCredential, name: p.Name, app: p.App, owner: p.Owner, endpoint: p.Endpoint, secret: p.Secret,
		allowWeak: p.AllowWeak, skipProbe: p.SkipProbe, expiresAt: p.ExpiresAt, labels: p.Labels,
		reason: p.Reason, requestID: p.RequestID, dry: p.DryRun,
	})
	return key, err
}

// Issue makes an access key. The Secret is shown this once: what the store keeps only recognises it.
//
// It fails as Add does, and with [ErrForbidden] when the scopes are wider than the actor's MaxScopes. A retry with the
// same RequestID makes no second key: if Keycote made the value and nobody has used it, the retry replaces it and
// returns the new one; otherwise the Secret is zero.
func (m *Manager) Issue(ctx context.Context, p IssueParams) (*Key, Secret, error) {
	return m.create(ctx, ActionIssue, creation{
		kind: KindAccess, name: p.Name, app: p.App, owner: p.Owner, prefix: p.Prefix, secret: p.Secret,
		allowWeak: p.AllowWeak, scopes: p.Scopes, networks: p.Networks, expiresAt: p.ExpiresAt, limit: p.Limit,
		labels: p.Labels, reason: p.Reason, requestID: p.RequestID, dry: p.DryRun,
	})
}

// creation is what Add and Issue have in common.
type creation struct {
	kind             Kind
	name, app, owner string
	endpoint         string
	prefix           string
	secret           Secret
	allowWeak        bool
	skipProbe        bool
	scopes           []string
	networks         []netip.Prefix
	expiresAt        time.Time
	limit            Limit
	labels           map[string]string
	reason           string
	requestID        string
	dry              bool
}

func (m *Manager) create(ctx context.Context, action Action, p creation) (*Key, Secret, error) {
	if err := m.begin(ctx, action); err != nil {
		return nil, Secret{}, err
	}
	if actor, ok := ActorFrom(ctx); ok && p.owner == "" {
		p.owner = actor.ID
	}
	p.expiresAt = micros(p.expiresAt)
	var key *Key
	var secret Secret
	vetted := false // a conflict neither validates nor probes again
	err := m.attempts(ctx, func() error {
		c := m.newChange(ctx, action, p.dry)
		c.rec = p.record(c)
		if m.opts.Authorize != nil {
			if err := m.authorize(ctx, action, c.rec.key(c.now, nil)); err != nil {
				return err
			}
		}
		done, err := c.replayCreate(p)
		if err == nil && !done && !vetted {
			err = c.vetCreation(p)
			vetted = true
		}
		switch {
		case err != nil || done:
		case p.dry:
			err = c.rehearse(p.secret)
		default:
			err = c.insert(p)
		}
		if err == nil {
			key, secret = c.rec.key(c.now, c.counts), c.secret
		}
		return err
	})
	if err != nil {
		err = m.fail(ctx, action, "", err)
		if !p.dry {
			m.refused(ctx, action, "", p.name, err)
		}
		return nil, Secret{}, err
	}
	if p.dry {
		key.ID, secret = "", Secret{}
	}
	return key, secret, nil
}

// vetCreation validates, looks for taken names where the commit would not tell, holds the ceiling, and probes.
func (c *change) vetCreation(p creation) error {
	err := c.vet(&vetting{
		draft: c.draft(p.secret), call: p.call(), fields: ^fieldSet(0), allowWeak: p.allowWeak, issuedOnly: c.opts.IssuedOnly,
	})
	if err == nil {
		err = ceiling(c.ctx, p.scopes)
	}
	if err == nil && !p.skipProbe && p.kind == KindCredential {
		err = c.probe(p.endpoint, p.secret)
	}
	return err
}

func (p *creation) call() callParams {
	return callParams{Prefix: p.prefix, Reason: p.reason, RequestID: p.requestID, Credential: p.kind == KindCredential}
}

// record is the key as it would be, without digests and seals.
func (p *creation) record(c *change) *record {
	actor, _ := ActorFrom(c.ctx)
	one := &oneVersion{record: record{
		tenant: c.tenant, kind: p.kind, name: p.name, app: p.app, owner: p.owner, endpoint: p.endpoint,
		scopes: slices.Clone(p.scopes), labels: maps.Clone(p.labels), limit: p.limit, state: StateActive,
		createdAt: c.now, createdBy: actor.ID, updatedAt: c.now, revision: 1,
	}}
	rec := &one.record
	for _, n := range p.networks {
		rec.networks = append(rec.networks, special.Network(n))
	}
	one.version[0] = version{number: 1, state: StateActive, createdAt: c.now, expiresAt: p.expiresAt}
	rec.versions = one.version[:]
	return rec
}

// insert gives the record its id and value and commits it.
func (c *change) insert(p creation) error {
	c.rec.id = c.ids.next(keyIDPrefix, c.now)
	v := c.rec.current()
	var err error
	if p.kind == KindCredential {
		err = c.keep(v, p.secret)
	} else {
		err = c.give(v, p.prefix, p.secret)
	}
	if err != nil {
		return err
	}
	if p.requestID != "" {
		actor, _ := ActorFrom(c.ctx)
		c.rec.request = c.requestOf(requestMessage(c.tenant, c.action, actor.ID, p.requestID), p.encode())
	}
	c.event(p.reason)
	err = c.commit()
	exists, ok := err.(Violation)
	if !ok {
		return err
	}
	if p.requestID != "" {
		if found, err := c.findRequest(p); found != nil || err != nil {
			return errLost // a twin of this call was faster: the next attempt finds its key
		}
	}
	found, foreign, err := c.taken(c.draft(p.secret), nil)
	if err != nil || len(found) == 0 {
		found = []Violation{exists}
	}
	if foreign || exists.Field == fieldSecret {
		c.collision(p.reason)
	}
	return &ValidationError{found}
}

// give makes v's value, or takes the chosen one, and its digests.
func (c *change) give(v *version, prefix string, chosen Secret) error {
	if !chosen.IsZero() {
		value := chosen.Reveal()
		list := c.digests(digestChosen, chosenMessage(c.tenant, value))
		if slices.ContainsFunc(c.rec.versions, func(v version) bool { return holdsAny(v.digests, list) }) {
			return Violation{Field: "secret", Code: ErrExists} // the key's own, now or before
		}
		v.source, v.hint, v.digests = sourceChosen, hintOf(value, ""), list
		return nil
	}
	if prefix == "" {
		prefix = c.opts.Prefix
	}
	t := issued{prefix: prefix}
	binary.BigEndian.PutUint32(t.number[:4], c.roots.index.primary)
	_, _ = rand.Read(t.number[4 : 4+randomLen])
	o, ok := c.roots.index.compute(c.roots.index.primary, tokenMessage(&t))
	if !ok {
		return errors.New("the index keyring's primary key does not answer")
	}
	copy(t.tag(), o.tag())
	value := t.String()
	v.source, v.prefix, v.hint = sourceIssued, prefix, hintOf(value, prefix)
	v.digests = []digest{{digestToken, c.roots.index.primary, o.sum()}}
	c.secret = NewSecret(value)
	return nil
}

// digests are of one message under every enabled index key: a value that Keycote did not make names none.
func (c *change) digests(kind digestKind, message []byte) []digest {
	var list []digest
	for _, id := range c.roots.index.enabled {
		if o, ok := c.roots.index.compute(id, message); ok {
			list = append(list, digest{kind, id, o.sum()})
		}
	}
	return list
}

// requestOf keeps a RequestID and what came with it.
func (c *change) requestOf(message, params []byte) *request {
	id := c.roots.index.primary
	o, _ := c.roots.index.compute(id, paramsMessage(params))
	return &request{
		digests: c.digests(digestRequest, message),
		params:  string(append(binary.BigEndian.AppendUint32(nil, id), o[:]...)),
	}
}

// sameParams reports whether params came with the RequestID before.
func (c *change) sameParams(q *request, params []byte) bool {
	if len(q.params) != 4+len(out{}) {
		return false
	}
	o, ok := c.roots.index.compute(binary.BigEndian.Uint32([]byte(q.params)), paramsMessage(params))
	return ok && string(o[:]) == q.params[4:]
}

// replayCreate answers a RequestID that was used before: done says that c.rec is the key there is.
func (c *change) replayCreate(p creation) (done bool, err error) {
	hit, err := c.findRequest(p)
	if hit == nil || err != nil {
		return false, err
	}
	rec, raw, err := c.load(c.ctx, hit.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, errLost // deleted in between
	case err != nil:
		return false, err
	case rec.state == StateRevoked || !c.sameParams(rec.request, p.encode()):
		return false, &Error{Code: ErrConflict, Err: errors.New("the RequestID was used for another request")}
	}
	if c.opts.Authorize != nil { // the key may be somebody else's by now
		if err := c.authorize(c.ctx, c.action, rec.key(c.now, raw.Uses)); err != nil {
			return false, err
		}
	}
	if err := ceiling(c.ctx, rec.scopes); err != nil {
		return false, err
	}
	c.had, c.rec, c.counts = rec, rec.clone(), raw.Uses
	if p.dry || len(rec.versions) > 1 {
		return true, nil
	}
	switch err := c.remake(c.rec.current(), p.reason); {
	case errors.Is(err, errSettled):
		return true, nil
	case err != nil:
		return false, err
	}
	return true, c.commit()
}

// findRequest returns the record that was made under this RequestID, or nil.
func (c *change) findRequest(p creation) (*record, error) {
	if p.requestID == "" || len(checkCall(callParams{RequestID: p.requestID})) > 0 {
		return nil, nil
	}
	actor, _ := ActorFrom(c.ctx)
	list := c.digests(digestRequest, requestMessage(c.tenant, c.action, actor.ID, p.requestID))
	rec, _, err := c.lookup(c.ctx, c.store.Lookup, list)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case rec.tenant != c.tenant:
		return nil, c.tampered(c.ctx, c.tenant, rec.id, "a RequestID leads to another tenant's key")
	}
	return rec, nil
}

// remake gives a version whose answer got lost a new value, if Keycote made the old one and nobody has used it; whether
// the key is disabled or has expired does not matter. Else it answers errSettled.
func (c *change) remake(v *version, reason string) error {
	if v.source != sourceIssued || v.used || v.state != StateActive {
		return errSettled
	}
	if err := c.give(v, v.prefix, Secret{}); err != nil {
		return err
	}
	c.event(reason)
	return nil
}

// collision writes down that somebody chose a value that is another key's of the tenant, whatever else was wrong with
// the call: who probes for values leaves a trace. The event says who, and not whose.
func (c *change) collision(reason string) {
	actor, _ := ActorFrom(c.ctx)
	e := Event{
		ID: c.ids.next(eventIDPrefix, c.now), Tenant: c.tenant, Name: c.rec.name, Action: c.action, Outcome: ErrExists,
		Actor: actor.ID, Addr: actor.Addr.Unmap().WithZone(""), Reason: reason, At: c.now,
	}
	if len(checkText(nil, fieldName, e.Name, maxText)) > 0 {
		e.Name = ""
	}
	if len(checkReason(nil, callParams{Reason: reason})) > 0 {
		e.Reason = ""
	}
	rows, err := sealEvents(c.roots, e)
	if err == nil {
		err = c.send(Batch{ID: newBatchID(), Expect: []ItemRef{c.roots.trail.ref}, Events: rows})
	}
	if err != nil {
		c.logFailure(c.ctx, "the event of a taken value could not be written", err)
	}
}

// encode writes what a retry must repeat to the letter: all but the reason.
func (p *creation) encode() []byte {
	var e encoder
	e.text(1, string(p.kind))
	e.text(2, p.name)
	e.text(3, p.app)
	e.text(4, p.owner)
	e.text(5, p.endpoint)
	e.text(6, p.prefix)
	e.text(7, p.secret.Reveal())
	e.flag(8, p.allowWeak)
	e.flag(9, p.skipProbe)
	for _, s := range p.scopes {
		e.always(10, s)
	}
	for _, n := range p.networks {
		e.always(11, n.String())
	}
	e.time(12, p.expiresAt)
	e.integer(13, int64(p.limit.Rate))
	e.integer(14, int64(p.limit.Per))
	e.integer(15, int64(p.limit.Burst))
	e.integer(16, p.limit.Quota)
	e.integer(17, int64(p.limit.Period))
	e.labels(18, p.labels)
	return e
}
