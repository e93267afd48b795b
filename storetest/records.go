package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// everyByte is all that text cannot hold.
var everyByte = func() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

func recordRoundTrip(t testing.TB, s keycote.Store) {
	far := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	east := time.FixedZone("east", 5*60*60+30*60)
	long := strings.Repeat("𝄞", 255) // four bytes each
	records := []keycote.Record{
		record("", "key_full", func(r *keycote.Record) {
			r.Kind, r.State, r.Revision = keycote.KindCredential, keycote.StateDisabled, 7
			r.Digests = [][]byte{digest("a"), digest("b"), bytes.Repeat([]byte{0}, 24), bytes.Repeat([]byte{255}, 24)}
			r.Labels = map[string]string{"team": "core", "a/b.c-d_e": "", "env": "Prod"}
			r.CreatedAt = epoch.Add(time.Microsecond)
			r.ExpiresAt = epoch.Add(2 * time.Microsecond)
			r.RotatedAt = epoch.Add(3 * time.Microsecond)
			r.Body, r.Seal = everyByte, bytes.Repeat([]byte{0}, 37)
		}),
		record("", "key_bare", func(r *keycote.Record) {
			*r = keycote.Record{
				ID:        r.ID,
				Kind:      r.Kind,
				State:     keycote.StateRevoked,
				CreatedAt: epoch,
				RotatedAt: epoch,
				Revision:  1,
			}
		}),
		record("", "key_empty", func(r *keycote.Record) {
			*r = keycote.Record{
				ID:        r.ID,
				Kind:      r.Kind,
				State:     keycote.StateRevoked,
				CreatedAt: epoch,
				RotatedAt: epoch,
				Revision:  1,
			}
			r.Digests, r.Labels, r.Body, r.Seal, r.Uses = [][]byte{}, map[string]string{}, []byte{}, []byte{}, []keycote.UseCount{}
		}),
		record("", "key_long", func(r *keycote.Record) {
			r.Name, r.App, r.Owner = long, long, long
			r.Search = long + "\n" + long + "\n••••"
			r.Labels = map[string]string{strings.Repeat("k", 63): long}
		}),
		record(strings.Repeat("t", 255), "key_tenant"),
		record("", "key_times", func(r *keycote.Record) { r.CreatedAt, r.ExpiresAt, r.RotatedAt = hours(-1), far, far }),
		record("", "key_zone", func(r *keycote.Record) {
			r.CreatedAt, r.ExpiresAt, r.RotatedAt = epoch.In(east), hours(5).In(east), hours(6).In(east)
		}),
	}
	for i := range 64 { // as many labels as a key may have
		r := &records[0]
		if len(r.Labels) < 64 {
			r.Labels[fmt.Sprintf("label-%02d", i)] = fmt.Sprint(i)
		}
	}
	must(t, s, insert(records...))
	for _, r := range records {
		requireRecord(t, s, r, r.ID)
		q := keycote.Query{Tenant: r.Tenant, Now: epoch, Limit: 10}
		for _, listed := range listAll(t, s, q, 10) {
			if listed.ID == r.ID {
				require.Equal(t, asKept(r), listed, "%s in a list", r.ID)
			}
		}
	}
	require.Len(t, listAll(t, s, keycote.Query{AllTenants: true, Now: epoch}, 10), len(records))
}

func recordUpdateReplacesEverything(t testing.TB, s keycote.Store) {
	r := record("acme", "key_1", func(r *keycote.Record) { r.ExpiresAt = hours(1) })
	must(t, s, insert(r))
	r = next(r, func(r *keycote.Record) {
		r.Kind, r.Name, r.App, r.Owner, r.State = keycote.KindCredential, "New", "new app", "bob", keycote.StateDisabled
		r.Search, r.Labels = "new\nnew app\n••••", map[string]string{"team": "edge", "more": "x"}
		r.Digests = [][]byte{digest("new 1"), digest("new 2")}
		r.CreatedAt, r.ExpiresAt, r.RotatedAt = hours(2), hours(3), hours(4)
	})
	must(t, s, update(r))
	requireRecord(t, s, r)

	r = next(r, func(r *keycote.Record) { // all that may be empty
		r.Name, r.App, r.Owner, r.Search, r.Labels, r.Digests = "", "", "", "", nil, nil
		r.State, r.ExpiresAt, r.Seal = keycote.StateRevoked, time.Time{}, nil
	})
	must(t, s, update(r))
	requireRecord(t, s, r)
	require.Equal(t, []keycote.Record{asKept(r)}, listAll(t, s, keycote.Query{Tenant: "acme", Now: epoch}, 10))

	must(t, s, remove(r))
	requireAbsent(t, s, "acme", "key_1")
	again := record("acme", "key_1")
	must(t, s, insert(again))
	requireRecord(t, s, again, "nothing of the record before is left")
}

func recordAbsent(t testing.TB, s keycote.Store) {
	requireAbsent(t, s, "", "key_1")
	must(t, s, insert(record("", "key_1")))
	for _, id := range []string{"", "key_", "key_10", "KEY_1", "key_1 ", " key_1", "key%", "key__"} {
		requireAbsent(t, s, "", id, "id %q", id)
	}
}

