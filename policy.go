package keycote

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Actor is who calls. A context without one is the host itself: no ceiling, and ErrForbidden when Authorize is set.
type Actor struct {
	ID        string
	Addr      netip.Addr
	Roles     []string
	MaxScopes []string // what the actor may grant at most; empty: nothing, {"**"}: everything
}

// clone shares nothing with a: who holds the one must not be able to raise the ceiling of the other.
func (a Actor) clone() Actor {
	a.Roles, a.MaxScopes = slices.Clone(a.Roles), slices.Clone(a.MaxScopes)
	return a
}

type (
	actorKey struct{}
	grantKey struct{}
)

// WithActor returns a context in which a is who calls. It keeps a copy. The host's own code fills it from what it has
// authenticated, never from a field of the request.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a.clone())
}

// ActorFrom returns a copy of the Actor that [WithActor] put into ctx, and false when there is none.
func ActorFrom(ctx context.Context) (Actor, bool) {
	a, ok := ctx.Value(actorKey{}).(Actor)
	return a.clone(), ok
}

// grantContext holds a Grant in one allocation where context.WithValue takes two: it is made for every request.
type grantContext struct {
	context.Context
	grant Grant
}

func (c *grantContext) Value(key any) any {
	if key == (grantKey{}) {
		return &c.grant
	}
	return c.Context.Value(key)
}

// String is in the manner of package context, so that printing a context does not print whose request it was.
func (c *grantContext) String() string { return fmt.Sprint(c.Context) + ".WithGrant" }

// WithGrant and [GrantFrom] carry what Verify granted, for handlers of any protocol and their unit tests.
func WithGrant(ctx context.Context, g Grant) context.Context {
	return &grantContext{Context: ctx, grant: g}
}

// GrantFrom returns the innermost Grant that [WithGrant] put into ctx, and false when there is none.
func GrantFrom(ctx context.Context) (Grant, bool) {
	if g, ok := ctx.Value(grantKey{}).(*Grant); ok {
		return *g, true
	}
	return Grant{}, false
}

// Action names what is done. Events know "verify", "validate" and "operate" besides.
type Action string

const (
	ActionAdd     Action = "add"
	ActionIssue   Action = "issue"
	ActionUse     Action = "use"
	ActionReveal  Action = "reveal"
	ActionRotate  Action = "rotate"
	ActionUpdate  Action = "update"
	ActionDisable Action = "disable"
	ActionEnable  Action = "enable"
	ActionRevoke  Action = "revoke"
	ActionDelete  Action = "delete"
	ActionRead    Action = "read"   // Get, List and Page
	ActionEvents  Action = "events" // Events

	ActionDiagnose Action = "diagnose" // Diagnose; of ByRole's roles, an admin's alone
)

const (
	actionVerify   Action = "verify"
	actionValidate Action = "validate"
	actionOperate  Action = "operate"
)

// ByRole is a ready Options.Authorize for four roles: a viewer reads, an editor reads, adds, issues, uses, rotates,
// updates, disables, enables and revokes, an auditor reads keys and events, and an admin may do everything. Roles add
// up, any other role has no right, and key is not looked at. It refuses with [ErrForbidden].
func ByRole(_ context.Context, actor Actor, action Action, _ *Key) error {
	for _, role := range actor.Roles {
		if roleAllows(role, action) {
			return nil
		}
	}
	return ErrForbidden
}

func roleAllows(role string, action Action) bool {
	switch role {
	case "admin":
		return true
	case "viewer":
		return action == ActionRead
	case "auditor":
		return action == ActionRead || action == ActionEvents
	case "editor":
		switch action {
		case ActionRead, ActionAdd, ActionIssue, ActionUse, ActionRotate, ActionUpdate, ActionDisable, ActionEnable,
			ActionRevoke:
			return true
		}
	}
	return false
}

// maxScope is the most bytes of a scope, of a grant's pattern and of what a route requires alike.
const maxScope = 255

// scopeBytes says which bytes may stand in a literal segment: visible ASCII without the separator, the wildcard, the
// comma that separates scopes in forms, and the two bytes that RFC 6750 keeps out of a challenge's scope. A table,
// because every verification walks what it requires.
var scopeBytes = func() (ok [256]bool) {
	for c := byte(0x21); c < 0x7f; c++ {
		ok[c] = strings.IndexByte(`:*"\,`, c) < 0
	}
	return ok
}()

