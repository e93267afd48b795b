package keycote_test

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// eventScene is a trail of three events, of which the second is rich and is going to be changed.
type eventScene struct {
	*rig
	m     *keycote.Manager
	clean rows
	good  []keycote.Event
}

func newEventScene(t testing.TB) *eventScene {
	t.Helper()
	s := &eventScene{rig: newRig(t, nil)}
	s.m = s.rig.m.Tenant("acme")
	ctx := keycote.WithActor(t.Context(), keycote.Actor{
		ID: "ada", Addr: netip.MustParseAddr("192.0.2.1"), MaxScopes: []string{"**"},
	})
	key, _ := issue(t, s.m, keycote.IssueParams{Name: "Build"})
	s.clock.advance(time.Second)
	name, app := "Deploy", "ci"
	_, err := s.m.Update(ctx, key.ID, keycote.Patch{Name: &name, App: &app, Reason: "a better word"})
	require.NoError(t, err)
	s.clock.advance(time.Second)
	_, err = s.m.Disable(ctx, key.ID, "")
	require.NoError(t, err)
	s.clean = s.store.rows(t)
	var failed []error
	s.good, failed = s.read(t)
	require.Equal(t, []error{nil, nil, nil}, failed)
	require.Equal(t, "ada", s.good[1].Actor)
	require.Equal(t, "a better word", s.good[1].Reason)
	require.Equal(t, netip.MustParseAddr("192.0.2.1"), s.good[1].Addr)
	require.Equal(t, []keycote.FieldChange{{Field: "name", From: "Build", To: "Deploy"}, {Field: "app", To: "ci"}}, s.good[1].Changes)
	return s
}

func (s *eventScene) read(t testing.TB) (all []keycote.Event, failed []error) {
	t.Helper()
	for e, err := range s.m.Events(t.Context(), keycote.EventFilter{}) {
		all, failed = append(all, e), append(failed, heard(err))
		require.LessOrEqual(t, len(all), 10)
	}
	return all, failed
}

// requireTampered changes the second event: that one is an error, the others are read.
func (s *eventScene) requireTampered(t testing.TB, what any, change func(*keycote.EventRecord)) {
	t.Helper()
	dirty := s.clean.clone()
	change(&dirty.events[1])
	require.NotEqual(t, s.clean.events, dirty.events, "%v changes nothing", what)
	s.store.put(t, dirty)
	all, failed := s.read(t)
	require.Len(t, all, 3, "%v", what)
	at := slices.IndexFunc(failed, func(err error) bool { return err != nil })
	require.GreaterOrEqual(t, at, 0, "%v was not noticed", what)
	require.ErrorIs(t, failed[at], keycote.ErrTampered, "%v", what)
	require.Equal(t, keycote.Event{ID: all[at].ID}, all[at], "nothing of it is told")
	all, failed = slices.Delete(all, at, at+1), slices.Delete(failed, at, at+1)
	require.Equal(t, []error{nil, nil}, failed, "%v", what)
	require.Equal(t, []keycote.Event{s.good[0], s.good[2]}, all, "%v", what)
}

func TestEveryByteOfAnEventIsHeld(t *testing.T) {
	t.Parallel()
	parts := map[string]func(*keycote.EventRecord) []byte{
		"body":     func(e *keycote.EventRecord) []byte { return e.Body },
		"seal":     func(e *keycote.EventRecord) []byte { return e.Seal },
		"personal": func(e *keycote.EventRecord) []byte { return e.Personal },
	}
	for part, of := range parts {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			s := newEventScene(t)
			n := len(of(&s.clean.events[1]))
			require.Greater(t, n, 30)
			for i := range n {
				s.requireTampered(t, i, func(e *keycote.EventRecord) { of(e)[i] ^= 1 << (i % 8) })
			}
			for cut := range n {
				if part == "personal" {
					s.requireTamperedOrErased(t, cut)
					continue
				}
				s.requireTampered(t, cut, func(e *keycote.EventRecord) {
					if part == "body" {
						e.Body = e.Body[:cut]
					} else {
						e.Seal = e.Seal[:cut]
					}
				})
			}
		})
	}
}

