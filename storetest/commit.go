package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func revisionOfUpdate(t testing.TB, s keycote.Store) {
	r := record("", "key_1", func(r *keycote.Record) { r.Revision = 5 }) // whatever an insert says is the first one
	must(t, s, insert(r))
	for _, revision := range []int64{-1, 0, 1, 4, 5, 7, 100} {
		stale := next(r, func(r *keycote.Record) { r.Revision = revision })
		require.ErrorIs(t, try(t, s, update(stale)), keycote.ErrConflict, "revision %d", revision)
	}
	requireRecord(t, s, r)
	r = next(r)
	must(t, s, update(r))
	requireRecord(t, s, r)
	require.ErrorIs(t, try(t, s, update(r)), keycote.ErrConflict, "the same update again")
	require.ErrorIs(t, try(t, s, update(record("", "key_2"))), keycote.ErrNotFound, "an update does not insert")
	require.ErrorIs(t, try(t, s, update(next(record("", "key_2")))), keycote.ErrNotFound)
	requireAbsent(t, s, "", "key_2")
	twice := update(next(r), next(next(r)))
	require.ErrorIs(t, try(t, s, twice), keycote.ErrConflict, "a batch names a record once")
	requireRecord(t, s, r)
}

func revisionOfDelete(t testing.TB, s keycote.Store) {
	r := next(record("", "key_1"))
	must(t, s, insert(record("", "key_1")), update(r))
	for _, revision := range []int64{-1, 0, 1, 3} {
		b := keycote.Batch{Delete: []keycote.RecordRef{{ID: "key_1", Revision: revision}}}
		require.ErrorIs(t, try(t, s, b), keycote.ErrConflict, "revision %d", revision)
	}
	requireRecord(t, s, r)
	must(t, s, remove(r))
	requireAbsent(t, s, "", "key_1")
	require.ErrorIs(t, try(t, s, remove(r)), keycote.ErrNotFound, "what is gone")
	require.ErrorIs(t, try(t, s, update(next(r))), keycote.ErrNotFound, "what is gone")
	_, err := s.Lookup(t.Context(), r.Digests)
	require.ErrorIs(t, err, keycote.ErrNotFound)
}

func insertOfWhatIsThere(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	must(t, s, insert(r))
	other := record("", "key_1", named("Other"), digests(digest("other")))
	require.ErrorIs(t, try(t, s, insert(other)), keycote.ErrConflict)
	requireRecord(t, s, r)
	one, two := record("", "key_2", named("One"), digests()), record("", "key_2", named("Two"), digests())
	require.ErrorIs(t, try(t, s, insert(one, two)), keycote.ErrConflict, "twice in a batch")
	requireAbsent(t, s, "", "key_2")
}

