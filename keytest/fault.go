package keytest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/keycote/keycote"
)

// Fault is something that [Env.Break] makes go wrong, so that a test sees what [keycote.Manager.Diagnose], and the code
// under test, make of it. What a test can bring about by the Manager itself is no Fault: an old value by Clock.Advance,
// a weak one by AllowWeak, a disabled key by Disable, a right that is missing by Options.Authorize.
type Fault string

const (
	FaultStore    Fault = "store"    // the store answers nothing but an error
	FaultKEK      Fault = "kek"      // the KEK opens nothing
	FaultSeal     Fault = "seal"     // the key's record was changed behind the library's back; this cannot be mended
	FaultShredded Fault = "shredded" // the keyring of the key's tenant was destroyed; this cannot be mended

	// Of the endpoint, as a Manager's fake Options.Inspect and Options.Prober report it. They are there unless the test
	// has set its own.
	FaultName       Fault = "name"        // the host has no address
	FaultGuard      Fault = "guard"       // its address is a private one
	FaultTCP        Fault = "tcp"         // nobody answers there
	FaultTLS        Fault = "tls"         // its certificate is not to be trusted
	FaultHTTP       Fault = "http"        // its server fails
	FaultProbe      Fault = "probe"       // it does not answer as it should
	FaultKeyRefused Fault = "key_refused" // it refuses the key
)

// errBroken is what a broken part of an Env answers.
var errBroken = errors.New("keytest: broken by the test")

// Break makes faults happen to the Manager from now on. key is the one that FaultSeal and FaultShredded are about; nil
// will do for the others. It fails the test at once when that key is not there.
func (e *Env) Break(key *keycote.Key, faults ...Fault) {
	e.t.Helper()
	for _, f := range faults {
		var err error
		switch f {
		case FaultSeal:
			err = e.breakSeal(key)
		case FaultShredded:
			err = e.shred(key)
		default:
			e.faults.set(f, true)
		}
		if err != nil {
			e.t.Fatalf("keytest: %s: %v", f, err)
		}
	}
}

// Mend ends faults, all of them when none is named. What was written to the store stays as it is.
func (e *Env) Mend(faults ...Fault) {
	if len(faults) == 0 {
		e.faults.clear()
	}
	for _, f := range faults {
		e.faults.set(f, false)
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

// inspect reports an endpoint that is well, up to the first fault: nothing that comes after it was looked at.
func (f *faults) inspect(context.Context, string) []keycote.Check {
	steps := []struct {
		name      string
		well, ill keycote.Code
		fault     Fault
		params    map[string]string
	}{
		{"name", "resolved", "no_such_host", FaultName, map[string]string{"count": "1"}},
		{"guard", "ok", "refused_address", FaultGuard, nil},
		{"tcp", "connected", "no_connection", FaultTCP, nil},
		{"tls", "certificate_ok", "certificate_bad", FaultTLS, map[string]string{"days": "60"}},
		{"http", "answered", "server_error", FaultHTTP, map[string]string{"status": "200"}},
	}
	var checks []keycote.Check
	failed := false
	for _, s := range steps {
		c := keycote.Check{Name: s.name, Status: "ok", Code: s.well, Params: s.params}
		switch {
		case failed:
			c = keycote.Check{Name: s.name, Status: "skipped", Code: "not_checked"}
		case f.has(s.fault):
			c = keycote.Check{Name: s.name, Status: "failed", Code: s.ill}
			if failed = true; s.fault == FaultHTTP {
				c.Params = map[string]string{"status": "500"}
			}
		}
		checks = append(checks, c)
	}
	return checks
}

// probe is a Prober that every endpoint satisfies.
func (f *faults) probe(context.Context, string, keycote.Secret) error {
	switch {
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

// kek is a KEK that can be away.
type kek struct {
	keycote.KEK
	faults *faults
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
