package keycote_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func eventIDs(list []keycote.Event) (out []string) {
	for _, e := range list {
		out = append(out, e.ID)
	}
	return out
}

func TestEventsAreOrderedFilteredAndPaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	alice, bob := as(t, keycote.Actor{ID: "alice", MaxScopes: []string{"**"}}), as(t, keycote.Actor{ID: "bob"})
	var keys []string
	for i := range 250 {
		ctx := alice
		if i%2 == 1 {
			ctx = bob
		}
		key, _, err := w.Issue(ctx, keycote.IssueParams{Name: string(rune('a'+i%26)) + time.Duration(i).String()})
		require.NoError(t, err)
		keys = append(keys, key.ID)
		w.clock.Advance(time.Second)
	}
	_, err := w.Disable(bob, keys[0], "")
	require.NoError(t, err)
	all := eventsOf(t, w.Manager, keycote.EventFilter{})
	require.Len(t, all, 251)
	require.True(t, slices.IsSortedFunc(all, func(a, b keycote.Event) int { return a.At.Compare(b.At) }))
	reversed := slices.Clone(eventIDs(all))
	slices.Reverse(reversed)
	require.Equal(t, reversed, eventIDs(eventsOf(t, w.Manager, keycote.EventFilter{Newest: true})))

	for name, c := range map[string]struct {
		f    keycote.EventFilter
		want int
	}{
		"key":            {keycote.EventFilter{KeyID: keys[0]}, 2},
		"actor":          {keycote.EventFilter{Actor: "alice"}, 125},
		"action":         {keycote.EventFilter{Action: keycote.ActionDisable}, 1},
		"all together":   {keycote.EventFilter{Actor: "bob", Action: keycote.ActionIssue, KeyID: keys[1]}, 1},
		"nobody":         {keycote.EventFilter{Actor: "Alice"}, 0},
		"since":          {keycote.EventFilter{Since: worldStart.Add(249 * time.Second)}, 2},
		"until":          {keycote.EventFilter{Until: worldStart.Add(2 * time.Second)}, 2},
		"since to until": {keycote.EventFilter{Since: worldStart.Add(time.Second), Until: worldStart.Add(2 * time.Second)}, 1},
	} {
		require.Len(t, eventsOf(t, w.Manager, c.f), c.want, name)
	}
	for _, newest := range []bool{false, true} {
		var got []string
		after := ""
		for {
			n := 0
			for e, err := range w.Events(t.Context(), keycote.EventFilter{After: after, Newest: newest}) {
				require.NoError(t, err)
				got, after = append(got, e.ID), e.ID
				if n++; n == 30 {
					break
				}
			}
			if n < 30 {
				break
			}
		}
		want := eventIDs(all)
		if newest {
			want = reversed
		}
		require.Equal(t, want, got)
	}
	for _, after := range []string{"x", keys[0], "evt_", "evt_0000000000000000000000000!"} {
		for _, err := range w.Events(t.Context(), keycote.EventFilter{After: after}) {
			require.ErrorIs(t, err, keycote.ErrInvalid)
		}
	}
}

func TestJSONOfAnEvent(t *testing.T) {
	t.Parallel()
	e := keycote.Event{
		ID: "evt_1", Tenant: "acme", KeyID: "key_1", Name: "n", Version: 2, Action: keycote.ActionRotate, Outcome: keycote.ErrForbidden,
		Actor: "alice", Addr: netip.MustParseAddr("192.0.2.1"), Reason: "r", At: worldStart,
		Changes: []keycote.FieldChange{{Field: "name", From: "a", To: ""}}, Count: 3, Revision: 4, BodyHash: []byte{1, 2, 3},
	}
	b, err := json.Marshal(e)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"evt_1","tenant":"acme","keyId":"key_1","name":"n","version":2,"action":"rotate","outcome":"forbidden",
		"actor":"alice","addr":"192.0.2.1","reason":"r","at":"2026-03-01T12:00:00.123456Z","changes":[{"field":"name","from":"a","to":""}],
		"count":3,"revision":4,"bodyHash":"AQID"}`, string(b))
	b, err = json.Marshal(keycote.Event{At: worldStart})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"","keyId":"","name":"","action":"","actor":"","at":"2026-03-01T12:00:00.123456Z"}`, string(b))
}

