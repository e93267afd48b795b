package keycote_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// dryCalls are the verbs that know a dry run, with parameters that are good, and with some that are refused.
type dryCall struct {
	name string
	call func(ctx context.Context, m *keycote.Manager, dry bool) (*keycote.Key, keycote.Secret, error)
}

func dryCalls(access, credential string) []dryCall {
	type M = *keycote.Manager
	issue := func(p keycote.IssueParams) func(context.Context, M, bool) (*keycote.Key, keycote.Secret, error) {
		return func(ctx context.Context, m M, dry bool) (*keycote.Key, keycote.Secret, error) {
			p.DryRun = dry
			return m.Issue(ctx, p)
		}
	}
	add := func(p keycote.AddParams) func(context.Context, M, bool) (*keycote.Key, keycote.Secret, error) {
		return func(ctx context.Context, m M, dry bool) (*keycote.Key, keycote.Secret, error) {
			p.DryRun = dry
			key, err := m.Add(ctx, p)
			return key, keycote.Secret{}, err
		}
	}
	rotate := func(id string, p keycote.RotateParams) func(context.Context, M, bool) (*keycote.Key, keycote.Secret, error) {
		return func(ctx context.Context, m M, dry bool) (*keycote.Key, keycote.Secret, error) {
			p.DryRun = dry
			return m.Rotate(ctx, id, p)
		}
	}
	update := func(id string, p keycote.Patch) func(context.Context, M, bool) (*keycote.Key, keycote.Secret, error) {
		return func(ctx context.Context, m M, dry bool) (*keycote.Key, keycote.Secret, error) {
			p.DryRun = dry
			key, err := m.Update(ctx, id, p)
			return key, keycote.Secret{}, err
		}
	}
	secret, other := keycote.NewSecret(otherValue), keycote.NewSecret(thirdValue)
	const where = "https://api.example.com/v1"
	return []dryCall{
		{"issue", issue(keycote.IssueParams{Name: "new", Scopes: []string{"a:b"}, ExpiresAt: worldStart.Add(time.Hour)})},
		{"issue a chosen value", issue(keycote.IssueParams{Name: "new", Secret: other})},
		{"issue with a RequestID", issue(keycote.IssueParams{Name: "new", RequestID: "r"})},
		{"issue a taken name", issue(keycote.IssueParams{Name: "access"})},
		{"issue a taken value", issue(keycote.IssueParams{Name: "new", Secret: keycote.NewSecret(goodValue)})},
		{"issue a taken name and value", issue(keycote.IssueParams{Name: "access", Secret: keycote.NewSecret(goodValue)})},
		{"issue a weak value", issue(keycote.IssueParams{Name: "new", Secret: keycote.NewSecret("password1234")})},
		{"issue wide scopes", issue(keycote.IssueParams{Name: "new", Scopes: []string{"root"}})},
		{"issue with faults", issue(keycote.IssueParams{Name: " ", Prefix: "X", Scopes: []string{"a b"}, RequestID: string(make([]byte, 300))})},
		{"add", add(keycote.AddParams{Name: "new", Endpoint: where, Secret: secret})},
		{"add a taken name", add(keycote.AddParams{Name: "upstream", Endpoint: where, Secret: secret})},
		{"add what the probe refuses", add(keycote.AddParams{Name: "new", Endpoint: "https://refused.example.com", Secret: secret})},
		{"add what cannot be probed", add(keycote.AddParams{Name: "new", Endpoint: "https://away.example.com", Secret: secret})},
		{"add without a probe", add(keycote.AddParams{Name: "new", Endpoint: "https://refused.example.com", Secret: secret, SkipProbe: true})},
		{"rotate", rotate(access, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})},
		{"rotate to a chosen value", rotate(access, keycote.RotateParams{Secret: other})},
		{"rotate to a taken value", rotate(access, keycote.RotateParams{Secret: keycote.NewSecret(goodValue)})},
		{"rotate with faults", rotate(access, keycote.RotateParams{Overlap: -1, ExpiresAt: worldStart})},
		{"rotate a credential", rotate(credential, keycote.RotateParams{Secret: secret})},
		{"rotate a credential without a value", rotate(credential, keycote.RotateParams{})},
		{"rotate nothing", rotate("key_00000000000000000000000000", keycote.RotateParams{})},
		{"update", update(access, keycote.Patch{Name: ptr("new"), ExpiresAt: ptr(worldStart.Add(time.Hour))})},
		{"update nothing", update(access, keycote.Patch{})},
		{"update to a taken name", update(access, keycote.Patch{Name: ptr("taken")})},
		{"update an old revision", update(access, keycote.Patch{Name: ptr("new"), Revision: 9})},
		{"update the origin", update(credential, keycote.Patch{Endpoint: ptr("https://b.example.com"), Secret: secret})},
		{"update the origin without a value", update(credential, keycote.Patch{Endpoint: ptr("https://b.example.com")})},
		{"update wide scopes", update(access, keycote.Patch{Scopes: ptr([]string{"root"})})},
	}
}

