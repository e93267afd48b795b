package keycote_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// bulk is one of the two verbs.
type bulk struct {
	name  string
	all   func(m *keycote.Manager, ctx context.Context, f keycote.Filter, reason string) (int, error)
	state keycote.State
}

var bulks = []bulk{
	{"disable", (*keycote.Manager).DisableAll, keycote.StateDisabled},
	{"revoke", (*keycote.Manager).RevokeAll, keycote.StateRevoked},
}

func eachBulk(t *testing.T, test func(t *testing.T, b bulk)) {
	t.Parallel()
	for _, b := range bulks {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

func issueFor(t *testing.T, m *keycote.Manager, n int, app string) (ids []string) {
	t.Helper()
	for i := range n {
		k, _, err := m.Issue(t.Context(), keycote.IssueParams{Name: fmt.Sprint(app, " ", i), App: app})
		require.NoError(t, err)
		ids = append(ids, k.ID)
	}
	return ids
}

func TestBulkChangesWhatItChoosesAndNothingElse(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		ctx := t.Context()
		w := newWorld(t, nil)
		ids := issueFor(t, w.Manager, 450, "shop") // more than two pages
		others := append(issueFor(t, w.Manager, 3, "mail"), issueFor(t, w.Tenant("acme"), 3, "shop")...)
		_, err := w.Revoke(ctx, ids[0], "")
		require.NoError(t, err)
		n, err := b.all(w.Manager, ctx, keycote.Filter{App: "shop", Newest: true}, "a leak")
		require.NoError(t, err)
		require.Equal(t, 449, n)
		for _, id := range ids[1:] {
			k, err := w.Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, b.state, k.State)
		}
		events := 0
		for e, err := range w.Events(ctx, keycote.EventFilter{Action: keycote.Action(b.name)}) {
			require.NoError(t, err)
			if e.Reason == "a leak" {
				events++
			}
		}
		require.Equal(t, 449, events, "each has its own event")
		for i, id := range others {
			m := w.Manager
			if i >= 3 {
				m = w.Tenant("acme")
			}
			k, err := m.Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, keycote.StateActive, k.State)
		}
		n, err = b.all(w.Manager, ctx, keycote.Filter{App: "shop"}, "a leak")
		require.NoError(t, err)
		require.Zero(t, n, "it can be repeated")
	})
}

func TestBulkWantsAFilterThatNarrows(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		w := newWorld(t, nil)
		ids := issueFor(t, w.Manager, 1, "shop")
		for name, f := range map[string]keycote.Filter{
			"nothing": {}, "an order": {Newest: true}, "a state": {State: keycote.StateActive}, "a blank search": {Search: " \t"},
			"empty labels": {Labels: map[string]string{}}, "no such state": {App: "shop", State: "none"},
		} {
			n, err := b.all(w.Manager, t.Context(), f, "")
			require.ErrorIs(t, err, keycote.ErrInvalid, name)
			require.Zero(t, n)
		}
		for name, call := range map[string]func() (int, error){
			"a long reason": func() (int, error) {
				return b.all(w.Manager, t.Context(), keycote.Filter{App: "shop"}, strings.Repeat("x", 1001))
			},
			"a nameless tenant": func() (int, error) {
				return b.all(w.Tenant(""), t.Context(), keycote.Filter{App: "shop"}, "")
			},
		} {
			n, err := call()
			require.ErrorIs(t, err, keycote.ErrInvalid, name)
			require.Zero(t, n)
		}
		k, err := w.Get(t.Context(), ids[0])
		require.NoError(t, err)
		require.Equal(t, keycote.StateActive, k.State)
		n, err := b.all(w.Manager, t.Context(), keycote.Filter{Kind: keycote.KindAccess}, "")
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

// One key that may not be touched saves no other; Authorize is asked for each.
func TestBulkGoesOnPastFailures(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		forbidden := map[string]bool{}
		w := newWorld(t, &keycote.Options{
			Authorize: func(_ context.Context, _ keycote.Actor, _ keycote.Action, k *keycote.Key) error {
				if forbidden[k.ID] {
					return errors.New("not this one")
				}
				return nil
			},
		})
		ctx := keycote.WithActor(t.Context(), keycote.Actor{ID: "ann", MaxScopes: []string{"**"}})
		var ids []string
		for i := range 150 {
			k, _, err := w.Issue(ctx, keycote.IssueParams{Name: fmt.Sprint(i), App: "shop"})
			require.NoError(t, err)
			ids = append(ids, k.ID)
			forbidden[k.ID] = i < 120
		}
		n, err := b.all(w.Manager, ctx, keycote.Filter{App: "shop"}, "")
		require.Equal(t, 30, n)
		require.ErrorIs(t, err, keycote.ErrForbidden)
		require.ErrorContains(t, err, ids[99])
		require.NotContains(t, err.Error(), ids[100])
		require.ErrorContains(t, err, "20 more keys failed")
		n, err = b.all(w.Manager, t.Context(), keycote.Filter{App: "shop"}, "")
		require.ErrorIs(t, err, keycote.ErrForbidden, "without an actor")
		require.Zero(t, n)
	})
}

// stopping ends a context, or fails, after some commits.
type stopping struct {
	keycote.Store
	left atomic.Int64
	stop func() error
}

