package keycote_test

import (
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// vault is a memstore that a test may count, disturb, read and rewrite as somebody does who writes to the database past
// the library.
type vault struct {
	mu    sync.Mutex
	mem   *memstore.Store
	calls map[string]int
	total int
	// disturb, when set, stands between: n counts the calls from 0, and call does what was asked for.
	disturb func(ctx context.Context, op string, n int, call func(context.Context) error) error
}

func newVault() *vault { return &vault{mem: memstore.New(), calls: map[string]int{}} }

func (v *vault) do(ctx context.Context, op string, call func(context.Context, *memstore.Store) error) error {
	v.mu.Lock()
	mem, n, disturb := v.mem, v.total, v.disturb
	v.total++
	v.calls[op]++
	v.mu.Unlock()
	if disturb == nil {
		return call(ctx, mem)
	}
	return disturb(ctx, op, n, func(ctx context.Context) error { return call(ctx, mem) })
}

func (v *vault) Get(ctx context.Context, tenant, id string) (out keycote.Record, err error) {
	err = v.do(ctx, "get", func(ctx context.Context, s *memstore.Store) (err error) {
		out, err = s.Get(ctx, tenant, id)
		return err
	})
	if err != nil {
		out = keycote.Record{}
	}
	return out, err
}

func (v *vault) Lookup(ctx context.Context, digests [][]byte) (out keycote.Record, err error) {
	err = v.do(ctx, "lookup", func(ctx context.Context, s *memstore.Store) (err error) {
		out, err = s.Lookup(ctx, digests)
		return err
	})
	if err != nil {
		out = keycote.Record{}
	}
	return out, err
}

func (v *vault) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	return page(ctx, v, "list", func(ctx context.Context, s *memstore.Store) ([]keycote.Record, error) { return s.List(ctx, q) })
}

func (v *vault) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	return page(ctx, v, "items", func(ctx context.Context, s *memstore.Store) ([]keycote.Item, error) { return s.Items(ctx, q) })
}

func (v *vault) Events(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
	return page(ctx, v, "events", func(ctx context.Context, s *memstore.Store) ([]keycote.EventRecord, error) {
		return s.Events(ctx, q)
	})
}

func (v *vault) Usage(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
	return page(ctx, v, "usage", func(ctx context.Context, s *memstore.Store) ([]keycote.UseCount, error) { return s.Usage(ctx, q) })
}

func page[T any](
	ctx context.Context, v *vault, op string, call func(context.Context, *memstore.Store) ([]T, error),
) (out []T, err error) {
	err = v.do(ctx, op, func(ctx context.Context, s *memstore.Store) (err error) {
		out, err = call(ctx, s)
		return err
	})
	if err != nil {
		out = nil
	}
	return out, err
}

