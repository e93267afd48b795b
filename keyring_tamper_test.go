package keycote_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// ringScene is a database of two tenants with a credential each, and a Manager that has opened no tenant's keyring yet.
type ringScene struct {
	*rig
	acme, evil           string // ids
	acmeValue, evilValue string
	clean                rows
}

func newRingScene(t testing.TB) *ringScene {
	t.Helper()
	s := &ringScene{rig: newRig(t, nil)}
	a, value := add(t, s.m.Tenant("acme"), "of acme")
	s.acme, s.acmeValue = a.ID, value
	e, value := add(t, s.m.Tenant("evil"), "of evil")
	s.evil, s.evilValue = e.ID, value
	s.clean = s.store.rows(t)
	return s
}

// use opens acme's credential, with a process that has and one that has not opened its keyring before.
func (s *ringScene) requireTampered(t testing.TB, what string, change func(*keycote.Item)) {
	t.Helper()
	s.store.put(t, s.clean)
	cold, warm := s.open(t, nil), s.open(t, nil)
	_, _, err := warm.Tenant("acme").Use(t.Context(), s.acme, keycote.Request{})
	require.NoError(t, err)
	dirty := s.clean.clone()
	change(dirty.item(t, "acme", "data"))
	s.store.put(t, dirty)
	before := s.store.rows(t)
	for name, m := range map[string]*keycote.Manager{"cold": cold, "warm": warm} {
		view := m.Tenant("acme")
		_, secret, err := view.Use(t.Context(), s.acme, keycote.Request{})
		if name == "warm" && err == nil {
			// The same revision as before is not read again; what it opened is genuine.
			require.Equal(t, s.acmeValue, secret.Reveal())
			continue
		}
		require.ErrorIs(t, heard(err), keycote.ErrTampered, "%s, %s", what, name)
		require.True(t, secret.IsZero())
		_, err = view.Add(t.Context(), keycote.AddParams{
			Name: "more", Endpoint: attackEndpoint, Secret: keycote.NewSecret(canary("one-more-Value-for-acme-5")),
		})
		require.ErrorIs(t, heard(err), keycote.ErrTampered, "%s, %s", what, name)
		_, err = view.Get(t.Context(), s.acme)
		require.NoError(t, err, "what can be read without the keyring can be read")
		_, secret, err = m.Tenant("evil").Use(t.Context(), s.evil, keycote.Request{})
		require.NoError(t, err, "%s, %s: another tenant does not notice", what, name)
		require.Equal(t, s.evilValue, secret.Reveal())
	}
	require.Equal(t, before.items, s.store.rows(t).items, "%s: no keyring is made over it", what)
	require.Equal(t, before.records, s.store.rows(t).records, what)
}

func TestEveryByteOfAKeyringIsHeld(t *testing.T) {
	t.Parallel()
	s := newRingScene(t)
	n := len(s.clean.item(t, "acme", "data").Body)
	m := s.open(t, nil)
	for i := range n {
		dirty := s.clean.clone()
		dirty.item(t, "acme", "data").Body[i] ^= 1 << (i % 8)
		s.store.put(t, dirty)
		_, secret, err := m.Tenant("acme").Use(t.Context(), s.acme, keycote.Request{})
		require.True(t, secret.IsZero())
		require.Error(t, heard(err), "byte %d", i)
		// No seal covers an item: its format byte and a KEK's id can be made to say something else. All of them are errors of
		// this tenant alone, none of them a value, and none an empty answer.
		require.Contains(t, []keycote.Code{keycote.ErrTampered, keycote.ErrUnavailable, keycote.ErrKEK, keycote.ErrShredded},
			keycote.CodeOf(err), "byte %d", i)
		_, secret, err = m.Tenant("evil").Use(t.Context(), s.evil, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, s.evilValue, secret.Reveal())
	}
	s.store.put(t, s.clean)
	_, secret, err := m.Tenant("acme").Use(t.Context(), s.acme, keycote.Request{})
	require.NoError(t, err, "brought back, it opens again without a restart")
	require.Equal(t, s.acmeValue, secret.Reveal())
}

