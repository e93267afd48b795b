package keycote_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestIssueKeepsEveryParameter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	p := keycote.IssueParams{
		Name: "shop", App: "checkout", Owner: "ops", Prefix: "shop_live",
		Scopes:    []string{"orders:read", "orders:*"},
		Networks:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:192.0.2.0/120")},
		ExpiresAt: worldStart.Add(time.Hour + 999),
		Limit:     keycote.Limit{Rate: 10, Per: time.Minute, Burst: 5, Quota: 1000, Period: 24 * time.Hour},
		Labels:    map[string]string{"env": "prod"}, Reason: "launch",
	}
	ctx := as(t, keycote.Actor{ID: "alice", Addr: netip.MustParseAddr("::ffff:198.51.100.7"), MaxScopes: []string{"**"}})
	key, secret, err := w.Issue(ctx, p)
	require.NoError(t, err)
	value := secret.Reveal()
	require.Regexp(t, `^shop_live_[0-9A-Za-z]{49}$`, value)

	want := &keycote.Key{
		ID: key.ID, Kind: keycote.KindAccess, Name: "shop", App: "checkout", Owner: "ops",
		Hint:     "shop_live_…" + value[len(value)-4:],
		Scopes:   []string{"orders:read", "orders:*"},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")},
		Labels:   map[string]string{"env": "prod"},
		Limit:    p.Limit, State: keycote.StateActive, CreatedAt: worldStart, CreatedBy: "alice", UpdatedAt: worldStart,
		ExpiresAt: worldStart.Add(time.Hour), Revision: 1,
		Versions: []keycote.Version{{
			Number: 1, State: keycote.StateActive, Hint: "shop_live_…" + value[len(value)-4:], CreatedAt: worldStart,
			ExpiresAt: worldStart.Add(time.Hour),
		}},
	}
	require.Equal(t, want, key)
	got, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, want, got)

	g, err := w.Verify(t.Context(), value, keycote.Request{
		Addr: netip.MustParseAddr("10.1.2.3"), Scopes: []string{"orders:write"},
	})
	require.NoError(t, err)
	require.Equal(t, key.ID, g.KeyID)
	require.Equal(t, "checkout ops", g.App+" "+g.Owner)
	require.Equal(t, 1, g.Version)
	require.False(t, g.Superseded)
	require.Equal(t, want.ExpiresAt, g.ExpiresAt)
	require.Equal(t, want, g.Key())
	require.True(t, g.Allows("orders:read", "orders:x"))
	require.False(t, g.Allows("orders:read", "users:read"))

	events := eventsOf(t, w.Manager, keycote.EventFilter{})
	require.Len(t, events, 1)
	e := events[0]
	require.NotEmpty(t, e.BodyHash)
	e.ID, e.BodyHash = "", nil
	require.Equal(t, keycote.Event{
		KeyID: key.ID, Name: "shop", Version: 1, Action: keycote.ActionIssue, Actor: "alice",
		Addr: netip.MustParseAddr("198.51.100.7"), Reason: "launch", At: worldStart, Revision: 1,
	}, e)
}

func TestAddKeepsEveryParameter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := as(t, keycote.Actor{ID: "bob"})
	key, err := w.Add(ctx, keycote.AddParams{
		Name: "mail", Endpoint: "https://Mail.example.com/v1?x=1", Secret: keycote.NewSecret(goodValue), App: "web",
		ExpiresAt: worldStart.Add(time.Hour), Labels: map[string]string{"a": "b"}, Reason: "because",
	})
	require.NoError(t, err)
	want := &keycote.Key{
		ID: key.ID, Kind: keycote.KindCredential, Name: "mail", App: "web", Owner: "bob",
		Endpoint: "https://Mail.example.com/v1?x=1", Hint: "…" + goodValue[len(goodValue)-4:],
		Scopes: []string{}, Networks: []netip.Prefix{}, Labels: map[string]string{"a": "b"},
		State: keycote.StateActive, CreatedAt: worldStart, CreatedBy: "bob", UpdatedAt: worldStart,
		ExpiresAt: worldStart.Add(time.Hour), Revision: 1,
		Versions: []keycote.Version{{
			Number: 1, State: keycote.StateActive, Hint: "…" + goodValue[len(goodValue)-4:], CreatedAt: worldStart,
			ExpiresAt: worldStart.Add(time.Hour),
		}},
	}
	require.Equal(t, want, key)
	g, secret, err := w.Use(t.Context(), key.ID, keycote.Request{Endpoint: "https://MAIL.example.com:443/other"})
	require.NoError(t, err)
	require.Equal(t, goodValue, secret.Reveal())
	require.Equal(t, "https://Mail.example.com/v1?x=1", g.Endpoint)
	require.Equal(t, want, g.Key())
	secret, err = w.Reveal(ctx, key.ID, "to look")
	require.NoError(t, err)
	require.Equal(t, goodValue, secret.Reveal())
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &keycote.Options{Prefix: "acme_live"})
	for name, c := range map[string]struct {
		actor  string
		p      keycote.IssueParams
		owner  string
		prefix string
	}{
		"all":             {"alice", keycote.IssueParams{}, "alice", "acme_live_"},
		"owner given":     {"alice", keycote.IssueParams{Owner: "bob"}, "bob", "acme_live_"},
		"prefix given":    {"alice", keycote.IssueParams{Prefix: "x1"}, "alice", "x1_"},
		"the host itself": {"", keycote.IssueParams{}, "", "acme_live_"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if c.actor != "" {
				ctx = as(t, keycote.Actor{ID: c.actor})
			}
			c.p.Name = name
			key, secret, err := w.Issue(ctx, c.p)
			require.NoError(t, err)
			require.Equal(t, c.owner, key.Owner)
			require.Equal(t, c.actor, key.CreatedBy)
			require.True(t, strings.HasPrefix(secret.Reveal(), c.prefix))
			require.True(t, strings.HasPrefix(key.Hint, c.prefix+"…"))
		})
	}
	plain := newWorld(t, nil)
	_, value := plain.issue(keycote.IssueParams{})
	require.True(t, strings.HasPrefix(value, "kc_"))
}

func TestHintsOfGivenValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	nineteen, twenty := goodValue[:19], goodValue[:20]
	for name, c := range map[string]struct{ value, hint string }{
		"19 code points": {nineteen, "••••"},
		"20 code points": {twenty, "…" + twenty[16:]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, secret, err := w.Issue(t.Context(), keycote.IssueParams{Name: name, Secret: keycote.NewSecret(c.value)})
			require.NoError(t, err)
			require.Equal(t, c.hint, key.Hint)
			require.True(t, secret.IsZero(), "who chose the value has it")
			credential, err := w.Add(t.Context(), keycote.AddParams{
				Name: name, Endpoint: "https://api.example.com", Secret: keycote.NewSecret(c.value),
			})
			require.NoError(t, err)
			require.Equal(t, c.hint, credential.Hint)
			require.Equal(t, c.hint, credential.Versions[0].Hint)
		})
	}
}

func TestJSONOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	acme := w.Tenant("acme")
	key, secret, err := acme.Issue(t.Context(), keycote.IssueParams{Name: "bare"})
	require.NoError(t, err)
	b, err := json.Marshal(key)
	require.NoError(t, err)
	hint := "kc_…" + secret.Reveal()[len(secret.Reveal())-4:]
	require.JSONEq(t, `{"id":"`+key.ID+`","tenant":"acme","kind":"access","name":"bare","app":"","owner":"","hint":"`+hint+`",
		"scopes":[],"networks":[],"labels":{},"state":"active","versions":[{"number":1,"state":"active","hint":"`+hint+`",
		"createdAt":"2026-03-01T12:00:00.123456Z","uses":0}],"createdAt":"2026-03-01T12:00:00.123456Z","createdBy":"",
		"updatedAt":"2026-03-01T12:00:00.123456Z","revision":1}`, string(b))

	full := &keycote.Key{
		ID: "key_1", Kind: keycote.KindAccess, Scopes: []string{"a:b"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Labels: map[string]string{"k": "v"}, Limit: keycote.Limit{Rate: 1, Per: time.Minute, Quota: 5, Period: time.Hour},
		Endpoint: "https://x", ExpiresAt: worldStart, LastUsedAt: worldStart,
		Versions: []keycote.Version{{Number: 2, ExpiresAt: worldStart, LastUsedAt: worldStart, Uses: 7}},
	}
	b, err = json.Marshal(full)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"key_1","kind":"access","name":"","app":"","owner":"","endpoint":"https://x","hint":"",
		"scopes":["a:b"],"networks":["10.0.0.0/8"],"labels":{"k":"v"},"limit":{"rate":1,"per":60,"quota":5,"period":3600},
		"state":"","versions":[{"number":2,"state":"","hint":"","expiresAt":"2026-03-01T12:00:00.123456Z",
		"lastUsedAt":"2026-03-01T12:00:00.123456Z","uses":7}],"createdBy":"","expiresAt":"2026-03-01T12:00:00.123456Z",
		"lastUsedAt":"2026-03-01T12:00:00.123456Z","revision":0}`, string(b))

	page, err := w.Page(t.Context(), keycote.Filter{}, "", 0)
	require.NoError(t, err)
	b, err = json.Marshal(page)
	require.NoError(t, err)
	require.JSONEq(t, `{"keys":[]}`, string(b))
}

func TestTimesAreCutToTheMicrosecondInUTC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east := time.FixedZone("east", 3*3600)
	w.clock.Set(worldStart.Add(789).In(east))
	key, _ := w.issue(keycote.IssueParams{ExpiresAt: worldStart.Add(time.Hour + 321).In(east)})
	for name, at := range map[string]time.Time{
		"created": key.CreatedAt, "updated": key.UpdatedAt, "version": key.Versions[0].CreatedAt,
		"event": eventsOf(t, w.Manager, keycote.EventFilter{})[0].At,
	} {
		require.Equal(t, worldStart, at, name)
	}
	require.Equal(t, worldStart.Add(time.Hour), key.ExpiresAt)
}

func TestNothingAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	p := keycote.IssueParams{
		Name: "n", Scopes: []string{"a:b", "c:d"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Labels: map[string]string{"k": "v"},
	}
	key, secret, err := w.Issue(t.Context(), p)
	require.NoError(t, err)
	want, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	from := keycote.Request{Addr: netip.MustParseAddr("10.0.0.1"), Scopes: []string{"a:b"}}
	spoil := func(k *keycote.Key) {
		k.Scopes[0], k.Networks[0], k.Labels["k"], k.Versions[0].State = "x:y", netip.Prefix{}, "spoiled", "spoiled"
	}
	p.Scopes[0], p.Networks[0], p.Labels["k"] = "x:y", netip.Prefix{}, "spoiled"
	spoil(key)
	g, err := w.Verify(t.Context(), secret.Reveal(), from)
	require.NoError(t, err)
	spoil(g.Key())
	require.Equal(t, want, g.Key())
	require.True(t, g.Allows("a:b"))
	for _, k := range collect(t, w.List(t.Context(), keycote.Filter{})) {
		require.Equal(t, want, k)
		spoil(k)
	}
	patch := keycote.Patch{Scopes: ptr([]string{"a:b", "c:d"}), Labels: ptr(map[string]string{"k": "v", "l": "m"})}
	changed, err := w.Update(t.Context(), want.ID, patch)
	require.NoError(t, err)
	spoil(changed)
	(*patch.Scopes)[0], (*patch.Labels)["k"] = "x:y", "spoiled"
	got, err := w.Get(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"a:b", "c:d"}, got.Scopes)
	require.Equal(t, map[string]string{"k": "v", "l": "m"}, got.Labels)
	for _, b := range w.store.batches {
		for _, r := range append(b.Insert, b.Update...) {
			require.Equal(t, "v", r.Labels["k"], "what a Store was given is not the caller's map")
		}
	}
}

func TestNamesAndValuesAreUnique(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	chosen := func(name, value string) keycote.IssueParams {
		return keycote.IssueParams{Name: name, Secret: keycote.NewSecret(value), Reason: "mine"}
	}
	first, _ := w.issue(chosen("one", goodValue))
	w.add(keycote.AddParams{Name: "one"}) // another kind has names of its own
	_, _, err := w.Tenant("acme").Issue(t.Context(), chosen("one", goodValue))
	require.NoError(t, err, "another tenant has names and values of its own")

	for name, c := range map[string]struct {
		p    keycote.IssueParams
		want []string
		told int // events of a taken value
	}{
		"name":                     {chosen("one", otherValue), []string{"name: exists"}, 0},
		"value":                    {chosen("two", goodValue), []string{"secret: exists"}, 1},
		"both":                     {chosen("one", goodValue), []string{"name: exists", "secret: exists"}, 1},
		"value, and another fault": {func() keycote.IssueParams { p := chosen("two", goodValue); p.App = " x"; return p }(), []string{"app: blank_edge", "secret: exists"}, 1},
		"name of issued key":       {keycote.IssueParams{Name: "one"}, []string{"name: exists"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(eventsOf(t, w.Manager, keycote.EventFilter{}))
			_, _, err := w.Issue(as(t, keycote.Actor{ID: "eve"}), c.p)
			require.Equal(t, c.want, broken(t, err))
			require.ErrorIs(t, err, keycote.ErrExists)
			events := eventsOf(t, w.Manager, keycote.EventFilter{})
			require.Len(t, events, before+c.told)
			if c.told > 0 {
				e := events[len(events)-1]
				require.Equal(t, keycote.ErrExists, e.Outcome)
				require.Equal(t, keycote.ActionIssue, e.Action)
				require.Equal(t, "eve", e.Actor)
				require.Empty(t, e.KeyID)
				require.NotContains(t, e.Name+e.Reason, first.ID)
				require.Empty(t, e.Changes)
				require.Zero(t, e.Revision)
				require.Empty(t, e.BodyHash)
			}
		})
	}
	_, err = w.Revoke(t.Context(), first.ID, "")
	require.NoError(t, err)
	_, _, err = w.Issue(t.Context(), chosen("one", otherValue))
	require.NoError(t, err, "a revoked key's name is free")
	_, _, err = w.Issue(t.Context(), chosen("three", goodValue))
	require.Equal(t, []string{"secret: exists"}, broken(t, err), "a revoked key's value is not: its use is noticed")
}
