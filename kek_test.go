package keycote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// A store and a KEK that do not belong together: New says so, names both, and changes nothing.
func TestWrongKEK(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	add(t, r.m.Tenant("acme"), "a credential")
	issue(t, r.m, keycote.IssueParams{Name: "a key"})
	before := r.store.rows(t)
	impostor := newSpyKEK(t, "kms:one") // the same name, another key
	missing, err := keycote.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
	require.NoError(t, err)
	tests := []struct {
		name string
		kek  keycote.KEK
		opts *keycote.Options
		want []string
	}{
		{"another id", newSpyKEK(t, "kms:two"), nil, []string{`"kms:one"`, `"kms:two"`}},
		{"another id, and retired ones", newSpyKEK(t, "kms:two"),
			&keycote.Options{Retired: []keycote.KEK{newSpyKEK(t, "kms:three")}}, []string{`"kms:one"`, `"kms:two"`, `"kms:three"`}},
		{"a recovery KEK opens nothing", newSpyKEK(t, "kms:two"), &keycote.Options{Recovery: []keycote.KEK{r.kek}},
			[]string{`"kms:one"`, `"kms:two"`}},
		{"the same id, another key", impostor, nil, []string{`"kms:one"`}},
		{"a LocalKEK whose file is missing", missing, nil, []string{`"kms:one"`, `"local:`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := keycote.New(t.Context(), r.store, tt.kek, r.options(t, tt.opts))
			require.ErrorIs(t, heard(err), keycote.ErrKEK)
			require.NotErrorIs(t, err, keycote.ErrTampered)
			require.Nil(t, m)
			for _, id := range tt.want {
				require.ErrorContains(t, err, id)
			}
			require.Equal(t, before, r.store.rows(t), "nothing was written")
		})
	}
	entries, err := os.ReadDir(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, entries, "no file was made")

	m, err := keycote.New(t.Context(), r.store, newSpyKEK(t, "kms:two"), r.options(t, &keycote.Options{Retired: []keycote.KEK{r.kek}}))
	require.NoError(t, err, "a retired KEK opens")
	require.Len(t, listed(t, m), 1)
}

func TestMissingFileOfALocalKEK(t *testing.T) {
	t.Parallel()
	r := &rig{store: newVault(), clock: newStillClock()}
	path := filepath.Join(t.TempDir(), "kek.json")
	kek, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	require.NoFileExists(t, path, "it is written at the first Encrypt")
	m, err := keycote.New(t.Context(), r.store, kek, r.options(t, nil))
	require.NoError(t, err)
	require.FileExists(t, path)
	_, value := add(t, m, "a credential")
	before := r.store.rows(t)
	moved := path + ".moved"
	require.NoError(t, os.Rename(path, moved))

	again, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	_, err = keycote.New(t.Context(), r.store, again, r.options(t, nil))
	require.ErrorIs(t, heard(err), keycote.ErrKEK)
	require.ErrorContains(t, err, kek.ID())
	require.ErrorContains(t, err, again.ID())
	require.ErrorContains(t, err, fmt.Sprintf("there is no file %q", path))
	require.NotEqual(t, kek.ID(), again.ID())
	require.NoFileExists(t, path, "a new KEK must never take the lost one's place")
	require.Equal(t, before, r.store.rows(t))

	require.NoError(t, os.Rename(moved, path))
	found, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	require.Equal(t, kek.ID(), found.ID())
	m, err = keycote.New(t.Context(), r.store, found, r.options(t, nil))
	require.NoError(t, err)
	for id := range listed(t, m) {
		_, secret, err := m.Use(t.Context(), id, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, value, secret.Reveal())
	}
}

// A store that has anything and has lost its keyrings is tampered with, and gets no new ones.
func TestLostRootKeyrings(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	add(t, r.m, "a credential")
	full := r.store.rows(t)
	only := func(names ...string) func(*rows) {
		return func(all *rows) {
			kept := all.items[:0]
			for _, i := range all.items {
				for _, name := range names {
					if i.Name == name {
						kept = append(kept, i)
					}
				}
			}
			all.items = kept
		}
	}
	tests := []struct {
		name string
		lose func(*rows)
	}{
		{"all items", only()},
		{"the root keyrings", only("data")},
		{"index", only("record", "trail", "data")},
		{"record", only("index", "trail", "data")},
		{"trail", only("index", "record", "data")},
		{"all but records", func(all *rows) { only()(all); all.events = nil }},
		{"all but events", func(all *rows) { only()(all); all.records = nil }},
		{"all but the tenant's keyring", func(all *rows) { only("data")(all); all.records, all.events = nil, nil }},
	}
	for _, tt := range tests {
		lost := full.clone()
		tt.lose(&lost)
		r.store.put(t, lost)
		before := r.store.rows(t)
		for name, kek := range map[string]keycote.KEK{"right KEK": r.kek, "wrong KEK": newSpyKEK(t, "kms:two")} {
			_, err := keycote.New(t.Context(), r.store, kek, r.options(t, nil))
			require.ErrorIs(t, heard(err), keycote.ErrTampered, "%s, %s", tt.name, name)
			require.Equal(t, before, r.store.rows(t), tt.name)
		}
	}
}