func TestAnotherKeyringInItsPlace(t *testing.T) {
	t.Parallel()
	s := newRingScene(t)
	cipher := func(i *keycote.Item) { i.Body[len(i.Body)-20] ^= 1 }
	s.requireTampered(t, "a byte of the wrapped keyset", cipher)
	s.requireTampered(t, "a byte, revision raised", func(i *keycote.Item) { cipher(i); i.Revision++ })
	s.requireTampered(t, "another tenant's", func(i *keycote.Item) { i.Body = s.clean.item(t, "evil", "data").Body })
	s.requireTampered(t, "another tenant's, revision raised", func(i *keycote.Item) {
		i.Body = s.clean.item(t, "evil", "data").Body
		i.Revision++
	})
	for _, purpose := range []string{"index", "record", "trail"} {
		s.requireTampered(t, "purpose "+purpose, func(i *keycote.Item) {
			i.Body = s.clean.item(t, "", purpose).Body
			i.Revision++
		})
	}
	s.requireTampered(t, "the same at another revision", func(i *keycote.Item) { i.Revision++ })
	s.requireTampered(t, "gone", func(i *keycote.Item) {
		*i = keycote.Item{Tenant: "nobody", Space: "x", Name: "x", Revision: 1, Body: []byte{1}}
	})
	s.requireTampered(t, "emptied", func(i *keycote.Item) { i.Body = []byte{1}; i.Revision++ })
	s.requireTampered(t, "garbage", func(i *keycote.Item) { i.Body = []byte("\x01\xff\xff\xff\xff\xff"); i.Revision++ })
}

// The keyrings of record and trail are of one tenant, one revision and one kind of key: their purpose alone parts them.
func TestRootKeyringsExchanged(t *testing.T) {
	t.Parallel()
	s := newRingScene(t)
	_, token := issue(t, s.m, keycote.IssueParams{Name: "key"})
	dirty := s.store.rows(t)
	for range 2 { // and once more with raised revisions, which a running process reads
		record, trail := dirty.item(t, "", "record"), dirty.item(t, "", "trail")
		record.Body, trail.Body = trail.Body, record.Body
		s.store.put(t, dirty)
		_, err := keycote.New(t.Context(), s.store, s.kek, s.options(t, nil))
		require.ErrorIs(t, heard(err), keycote.ErrTampered)
		record.Body, trail.Body = trail.Body, record.Body
		for _, item := range []*keycote.Item{dirty.item(t, "", "index"), record, trail} {
			next, err := keycote.NextKeyring(t.Context(), *item, s.kek, nil, s.kek)
			require.NoError(t, err)
			*item = next
		}
	}
	record, trail := dirty.item(t, "", "record"), dirty.item(t, "", "trail")
	record.Body, trail.Body = trail.Body, record.Body
	s.store.put(t, dirty)
	_, _, err := s.m.Issue(t.Context(), keycote.IssueParams{Name: "fenced"})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	_, err = s.m.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
}

