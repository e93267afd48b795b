package keycote_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestIssueReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"**"}})
	p := keycote.IssueParams{Name: "n", RequestID: "r1", Scopes: []string{"a:b"}, Reason: "first"}
	key, lost, err := w.Issue(ctx, p)
	require.NoError(t, err)
	p.Reason = "again" // a reason is not what is asked for
	again, secret, err := w.Issue(ctx, p)
	require.NoError(t, err)
	require.Equal(t, key.ID, again.ID)
	require.EqualValues(t, 2, again.Revision)
	require.Len(t, again.Versions, 1)
	require.NotEqual(t, lost.Reveal(), secret.Reveal())
	require.NotEqual(t, key.Hint, again.Hint)
	require.Equal(t, keycote.ErrUnknownKey, w.verdict(lost.Reveal()))
	events := eventsOf(t, w.Manager, keycote.EventFilter{KeyID: key.ID})
	require.Len(t, events, 2)
	require.EqualValues(t, 2, events[1].Revision)
	require.Equal(t, keycote.ActionIssue, events[1].Action)
	require.Equal(t, "again", events[1].Reason)

	require.Empty(t, w.verdict(secret.Reveal()))
	before := w.dump()
	used, none, err := w.Issue(ctx, p)
	require.NoError(t, err)
	require.Equal(t, key.ID, used.ID)
	require.True(t, none.IsZero(), "somebody has it")
	require.Equal(t, before, w.dump())
	require.Empty(t, w.verdict(secret.Reveal()))

	for name, change := range map[string]func(*keycote.IssueParams){
		"name":     func(p *keycote.IssueParams) { p.Name = "m" },
		"app":      func(p *keycote.IssueParams) { p.App = "m" },
		"owner":    func(p *keycote.IssueParams) { p.Owner = "m" },
		"prefix":   func(p *keycote.IssueParams) { p.Prefix = "m2" },
		"secret":   func(p *keycote.IssueParams) { p.Secret = keycote.NewSecret(goodValue) },
		"scopes":   func(p *keycote.IssueParams) { p.Scopes = []string{"a:c"} },
		"expiry":   func(p *keycote.IssueParams) { p.ExpiresAt = worldStart.Add(time.Hour) },
		"limit":    func(p *keycote.IssueParams) { p.Limit = keycote.Limit{Rate: 1, Per: time.Second} },
		"labels":   func(p *keycote.IssueParams) { p.Labels = map[string]string{"a": ""} },
		"no scope": func(p *keycote.IssueParams) { p.Scopes = nil },
	} {
		q := p
		change(&q)
		_, secret, err := w.Issue(ctx, q)
		require.ErrorIs(t, err, keycote.ErrConflict, name)
		require.True(t, secret.IsZero())
	}
	require.Equal(t, before, w.dump())
	p.Name = "another actor's"
	other, _, err := w.Issue(as(t, keycote.Actor{ID: "bob", MaxScopes: []string{"**"}}), p)
	require.NoError(t, err)
	require.NotEqual(t, key.ID, other.ID)
	p.Name = "another tenant's"
	elsewhere, _, err := w.Tenant("acme").Issue(ctx, p)
	require.NoError(t, err)
	require.NotEqual(t, key.ID, elsewhere.ID)
	_, err = w.Revoke(ctx, key.ID, "")
	require.NoError(t, err)
	p.Name = "n"
	_, _, err = w.Issue(ctx, p)
	require.ErrorIs(t, err, keycote.ErrConflict, "a replay after a revoke")
	require.NoError(t, w.Delete(ctx, key.ID, ""))
	_, _, err = w.Issue(ctx, p)
	require.NoError(t, err, "the RequestID goes with the record")
}