func TestNewRefusesKEKs(t *testing.T) {
	t.Parallel()
	one := newSpyKEK(t, "one")
	tests := []struct {
		name string
		kek  keycote.KEK
		opts keycote.Options
	}{
		{"none", nil, keycote.Options{}},
		{"of a nil AEAD", keycote.NewKEK("x", nil), keycote.Options{}},
		{"without an id", newSpyKEK(t, ""), keycote.Options{}},
		{"retired is the same", one, keycote.Options{Retired: []keycote.KEK{one}}},
		{"retired of the same id", one, keycote.Options{Retired: []keycote.KEK{newSpyKEK(t, "one")}}},
		{"recovery of the same id", one, keycote.Options{Recovery: []keycote.KEK{newSpyKEK(t, "one")}}},
		{"retired and recovery of one id", one,
			keycote.Options{Retired: []keycote.KEK{newSpyKEK(t, "b")}, Recovery: []keycote.KEK{newSpyKEK(t, "b")}}},
		{"a nil one among the retired", one, keycote.Options{Retired: []keycote.KEK{nil}}},
		{"a nil one among the recovery ones", one, keycote.Options{Recovery: []keycote.KEK{nil}}},
	}
	for _, tt := range tests {
		store := newVault()
		_, err := keycote.New(t.Context(), store, tt.kek, &tt.opts)
		require.ErrorIs(t, heard(err), keycote.ErrInvalid, tt.name)
		require.Empty(t, store.reads(), tt.name)
	}
}

// A recovery KEK may be one that only encrypts, its other half in a safe.
func TestRecoveryKEK(t *testing.T) {
	t.Parallel()
	r := &rig{store: newVault(), clock: newStillClock(), kek: newSpyKEK(t, "kms:one")}
	recovery := newSpyKEK(t, "safe")
	m, err := keycote.New(t.Context(), r.store, r.kek, r.options(t, &keycote.Options{Recovery: []keycote.KEK{recovery}}))
	require.NoError(t, err)
	cred, value := add(t, m, "a credential")
	_, err = keycote.New(t.Context(), r.store, r.kek, r.options(t, &keycote.Options{Recovery: []keycote.KEK{recovery}}))
	require.NoError(t, err)
	require.EqualValues(t, 4, recovery.enc.Load())
	require.Zero(t, recovery.dec.Load())

	// The day on which it is needed.
	m, err = keycote.New(t.Context(), r.store, recovery, r.options(t, nil))
	require.NoError(t, err)
	_, secret, err := m.Use(t.Context(), cred.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, value, secret.Reveal())

	// One that is away when a keyring is made: no keyring without it.
	before := r.store.rows(t)
	away := newSpyKEK(t, "safe")
	away.away.Store(&errKMSAway)
	m, err = keycote.New(t.Context(), r.store, r.kek, r.options(t, &keycote.Options{Recovery: []keycote.KEK{away}}))
	require.NoError(t, err)
	_, err = m.Tenant("new").Add(t.Context(), keycote.AddParams{
		Name: "x", Endpoint: attackEndpoint, Secret: keycote.NewSecret(canary("a-Value-for-nobody-8")),
	})
	require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
	require.ErrorIs(t, err, errKMSAway)
	require.Equal(t, before, r.store.rows(t))
}

