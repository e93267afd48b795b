package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// The four races of keyrings, between a process A that changes one and a process B that works under what it has read.
// The fence is Expect: here as the interleavings themselves, in raceOfExpectAndItem under load.

func ring(tenant, name string, revision int64, body string) keycote.Item {
	return keycote.Item{Tenant: tenant, Space: "keyring", Name: name, Revision: revision, Body: []byte(body)}
}

func ringRef(tenant, name string, revision int64) keycote.ItemRef {
	return keycote.ItemRef{Tenant: tenant, Space: "keyring", Name: name, Revision: revision}
}

func readRing(t testing.TB, s keycote.Store, tenant, name string) keycote.Item {
	t.Helper()
	items, err := s.Items(t.Context(), keycote.ItemQuery{Space: "keyring", Tenant: tenant, Name: name, Limit: 1})
	require.NoError(t, err)
	require.Len(t, items, 1)
	return items[0]
}

// keyringRewrapped: (a) A wraps all keyrings under a new KEK while B, still on the old one, makes a tenant's keyring.
func keyringRewrapped(t testing.TB, s keycote.Store) {
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("", "index", 1, "old KEK")}})
	b := readRing(t, s, "", "index")
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("", "index", 2, "new KEK")}}) // A

	late := keycote.Batch{
		Expect: []keycote.ItemRef{ringRef("", "index", b.Revision)},
		Items:  []keycote.Item{ring("acme", "data", 1, "under the old KEK")},
		Insert: []keycote.Record{record("acme", "key_1")},
	}
	require.ErrorIs(t, try(t, s, late), keycote.ErrConflict)
	require.Empty(
		t,
		itemsAll(t, s, keycote.ItemQuery{Space: "keyring", Tenant: "acme"}, 10),
		"no keyring that only the old KEK opens",
	)
	requireAbsent(t, s, "acme", "key_1")

	b = readRing(t, s, "", "index")
	require.Equal(t, "new KEK", string(b.Body))
	late.Expect[0].Revision, late.Items[0].Body = b.Revision, []byte("under the new KEK")
	must(t, s, late)

	// The other way about: B was first, so A has not seen a keyring that it must wrap too.
	must(
		t,
		s,
		keycote.Batch{
			Expect: []keycote.ItemRef{ringRef("", "index", 2)},
			Items:  []keycote.Item{ring("b", "data", 1, "made meanwhile")},
		},
	)
	wrap := keycote.Batch{
		Expect: []keycote.ItemRef{ringRef("b", "data", 0)},
		Items:  []keycote.Item{ring("", "index", 3, "newest KEK"), ring("acme", "data", 2, "newest KEK")},
	}
	require.ErrorIs(t, try(t, s, wrap), keycote.ErrConflict)
	require.Equal(t, "new KEK", string(readRing(t, s, "", "index").Body), "zero writes")
	require.Equal(t, "under the new KEK", string(readRing(t, s, "acme", "data").Body), "zero writes")
	wrap.Expect = nil
	wrap.Items = append(wrap.Items, ring("b", "data", 2, "newest KEK"))
	must(t, s, wrap)
}

// keyringShredded: (b) A shreds a tenant's keyring while B seals under the one that it has in memory.
func keyringShredded(t testing.TB, s keycote.Store) {
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("acme", "data", 1, "keys")}})
	sealed := insert(record("acme", "key_1"))
	sealed.Expect = []keycote.ItemRef{ringRef("acme", "data", readRing(t, s, "acme", "data").Revision)}
	must(t, s, sealed) // in time: it goes down with the keyring
	late := insert(record("acme", "key_2"))
	late.Expect = sealed.Expect
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("acme", "data", 2, "tombstone")}}) // A
	require.ErrorIs(t, try(t, s, late), keycote.ErrConflict)
	requireAbsent(t, s, "acme", "key_2")
	require.Equal(t, "tombstone", string(readRing(t, s, "acme", "data").Body), "B reads that it is gone")
	fresh := keycote.Batch{Items: []keycote.Item{ring("acme", "data", 1, "a keyring over the tombstone")}}
	require.ErrorIs(t, try(t, s, fresh), keycote.ErrConflict)
}

// keyringKeyDropped: (c) A drops a key of a keyring while B seals under that key.
func keyringKeyDropped(t testing.TB, s keycote.Store) {
	by := func(key string) func(*keycote.Record) {
		return func(r *keycote.Record) { r.Seal = []byte("by " + key) }
	}
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("", "record", 1, "old, new")}})
	r := record("", "key_1", by("old"))
	must(t, s, insert(r))
	under := []keycote.ItemRef{ringRef("", "record", readRing(t, s, "", "record").Revision)} // B

	resealed := next(r, by("new"))
	must(t, s, keycote.Batch{ // A: nothing that it knows of is under the old key
		Expect: []keycote.ItemRef{ringRef("", "record", 1)},
		Update: []keycote.Record{resealed}, Items: []keycote.Item{ring("", "record", 2, "new")},
	})
	made, changed := insert(record("", "key_2", by("old"))), update(next(resealed, by("old")))
	made.Expect, changed.Expect = under, under
	require.ErrorIs(t, try(t, s, made), keycote.ErrConflict)
	require.ErrorIs(t, try(t, s, changed), keycote.ErrConflict)
	requireAbsent(t, s, "", "key_2")
	requireRecord(t, s, resealed)

	under = []keycote.ItemRef{ringRef("", "record", readRing(t, s, "", "record").Revision)}
	made, changed = insert(record("", "key_2", by("new"))), update(next(resealed, by("new")))
	made.Expect, changed.Expect = under, under
	must(t, s, made, changed)
	requireRecord(t, s, made.Insert[0])
	requireRecord(t, s, changed.Update[0])
}

// keyringKeyAdded: (d) B seals under a new key that A has not loaded: whoever reads the record can read the keyring
// that it needs, and the feed names the keyring first.
func keyringKeyAdded(t testing.TB, s keycote.Store) {
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("", "record", 1, "old")}})
	a, position := readRing(t, s, "", "record"), present(t, s)
	must(t, s, keycote.Batch{Items: []keycote.Item{ring("", "record", 2, "old, new")}}) // B
	sealed := insert(record("", "key_1", func(r *keycote.Record) { r.Seal = []byte("by new") }))
	sealed.Expect = []keycote.ItemRef{ringRef("", "record", 2)}
	must(t, s, sealed)

	requireRecord(t, s, sealed.Insert[0])
	require.Less(t, a.Revision, readRing(t, s, "", "record").Revision, "A reads the keyring again and finds the key")
	changes, _ := since(t, s, position)
	require.Len(t, changes, 2)
	require.Equal(t, keycote.Change{Space: "keyring", Revision: 2}, changes[0])
	require.Equal(t, "key_1", changes[1].ID)
}
