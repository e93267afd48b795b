package keycote_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
	"github.com/keycote/keycote/memstore"
)

// foundBy are the checks of one name, as "status code".
func foundBy(d *keycote.Diagnosis, name string) (found []string) {
	for _, c := range d.Checks {
		if c.Name == name {
			found = append(found, c.Status+" "+string(c.Code))
		}
	}
	return found
}

// TestDiagnoseSaysWhatTheVerbsSay: where the report says that an actor may, the verb lets him, and where not, not.
func TestDiagnoseSaysWhatTheVerbsSay(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, &keycote.Options{Authorize: keycote.ByRole})
	as := func(maxScopes ...string) context.Context {
		return keycote.WithActor(t.Context(), keycote.Actor{ID: "ann", Roles: []string{"admin"}, MaxScopes: maxScopes})
	}
	key, _, err := env.Manager.Issue(as("**"), keycote.IssueParams{Name: "ci", Scopes: []string{"admin:write"}})
	require.NoError(t, err)
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		rotate string
		scopes string
		fails  bool
	}{
		{"a ceiling below the key", as("orders:*"), "warning may_not", "warning wide_scopes", true},
		{"no ceiling at all", as(), "warning may_not", "warning wide_scopes", true},
		{"a ceiling above the key", as("admin:*"), "ok may", "ok ok", false},
	} {
		d, err := env.Manager.Diagnose(tt.ctx, key.ID)
		require.NoError(t, err, tt.name)
		require.Equal(t, tt.rotate, told(d)["authorized rotate"], tt.name)
		require.Equal(t, tt.scopes, told(d)["scopes"], tt.name)
		require.Equal(t, "ok may", told(d)["authorized update"], "of what is no grant")
		_, _, err = env.Manager.Rotate(tt.ctx, key.ID, keycote.RotateParams{})
		if !tt.fails {
			require.NoError(t, err, tt.name)
			continue
		}
		require.ErrorIs(t, err, keycote.ErrForbidden, tt.name)
		nets := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		_, err = env.Manager.Update(tt.ctx, key.ID, keycote.Patch{Networks: &nets})
		require.ErrorIs(t, err, keycote.ErrForbidden, tt.name)
		title := "other"
		_, err = env.Manager.Update(tt.ctx, key.ID, keycote.Patch{Name: &title})
		require.NoError(t, err, tt.name)
	}
}

