package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func nameUnique(t testing.TB, s keycote.Store) {
	first := record("acme", "key_1", named("Billing"))
	second := record("acme", "key_2", named("Reports"))
	must(t, s, insert(first, second))

	requireTaken(t, "name", try(t, s, insert(record("acme", "key_3", named("Billing")))), "by an insert")
	requireTaken(t, "name", try(t, s, update(next(second, named("Billing")))), "by an update")
	requireTaken(
		t,
		"name",
		try(t, s, insert(record("acme", "key_3", named("X")), record("acme", "key_4", named("X")))),
		"within a batch",
	)
	requireTaken(t, "name", try(t, s, update(next(first, named("X")), next(second, named("X")))), "by two updates")
	both := update(next(first, named("X")))
	both.Insert = []keycote.Record{record("acme", "key_3", named("X"))}
	requireTaken(t, "name", try(t, s, both), "by an update and an insert")
	requireTaken(t, "name", try(t, s, insert(record("acme", "key_3", named("Billing"), func(r *keycote.Record) {
		r.State = keycote.StateDisabled
	}))), "whatever the state")
	requireRecord(t, s, first)
	requireRecord(t, s, second)
	requireAbsent(t, s, "acme", "key_3")

	must(t, s,
		update(next(first)), // its own name is not in its way
		insert(record("", "key_1", named("Billing")), record("acme2", "key_1", named("Billing"))),
		insert(record("acme", "key_5", named("Billing"), func(r *keycote.Record) { r.Kind = keycote.KindCredential })),
		insert(record("acme", "key_6", named("billing")), record("acme", "key_7", named("Billing "))))
	moved := next(second, func(r *keycote.Record) { r.Kind, r.Name = keycote.KindCredential, "Billing" })
	requireTaken(t, "name", try(t, s, update(moved)), "unique with the kind it has after the update")

	must(t, s, update(next(next(first), named("Invoices"))))
	must(t, s, update(next(second, named("Billing"))))
	requireTaken(t, "name", try(t, s, insert(record("acme", "key_8", named("Invoices")))), "the name after an update")
	must(t, s, insert(record("acme", "key_9", named("Reports")))) // free after the update
}

func nameEmptyIsNotUnique(t testing.TB, s keycote.Store) {
	revoked := func(r *keycote.Record) { r.Name, r.State = "", keycote.StateRevoked }
	one, two := record("", "key_1", named("Billing")), record("", "key_2", revoked)
	must(t, s, insert(one, two, record("", "key_3", revoked)), insert(record("", "key_4", revoked)))
	must(t, s, update(next(one, revoked)))
	must(t, s, insert(record("", "key_5", named("Billing"))))
	must(t, s, remove(two))
	require.Equal(t, []string{"/key_1", "/key_3", "/key_4", "/key_5"}, ids(listAll(t, s, keycote.Query{Now: epoch}, 10)))
	require.Empty(t, listAll(t, s, keycote.Query{Now: epoch, Filter: keycote.Filter{Name: "Name of key_2"}}, 10))
}

func nameFreedInTheSameBatch(t testing.TB, s keycote.Store) {
	one, two := record("", "key_1", named("A")), record("", "key_2", named("B"))
	must(t, s, insert(one, two))
	deleted := remove(one)
	three := record("", "key_3", named("A"))
	deleted.Insert = []keycote.Record{three}
	must(t, s, deleted)
	requireAbsent(t, s, "", "key_1")
	requireRecord(t, s, three, "deleted and inserted")

	revoked := update(next(three, func(r *keycote.Record) { r.Name, r.State = "", keycote.StateRevoked }))
	revoked.Insert = []keycote.Record{record("", "key_0", named("A"))}
	must(t, s, revoked)
	requireRecord(t, s, record("", "key_0", named("A")), "revoked and inserted")

	left, right := next(record("", "key_0"), named("B")), next(two, named("A"))
	must(t, s, update(left, right))
	requireRecord(t, s, left, "two names that change places")
	requireRecord(t, s, right, "two names that change places")
	requireTaken(t, "name", try(t, s, insert(record("", "key_9", named("A")))))
	requireTaken(t, "name", try(t, s, insert(record("", "key_9", named("B")))))
}

