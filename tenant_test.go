package keycote_test

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// everyCall is every call of a Manager that can fail.
func everyCall(m *keycote.Manager, access, credential, token string) map[string]func(ctx context.Context) error {
	calls := managementCalls(m, access, credential)
	calls["verify"] = func(ctx context.Context) error { _, err := m.Verify(ctx, token, keycote.Request{}); return err }
	calls["use"] = func(ctx context.Context) error { _, _, err := m.Use(ctx, credential, keycote.Request{}); return err }
	calls["flush"] = m.Flush
	calls["run"] = m.Run
	return calls
}

func TestABrokenViewRefusesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	acme := w.Tenant("acme")
	key, token := w.issue(keycote.IssueParams{})
	in, committed := w.Tenant("").In(w.store)
	require.NotPanics(t, committed)
	noStore, _ := w.In(nil)
	views := map[string]*keycote.Manager{
		"empty": w.Tenant(""), "another on a view": acme.Tenant("other"), "empty on a view": acme.Tenant(""),
		"its own on a broken view": w.Tenant("").Tenant("acme"), "in a transaction": in, "no store": noStore,
	}
	for _, name := range []string{
		" acme", "acme ", "ac\x00me", "\xff", strings.Repeat("x", 256), "acme\n", "\u00a0acme", "ac\u2028me", "ac\u202eme",
	} {
		views[name] = w.Tenant(name)
	}
	before := w.dump()
	for name, view := range views {
		for call, f := range everyCall(view, key.ID, key.ID, token) {
			err := f(t.Context())
			require.ErrorIs(t, err, keycote.ErrInvalid, "%q: %s", name, call)
			require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
		}
	}
	require.NoError(t, w.Flush(t.Context()))
	require.Equal(t, before, w.dump())
	own, _, err := acme.Tenant("acme").Issue(t.Context(), keycote.IssueParams{Name: "n"})
	require.NoError(t, err, "its own name gives a view the same view")
	require.Equal(t, "acme", own.Tenant)
	long, _, err := w.Tenant(strings.Repeat("é", 127)).Issue(t.Context(), keycote.IssueParams{Name: "n"})
	require.NoError(t, err)
	require.Len(t, long.Tenant, 254)
}

func TestViewsDoNotReachEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	managers := map[string]*keycote.Manager{"": w.Manager}
	for _, name := range []string{"acme", "Acme", "acmé", "acme2", "ac me"} {
		managers[name] = w.Tenant(name)
	}
	type held struct {
		access, credential *keycote.Key
		token              string
	}
	all := map[string]held{}
	for name, m := range managers {
		access, secret, err := m.Issue(ctx, keycote.IssueParams{Name: "access"})
		require.NoError(t, err)
		_, _, err = m.Issue(ctx, keycote.IssueParams{Name: "chosen", Secret: keycote.NewSecret(goodValue + name + "--")})
		if err != nil { // not every tenant's name can stand in a value
			require.Equal(t, []string{"secret: charset"}, broken(t, err))
		}
		credential, err := m.Add(ctx, keycote.AddParams{Name: "n", Endpoint: "https://x.example.com", Secret: keycote.NewSecret(goodValue)})
		require.NoError(t, err)
		all[name] = held{access, credential, secret.Reveal()}
	}
	before := w.dump()
	for name, m := range managers {
		for owner, h := range all {
			if name == owner {
				continue
			}
			for call, f := range everyCall(m, h.access.ID, h.credential.ID, h.token) {
				switch call {
				case "add", "issue", "page", "list", "events", "tenants", "flush", "run":
					continue
				case "verify":
					err := f(ctx)
					if name == "" {
						require.NoError(t, err, "unbound: issued keys of all tenants")
					} else {
						refusalOf(t, err, keycote.ErrUnknownKey, "")
					}
				default:
					require.ErrorIs(t, f(ctx), keycote.ErrNotFound, "%q of %q: %s", name, owner, call)
				}
			}
			require.Empty(t, eventsOf(t, m, keycote.EventFilter{KeyID: h.access.ID}))
			_, err := m.Verify(ctx, goodValue+owner+"--", keycote.Request{})
			refusalOf(t, err, keycote.ErrUnknownKey, "")
		}
		for _, k := range collect(t, m.List(ctx, keycote.Filter{})) {
			require.Equal(t, name, k.Tenant)
		}
		for _, e := range eventsOf(t, m, keycote.EventFilter{}) {
			require.Equal(t, name, e.Tenant)
		}
		g, err := w.Verify(ctx, all[name].token, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, name, g.Tenant)
	}
	require.Equal(t, before, w.dump())
	var names []string
	for name := range managers {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	require.Equal(t, names, collect(t, w.Tenants(ctx)))
	for name, err := range managers["acme"].Tenants(ctx) {
		require.Empty(t, name)
		require.ErrorIs(t, err, keycote.ErrForbidden)
	}
}

func TestTenantsStopsWhenAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	require.Empty(t, collect(t, w.Tenants(t.Context())))
	w.issue(keycote.IssueParams{})
	require.Empty(t, collect(t, w.Tenants(t.Context())), "the unnamed one is not among them")
	for _, name := range []string{"b", "a", "~", "\u00ff"} {
		for range 3 {
			_, _, err := w.Tenant(name).Issue(t.Context(), keycote.IssueParams{Name: rand.Text()})
			require.NoError(t, err)
		}
	}
	require.Equal(t, []string{"a", "b", "~", "\u00ff"}, collect(t, w.Tenants(t.Context())))
	for name := range w.Tenants(t.Context()) {
		require.Equal(t, "a", name)
		break
	}
	seen := 0
	for _, err := range w.Tenants(cancelled(t)) {
		require.ErrorIs(t, err, context.Canceled)
		seen++
	}
	require.Equal(t, 1, seen)
}

// TestABoundViewIsNotToldOfOthers presents another tenant's value whose record was tampered with.
func TestABoundViewIsNotToldOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, secret, err := w.Tenant("other").Issue(t.Context(), keycote.IssueParams{Name: "n"})
	require.NoError(t, err)
	r, err := w.store.Store.Get(t.Context(), "other", key.ID)
	require.NoError(t, err)
	r.Seal, r.Revision = []byte("broken"), 2
	require.NoError(t, w.store.Store.Commit(t.Context(), keycote.Batch{ID: "tamper", Update: []keycote.Record{r}}))
	_, err = w.Verify(t.Context(), secret.Reveal(), keycote.Request{})
	refusalOf(t, err, keycote.ErrTampered, key.ID)
	_, err = w.Tenant("other").Verify(t.Context(), secret.Reveal(), keycote.Request{})
	refusalOf(t, err, keycote.ErrTampered, key.ID)
	_, err = w.Tenant("acme").Verify(t.Context(), secret.Reveal(), keycote.Request{})
	refusalOf(t, err, keycote.ErrUnknownKey, "")
}
