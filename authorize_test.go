package keycote_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// askedOf is one question put to Authorize.
type askedOf struct {
	action keycote.Action
	key    keycote.Key
}

// gate is an Authorize that writes down what it is asked.
type gate struct {
	asked []askedOf
	say   error
}

func (g *gate) authorize(_ context.Context, _ keycote.Actor, action keycote.Action, key *keycote.Key) error {
	g.asked = append(g.asked, askedOf{action, *key})
	return g.say
}

func (g *gate) take() []askedOf {
	list := g.asked
	g.asked = nil
	return list
}

// managementCalls are all of them calls, by id of an access key and of a credential.
func managementCalls(m *keycote.Manager, access, credential string) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"add": func(ctx context.Context) error {
			_, err := m.Add(ctx, keycote.AddParams{Name: "new", Endpoint: "https://x.example.com", Secret: keycote.NewSecret(goodValue)})
			return err
		},
		"issue": func(ctx context.Context) error {
			_, _, err := m.Issue(ctx, keycote.IssueParams{Name: "new"})
			return err
		},
		"reveal": func(ctx context.Context) error { _, err := m.Reveal(ctx, credential, "look"); return err },
		"rotate": func(ctx context.Context) error {
			_, _, err := m.Rotate(ctx, access, keycote.RotateParams{})
			return err
		},
		"update": func(ctx context.Context) error {
			_, err := m.Update(ctx, access, keycote.Patch{Name: ptr("y")})
			return err
		},
		"disable": func(ctx context.Context) error { _, err := m.Disable(ctx, access, ""); return err },
		"enable":  func(ctx context.Context) error { _, err := m.Enable(ctx, access, ""); return err },
		"revoke":  func(ctx context.Context) error { _, err := m.Revoke(ctx, access, ""); return err },
		"delete":  func(ctx context.Context) error { return m.Delete(ctx, access, "") },
		"get":     func(ctx context.Context) error { _, err := m.Get(ctx, access); return err },
		"page":    func(ctx context.Context) error { _, err := m.Page(ctx, keycote.Filter{}, "", 0); return err },
		"list": func(ctx context.Context) error {
			for _, err := range m.List(ctx, keycote.Filter{}) {
				return err
			}
			return nil
		},
		"events": func(ctx context.Context) error {
			for _, err := range m.Events(ctx, keycote.EventFilter{KeyID: access}) {
				return err
			}
			return nil
		},
		"tenants": func(ctx context.Context) error {
			for _, err := range m.Tenants(ctx) {
				return err
			}
			return nil
		},
	}
}

func TestAuthorizeIsAskedOncePerCall(t *testing.T) {
	t.Parallel()
	actions := map[string]keycote.Action{
		"add": keycote.ActionAdd, "issue": keycote.ActionIssue, "reveal": keycote.ActionReveal, "rotate": keycote.ActionRotate,
		"update": keycote.ActionUpdate, "disable": keycote.ActionDisable, "enable": keycote.ActionEnable,
		"revoke": keycote.ActionRevoke, "delete": keycote.ActionDelete, "get": keycote.ActionRead, "page": keycote.ActionRead,
		"list": keycote.ActionRead, "events": keycote.ActionEvents, "tenants": "operate",
	}
	for name, action := range actions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			access, _ := w.issue(keycote.IssueParams{Name: "access"})
			credential := w.add(keycote.AddParams{})
			g := &gate{}
			m := w.another(&keycote.Options{Authorize: g.authorize})
			alice := as(t, keycote.Actor{ID: "alice"})
			call := managementCalls(m, access.ID, credential.ID)[name]
			require.NoError(t, call(alice))
			asked := g.take()
			require.Len(t, asked, 1)
			require.Equal(t, action, asked[0].action)
			switch name {
			case "add", "issue":
				require.Empty(t, asked[0].key.ID)
				require.Equal(t, "new", asked[0].key.Name)
				require.Equal(t, "alice", asked[0].key.Owner)
			case "reveal":
				require.Equal(t, *credential, asked[0].key)
			case "page", "list", "tenants":
				require.Empty(t, asked[0].key.ID)
			default:
				require.Equal(t, *access, asked[0].key, "the key as it is")
			}

			fresh, _ := w.issue(keycote.IssueParams{Name: "fresh"})
			call = managementCalls(m, fresh.ID, credential.ID)[name]
			require.ErrorIs(t, call(t.Context()), keycote.ErrForbidden, "no actor")
			require.Empty(t, g.take())
			g.say = errors.New("no")
			before := w.dump()
			err := call(alice)
			require.ErrorIs(t, err, keycote.ErrForbidden)
			require.ErrorIs(t, err, g.say, "the host's own error is the cause")
			require.Len(t, g.take(), 1)
			require.Equal(t, before, w.dump())
		})
	}
}