func proberOfNames(_ context.Context, endpoint string, _ keycote.Secret) error {
	switch endpoint {
	case "https://refused.example.com":
		return keycote.Violation{Field: "secret", Code: "key_refused"}
	case "https://away.example.com":
		return errors.New("no route")
	}
	return nil
}

func TestADryRunSaysWhatTheCallWouldSay(t *testing.T) {
	t.Parallel()
	for i := range dryCalls("", "") {
		t.Run(dryCalls("", "")[i].name, func(t *testing.T) {
			t.Parallel()
			g := &gate{}
			w := newWorld(t, nil)
			access, _ := w.issue(keycote.IssueParams{Name: "access", Scopes: []string{"a:b"}})
			w.issue(keycote.IssueParams{Name: "taken", Secret: keycote.NewSecret(goodValue)})
			credential := w.add(keycote.AddParams{})
			m := w.another(&keycote.Options{Authorize: g.authorize, Prober: proberOfNames})
			ctx := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"a:**"}})
			c := dryCalls(access.ID, credential.ID)[i]

			before := w.dump()
			dry, secret, dryErr := c.call(ctx, m, true)
			asked := len(g.take())
			require.NoError(t, m.Flush(t.Context()))
			require.Equal(t, before, w.dump(), "nothing is written, events included")
			require.True(t, secret.IsZero())

			real, made, err := c.call(ctx, m, false)
			require.Equal(t, len(g.take()), asked)
			if err != nil {
				require.Nil(t, dry)
				require.Equal(t, err, dryErr)
				return
			}
			require.NoError(t, dryErr)
			require.Empty(t, dry.ID)
			dry.ID = real.ID
			if !made.IsZero() { // its hint cannot be known before
				last := len(real.Versions) - 1
				require.Empty(t, dry.Hint)
				dry.Hint, dry.Versions[last].Hint = real.Hint, real.Versions[last].Hint
			}
			require.Equal(t, real, dry)
		})
	}
}

func TestADryRunOfAShreddedTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.add(keycote.AddParams{})
	tombstone := binary.BigEndian.AppendUint64([]byte{0x01, 2 << 1, 8}, uint64(worldStart.UnixMicro()))
	require.NoError(t, w.store.Store.Commit(t.Context(), keycote.Batch{ID: "shred", Items: []keycote.Item{
		{Space: "keyring", Name: "data", Revision: 2, Body: tombstone},
	}}))
	m := w.another(&keycote.Options{Prober: proberOfNames})
	for _, c := range dryCalls(key.ID, key.ID) {
		switch c.name {
		case "add", "add without a probe", "rotate a credential", "update the origin":
			before := w.dump()
			_, _, err := c.call(t.Context(), m, true)
			require.ErrorIs(t, err, keycote.ErrShredded, c.name)
			_, _, err = c.call(t.Context(), m, false)
			require.ErrorIs(t, err, keycote.ErrShredded, c.name)
			require.Equal(t, before, w.dump())
		}
	}
	_, err := m.Reveal(t.Context(), key.ID, "look")
	require.ErrorIs(t, err, keycote.ErrShredded)
	_, _, err = m.Use(t.Context(), key.ID, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrShredded)
	_, err = m.Update(t.Context(), key.ID, keycote.Patch{Name: ptr("x")})
	require.NoError(t, err, "what opens and seals nothing goes on")
	require.NoError(t, m.Delete(t.Context(), key.ID, ""))
}