// TestDiagnoseOwnAddress: an actor who asks why a key does not work here is told whether here is within its networks.
func TestDiagnoseOwnAddress(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	free, _, err := env.Manager.Issue(t.Context(), keycote.IssueParams{Name: "free", Scopes: []string{"a:b"}})
	require.NoError(t, err)
	bound, _, err := env.Manager.Issue(t.Context(), keycote.IssueParams{
		Name: "bound", Scopes: []string{"a:b"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	require.NoError(t, err)
	for _, tt := range []struct {
		key  *keycote.Key
		addr string
		want []string
	}{
		{free, "192.0.2.1", []string{"ok any_network"}},
		{bound, "", []string{"ok bound_networks"}},
		{bound, "192.0.2.1", []string{"ok bound_networks", "ok address_within"}},
		{bound, "::ffff:192.0.2.1", []string{"ok bound_networks", "ok address_within"}},
		{bound, "198.51.100.1", []string{"ok bound_networks", "warning address_outside"}},
	} {
		actor := keycote.Actor{ID: "ann", MaxScopes: []string{"**"}}
		if tt.addr != "" {
			actor.Addr = netip.MustParseAddr(tt.addr)
		}
		d, err := env.Manager.Diagnose(keycote.WithActor(t.Context(), actor), tt.key.ID)
		require.NoError(t, err)
		require.Equal(t, tt.want, foundBy(d, "networks"), tt.addr)
	}
}

// TestDiagnoseTellsKEKsApart: a retired KEK, another KEK and a keyring that was changed are three things, with three
// advices. A KEK that is away is a fourth, in TestDiagnoseIll.
func TestDiagnoseTellsKEKsApart(t *testing.T) {
	t.Parallel()
	const tenant = "acme"
	ctx := t.Context()
	was, is := newSpyKEK(t, "kms:was"), newSpyKEK(t, "kms:is")
	store := memstore.New()
	open := func(store keycote.Store, kek keycote.KEK, retired ...keycote.KEK) *keycote.Manager {
		m, err := keycote.New(ctx, store, kek, &keycote.Options{Retired: retired})
		require.NoError(t, err)
		return m.Tenant(tenant)
	}
	params := keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue),
	}
	open(store, was) // makes the root keyrings
	key, err := open(store, is, was).Add(ctx, params)
	require.NoError(t, err)
	opening := func(m *keycote.Manager) keycote.Check {
		d, err := m.Diagnose(ctx, key.ID)
		require.NoError(t, err)
		for _, c := range d.Checks {
			if c.Name == "open" {
				return c
			}
		}
		require.Fail(t, "the step is missing")
		return keycote.Check{}
	}
	require.Equal(t, keycote.Code("opens"), opening(open(store, is, was)).Code)
	retired := opening(open(store, was, is))
	require.Equal(t, "warning opens_retired", retired.Status+" "+string(retired.Code))

	another := open(store, was)
	_, _, err = another.Use(ctx, key.ID, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrKEK)
	wrong := opening(another)
	require.Equal(t, "failed does_not_open", wrong.Status+" "+string(wrong.Code))
	require.Equal(t, "Give the process the right key-encryption key.", wrong.Advice)

	// A keyring of the same name, tenant, revision and KEK, and of another store: it opens, and the value does not.
	other := memstore.New()
	open(other, was)
	_, err = open(other, is, was).Add(ctx, params)
	require.NoError(t, err)
	item := func(s keycote.Store) keycote.Item {
		items, err := s.Items(ctx, keycote.ItemQuery{Space: "keyring", Tenant: tenant, Name: "data", Limit: 1})
		require.NoError(t, err)
		require.Len(t, items, 1)
		return items[0]
	}
	put := func(body []byte) {
		gone := item(store)
		gone.Revision, gone.Body = gone.Revision+1, nil
		require.NoError(t, store.Commit(ctx, keycote.Batch{Items: []keycote.Item{gone}}))
		gone.Revision, gone.Body = 1, body
		require.NoError(t, store.Commit(ctx, keycote.Batch{Items: []keycote.Item{gone}}))
	}
	body := item(store).Body
	flipped := append([]byte{}, body...)
	flipped[len(flipped)-1] ^= 1
	for name, bad := range map[string][]byte{"swapped": item(other).Body, "flipped": flipped} {
		put(bad)
		tampered := opening(open(store, is, was))
		require.Equal(t, "failed tampered", tampered.Status+" "+string(tampered.Code), name)
		require.Contains(t, tampered.Advice, "restore the keyring", name)
	}
	put([]byte{0xff}) // a newer version's, which says nothing about the KEK
	require.Equal(t, keycote.Code("could_not_check"), opening(open(store, is, was)).Code)
}

// TestDiagnoseRulesOfToday: a key that was made under laxer rules is held against those of today.
func TestDiagnoseRulesOfToday(t *testing.T) {
	t.Parallel()
	strict := false
	env := keytest.New(t, &keycote.Options{Validator: keycote.NewValidator(nil,
		func(_ context.Context, d *keycote.Draft) ([]keycote.Violation, error) {
			if !strict {
				return nil, nil
			}
			return []keycote.Violation{{Field: "owner", Code: "required"}, {Field: "labels", Code: "required"}}, nil
		})})
	key := diagnosed(t, env)
	strict = true
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	for _, c := range d.Checks {
		if c.Name == "rules" {
			require.Equal(t, "failed rules_broken", c.Status+" "+string(c.Code))
			require.Equal(t, "Rules are broken; fields: Owner, Labels.", c.Text)
			require.Equal(t, "Correct these fields.", c.Advice)
		}
	}
	require.Equal(t, "failed", d.Status)
}

// TestDiagnoseSaysWhen: the log's steps tell of the last use and of the last refusal of each reason.
func TestDiagnoseSaysWhen(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	env := keytest.New(t, &keycote.Options{Now: func() time.Time { return at }})
	ctx := t.Context()
	_, secret, err := env.Manager.Issue(ctx, keycote.IssueParams{Name: "ci", Scopes: []string{"a:b"}})
	require.NoError(t, err)
	ask := func(scope string) *keycote.Diagnosis {
		grant, err := env.Manager.Verify(ctx, secret.Reveal(), keycote.Request{Scopes: []string{scope}})
		if err != nil {
			require.ErrorIs(t, err, keycote.ErrScope)
			grant, err = env.Manager.Verify(ctx, secret.Reveal(), keycote.Request{})
			require.NoError(t, err)
		}
		d, err := env.Manager.Diagnose(ctx, grant.KeyID)
		require.NoError(t, err)
		return d
	}
	text := func(d *keycote.Diagnosis, name string) string {
		for _, c := range d.Checks {
			if c.Name == name {
				return c.Text
			}
		}
		return ""
	}
	ask("c:d")
	env.Clock.Advance(time.Hour)
	d := ask("a:b")
	require.Equal(t, "The key was used successfully; in the last 7 days: 2, last use: 2030-01-02T04:04:05Z.",
		text(d, "successes"))
	require.Equal(t, "The key was refused; in the last 7 days: 1, last refusal: 2030-01-02T03:04:05Z, "+
		"reason: permission missing.", text(d, "refusals"))
	require.Equal(t, "This version keeps no alerts.", text(d, "alerts"))
	env.Clock.Advance(30 * 24 * time.Hour)
	d, err = env.Manager.Diagnose(ctx, d.KeyID)
	require.NoError(t, err)
	require.Equal(t, "The key was used successfully; in the last 7 days: 0, last use: 2030-01-02T04:04:05Z.",
		text(d, "successes"), "what is older than the log's days is known all the same")
	require.Equal(t, []string{"ok no_refusals"}, foundBy(d, "refusals"))
}

// TestDiagnoseLastOfMany: with more rows than are read, the counts say so, and the last refusal is still the last.
func TestDiagnoseLastOfMany(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	key := diagnosed(t, env)
	now := env.Clock.Now().Add(time.Minute)
	env.Clock.Advance(2 * time.Minute)
	var uses []keycote.UseCount
	for i := range 11_000 {
		at := now.Add(-time.Duration(i/100) * time.Hour)
		uses = append(uses, keycote.UseCount{
			KeyID: key.ID, Version: 1, Outcome: keycote.ErrDisabled, Route: fmt.Sprint(i),
			Window: at.Truncate(time.Minute), N: 1, First: at, Last: at,
		})
	}
	require.NoError(t, env.Store.Commit(t.Context(), keycote.Batch{ID: "many", Uses: uses}))
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	for _, c := range d.Checks {
		if c.Name == "refusals" {
			require.Regexp(t, `^\d+\+$`, c.Params["count"])
			require.Equal(t, now.Format(time.RFC3339), c.Params["last"])
		}
	}
	require.Equal(t, []string{"warning refusals"}, foundBy(d, "refusals"))
}

// TestDiagnoseKeepsHostsWordsOut: no code, name or param of a host's Inspect or Prober gets into a report but those
// that the catalogue knows, so none can carry the value there.
func TestDiagnoseKeepsHostsWordsOut(t *testing.T) {
	t.Parallel()
	encoded := hex.EncodeToString([]byte(diagnosedValue))
	env := keytest.New(t, &keycote.Options{
		Inspect: func(context.Context, string) []keycote.Check {
			return []keycote.Check{
				{Name: "tcp", Status: "warning", Code: keycote.Code("slow:" + diagnosedValue)},
				{Name: "name", Status: "ok", Code: "host_rule", Params: map[string]string{diagnosedValue: "1"}},
				{Name: "http", Status: "ok", Code: "answered", Params: map[string]string{
					"status": encoded, "header": "of no sentence", diagnosedValue: "1",
				}},
				{Name: "tls", Status: "ok", Code: "certificate_ok", Params: map[string]string{"days": "60", "count": "2"}},
				{Name: diagnosedValue, Status: "failed", Code: "no_answer"},
				{Name: "guard", Status: "skipped", Code: "later", Title: diagnosedValue, AreaTitle: diagnosedValue},
			}
		},
		Prober: func(_ context.Context, _ string, s keycote.Secret) error {
			return keycote.Violation{Field: s.Reveal(), Code: keycote.Code("refused:" + s.Reveal()), Text: s.Reveal()}
		},
	})
	key, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue), SkipProbe: true,
	})
	require.NoError(t, err)
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	got := told(d)
	for step, want := range map[string]string{
		"name": "ok ok", "guard": "skipped not_checked", "tcp": "warning could_not_check", "tls": "ok certificate_ok",
		"http": "ok answered", "probe": "failed probe_failed",
	} {
		require.Equal(t, want, got[step], step)
	}
	for _, c := range d.Checks {
		if c.Name == "http" {
			require.Empty(t, c.Params)
			require.Equal(t, "The endpoint answered; HTTP status: ….", c.Text)
		}
		if c.Name == "tls" {
			require.Equal(t, map[string]string{"days": "60"}, c.Params)
		}
	}
	out, err := json.Marshal(d)
	require.NoError(t, err)
	require.NotContains(t, string(out), diagnosedValue)
	require.NotContains(t, string(out), encoded)
}
