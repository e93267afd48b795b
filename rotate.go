package keycote

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Rotate adds a version. The one before it goes on for Overlap, and never longer than it would have: it ends at the
// earliest of its own expiry, now+Overlap, and the new version's expiry. At most two versions are alive: rotating a
// third time replaces the newer one if it was never used, and ends the older one otherwise. Overlap is held against
// every version that goes on, and 0 ends them all now. A credential has no overlap: the new value takes its place.
//
// A retry with the same RequestID returns the version made before: if Keycote made its value and nobody has used it, the
// retry replaces that value and returns the new one, and the value of the lost answer no longer works; otherwise the
// Secret is zero.
//
// It fails with a [*ValidationError], also when the key has expired and ExpiresAt is not given; with [ErrNotFound],
// [ErrRevoked], [ErrForbidden], [ErrTampered], [ErrShredded], [ErrUnavailable]; and with [ErrConflict] when another
// rotation was faster, or the RequestID was used with other parameters. A disabled key stays disabled.
func (m *Manager) Rotate(ctx context.Context, id string, p RotateParams) (*Key, Secret, error) {
	p.ExpiresAt = micros(p.ExpiresAt)
	probed, seen := false, 0
	return m.edit(ctx, ActionRotate, id, p.DryRun, func(c *change) error {
		if done, err := c.replayRotate(p); done || err != nil {
			return err
		}
		cur := c.rec.current()
		switch {
		case c.rec.state == StateRevoked:
			return ErrRevoked
		case seen == 0:
			seen = cur.number
		case seen != cur.number:
			return errRaced
		}
		next := version{number: cur.number + 1, state: StateActive, createdAt: c.now, expiresAt: p.ExpiresAt}
		if p.ExpiresAt.IsZero() {
			next.expiresAt = cur.expiresAt
		}
		from := cur.expiresAt
		c.supersede(&next, p.Overlap, p.UntilUsed)
		if err := c.vetRotation(p, &probed); err != nil {
			return err
		}
		if c.dry {
			return c.rehearse(p.Secret)
		}
		var err error
		if c.rec.kind == KindCredential {
			err = c.keep(c.rec.current(), p.Secret)
		} else {
			err = c.give(c.rec.current(), c.rec.versions[len(c.rec.versions)-2].prefix, p.Secret)
		}
		if err != nil {
			return err
		}
		if p.RequestID != "" {
			c.rec.current().request = c.requestOf(c.rotateMessage(p.RequestID), p.encode())
		}
		c.event(p.Reason, changesOf("expiresAt", showTime(from), showTime(next.expiresAt))...)
		return nil
	})
}

// errRaced ends a call for good: another of its kind was faster, and to go on would do the work twice.
var errRaced = &Error{Code: ErrConflict, Err: errors.New("another rotation was faster")}

// supersede appends next, and decides what becomes of the versions before it. At least the last of these stays.
func (c *change) supersede(next *version, overlap time.Duration, untilUsed bool) {
	r := c.rec
	for i := range r.versions {
		if v := &r.versions[i]; v.state == StateActive && !v.live(c.now) {
			v.end()
		}
	}
	older := slices.IndexFunc(r.versions[:len(r.versions)-1], func(v version) bool { return v.state == StateActive })
	if newer := r.current(); older >= 0 && newer.state == StateActive {
		if newer.used {
			r.versions[older].end()
		} else {
			newer.end()
		}
	}
	for i := range r.versions {
		v := &r.versions[i]
		switch {
		case v.state == StateEnded:
		case overlap <= 0 || r.kind == KindCredential:
			v.end()
		default:
			v.expiresAt = earliest(v.expiresAt, c.now.Add(overlap), next.expiresAt)
			v.untilUsed = v.untilUsed || untilUsed
		}
	}
	r.versions = append(r.versions, *next)
	r.trim()
}

// earliest returns the earliest of times, zero being never.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// vetRotation judges what a rotation touches: the value and the new version's expiry. It does so on every attempt,
// because the change that was faster may have widened the key beyond the actor's ceiling; only the probe is made once.
func (c *change) vetRotation(p RotateParams, probed *bool) error {
	v := &vetting{
		draft: c.draft(p.Secret), fields: onSecret, allowWeak: p.AllowWeak, issuedOnly: c.opts.IssuedOnly,
		call: callParams{
			Reason: p.Reason, RequestID: p.RequestID, Rotation: true, Credential: c.rec.kind == KindCredential,
			Overlap: p.Overlap, UntilUsed: p.UntilUsed,
		},
	}
	if !p.ExpiresAt.IsZero() {
		v.fields |= onExpiresAt
	} else if e := c.rec.current().expiresAt; !e.IsZero() && !c.now.Before(e) {
		v.extra = append(v.extra, Violation{Field: "expiresAt", Code: "required"})
	}
	if c.rec.kind == KindCredential && p.Secret.IsZero() {
		v.extra = append(v.extra, Violation{Field: "secret", Code: "required"})
	}
	err := c.vet(v)
	if err == nil {
		err = ceiling(c.ctx, c.rec.scopes)
	}
	if err == nil && !p.SkipProbe && c.rec.kind == KindCredential && !*probed {
		err = c.probe(c.rec.endpoint, p.Secret)
		*probed = true
	}
	return err
}

// replayRotate answers a RequestID that made a version before.
func (c *change) replayRotate(p RotateParams) (done bool, err error) {
	if p.RequestID == "" || len(checkCall(callParams{RequestID: p.RequestID})) > 0 {
		return false, nil
	}
	list := c.digests(digestRequest, c.rotateMessage(p.RequestID))
	for i := range c.rec.versions {
		v := &c.rec.versions[i]
		if v.request == nil || !holdsAny(v.request.digests, list) {
			continue
		}
		if c.rec.state == StateRevoked || !c.sameParams(v.request, p.encode()) {
			return false, &Error{Code: ErrConflict, Err: errors.New("the RequestID was used for another rotation")}
		}
		if err := ceiling(c.ctx, c.rec.scopes); err != nil {
			return false, err
		}
		if c.dry || i < len(c.rec.versions)-1 {
			return true, errSettled
		}
		return true, c.remake(v, p.Reason)
	}
	return false, nil
}

func (c *change) rotateMessage(requestID string) []byte {
	return requestMessage(c.tenant, ActionRotate, c.rec.id, requestID)
}

// encode writes what a retry must repeat to the letter: all but the reason.
func (p *RotateParams) encode() []byte {
	var e encoder
	e.text(1, p.Secret.Reveal())
	e.flag(2, p.AllowWeak)
	e.flag(3, p.SkipProbe)
	e.time(4, p.ExpiresAt)
	e.integer(5, int64(p.Overlap))
	e.flag(6, p.UntilUsed)
	return e
}
