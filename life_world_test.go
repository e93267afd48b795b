package keycote_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// world is a Manager over a watched memstore, with a clock and a KEK of its own.
type world struct {
	*keycote.Manager
	t     testing.TB
	clock *handClock
	store *watched
	kek   *watchedKEK
}

var worldStart = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func newWorld(t testing.TB, opts *keycote.Options) *world {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	primitive, err := aead.New(handle)
	require.NoError(t, err)
	w := &world{
		t: t, clock: &handClock{now: worldStart}, store: &watched{Store: memstore.New()},
		kek: &watchedKEK{KEK: keycote.NewKEK("test", primitive)},
	}
	w.Manager = w.another(opts)
	return w
}

// another is one more process on the same store.
func (w *world) another(opts *keycote.Options) *keycote.Manager {
	w.t.Helper()
	o := keycote.Options{}
	if opts != nil {
		o = *opts
	}
	if o.Now == nil {
		o.Now = w.clock.Now
	}
	if o.Logger == nil {
		o.Logger = testLogger(w.t)
	}
	m, err := keycote.New(w.t.Context(), w.store, w.kek, &o)
	require.NoError(w.t, err)
	return m
}

type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func (c *handClock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }

// watched counts what is asked of a Store, and lets a test step in.
type watched struct {
	keycote.Store
	mu      sync.Mutex
	reads   map[string]int
	batches []keycote.Batch // that were committed

	before func(b keycote.Batch) error            // its error is the answer, and nothing is written
	after  func(b keycote.Batch, err error) error // its error is the answer, whatever was written
}

func (s *watched) read(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads == nil {
		s.reads = map[string]int{}
	}
	s.reads[what]++
}

func (s *watched) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	s.read("get")
	return s.Store.Get(ctx, tenant, id)
}

func (s *watched) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	s.read("lookup")
	return s.Store.Lookup(ctx, digests)
}

func (s *watched) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	s.read("list")
	return s.Store.List(ctx, q)
}

func (s *watched) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	s.read("items")
	return s.Store.Items(ctx, q)
}

func (s *watched) Commit(ctx context.Context, b keycote.Batch) error {
	s.mu.Lock()
	before, after := s.before, s.after
	s.mu.Unlock()
	canaryBatch(b)
	if before != nil {
		if err := before(b); err != nil {
			return err
		}
	}
	err := s.Store.Commit(ctx, b)
	if err == nil {
		s.mu.Lock()
		s.batches = append(s.batches, b)
		s.mu.Unlock()
	}
	if after != nil {
		return after(b, err)
	}
	return err
}

// hook sets both hooks.
func (s *watched) hook(before func(keycote.Batch) error, after func(keycote.Batch, error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

// once lets f act just before the next Commit that changes a record, and never again.
func (s *watched) once(f func()) {
	s.hook(func(b keycote.Batch) error {
		if len(b.Insert)+len(b.Update)+len(b.Delete) == 0 {
			return nil
		}
		s.hook(nil, nil)
		f()
		return nil
	}, nil)
}

var errAway = errors.New("the database is away")

// away makes every Commit fail.
func (s *watched) away() { s.hook(func(keycote.Batch) error { return errAway }, nil) }

func (s *watched) back() { s.hook(nil, nil) }

// written counts the batches that were committed, and those of them that changed a record.
func (s *watched) written() (all, records int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		if len(b.Insert)+len(b.Update)+len(b.Delete) > 0 {
			records++
		}
	}
	return len(s.batches), records
}

func (s *watched) readsOf(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads[what]
}

// dump is all that the store holds, as text to be compared.
func (w *world) dump() string {
	w.t.Helper()
	var out strings.Builder
	ctx := w.t.Context()
	records, err := w.store.Store.List(ctx, keycote.Query{AllTenants: true, Limit: 1000})
	require.NoError(w.t, err)
	items, err := w.store.Store.Items(ctx, keycote.ItemQuery{AllTenants: true, Limit: 1000})
	require.NoError(w.t, err)
	events, err := w.store.Store.Events(ctx, keycote.EventQuery{AllTenants: true, Limit: 1000})
	require.NoError(w.t, err)
	uses, err := w.store.Store.Usage(ctx, keycote.UsageQuery{AllTenants: true, Limit: 1000})
	require.NoError(w.t, err)
	for _, part := range []any{records, items, events, uses} {
		b, err := json.MarshalIndent(part, "", " ")
		require.NoError(w.t, err)
		out.Write(b)
	}
	return out.String()
}

// raw is a key's record as the store has it.
func (w *world) raw(id string) keycote.Record {
	w.t.Helper()
	r, err := w.store.Store.Get(w.t.Context(), "", id)
	require.NoError(w.t, err)
	return r
}

// watchedKEK counts its calls and can be away.
type watchedKEK struct {
	keycote.KEK
	mu               sync.Mutex
	encrypts, opened int
}

func (k *watchedKEK) EncryptWithContext(ctx context.Context, plain, ad []byte) ([]byte, error) {
	k.mu.Lock()
	k.encrypts++
	k.mu.Unlock()
	return k.KEK.EncryptWithContext(ctx, plain, ad)
}

func (k *watchedKEK) DecryptWithContext(ctx context.Context, sealed, ad []byte) ([]byte, error) {
	k.mu.Lock()
	k.opened++
	k.mu.Unlock()
	return k.KEK.DecryptWithContext(ctx, sealed, ad)
}

func (k *watchedKEK) calls() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.encrypts + k.opened
}

