package keycote_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/keycote/keycote"
)

// rotated returns a change that adds a key and makes it the primary one.
func rotated(template *tinkpb.KeyTemplate) func(*keyset.Manager) error {
	return func(keys *keyset.Manager) error {
		id, err := keys.Add(template)
		if err != nil {
			return err
		}
		return keys.SetPrimary(id)
	}
}

func rotateData(keys *keyset.Manager) error { return rotated(aead.AES256GCMKeyTemplate())(keys) }

// dropOld leaves the primary key alone.
func dropOld(keys *keyset.Manager) error {
	handle, err := keys.Handle()
	if err != nil {
		return err
	}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return err
		}
		if !entry.IsPrimary() {
			if err := keys.Delete(entry.KeyID()); err != nil {
				return err
			}
		}
	}
	return nil
}

// change commits the next revision of a keyring, as another process does: with a Batch, so that the feed tells of it.
func (r *rig) change(t testing.TB, tenant, name string, change func(*keyset.Manager) error, to ...keycote.KEK) {
	t.Helper()
	next, err := keycote.NextKeyring(t.Context(), *r.store.rows(t).item(t, tenant, name), r.kek, change, to...)
	require.NoError(t, err)
	require.NoError(t, r.store.Commit(t.Context(), keycote.Batch{ID: fmt.Sprint(tenant, name, next.Revision), Items: []keycote.Item{next}}))
}

// (a) A re-wraps while B, still on the old KEK, makes a tenant keyring: B's Batch names the root keyrings and commits
// nothing.
func TestRaceOfARewrapAndANewTenant(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	next := newSpyKEK(t, "kms:two")
	both, err := keycote.New(t.Context(), r.store, next, r.options(t, &keycote.Options{Retired: []keycote.KEK{r.kek}}))
	require.NoError(t, err)
	stale := r.m // knows the old KEK alone
	before := r.store.rows(t)
	for _, name := range []string{"index", "record", "trail"} {
		r.change(t, "", name, nil, next)
	}
	_, err = stale.Tenant("acme").Add(t.Context(), keycote.AddParams{
		Name: "x", Endpoint: attackEndpoint, Secret: keycote.NewSecret(canary("a-Value-under-the-old-KEK")),
	})
	require.ErrorIs(t, heard(err), keycote.ErrKEK, "it cannot follow, and says why")
	require.ErrorContains(t, err, `"kms:two"`)
	after := r.store.rows(t)
	require.Equal(t, before.records, after.records)
	require.Len(t, after.items, 3, "no keyring under the KEK that is on its way out")

	// One that was given both follows, and its new keyring is under the new KEK.
	cred, value := add(t, both.Tenant("acme"), "x")
	fresh, err := keycote.New(t.Context(), r.store, next, r.options(t, nil))
	require.NoError(t, err)
	_, secret, err := fresh.Tenant("acme").Use(t.Context(), cred.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, value, secret.Reveal())
}

// (b) A shreds while B seals under the cached keyring: B's Batch commits nothing, and its retry finds the tombstone.
func TestRaceOfAShredAndASeal(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	acme := r.m.Tenant("acme")
	cred, _ := add(t, acme, "before")
	other, otherValue := add(t, r.m.Tenant("other"), "of another tenant")
	_, token := issue(t, acme, keycote.IssueParams{Name: "access keys need no tenant keyring"})
	stone := keycote.Tombstone(*r.store.rows(t).item(t, "acme", "data"), r.clock.Now())
	require.NoError(t, r.store.Commit(t.Context(), keycote.Batch{ID: "shred", Items: []keycote.Item{stone}}))
	before := r.store.rows(t)

	secret := keycote.NewSecret(canary("a-Value-after-the-end-1"))
	moved := "https://other.example.com/"
	for verb, call := range map[string]func(m *keycote.Manager) error{
		"Add": func(m *keycote.Manager) error {
			_, err := m.Add(t.Context(), keycote.AddParams{Name: "after", Endpoint: attackEndpoint, Secret: secret})
			return err
		},
		"Rotate": func(m *keycote.Manager) error {
			_, _, err := m.Rotate(t.Context(), cred.ID, keycote.RotateParams{Secret: secret})
			return err
		},
		"Update": func(m *keycote.Manager) error {
			_, err := m.Update(t.Context(), cred.ID, keycote.Patch{Endpoint: &moved, Secret: secret})
			return err
		},
		"Use": func(m *keycote.Manager) error {
			_, _, err := m.Use(t.Context(), cred.ID, keycote.Request{})
			return err
		},
		"Reveal": func(m *keycote.Manager) error {
			_, err := m.Reveal(t.Context(), cred.ID, "to see")
			return err
		},
	} {
		for name, m := range map[string]*keycote.Manager{"stale": r.m, "fresh": r.open(t, nil)} {
			require.ErrorIs(t, heard(call(m.Tenant("acme"))), keycote.ErrShredded, "%s, %s", verb, name)
		}
	}
	require.Equal(t, before.records, r.store.rows(t).records)
	require.Equal(t, before.items, r.store.rows(t).items, "a tombstone stays")
	_, err := acme.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	_, err = acme.Get(t.Context(), cred.ID)
	require.NoError(t, err)
	_, found, err := r.m.Tenant("other").Use(t.Context(), other.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, otherValue, found.Reveal())
	require.NoError(t, acme.Delete(t.Context(), cred.ID, ""))
}

