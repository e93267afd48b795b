package keycote_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

const diagnosedValue = "Kx7-diagnosed-value-Qp42zw"

func diagnosed(t *testing.T, env *keytest.Env) *keycote.Key {
	t.Helper()
	key, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue),
	})
	require.NoError(t, err)
	return key
}

// told is a diagnosis by its checks' names; of several of one name, the worst comes last.
func told(d *keycote.Diagnosis) map[string]string {
	out := map[string]string{}
	for _, c := range d.Checks {
		name := c.Name
		if a := c.Params["action"]; a != "" {
			name += " " + a
		}
		if r := c.Params["reason"]; r != "" {
			name += " " + r
		}
		out[name] = c.Status + " " + string(c.Code)
	}
	return out
}

func TestDiagnoseWell(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	key := diagnosed(t, env)
	_, _, err := env.Manager.Use(t.Context(), key.ID, keycote.Request{})
	require.NoError(t, err)
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, "ok", d.Status)
	require.Equal(t, key.ID, d.KeyID)
	require.Equal(t, keycote.KindCredential, d.Kind)
	require.Equal(t, map[string]string{
		"rules": "ok ok", "strength": "ok ok", "age": "ok ok",
		"state": "ok ok", "authorized use": "ok may", "authorized reveal": "ok may", "authorized update": "ok may",
		"authorized rotate": "ok may", "scopes": "skipped not_checked", "networks": "skipped not_checked",
		"name": "ok resolved", "guard": "ok ok", "tcp": "ok connected", "tls": "ok certificate_ok", "http": "ok answered",
		"probe": "ok probe_ok", "successes": "ok used", "refusals": "ok no_refusals", "alerts": "skipped no_alerts",
		"seal": "ok seal_holds", "open": "ok opens", "keyring": "ok keyring_age",
	}, told(d))
	var areas []string
	for _, c := range d.Checks {
		if len(areas) == 0 || areas[len(areas)-1] != c.Area {
			areas = append(areas, c.Area)
		}
		require.NotEmpty(t, c.Title, c.Name)
		require.NotEmpty(t, c.Text, c.Code)
		require.NotContains(t, c.Text, "{")
		require.NotContains(t, c.Text, "…", "a param is missing of %s", c.Code)
		require.Empty(t, c.Advice, "there is nothing to do about %s", c.Name)
	}
	require.Equal(t, []string{"format", "permission", "network", "log", "keeping"}, areas)
}

// breaks is a step of a test that makes something go wrong.
func breaks(f keytest.Fault) func(*testing.T, *keytest.Env, *keycote.Key) {
	return func(_ *testing.T, env *keytest.Env, key *keycote.Key) { env.Break(key, f) }
}