// An older revision put back: who knows the newer one says so; the values sealed since do not open for anybody.
func TestAnOlderKeyringPutBack(t *testing.T) {
	t.Parallel()
	s := newRingScene(t)
	all := s.store.rows(t)
	item := all.item(t, "acme", "data")
	next, err := keycote.NextKeyring(t.Context(), *item, s.kek, rotateData, s.kek)
	require.NoError(t, err)
	*item = next
	s.store.put(t, all)
	m := s.open(t, nil)
	acme := m.Tenant("acme")
	newer, newerValue := add(t, acme, "sealed under the newer key")
	for id, want := range map[string]string{s.acme: s.acmeValue, newer.ID: newerValue} {
		_, secret, err := acme.Use(t.Context(), id, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, want, secret.Reveal())
	}

	dirty := s.store.rows(t)
	*dirty.item(t, "acme", "data") = *s.clean.item(t, "acme", "data")
	s.store.put(t, dirty)
	for _, id := range []string{s.acme, newer.ID} {
		_, _, err := acme.Use(t.Context(), id, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrTampered)
	}
	cold := s.open(t, nil).Tenant("acme")
	_, secret, err := cold.Use(t.Context(), s.acme, keycote.Request{})
	require.NoError(t, err, "an older state that is genuine works as that state")
	require.Equal(t, s.acmeValue, secret.Reveal())
	_, _, err = cold.Use(t.Context(), newer.ID, keycote.Request{})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)

	// The same with the root keyrings: a running process keeps what it knows, and writes nothing that the fence lets pass.
	s = newRingScene(t)
	_, token := issue(t, s.m, keycote.IssueParams{Name: "key"})
	old := s.store.rows(t)
	all = old.clone()
	for _, name := range []string{"index", "record", "trail"} {
		item := all.item(t, "", name)
		next, err := keycote.NextKeyring(t.Context(), *item, s.kek, nil, s.kek)
		require.NoError(t, err)
		*item = next
	}
	s.store.put(t, all)
	m = s.open(t, nil)
	s.store.put(t, old)
	_, _, err = m.Issue(t.Context(), keycote.IssueParams{Name: "under the newer"})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	s.clock.advance(2 * time.Minute)
	_, err = m.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
}

// A tenant whose keyring is lost gets no new one, by no verb, not even in a process that has never seen it.
func TestLostTenantKeyring(t *testing.T) {
	t.Parallel()
	s := newRingScene(t)
	lost := s.clean.clone()
	for i := range lost.items {
		if lost.items[i].Tenant == "acme" {
			lost.items = append(lost.items[:i], lost.items[i+1:]...)
			break
		}
	}
	s.store.put(t, lost)
	m := s.open(t, nil).Tenant("acme")
	_, _, err := m.Use(t.Context(), s.acme, keycote.Request{})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	_, err = m.Add(t.Context(), keycote.AddParams{
		Name: "more", Endpoint: attackEndpoint, Secret: keycote.NewSecret(canary("one-more-Value-for-acme-6")),
	})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	_, _, err = m.Rotate(t.Context(), s.acme, keycote.RotateParams{Secret: keycote.NewSecret(canary("one-more-Value-for-acme-7"))})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	moved := "https://other.example.com/"
	_, err = m.Update(t.Context(), s.acme, keycote.Patch{
		Endpoint: &moved, Secret: keycote.NewSecret(canary("one-more-Value-for-acme-8")),
	})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	require.Equal(t, lost.items, s.store.rows(t).items)
	require.Equal(t, lost.records, s.store.rows(t).records)

	s.store.put(t, s.clean)
	_, secret, err := m.Use(t.Context(), s.acme, keycote.Request{})
	require.NoError(t, err, "brought back from a backup it opens")
	require.Equal(t, s.acmeValue, secret.Reveal())
	// A tenant whose credentials are all deleted has kept its keyring, and goes on under it.
	require.NoError(t, m.Delete(t.Context(), s.acme, ""))
	_, _ = add(t, m, "again")
	require.EqualValues(t, 1, s.store.rows(t).item(t, "acme", "data").Revision)
}

// One call to the KMS that gets lost is no tampering.
func TestOneLostCallToTheKEK(t *testing.T) {
	t.Parallel()
	s := newRingScene(t)
	for lost := range 8 {
		kek := &flakyKEK{KEK: s.kek, lose: lost}
		m, err := keycote.New(t.Context(), s.store, kek, s.options(t, nil))
		if err == nil {
			var secret keycote.Secret
			_, secret, err = m.Tenant("acme").Use(t.Context(), s.acme, keycote.Request{})
			if err == nil {
				require.Equal(t, s.acmeValue, secret.Reveal())
			}
		}
		require.NoError(t, heard(err), "call %d lost", lost)
	}
}

// flakyKEK loses one of its calls.
type flakyKEK struct {
	keycote.KEK
	n, lose int
}

func (k *flakyKEK) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if k.n++; k.n == k.lose+1 {
		return nil, errKMSAway
	}
	return k.KEK.DecryptWithContext(ctx, ciphertext, ad)
}
