package keycote

import (
	"net/netip"
	"time"
)

type Event struct {
	ID      string        `json:"id"`
	Tenant  string        `json:"tenant,omitempty"`
	KeyID   string        `json:"keyId"`
	Name    string        `json:"name"` // of the key, then
	Version int           `json:"version,omitempty"`
	Action  Action        `json:"action"`
	Outcome Code          `json:"outcome,omitempty"` // empty: success
	Actor   string        `json:"actor"`
	Addr    netip.Addr    `json:"addr,omitzero"`
	Reason  string        `json:"reason,omitempty"`
	At      time.Time     `json:"at"`
	Changes []FieldChange `json:"changes,omitempty"`
	Count   int64         `json:"count,omitempty"` // of refused calls that are alike within a window; 0 is one

	Revision int64  `json:"revision,omitempty"` // of the key after a change: its order in the trail
	BodyHash []byte `json:"bodyHash,omitempty"` // SHA-256 of the record's body after the change
}

type FieldChange struct { // never a secret
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// EventFilter: all that is set must hold. To page: break, and go on with After.
type EventFilter struct {
	KeyID, Actor string
	Action       Action
	Since, Until time.Time // At in [Since, Until)
	After        string    // an Event's ID
	Newest       bool      // newest first
}