// Every failure that a host can have, and what becomes of the other checks meanwhile.
func TestDiagnoseIll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, env *keytest.Env, key *keycote.Key)
		status string
		want   map[string]string
	}{
		{"the store is away", breaks(keytest.FaultStore), "failed", map[string]string{
			"seal": "failed could_not_check", "open": "skipped not_checked", "successes": "failed could_not_check",
			"refusals": "failed could_not_check", "rules": "skipped not_checked", "state": "failed could_not_check",
		}},
		{"the KEK is away", breaks(keytest.FaultKEK), "failed", map[string]string{
			"seal": "ok seal_holds", "open": "failed kek_unavailable", "strength": "skipped not_checked",
			"probe": "skipped not_checked", "http": "ok answered", "rules": "ok ok",
		}},
		{"tampered with", breaks(keytest.FaultSeal), "failed", map[string]string{
			"seal": "failed seal_broken", "open": "skipped not_checked", "state": "failed not_active", "http": "skipped not_checked",
		}},
		{"the KEK is a new one", breaks(keytest.FaultOldKEK), "warning", map[string]string{"open": "warning opens_retired"}},
		{"the KEK is another one", breaks(keytest.FaultWrongKEK), "failed", map[string]string{
			"seal": "ok seal_holds", "open": "failed does_not_open", "probe": "skipped not_checked",
		}},
		{"the keyring is destroyed", breaks(keytest.FaultShredded), "failed", map[string]string{
			"open": "failed shredded", "seal": "ok seal_holds",
		}},
		{"no such host", breaks(keytest.FaultName), "failed", map[string]string{
			"name": "failed no_such_host", "tcp": "skipped not_checked",
		}},
		{"a private address", breaks(keytest.FaultGuard), "failed", map[string]string{
			"guard": "failed refused_address", "tcp": "skipped not_checked",
		}},
		{"nobody answers", breaks(keytest.FaultTCP), "failed", map[string]string{"tcp": "failed no_connection"}},
		{"a bad certificate", breaks(keytest.FaultTLS), "failed", map[string]string{"tls": "failed certificate_bad"}},
		{"a certificate with an end in sight", breaks(keytest.FaultExpiring), "warning", map[string]string{
			"tls": "warning certificate_soon", "http": "ok answered",
		}},
		{"a failing server", breaks(keytest.FaultHTTP), "warning", map[string]string{"http": "warning server_error"}},
		{"it does not pong", breaks(keytest.FaultProbe), "failed", map[string]string{"probe": "failed probe_failed"}},
		{"it refuses the key", breaks(keytest.FaultKeyRefused), "failed", map[string]string{"probe": "failed key_refused"}},
		{"old", func(_ *testing.T, env *keytest.Env, _ *keycote.Key) { env.Clock.Advance(91 * 24 * time.Hour) }, "warning", map[string]string{
			"age": "warning never_rotated", "keyring": "ok keyring_age", "successes": "warning never_used",
		}},
		{"old, and rotated once", func(t *testing.T, env *keytest.Env, key *keycote.Key) {
			_, _, err := env.Manager.Rotate(t.Context(), key.ID, keycote.RotateParams{
				Secret: keycote.NewSecret(diagnosedValue + "2"),
			})
			require.NoError(t, err)
			env.Clock.Advance(91 * 24 * time.Hour)
		}, "warning", map[string]string{"age": "warning old"}},
		{"weak", func(t *testing.T, env *keytest.Env, key *keycote.Key) {
			_, _, err := env.Manager.Rotate(t.Context(), key.ID, keycote.RotateParams{
				Secret: keycote.NewSecret("hello"), AllowWeak: true,
			})
			require.NoError(t, err)
		}, "warning", map[string]string{"strength": "warning weak", "rules": "ok ok"}},
		{"disabled", func(t *testing.T, env *keytest.Env, key *keycote.Key) {
			_, err := env.Manager.Disable(t.Context(), key.ID, "")
			require.NoError(t, err)
			_, _, err = env.Manager.Use(t.Context(), key.ID, keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrDisabled)
		}, "failed", map[string]string{
			"state": "failed not_active", "open": "ok opens", "probe": "skipped not_checked", "refusals disabled": "warning refusals",
		}},
		{"revoked", func(t *testing.T, env *keytest.Env, key *keycote.Key) {
			_, err := env.Manager.Revoke(t.Context(), key.ID, "")
			require.NoError(t, err)
		}, "failed", map[string]string{
			"state": "failed not_active", "authorized": "skipped not_checked", "open": "skipped not_checked",
			"strength": "skipped not_checked",
		}},
		{"expired", func(t *testing.T, env *keytest.Env, key *keycote.Key) {
			at := env.Clock.Now().Add(time.Hour)
			_, err := env.Manager.Update(t.Context(), key.ID, keycote.Patch{ExpiresAt: &at})
			require.NoError(t, err)
			env.Clock.Advance(2 * time.Hour)
		}, "failed", map[string]string{"state": "failed not_active", "rules": "ok ok"}},
		{"about to expire", func(t *testing.T, env *keytest.Env, key *keycote.Key) {
			at := env.Clock.Now().Add(time.Hour)
			_, err := env.Manager.Update(t.Context(), key.ID, keycote.Patch{ExpiresAt: &at})
			require.NoError(t, err)
		}, "warning", map[string]string{"state": "warning expires_soon"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := keytest.New(t, nil)
			key := diagnosed(t, env)
			c.do(t, env, key)
			d, err := env.Manager.Diagnose(t.Context(), key.ID)
			require.NoError(t, err)
			got := told(d)
			for name, want := range c.want {
				require.Equal(t, want, got[name], name)
			}
			require.Equal(t, c.status, d.Status)
			for _, k := range d.Checks {
				if k.Status == "failed" || k.Status == "warning" {
					require.NotEmpty(t, k.Advice, "%s %s", k.Name, k.Code)
				}
				require.NotContains(t, k.Text+k.Advice, "{")
			}
			out, err := json.Marshal(d)
			require.NoError(t, err)
			require.NotContains(t, string(out), diagnosedValue)
		})
	}
}

