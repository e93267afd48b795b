package keycote_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestStatesRepeatWithoutHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"**"}})
	key, token := w.issue(keycote.IssueParams{Name: "n", Scopes: []string{"a:b"}})
	for _, c := range []struct {
		name   string
		call   func() (*keycote.Key, error)
		state  keycote.State
		writes bool
	}{
		{"enable an active one", func() (*keycote.Key, error) { return w.Enable(ctx, key.ID, "r") }, active, false},
		{"disable", func() (*keycote.Key, error) { return w.Disable(ctx, key.ID, "r") }, keycote.StateDisabled, true},
		{"disable again", func() (*keycote.Key, error) { return w.Disable(ctx, key.ID, "r") }, keycote.StateDisabled, false},
		{"enable", func() (*keycote.Key, error) { return w.Enable(ctx, key.ID, "r") }, active, true},
		{"revoke", func() (*keycote.Key, error) { return w.Revoke(ctx, key.ID, "r") }, keycote.StateRevoked, true},
		{"revoke again", func() (*keycote.Key, error) { return w.Revoke(ctx, key.ID, "r") }, keycote.StateRevoked, false},
	} {
		w.clock.Advance(time.Second)
		before, err := w.Get(ctx, key.ID)
		require.NoError(t, err)
		dump := w.dump()
		got, err := c.call()
		require.NoError(t, err, c.name)
		require.Equal(t, c.state, got.State, c.name)
		if !c.writes {
			require.Equal(t, before, got, c.name)
			require.Equal(t, dump, w.dump(), c.name)
			continue
		}
		require.Equal(t, before.Revision+1, got.Revision)
		require.Equal(t, w.clock.Now(), got.UpdatedAt)
		e := eventsOf(t, w.Manager, keycote.EventFilter{Newest: true})[0]
		require.Equal(t, []keycote.FieldChange{{Field: "state", From: string(before.State), To: string(c.state)}}, e.Changes)
		require.Equal(t, "alice r", e.Actor+" "+e.Reason)
	}
	require.Equal(t, keycote.ErrRevoked, w.verdict(token))
	for name, call := range map[string]func() (*keycote.Key, error){
		"disable": func() (*keycote.Key, error) { return w.Disable(ctx, key.ID, "") },
		"enable":  func() (*keycote.Key, error) { return w.Enable(ctx, key.ID, "") },
	} {
		_, err := call()
		require.ErrorIs(t, err, keycote.ErrRevoked, name)
		require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
	}
	_, err := w.Disable(ctx, key.ID, "\x00")
	require.Equal(t, []string{"reason: control"}, broken(t, err))
}

func TestStatesAndTheClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{ExpiresAt: worldStart.Add(time.Hour)})
	w.clock.Set(worldStart.Add(time.Hour))
	got, err := w.Enable(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Equal(t, expired, got.State)
	got, err = w.Disable(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Equal(t, keycote.StateDisabled, got.State, "disabled wins over expired")
	got, err = w.Enable(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Equal(t, expired, got.State)
	got, err = w.Revoke(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Equal(t, keycote.StateRevoked, got.State, "revoked wins over both")
	require.Equal(t, []keycote.State{ended}, states(got))
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := as(t, keycote.Actor{ID: "alice"})
	key, token := w.issue(keycote.IssueParams{Name: "n"})
	require.Empty(t, w.verdict(token))
	require.NoError(t, w.Flush(ctx))
	require.NoError(t, w.Delete(ctx, key.ID, "gone"))
	require.Equal(t, keycote.ErrUnknownKey, w.verdict(token))
	_, err := w.Get(ctx, key.ID)
	require.ErrorIs(t, err, keycote.ErrNotFound)
	require.ErrorIs(t, w.Delete(ctx, key.ID, "gone"), keycote.ErrNotFound)

	events := eventsOf(t, w.Manager, keycote.EventFilter{KeyID: key.ID})
	require.Len(t, events, 3)
	for i, c := range []struct {
		action   keycote.Action
		revision int64
	}{{keycote.ActionIssue, 1}, {keycote.ActionRevoke, 2}, {keycote.ActionDelete, 3}} {
		require.Equal(t, c.action, events[i].Action)
		require.Equal(t, c.revision, events[i].Revision)
		require.Equal(t, "n", events[i].Name)
		require.Equal(t, c.action == keycote.ActionDelete, len(events[i].BodyHash) == 0)
	}
	require.Equal(t, "alice gone", events[2].Actor+" "+events[2].Reason)
	require.NoError(t, w.Flush(ctx))
	rows, err := w.store.Usage(ctx, keycote.UsageQuery{KeyID: key.ID})
	require.NoError(t, err)
	require.Len(t, rows, 1, "counts of a deleted key are kept")
	require.EqualValues(t, 1, rows[0].N)

	again, _ := w.issue(keycote.IssueParams{Name: "n"})
	_, err = w.Revoke(ctx, again.ID, "")
	require.NoError(t, err)
	require.NoError(t, w.Delete(ctx, again.ID, ""))
	events = eventsOf(t, w.Manager, keycote.EventFilter{KeyID: again.ID})
	require.Len(t, events, 3, "a revoked key is not revoked again")
	require.EqualValues(t, 3, events[2].Revision)
}

func TestUsesCountedAfterADeleteAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, token := w.issue(keycote.IssueParams{})
	require.Empty(t, w.verdict(token))
	require.NoError(t, w.Delete(t.Context(), key.ID, ""))
	require.NoError(t, w.Flush(t.Context()))
	rows, err := w.store.Usage(t.Context(), keycote.UsageQuery{KeyID: key.ID})
	require.NoError(t, err)
	require.Len(t, rows, 1)
}

func TestDeleteRacesAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	w.store.once(func() {
		_, err := w.Update(t.Context(), key.ID, keycote.Patch{App: ptr("x")})
		require.NoError(t, err)
	})
	require.NoError(t, w.Delete(t.Context(), key.ID, ""))
	var revisions []int64
	for _, e := range eventsOf(t, w.Manager, keycote.EventFilter{KeyID: key.ID}) {
		revisions = append(revisions, e.Revision)
	}
	require.Equal(t, []int64{1, 2, 3, 4}, revisions)

	key, _ = w.issue(keycote.IssueParams{})
	w.store.once(func() { require.NoError(t, w.Delete(t.Context(), key.ID, "")) })
	_, err := w.Update(t.Context(), key.ID, keycote.Patch{App: ptr("x")})
	require.ErrorIs(t, err, keycote.ErrNotFound)
}

func TestRevokeFreesTheNameAndErasesTheValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.add(keycote.AddParams{Name: "n"})
	before := len(w.raw(key.ID).Body)
	_, err := w.Revoke(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Less(t, len(w.raw(key.ID).Body), before-len(goodValue)-12-16, "value, nonce and tag are gone")
	require.Empty(t, w.raw(key.ID).Name)
	got, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, "n", got.Name)
	second := w.add(keycote.AddParams{Name: "n"})
	require.Equal(t, []string{second.ID}, ids(collect(t, w.List(t.Context(), keycote.Filter{Name: "n"}))), "the name is the new key's")
	require.Equal(t, []string{key.ID, second.ID}, ids(collect(t, w.List(t.Context(), keycote.Filter{Search: "N"}))))
}

