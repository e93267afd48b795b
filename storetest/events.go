package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func eventRoundTrip(t testing.TB, s keycote.Store) {
	events := []keycote.EventRecord{
		event("", "evt_1", epoch),
		event("acme", "evt_2", epoch.Add(time.Microsecond), func(e *keycote.EventRecord) {
			e.Outcome, e.Action = keycote.ErrForbidden, keycote.ActionReveal
			e.Body, e.Seal, e.Personal = everyByte, everyByte, everyByte
		}),
		{ID: "evt_3", At: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
		{ID: "evt_4", At: hours(1), Body: []byte{}, Seal: []byte{}, Personal: []byte{}},
		event("", "evt_5", epoch.In(time.FixedZone("west", -8*60*60))),
	}
	must(t, s, keycote.Batch{Events: events})
	for i := range events {
		events[i].At = events[i].At.UTC()
		events[i] = plainEvent(events[i])
	}
	require.Equal(t, events, eventsAll(t, s, keycote.EventQuery{AllTenants: true}, 10))
	require.Equal(t, events[1:2], eventsAll(t, s, keycote.EventQuery{Tenant: "acme"}, 10))
}

// eventPopulation commits events in no order and returns them in the order of their IDs.
func eventPopulation(t testing.TB, s keycote.Store) []keycote.EventRecord {
	t.Helper()
	r := newRandom(t)
	all := make([]keycote.EventRecord, 60)
	for i := range all {
		all[i] = event(
			pick(r, "", "Acme", "acme"),
			fmt.Sprintf("evt_%03d", i),
			hours(r.below(6)),
			func(e *keycote.EventRecord) {
				e.KeyID, e.Actor = pick(r, "", "key_1", "key_2", "KEY_1"), pick(r, "", "ann", "Ann", "bob")
				e.Action = pick(r, keycote.ActionIssue, keycote.ActionReveal, keycote.ActionDelete)
				e.Outcome = pick(r, "", keycote.ErrForbidden)
			},
		)
	}
	mixed := slices.Clone(all)
	slices.SortFunc(mixed, func(x, y keycote.EventRecord) int { return x.At.Compare(y.At) })
	must(t, s, keycote.Batch{Events: mixed[:30]}, keycote.Batch{Events: mixed[30:]})
	return all
}

// matchingEvents is what Events must answer, all pages together.
func matchingEvents(all []keycote.EventRecord, q keycote.EventQuery) []keycote.EventRecord {
	f := q.Filter
	var out []keycote.EventRecord
	for _, e := range all {
		if (q.AllTenants || e.Tenant == q.Tenant) && (f.KeyID == "" || e.KeyID == f.KeyID) &&
			(f.Actor == "" || e.Actor == f.Actor) &&
			(f.Action == "" || e.Action == f.Action) &&
			(f.Since.IsZero() || !e.At.Before(f.Since)) &&
			(f.Until.IsZero() || e.At.Before(f.Until)) &&
			(f.After == "" || (f.Newest && e.ID < f.After) || (!f.Newest && e.ID > f.After)) {
			out = append(out, e)
		}
	}
	if f.Newest {
		slices.Reverse(out)
	}
	return out
}

func eventFilters(t testing.TB, s keycote.Store) {
	all := eventPopulation(t, s)
	var some []keycote.EventFilter
	for _, key := range []string{"key_1", "KEY_1", "key_", "none"} {
		some = append(some, keycote.EventFilter{KeyID: key})
	}
	for _, actor := range []string{"ann", "Ann", "ANN", "an"} {
		some = append(some, keycote.EventFilter{Actor: actor})
	}
	for _, action := range []keycote.Action{keycote.ActionIssue, keycote.ActionDelete, "Issue"} {
		some = append(some, keycote.EventFilter{Action: action})
	}
	for n := range 7 {
		for _, fine := range []time.Duration{-time.Microsecond, -1, 0, 1, time.Microsecond} {
			at := hours(n).Add(fine)
			some = append(some, keycote.EventFilter{Since: at}, keycote.EventFilter{Until: at},
				keycote.EventFilter{Since: at, Until: at}, keycote.EventFilter{Since: at, Until: hours(n + 2)})
		}
	}
	some = append(some,
		keycote.EventFilter{KeyID: "key_1", Actor: "ann", Action: keycote.ActionIssue},
		keycote.EventFilter{KeyID: "key_1", Actor: "bob", Since: hours(1), Until: hours(4)},
		keycote.EventFilter{After: "evt_020"}, keycote.EventFilter{After: "evt_020x", Action: keycote.ActionReveal},
		keycote.EventFilter{After: "evt_999"}, keycote.EventFilter{After: "evt"})
	for _, f := range some {
		for _, q := range []keycote.EventQuery{{AllTenants: true}, {}, {Tenant: "acme"}, {Tenant: "Acme"}, {Tenant: "none"}} {
			for _, newest := range []bool{false, true} {
				q.Filter = f
				q.Filter.Newest = newest
				require.Equal(t, matchingEvents(all, q), orNil(eventsAll(t, s, q, 1000)), "%+v", q)
			}
		}
	}
}

func eventPages(t testing.TB, s keycote.Store) {
	all := eventPopulation(t, s)
	for _, newest := range []bool{false, true} {
		for _, limit := range []int{1, 2, 7, 59, 60, 61} {
			for _, q := range []keycote.EventQuery{
				{AllTenants: true}, {}, {Tenant: "acme"}, {AllTenants: true, Filter: keycote.EventFilter{Action: keycote.ActionIssue}},
			} {
				q.Filter.Newest = newest
				require.Equal(t, matchingEvents(all, q), orNil(eventsAll(t, s, q, limit)), "by %d: %+v", limit, q)
			}
		}
	}
}

func eventTwice(t testing.TB, s keycote.Store) {
	one, two := event("", "evt_1", epoch), event("", "evt_1", hours(1))
	must(t, s, keycote.Batch{Events: []keycote.EventRecord{one}})
	require.ErrorIs(t, try(t, s, keycote.Batch{Events: []keycote.EventRecord{two}}), keycote.ErrConflict)
	require.ErrorIs(
		t,
		try(t, s, keycote.Batch{Events: []keycote.EventRecord{event("", "evt_2", epoch), event("", "evt_2", epoch)}}),
		keycote.ErrConflict,
	)
	require.Equal(t, []keycote.EventRecord{one}, dump(t, s).Events)
}

func eventOutlivesItsKey(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	issued, deleted := event("", "evt_1", hours(1)), event("", "evt_2", hours(2))
	must(t, s,
		keycote.Batch{Insert: []keycote.Record{r}, Events: []keycote.EventRecord{issued}},
		keycote.Batch{Delete: []keycote.RecordRef{refOf(r)}, Events: []keycote.EventRecord{deleted}})
	requireAbsent(t, s, "", "key_1")
	q := keycote.EventQuery{Filter: keycote.EventFilter{KeyID: "key_1"}}
	require.Equal(t, []keycote.EventRecord{issued, deleted}, eventsAll(t, s, q, 10))
}

func eventRedacted(t testing.TB, s keycote.Store) {
	events := []keycote.EventRecord{
		event("", "evt_1", hours(1)),
		event("", "evt_2", hours(2)),
		event("acme", "evt_3", hours(3)),
	}
	must(t, s, keycote.Batch{Events: events})
	must(t, s, keycote.Batch{Redact: []keycote.EventRecord{
		{ID: "evt_1"},
		{ // what a caller fills besides is not taken
			Tenant: "acme", ID: "evt_3", Actor: "erased", Personal: []byte("left"),
			KeyID: "other", Action: keycote.ActionDelete, Outcome: keycote.ErrInvalid, At: hours(9), Body: []byte("other"), Seal: []byte("other"),
		},
		{ID: "evt_none", Actor: "x"},               // pruned in the meantime
		{Tenant: "acme", ID: "evt_2", Actor: "x"},  // of another tenant
		{Tenant: "other", ID: "evt_2", Actor: "x"}, // of another tenant
	}})
	events[0].Actor, events[0].Personal = "", nil
	events[2].Actor, events[2].Personal = "erased", []byte("left")
	require.Equal(t, events, dump(t, s).Events)
	byActor := func(actor string) []keycote.EventRecord {
		return orNil(eventsAll(t, s, keycote.EventQuery{AllTenants: true, Filter: keycote.EventFilter{Actor: actor}}, 10))
	}
	require.Equal(t, events[1:2], byActor("ann"), "found by the actor it has now")
	require.Equal(t, events[2:], byActor("erased"), "found by the actor it has now")
	must(
		t,
		s,
		keycote.Batch{
			Events: []keycote.EventRecord{event("", "evt_4", epoch)},
			Redact: []keycote.EventRecord{{ID: "evt_4", Actor: "erased"}},
		},
	)
	require.Equal(t, "erased", dump(t, s).Events[3].Actor, "the Batch's own event")
}
