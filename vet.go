package keycote

import (
	"context"
	"errors"
	"log/slog"
	"slices"
)

// vetting is what a call wants to do, as the rules see it.
type vetting struct {
	draft      *Draft
	call       callParams
	extra      []Violation // found by the verb itself
	fields     fieldSet    // what the call touches: the rest was legal when it was set
	allowWeak  bool
	issuedOnly bool // a chosen value is not allowed
}

// draft is c.rec as a Rule sees it.
func (c *change) draft(secret Secret) *Draft {
	actor, _ := ActorFrom(c.ctx)
	r := c.rec
	return &Draft{
		ID: r.id, Tenant: r.tenant, Now: c.now, Actor: actor, Kind: r.kind, Name: r.name, App: r.app, Owner: r.owner,
		Endpoint: r.endpoint, Secret: secret, Scopes: r.scopes, Networks: r.networks, ExpiresAt: r.current().expiresAt,
		Limit: r.limit, Labels: r.labels,
	}
}

// vet reports everything that is wrong with a call at once, in field order. Whether a name or a value is taken is looked
// up only when there is something to report anyway, or nothing will be written: otherwise the commit tells.
func (c *change) vet(v *vetting) error {
	found, err := c.valid.Validate(c.ctx, v.draft)
	if err != nil {
		return &Error{Code: ErrUnavailable, Err: causeOf(withheld(err, v.draft.Secret))}
	}
	found = append(v.fields.keep(found), checkCall(v.call)...)
	found = append(found, v.extra...)
	if v.issuedOnly && v.draft.Kind == KindAccess && !v.draft.Secret.IsZero() {
		found = append(found, Violation{Field: "secret", Code: "not_allowed"})
	}
	if v.allowWeak {
		found = slices.DeleteFunc(found, func(v Violation) bool { return v.Warning })
	}
	if len(found) > 0 || c.dry {
		taken, foreign, err := c.taken(v.draft, found)
		if err != nil {
			return err
		}
		if foreign && !c.dry {
			c.collision(v.call.Reason)
		}
		found = append(found, taken...)
	}
	if len(found) == 0 {
		return nil
	}
	sortViolations(found)
	return &ValidationError{found}
}

// taken reports which of name and chosen value belong to another key; foreign says that the value does, and not to an
// earlier version of the key itself. What is wrong with them already is not asked for: not every database takes every
// byte.
func (c *change) taken(d *Draft, wrong []Violation) (found []Violation, foreign bool, err error) {
	is := func(field string) func(Violation) bool {
		return func(v Violation) bool { return v.Field == field && !v.Warning }
	}
	if d.Name != "" && !slices.ContainsFunc(wrong, is("name")) {
		page, err := c.store.List(c.ctx, Query{
			Tenant: c.tenant, Filter: Filter{Kind: d.Kind, Name: d.Name}, Now: c.now, Limit: 1,
		})
		if err != nil {
			return nil, false, storeAnswer(err)
		}
		if len(page) > 0 && page[0].ID != d.ID {
			found = append(found, Violation{Field: "name", Code: ErrExists})
		}
	}
	if value := d.Secret.Reveal(); d.Kind == KindAccess && value != "" && !slices.ContainsFunc(wrong, is("secret")) {
		rec, _, err := c.lookup(c.ctx, c.store.Lookup, c.digests(digestChosen, chosenMessage(c.tenant, value)))
		switch {
		case errors.Is(err, ErrNotFound):
		case err == nil, CodeOf(err) == ErrTampered: // taken all the same, and what is wrong with it is not the caller's
			found = append(found, Violation{Field: "secret", Code: ErrExists})
			foreign = rec == nil || rec.id != d.ID
		default:
			return nil, false, err
		}
	}
	return found, foreign, nil
}

// probe tries the endpoint with the value, when the host has said how.
func (c *change) probe(endpoint string, secret Secret) error {
	if c.opts.Prober == nil {
		return nil
	}
	err := c.opts.Prober(c.ctx, endpoint, secret)
	var v Violation
	switch {
	case err == nil:
		return nil
	case errors.As(err, &v):
		return &ValidationError{[]Violation{tidiedAs(v, secret, codeProbeFailed)}}
	}
	return &Error{Code: ErrUnavailable, Err: causeOf(withheld(err, secret))}
}

func (m *Manager) logFailure(ctx context.Context, what string, err error) {
	m.log.LogAttrs(ctx, slog.LevelError, "keycote: "+what, slog.Any("error", err))
}