// requireTamperedOrErased cuts the personal part. Between two values that is an erasure of what comes behind, which
// anybody may do who may write; it must not show anything that was not there.
func (s *eventScene) requireTamperedOrErased(t testing.TB, cut int) {
	t.Helper()
	dirty := s.clean.clone()
	e := &dirty.events[1]
	if e.Personal = e.Personal[:cut]; cut < 2 {
		e.Actor = ""
	}
	s.store.put(t, dirty)
	all, failed := s.read(t)
	require.Len(t, all, 3)
	require.Equal(t, []keycote.Event{s.good[0], s.good[2]}, []keycote.Event{all[0], all[2]})
	got, want := all[1], s.good[1]
	if failed[1] != nil {
		require.ErrorIs(t, failed[1], keycote.ErrTampered, "%d", cut)
		require.Equal(t, keycote.Event{ID: want.ID}, got)
		return
	}
	require.Contains(t, []string{"", want.Actor}, got.Actor)
	require.Contains(t, []string{"", want.Reason}, got.Reason)
	require.Contains(t, []netip.Addr{{}, want.Addr}, got.Addr)
	for i, c := range got.Changes {
		require.Equal(t, want.Changes[i].Field, c.Field)
		require.Contains(t, []string{"", want.Changes[i].From}, c.From)
		require.Contains(t, []string{"", want.Changes[i].To}, c.To)
	}
}

func TestEveryColumnOfAnEventIsHeld(t *testing.T) {
	t.Parallel()
	type E = keycote.EventRecord
	changes := map[string][]func(*E){
		"ID":      {func(e *E) { e.ID = "evt_00000000000000000000000000" }, func(e *E) { e.ID = "evt_7zzzzzzzzzzzzzzzzzzzzzzzzz" }},
		"KeyID":   {func(e *E) { e.KeyID = "" }, func(e *E) { e.KeyID += "x" }},
		"Actor":   {func(e *E) { e.Actor = "eve" }, func(e *E) { e.Actor = "" }, func(e *E) { e.Actor = "Ada" }},
		"Action":  {func(e *E) { e.Action = keycote.ActionIssue }, func(e *E) { e.Action = "" }},
		"Outcome": {func(e *E) { e.Outcome = keycote.ErrForbidden }},
		"At": {
			func(e *E) { e.At = e.At.Add(time.Microsecond) }, func(e *E) { e.At = e.At.AddDate(-1, 0, 0) },
		},
		"Tenant": nil, // TestAnEventInAnotherTenant
		"Body": {
			func(e *E) { e.Body = append(e.Body, 0) }, func(e *E) { e.Body = slices.Concat(e.Body, e.Body[1:]) },
		},
		"Seal": {func(e *E) { e.Seal = append(e.Seal, 0) }, func(e *E) { e.Seal = nil }},
		"Personal": {
			func(e *E) { e.Personal = append(e.Personal, 0) },
			func(e *E) { e.Personal = nil }, // with the Actor column left
			func(e *E) { e.Personal = slices.Concat(e.Personal, e.Personal[1:]) },
		},
	}
	columns := reflect.TypeFor[keycote.EventRecord]()
	require.Len(t, changes, columns.NumField())
	s := newEventScene(t)
	for i := range columns.NumField() {
		column := columns.Field(i).Name
		list, known := changes[column]
		require.True(t, known, "no test changes the column %s", column)
		for n, change := range list {
			s.requireTampered(t, []any{column, n}, change)
		}
	}
	// Another event's parts.
	s.requireTampered(t, "body and seal", func(e *E) { e.Body, e.Seal = s.clean.events[0].Body, s.clean.events[0].Seal })
	s.requireTampered(t, "personal", func(e *E) { e.Personal = s.clean.events[2].Personal })
}

func TestAnEventInAnotherTenant(t *testing.T) {
	t.Parallel()
	s := newEventScene(t)
	dirty := s.clean.clone()
	dirty.events[1].Tenant = "evil"
	s.store.put(t, dirty)
	all, failed := s.read(t)
	require.Equal(t, []keycote.Event{s.good[0], s.good[2]}, all)
	require.Equal(t, []error{nil, nil}, failed)
	s.m = s.rig.m.Tenant("evil")
	all, failed = s.read(t)
	require.Len(t, all, 1)
	require.Equal(t, keycote.Event{ID: s.good[1].ID}, all[0])
	require.ErrorIs(t, failed[0], keycote.ErrTampered)
}

// The personal part may be erased, and then reads as empty: the seal still holds.
func TestErasedPersonalPart(t *testing.T) {
	t.Parallel()
	s := newEventScene(t)
	erased := s.clean.events[1]
	require.NoError(t, s.store.Commit(t.Context(), keycote.Batch{
		ID: "erase", Redact: []keycote.EventRecord{{Tenant: erased.Tenant, ID: erased.ID}},
	}))
	all, failed := s.read(t)
	require.Equal(t, []error{nil, nil, nil}, failed)
	want := s.good[1]
	want.Actor, want.Reason, want.Addr = "", "", netip.Addr{}
	want.Changes = []keycote.FieldChange{{Field: "name"}, {Field: "app"}}
	require.Equal(t, []keycote.Event{s.good[0], want, s.good[2]}, all)
	require.Empty(t, lastEvents(t, s.m, s.store.rows(t)), "the trail is still whole")
}