// issue makes an access key and returns it with its value.
func (w *world) issue(p keycote.IssueParams) (*keycote.Key, string) {
	w.t.Helper()
	if p.Name == "" {
		p.Name = fmt.Sprintf("key %d", time.Now().UnixNano())
	}
	key, secret, err := w.Issue(w.t.Context(), p)
	require.NoError(w.t, err)
	canary(p.Secret.Reveal())
	return key, canary(secret.Reveal())
}

const (
	goodValue  = "sk-9Vt2!Qm#7Lx@4Rz%8Kd"
	otherValue = "sk-7Hp5?Wn&3Jc*6Tf+1Yb"
	thirdValue = "sk-4Gs8=Ek^2Mu~9Za;5Nq"
)

// add keeps a credential.
func (w *world) add(p keycote.AddParams) *keycote.Key {
	w.t.Helper()
	if p.Name == "" {
		p.Name = "upstream"
	}
	if p.Endpoint == "" {
		p.Endpoint = "https://api.example.com/v1"
	}
	if p.Secret.IsZero() {
		p.Secret = keycote.NewSecret(goodValue)
	}
	canary(p.Secret.Reveal())
	key, err := w.Add(w.t.Context(), p)
	require.NoError(w.t, err)
	return key
}

// rotate rotates and returns the new value.
func (w *world) rotate(id string, p keycote.RotateParams) (*keycote.Key, string) {
	w.t.Helper()
	canary(p.Secret.Reveal())
	key, secret, err := w.Rotate(w.t.Context(), id, p)
	require.NoError(w.t, err)
	return key, canary(secret.Reveal())
}

// verdict is the code of Verify's answer, "" for a grant.
func (w *world) verdict(token string) keycote.Code {
	w.t.Helper()
	_, err := w.Verify(w.t.Context(), token, keycote.Request{})
	return keycote.CodeOf(heard(err))
}

// events are all events of a view.
func eventsOf(t testing.TB, m *keycote.Manager, f keycote.EventFilter) []keycote.Event {
	t.Helper()
	return collect(t, m.Events(t.Context(), f))
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for x, err := range seq {
		require.NoError(t, err)
		all = append(all, x)
	}
	return all
}

func ids(keys []*keycote.Key) (list []string) {
	for _, k := range keys {
		list = append(list, k.ID)
	}
	return list
}

func states(k *keycote.Key) (list []keycote.State) {
	for _, v := range k.Versions {
		list = append(list, v.State)
	}
	return list
}

// broken are the fields and codes of a ValidationError.
func broken(t testing.TB, err error) []string {
	t.Helper()
	var invalid *keycote.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.ErrorIs(t, err, keycote.ErrInvalid)
	var e *keycote.Error
	require.False(t, errors.As(err, &e), "a verb returns a ValidationError as it is")
	var list []string
	for _, v := range invalid.Violations {
		list = append(list, v.Error())
	}
	return slices.Clip(list)
}

func as(t testing.TB, a keycote.Actor) context.Context { return keycote.WithActor(t.Context(), a) }

func ptr[T any](v T) *T { return &v }

func cancelled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func countingProber(n *int) keycote.Prober {
	return func(context.Context, string, keycote.Secret) error { *n++; return nil }
}