func expectHoldsTheBatch(t testing.TB, s keycote.Store) {
	must(t, s, keycote.Batch{Items: []keycote.Item{item("", "keyring", "index", 1), item("acme", "keyring", "data", 1)}})
	must(t, s, keycote.Batch{Items: []keycote.Item{item("", "keyring", "index", 2)}})
	ref := func(tenant, space, name string, revision int64) keycote.ItemRef {
		return keycote.ItemRef{Tenant: tenant, Space: space, Name: name, Revision: revision}
	}
	index, data := ref("", "keyring", "index", 2), ref("acme", "keyring", "data", 1)
	for i, refs := range [][]keycote.ItemRef{
		nil, {index}, {data}, {index, data}, {data, index, data}, {ref("", "keyring", "record", 0), index},
		{ref("", "keyring", "INDEX", 0)}, {ref("acme", "keyring", "index", 0)}, {ref("", "keyring", "data", 0)}, {ref("", "job", "index", 0)},
	} {
		r := record("", fmt.Sprint("key_", i))
		must(t, s, keycote.Batch{Expect: refs, Insert: []keycote.Record{r}})
		requireRecord(t, s, r, refs)
	}
	before := dump(t, s)
	for _, refs := range [][]keycote.ItemRef{
		{ref("", "keyring", "index", 1)}, {ref("", "keyring", "index", 3)}, {ref("", "keyring", "index", 0)},
		{index, ref("acme", "keyring", "data", 2)}, {ref("acme", "keyring", "data", 0), index},
		{ref("", "keyring", "none", 1)}, {ref("acme", "keyring", "index", 2)}, {ref("", "job", "index", 2)}, {ref("ACME", "keyring", "data", 1)},
	} {
		r := record("", "key_refused")
		for part, b := range map[string]keycote.Batch{
			"insert": insert(r), "update": update(next(record("", "key_0"))), "delete": remove(record("", "key_0")),
			"items": {Items: []keycote.Item{item("", "job", "new", 1)}}, "events": {Events: []keycote.EventRecord{event("", "evt_1", epoch)}},
			"uses": {Uses: []keycote.UseCount{use("", "key_0", 1, epoch, 1)}}, "nothing": {},
		} {
			b.Expect = refs
			require.ErrorIs(t, try(t, s, b), keycote.ErrConflict, "%s under %v", part, refs)
		}
	}
	require.Equal(t, before, dump(t, s))

	// Expect is held against the state before the Batch, which may change that very item.
	must(t, s, keycote.Batch{Expect: []keycote.ItemRef{index}, Items: []keycote.Item{item("", "keyring", "index", 3)}})
	must(t, s, keycote.Batch{
		Expect: []keycote.ItemRef{ref("", "keyring", "new", 0)}, Items: []keycote.Item{item("", "keyring", "new", 1)},
	})
	late := keycote.Batch{
		Expect: []keycote.ItemRef{ref("", "keyring", "index", 4)},
		Items:  []keycote.Item{item("", "keyring", "index", 4)},
	}
	require.ErrorIs(t, try(t, s, late), keycote.ErrConflict)

	must(t, s, keycote.Batch{Items: []keycote.Item{{Space: "keyring", Name: "index", Revision: 4}}})
	require.ErrorIs(
		t,
		try(t, s, keycote.Batch{Expect: []keycote.ItemRef{ref("", "keyring", "index", 4)}}),
		keycote.ErrConflict,
	)
	must(t, s, keycote.Batch{Expect: []keycote.ItemRef{ref("", "keyring", "index", 0)}}) // removed is absent
}

// errorsRank: the Manager tries again on ErrConflict and tells a person about a taken name or value, so the answer to a
// Batch that breaks several rules must be the same in all Stores.
func errorsRank(t testing.TB, s keycote.Store) {
	one, two := record("", "key_1"), record("", "key_2")
	must(t, s, insert(one, two), keycote.Batch{Items: []keycote.Item{item("", "keyring", "index", 1)}})
	clash := func(id string) keycote.Record { return record("", id, named(two.Name), digests(two.Digests[0])) }
	stale := clash("key_1")
	stale.Revision = 9
	requireTaken(t, "name", try(t, s, insert(clash("key_3"))), "the name before the secret")
	requireTaken(t, "name", try(t, s, update(next(clash("key_1")))), "the name before the secret")
	apart := insert(record("", "key_0", digests(two.Digests[0])), record("", "key_3", named(two.Name)))
	requireTaken(t, "name", try(t, s, apart), "the name before the secret, in whatever record")
	require.ErrorIs(t, try(t, s, update(stale)), keycote.ErrConflict, "the revision before the name")
	require.ErrorIs(t, try(t, s, insert(clash("key_2"))), keycote.ErrConflict, "the id before the name")
	fenced := insert(clash("key_3"))
	fenced.Expect = []keycote.ItemRef{{Space: "keyring", Name: "index", Revision: 2}}
	require.ErrorIs(t, try(t, s, fenced), keycote.ErrConflict, "Expect before the name")
	gone := insert(clash("key_3"))
	gone.Update = []keycote.Record{next(record("", "key_9"))}
	require.ErrorIs(t, try(t, s, gone), keycote.ErrNotFound, "what is gone before the name")
	itemised := insert(clash("key_3"))
	itemised.Items = []keycote.Item{item("", "keyring", "index", 1)}
	require.ErrorIs(t, try(t, s, itemised), keycote.ErrConflict, "an item's revision before the name")
	logged := insert(clash("key_3"))
	logged.Expect = fenced.Expect
	logged.Delete = []keycote.RecordRef{{ID: "key_9", Revision: 1}}
	require.True(t, oneOf(try(t, s, logged), keycote.ErrConflict, keycote.ErrNotFound), "either, but not the name")
}

