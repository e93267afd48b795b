package keycote_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestUpdateEveryField(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"**"}})
	key, token := w.issue(keycote.IssueParams{
		Name: "n", App: "a", Owner: "o", Scopes: []string{"a:b"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		ExpiresAt: worldStart.Add(time.Hour), Limit: keycote.Limit{Rate: 1, Per: time.Second}, Labels: map[string]string{"k": "v"},
	})
	credential := w.add(keycote.AddParams{})
	for _, c := range []struct {
		field    string
		patch    keycote.Patch
		from, to string
		want     func(k *keycote.Key)
	}{
		{"name", keycote.Patch{Name: ptr("m")}, "n", "m", func(k *keycote.Key) { k.Name = "m" }},
		{"app", keycote.Patch{App: ptr("b")}, "a", "b", func(k *keycote.Key) { k.App = "b" }},
		{"app", keycote.Patch{App: ptr("")}, "b", "", func(k *keycote.Key) { k.App = "" }},
		{"owner", keycote.Patch{Owner: ptr("p")}, "o", "p", func(k *keycote.Key) { k.Owner = "p" }},
		{"owner", keycote.Patch{Owner: ptr("")}, "p", "", func(k *keycote.Key) { k.Owner = "" }},
		{"scopes", keycote.Patch{Scopes: ptr([]string{"c:d", "e"})}, "a:b", "c:d, e", func(k *keycote.Key) { k.Scopes = []string{"c:d", "e"} }},
		{"scopes", keycote.Patch{Scopes: new([]string)}, "c:d, e", "", func(k *keycote.Key) { k.Scopes = []string{} }},
		{"networks", keycote.Patch{Networks: ptr([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})}, "10.0.0.0/8", "192.0.2.0/24",
			func(k *keycote.Key) { k.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }},
		{"networks", keycote.Patch{Networks: new([]netip.Prefix)}, "192.0.2.0/24", "", func(k *keycote.Key) { k.Networks = []netip.Prefix{} }},
		{"expiresAt", keycote.Patch{ExpiresAt: ptr(worldStart.Add(2*time.Hour + 5))}, "2026-03-01T13:00:00.123456Z", "2026-03-01T14:00:00.123456Z",
			func(k *keycote.Key) {
				k.ExpiresAt = worldStart.Add(2 * time.Hour)
				k.Versions[0].ExpiresAt = k.ExpiresAt
			}},
		{"expiresAt", keycote.Patch{ExpiresAt: new(time.Time)}, "2026-03-01T14:00:00.123456Z", "",
			func(k *keycote.Key) { k.ExpiresAt, k.Versions[0].ExpiresAt = time.Time{}, time.Time{} }},
		{"limit", keycote.Patch{Limit: &keycote.Limit{Quota: 5, Period: time.Hour}}, "1 per 1s, burst 0", "5 in 1h0m0s",
			func(k *keycote.Key) { k.Limit = keycote.Limit{Quota: 5, Period: time.Hour} }},
		{"limit", keycote.Patch{Limit: &keycote.Limit{}}, "5 in 1h0m0s", "", func(k *keycote.Key) { k.Limit = keycote.Limit{} }},
		{"labels", keycote.Patch{Labels: ptr(map[string]string{"x": "y"})}, `k="v"`, `x="y"`, func(k *keycote.Key) { k.Labels = map[string]string{"x": "y"} }},
		{"labels", keycote.Patch{Labels: new(map[string]string)}, `x="y"`, "", func(k *keycote.Key) { k.Labels = map[string]string{} }},
	} {
		w.clock.Advance(time.Second)
		want, err := w.Get(ctx, key.ID)
		require.NoError(t, err)
		c.want(want)
		want.Revision++
		want.UpdatedAt = w.clock.Now()
		c.patch.Reason = "why"
		got, err := w.Update(ctx, key.ID, c.patch)
		require.NoError(t, err, c.field)
		require.Equal(t, want, got, c.field)
		got, err = w.Get(ctx, key.ID)
		require.NoError(t, err)
		require.Equal(t, want, got, c.field)
		events := eventsOf(t, w.Manager, keycote.EventFilter{KeyID: key.ID, Newest: true})
		require.Equal(t, []keycote.FieldChange{{Field: c.field, From: c.from, To: c.to}}, events[0].Changes)
		require.Equal(t, "alice why", events[0].Actor+" "+events[0].Reason)
		require.Equal(t, want.Revision, events[0].Revision)

		batches, _ := w.store.written()
		again, err := w.Update(ctx, key.ID, c.patch)
		require.NoError(t, err)
		require.Equal(t, want, again, "no change is no error")
		now, _ := w.store.written()
		require.Equal(t, batches, now, "an Update that changes nothing writes nothing")
	}
	require.Empty(t, w.verdict(token))
	got, err := w.Update(ctx, credential.ID, keycote.Patch{Name: ptr("c"), Endpoint: ptr("https://api.example.com/v2")})
	require.NoError(t, err)
	require.Equal(t, "https://api.example.com/v2", got.Endpoint)
	require.Len(t, got.Versions, 1)
}

func TestUpdateRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	access, _ := w.issue(keycote.IssueParams{Name: "one"})
	w.issue(keycote.IssueParams{Name: "taken"})
	credential := w.add(keycote.AddParams{})
	before := w.dump()
	for name, c := range map[string]struct {
		id   string
		p    keycote.Patch
		want []string
	}{
		"name taken":                {access.ID, keycote.Patch{Name: ptr("taken")}, []string{"name: exists"}},
		"no name":                   {access.ID, keycote.Patch{Name: ptr("")}, []string{"name: required"}},
		"endpoint of an access key": {access.ID, keycote.Patch{Endpoint: ptr("https://api.example.com")}, []string{"endpoint: not_allowed"}},
		"secret of an access key":   {access.ID, keycote.Patch{Secret: keycote.NewSecret(goodValue)}, []string{"secret: not_allowed"}},
		"secret alone":              {credential.ID, keycote.Patch{Secret: keycote.NewSecret(otherValue)}, []string{"secret: not_allowed"}},
		"secret with another path":  {credential.ID, keycote.Patch{Endpoint: ptr("https://api.example.com/x"), Secret: keycote.NewSecret(otherValue)}, []string{"secret: not_allowed"}},
		"another host":              {credential.ID, keycote.Patch{Endpoint: ptr("https://evil.example.org/v1")}, []string{"secret: secret_required"}},
		"another port":              {credential.ID, keycote.Patch{Endpoint: ptr("https://api.example.com:8443/v1")}, []string{"secret: secret_required"}},
		"a weak secret":             {credential.ID, keycote.Patch{Endpoint: ptr("https://b.example.org"), Secret: keycote.NewSecret("password")}, []string{"secret: weak_secret"}},
		"scopes of a credential":    {credential.ID, keycote.Patch{Scopes: ptr([]string{"a"})}, []string{"scopes: not_allowed"}},
		"past":                      {access.ID, keycote.Patch{ExpiresAt: ptr(worldStart)}, []string{"expiresAt: past"}},
		"negative revision":         {access.ID, keycote.Patch{Revision: -1}, []string{"revision: out_of_range"}},
		"all at once": {access.ID, keycote.Patch{Name: ptr(" x"), App: ptr("\x00"), Labels: ptr(map[string]string{"A": ""}), Reason: "\xff"},
			[]string{"name: blank_edge", "app: control", "labels: syntax", "reason: encoding"}},
	} {
		_, err := w.Update(t.Context(), c.id, c.p)
		require.Equal(t, c.want, broken(t, err), name)
		if c.want[0] == "secret: secret_required" {
			require.ErrorIs(t, err, keycote.ErrSecretRequired)
		}
	}
	require.Equal(t, before, w.dump())
	_, err := w.Update(t.Context(), access.ID, keycote.Patch{App: ptr("x"), Revision: 2})
	require.ErrorIs(t, err, keycote.ErrConflict)
	got, err := w.Update(t.Context(), access.ID, keycote.Patch{App: ptr("x"), Revision: 1})
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Revision)
	_, err = w.Revoke(t.Context(), access.ID, "")
	require.NoError(t, err)
	_, err = w.Update(t.Context(), access.ID, keycote.Patch{App: ptr("y")})
	require.ErrorIs(t, err, keycote.ErrRevoked)
	_, err = w.Update(t.Context(), "key_00000000000000000000000000", keycote.Patch{App: ptr("y")})
	require.ErrorIs(t, err, keycote.ErrNotFound)
}

func TestUpdateOfTheOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	key := w.add(keycote.AddParams{ExpiresAt: worldStart.Add(time.Hour)})
	got, err := w.Update(ctx, key.ID, keycote.Patch{
		Endpoint: ptr("https://b.example.org/v1"), Secret: keycote.NewSecret(otherValue), ExpiresAt: ptr(worldStart.Add(2 * time.Hour)),
	})
	require.NoError(t, err)
	require.Equal(t, []keycote.State{ended, active}, states(got))
	require.Equal(t, worldStart.Add(time.Hour), got.Versions[0].ExpiresAt, "no life is lengthened")
	require.Equal(t, worldStart.Add(2*time.Hour), got.ExpiresAt)
	_, secret, err := w.Use(ctx, key.ID, keycote.Request{Endpoint: "https://b.example.org"})
	require.NoError(t, err)
	require.Equal(t, otherValue, secret.Reveal())
	_, _, err = w.Use(ctx, key.ID, keycote.Request{Endpoint: "https://api.example.com"})
	require.ErrorIs(t, err, keycote.ErrAddress)
	got, err = w.Update(ctx, key.ID, keycote.Patch{Endpoint: ptr("https://B.Example.org:443/v2")})
	require.NoError(t, err, "the same origin in other words")
	require.Len(t, got.Versions, 2)
}

func TestUpdateOpensNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.add(keycote.AddParams{})
	fresh := w.another(nil) // has opened no tenant's keyring
	before, items := w.kek.calls(), w.store.readsOf("items")
	_, err := fresh.Update(t.Context(), key.ID, keycote.Patch{Endpoint: ptr("https://api.example.com/v2"), Name: ptr("x")})
	require.NoError(t, err)
	require.Equal(t, before, w.kek.calls(), "no keyring is opened")
	require.Equal(t, items, w.store.readsOf("items"), "nor read")
	secret, err := fresh.Reveal(t.Context(), key.ID, "look")
	require.NoError(t, err)
	require.Equal(t, goodValue, secret.Reveal())
}

// TestAnUpdateIsJudgedAgainAfterAConflict has a change slip in between the reading and the writing of another.
func TestAnUpdateIsJudgedAgainAfterAConflict(t *testing.T) {
	t.Parallel()
	limited := keycote.Actor{ID: "limited", MaxScopes: []string{"a:**"}}
	t.Run("the origin", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		key := w.add(keycote.AddParams{})
		w.store.once(func() {
			_, err := w.Update(t.Context(), key.ID, keycote.Patch{Endpoint: ptr("https://b.example.org"), Secret: keycote.NewSecret(otherValue)})
			require.NoError(t, err)
		})
		_, err := w.Update(t.Context(), key.ID, keycote.Patch{Endpoint: ptr("https://api.example.com/v2")})
		require.ErrorIs(t, err, keycote.ErrSecretRequired, "what was another path is another origin by now")
		_, secret, err := w.Use(t.Context(), key.ID, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, otherValue, secret.Reveal())
	})
	t.Run("the ceiling of an update", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		key, _ := w.issue(keycote.IssueParams{Scopes: []string{"a:b"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		w.store.once(func() {
			_, err := w.Update(t.Context(), key.ID, keycote.Patch{Scopes: ptr([]string{"a:b", "root:x"})})
			require.NoError(t, err)
		})
		_, err := w.Update(as(t, limited), key.ID, keycote.Patch{Networks: new([]netip.Prefix)})
		require.ErrorIs(t, err, keycote.ErrForbidden)
	})
	t.Run("the ceiling of a rotation", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil)
		key, _ := w.issue(keycote.IssueParams{Scopes: []string{"a:b"}})
		w.store.once(func() {
			_, err := w.Update(t.Context(), key.ID, keycote.Patch{Scopes: ptr([]string{"a:b", "root:x"})})
			require.NoError(t, err)
		})
		_, secret, err := w.Rotate(as(t, limited), key.ID, keycote.RotateParams{})
		require.ErrorIs(t, err, keycote.ErrForbidden)
		require.True(t, secret.IsZero())
	})
	t.Run("the probe is not made twice", func(t *testing.T) {
		t.Parallel()
		probes := 0
		w := newWorld(t, &keycote.Options{Prober: countingProber(&probes)})
		key := w.add(keycote.AddParams{})
		w.store.once(func() {
			_, err := w.Update(t.Context(), key.ID, keycote.Patch{App: ptr("x")})
			require.NoError(t, err)
		})
		got, _, err := w.Rotate(t.Context(), key.ID, keycote.RotateParams{Secret: keycote.NewSecret(otherValue)})
		require.NoError(t, err)
		require.Equal(t, "x", got.App)
		require.Equal(t, 2, probes)
	})
}
