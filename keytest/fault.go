package keytest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/keycote/keycote"
)

// Fault is something that [Env.Break] makes go wrong, so that a test sees what [keycote.Manager.Diagnose], and the code
// under test, make of it. What a test can bring about by the Manager itself is no Fault: an old value by Clock.Advance,
// a weak one by AllowWeak, a disabled key by Disable, a right that is missing by Options.Authorize.
type Fault string

const (
	FaultStore    Fault = "store"     // the store answers nothing but an error
	FaultKEK      Fault = "kek"       // the KEK opens nothing
	FaultOldKEK   Fault = "old_kek"   // the KEK is a new one, and the one in use until now is among Options.Retired
	FaultWrongKEK Fault = "wrong_kek" // the KEK is another one than what is stored is wrapped for
	FaultSeal     Fault = "seal"      // the key's record was changed behind the library's back; this cannot be mended
	FaultShredded Fault = "shredded"  // the keyring of the key's tenant was destroyed; this cannot be mended

	// Of the endpoint, as a Manager's fake Options.Inspect and Options.Prober report it. They are there unless the test
	// has set its own. Give a call under FaultHang a context that ends soon: the time is real.
	FaultName       Fault = "name"        // the host has no address
	FaultGuard      Fault = "guard"       // its address is a private one
	FaultTCP        Fault = "tcp"         // nobody answers there
	FaultTLS        Fault = "tls"         // its certificate is not to be trusted
	FaultExpiring   Fault = "expiring"    // its certificate has three days left
	FaultHTTP       Fault = "http"        // its server fails
	FaultProbe      Fault = "probe"       // it does not answer as it should
	FaultKeyRefused Fault = "key_refused" // it refuses the key
	FaultHang       Fault = "hang"        // it accepts, and is silent until the context ends
)

// known are all of them.
var known = []Fault{
	FaultStore, FaultKEK, FaultOldKEK, FaultWrongKEK, FaultSeal, FaultShredded, FaultName, FaultGuard, FaultTCP,
	FaultTLS, FaultExpiring, FaultHTTP, FaultProbe, FaultKeyRefused, FaultHang,
}

// errBroken is what a broken part of an Env answers.
var errBroken = errors.New("keytest: broken by the test")

// Break makes faults happen to the Manager from now on. key is the one that FaultSeal and FaultShredded are about; nil
// will do for the others. It fails the test at once when that key is nil or not there, and for a Fault that is none of
// this package's.
func (e *Env) Break(key *keycote.Key, faults ...Fault) {
	e.t.Helper()
	for _, f := range faults {
		e.check(f)
		var err error
		switch {
		case key == nil && (f == FaultSeal || f == FaultShredded):
			err = errors.New("it needs a key to be about")
		case f == FaultSeal:
			err = e.breakSeal(key)
		case f == FaultShredded:
			err = e.shred(key)
		default:
			e.faults.set(f, true)
		}
		if err != nil {
			e.t.Fatalf("keytest: %s: %v", f, err)
		}
	}
}

// Mend ends faults, all of them when none is named. What was written to the store stays as it is. It fails the test at
// once for a Fault that is none of this package's.
func (e *Env) Mend(faults ...Fault) {
	e.t.Helper()
	if len(faults) == 0 {
		e.faults.clear()
	}
	for _, f := range faults {
		e.check(f)
		e.faults.set(f, false)
	}
}

// check fails the test for a Fault that nothing here can bring about: the test would pass for want of it.
func (e *Env) check(f Fault) {
	e.t.Helper()
	if !slices.Contains(known, f) {
		e.t.Fatalf("keytest: there is no Fault %q", f)
	}
}

// breakSeal writes to the record as somebody would who has the database alone.
func (e *Env) breakSeal(key *keycote.Key) error {
	ctx := e.t.Context()
	raw, err := e.store.Get(ctx, key.Tenant, key.ID)
	if err != nil {
		return err
	}
	raw.Body = slices.Clone(raw.Body)
	raw.Body[len(raw.Body)-1] ^= 1
	raw.Revision++
	return e.store.Commit(ctx, keycote.Batch{Update: []keycote.Record{raw}})
}

// shred leaves what a destroyed keyring leaves: a body with field 2, the time, and nothing else (docs/formats.md).
func (e *Env) shred(key *keycote.Key) error {
	ctx := e.t.Context()
	items, err := e.store.Items(ctx, keycote.ItemQuery{Space: "keyring", Tenant: key.Tenant, Name: "data", Limit: 1})
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return keycote.ErrNotFound
	}
	ring := items[0]
	ring.Revision++
	ring.Body = binary.BigEndian.AppendUint64([]byte{0x01, 2 << 1, 8}, uint64(e.Clock.Now().UnixMicro()))
	return e.store.Commit(ctx, keycote.Batch{Items: []keycote.Item{ring}})
}