// (c) A drops a key while B seals under it: B's Batch commits nothing, and its retry seals under the key that is left.
func TestRaceOfADroppedKeyAndASeal(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	acme := r.m.Tenant("acme")
	gone, _ := add(t, acme, "sealed under the key that goes")
	r.change(t, "acme", "data", rotateData, r.kek)
	r.change(t, "acme", "data", dropOld, r.kek)
	r.store.reads()
	cred, value := add(t, acme, "sealed by one who did not know")
	require.Equal(t, 2, r.store.reads()["commit"], "refused by the fence once")
	for _, m := range []*keycote.Manager{r.m, r.open(t, nil)} {
		_, secret, err := m.Tenant("acme").Use(t.Context(), cred.ID, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, value, secret.Reveal())
		_, _, err = m.Tenant("acme").Use(t.Context(), gone.ID, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrTampered, "dropped too early; nothing can open it")
	}
}

// (d) B seals under a new key that A has not loaded: A reloads and reads.
func TestRaceOfANewKeyAndAReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	old, oldToken := issue(t, r.m, keycote.IssueParams{Name: "old"})
	chosen, chosenValue := issue(t, r.m, keycote.IssueParams{Name: "old chosen", Secret: keycote.NewSecret("chosen-Before-it-44")})
	cred, credValue := add(t, r.m, "old")
	var stale []*keycote.Manager // one for each verb below
	for range 8 {
		m := r.open(t, nil)
		_, _, err := m.Use(t.Context(), cred.ID, keycote.Request{})
		require.NoError(t, err)
		stale = append(stale, m)
	}
	r.change(t, "", "index", rotated(prf.HMACSHA256PRFKeyTemplate()), r.kek)
	r.change(t, "", "record", rotated(mac.HMACSHA256Tag256KeyTemplate()), r.kek)
	r.change(t, "", "trail", rotated(mac.HMACSHA256Tag256KeyTemplate()), r.kek)
	r.change(t, "", "data", rotateData, r.kek)
	b := r.open(t, nil)
	key, token := issue(t, b, keycote.IssueParams{Name: "new"})
	newer, newerValue := add(t, b, "new")
	_, value := issue(t, b, keycote.IssueParams{Name: "new chosen", Secret: keycote.NewSecret("chosen-After-it-45x")})

	follow := map[string]func(m *keycote.Manager){
		"Verify a token": func(m *keycote.Manager) {
			grant, err := m.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, heard(err))
			require.Equal(t, key.ID, grant.KeyID)
		},
		"Verify a chosen value": func(m *keycote.Manager) {
			_, err := m.Verify(t.Context(), value, keycote.Request{})
			require.NoError(t, heard(err))
		},
		"Get": func(m *keycote.Manager) { _, err := m.Get(t.Context(), key.ID); require.NoError(t, heard(err)) },
		"List": func(m *keycote.Manager) {
			for _, k := range listed(t, m) {
				require.Equal(t, keycote.StateActive, k.State, k.Name)
			}
		},
		"Events": func(m *keycote.Manager) {
			for _, err := range m.Events(t.Context(), keycote.EventFilter{}) {
				require.NoError(t, heard(err))
			}
		},
		"Use": func(m *keycote.Manager) {
			for id, want := range map[string]string{cred.ID: credValue, newer.ID: newerValue} {
				_, secret, err := m.Use(t.Context(), id, keycote.Request{})
				require.NoError(t, heard(err))
				require.Equal(t, want, secret.Reveal())
			}
		},
		"Issue": func(m *keycote.Manager) {
			_, token := issue(t, m, keycote.IssueParams{Name: "by the stale one"})
			_, err := b.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, heard(err))
		},
		"Rotate": func(m *keycote.Manager) {
			_, _, err := m.Rotate(t.Context(), key.ID, keycote.RotateParams{Overlap: time.Hour})
			require.NoError(t, heard(err))
		},
	}
	require.Len(t, follow, len(stale))
	after := r.store.rows(t)
	for verb, call := range follow {
		a := stale[0]
		stale = stale[1:]
		r.store.put(t, after)
		call(a)
		for value, want := range map[string]string{oldToken: old.ID, chosenValue: chosen.ID} {
			grant, err := a.Verify(t.Context(), value, keycote.Request{})
			require.NoError(t, heard(err), "%s: what was made under the old keys", verb)
			require.Equal(t, want, grant.KeyID)
		}
	}
}