func TestReplayOfAChosenValueAndOfAdd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	p := keycote.IssueParams{Name: "n", RequestID: "r", Secret: keycote.NewSecret(goodValue)}
	key, _, err := w.Issue(t.Context(), p)
	require.NoError(t, err)
	a := keycote.AddParams{Name: "n", Endpoint: "https://api.example.com", RequestID: "r", Secret: keycote.NewSecret(goodValue)}
	credential, err := w.Add(t.Context(), a)
	require.NoError(t, err, "the same id of another verb is another request")
	before := w.dump()
	again, secret, err := w.Issue(t.Context(), p)
	require.NoError(t, err)
	require.True(t, secret.IsZero())
	require.Equal(t, key, again)
	kept, err := w.Add(t.Context(), a)
	require.NoError(t, err)
	require.Equal(t, credential, kept)
	a.Secret = keycote.NewSecret(otherValue)
	_, err = w.Add(t.Context(), a)
	require.ErrorIs(t, err, keycote.ErrConflict)
	require.Equal(t, before, w.dump())
	_, err = w.Revoke(t.Context(), credential.ID, "")
	require.NoError(t, err)
	a.Secret = keycote.NewSecret(goodValue)
	_, err = w.Add(t.Context(), a)
	require.ErrorIs(t, err, keycote.ErrConflict)
}

func TestRotateReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, first := w.issue(keycote.IssueParams{})
	p := keycote.RotateParams{Overlap: time.Hour, RequestID: "r", Reason: "first"}
	_, lost := w.rotate(key.ID, p)
	w.clock.Advance(time.Minute)
	p.Reason = "again"
	again, fresh := w.rotate(key.ID, p)
	require.Len(t, again.Versions, 2)
	require.EqualValues(t, 3, again.Revision)
	require.Equal(t, worldStart.Add(time.Hour), again.Versions[0].ExpiresAt, "a replay lengthens no life")
	require.Equal(t, keycote.ErrUnknownKey, w.verdict(lost))
	require.Empty(t, w.verdict(first))
	require.Empty(t, w.verdict(fresh))
	before := w.dump()
	used, none := w.rotate(key.ID, p)
	require.Len(t, used.Versions, 2)
	require.Empty(t, none)
	for name, change := range map[string]func(*keycote.RotateParams){
		"overlap":    func(p *keycote.RotateParams) { p.Overlap++ },
		"until used": func(p *keycote.RotateParams) { p.UntilUsed = true },
		"secret":     func(p *keycote.RotateParams) { p.Secret = keycote.NewSecret(goodValue) },
		"expiry":     func(p *keycote.RotateParams) { p.ExpiresAt = worldStart.Add(time.Hour) },
	} {
		q := p
		change(&q)
		_, _, err := w.Rotate(t.Context(), key.ID, q)
		require.ErrorIs(t, err, keycote.ErrConflict, name)
	}
	require.Equal(t, before, w.dump())
	another, _ := w.issue(keycote.IssueParams{})
	got, _ := w.rotate(another.ID, p)
	require.Len(t, got.Versions, 2, "of another key it is another request")

	w.rotate(key.ID, keycote.RotateParams{})
	before = w.dump()
	later, none := w.rotate(key.ID, p)
	require.Len(t, later.Versions, 3, "after a further rotation no version is made")
	require.Empty(t, none)
	require.Equal(t, before, w.dump())
	_, err := w.Revoke(t.Context(), key.ID, "")
	require.NoError(t, err)
	_, _, err = w.Rotate(t.Context(), key.ID, p)
	require.ErrorIs(t, err, keycote.ErrConflict, "a replay after a revoke")
	_, _, err = w.Rotate(t.Context(), key.ID, keycote.RotateParams{})
	require.ErrorIs(t, err, keycote.ErrRevoked)
}

func TestRotateOfACredentialReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.add(keycote.AddParams{})
	p := keycote.RotateParams{Secret: keycote.NewSecret(otherValue), RequestID: "r"}
	first, _ := w.rotate(key.ID, p)
	before := w.dump()
	again, none := w.rotate(key.ID, p)
	require.Equal(t, first, again)
	require.Empty(t, none)
	require.Equal(t, before, w.dump())
	_, secret, err := w.Use(t.Context(), key.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, otherValue, secret.Reveal())
}

func TestReplayOnADisabledKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	p := keycote.IssueParams{Name: "n", RequestID: "r"}
	key, lost := w.issue(p)
	_, err := w.Disable(t.Context(), key.ID, "")
	require.NoError(t, err)
	again, fresh := w.issue(p)
	require.Equal(t, keycote.StateDisabled, again.State)
	require.NotEmpty(t, fresh, "nobody has used it")
	r := keycote.RotateParams{RequestID: "r"}
	w.rotate(key.ID, r)
	rotated, newest := w.rotate(key.ID, r)
	require.NotEmpty(t, newest)
	require.Len(t, rotated.Versions, 2)
	_, err = w.Enable(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Empty(t, w.verdict(newest))
	require.Equal(t, keycote.ErrUnknownKey, w.verdict(lost))
}

func TestRacingRetriesMakeOneKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	// Both have found no key under the id before the first of them writes.
	var gate, wg sync.WaitGroup
	gate.Add(2)
	w.store.hook(func(b keycote.Batch) error {
		if len(b.Insert) == 1 {
			gate.Done()
			gate.Wait()
		}
		return nil
	}, nil)
	keys, values := make([]*keycote.Key, 2), make([]string, 2)
	for i := range 2 {
		wg.Go(func() { keys[i], values[i] = w.issue(keycote.IssueParams{Name: "n", RequestID: "r"}) })
	}
	wg.Wait()
	w.store.back()
	require.Equal(t, keys[0].ID, keys[1].ID)
	require.Len(t, collect(t, w.List(t.Context(), keycote.Filter{})), 1)
	alive := 0
	for _, v := range values {
		require.NotEmpty(t, v)
		if w.verdict(v) == "" {
			alive++
		}
	}
	require.Equal(t, 1, alive, "the later answer's value works")
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.add(keycote.AddParams{})
	long := strings.Repeat("x", 256)
	before := w.dump()
	_, _, err := w.Issue(t.Context(), keycote.IssueParams{Name: "n", RequestID: long})
	require.Equal(t, []string{"requestId: too_long"}, broken(t, err))
	_, err = w.Add(t.Context(), keycote.AddParams{Name: "n", Endpoint: "https://x.example.com", Secret: keycote.NewSecret(goodValue), RequestID: long})
	require.Equal(t, []string{"requestId: too_long"}, broken(t, err))
	_, _, err = w.Rotate(t.Context(), key.ID, keycote.RotateParams{Secret: keycote.NewSecret(otherValue), RequestID: long})
	require.Equal(t, []string{"requestId: too_long"}, broken(t, err))
	require.Equal(t, before, w.dump())
	for name, id := range map[string]string{"255 bytes": long[:255], "any bytes": "\x00\xff \n"} {
		first, _ := w.issue(keycote.IssueParams{Name: name, RequestID: id})
		again, _ := w.issue(keycote.IssueParams{Name: name, RequestID: id})
		require.Equal(t, first.ID, again.ID, name)
		require.Equal(t, keycote.ErrUnknownKey, w.verdict(id), "it never verifies")
	}
}

func TestDryRunOfAReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, value := w.issue(keycote.IssueParams{Name: "n", RequestID: "r"})
	_, rotated := w.rotate(key.ID, keycote.RotateParams{RequestID: "s", Overlap: time.Hour})
	before := w.dump()
	again, secret, err := w.Issue(t.Context(), keycote.IssueParams{Name: "n", RequestID: "r", DryRun: true})
	require.NoError(t, err)
	require.Empty(t, again.ID)
	require.Equal(t, "n", again.Name)
	require.True(t, secret.IsZero())
	_, _, err = w.Issue(t.Context(), keycote.IssueParams{Name: "m", RequestID: "r", DryRun: true})
	require.ErrorIs(t, err, keycote.ErrConflict)
	again, secret, err = w.Rotate(t.Context(), key.ID, keycote.RotateParams{RequestID: "s", Overlap: time.Hour, DryRun: true})
	require.NoError(t, err)
	require.Empty(t, again.ID)
	require.Len(t, again.Versions, 2)
	require.True(t, secret.IsZero())
	require.Equal(t, before, w.dump())
	require.Empty(t, w.verdict(value))
	require.Empty(t, w.verdict(rotated))
}
