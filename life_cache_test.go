package keycote_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// TestAChangeIsHonouredOnTheNextCall warms the cache with a value before each change of its key in the same process.
func TestAChangeIsHonouredOnTheNextCall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(w *world, id string)
		code   keycote.Code
	}{
		{"rotate without overlap", func(w *world, id string) { w.rotate(id, keycote.RotateParams{}) }, keycote.ErrExpired},
		{"until used, and used", func(w *world, id string) {
			_, fresh := w.rotate(id, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
			require.Empty(w.t, w.verdict(fresh))
		}, keycote.ErrExpired},
		{"until used, and the mark fails", func(w *world, id string) {
			_, fresh := w.rotate(id, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
			w.store.away()
			require.Empty(w.t, w.verdict(fresh))
		}, keycote.ErrExpired},
		{"disable", func(w *world, id string) { _, err := w.Disable(w.t.Context(), id, ""); require.NoError(w.t, err) }, keycote.ErrDisabled},
		{"revoke", func(w *world, id string) { _, err := w.Revoke(w.t.Context(), id, ""); require.NoError(w.t, err) }, keycote.ErrRevoked},
		{"delete", func(w *world, id string) { require.NoError(w.t, w.Delete(w.t.Context(), id, "")) }, keycote.ErrUnknownKey},
		{"expiry", func(w *world, id string) {
			_, err := w.Update(w.t.Context(), id, keycote.Patch{ExpiresAt: ptr(w.clock.Now().Add(time.Second))})
			require.NoError(w.t, err)
			w.clock.Advance(time.Second)
		}, keycote.ErrExpired},
		{"scopes", func(w *world, id string) {
			_, err := w.Update(w.t.Context(), id, keycote.Patch{Scopes: new([]string)})
			require.NoError(w.t, err)
		}, keycote.ErrScope},
		{"in a transaction, once committed", func(w *world, id string) {
			tx := w.begin()
			in, committed := w.In(tx)
			_, err := in.Revoke(w.t.Context(), id, "")
			require.NoError(w.t, err)
			tx.commit(w.t)
			committed()
		}, keycote.ErrRevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &keycote.Options{MaxStale: time.Hour})
			key, token := w.issue(keycote.IssueParams{Scopes: []string{"a:b"}})
			ask := func() error {
				_, err := w.Verify(t.Context(), token, keycote.Request{Scopes: []string{"a:b"}})
				return err
			}
			require.NoError(t, ask())
			reads := w.store.readsOf("lookup")
			require.NoError(t, ask())
			require.Equal(t, reads, w.store.readsOf("lookup"), "it is cached")
			c.change(w, key.ID)
			require.Equal(t, c.code, keycote.CodeOf(ask()))
			require.Equal(t, c.code, keycote.CodeOf(ask()))
		})
	}
}

// TestExpiryIsJudgedAtUse holds a cached answer against the deadlines of its versions.
func TestExpiryIsJudgedAtUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &keycote.Options{MaxStale: 24 * time.Hour})
	key, old := w.issue(keycote.IssueParams{ExpiresAt: worldStart.Add(2 * time.Hour)})
	_, fresh := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour})
	require.Empty(t, w.verdict(fresh))
	for _, c := range []struct {
		at         time.Duration
		old, fresh keycote.Code
	}{
		{time.Hour - time.Microsecond, "", ""},
		{time.Hour, keycote.ErrExpired, ""},
		{time.Hour + time.Microsecond, keycote.ErrExpired, ""},
		{2*time.Hour - time.Microsecond, keycote.ErrExpired, ""},
		{2 * time.Hour, keycote.ErrExpired, keycote.ErrExpired},
		{2*time.Hour + time.Microsecond, keycote.ErrExpired, keycote.ErrExpired},
	} {
		w.clock.Set(worldStart.Add(c.at))
		require.Equal(t, c.old, w.verdict(old), c.at)
		require.Equal(t, c.fresh, w.verdict(fresh), c.at)
	}
}

// TestOverlapEndsWhereItIsCached has another process cache a version in overlap, just before the deadline: it ends there
// as it does in the store, whatever the cache may still answer for.
func TestOverlapEndsWhereItIsCached(t *testing.T) {
	t.Parallel()
	for past, want := range map[time.Duration]keycote.Code{
		-time.Microsecond: "", 0: keycote.ErrExpired, time.Microsecond: keycote.ErrExpired,
	} {
		t.Run(past.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			here := w.another(&keycote.Options{MaxStale: time.Hour})
			key, old := w.issue(keycote.IssueParams{})
			w.rotate(key.ID, keycote.RotateParams{Overlap: time.Minute})
			w.clock.Set(worldStart.Add(time.Minute - time.Microsecond))
			_, err := here.Verify(t.Context(), old, keycote.Request{})
			require.NoError(t, err)
			reads := w.store.readsOf("lookup")
			w.clock.Set(worldStart.Add(time.Minute + past))
			_, err = here.Verify(t.Context(), old, keycote.Request{})
			require.Equal(t, want, keycote.CodeOf(err))
			require.Equal(t, reads, w.store.readsOf("lookup"), "it was cached")
		})
	}
}