// scopeOK reports whether s can stand in a grant: segments joined by colons, each of them literal, or "*" for exactly
// one segment, or as the last one "**" for one or more.
func scopeOK(s string) bool {
	if s == "" || len(s) > maxScope {
		return false
	}
	for more := true; more; {
		var seg string
		seg, s, more = strings.Cut(s, ":")
		if seg == "*" || seg == "**" && !more {
			continue
		}
		if seg == "" {
			return false
		}
		for i := range len(seg) {
			if !scopeBytes[seg[i]] {
				return false
			}
		}
	}
	return true
}

// requiredOK reports whether s can be required at all: at most maxScope bytes and no empty segment. A '*' is allowed
// because it is a byte like any other there.
func requiredOK(s string) bool {
	if s == "" || len(s) > maxScope {
		return false
	}
	start := 0 // of the segment
	for i := range len(s) {
		switch c := s[i]; {
		case scopeBytes[c] || c == '*':
		case c == ':' && i > start:
			start = i + 1
		default:
			return false
		}
	}
	return len(s) > start
}

// meets reports whether one of grants meets the scope that is required. What is required is compared, never parsed:
// "api:*" asks for the segment "*" and no other, so the grant "api:read" does not meet it, and only a wildcard does
// because no literal segment of a grant can hold that byte. What is empty or malformed is met by nothing, not even by
// "**": a route that computes its scope and gets it wrong stays shut. A malformed grant meets nothing.
func meets(grants []string, required string) bool {
	if !requiredOK(required) {
		return false
	}
	for _, g := range grants {
		if patternMeets(g, required) {
			return true
		}
	}
	return false
}

// patternMeets compares segment by segment. As required is well-formed, a segment that equals one of its own is a good
// literal unless it holds a '*', so no malformed pattern gets through and none has to be parsed first.
func patternMeets(pattern, required string) bool {
	if strings.IndexByte(pattern, '*') < 0 {
		return pattern == required
	}
	if len(pattern) > maxScope {
		return false
	}
	for {
		p, pRest, pMore := strings.Cut(pattern, ":")
		if p == "**" && !pMore {
			return true
		}
		r, rRest, rMore := strings.Cut(required, ":")
		if p != "*" && (p != r || strings.IndexByte(p, '*') >= 0) {
			return false
		}
		if !pMore || !rMore {
			return pMore == rMore
		}
		pattern, required = pRest, rRest
	}
}

// allows reports whether all of required are met. Nothing required is met by any key.
func allows(grants, required []string) bool {
	for _, r := range required {
		if !meets(grants, r) {
			return false
		}
	}
	return true
}

// patternWithin reports whether outer meets everything that inner meets. A malformed pattern is within none and has
// none within it.
func patternWithin(inner, outer string) bool {
	if !scopeOK(inner) || !scopeOK(outer) {
		return false
	}
	for {
		i, iRest, iMore := strings.Cut(inner, ":")
		o, oRest, oMore := strings.Cut(outer, ":")
		switch {
		case o == "**":
			return true
		case i == "**": // meets any number of segments, and outer, which goes on with another segment, does not
			return false
		case o != "*" && o != i: // "*" meets more than any literal
			return false
		case !iMore || !oMore:
			return iMore == oMore
		}
		inner, outer = iRest, oRest
	}
}

// withinCeiling reports whether each of grants is within one entry of ceiling; entries are not added up. No grants are
// within any ceiling.
func withinCeiling(grants, ceiling []string) bool {
	for _, g := range grants {
		if !slices.ContainsFunc(ceiling, func(c string) bool { return patternWithin(g, c) }) {
			return false
		}
	}
	return true
}

// networkOK reports whether p can bind a key: valid, and without host bits, because 10.0.0.1/8 may be a slip for
// 10.0.0.1/32 as well as for 10.0.0.0/8. A prefix of package netip never has a zone.
func networkOK(p netip.Prefix) bool { return p.IsValid() && p == p.Masked() }

// allowedFrom reports whether addr is in one of nets, which are as special.Network returns them. An empty list means from anywhere; against a
// list an unknown address is refused. "::/0" holds no IPv4 address.
func allowedFrom(nets []netip.Prefix, addr netip.Addr) bool {
	if len(nets) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("") // netip would find no address with a zone in any network
	for _, n := range nets {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
