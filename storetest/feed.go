package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// present returns the feed's present position.
func present(t testing.TB, s keycote.Store) string {
	t.Helper()
	changes, position, err := s.Changes(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, changes, `position "" gets no changes`)
	require.NotEmpty(t, position)
	return position
}

// since follows the feed from a position to its end. Its entries are sorted by tenant and id within nothing: they come
// as they are, each digest list sorted.
func since(t testing.TB, s keycote.Store, position string) ([]keycote.Change, string) {
	t.Helper()
	var all []keycote.Change
	for range 10_000 {
		changes, reached, err := s.Changes(t.Context(), position)
		require.NoError(t, err)
		require.LessOrEqual(t, len(changes), 1000)
		require.NotEmpty(t, reached)
		for _, c := range changes {
			c.Digests = sortedDigests(c.Digests)
			all = append(all, c)
		}
		position = reached
		if len(changes) < 1000 {
			return all, position
		}
	}
	require.FailNow(t, "the feed has no end")
	return nil, ""
}

func feedStart(t testing.TB, s keycote.Store) {
	position := present(t, s)
	changes, reached := since(t, s, position)
	require.Empty(t, changes)
	must(t, s, insert(record("", "key_1")))
	for _, from := range []string{position, reached} { // positions of the empty feed hold
		changes, _ = since(t, s, from)
		require.Len(t, changes, 1)
	}
	changes, _ = since(t, s, present(t, s))
	require.Empty(t, changes, "the present one lies behind all changes")
}

func feedShowsChanges(t testing.TB, s keycote.Store) {
	position := present(t, s)
	r := record("acme", "key_1", func(r *keycote.Record) { r.Revision = 3 })
	other := record("", "key_1")
	d, o := r.Digests, other.Digests
	must(t, s,
		insert(r),
		update(next(r)),
		keycote.Batch{Items: []keycote.Item{item("acme", "keyring", "data", 1)}},
		insert(other),
		keycote.Batch{Items: []keycote.Item{item("acme", "keyring", "data", 2)}},
		keycote.Batch{Items: []keycote.Item{{Tenant: "acme", Space: "keyring", Name: "data", Revision: 3}}},
		remove(next(r)),
		keycote.Batch{Items: []keycote.Item{item("", "job", "a", 1)}, Update: []keycote.Record{next(other)}})
	want := []keycote.Change{
		{Tenant: "acme", ID: "key_1", Revision: 3, Digests: d},
		{Tenant: "acme", ID: "key_1", Revision: 4, Digests: d},
		{Tenant: "acme", Space: "keyring", Revision: 1},
		{ID: "key_1", Revision: 1, Digests: o},
		{Tenant: "acme", Space: "keyring", Revision: 2},
		{Tenant: "acme", Space: "keyring", Revision: 3},
		{Tenant: "acme", ID: "key_1", Revision: 5, Digests: d},
	}
	got, end := since(t, s, position)
	require.Equal(t, want, got[:min(len(want), len(got))])
	last := got[len(want):] // of one Batch: in any order
	slices.SortFunc(last, func(x, y keycote.Change) int { return cmp.Compare(x.ID, y.ID) })
	require.Equal(t, []keycote.Change{{Space: "job", Revision: 1}, {ID: "key_1", Revision: 2, Digests: o}}, last)
	again, _ := since(t, s, position)
	require.Len(t, again, len(got), "a position can be followed again")
	rest, _ := since(t, s, end)
	require.Empty(t, rest)
}

func feedShowsDigestsBeforeAndAfter(t testing.TB, s keycote.Store) {
	a, b, c := digest("a"), digest("b"), digest("c")
	r := record("", "key_1", digests(a, b))
	must(t, s, insert(r))
	r2 := next(r, digests(b, c))
	r3 := next(r2, digests())
	r4 := next(r3, digests(a))
	for _, step := range []struct {
		name string
		b    keycote.Batch
		want [][]byte
	}{
		{"one out, one in", update(r2), [][]byte{a, b, c}},
		{"all out", update(r3), [][]byte{b, c}},
		{"one in", update(r4), [][]byte{a}},
		{"deleted", remove(r4), [][]byte{a}},
		{"none", insert(record("", "key_2", digests())), nil},
	} {
		position := present(t, s)
		must(t, s, step.b)
		changes, _ := since(t, s, position)
		require.Len(t, changes, 1, step.name)
		require.Equal(t, sortedDigests(step.want), changes[0].Digests, step.name)
	}
}

