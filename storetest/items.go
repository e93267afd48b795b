package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func itemRoundTrip(t testing.TB, s keycote.Store) {
	items := []keycote.Item{
		{Space: "keyring", Name: "index", Revision: 1, Body: everyByte},
		{Tenant: "acme", Space: "keyring", Name: "data", Revision: 1, Body: []byte{0}},
		{Tenant: "acme", Space: "job", Name: "data", Revision: 1, Body: []byte("another space")},
	}
	must(t, s, keycote.Batch{Items: items})
	for _, i := range items {
		got, err := s.Items(t.Context(), keycote.ItemQuery{Tenant: i.Tenant, Space: i.Space, Name: i.Name, Limit: 1})
		require.NoError(t, err)
		require.Equal(t, []keycote.Item{i}, got)
	}
	changed := keycote.Item{Space: "keyring", Name: "index", Revision: 2, Body: []byte("two")}
	must(t, s, keycote.Batch{Items: []keycote.Item{changed}})
	require.Equal(t, []keycote.Item{changed}, itemsAll(t, s, keycote.ItemQuery{Space: "keyring"}, 10))
	for _, q := range []keycote.ItemQuery{
		{Space: "keyring", Name: "none"}, {Space: "none", Name: "index"}, {Tenant: "acme", Space: "keyring", Name: "index"},
		{Tenant: "none", Space: "keyring"}, {Space: "keyring", Name: "data"},
	} {
		require.Empty(t, itemsAll(t, s, q, 10), "%+v", q)
	}
}

func itemRevisions(t testing.TB, s keycote.Store) {
	put := func(revision int64, body string) error {
		return try(
			t,
			s,
			keycote.Batch{Items: []keycote.Item{{Space: "job", Name: "a", Revision: revision, Body: []byte(body)}}},
		)
	}
	requireItem := func(revision int64, body string) {
		t.Helper()
		got, err := s.Items(t.Context(), keycote.ItemQuery{Space: "job", Name: "a", Limit: 1})
		require.NoError(t, err)
		require.Equal(t, []keycote.Item{{Space: "job", Name: "a", Revision: revision, Body: []byte(body)}}, got)
	}
	for _, revision := range []int64{-1, 0, 2, 3} {
		require.ErrorIs(t, put(revision, "x"), keycote.ErrConflict, "revision %d of an absent item", revision)
		require.ErrorIs(t, put(revision, ""), keycote.ErrConflict, "removal %d of an absent item", revision)
	}
	require.NoError(t, put(1, "one"))
	require.ErrorIs(t, put(1, "other"), keycote.ErrConflict, "1 inserts only if absent")
	requireItem(1, "one")
	require.NoError(t, put(2, "two"))
	require.NoError(t, put(3, "three"))
	for _, revision := range []int64{-1, 0, 1, 2, 3, 5} {
		require.ErrorIs(t, put(revision, "x"), keycote.ErrConflict, "revision %d after 3", revision)
		require.ErrorIs(t, put(revision, ""), keycote.ErrConflict, "removal %d after 3", revision)
	}
	requireItem(3, "three")
	require.NoError(t, put(4, ""))
	require.Empty(t, itemsAll(t, s, keycote.ItemQuery{Space: "job"}, 10), "an empty body removes")
	require.ErrorIs(t, put(5, "x"), keycote.ErrConflict, "removed is absent")
	require.NoError(t, put(1, "again"))
	requireItem(1, "again")

	twice := keycote.Batch{Items: []keycote.Item{item("", "job", "b", 1), item("", "job", "b", 2)}}
	require.ErrorIs(t, try(t, s, twice), keycote.ErrConflict, "a batch names an item once")
	requireItem(1, "again")
}

func itemPages(t testing.TB, s keycote.Store) {
	var b keycote.Batch
	var all []keycote.Item
	for _, tenant := range []string{"", "Acme", "acme", "b"} {
		for n := range 7 {
			i := item(tenant, "alert", fmt.Sprintf("name %d", n), 1)
			all = append(all, i)
			b.Items = append(b.Items, i, item(tenant, "job", i.Name, 1))
		}
	}
	slices.Reverse(b.Items)
	must(t, s, b)
	for _, limit := range []int{1, 2, 3, 7, 28, 1000} {
		require.Equal(t, all, itemsAll(t, s, keycote.ItemQuery{Space: "alert", AllTenants: true}, limit), "by %d", limit)
		require.Equal(t, all[14:21], itemsAll(t, s, keycote.ItemQuery{Space: "alert", Tenant: "acme"}, limit), "by %d", limit)
		require.Equal(t, all[:7], itemsAll(t, s, keycote.ItemQuery{Space: "alert"}, limit), "the unnamed tenant by %d", limit)
	}
	for name, c := range map[string]struct {
		query keycote.ItemQuery
		want  []keycote.Item
	}{
		"a position that is no row":     {keycote.ItemQuery{Tenant: "acme", After: "name 3x"}, all[18:21]},
		"after the last":                {keycote.ItemQuery{Tenant: "acme", After: "name 6"}, nil},
		"a tenant's own position":       {keycote.ItemQuery{Tenant: "acme", AfterTenant: "z", After: "name 5"}, all[20:21]},
		"between two tenants":           {keycote.ItemQuery{AllTenants: true, AfterTenant: "Acme", After: "~"}, all[14:]},
		"a tenant that is none":         {keycote.ItemQuery{AllTenants: true, AfterTenant: "ab", After: "name 3"}, all[14:]},
		"the start of a tenant":         {keycote.ItemQuery{AllTenants: true, AfterTenant: "acme"}, all[14:]},
		"the unnamed tenant's position": {keycote.ItemQuery{AllTenants: true, After: "name 5"}, all[6:]},
	} {
		c.query.Space, c.query.Limit = "alert", 1000
		got, err := s.Items(t.Context(), c.query)
		require.NoError(t, err, name)
		require.Equal(t, c.want, orNil(got), name)
	}
}

func itemQueryNarrows(t testing.TB, s keycote.Store) {
	first := keycote.ItemQuery{AllTenants: true, Limit: 1}
	got, err := s.Items(t.Context(), first)
	require.NoError(t, err)
	require.Empty(t, got)
	must(t, s, keycote.Batch{Items: []keycote.Item{
		item(
			"acme",
			"job",
			"a",
			1,
		), item("acme", "alert", "a", 1), item("", "job", "b", 1), item("acme", "job", "b", 1), item("b", "alert", "a", 1),
	}})
	got, err = s.Items(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, []keycote.Item{item("", "job", "b", 1)}, got, "is there anything at all?")
	got, err = s.Items(t.Context(), keycote.ItemQuery{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, []keycote.Item{
		item(
			"",
			"job",
			"b",
			1,
		), item("acme", "alert", "a", 1), item("acme", "job", "a", 1), item("acme", "job", "b", 1), item("b", "alert", "a", 1),
	}, got, "all spaces")
	require.Equal(t, []keycote.Item{item("acme", "job", "a", 1)},
		itemsAll(t, s, keycote.ItemQuery{AllTenants: true, Space: "job", Name: "a"}, 10))
	require.Equal(t, []keycote.Item{item("", "job", "b", 1), item("acme", "job", "b", 1)},
		itemsAll(t, s, keycote.ItemQuery{AllTenants: true, Space: "job", Name: "b"}, 1), "one name of all tenants")
}
