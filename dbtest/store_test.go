package dbtest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// digest is one of 24 bytes, as all of them are.
func digest(of string) []byte {
	sum := sha256.Sum256([]byte(of))
	return sum[:24]
}

func record(tenant, id string) keycote.Record {
	return keycote.Record{
		Tenant: tenant, ID: id, Kind: keycote.KindAccess, Name: "name of " + id, Digests: [][]byte{digest(tenant + "/" + id)},
		App: "app", Owner: "owner", State: keycote.StateActive, Search: "name of " + id + "\napp",
		Labels: map[string]string{"env": "prod"}, CreatedAt: epoch, RotatedAt: epoch, Revision: 1,
		Body: []byte("body of " + id), Seal: []byte("seal of " + id),
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	store, _ := openStore(t, newFile(t))
	ctx := t.Context()
	strange := record("t\x00en\xffant", "id'\n,; ")
	strange.Name, strange.App, strange.Search = "a\x00b\xfe", "%_\\", "100%\x00_x"
	strange.Labels = map[string]string{"a,b c": "\x00\xff", "": ""}
	strange.Digests = [][]byte{digest("z"), make([]byte, 24), digest("a")}
	strange.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	strange.CreatedAt = time.Time{}
	strange.Seal = nil
	plain := record("", "k1")
	plain.Labels = nil
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "b1", Insert: []keycote.Record{strange, plain},
		Uses: []keycote.UseCount{
			{Tenant: plain.Tenant, KeyID: plain.ID, Version: 2, Window: epoch, N: 3, First: epoch, Last: epoch.Add(5)},
			{Tenant: plain.Tenant, KeyID: plain.ID, Version: 1, Window: epoch, N: 4, First: epoch.Add(time.Second), Last: epoch.Add(time.Minute)},
			{Tenant: plain.Tenant, KeyID: plain.ID, Version: 1, Window: epoch.Add(time.Hour), N: 1, First: epoch, Last: epoch.Add(time.Second)},
			{Tenant: plain.Tenant, KeyID: plain.ID, Version: 1, Window: epoch, N: 9, Outcome: keycote.ErrExpired, First: epoch, Last: epoch},
		}}))
	for _, want := range []keycote.Record{strange, plain} {
		got, err := store.Get(ctx, want.Tenant, want.ID)
		require.NoError(t, err)
		if want.ID == plain.ID {
			want.Uses = []keycote.UseCount{
				{KeyID: plain.ID, Version: 1, N: 5, First: epoch, Last: epoch.Add(time.Minute)},
				{KeyID: plain.ID, Version: 2, N: 3, First: epoch, Last: epoch},
			}
		}
		require.Equal(t, want, got)
		page, err := store.List(ctx, keycote.Query{Tenant: want.Tenant})
		require.NoError(t, err)
		require.Equal(t, []keycote.Record{want}, page)
		for _, d := range want.Digests {
			got, err := store.Lookup(ctx, [][]byte{d, []byte("none")})
			require.NoError(t, err)
			require.Equal(t, keycote.Record{Tenant: want.Tenant, ID: want.ID, Body: want.Body, Seal: want.Seal}, got)
		}
	}
	_, err := store.Lookup(ctx, [][]byte{strange.Digests[0], plain.Digests[0]})
	require.ErrorIs(t, err, keycote.ErrConflict)
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "b1", Delete: []keycote.RecordRef{{ID: "none"}}}))
}

// One Batch moves names and digests around between records.
func TestSwapWithinABatch(t *testing.T) {
	t.Parallel()
	store, _ := openStore(t, newFile(t))
	ctx := t.Context()
	a, b, c := record("", "a"), record("", "b"), record("", "c")
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "1", Insert: []keycote.Record{a, b, c}}))
	_, start, err := store.Changes(ctx, "")
	require.NoError(t, err)
	a2, b2, d := a, b, record("", "d")
	a2.Revision, b2.Revision = 2, 2
	a2.Name, b2.Name = b.Name, a.Name
	a2.Digests, b2.Digests = b.Digests, a.Digests
	d.Name, d.Digests = c.Name, c.Digests
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "2", Insert: []keycote.Record{d}, Update: []keycote.Record{b2, a2},
		Delete: []keycote.RecordRef{{ID: "c", Revision: 1}}}))
	for _, want := range []keycote.Record{a2, b2, d} {
		got, err := store.Get(ctx, "", want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, err = store.Lookup(ctx, want.Digests)
		require.NoError(t, err)
		require.Equal(t, want.ID, got.ID)
	}
	changes, _, err := store.Changes(ctx, start)
	require.NoError(t, err)
	require.Equal(t, []keycote.Change{
		{ID: "a", Revision: 2, Digests: [][]byte{a.Digests[0], b.Digests[0]}},
		{ID: "b", Revision: 2, Digests: [][]byte{b.Digests[0], a.Digests[0]}},
		{ID: "c", Revision: 2, Digests: c.Digests},
		{ID: "d", Revision: 1, Digests: c.Digests},
	}, changes)
	e := record("", "e")
	e.Name = a.Name
	require.Equal(t, keycote.Violation{Field: "name", Code: keycote.ErrExists},
		store.Commit(ctx, keycote.Batch{ID: "3", Insert: []keycote.Record{e}}))
	e = record("", "e")
	e.Digests = append(e.Digests, b.Digests...)
	require.Equal(t, keycote.Violation{Field: "secret", Code: keycote.ErrExists},
		store.Commit(ctx, keycote.Batch{ID: "3", Insert: []keycote.Record{e}}))
}

// A Batch with more changes than one call returns is followed to its end.
func TestFeedOfALargeBatch(t *testing.T) {
	t.Parallel()
	store, _ := openStore(t, newFile(t))
	ctx := t.Context()
	_, at, err := store.Changes(ctx, "")
	require.NoError(t, err)
	b := keycote.Batch{ID: "large"}
	for i := range 2500 {
		b.Items = append(b.Items, keycote.Item{Space: fmt.Sprintf("space %d", i), Name: "n", Revision: 1, Body: []byte("x")})
	}
	require.NoError(t, store.Commit(ctx, b))
	var seen []string
	for _, size := range []int{1000, 1000, 500, 0} {
		changes, next, err := store.Changes(ctx, at)
		require.NoError(t, err)
		require.Len(t, changes, size)
		for _, ch := range changes {
			seen = append(seen, ch.Space)
		}
		at = next
	}
	require.Len(t, seen, 2500)
	for i, space := range seen {
		require.Equal(t, b.Items[i].Space, space)
	}
	for _, strange := range []string{"x", "0", "1.", "-1.0", at + "0", "9999." + at[5:], "\x00"} {
		_, _, err := store.Changes(ctx, strange)
		require.ErrorIs(t, err, keycote.ErrNotFound, "%q", strange)
	}
}