// TestUnreadable takes keys whose records were changed behind the library's back.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	good, _ := w.issue(keycote.IssueParams{})
	bad := w.add(keycote.AddParams{})
	r := w.raw(bad.ID)
	r.Body = append([]byte(nil), r.Body...)
	r.Body[len(r.Body)/2] ^= 1
	r.Revision++
	require.NoError(t, w.store.Store.Commit(ctx, keycote.Batch{ID: "tamper", Update: []keycote.Record{r}}))
	for name, call := range map[string]func() error{
		"get":     func() error { _, err := w.Get(ctx, bad.ID); return err },
		"update":  func() error { _, err := w.Update(ctx, bad.ID, keycote.Patch{}); return err },
		"rotate":  func() error { _, _, err := w.Rotate(ctx, bad.ID, keycote.RotateParams{}); return err },
		"disable": func() error { _, err := w.Disable(ctx, bad.ID, ""); return err },
		"enable":  func() error { _, err := w.Enable(ctx, bad.ID, ""); return err },
		"revoke":  func() error { _, err := w.Revoke(ctx, bad.ID, ""); return err },
		"use":     func() error { _, _, err := w.Use(ctx, bad.ID, keycote.Request{}); return err },
		"reveal":  func() error { _, err := w.Reveal(ctx, bad.ID, "look"); return err },
	} {
		err := call()
		require.ErrorIs(t, err, keycote.ErrTampered, name)
		var e *keycote.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, bad.ID, e.ID)
	}
	keys := collect(t, w.List(ctx, keycote.Filter{}))
	require.Equal(t, []string{good.ID, bad.ID}, ids(keys))
	require.Equal(t, keycote.StateUnreadable, keys[1].State)
	require.NotNil(t, keys[1].Scopes)
	require.NotNil(t, keys[1].Networks)
	require.NotNil(t, keys[1].Labels)
	require.NoError(t, w.Delete(ctx, bad.ID, "broken"))
	require.Equal(t, []string{good.ID}, ids(collect(t, w.List(ctx, keycote.Filter{}))))
	last := eventsOf(t, w.Manager, keycote.EventFilter{KeyID: bad.ID, Newest: true})[0]
	require.Equal(t, keycote.ActionDelete, last.Action)
}

// TestRevokeGetsThrough has another process change the key each time that a Revoke has read it.
func TestRevokeGetsThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	other := w.another(nil)
	key, token := w.issue(keycote.IssueParams{})
	inside, beaten := false, 0
	w.store.hook(func(b keycote.Batch) error {
		if inside || len(b.Update) == 0 || beaten == 30 {
			return nil
		}
		inside = true
		defer func() { inside = false }()
		beaten++
		change := other.Disable
		if beaten%2 == 0 {
			change = other.Enable
		}
		_, err := change(t.Context(), key.ID, "")
		return err
	}, nil)
	_, err := w.Revoke(t.Context(), key.ID, "stolen")
	require.NoError(t, err)
	require.Equal(t, 30, beaten)
	require.Equal(t, keycote.ErrRevoked, w.verdict(token))
}
