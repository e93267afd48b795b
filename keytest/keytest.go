// Package keytest gives unit tests a ready [keycote.Manager] in one line: in memory, under a KEK that every reader of
// this package knows, with a clock that the test moves.
//
//	env := keytest.New(t, nil)
//	token := env.Issue("orders:read")
//	env.Clock.Advance(24 * time.Hour)
//
// Everything in it is real but the KEK and the clock, so what a test finds here holds in production. It is for tests
// alone: what its KEK has wrapped, anybody can open.
package keytest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// Env is what a test needs to work with keys. Its methods are safe for concurrent use. Only [New] makes one that works.
type Env struct {
	Manager *keycote.Manager // of the unnamed tenant; Manager.Tenant gives the others
	Clock   *Clock           // that Manager goes by
	Store   keycote.Store    // that Manager works on, empty at first; for a test that breaks it

	t          testing.TB
	store      keycote.Store // below Store, and never broken
	faults     faults
	authorized bool
	issued     atomic.Int64
}

// New makes a Manager on an empty store of its own. What is nil or zero in opts means what it means to [keycote.New],
// but for four fields: a nil Now is a [Clock] that stands at the present until the test moves it; a nil Validator also
// takes endpoints in clear and on loopback, so that a credential can be added for an httptest.Server; a nil Inspect and
// a nil Prober find every endpoint well, but for the faults of [Env.Break]. A Now that is set goes on to be asked, and
// the Clock adds to it. Behind Retired stands one more KEK, for [FaultOldKEK]. opts may be nil, and is not modified.
//
// It fails the test at once when the Manager cannot be made. At the end of the test it flushes the Manager, and fails
// the test if that fails.
func New(t testing.TB, opts *keycote.Options) *Env {
	t.Helper()
	var o keycote.Options
	if opts != nil {
		o = *opts
	}
	env := &Env{t: t, Clock: newClock(o.Now), store: memstore.New(), authorized: o.Authorize != nil}
	env.Store = &store{env.store, &env.faults}
	o.Now = env.Clock.Now
	if o.Inspect == nil {
		o.Inspect = env.faults.inspect
	}
	if o.Prober == nil {
		o.Prober = env.faults.probe
	}
	if o.Validator == nil {
		o.Validator = keycote.NewValidator(&keycote.ValidatorOptions{
			AllowHTTP:  true,
			AllowHosts: []string{"localhost"},
			AllowNets:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		})
	}
	k, err := newKEK()
	if err != nil {
		t.Fatalf("keytest: %v", err)
	}
	o.Retired = append(slices.Clone(o.Retired), &kek{k, &env.faults, true})
	if env.Manager, err = keycote.New(t.Context(), env.Store, &kek{k, &env.faults, false}, &o); err != nil {
		t.Fatalf("keytest: %v", err)
	}
	ctx := context.WithoutCancel(t.Context()) // which has ended when the clean-up begins
	t.Cleanup(func() {
		env.Mend()
		if err := env.Manager.Flush(ctx); err != nil {
			t.Errorf("keytest: %v", err)
		}
	})
	return env
}

// Issue makes an access key with these scopes, under a name of its own in the unnamed tenant, and returns its value.
// It fails the test at once when there is an error, so it belongs to the test's own goroutine. It calls as the host
// itself, or, where Options.Authorize is set and the host itself may do nothing, as an admin with every scope.
func (e *Env) Issue(scopes ...string) (token string) {
	e.t.Helper()
	ctx := e.t.Context()
	if e.authorized {
		ctx = keycote.WithActor(ctx, keycote.Actor{ID: "keytest", Roles: []string{"admin"}, MaxScopes: []string{"**"}})
	}
	name := fmt.Sprintf("keytest %d", e.issued.Add(1))
	_, secret, err := e.Manager.Issue(ctx, keycote.IssueParams{Name: name, Scopes: scopes})
	if err != nil {
		e.t.Fatalf("keytest: %v", err)
	}
	return secret.Reveal()
}

// newKEK makes the KEK of all tests. Its key is no secret: it stands here.
func newKEK() (keycote.KEK, error) {
	key := sha256.Sum256([]byte("github.com/keycote/keycote/keytest: for tests only"))
	a, err := subtle.NewAESGCM(key[:])
	if err != nil {
		return nil, fmt.Errorf("the KEK for tests: %w", err)
	}
	return keycote.NewKEK("keytest: for tests only", a), nil
}
