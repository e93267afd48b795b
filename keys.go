package keycote

import (
	"context"
	"iter"
)

// Manager is the entry point. It is safe for concurrent use and starts no goroutine. The zero Manager is not usable.
type Manager struct{ _ *int }

// New opens a Manager over store. It reads the root keyrings, or makes them on an empty store (no item, no record, no
// event); a KEK that cannot open what is there fails here with ErrKEK, and a store that lost them with ErrTampered. The
// Manager acts on the unnamed tenant, and verifies issued keys of all tenants: a host with tenants compares Grant.Tenant,
// or verifies on the tenant's view.
func New(ctx context.Context, store Store, kek KEK, opts *Options) (*Manager, error) { return nil, nil }

// Tenant returns a view bound to one tenant: everything it does, Verify included, stays inside. It is cheap, and shares
// m's caches. A name that is empty or malformed, and any name but its own on a view, gives a view whose every call
// fails with ErrInvalid: a forgotten tenant never falls back on the unnamed one.
func (m *Manager) Tenant(name string) *Manager { return nil }

// Tenants yields the names of all tenants with a key; the unnamed one is m itself and not among them. On a view:
// ErrForbidden.
func (m *Manager) Tenants(ctx context.Context) iter.Seq2[string, error] { return nil }

// In returns a view that works through s, for a host's own transaction: keys.In(sqlStore.Tx(tx)). It shares m's keyrings,
// fills no cache and retries nothing. Call committed after the commit: then m evicts at once. Until then, and if it is
// never called, m learns of the changes as other processes do.
func (m *Manager) In(s Store) (view *Manager, committed func()) { return nil, nil }

// Add keeps a credential.
func (m *Manager) Add(ctx context.Context, p AddParams) (*Key, error) { return nil, nil }

// Issue makes an access key. The Secret is shown this once.
func (m *Manager) Issue(ctx context.Context, p IssueParams) (*Key, Secret, error) {
	return nil, Secret{}, nil
}

// Verify checks an access key presented to the host. Every refusal of identity matches ErrUnauthenticated and its own
// code, ErrUnauthenticated being all that a client may be told; ErrScope, ErrLimited and ErrUnavailable do not match it.
// The *Error carries the key's id when it is known. Verify is not put to Authorize.
func (m *Manager) Verify(ctx context.Context, token string, r Request) (Grant, error) {
	return Grant{}, nil
}

// Use opens a credential for a program that presents it now. Each call is counted in the use log, none is an event of
// its own; within MaxStale it needs no store. It is put to Authorize (ActionUse) only when ctx carries an Actor. An access
// key is ErrInvalid, a credential that is not active its own code.
// For HTTP, keyhttp.Transport does this without handing the value out.
func (m *Manager) Use(ctx context.Context, id string, r Request) (Grant, Secret, error) {
	return Grant{}, Secret{}, nil
}

// Reveal shows a credential's value to a person, who must say why; an event is committed before it returns.
// An access key has nothing to reveal: ErrInvalid.
func (m *Manager) Reveal(ctx context.Context, id, reason string) (Secret, error) {
	return Secret{}, nil
}

// Rotate adds a version. A retry with the same RequestID returns the version made before: if Keycote made its value and
// nobody has used it, the retry replaces that value and returns the new one, and the value of the lost answer no longer
// works; otherwise the Secret is zero. At most two versions are alive: rotating a third time replaces the newer one if it
// was never used, and ends the older one otherwise. Overlap is held against every version that goes on, and 0 ends them
// all now. "Used" is a mark in the record (design, section 3), so it holds across processes.
func (m *Manager) Rotate(ctx context.Context, id string, p RotateParams) (*Key, Secret, error) {
	return nil, Secret{}, nil
}
func (m *Manager) Update(ctx context.Context, id string, p Patch) (*Key, error) { return nil, nil }

// Disable, Enable and Revoke repeat without harm: on a key in that state already they return it and write nothing.
func (m *Manager) Disable(ctx context.Context, id, reason string) (*Key, error) { return nil, nil }
func (m *Manager) Enable(ctx context.Context, id, reason string) (*Key, error)  { return nil, nil }
func (m *Manager) Revoke(ctx context.Context, id, reason string) (*Key, error)  { return nil, nil } // final; sealed values erased
func (m *Manager) Delete(ctx context.Context, id, reason string) error          { return nil }      // record gone, events stay
func (m *Manager) Get(ctx context.Context, id string) (*Key, error)             { return nil, nil }

// List yields every key that matches; Page gives one page (limit 0: 50; at most 1000). An unreadable record is a Key in
// StateUnreadable, not an error; after an error the sequence ends. A cursor belongs to its Filter, else ErrInvalid.
func (m *Manager) List(ctx context.Context, f Filter) iter.Seq2[*Key, error] { return nil }
func (m *Manager) Page(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	return Page{}, nil
}
func (m *Manager) Events(ctx context.Context, f EventFilter) iter.Seq2[Event, error] { return nil }

// Run follows the change feed, flushes counts and delivers alerts until ctx ends; then it flushes once more and returns
// nil. Without Run everything stays correct: a cached answer is read again when MaxStale is over, and the first call after
// a window's end writes that window's counts. A host that does not run Run calls Flush before it exits.
func (m *Manager) Run(ctx context.Context) error   { return nil }
func (m *Manager) Flush(ctx context.Context) error { return nil }