func TestAuthorizeIsNotAskedByPrograms(t *testing.T) {
	t.Parallel()
	g := &gate{say: errors.New("no")}
	w := newWorld(t, nil)
	_, token := w.issue(keycote.IssueParams{})
	credential := w.add(keycote.AddParams{})
	m := w.another(&keycote.Options{Authorize: g.authorize})
	alice := as(t, keycote.Actor{ID: "alice"})
	_, err := m.Verify(alice, token, keycote.Request{})
	require.NoError(t, err)
	require.NoError(t, m.Flush(alice))
	ctx, cancel := context.WithCancel(alice)
	cancel()
	require.NoError(t, m.Run(ctx))
	_, _, err = m.Use(t.Context(), credential.ID, keycote.Request{})
	require.NoError(t, err, "a program uses without an actor")
	require.Empty(t, g.take())
	_, secret, err := m.Use(alice, credential.ID, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrForbidden)
	require.True(t, secret.IsZero())
	asked := g.take()
	require.Len(t, asked, 1)
	require.Equal(t, keycote.ActionUse, asked[0].action)
	require.Equal(t, credential.ID, asked[0].key.ID)
}

func TestAuthorizeOfListsAndEvents(t *testing.T) {
	t.Parallel()
	g := &gate{}
	w := newWorld(t, &keycote.Options{Authorize: g.authorize})
	alice := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"**"}})
	acme := w.Tenant("acme")
	var key *keycote.Key
	for _, name := range []string{"a", "b", "c"} {
		var err error
		key, _, err = acme.Issue(alice, keycote.IssueParams{Name: name})
		require.NoError(t, err)
	}
	g.take()
	f := keycote.Filter{Kind: keycote.KindAccess, App: "x", Owner: "alice"}
	collect(t, acme.List(alice, f))
	_, err := acme.Page(alice, f, "", 1)
	require.NoError(t, err)
	for _, a := range g.take() {
		require.Equal(t, "acme access x alice", a.key.Tenant+" "+string(a.key.Kind)+" "+a.key.App+" "+a.key.Owner)
		require.NotNil(t, a.key.Scopes)
	}
	seq := acme.List(alice, keycote.Filter{})
	collect(t, seq)
	collect(t, seq)
	require.Len(t, g.take(), 2, "once per iteration")

	collect(t, acme.Events(alice, keycote.EventFilter{}))
	collect(t, acme.Events(alice, keycote.EventFilter{KeyID: key.ID}))
	require.NoError(t, acme.Delete(alice, key.ID, ""))
	collect(t, acme.Events(alice, keycote.EventFilter{KeyID: key.ID}))
	asked := g.take()
	require.Len(t, asked, 4)
	require.Empty(t, asked[0].key.ID)
	require.Equal(t, *key, asked[1].key)
	require.Equal(t, "acme "+key.ID, asked[3].key.Tenant+" "+asked[3].key.ID, "of a key that is gone")
	require.Empty(t, asked[3].key.Name)
}

func TestAuthorizeOfOwnerAndApp(t *testing.T) {
	t.Parallel()
	g := &gate{}
	w := newWorld(t, &keycote.Options{Authorize: g.authorize})
	alice := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"**"}})
	key, _, err := w.Issue(alice, keycote.IssueParams{Name: "n", App: "a"})
	require.NoError(t, err)
	g.take()
	for name, c := range map[string]struct {
		patch keycote.Patch
		asked int
	}{
		"owner":      {keycote.Patch{Owner: ptr("bob"), DryRun: true}, 2},
		"app":        {keycote.Patch{App: ptr("b"), DryRun: true}, 2},
		"both":       {keycote.Patch{App: ptr("b"), Owner: ptr("bob"), DryRun: true}, 2},
		"same owner": {keycote.Patch{Owner: ptr("alice"), DryRun: true}, 1},
		"name":       {keycote.Patch{Name: ptr("m"), DryRun: true}, 1},
	} {
		_, err := w.Update(alice, key.ID, c.patch)
		require.NoError(t, err)
		asked := g.take()
		require.Len(t, asked, c.asked, name)
		require.Equal(t, *key, asked[0].key, name)
		if c.asked == 2 {
			want := *key
			if c.patch.Owner != nil {
				want.Owner = *c.patch.Owner
			}
			if c.patch.App != nil {
				want.App = *c.patch.App
			}
			require.Equal(t, want.Owner+want.App, asked[1].key.Owner+asked[1].key.App, name)
		}
	}
}

func TestAuthorizeOnARetry(t *testing.T) {
	t.Parallel()
	g := &gate{}
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	m := w.another(&keycote.Options{Authorize: g.authorize})
	w.store.once(func() {
		_, err := w.Update(t.Context(), key.ID, keycote.Patch{App: ptr("elsewhere")})
		require.NoError(t, err)
	})
	_, err := m.Disable(as(t, keycote.Actor{ID: "alice"}), key.ID, "")
	require.NoError(t, err)
	asked := g.take()
	require.Len(t, asked, 2)
	require.Equal(t, " elsewhere", asked[0].key.App+" "+asked[1].key.App, "with the record just read")
}