func (v *vault) Changes(ctx context.Context, after string) (out []keycote.Change, next string, err error) {
	err = v.do(ctx, "changes", func(ctx context.Context, s *memstore.Store) (err error) {
		out, next, err = s.Changes(ctx, after)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return out, next, nil
}

func (v *vault) Commit(ctx context.Context, b keycote.Batch) error {
	canaryBatch(b)
	return v.do(ctx, "commit", func(ctx context.Context, s *memstore.Store) error { return s.Commit(ctx, b) })
}

// reads returns how many calls of each sort were made since it was last asked.
func (v *vault) reads() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.calls
	v.calls = map[string]int{}
	return out
}

// between puts f between the library and the store, and returns the count of calls from 0 again.
func (v *vault) between(f func(ctx context.Context, op string, n int, call func(context.Context) error) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.disturb, v.total = f, 0
}

// rows is everything that a database holds.
type rows struct {
	records []keycote.Record
	items   []keycote.Item
	events  []keycote.EventRecord
	uses    []keycote.UseCount
}

// rows reads the database past the library. What it returns may be changed.
func (v *vault) rows(t testing.TB) (out rows) {
	t.Helper()
	v.mu.Lock()
	mem := v.mem
	v.mu.Unlock()
	ctx := context.Background()
	var err error
	out.records, err = mem.List(ctx, keycote.Query{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	out.items, err = mem.Items(ctx, keycote.ItemQuery{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	out.events, err = mem.Events(ctx, keycote.EventQuery{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	out.uses, err = mem.Usage(ctx, keycote.UsageQuery{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	require.Less(t, max(len(out.records), len(out.items), len(out.events), len(out.uses)), 1000, "more than one page")
	return out.clone()
}

func (r rows) clone() (out rows) {
	for _, x := range r.records {
		x.Body, x.Seal, x.Labels, x.Uses = slices.Clone(x.Body), slices.Clone(x.Seal), maps.Clone(x.Labels), slices.Clone(x.Uses)
		x.Digests = slices.Clone(x.Digests)
		for i := range x.Digests {
			x.Digests[i] = slices.Clone(x.Digests[i])
		}
		out.records = append(out.records, x)
	}
	for _, x := range r.items {
		x.Body = slices.Clone(x.Body)
		out.items = append(out.items, x)
	}
	for _, x := range r.events {
		x.Body, x.Seal, x.Personal = slices.Clone(x.Body), slices.Clone(x.Seal), slices.Clone(x.Personal)
		out.events = append(out.events, x)
	}
	out.uses = slices.Clone(r.uses)
	return out
}

func (r rows) record(t testing.TB, id string) *keycote.Record {
	t.Helper()
	i := slices.IndexFunc(r.records, func(x keycote.Record) bool { return x.ID == id })
	require.GreaterOrEqual(t, i, 0, "no row %s", id)
	return &r.records[i]
}

func (r rows) item(t testing.TB, tenant, name string) *keycote.Item {
	t.Helper()
	i := slices.IndexFunc(r.items, func(x keycote.Item) bool { return x.Tenant == tenant && x.Name == name })
	require.GreaterOrEqual(t, i, 0, "no item %s of %q", name, tenant)
	return &r.items[i]
}

// put writes r as the whole database, whatever was there.
func (v *vault) put(t testing.TB, r rows) {
	t.Helper()
	r = r.clone()
	mem, ctx := memstore.New(), context.Background()
	require.NoError(t, mem.Commit(ctx, keycote.Batch{Insert: r.records, Events: r.events, Uses: r.uses}))
	for _, item := range r.items {
		for n := int64(1); n <= item.Revision; n++ {
			step := item
			step.Revision = n
			require.NoError(t, mem.Commit(ctx, keycote.Batch{Items: []keycote.Item{step}}))
		}
	}
	v.mu.Lock()
	v.mem = mem
	v.mu.Unlock()
}

// stillClock stands still until it is moved.
type stillClock struct{ us atomic.Int64 }

var attackEpoch = time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)

func newStillClock() *stillClock {
	c := &stillClock{}
	c.us.Store(attackEpoch.UnixMicro())
	return c
}

func (c *stillClock) Now() time.Time          { return time.UnixMicro(c.us.Load()).UTC() }
func (c *stillClock) advance(d time.Duration) { c.us.Add(d.Microseconds()) }

// spyKEK counts, and can be away.
type spyKEK struct {
	keycote.KEK
	enc, dec atomic.Int64
	away     atomic.Pointer[error]
}

func newSpyKEK(t testing.TB, id string) *spyKEK {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	primitive, err := aead.New(handle)
	require.NoError(t, err)
	return &spyKEK{KEK: keycote.NewKEK(id, primitive)}
}

func (k *spyKEK) calls() int64 { return k.enc.Load() + k.dec.Load() }

func (k *spyKEK) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	k.enc.Add(1)
	if err := k.away.Load(); err != nil {
		return nil, *err
	}
	return k.KEK.EncryptWithContext(ctx, plaintext, ad)
}

func (k *spyKEK) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	k.dec.Add(1)
	if err := k.away.Load(); err != nil {
		return nil, *err
	}
	return k.KEK.DecryptWithContext(ctx, ciphertext, ad)
}

var (
	errKMSAway = errors.New("kms: connection refused")
	errDriver  = errors.New("driver: bad connection")
)

// rig is a Manager over a vault, with a clock and a KEK.
type rig struct {
	store *vault
	clock *stillClock
	kek   *spyKEK
	m     *keycote.Manager
}

func newRig(t testing.TB, opts *keycote.Options) *rig {
	t.Helper()
	r := &rig{store: newVault(), clock: newStillClock(), kek: newSpyKEK(t, "kms:one")}
	r.m = r.open(t, opts)
	return r
}

// open is another process on the same store.
func (r *rig) open(t testing.TB, opts *keycote.Options) *keycote.Manager {
	t.Helper()
	m, err := keycote.New(t.Context(), r.store, r.kek, r.options(t, opts))
	require.NoError(t, err)
	return m
}

func (r *rig) options(t testing.TB, opts *keycote.Options) *keycote.Options {
	o := keycote.Options{}
	if opts != nil {
		o = *opts
	}
	o.Now, o.Logger = r.clock.Now, testLogger(t)
	return &o
}

// issue makes an access key and registers its value.
func issue(t testing.TB, m *keycote.Manager, p keycote.IssueParams) (*keycote.Key, string) {
	t.Helper()
	key, secret, err := m.Issue(t.Context(), p)
	require.NoError(t, err)
	value := secret.Reveal()
	if value == "" {
		value = p.Secret.Reveal()
	}
	return key, canary(value)
}

const attackEndpoint = "https://api.example.com/v1"

// add keeps a credential whose value is made of its name.
func add(t testing.TB, m *keycote.Manager, name string) (*keycote.Key, string) {
	t.Helper()
	value := canary("vA7-" + hex.EncodeToString([]byte(name)) + "-quite-Strong-9xK")
	key, err := m.Add(t.Context(), keycote.AddParams{Name: name, Endpoint: attackEndpoint, Secret: keycote.NewSecret(value)})
	require.NoError(t, err)
	return key, value
}

// listed returns all keys by id, and fails on an error.
func listed(t testing.TB, m *keycote.Manager) map[string]*keycote.Key {
	t.Helper()
	out := map[string]*keycote.Key{}
	for key, err := range m.List(t.Context(), keycote.Filter{}) {
		require.NoError(t, heard(err))
		require.NotContains(t, out, key.ID, "listed twice")
		out[key.ID] = key
	}
	return out
}
