package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
)

// request is what all keys here are verified for.
func request() keycote.Request {
	return keycote.Request{Scopes: []string{"orders:read"}, Route: "GET /orders/{id}", UserAgent: "bench/1.0"}
}

// kek is a key-encryption key in memory that counts how often it is asked.
type kek struct {
	keycote.KEK
	calls atomic.Int64
}

func newKEK() (*kek, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	return &kek{KEK: keycote.NewKEK("bench", primitive)}, nil
}

func (k *kek) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.KEK.EncryptWithContext(ctx, plaintext, ad)
}

func (k *kek) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	k.calls.Add(1)
	return k.KEK.DecryptWithContext(ctx, ciphertext, ad)
}

// newManager opens a Manager with a KEK of its own over an empty store.
func newManager(ctx context.Context, store keycote.Store, opts *keycote.Options) (*keycote.Manager, error) {
	k, err := newKEK()
	if err != nil {
		return nil, err
	}
	return keycote.New(ctx, store, k, opts)
}

// issue makes n keys with two scopes, and returns their values.
func issue(ctx context.Context, m *keycote.Manager, n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		_, secret, err := m.Issue(ctx, keycote.IssueParams{
			Name: fmt.Sprintf("key %d", i), App: "shop", Scopes: []string{"orders:read", "orders:write"},
		})
		if err != nil {
			return nil, err
		}
		tokens[i] = secret.Reveal()
	}
	return tokens, nil
}

// verifyAll verifies each once, which fills a cache.
func verifyAll(ctx context.Context, m *keycote.Manager, tokens []string) error {
	r := request()
	for _, token := range tokens {
		if _, err := m.Verify(ctx, token, r); err != nil {
			return err
		}
	}
	return nil
}

// inTurn walks through n things in leaps, so that none is where the processor expects it.
func inTurn(n int) func() int {
	i := 0
	return func() int {
		i = (i + 7919) % n
		return i
	}
}

// reads counts the lookups that reach a Store.
type reads struct {
	keycote.Store
	n atomic.Int64
}

func (r *reads) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	r.n.Add(1)
	return r.Store.Lookup(ctx, digests)
}