func recordOfAnotherTenant(t testing.TB, s keycote.Store) {
	same := func(tenant string) keycote.Record {
		return record(tenant, "key_1", named("One name"), func(r *keycote.Record) { r.Body = []byte("body for " + tenant) })
	}
	must(t, s, insert(same(""), same("acme")), insert(same("acmex")))
	for _, tenant := range []string{"", "acme", "acmex"} {
		requireRecord(t, s, same(tenant), "two tenants may have one id and one name")
		require.Equal(t, []string{tenant + "/key_1"}, ids(listAll(t, s, keycote.Query{Tenant: tenant, Now: epoch}, 10)))
	}
	requireAbsent(t, s, "other", "key_1")

	changed := next(same("acme"))
	must(t, s, update(changed))
	requireRecord(t, s, same(""), "an update stays in its tenant")
	requireRecord(t, s, same("acmex"), "an update stays in its tenant")
	must(t, s, remove(changed))
	requireAbsent(t, s, "acme", "key_1")
	requireRecord(t, s, same(""), "a delete stays in its tenant")
	requireRecord(t, s, same("acmex"), "a delete stays in its tenant")
	require.ErrorIs(t, try(t, s, update(next(same("other")))), keycote.ErrNotFound)
	require.ErrorIs(t, try(t, s, remove(same("other"))), keycote.ErrNotFound)
}

func recordLarge(t testing.TB, s keycote.Store) {
	big := bytes.Repeat(everyByte, 1<<20/len(everyByte))
	r := record("", "key_1", func(r *keycote.Record) { r.Body = big })
	i := keycote.Item{Space: "job", Name: "big", Revision: 1, Body: big}
	e := event("", "evt_1", epoch, func(e *keycote.EventRecord) { e.Body, e.Personal = big, big })
	must(t, s, keycote.Batch{Insert: []keycote.Record{r}, Items: []keycote.Item{i}, Events: []keycote.EventRecord{e}})
	got := dump(t, s)
	require.Len(t, got.Records, 1)
	require.True(t, bytes.Equal(big, got.Records[0].Body), "the record's body")
	require.Len(t, got.Items, 1)
	require.True(t, bytes.Equal(big, got.Items[0].Body), "the item's body")
	require.Len(t, got.Events, 1)
	require.True(t, bytes.Equal(big, got.Events[0].Body), "the event's body")
	require.True(t, bytes.Equal(big, got.Events[0].Personal), "the event's personal values")
	found, err := s.Lookup(t.Context(), r.Digests)
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, found.Body), "the body by digest")
}

// nothingShared changes everything that may be changed, after it went in and after it came out.
func nothingShared(t testing.TB, s keycote.Store) {
	given, want := record("", "key_1"), record("", "key_1")
	personal := []byte("personal")
	e := event("", "evt_1", epoch, func(e *keycote.EventRecord) { e.Personal = personal })
	wantUses := []keycote.UseCount{
		{KeyID: "key_1", Version: 1, N: 3, First: hours(0).Add(time.Second), Last: hours(0).Add(2 * time.Second)},
	}
	must(t, s, keycote.Batch{
		Insert: []keycote.Record{
			given,
		}, Events: []keycote.EventRecord{e}, Uses: []keycote.UseCount{use("", "key_1", 1, epoch, 3)},
	})
	spoil := func(r keycote.Record) {
		r.Labels["team"], r.Labels["more"] = "spoilt", "x"
		r.Digests[0] = digest("spoilt")
		for i := range r.Uses {
			r.Uses[i].N = 1000
		}
	}
	spoil(given)
	personal[0] = 'X'
	for _, turn := range []string{"what went in", "what came out"} {
		r, err := s.Get(t.Context(), "", "key_1")
		require.NoError(t, err)
		require.Equal(t, wantUses, r.Uses, turn)
		listed, err := s.List(t.Context(), keycote.Query{Now: epoch, Limit: 10})
		require.NoError(t, err)
		require.Len(t, listed, 1)
		require.Equal(t, plain(r), plain(listed[0]), turn)
		events, err := s.Events(t.Context(), keycote.EventQuery{Limit: 10})
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.Equal(t, "personal", string(events[0].Personal), turn)
		requireRecord(t, s, want, turn)

		spoil(r)
		requireRecord(t, s, want, "two answers share nothing")
		spoil(listed[0])
		events[0].Personal[0] = 'X'
	}
	redacted := []byte("erased")
	must(t, s, keycote.Batch{Redact: []keycote.EventRecord{{ID: "evt_1", Personal: redacted}}})
	redacted[0] = 'X'
	require.Equal(t, "erased", string(dump(t, s).Events[0].Personal))

	_, position, err := s.Changes(t.Context(), "")
	require.NoError(t, err)
	must(t, s, update(next(want)))
	for range 2 {
		changes, _, err := s.Changes(t.Context(), position)
		require.NoError(t, err)
		require.Len(t, changes, 1)
		require.Equal(t, want.Digests, changes[0].Digests)
		changes[0].Digests[0] = digest("spoilt")
	}
	_, err = s.Lookup(t.Context(), want.Digests)
	require.NoError(t, err)
}