func TestUnknownAndUnreadableKeysAndAuthorize(t *testing.T) {
	t.Parallel()
	g := &gate{say: errors.New("no")}
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	m := w.another(&keycote.Options{Authorize: g.authorize})
	alice := as(t, keycote.Actor{ID: "alice"})
	unknown := "key_00000000000000000000000000"
	for name, call := range managementCalls(m, unknown, unknown) {
		switch name {
		case "add", "issue", "page", "list", "events", "tenants":
			continue
		}
		require.ErrorIs(t, call(alice), keycote.ErrNotFound, name)
	}
	require.Empty(t, g.take())
	r := w.raw(key.ID)
	r.Seal, r.Revision = []byte("broken"), r.Revision+1
	require.NoError(t, w.store.Store.Commit(t.Context(), keycote.Batch{ID: "tamper", Update: []keycote.Record{r}}))
	for name, call := range managementCalls(m, key.ID, key.ID) {
		switch name {
		case "add", "issue", "page", "list", "tenants":
			continue
		}
		require.ErrorIs(t, call(alice), keycote.ErrForbidden, name)
		asked := g.take()
		require.Len(t, asked, 1)
		require.Equal(t, keycote.StateUnreadable, asked[0].key.State)
		require.Equal(t, key.ID, asked[0].key.ID)
		require.Empty(t, asked[0].key.Name)
	}
}

func TestByRoleWiredIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	m := w.another(&keycote.Options{Authorize: keycote.ByRole})
	viewer := as(t, keycote.Actor{ID: "v", Roles: []string{"viewer"}})
	_, err := m.Get(viewer, key.ID)
	require.NoError(t, err)
	_, err = m.Disable(viewer, key.ID, "")
	require.ErrorIs(t, err, keycote.ErrForbidden)
	require.Equal(t, keycote.ErrForbidden, keycote.CodeOf(err))
	_, err = m.Disable(as(t, keycote.Actor{ID: "e", Roles: []string{"editor"}}), key.ID, "")
	require.NoError(t, err)
}

func TestCeilings(t *testing.T) {
	t.Parallel()
	none := keycote.Actor{ID: "none"}
	part := keycote.Actor{ID: "part", MaxScopes: []string{"orders:*", "bad scope", "users:read"}}
	all := keycote.Actor{ID: "all", MaxScopes: []string{"**"}}
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		name    string
		actor   keycote.Actor
		scopes  []string
		allowed bool
	}{
		{"none grants none", none, nil, true},
		{"none grants no scope", none, []string{"orders:read"}, false},
		{"within", part, []string{"orders:read", "users:read"}, true},
		{"a pattern within", part, []string{"orders:*"}, true},
		{"wider", part, []string{"orders:**"}, false},
		{"one too many", part, []string{"orders:read", "users:write"}, false},
		{"a malformed entry grants nothing", part, []string{"bad"}, false},
		{"all", all, []string{"**"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			ctx := as(t, c.actor)
			key, _ := w.issue(keycote.IssueParams{Name: "held", Scopes: c.scopes, Networks: nets})
			off, _ := w.issue(keycote.IssueParams{Name: "off", Scopes: c.scopes})
			_, err := w.Disable(ctx, off.ID, "")
			require.NoError(t, err, "nothing is granted by it")
			bare, _ := w.issue(keycote.IssueParams{Name: "bare"})
			for name, call := range map[string]func() error{
				"issue": func() error {
					_, _, err := w.Issue(ctx, keycote.IssueParams{Name: "new", Scopes: c.scopes})
					return err
				},
				"rotate": func() error { _, _, err := w.Rotate(ctx, key.ID, keycote.RotateParams{}); return err },
				"enable": func() error { _, err := w.Enable(ctx, off.ID, ""); return err },
				"scopes": func() error { _, err := w.Update(ctx, bare.ID, keycote.Patch{Scopes: &c.scopes}); return err },
				"networks": func() error {
					_, err := w.Update(ctx, key.ID, keycote.Patch{Networks: new([]netip.Prefix)})
					return err
				},
				"expiry": func() error {
					_, err := w.Update(ctx, key.ID, keycote.Patch{ExpiresAt: ptr(worldStart.AddDate(1, 0, 0))})
					return err
				},
				"dry": func() error {
					_, _, err := w.Issue(ctx, keycote.IssueParams{Name: "new", Scopes: c.scopes, DryRun: true})
					if c.allowed && err != nil { // the name may be taken by now
						require.Equal(t, []string{"name: exists"}, broken(t, err))
						return nil
					}
					return err
				},
			} {
				err := call()
				if c.allowed {
					require.NoError(t, err, name)
				} else {
					require.ErrorIs(t, err, keycote.ErrForbidden, name)
				}
			}
			_, err = w.Update(ctx, key.ID, keycote.Patch{Name: ptr("renamed"), Labels: new(map[string]string)})
			require.NoError(t, err, "what grants nothing is not held against the ceiling")
			_, err = w.Revoke(ctx, key.ID, "")
			require.NoError(t, err)
		})
	}
}
