package keycote

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keycote/keycote/internal/special"
)

// Update changes what p says and nothing else: it opens no sealed value, uses up no limit, and moves an expiry only when
// Patch.ExpiresAt says so. A changed origin of Endpoint (scheme, host, port) needs the secret in the same call, or else
// whoever may edit endpoints could have the old one sent to his own; the new value is a new version, and the old one
// ends. An Update that changes nothing writes nothing.
//
// It fails with a [*ValidationError], which matches [ErrSecretRequired] when the secret is missing and [ErrExists] when
// the name is taken; with [ErrConflict] when Patch.Revision is set and no longer the key's; with [ErrNotFound],
// [ErrRevoked], [ErrForbidden], [ErrTampered], [ErrShredded] and [ErrUnavailable].
func (m *Manager) Update(ctx context.Context, id string, p Patch) (*Key, error) {
	probed := false
	key, _, err := m.edit(ctx, ActionUpdate, id, p.DryRun, func(c *change) error {
		switch {
		case c.rec.state == StateRevoked:
			return ErrRevoked
		case p.Revision > 0 && p.Revision != c.had.revision:
			return &Error{Code: ErrConflict, Err: errors.New("the key has another revision by now")}
		}
		fields, moved := c.patch(&p)
		if p.Owner != nil && c.rec.owner != c.had.owner || p.App != nil && c.rec.app != c.had.app {
			if err := m.authorize(ctx, ActionUpdate, c.rec.key(c.now, nil)); err != nil {
				return err
			}
		}
		if err := c.vetPatch(&p, fields, moved, &probed); err != nil {
			return err
		}
		changes := diff(c.had, c.rec)
		if len(changes) == 0 && !moved {
			return errSettled
		}
		if moved {
			keep := c.rehearse
			if !c.dry {
				keep = func(s Secret) error { return c.keep(c.rec.current(), s) }
			}
			if err := keep(p.Secret); err != nil {
				return err
			}
		}
		c.event(p.Reason, changes...)
		return nil
	})
	return key, err
}

// patch applies p. moved says that the endpoint's origin is another one.
func (c *change) patch(p *Patch) (fields fieldSet, moved bool) {
	r := c.rec
	for _, f := range []struct {
		from *string
		to   *string
		set  fieldSet
	}{
		{p.Name, &r.name, onName}, {p.App, &r.app, onApp}, {p.Owner, &r.owner, onOwner},
		{p.Endpoint, &r.endpoint, onEndpoint},
	} {
		if f.from != nil {
			*f.to = *f.from
			fields |= f.set
		}
	}
	if p.Scopes != nil {
		r.scopes, fields = slices.Clone(*p.Scopes), fields|onScopes
	}
	if p.Networks != nil {
		r.networks, fields = nil, fields|onNetworks
		for _, n := range *p.Networks {
			r.networks = append(r.networks, special.Network(n))
		}
	}
	if p.Limit != nil {
		r.limit, fields = *p.Limit, fields|onLimit
	}
	if p.Labels != nil {
		r.labels, fields = maps.Clone(*p.Labels), fields|onLabels
	}
	if p.ExpiresAt != nil {
		fields |= onExpiresAt
		r.current().expiresAt = micros(*p.ExpiresAt)
	}
	if r.kind == KindCredential && p.Endpoint != nil {
		before, ok := endpointOrigin(c.had.endpoint)
		after, ok2 := endpointOrigin(r.endpoint)
		moved = !ok || !ok2 || before != after
	}
	if moved {
		next := version{
			number: r.current().number + 1, state: StateActive, createdAt: c.now, expiresAt: r.current().expiresAt,
		}
		r.current().expiresAt = c.had.current().expiresAt
		c.supersede(&next, 0, false)
	}
	for i := range r.versions[:len(r.versions)-1] {
		if v := &r.versions[i]; v.state == StateActive {
			v.expiresAt = earliest(v.expiresAt, r.current().expiresAt)
		}
	}
	return fields, moved
}

// vetPatch judges what p touches. It does so on every attempt: the change that was faster may have made another origin of
// what was another path, or widened the key beyond the actor's ceiling. Only the probe is made once.
func (c *change) vetPatch(p *Patch, fields fieldSet, moved bool, probed *bool) error {
	v := &vetting{
		draft: c.draft(p.Secret), fields: fields | onSecret, allowWeak: p.AllowWeak,
		call: callParams{Reason: p.Reason, Revision: p.Revision, Credential: c.rec.kind == KindCredential},
	}
	switch {
	case moved && p.Secret.IsZero():
		v.extra = append(v.extra, Violation{Field: "secret", Code: ErrSecretRequired})
	case !moved && !p.Secret.IsZero():
		v.draft.Secret = Secret{}
		v.extra = append(v.extra, Violation{Field: "secret", Code: "not_allowed"})
	}
	err := c.vet(v)
	if err == nil && (fields&(onScopes|onNetworks|onExpiresAt) != 0 || moved) {
		err = ceiling(c.ctx, c.rec.scopes)
	}
	if err == nil && !p.SkipProbe && moved && !*probed {
		err = c.probe(c.rec.endpoint, p.Secret)
		*probed = true
	}
	return err
}

// diff lists what an event tells of a change.
func diff(from, to *record) []FieldChange {
	var list []FieldChange
	add := func(field, a, b string) { list = append(list, changesOf(field, a, b)...) }
	add("name", from.name, to.name)
	add("app", from.app, to.app)
	add("owner", from.owner, to.owner)
	add("endpoint", from.endpoint, to.endpoint)
	add("scopes", strings.Join(from.scopes, ", "), strings.Join(to.scopes, ", "))
	add("networks", showNetworks(from.networks), showNetworks(to.networks))
	add("expiresAt", showTime(from.current().expiresAt), showTime(to.current().expiresAt))
	add("limit", showLimit(from.limit), showLimit(to.limit))
	add("labels", showLabels(from.labels), showLabels(to.labels))
	add("state", string(from.state), string(to.state))
	return list
}

func changesOf(field, from, to string) []FieldChange {
	if from == to {
		return nil
	}
	return []FieldChange{{field, from, to}}
}

func showTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func showNetworks(list []netip.Prefix) string {
	var s []string
	for _, p := range list {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}

func showLimit(l Limit) string {
	var s []string
	if l.Rate != 0 || l.Burst != 0 {
		s = append(s, strconv.Itoa(l.Rate)+" per "+l.Per.String()+", burst "+strconv.Itoa(l.Burst))
	}
	if l.Quota != 0 {
		s = append(s, strconv.FormatInt(l.Quota, 10)+" in "+l.Period.String())
	}
	return strings.Join(s, "; ")
}

func showLabels(labels map[string]string) string {
	var s []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		s = append(s, k+"="+strconv.Quote(labels[k]))
	}
	return strings.Join(s, ", ")
}