// Many callers who meet an unknown key at once all wait for the one reading of it.
func TestRaceOfANewKeyAndManyReaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	a := r.open(t, nil)
	r.change(t, "", "index", rotated(prf.HMACSHA256PRFKeyTemplate()), r.kek)
	_, token := issue(t, r.open(t, nil), keycote.IssueParams{Name: "new"})
	const many = 16
	arrived, goOn := make(chan struct{}), make(chan struct{})
	r.store.between(func(ctx context.Context, op string, n int, call func(context.Context) error) error {
		if op == "items" {
			close(arrived) // it panics when the keyrings are read twice
			<-goOn
		}
		return call(ctx)
	})
	errs := make(chan error)
	verify := func() {
		_, err := a.Verify(context.WithoutCancel(t.Context()), token, keycote.Request{})
		errs <- err
	}
	go verify()
	<-arrived
	for range many - 1 {
		go verify()
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Verify(ended, token, keycote.Request{})
	require.ErrorIs(t, heard(err), context.Canceled, "who cannot wait does not")
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	close(goOn)
	for range many {
		require.NoError(t, heard(<-errs))
	}
}

// An unknown key while the store is away: nobody can say whose it is.
func TestANewKeyAndAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	a := r.open(t, nil)
	for name, template := range map[string]*tinkpb.KeyTemplate{
		"index": prf.HMACSHA256PRFKeyTemplate(), "record": mac.HMACSHA256Tag256KeyTemplate(),
		"trail": mac.HMACSHA256Tag256KeyTemplate(),
	} {
		r.change(t, "", name, rotated(template), r.kek)
	}
	b := r.open(t, nil)
	key, token := issue(t, b, keycote.IssueParams{Name: "new"})
	_, value := issue(t, b, keycote.IssueParams{Name: "chosen", Secret: keycote.NewSecret("chosen-Value-of-60-x")})
	r.store.between(func(ctx context.Context, op string, n int, call func(context.Context) error) error {
		if op == "items" {
			return errDriver
		}
		return call(ctx)
	})
	for range 3 { // the last ones within the second, in which nothing is read
		for _, v := range []string{token, value} {
			_, err := a.Verify(t.Context(), v, keycote.Request{})
			require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
			require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
		}
		_, err := a.Get(t.Context(), key.ID)
		require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
		for k, err := range a.List(t.Context(), keycote.Filter{}) {
			require.Nil(t, k, "an outage is no unreadable record")
			require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
		}
		for e, err := range a.Events(t.Context(), keycote.EventFilter{}) {
			require.NotEmpty(t, e.ID)
			require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
		}
	}
	r.store.between(nil)
	r.clock.advance(time.Second)
	_, err := a.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, heard(err))
}

// Without a call that names an unknown key, a process learns of changed keyrings within the minute.
func TestKeyringsAreHeldAgainstTheStoreOnceAMinute(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, token := issue(t, r.m, keycote.IssueParams{Name: "key"})
	r.change(t, "", "index", rotated(prf.HMACSHA256PRFKeyTemplate()), r.kek)
	before := keycote.PrimaryIndexKey(r.m)
	for range 4 {
		r.store.reads()
		for range 50 {
			_, err := r.m.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
		}
		require.LessOrEqual(t, r.store.reads()["items"], 1)
		r.clock.advance(20 * time.Second)
	}
	require.NotEqual(t, before, keycote.PrimaryIndexKey(r.m))
	_, err := r.m.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
}