func feedIgnoresTheRest(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	must(t, s, insert(r), keycote.Batch{Items: []keycote.Item{item("", "keyring", "index", 1)}})
	position := present(t, s)
	known := everything(r)
	known.ID, known.Update = "known", nil
	must(t, s, known)
	changes, reached := since(t, s, position)
	require.Len(t, changes, 2)
	position = reached
	must(t, s,
		keycote.Batch{Events: []keycote.EventRecord{event("", "evt_1", epoch)}},
		keycote.Batch{Uses: []keycote.UseCount{use("", "key_1", 1, epoch, 1)}},
		keycote.Batch{Redact: []keycote.EventRecord{{ID: "evt_1"}}},
		keycote.Batch{Prune: []keycote.Prune{{AllTenants: true, EventsBefore: hours(9), UsesBefore: hours(9), Limit: 9}}},
		keycote.Batch{Expect: []keycote.ItemRef{{Space: "keyring", Name: "index", Revision: 1}}},
		keycote.Batch{}, known)
	require.ErrorIs(t, try(t, s, update(next(next(r)))), keycote.ErrConflict)
	changes, _ = since(t, s, position)
	require.Empty(t, changes, "neither events, counts, pruning, repeated nor refused Batches")
}

func feedPages(t testing.TB, s keycote.Store) {
	position := present(t, s)
	const batches, each = 5, 450
	for n := range batches {
		var b keycote.Batch
		for i := range each {
			b.Items = append(
				b.Items,
				keycote.Item{Tenant: fmt.Sprintf("%d/%03d", n, i), Space: "job", Name: "a", Revision: 1, Body: []byte("x")},
			)
		}
		must(t, s, b)
	}
	var big keycote.Batch
	for i := range 1_200 {
		big.Items = append(
			big.Items,
			keycote.Item{Tenant: fmt.Sprintf("big/%04d", i), Space: "job", Name: "a", Revision: 1, Body: []byte("x")},
		)
	}
	must(t, s, big, insert(record("", "key_1")))

	changes, _ := since(t, s, position)
	seen := map[string]int{}
	batch := 0
	for _, c := range changes {
		var n, i int
		switch _, err := fmt.Sscanf(c.Tenant, "%d/%d", &n, &i); {
		case c.ID != "":
			n = batches + 1
		case err != nil:
			n = batches
		}
		require.GreaterOrEqual(t, n, batch, "Batches come in the order of their commits")
		batch = n
		seen[c.Tenant+c.ID]++
	}
	require.Len(t, seen, batches*each+1_200+1, "every change, over all pages")
	require.Equal(t, batches+1, batch)
}

func feedUnknownPosition(t testing.TB, s keycote.Store) {
	before := present(t, s)
	must(t, s, insert(record("", "key_1")))
	position := present(t, s)
	flipped := []byte(position)
	flipped[len(flipped)-1] ^= 1
	for _, unknown := range []string{
		"x", "0", "1", "-1", "999999999999", "99999999999999999999999999", " ", position + " ", position + "0", "9" + position, "x" + position,
		position[:len(position)-1], string(flipped), before + position, "'; --", "1-", "-", "1-1",
	} {
		changes, reached, err := s.Changes(t.Context(), unknown)
		require.ErrorIs(t, err, keycote.ErrNotFound, "position %q of a feed at %q", unknown, position)
		require.Empty(t, changes)
		require.Empty(t, reached)
	}
	changes, _ := since(t, s, before)
	require.Len(t, changes, 1)
}

// feedFollowedWhileWriting follows the feed while several write: whoever commits first may have begun last, and a feed
// that numbers changes before it commits them loses some here.
func feedFollowedWhileWriting(t testing.TB, s keycote.Store) {
	const writers, each = 6, 25
	position := present(t, s)
	committed := make(chan error, writers*each)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			r := record("", fmt.Sprint("key_", w))
			b := insert(r)
			for n := range each {
				b.ID = fmt.Sprint("batch ", w, " ", n)
				b.Items = []keycote.Item{
					{Tenant: fmt.Sprint(w), Space: "job", Name: "a", Revision: int64(n + 1), Body: []byte("x")},
				}
				committed <- s.Commit(t.Context(), b)
				r = next(r)
				b = update(r)
			}
		})
	}
	go func() {
		group.Wait()
		close(committed)
	}()
	type change struct {
		key      string
		revision int64
	}
	seen := map[change]bool{}
	highest := map[string]int64{}
	follow := func() {
		changes, reached := since(t, s, position)
		position = reached
		for _, c := range changes {
			key := c.Tenant + "/" + c.ID
			if !seen[change{key, c.Revision}] {
				seen[change{key, c.Revision}] = true
				require.Equal(t, highest[key]+1, c.Revision, "the next change of %s", key)
				highest[key] = c.Revision
			}
		}
	}
	for err := range committed {
		require.NoError(t, err)
		follow()
	}
	follow()
	require.Len(t, seen, 2*writers*each, "every change of a record and of an item")
}