func digestUnique(t testing.TB, s keycote.Store) {
	a, b := digest("a"), digest("b")
	one, two := record("acme", "key_1", digests(a, b)), record("acme", "key_2")
	must(t, s, insert(one, two))
	credential := func(r *keycote.Record) { r.Kind = keycote.KindCredential }
	for _, d := range [][]byte{a, b} {
		requireTaken(t, "secret", try(t, s, insert(record("acme", "key_3", digests(d)))), "by an insert")
		requireTaken(t, "secret", try(t, s, insert(record("acme", "key_3", digests(digest("c"), d)))), "by one of several")
		requireTaken(t, "secret", try(t, s, insert(record("other", "key_1", digests(d)))), "of another tenant")
		requireTaken(t, "secret", try(t, s, insert(record("acme", "key_3", digests(d), credential))), "of another kind")
		requireTaken(t, "secret", try(t, s, update(next(two, digests(d)))), "by an update")
		requireTaken(t, "secret", try(t, s, update(next(two, digests(two.Digests[0], d)))), "by an update that adds")
	}
	c := digest("c")
	requireTaken(
		t,
		"secret",
		try(t, s, insert(record("", "key_3", digests(c)), record("", "key_4", digests(c)))),
		"by two inserts",
	)
	requireTaken(t, "secret", try(t, s, update(next(one, digests(c)), next(two, digests(c)))), "by two updates")
	both := update(next(one, digests(a, c)))
	both.Insert = []keycote.Record{record("", "key_3", digests(c))}
	requireTaken(t, "secret", try(t, s, both), "by an update and an insert")
	requireRecord(t, s, one)
	requireRecord(t, s, two)
	_, err := s.Lookup(t.Context(), [][]byte{c})
	require.ErrorIs(t, err, keycote.ErrNotFound, "nothing of the refused batches is left")

	revoked := next(one, func(r *keycote.Record) { r.Name, r.State = "", keycote.StateRevoked })
	must(t, s, update(revoked))
	requireTaken(t, "secret", try(t, s, insert(record("", "key_3", digests(a)))), "whatever the state")
}

func digestFreed(t testing.TB, s keycote.Store) {
	a, b, c := digest("a"), digest("b"), digest("c")
	one := record("", "key_1", digests(a, b))
	must(t, s, insert(one))
	one = next(one, digests(b, c))
	must(t, s, update(one))
	two := record("", "key_2", digests(a))
	must(t, s, insert(two)) // free after the update
	must(t, s, remove(one))
	must(t, s, insert(record("", "key_3", digests(b)), record("x", "key_3", digests(c)))) // free after the delete
	for id, d := range map[string][]byte{"key_2": a, "key_3": b} {
		r, err := s.Lookup(t.Context(), [][]byte{d})
		require.NoError(t, err)
		require.Equal(t, id, r.ID)
	}
}

func digestMovesInOneBatch(t testing.TB, s keycote.Store) {
	a, b := digest("a"), digest("b")
	for i, ends := range [][2]string{{"key_1", "key_2"}, {"key_4", "key_3"}} { // in the order of ids, and against it
		d := digest("moving", i)
		from, to := record("", ends[0], digests(d)), record("", ends[1])
		must(t, s, insert(from, to))
		must(t, s, update(next(to, digests(to.Digests[0], d)), next(from, digests())))
		requireHolder(t, s, to.ID, d)
		require.Empty(t, get(t, s, from.ID).Digests)
		requireTaken(t, "secret", try(t, s, update(next(next(from), digests(d)))))
	}

	left, right := record("", "key_5", digests(a)), record("", "key_6", digests(b))
	must(t, s, insert(left, right))
	must(t, s, update(next(left, digests(b)), next(right, digests(a))))
	requireHolder(t, s, "key_6", a)
	requireHolder(t, s, "key_5", b)

	moved := remove(next(right))
	moved.Insert = []keycote.Record{record("", "key_0", digests(a))}
	must(t, s, moved)
	requireHolder(t, s, "key_0", a)
	requireAbsent(t, s, "", "key_6")
}

