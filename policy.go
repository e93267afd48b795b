package keycote

import (
	"context"
	"net/netip"
)

// Actor is who calls. A context without one is the host itself: no ceiling, and ErrForbidden when Authorize is set.
type Actor struct {
	ID        string
	Addr      netip.Addr
	Roles     []string
	MaxScopes []string // what the actor may grant at most; empty: nothing, {"**"}: everything
}

func WithActor(ctx context.Context, a Actor) context.Context { return ctx }
func ActorFrom(ctx context.Context) (Actor, bool)            { return Actor{}, false }

// WithGrant and GrantFrom carry what Verify granted, for handlers of any protocol and their unit tests.
func WithGrant(ctx context.Context, g Grant) context.Context { return ctx }
func GrantFrom(ctx context.Context) (Grant, bool)            { return Grant{}, false }

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
)

// ByRole is a ready Options.Authorize: viewer, editor, admin, auditor. Any other role has no right.
func ByRole(ctx context.Context, actor Actor, action Action, key *Key) error { return nil }