func (s *stopping) Commit(ctx context.Context, b keycote.Batch) error {
	if len(b.Update) > 0 && s.left.Add(-1) < 0 {
		if err := s.stop(); err != nil {
			return err
		}
	}
	return s.Store.Commit(ctx, b)
}

func TestBulkStopsWithItsContextAndItsStore(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		for name, away := range map[string]bool{"context": false, "store": true} {
			w := newWorld(t, nil)
			issueFor(t, w.Manager, 10, "shop")
			ctx, cancel := context.WithCancel(t.Context())
			s := &stopping{Store: w.store}
			s.left.Store(4)
			s.stop = func() error { cancel(); return ctx.Err() }
			if away {
				s.stop = func() error { return errors.New("no connection") }
			}
			m, err := keycote.New(t.Context(), s, w.kek, &keycote.Options{Now: w.clock.Now})
			require.NoError(t, err)
			n, err := b.all(m, ctx, keycote.Filter{App: "shop"}, "")
			cancel()
			require.Equal(t, 4, n, name)
			require.ErrorIs(t, err, keycote.ErrUnavailable, name)
			require.Equal(t, !away, errors.Is(err, context.Canceled), name)
			changed := 0
			for range w.List(t.Context(), keycote.Filter{State: b.state}) {
				changed++
			}
			require.Equal(t, 4, changed, name)
		}
	})
}

// reassigning gives a key to another app between the list and the change.
type reassigning struct {
	keycote.Store
	then func()
}

func (s *reassigning) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	rows, err := s.Store.List(ctx, q)
	s.then()
	return rows, err
}

func TestBulkLooksAgain(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		w := newWorld(t, nil)
		ids := issueFor(t, w.Manager, 2, "shop")
		mail := "mail"
		m, err := keycote.New(t.Context(), &reassigning{w.store, func() {
			_, err := w.Update(t.Context(), ids[1], keycote.Patch{App: &mail})
			require.NoError(t, err)
		}}, w.kek, &keycote.Options{Now: w.clock.Now})
		require.NoError(t, err)
		f := keycote.Filter{App: "shop", UnusedSince: w.clock.Now().Add(time.Hour)}
		n, err := b.all(m, t.Context(), f, "")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		k, err := w.Get(t.Context(), ids[1])
		require.NoError(t, err)
		require.Equal(t, keycote.StateActive, k.State)
	})
}

// What this process has verified a moment ago has been used, whether or not it is written yet.
func TestBulkSparesWhatWasUsedJustNow(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		ctx := t.Context()
		w := newWorld(t, nil)
		old, oldValue := w.issue(keycote.IssueParams{Name: "old"})
		w.clock.Advance(time.Hour)
		used, value := w.issue(keycote.IssueParams{Name: "used"})
		unused, _ := w.issue(keycote.IssueParams{Name: "unused"})
		require.Empty(t, w.verdict(oldValue))
		require.Empty(t, w.verdict(value))

		w.store.away()
		n, err := b.all(w.Manager, ctx, keycote.Filter{NeverUsed: true}, "")
		require.ErrorIs(t, err, keycote.ErrUnavailable, "unless it is written nobody knows")
		require.Zero(t, n)
		w.store.back()

		n, err = b.all(w.Manager, ctx, keycote.Filter{UnusedSince: w.clock.Now()}, "")
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = b.all(w.Manager, ctx, keycote.Filter{NeverUsed: true}, "")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for id, state := range map[string]keycote.State{
			old.ID: keycote.StateActive, used.ID: keycote.StateActive, unused.ID: b.state,
		} {
			k, err := w.Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, state, k.State)
		}
	})
}

// A view of a transaction cannot write counts beside it, nor may it see them.
func TestBulkByUsesIsForNoTransaction(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		w := newWorld(t, nil)
		issueFor(t, w.Manager, 1, "shop")
		view, _ := w.In(w.store)
		for _, f := range []keycote.Filter{{NeverUsed: true}, {UnusedSince: w.clock.Now().Add(time.Hour)}} {
			n, err := b.all(view, t.Context(), f, "")
			require.ErrorIs(t, err, keycote.ErrInvalid)
			require.Zero(t, n)
		}
		n, err := b.all(view, t.Context(), keycote.Filter{App: "shop"}, "")
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

// unaware is a Store that was written before Filter.NeverUsed was there.
type unaware struct{ keycote.Store }

func (s unaware) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	q.Filter.NeverUsed = false
	return s.Store.List(ctx, q)
}

func TestBulkSparesWhatIsInUse(t *testing.T) {
	eachBulk(t, func(t *testing.T, b bulk) {
		ctx := t.Context()
		w := newWorld(t, nil)
		unused := issueFor(t, w.Manager, 2, "shop")
		used, value := w.issue(keycote.IssueParams{Name: "used"})
		require.Empty(t, w.verdict(value))
		require.NoError(t, w.Flush(ctx))
		for _, store := range []keycote.Store{unaware{w.store}, w.store} {
			m, err := keycote.New(ctx, store, w.kek, &keycote.Options{Now: w.clock.Now})
			require.NoError(t, err)
			n, err := b.all(m, ctx, keycote.Filter{NeverUsed: true}, "nobody needs them")
			require.NoError(t, err)
			require.Equal(t, len(unused), n)
			k, err := w.Get(ctx, used.ID)
			require.NoError(t, err)
			require.Equal(t, keycote.StateActive, k.State)
			unused = nil
		}
	})
}