func get(t testing.TB, s keycote.Store, id string) keycote.Record {
	t.Helper()
	r, err := s.Get(t.Context(), "", id)
	require.NoError(t, err)
	return r
}

func requireHolder(t testing.TB, s keycote.Store, id string, d []byte) {
	t.Helper()
	r, err := s.Lookup(t.Context(), [][]byte{d})
	require.NoError(t, err)
	require.Equal(t, id, r.ID)
	require.Contains(t, get(t, s, id).Digests, d)
}

func lookupFindsByAnyDigest(t testing.TB, s keycote.Store) {
	r := record("acme", "key_1", digests(digest("a"), digest("b"), digest("c")), func(r *keycote.Record) {
		r.Body, r.Seal = everyByte, everyByte[:37]
	})
	must(t, s, insert(r, record("acme", "key_2"), record("", "key_1")))
	none := digest("none")
	for _, asked := range [][][]byte{
		{digest("a")}, {digest("b")}, {digest("c")},
		{none, digest("b")}, {digest("b"), none}, {none, none, digest("c"), none},
		{digest("a"), digest("b"), digest("c")}, {digest("a"), digest("a")},
	} {
		found, err := s.Lookup(t.Context(), asked)
		require.NoError(t, err)
		require.Equal(t, []string{"acme", "key_1"}, []string{found.Tenant, found.ID})
		require.Equal(t, r.Body, found.Body)
		require.Equal(t, r.Seal, found.Seal)
	}
	almost := digest("a")
	almost[23] ^= 1
	for _, asked := range [][][]byte{nil, {}, {none}, {none, digest("nor this")}, {almost}, {digest("a")[:23]}, {{}}, {nil}} {
		found, err := s.Lookup(t.Context(), asked)
		require.ErrorIs(t, err, keycote.ErrNotFound, "%x", asked)
		require.Zero(t, found)
	}
	many := make([][]byte, 100)
	for i := range many {
		many[i] = digest("none", i)
	}
	many[99] = digest("c")
	found, err := s.Lookup(t.Context(), many)
	require.NoError(t, err)
	require.Equal(t, "key_1", found.ID)
}

func lookupOfTwoRecords(t testing.TB, s keycote.Store) {
	a, b, c := digest("a"), digest("b"), digest("c")
	must(t, s, insert(record("", "key_1", digests(a, b)), record("", "key_2", digests(c)), record("acme", "key_1")))
	other := record("acme", "key_1").Digests[0]
	for _, asked := range [][][]byte{{a, c}, {c, a}, {a, b, c}, {digest("none"), c, b}, {a, other}, {other, c, a}} {
		found, err := s.Lookup(t.Context(), asked)
		require.ErrorIs(t, err, keycote.ErrConflict)
		require.Zero(t, found)
	}
}

func lookupFollowsDigests(t testing.TB, s keycote.Store) {
	a, b := digest("a"), digest("b")
	r := record("", "key_1", digests(a))
	must(t, s, insert(r))
	r = next(r, digests(b, a))
	must(t, s, update(r))
	for _, d := range [][]byte{a, b} {
		requireHolder(t, s, "key_1", d)
		found, err := s.Lookup(t.Context(), [][]byte{d})
		require.NoError(t, err)
		require.Equal(t, r.Body, found.Body, "the body is the present one")
		require.Equal(t, r.Seal, found.Seal, "the seal is the present one")
	}
	r = next(r, digests(b))
	must(t, s, update(r))
	_, err := s.Lookup(t.Context(), [][]byte{a})
	require.ErrorIs(t, err, keycote.ErrNotFound, "a digest that the update left out")
	requireHolder(t, s, "key_1", b)
	must(t, s, remove(r))
	_, err = s.Lookup(t.Context(), [][]byte{a, b})
	require.ErrorIs(t, err, keycote.ErrNotFound, "a digest of a deleted record")
}