func TestPersonalValuesCanBeErased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := as(t, keycote.Actor{ID: "alice@example.org", Addr: netip.MustParseAddr("192.0.2.1")})
	var keys []*keycote.Key
	for _, name := range []string{"one", "two"} {
		key, _, err := w.Issue(ctx, keycote.IssueParams{Name: name, Reason: "Bob asked for it"})
		require.NoError(t, err)
		_, err = w.Update(ctx, key.ID, keycote.Patch{Owner: ptr("carol"), Reason: "Bob asked for it"})
		require.NoError(t, err)
		keys = append(keys, key)
	}
	rows, err := w.store.Events(t.Context(), keycote.EventQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, rows, 4)
	seen := map[string]bool{}
	for _, r := range rows {
		for _, personal := range []string{"alice", "192.0.2.1", "Bob", "carol"} {
			require.NotContains(t, string(r.Body), personal)
		}
		// Equal values do not show: but for ids, no 32 bytes of one body are in another.
		for i := range len(r.Body) - 32 {
			part := r.Body[i : i+32]
			if printable(part) < 24 && !bytes.Contains(part, make([]byte, 4)) {
				require.False(t, seen[string(part)])
				seen[string(part)] = true
			}
		}
	}
	redact := []keycote.EventRecord{{ID: rows[0].ID}, {ID: rows[1].ID}}
	require.NoError(t, w.store.Commit(t.Context(), keycote.Batch{ID: "redact", Redact: redact}))
	events := eventsOf(t, w.Manager, keycote.EventFilter{})
	require.Len(t, events, 4)
	for i, e := range events {
		if i < 2 {
			require.Empty(t, e.Actor+e.Reason)
			require.False(t, e.Addr.IsValid())
			require.Equal(t, keys[0].ID, e.KeyID)
		} else {
			require.Equal(t, "alice@example.org Bob asked for it", e.Actor+" "+e.Reason)
		}
	}
	require.Equal(t, []keycote.FieldChange{{Field: "owner"}}, events[1].Changes)
	require.Equal(t, []keycote.FieldChange{{Field: "owner", From: "alice@example.org", To: "carol"}}, events[3].Changes)
	require.Len(t, eventsOf(t, w.Manager, keycote.EventFilter{Actor: "alice@example.org"}), 2)
}

func printable(b []byte) (n int) {
	for _, c := range b {
		if c >= ' ' && c <= '~' {
			n++
		}
	}
	return n
}

// refusedCalls are the events that tell of them.
func refusedCalls(t testing.TB, m *keycote.Manager) []keycote.Event {
	return slices.DeleteFunc(eventsOf(t, m, keycote.EventFilter{}), func(e keycote.Event) bool { return e.Outcome == "" })
}

func TestRefusedCallsAreOneEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{Name: "n"})
	m := w.another(&keycote.Options{Authorize: keycote.ByRole})
	viewer := as(t, keycote.Actor{ID: "v", Roles: []string{"viewer"}, Addr: netip.MustParseAddr("192.0.2.1")})
	other := as(t, keycote.Actor{ID: "w", Roles: []string{"viewer"}})
	for range 3 {
		_, err := m.Disable(viewer, key.ID, "why")
		require.ErrorIs(t, err, keycote.ErrForbidden)
	}
	_, err := m.Disable(other, key.ID, "")
	require.ErrorIs(t, err, keycote.ErrForbidden)
	_, err = m.Revoke(viewer, key.ID, "")
	require.ErrorIs(t, err, keycote.ErrForbidden)
	for _, name := range []string{"x", "y"} {
		_, _, err = m.Issue(viewer, keycote.IssueParams{Name: name})
		require.ErrorIs(t, err, keycote.ErrForbidden)
	}
	_, _, err = m.Issue(viewer, keycote.IssueParams{Name: "x", DryRun: true})
	require.ErrorIs(t, err, keycote.ErrForbidden)
	for _, id := range []string{"key_00000000000000000000000000", "not an id", "kc_pasted"} {
		_, err = m.Get(viewer, id)
		require.ErrorIs(t, err, keycote.ErrNotFound)
	}
	require.Empty(t, refusedCalls(t, w.Manager), "they are written with the counts")
	require.NoError(t, m.Flush(t.Context()))
	type told struct {
		action  keycote.Action
		actor   string
		key     string
		outcome keycote.Code
		count   int64
	}
	var got []told
	for _, e := range refusedCalls(t, w.Manager) {
		got = append(got, told{e.Action, e.Actor, e.KeyID, e.Outcome, e.Count})
		require.Zero(t, e.Revision)
		require.Empty(t, e.BodyHash)
		if e.Actor == "v" {
			require.Equal(t, "192.0.2.1", e.Addr.String())
		}
		if e.KeyID == key.ID {
			require.Equal(t, "n", e.Name)
		}
	}
	require.ElementsMatch(t, []told{
		{keycote.ActionDisable, "v", key.ID, keycote.ErrForbidden, 3},
		{keycote.ActionDisable, "w", key.ID, keycote.ErrForbidden, 1},
		{keycote.ActionRevoke, "v", key.ID, keycote.ErrForbidden, 1},
		{keycote.ActionIssue, "v", "", keycote.ErrForbidden, 2},
		{keycote.ActionRead, "v", "key_00000000000000000000000000", keycote.ErrNotFound, 1},
		{keycote.ActionRead, "v", "", keycote.ErrNotFound, 2},
	}, got)
	require.NoError(t, m.Flush(t.Context()))
	require.Len(t, refusedCalls(t, w.Manager), len(got))
	m2 := w.another(nil)
	_, err = m2.Get(t.Context(), "key_00000000000000000000000000")
	require.Error(t, err)
	w.clock.Advance(time.Minute)
	_, err = m2.Get(t.Context(), "key_00000000000000000000000000")
	require.Error(t, err)
	require.NoError(t, m2.Flush(t.Context()))
	require.Len(t, refusedCalls(t, w.Manager), len(got)+2, "another window, another event")
}
