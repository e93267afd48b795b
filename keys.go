package keycote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"
)

// Manager is the entry point. It is safe for concurrent use. It starts no goroutine, but for [Manager.Diagnose], whose
// parts may hang: one of them may outlive the call that has given it up. The zero Manager is not usable: make one with
// [New], and views of it with [Manager.Tenant] and [Manager.In].
type Manager struct {
	*shared
	store  Store
	tenant string
	bound  bool  // a tenant's view
	broken error // what every call of this view answers
	tx     *txState
}

// shared is what all views of a Manager have in common.
type shared struct {
	main  Store // that New was given
	opts  Options
	valid *Validator
	log   *slog.Logger
	now   func() time.Time
	rings *rings
	ids   idSource
	cache cache
	lanes lanes
	uses  useLog
	marks marks

	replica   replica
	limiter   *localLimiter
	unlimited unlimited
}

// txState is of a view that works in a host's own transaction: what it made there, and nobody else may rely on yet.
type txState struct {
	mu    sync.Mutex
	rings map[string]*keyring // tenants' keyrings made in this transaction
	keys  []recordKey         // that were changed in it
	gate  *reloadGate
}

// Options are optional, every one. No zero value opens anything.
type Options struct {
	Retired   []KEK            // KEKs that still open older keyrings
	Recovery  []KEK            // every keyring is wrapped for these too; only Encrypt is called on them
	Validator *Validator       // nil: NewValidator(nil)
	Prefix    string           // of issued keys; "": "kc"
	Now       func() time.Time // nil: time.Now
	Logger    *slog.Logger     // nil: silent
	MaxStale  time.Duration    // 0: every Verify and Use reads the store
	CacheSize int              // entries, one of several kB being as many; 0: 100,000

	IssuedOnly bool // refuse chosen values, on Issue and on Verify: then no malformed token costs a read

	// Authorize allows by nil; any other error refuses, as ErrForbidden. nil: the host has already decided. key is never
	// nil: the key as it is; for Add and Issue as it would be, without an ID; for List, Page and Events what is asked for
	// (Tenant, and of the filter Kind, App, Owner, ID). An Update that changes Owner or App is asked for as it is and as it
	// would be. See ByRole.
	Authorize func(ctx context.Context, actor Actor, action Action, key *Key) error

	// Limiter counts the uses of keys with a Limit. nil: each process for itself, so N processes allow N times as much. It
	// has a second to answer; a use that it does not answer fails with ErrUnavailable, or with LimitFailOpen is let
	// through, and a log line every ten seconds says how many were.
	Limiter       Limiter
	LimitFailOpen bool

	// Prober tries an endpoint with the value that is about to be kept for it: when a credential is added or rotated, and
	// when an Update moves it to another origin. An Update that changes the path alone opens no sealed value, so nothing is
	// tried; Diagnose tells afterwards. nil: none is tried. See keyhttp.PingPong.
	Prober Prober

	// Inspect looks at a credential's endpoint for Diagnose, without its value, in steps of these names: "name", "guard",
	// "tcp", "tls" and "http"; any other is left out. Of a step the report takes Status, Took, a Code that the catalogue
	// has a sentence for, and the numbers in that. It has 10 seconds at most, and should return what it knows when ctx
	// ends. nil: nothing is looked at. See keyhttp.Inspect.
	Inspect func(ctx context.Context, endpoint string) []Check
}

// Prober tries an endpoint with a value. Its error is a Violation, or means that the probe could not be made.
type Prober func(ctx context.Context, endpoint string, secret Secret) error

const defaultPrefix = "kc"

// New opens a Manager over store. It reads the root keyrings, or makes them on an empty store (no item, no record, no
// event); of several processes that start at once on an empty store, one makes them. The Manager acts on the unnamed
// tenant, and verifies issued keys of all tenants: a host with tenants compares Grant.Tenant, or verifies on the
// tenant's view.
//
// It fails with [ErrInvalid] on options that make no sense (a malformed Prefix, two KEKs of one id, a negative
// duration, a MaxStale that is not more than the lag of the store's [Replicated]); with [ErrKEK] when the KEK does not
// open what is there, and the error names the KEK found and the one given; with [ErrTampered] on a store that has lost
// its keyrings; with [ErrUnavailable] when the store cannot be asked.
func New(ctx context.Context, store Store, kek KEK, opts *Options) (*Manager, error) {
	if opts == nil {
		opts = &Options{}
	}
	s := &shared{main: store, lanes: newLanes(), opts: *opts, valid: opts.Validator, log: opts.Logger, now: opts.Now}
	if err := s.opts.check(store, kek); err != nil {
		return nil, &Error{Op: opNew, Code: ErrInvalid, Err: err}
	}
	if err := s.replica.init(store, opts.MaxStale); err != nil {
		return nil, &Error{Op: opNew, Code: ErrInvalid, Err: err}
	}
	if s.opts.Prefix == "" {
		s.opts.Prefix = defaultPrefix
	}
	if s.valid == nil {
		s.valid = NewValidator(nil)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = systemClock
	}
	s.rings = newRings(keks{kek, opts.Retired, opts.Recovery}, s.now, s.log)
	s.uses.start(s.now())
	s.limiter = newLocalLimiter(s.now)
	s.cache.init(&s.opts, s.now, s.replica.lag, &s.uses)
	s.rings.changed = s.cache.reset // a key that made what is cached may be gone
	if err := s.rings.start(ctx, store); err != nil {
		return nil, wrapError(ctx, opNew, "", err)
	}
	return &Manager{shared: s, store: store}, nil
}