// Several processes that start on an empty store at once share the keyrings of one.
func TestManyManagersStartOnAnEmptyStore(t *testing.T) {
	t.Parallel()
	r := &rig{store: newVault(), clock: newStillClock(), kek: newSpyKEK(t, "kms:one")}
	const many = 12
	managers := make([]*keycote.Manager, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			m, err := keycote.New(context.WithoutCancel(t.Context()), r.store, r.kek, r.options(t, nil))
			if heard(err) == nil {
				managers[i] = m
			}
		})
	}
	wg.Wait()
	all := r.store.rows(t)
	require.Len(t, all.items, 3)
	var tokens []string
	for i, m := range managers {
		require.NotNil(t, m, "New %d failed", i)
		_, token := issue(t, m, keycote.IssueParams{Name: fmt.Sprint(i)})
		tokens = append(tokens, token)
	}
	for _, m := range managers {
		for _, token := range tokens {
			_, err := m.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
		}
	}
	// And the first credential of a tenant, in all of them at once.
	creds := make([]*keycote.Key, many)
	for i, m := range managers {
		wg.Go(func() {
			key, err := m.Tenant("acme").Add(context.WithoutCancel(t.Context()), keycote.AddParams{
				Name: fmt.Sprint(i), Endpoint: attackEndpoint, Secret: keycote.NewSecret(canary(fmt.Sprint("value-Of-Process-", 1000+i))),
			})
			if heard(err) == nil {
				creds[i] = key
			}
		})
	}
	wg.Wait()
	require.Len(t, r.store.rows(t).items, 4)
	for i, key := range creds {
		require.NotNil(t, key, "Add %d failed", i)
		_, secret, err := managers[(i+1)%many].Tenant("acme").Use(t.Context(), key.ID, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("value-Of-Process-", 1000+i), secret.Reveal())
	}
	require.Empty(t, lastEvents(t, managers[0], r.store.rows(t)))
	require.Empty(t, lastEvents(t, managers[0].Tenant("acme"), r.store.rows(t)))
}

// Ten rotations of one key by two processes: each answers a version of its own or ErrConflict, and none is half done.
func TestParallelRotationsOfOneKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	managers := []*keycote.Manager{r.m, r.open(t, nil)}
	key, _ := issue(t, r.m, keycote.IssueParams{Name: "one"})
	type answer struct {
		key   *keycote.Key
		value string
		err   error
	}
	const many = 10
	answers := make([]answer, many)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			<-start
			k, secret, err := managers[i%2].Rotate(context.WithoutCancel(t.Context()), key.ID, keycote.RotateParams{})
			answers[i] = answer{k, canary(secret.Reveal()), err}
		})
	}
	close(start)
	wg.Wait()
	won := map[int]string{}
	for _, a := range answers {
		if a.err != nil {
			require.ErrorIs(t, heard(a.err), keycote.ErrConflict)
			require.Empty(t, a.value)
			require.Nil(t, a.key)
			continue
		}
		number := a.key.Versions[len(a.key.Versions)-1].Number
		require.Empty(t, won[number], "version %d was given out twice", number)
		won[number] = a.value
	}
	require.NotEmpty(t, won)
	now, err := r.m.Get(t.Context(), key.ID)
	require.NoError(t, err)
	last := now.Versions[len(now.Versions)-1].Number
	require.Len(t, won, last-1, "each version was answered to somebody")
	for number, value := range won {
		_, err := r.m.Verify(t.Context(), value, keycote.Request{})
		if number == last {
			require.NoError(t, heard(err))
		} else {
			require.Error(t, heard(err))
		}
	}
	require.Empty(t, lastEvents(t, r.m, r.store.rows(t)))
}

// Two updates of one revision: one wins, the other is told.
func TestTwoUpdatesOfOneRevision(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	second := r.open(t, nil)
	for round := range 20 {
		key, _ := issue(t, r.m, keycote.IssueParams{Name: fmt.Sprint("key ", round)})
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, m := range []*keycote.Manager{r.m, second} {
			wg.Go(func() {
				app := fmt.Sprint("app ", i)
				_, errs[i] = m.Update(context.WithoutCancel(t.Context()), key.ID, keycote.Patch{App: &app, Revision: key.Revision})
			})
		}
		wg.Wait()
		lost := 0
		for i := range errs {
			if errs[i] != nil {
				require.ErrorIs(t, heard(errs[i]), keycote.ErrConflict)
				lost++
			}
		}
		require.Equal(t, 1, lost)
		now, err := r.m.Get(t.Context(), key.ID)
		require.NoError(t, err)
		require.Equal(t, key.Revision+1, now.Revision)
	}
	require.Empty(t, lastEvents(t, r.m, r.store.rows(t)))
}
