package keycote

import (
	"context"
	"errors"
)

// Disable refuses a key until Enable. On a disabled key it returns the key and writes nothing; on a revoked one it fails
// with [ErrRevoked]. It also fails with [ErrNotFound], [ErrForbidden], [ErrTampered], [ErrUnavailable], with [ErrConflict]
// when other changes of the key were faster more than thirty times, and with a [*ValidationError] for a reason that is
// too long.
func (m *Manager) Disable(ctx context.Context, id, reason string) (*Key, error) {
	return m.setState(ctx, ActionDisable, id, reason, StateDisabled)
}

// Enable lets a disabled key work again, unless it has expired. It fails as Disable does, and with [ErrForbidden] when
// the key's scopes are wider than the actor's MaxScopes. On a key that is not disabled it writes nothing.
func (m *Manager) Enable(ctx context.Context, id, reason string) (*Key, error) {
	return m.setState(ctx, ActionEnable, id, reason, StateActive)
}

// Revoke ends a key for good: its versions end, a credential's sealed values are erased, and its name is free again.
// It fails as Disable does; on a revoked key it returns the key and writes nothing.
func (m *Manager) Revoke(ctx context.Context, id, reason string) (*Key, error) {
	return m.setState(ctx, ActionRevoke, id, reason, StateRevoked)
}

func (m *Manager) setState(ctx context.Context, action Action, id, reason string, to State) (*Key, error) {
	key, _, err := m.edit(ctx, action, id, false, func(c *change) error { return c.setState(reason, to) })
	return key, err
}

// setIf is setState of a key that is still what q asks for, and says whether it was changed.
func (m *Manager) setIf(ctx context.Context, action Action, id, reason string, to State, q *Query) (changed bool, err error) {
	_, _, err = m.edit(ctx, action, id, false, func(c *change) error {
		if changed = false; !q.Match(c.had.columns()) {
			return errSettled
		}
		err := c.setState(reason, to)
		changed = err == nil
		return err
	})
	return changed && err == nil, err
}

func (c *change) setState(reason string, to State) error {
	if found := checkCall(callParams{Reason: reason}); len(found) > 0 {
		return &ValidationError{found}
	}
	switch {
	case c.rec.state == to:
		return errSettled
	case c.rec.state == StateRevoked:
		return ErrRevoked
	case to == StateActive:
		if err := ceiling(c.ctx, c.rec.scopes); err != nil {
			return err
		}
	}
	if c.rec.state = to; to == StateRevoked {
		c.rec.revoke()
	}
	c.event(reason, diff(c.had, c.rec)...)
	return nil
}

// revoke ends all versions and erases what they sealed.
func (r *record) revoke() {
	r.state = StateRevoked
	for i := range r.versions {
		r.versions[i].end()
	}
	r.trim()
}

// Delete removes a key's record; its events and counts stay. A key that is not revoked is revoked first, and both events
// are written. An unreadable record can be deleted too, but not one that a newer Keycote has made: that is
// [ErrUnavailable].
//
// It fails with [ErrNotFound], [ErrForbidden], [ErrUnavailable], [ErrConflict], and with a [*ValidationError] for a
// reason that is too long.
func (m *Manager) Delete(ctx context.Context, id, reason string) error {
	if err := m.begin(ctx, ActionDelete); err != nil {
		return err
	}
	var name string
	err := m.attempts(ctx, func() error {
		c := m.newChange(ctx, ActionDelete, false)
		rec, raw, err := m.load(ctx, id)
		key := unreadable(m.tenant, id)
		switch {
		case err == nil:
			name, key = rec.name, rec.key(c.now, raw.Uses)
		case CodeOf(err) != ErrTampered || raw == nil:
			return m.hidden(ctx, ActionDelete, id, raw, err)
		}
		if err := m.authorize(ctx, ActionDelete, key); err != nil {
			return err
		}
		if found := checkCall(callParams{Reason: reason}); len(found) > 0 {
			return &ValidationError{found}
		}
		b := Batch{
			ID: newBatchID(), Delete: []RecordRef{{m.tenant, id, raw.Revision}},
			Expect: []ItemRef{c.roots.record.ref, c.roots.trail.ref},
		}
		revision := raw.Revision
		if rec == nil {
			c.rec = &record{tenant: m.tenant, id: id, versions: []version{{}}}
		} else {
			c.had, c.rec = rec, rec.clone()
			if rec.state != StateRevoked {
				revision++
				if err := c.revokeFirst(reason, revision); err != nil {
					return err
				}
			}
		}
		c.action = ActionDelete
		c.event(reason)
		c.events[len(c.events)-1].Revision = revision + 1
		if b.Events, err = sealEvents(c.roots, c.events...); err != nil {
			return err
		}
		err = c.send(b)
		c.changed(recordKey{m.tenant, id})
		if errors.Is(err, ErrNotFound) {
			return errLost // read again: gone, or changed in between
		}
		return err
	})
	if err != nil {
		err = m.fail(ctx, ActionDelete, idOrNone(id), err)
		m.refused(ctx, ActionDelete, id, name, err)
	}
	return err
}

// revokeFirst adds the event of the revocation that comes before a deletion, with the hash of the body that would have
// been written, so that the trail has no gap.
func (c *change) revokeFirst(reason string, revision int64) error {
	c.action = ActionRevoke
	c.rec.revoke()
	c.rec.revision, c.rec.updatedAt = revision, c.now
	_, hash, err := sealRecord(c.roots, c.rec)
	if err != nil {
		return err
	}
	c.event(reason, diff(c.had, c.rec)...)
	e := &c.events[len(c.events)-1]
	e.Revision, e.BodyHash = revision, hash
	return nil
}