func contextEndedBefore(t testing.TB, s keycote.Store) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancelLate()
	must(t, s, insert(record("", "key_1")))
	_, position, err := s.Changes(t.Context(), "")
	require.NoError(t, err)
	before := dump(t, s)
	for want, ctx := range map[error]context.Context{context.Canceled: cancelled, context.DeadlineExceeded: late} {
		b := everything(before.Records[0])
		b.ID = "batch " + want.Error()
		err := s.Commit(ctx, b)
		require.ErrorIs(t, err, want)
		require.Empty(t, keycote.CodeOf(err), "an ended context is no answer of the store")
		require.Equal(t, before, dump(t, s), "nothing is applied")

		// Reads may answer or give up.
		r, err := s.Get(ctx, "", "key_1")
		gaveUp(t, want, err, func() { require.Equal(t, "key_1", r.ID) })
		r, err = s.Lookup(ctx, record("", "key_1").Digests)
		gaveUp(t, want, err, func() { require.Equal(t, "key_1", r.ID) })
		_, err = s.Get(ctx, "", "key_none")
		require.True(t, oneOf(err, want, keycote.ErrNotFound))
		records, err := s.List(ctx, keycote.Query{Now: epoch, Limit: 10})
		gaveUp(t, want, err, func() { require.Len(t, records, 1) })
		items, err := s.Items(ctx, keycote.ItemQuery{Space: "job", Limit: 10})
		gaveUp(t, want, err, func() { require.Empty(t, items) })
		events, err := s.Events(ctx, keycote.EventQuery{Limit: 10})
		gaveUp(t, want, err, func() { require.Empty(t, events) })
		uses, err := s.Usage(ctx, keycote.UsageQuery{Limit: 10})
		gaveUp(t, want, err, func() { require.Empty(t, uses) })
		changes, _, err := s.Changes(ctx, position)
		gaveUp(t, want, err, func() { require.Empty(t, changes) })
	}
	b := everything(before.Records[0])
	b.ID = "batch " + context.Canceled.Error()
	require.NoError(t, s.Commit(t.Context(), b), "the same Batch again")
	require.NotEqual(t, before, dump(t, s))
}

func gaveUp(t testing.TB, want, err error, answered func()) {
	t.Helper()
	if err == nil {
		answered()
		return
	}
	require.ErrorIs(t, err, want)
	require.Empty(t, keycote.CodeOf(err), "an ended context is no answer of the store")
}

// contextEndsMeanwhile cancels while the Commit runs: whatever it answers, the Batch is there whole or not at all, and
// the same Batch again makes it whole, once.
func contextEndsMeanwhile(t testing.TB, s keycote.Store) {
	for n := range 40 {
		id := fmt.Sprintf("key_%02d", n)
		window := hours(n)
		b := keycote.Batch{
			ID:     "batch of " + id,
			Insert: []keycote.Record{record("", id)},
			Items:  []keycote.Item{item("", "job", id, 1)},
			Events: []keycote.EventRecord{event("", "evt_"+id, epoch)},
			Uses:   []keycote.UseCount{use("", id, 1, window, 1)},
		}
		ctx, cancel := context.WithCancel(t.Context())
		var canceller sync.WaitGroup
		canceller.Go(func() {
			for range n * n { // later and later
				_ = ctx.Err()
			}
			cancel()
		})
		err := s.Commit(ctx, b)
		canceller.Wait()
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			require.Empty(t, keycote.CodeOf(err))
		}
		parts := partsOf(t, s, id, window)
		whole := [4]int{1, 1, 1, 1}
		switch {
		case err == nil:
			require.Equal(t, whole, parts, "answered nil: record, item, event, count")
		case parts != whole && parts != [4]int{}:
			// What was on its way when the caller gave up may arrive between two of these four reads, all at once.
			require.Equal(t, whole, partsOf(t, s, id, window), "all or nothing: record, item, event, count")
		}
		require.NoError(t, s.Commit(t.Context(), b))
		require.Equal(t, [4]int{1, 1, 1, 1}, partsOf(t, s, id, window), "once: record, item, event, count")
	}
}

func partsOf(t testing.TB, s keycote.Store, id string, window time.Time) (parts [4]int) {
	t.Helper()
	if _, err := s.Get(t.Context(), "", id); err == nil {
		parts[0]++
	}
	items, err := s.Items(t.Context(), keycote.ItemQuery{Space: "job", Name: id, Limit: 10})
	require.NoError(t, err)
	parts[1] = len(items)
	for _, e := range eventsAll(t, s, keycote.EventQuery{}, 1000) {
		if e.ID == "evt_"+id {
			parts[2]++
		}
	}
	uses, err := s.Usage(t.Context(), keycote.UsageQuery{KeyID: id, Since: window, Limit: 10})
	require.NoError(t, err)
	for _, u := range uses {
		parts[3] += int(u.N)
	}
	return parts
}
