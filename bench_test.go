package keycote_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// The figures of docs/performance.md. Each goal stands beside its limit, so that both are measured in one run:
//
//	go test -run '^$' -bench . -count 7 .

var benchRequest = keycote.Request{Scopes: []string{"orders:read"}, Route: "GET /orders/{id}", UserAgent: "bench/1.0"}

func benchManager(b *testing.B, opts *keycote.Options) *keycote.Manager {
	b.Helper()
	return benchOver(b, memstore.New(), opts)
}

// weightless answers what its Store answered before, and takes every Batch: what is left of a call is the library's own.
type weightless struct {
	keycote.Store
	on     bool
	record keycote.Record
	items  map[keycote.ItemQuery][]keycote.Item
}

func (w *weightless) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	if w.on {
		return w.record, nil
	}
	r, err := w.Store.Get(ctx, tenant, id)
	w.record = r
	return r, err
}

func (w *weightless) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	if items, ok := w.items[q]; ok && w.on {
		return items, nil
	}
	items, err := w.Store.Items(ctx, q)
	if w.items == nil {
		w.items = map[keycote.ItemQuery][]keycote.Item{}
	}
	w.items[q] = items
	return items, err
}

func (w *weightless) Commit(ctx context.Context, b keycote.Batch) error {
	if w.on {
		return nil
	}
	return w.Store.Commit(ctx, b)
}

func benchOver(b testing.TB, store keycote.Store, opts *keycote.Options) *keycote.Manager {
	b.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(b, err)
	kek, err := aead.New(handle)
	require.NoError(b, err)
	m, err := keycote.New(b.Context(), store, keycote.NewKEK("bench", kek), opts)
	require.NoError(b, err)
	return m
}

// step is what is timed by itself.
type step struct {
	name string
	run  func()
}

func bench(b *testing.B, steps ...step) {
	for _, s := range steps {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.run()
			}
		})
	}
}

// BenchmarkVerify is F2 and F4: Verify straight from memstore, and what it refuses, beside one Tink PRF call.
func BenchmarkVerify(b *testing.B) {
	m := benchManager(b, nil)
	ctx := context.Background()
	r := benchRequest
	var token string
	for i := range 1000 {
		_, secret, err := m.Issue(ctx, keycote.IssueParams{
			Name: fmt.Sprintf("key %d", i), App: "shop", Scopes: []string{"orders:read", "orders:write"},
		})
		require.NoError(b, err)
		token = secret.Reveal()
	}
	mistyped := []byte(token)
	mistyped[20] ^= 1
	forged := benchManager(b, nil)
	_, foreign, err := forged.Issue(ctx, keycote.IssueParams{Name: "foreign"})
	require.NoError(b, err)
	refused := func(value string) func() {
		return func() {
			if _, err := m.Verify(ctx, value, r); err == nil {
				b.Fatal("verified")
			}
		}
	}
	handle, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(b, err)
	set, err := prf.NewPRFSet(handle)
	require.NoError(b, err)
	message := make([]byte, 46)
	bench(b,
		step{"limit/tink-prf", func() { _, _ = set.ComputePrimaryPRF(message, 32) }},
		step{"valid", func() {
			if _, err := m.Verify(ctx, token, r); err != nil {
				b.Fatal(err)
			}
		}},
		step{"mistyped", refused(string(mistyped))},
		step{"made-elsewhere", refused(foreign.Reveal())},
		step{"malformed", refused("not-of-issued-form-at-all")},
	)
}

// BenchmarkAdd is F6 for Add: all but its strength estimate and its store, beside its Tink and HMAC calls.
func BenchmarkAdd(b *testing.B) {
	ctx := context.Background()
	p := primitives(b)
	store := &weightless{Store: memstore.New()}
	m := benchOver(b, store, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
	params := keycote.AddParams{
		Name: "credential", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(rand.Text() + rand.Text()),
		Reason: "bench",
	}
	_, err := m.Add(ctx, params)
	require.NoError(b, err)
	store.on = true
	bench(b,
		step{"limit/crypto", func() { p.seal(); p.record(); p.event(); p.commitments(1) }},
		step{"add", func() {
			if _, err := m.Add(ctx, params); err != nil {
				b.Fatal(err)
			}
		}},
	)
}

// crypto are the calls that Add and Reveal cannot do without, on inputs of the same size.
type crypto struct{ seal, open, record, verify, event func() }

func (crypto) commitments(n int) {
	for range n {
		h := hmac.New(sha256.New, make([]byte, 16))
		h.Write(make([]byte, 24))
		h.Sum(nil)
	}
}

func primitives(b *testing.B) crypto {
	dataHandle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(b, err)
	data, err := aead.New(dataHandle)
	require.NoError(b, err)
	macHandle, err := keyset.NewHandle(mac.HMACSHA256Tag256KeyTemplate())
	require.NoError(b, err)
	seal, err := mac.New(macHandle)
	require.NoError(b, err)
	value, ad := make([]byte, 52), make([]byte, 110)
	sealed, err := data.Encrypt(value, ad)
	require.NoError(b, err)
	body, event := make([]byte, 420), make([]byte, 240)
	tag, err := seal.ComputeMAC(body)
	require.NoError(b, err)
	return crypto{
		seal:   func() { _, _ = data.Encrypt(value, ad) },
		open:   func() { _, _ = data.Decrypt(sealed, ad) },
		record: func() { _, _ = seal.ComputeMAC(body); sha256.Sum256(body) },
		verify: func() { _ = seal.VerifyMAC(tag, body) },
		event:  func() { _, _ = seal.ComputeMAC(event) },
	}
}

// BenchmarkReveal is F6 for Reveal: all but its store, beside its Tink and HMAC calls.
func BenchmarkReveal(b *testing.B) {
	ctx := context.Background()
	p := primitives(b)
	store := &weightless{Store: memstore.New()}
	m := benchOver(b, store, nil)
	key, err := m.Add(ctx, keycote.AddParams{
		Name: "credential", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(rand.Text() + rand.Text()),
	})
	require.NoError(b, err)
	_, err = m.Reveal(ctx, key.ID, "bench")
	require.NoError(b, err)
	store.on = true
	bench(b,
		step{"limit/crypto", func() { p.verify(); p.event(); p.commitments(1); p.open() }},
		step{"reveal", func() {
			if _, err := m.Reveal(ctx, key.ID, "bench"); err != nil {
				b.Fatal(err)
			}
		}},
	)
}