// faults are those that go on.
type faults struct {
	mu sync.Mutex
	on map[Fault]bool
}

func (f *faults) set(fault Fault, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on == nil {
		f.on = map[Fault]bool{}
	}
	f.on[fault] = on
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = nil
}

func (f *faults) has(fault Fault) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.on[fault]
}

func (f *faults) err(fault Fault) error {
	if f.has(fault) {
		return errBroken
	}
	return nil
}

// inspect reports an endpoint that is well, up to the first failure: nothing that comes after it was looked at. What it
// says of a fault is what keyhttp.Inspect says; a test there holds the two against each other.
func (f *faults) inspect(ctx context.Context, _ string) []keycote.Check {
	step := func(name, status string, code keycote.Code, params ...string) keycote.Check {
		c := keycote.Check{Name: name, Status: status, Code: code}
		if len(params) > 0 {
			c.Params = map[string]string{params[0]: params[1]}
		}
		return c
	}
	ill := map[Fault]keycote.Check{
		FaultName:     step("name", "failed", "no_such_host"),
		FaultGuard:    step("guard", "failed", "refused_address"),
		FaultTCP:      step("tcp", "failed", "no_connection"),
		FaultHang:     step("tls", "failed", "no_tls"),
		FaultTLS:      step("tls", "failed", "certificate_bad"),
		FaultExpiring: step("tls", "warning", "certificate_soon", "days", "3"),
		FaultHTTP:     step("http", "warning", "server_error", "status", "500"),
	}
	var checks []keycote.Check
	over := false
	for _, c := range []keycote.Check{
		step("name", "ok", "resolved", "count", "1"), step("guard", "ok", "ok"), step("tcp", "ok", "connected"),
		step("tls", "ok", "certificate_ok", "days", "60"), step("http", "ok", "answered", "status", "200"),
	} {
		if over {
			c = step(c.Name, "skipped", "not_checked")
		}
		for _, fault := range known {
			if worse, ok := ill[fault]; ok && worse.Name == c.Name && !over && f.has(fault) {
				if c = worse; fault == FaultHang {
					<-ctx.Done()
				}
				over = c.Status == "failed"
			}
		}
		checks = append(checks, c)
	}
	return checks
}

// probe is a Prober that every endpoint satisfies.
func (f *faults) probe(ctx context.Context, _ string, _ keycote.Secret) error {
	switch {
	case f.has(FaultHang):
		<-ctx.Done()
		return ctx.Err()
	case f.has(FaultProbe):
		return keycote.Violation{Field: "endpoint", Code: "probe_failed"}
	case f.has(FaultKeyRefused):
		return keycote.Violation{Field: "secret", Code: "key_refused"}
	}
	return nil
}

// store is a Store that can be away.
type store struct {
	keycote.Store
	faults *faults
}

func (s *store) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return keycote.Record{}, err
	}
	return s.Store.Get(ctx, tenant, id)
}

func (s *store) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return keycote.Record{}, err
	}
	return s.Store.Lookup(ctx, digests)
}

func (s *store) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, q)
}

func (s *store) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return nil, err
	}
	return s.Store.Items(ctx, q)
}

func (s *store) Events(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return nil, err
	}
	return s.Store.Events(ctx, q)
}

func (s *store) Usage(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return nil, err
	}
	return s.Store.Usage(ctx, q)
}

func (s *store) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	if err := s.faults.err(FaultStore); err != nil {
		return nil, "", err
	}
	return s.Store.Changes(ctx, after)
}

func (s *store) Commit(ctx context.Context, b keycote.Batch) error {
	if err := s.faults.err(FaultStore); err != nil {
		return err
	}
	return s.Store.Commit(ctx, b)
}

// kek is a KEK that can be away, and one of two that can change places: what one of them has wrapped, the other can
// open under its name.
type kek struct {
	keycote.KEK
	faults  *faults
	retired bool // stands among Options.Retired
}

// ID is under which name the KEK wraps, and finds what is wrapped for it.
func (k *kek) ID() string {
	switch {
	case k.faults.has(FaultWrongKEK):
		return fmt.Sprintf("keytest: wrong, retired: %t", k.retired)
	case k.faults.has(FaultOldKEK) != k.retired:
		return "keytest: new, for tests only"
	}
	return k.KEK.ID()
}

func (k *kek) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := k.faults.err(FaultKEK); err != nil {
		return nil, err
	}
	return k.KEK.EncryptWithContext(ctx, plaintext, associatedData)
}

func (k *kek) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := k.faults.err(FaultKEK); err != nil {
		return nil, err
	}
	return k.KEK.DecryptWithContext(ctx, ciphertext, associatedData)
}