func TestDiagnoseAccessKey(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	ctx := t.Context()
	key, secret, err := env.Manager.Issue(ctx, keycote.IssueParams{
		Name: "ci", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	require.NoError(t, err)
	_, err = env.Manager.Verify(ctx, secret.Reveal(), keycote.Request{Addr: netip.MustParseAddr("198.51.100.1")})
	require.ErrorIs(t, err, keycote.ErrAddress)
	d, err := env.Manager.Diagnose(ctx, key.ID)
	require.NoError(t, err)
	got := told(d)
	require.Equal(t, "warning no_scopes", got["scopes"])
	require.Equal(t, "ok bound_networks", got["networks"])
	require.Equal(t, "warning refusals", got["refusals address"])
	require.Equal(t, "skipped not_checked", got["http"])
	require.Equal(t, "ok opens", got["open"])
	require.Equal(t, "warning", d.Status)
}

// It is a right of its own, and an event of its own.
func TestDiagnoseIsARight(t *testing.T) {
	t.Parallel()
	role := func(_ context.Context, a keycote.Actor, action keycote.Action, _ *keycote.Key) error {
		if len(a.Roles) > 0 && (a.Roles[0] == "admin" || a.Roles[0] == string(action)) {
			return nil
		}
		return errors.New("no")
	}
	env := keytest.New(t, &keycote.Options{Authorize: role})
	as := func(role string) context.Context {
		return keycote.WithActor(t.Context(), keycote.Actor{ID: role, Roles: []string{role}})
	}
	key, err := env.Manager.Add(as("admin"), keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue),
	})
	require.NoError(t, err)
	for _, role := range []string{"read", "use", "reveal", "update"} {
		_, err := env.Manager.Diagnose(as(role), key.ID)
		require.ErrorIs(t, err, keycote.ErrForbidden, role)
	}
	_, err = env.Manager.Diagnose(t.Context(), key.ID)
	require.ErrorIs(t, err, keycote.ErrForbidden, "without an actor")

	d, err := env.Manager.Diagnose(as("diagnose"), key.ID)
	require.NoError(t, err)
	require.Equal(t, "warning may_not", told(d)["authorized use"])
	require.Equal(t, "skipped not_checked", told(d)["probe"], "who may not use the value does not have it presented either")
	var events []keycote.Event
	for e, err := range env.Manager.Events(as("admin"), keycote.EventFilter{Action: keycote.ActionDiagnose}) {
		require.NoError(t, err)
		events = append(events, e)
	}
	require.NotEmpty(t, events)
	require.Equal(t, keycote.Code(""), events[0].Outcome)
	require.Equal(t, "diagnose", events[0].Actor)
	require.Equal(t, key.ID, events[0].KeyID)

	_, err = env.Manager.Diagnose(as("admin"), "key_0123456789abcdefghjkmnpqrs")
	require.ErrorIs(t, err, keycote.ErrNotFound)
	_, err = env.Manager.Tenant("acme").Diagnose(as("admin"), key.ID)
	require.ErrorIs(t, err, keycote.ErrNotFound, "another tenant's")
	view, _ := env.Manager.In(env.Store)
	_, err = view.Diagnose(as("admin"), key.ID)
	require.ErrorIs(t, err, keycote.ErrInvalid)
}

// What a host's Inspect or Prober says is taken for what it is: a step of this report, without the value.
func TestDiagnoseTrustsNoInspect(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, &keycote.Options{
		Inspect: func(context.Context, string) []keycote.Check {
			return []keycote.Check{{Area: "keeping", Name: "http", Status: "splendid", Code: "answered",
				Params: map[string]string{"status": "200 for " + diagnosedValue}, Text: diagnosedValue, Advice: diagnosedValue}}
		},
		Prober: func(_ context.Context, _ string, s keycote.Secret) error {
			return errors.New("cannot send " + s.Reveal())
		},
	})
	key, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue), SkipProbe: true,
	})
	require.NoError(t, err)
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, "failed answered", told(d)["http"])
	require.Equal(t, "failed could_not_check", told(d)["probe"])
	for _, c := range d.Checks {
		require.False(t, c.Name == "http" && c.Area != "network")
	}
	out, err := json.Marshal(d)
	require.NoError(t, err)
	require.NotContains(t, string(out), diagnosedValue)
}

func TestDiagnosisIn(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	key := diagnosed(t, env)
	_, err := env.Manager.Disable(t.Context(), key.ID, "")
	require.NoError(t, err)
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	german := d.In("de-AT, en;q=0.5")
	for i := range d.Checks {
		require.Equal(t, d.Checks[i].Code, german.Checks[i].Code)
		require.NotEqual(t, d.Checks[i].Text, german.Checks[i].Text, d.Checks[i].Code)
	}
	require.Equal(t, d, german.In("en"), "a copy: the words alone are others")
	for _, c := range d.Checks {
		if c.Name == "state" {
			require.Contains(t, c.Text, "disabled")
			require.False(t, strings.HasSuffix(c.Text, ".."))
		}
	}
}

// A diagnosis of a key whose store hangs ends with its context.
func TestDiagnoseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	key := diagnosed(t, env)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := env.Manager.Diagnose(ctx, key.ID)
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
}