// New on an empty store with a KEK that does not work leaves the store empty.
func TestKEKAwayAtTheStart(t *testing.T) {
	t.Parallel()
	r := &rig{store: newVault(), clock: newStillClock(), kek: newSpyKEK(t, "kms:one")}
	r.kek.away.Store(&errKMSAway)
	_, err := keycote.New(t.Context(), r.store, r.kek, r.options(t, nil))
	require.ErrorIs(t, heard(err), keycote.ErrKEK)
	require.ErrorIs(t, err, errKMSAway)
	require.Equal(t, rows{}, r.store.rows(t))
	r.kek.away.Store(nil)
	m := r.open(t, nil)
	require.Empty(t, listed(t, m))

	r.kek.away.Store(&errKMSAway)
	before := r.store.rows(t)
	_, err = keycote.New(t.Context(), r.store, r.kek, r.options(t, nil))
	require.ErrorIs(t, heard(err), keycote.ErrKEK)
	require.Equal(t, before, r.store.rows(t))
}

// A KMS that is away is an outage; it must not read as tampering, nor tampering as an outage.
func TestKEKAwayLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	cred, value := add(t, r.m, "known")
	far := r.m.Tenant("far")
	other, otherValue := add(t, far, "far away")
	_, token := issue(t, r.m, keycote.IssueParams{Name: "key"})
	m := r.open(t, nil) // has opened no tenant's keyring yet
	r.kek.away.Store(&errKMSAway)

	for verb, err := range map[string]error{
		"Use":    func() error { _, _, err := m.Use(ctx, cred.ID, keycote.Request{}); return err }(),
		"Reveal": func() error { _, err := m.Reveal(ctx, cred.ID, "to see"); return err }(),
		"Add": func() error {
			_, err := m.Tenant("new").Add(ctx, keycote.AddParams{
				Name: "x", Endpoint: attackEndpoint, Secret: keycote.NewSecret(canary("a-Value-for-nobody-9")),
			})
			return err
		}(),
		"Rotate": func() error {
			_, _, err := m.Rotate(ctx, cred.ID, keycote.RotateParams{Secret: keycote.NewSecret(canary("a-Value-for-nobody-10"))})
			return err
		}(),
	} {
		require.ErrorIs(t, heard(err), keycote.ErrUnavailable, verb)
		require.ErrorIs(t, err, errKMSAway, verb)
		require.NotErrorIs(t, err, keycote.ErrTampered, verb)
	}
	_, err := m.Verify(ctx, token, keycote.Request{})
	require.NoError(t, err, "access keys need no KMS")
	_, err = m.Get(ctx, cred.ID)
	require.NoError(t, err)
	_, secret, err := r.m.Use(ctx, cred.ID, keycote.Request{})
	require.NoError(t, err, "a process that holds the keyring goes on")
	require.Equal(t, value, secret.Reveal())

	// It comes back, and nothing has to be started again.
	r.kek.away.Store(nil)
	_, secret, err = m.Use(ctx, cred.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, value, secret.Reveal())

	// With the KEK there, a keyring that does not open was tampered with.
	dirty := r.store.rows(t)
	item := dirty.item(t, "far", "data")
	item.Body[len(item.Body)-1] ^= 1
	r.store.put(t, dirty)
	_, _, err = m.Tenant("far").Use(ctx, other.ID, keycote.Request{})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	// And with the KEK away nobody can tell.
	r.kek.away.Store(&errKMSAway)
	_, _, err = m.Tenant("far").Use(ctx, other.ID, keycote.Request{})
	require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
	require.NotEmpty(t, otherValue)
}

// The root keyrings were changed elsewhere while the KMS is away from this process: an outage, not a wrong KEK.
func TestKEKAwayWhenTheRootKeyringsChange(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, token := issue(t, r.m, keycote.IssueParams{Name: "key"})
	all := r.store.rows(t)
	for _, name := range []string{"index", "record", "trail"} {
		item := all.item(t, "", name)
		next, err := keycote.NextKeyring(t.Context(), *item, r.kek, nil, r.kek)
		require.NoError(t, err)
		*item = next
	}
	r.store.put(t, all)
	r.kek.away.Store(&errKMSAway)
	_, _, err := r.m.Issue(t.Context(), keycote.IssueParams{Name: "fenced"})
	require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
	require.ErrorIs(t, err, errKMSAway)
	_, err = r.m.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err, "what it verified before is still genuine")
	r.kek.away.Store(nil)
	issue(t, r.m, keycote.IssueParams{Name: "through the fence"})
}