func (o *Options) check(store Store, kek KEK) error {
	seen := map[string]bool{}
	for _, k := range append(append([]KEK{kek}, o.Retired...), o.Recovery...) {
		switch {
		case k == nil:
			return errors.New("a KEK is nil")
		case k.ID() == "":
			return errors.New("a KEK has no id")
		case seen[k.ID()]:
			return fmt.Errorf("two KEKs have the id %s", kekName(k.ID()))
		}
		seen[k.ID()] = true
	}
	switch {
	case store == nil:
		return errors.New("the store is nil")
	case o.Prefix != "" && !prefixOK(o.Prefix):
		return errors.New("the prefix must match ^[a-z][a-z0-9_]{0,30}[a-z0-9]$")
	case o.MaxStale < 0:
		return errors.New("MaxStale is negative")
	case o.CacheSize < 0:
		return errors.New("CacheSize is negative")
	}
	return nil
}

// Tenant returns a view bound to one tenant: everything it does, Verify included, stays inside. It is cheap, and shares
// m's caches. A name that is empty or malformed, and any name but its own on a view, gives a view whose every call
// fails with [ErrInvalid]: a forgotten tenant never falls back on the unnamed one. A name is 1 to 255 bytes of UTF-8
// without control characters and blank edges, and is compared by its bytes.
func (m *Manager) Tenant(name string) *Manager {
	view := *m
	switch {
	case m.broken != nil:
	case !tenantOK(name):
		view.broken = errors.New("the tenant's name is empty or malformed")
	case m.bound && m.tenant != name:
		view.broken = errors.New("a tenant's view has no other tenants")
	}
	view.tenant, view.bound = name, true
	return &view
}

// Tenants yields the names of all tenants with a key, in the order of their bytes; the unnamed one is m itself and not
// among them. On a view it yields [ErrForbidden]. Authorize is asked for the action "operate".
func (m *Manager) Tenants(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := m.begin(ctx, actionOperate)
		if err == nil && m.bound {
			err = &Error{Op: string(actionOperate), Code: ErrForbidden}
		}
		if err == nil {
			err = m.authorize(ctx, actionOperate, asked(""))
		}
		// No id reaches up to "~", so the next key after it is another tenant's first; but for an id that somebody wrote
		// past the library, over which one more step goes.
		name, after := "", "~"
		for err == nil {
			var page []Record
			page, err = m.store.List(ctx, Query{AllTenants: true, AfterTenant: name, After: after, Limit: 1, Now: m.now()})
			if err != nil {
				break
			}
			if len(page) == 0 {
				return
			}
			next := page[0].Tenant
			if next < name || next == name && page[0].ID <= after {
				err = &Error{Code: ErrTampered, Err: errors.New("the store's order of tenants is broken")}
				break
			}
			if next == name {
				after = page[0].ID
				continue
			}
			name, after = next, "~"
			if !yield(name, nil) {
				return
			}
		}
		yield("", m.fail(ctx, actionOperate, "", err))
	}
}

// In returns a view that works through s, for a host's own transaction: keys.In(sqlStore.Tx(tx)). It shares m's keyrings,
// fills no cache and retries nothing: an [ErrConflict] is the host's to retry, transaction and all. Call committed after
// the commit: then m evicts at once. Until then, and if it is never called, m learns of the changes as other processes
// do. Uses that the view counts are written with m's, outside of the transaction.
func (m *Manager) In(s Store) (view *Manager, committed func()) {
	v := *m
	v.store, v.tx = s, &txState{rings: map[string]*keyring{}, gate: newReloadGate()}
	if s == nil && v.broken == nil {
		v.broken = errors.New("the store is nil")
	}
	return &v, func() {
		v.tx.mu.Lock()
		defer v.tx.mu.Unlock()
		for tenant := range v.tx.rings {
			m.rings.tenants.drop(tenant)
		}
		for _, k := range v.tx.keys {
			m.cache.evict(k)
		}
		if m.cache.stale > 0 && len(v.tx.keys) > 0 {
			m.cache.dropMisses() // a key that was made there may have been tried before the commit
		}
	}
}

// begin stands at the start of every call but Verify and Use, which look for what is cached first: it refuses those on a
// broken view, and sees to it that the root keyrings are as of the last minute.
func (m *Manager) begin(ctx context.Context, action Action) error {
	err := m.callable(ctx, action)
	if err == nil {
		m.refresh(ctx, m.now())
	}
	return err
}

// callable is begin without a look at the keyrings.
func (m *Manager) callable(ctx context.Context, action Action) error {
	if m.broken != nil {
		return &Error{Op: string(action), Code: ErrInvalid, Err: m.broken}
	}
	if actor, ok := ActorFrom(ctx); ok && !textOK(actor.ID) { // it is going to stand in events
		return &Error{Op: string(action), Code: ErrInvalid, Err: errors.New("the actor's id is malformed")}
	}
	return nil
}

// refresh holds the root keyrings against the store's once a minute; not in a host's own transaction, whose snapshot may
// be older than what is known.
func (m *Manager) refresh(ctx context.Context, now time.Time) {
	if m.tx == nil {
		m.rings.refresh(ctx, m.store, now)
	}
}

// reloadUnknown reads the root keyrings again for a token or a seal that names a key we do not know. What a transaction
// finds out, or fails to, is its own.
func (m *Manager) reloadUnknown(ctx context.Context, g *reloadGate) error {
	if m.tx != nil {
		g = m.tx.gate
	}
	return m.rings.reloadUnknown(ctx, m.store, g)
}

// roots are the root keyrings.
func (m *Manager) roots() *rootRings { return m.rings.roots.Load() }

// time is the Manager's clock as a body keeps it.
func (m *Manager) time() time.Time { return micros(m.now()) }
