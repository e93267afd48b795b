package keycote_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestTheFirstUseIsWrittenOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		marks bool
		make  func(w *world) string
	}{
		{"issued", false, func(w *world) string { _, v := w.issue(keycote.IssueParams{}); return v }},
		{"chosen", false, func(w *world) string {
			w.issue(keycote.IssueParams{Secret: keycote.NewSecret(goodValue)})
			return goodValue
		}},
		{"issued with a RequestID", true, func(w *world) string { _, v := w.issue(keycote.IssueParams{RequestID: "r"}); return v }},
		{"rotated", true, func(w *world) string {
			key, _ := w.issue(keycote.IssueParams{})
			_, v := w.rotate(key.ID, keycote.RotateParams{})
			return v
		}},
		{"rotated with overlap", true, func(w *world) string {
			key, _ := w.issue(keycote.IssueParams{})
			_, v := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour})
			return v
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			value := c.make(w)
			_, before := w.store.written()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 3 {
						_, err := w.Verify(t.Context(), value, keycote.Request{})
						require.NoError(t, err)
					}
				})
			}
			wg.Wait()
			_, after := w.store.written()
			want := 0
			if c.marks {
				want = 1
			}
			require.Equal(t, want, after-before)
			require.NoError(t, w.Flush(t.Context()))
			_, flushed := w.store.written()
			require.Equal(t, after, flushed, "nothing is left to be written")
			require.Len(t, eventsOf(t, w.Manager, keycote.EventFilter{Action: "verify"}), want)
		})
	}
}

func TestAFirstUseThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, old := w.issue(keycote.IssueParams{})
	_, fresh := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
	other := w.another(nil)
	w.store.away()
	require.Empty(t, w.verdict(fresh), "Verify answers all the same")
	_, err := w.Verify(t.Context(), old, keycote.Request{})
	refusalOf(t, err, keycote.ErrExpired, key.ID)
	_, err = other.Verify(t.Context(), old, keycote.Request{})
	require.NoError(t, err, "another process cannot know")
	require.ErrorIs(t, w.Flush(t.Context()), keycote.ErrUnavailable)
	require.Equal(t, keycote.ErrExpired, w.verdict(old))
	require.Empty(t, w.verdict(fresh))

	w.store.back()
	_, before := w.store.written()
	require.NoError(t, w.Flush(t.Context()))
	_, after := w.store.written()
	require.Equal(t, before+1, after)
	_, err = other.Verify(t.Context(), old, keycote.Request{})
	refusalOf(t, err, keycote.ErrExpired, key.ID)
	require.Equal(t, keycote.ErrExpired, w.verdict(old))
	require.NoError(t, w.Flush(t.Context()))
	_, again := w.store.written()
	require.Equal(t, after, again)
}

// TestAMarkThatMeetsAnotherChange has a change slip in between the judgement of a first use and its mark.
func TestAMarkThatMeetsAnotherChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(w *world, id string)
		code   keycote.Code
		writes int
	}{
		{"an update", func(w *world, id string) {
			_, err := w.Update(w.t.Context(), id, keycote.Patch{App: ptr("x")})
			require.NoError(w.t, err)
		}, "", 2},
		{"a disable", func(w *world, id string) { _, err := w.Disable(w.t.Context(), id, ""); require.NoError(w.t, err) }, keycote.ErrDisabled, 1},
		{"a revoke", func(w *world, id string) { _, err := w.Revoke(w.t.Context(), id, ""); require.NoError(w.t, err) }, keycote.ErrRevoked, 1},
		{"a rotation", func(w *world, id string) { w.rotate(id, keycote.RotateParams{}) }, keycote.ErrExpired, 1},
		{"narrower scopes", func(w *world, id string) {
			_, err := w.Update(w.t.Context(), id, keycote.Patch{Scopes: new([]string)})
			require.NoError(w.t, err)
		}, keycote.ErrScope, 1},
		{"a replay that replaces the value", func(w *world, id string) { w.rotate(id, keycote.RotateParams{RequestID: "r"}) }, keycote.ErrUnknownKey, 1},
		{"a delete", func(w *world, id string) { require.NoError(w.t, w.Delete(w.t.Context(), id, "")) }, keycote.ErrUnknownKey, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			key, _ := w.issue(keycote.IssueParams{Scopes: []string{"a:b"}})
			_, fresh := w.rotate(key.ID, keycote.RotateParams{RequestID: "r"})
			_, before := w.store.written()
			w.store.once(func() { c.change(w, key.ID) })
			g, err := w.Verify(t.Context(), fresh, keycote.Request{Scopes: []string{"a:b"}})
			require.Equal(t, c.code, keycote.CodeOf(err))
			if err == nil {
				require.Equal(t, key.ID, g.KeyID)
				require.Equal(t, "x", g.App, "the answer is of what was judged last")
			}
			_, after := w.store.written()
			require.Equal(t, before+c.writes, after)
			require.NoError(t, w.Flush(t.Context()))
			_, flushed := w.store.written()
			require.Equal(t, after, flushed)
		})
	}
}

func TestAPendingMarkOfAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world, id string) error{
		"deleted": func(w *world, id string) error { return w.Delete(w.t.Context(), id, "") },
		"revoked": func(w *world, id string) error { _, err := w.Revoke(w.t.Context(), id, ""); return err },
		"replaced": func(w *world, id string) error {
			_, fresh, err := w.Rotate(w.t.Context(), id, keycote.RotateParams{RequestID: "r"})
			require.NoError(w.t, err)
			require.False(w.t, fresh.IsZero())
			require.NoError(w.t, w.Flush(w.t.Context()))
			_, fresh, err = w.Rotate(w.t.Context(), id, keycote.RotateParams{RequestID: "r"})
			require.False(w.t, fresh.IsZero(), "the new value was never used")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			key, _ := w.issue(keycote.IssueParams{})
			_, fresh := w.rotate(key.ID, keycote.RotateParams{RequestID: "r"})
			w.store.away()
			require.Empty(t, w.verdict(fresh))
			w.store.back()
			require.NoError(t, end(w, key.ID))
			require.NoError(t, w.Flush(t.Context()))
			all, _ := w.store.written()
			require.NoError(t, w.Flush(t.Context()))
			again, _ := w.store.written()
			require.Equal(t, all, again, "it is not tried for ever")
		})
	}
}