// The KEK is asked per keyring and process, never per key.
func TestCallsOfTheKEK(t *testing.T) {
	t.Parallel()
	r := newRig(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
	require.EqualValues(t, 6, r.kek.calls(), "three keyrings made, and read back")
	r.kek.enc.Store(0)
	r.kek.dec.Store(0)
	const credentials = 1000
	var ids []string
	values := map[string]string{}
	for i := range credentials {
		cred, value := add(t, r.m, fmt.Sprint("credential ", i))
		ids, values[cred.ID] = append(ids, cred.ID), value
	}
	open := func(m *keycote.Manager) {
		for _, id := range ids {
			_, secret, err := m.Use(t.Context(), id, keycote.Request{})
			require.NoError(t, err)
			require.Equal(t, values[id], secret.Reveal())
		}
	}
	open(r.m)
	require.LessOrEqual(t, r.kek.calls(), int64(2))
	warm := r.kek.calls()
	open(r.m)
	require.Equal(t, warm, r.kek.calls())

	second := r.open(t, nil)
	warm = r.kek.calls()
	open(second)
	require.EqualValues(t, 1, r.kek.calls()-warm)
	open(second)
	require.EqualValues(t, 1, r.kek.calls()-warm)
}

// Many who need a tenant's keyring at once ask the KEK once.
func TestKeyringsAreOpenedOnceForMany(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	cred, _ := add(t, r.m, "one")
	m := r.open(t, nil)
	before := r.kek.calls()
	errs := make(chan error)
	const many = 32
	for range many {
		go func() {
			_, _, err := m.Use(context.WithoutCancel(t.Context()), cred.ID, keycote.Request{})
			errs <- err
		}()
	}
	for range many {
		require.NoError(t, <-errs)
	}
	require.EqualValues(t, 1, r.kek.calls()-before)
}

// slowAEAD is a client of a KMS that knows no contexts.
type slowAEAD struct {
	called chan struct{}
	answer chan error
}

func (a slowAEAD) Encrypt([]byte, []byte) ([]byte, error) {
	a.called <- struct{}{}
	return []byte("late"), <-a.answer
}
func (a slowAEAD) Decrypt(c, ad []byte) ([]byte, error) { return a.Encrypt(c, ad) }

func TestKEKWithoutContexts(t *testing.T) {
	t.Parallel()
	a := slowAEAD{make(chan struct{}), make(chan error)}
	kek := keycote.NewKEK("old client", a)
	require.Equal(t, "old client", kek.ID())
	for name, call := range map[string]func(context.Context, []byte, []byte) ([]byte, error){
		"encrypt": kek.EncryptWithContext, "decrypt": kek.DecryptWithContext,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			b, err := call(ctx, nil, nil)
			if b != nil {
				err = errors.New("an answer came through")
			}
			done <- err
		}()
		<-a.called
		cancel()
		a.answer <- nil
		require.ErrorIs(t, <-done, context.Canceled, "%s: its answer is thrown away", name)
		_, err := call(ctx, nil, nil)
		require.ErrorIs(t, err, context.Canceled, "%s: it is not called any more", name)
	}
}

// A tenant's keyring under a KEK that has opened nothing else: that this one is away is no sign of tampering, however
// well the other one answers. That it answers, and does not open it, is.
func TestTheKEKOfATenantAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	was, is := r.kek, newSpyKEK(t, "kms:two")
	open := func() *keycote.Manager {
		m, err := keycote.New(t.Context(), r.store, is, r.options(t, &keycote.Options{Retired: []keycote.KEK{was}}))
		require.NoError(t, err)
		return m.Tenant("acme")
	}
	k, err := open().Add(t.Context(), keycote.AddParams{
		Name: "k", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("Some-long-Value-of-theirs-1"),
	})
	require.NoError(t, err)
	use := func(m *keycote.Manager) error {
		_, _, err := m.Use(t.Context(), k.ID, keycote.Request{})
		return err
	}
	require.NoError(t, use(open()))
	is.away.Store(&errKMSAway)
	m := open()
	err = use(m)
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	require.NotErrorIs(t, err, keycote.ErrTampered)
	is.away.Store(nil)
	require.NoError(t, use(m))

	items, err := r.store.Items(t.Context(), keycote.ItemQuery{Space: "keyring", Tenant: "acme", Name: "data", Limit: 1})
	require.NoError(t, err)
	broken := items[0]
	broken.Body = bytes.Clone(broken.Body)
	broken.Body[len(broken.Body)-1] ^= 1
	broken.Revision++
	require.NoError(t, r.store.Commit(t.Context(), keycote.Batch{ID: "broken", Items: []keycote.Item{broken}}))
	require.ErrorIs(t, use(open()), keycote.ErrTampered)
}
