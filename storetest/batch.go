package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// everything is a Batch that writes to every table there is, on a store that holds r.
func everything(r keycote.Record) keycote.Batch {
	return keycote.Batch{
		Insert: []keycote.Record{record("new", "key_new")},
		Update: []keycote.Record{next(r)},
		Items:  []keycote.Item{item("new", "job", "new", 1)},
		Events: []keycote.EventRecord{event("new", "evt_new", epoch)},
		Uses:   []keycote.UseCount{use("new", "key_new", 1, epoch, 1), use(r.Tenant, r.ID, 1, epoch, 1)},
	}
}

// at returns list with extra at its start, in its middle or at its end.
func at[T any](list []T, place int, extra T) []T {
	return slices.Insert(slices.Clone(list), []int{0, len(list) / 2, len(list)}[place], extra)
}

// batchIsAtomic lets each kind of entry fail, in each place of a Batch of which all else is in order.
func batchIsAtomic(t testing.TB, s keycote.Store) {
	r1, r2, r3, r4 := record("", "key_1"), record("", "key_2"), record("", "key_3"), record("", "key_4")
	must(t, s, keycote.Batch{
		Insert: []keycote.Record{r1, r2, r3, r4, record("", "key_5"), record("", "key_6")},
		Items:  []keycote.Item{item("", "job", "a", 1), item("", "job", "b", 1), item("", "keyring", "index", 1)},
		Events: []keycote.EventRecord{event("", "evt_1", hours(1)), event("", "evt_2", hours(2))},
		Uses:   []keycote.UseCount{use("", "key_1", 1, hours(1), 5), use("", "key_2", 1, hours(2), 5)},
	})
	good := keycote.Batch{
		Expect: []keycote.ItemRef{{Space: "keyring", Name: "index", Revision: 1}, {Space: "keyring", Name: "none"}},
		Insert: []keycote.Record{record("", "key_0"), record("", "key_7"), record("x", "key_8"), record("x", "key_9")},
		Update: []keycote.Record{next(r1, digests(digest("new"))), next(r2)},
		Delete: []keycote.RecordRef{refOf(r3), refOf(r4)},
		Items:  []keycote.Item{item("", "job", "a", 2), item("", "job", "c", 1), {Space: "job", Name: "b", Revision: 2}},
		Events: []keycote.EventRecord{event("", "evt_3", hours(3)), event("", "evt_4", hours(4))},
		Redact: []keycote.EventRecord{{ID: "evt_2", Actor: "nobody"}},
		Uses:   []keycote.UseCount{use("", "key_1", 1, hours(1), 1), use("", "key_5", 1, hours(1), 1)},
		Prune:  []keycote.Prune{{EventsBefore: hours(2), UsesBefore: hours(2), Limit: 10}},
	}
	failures := []struct {
		name  string
		spoil func(b *keycote.Batch, place int)
		check func(err error) bool
	}{
		{"stale Expect", func(b *keycote.Batch, place int) {
			b.Expect = at(b.Expect, place, keycote.ItemRef{Space: "keyring", Name: "record", Revision: 1})
		}, conflict},
		{"name taken by an insert", func(b *keycote.Batch, place int) {
			b.Insert = at(b.Insert, place, record("", "key_bad", named("Name of key_5")))
		}, taken("name")},
		{"name taken by an update", func(b *keycote.Batch, place int) {
			b.Update = at(b.Update, place, next(record("", "key_6"), named("Name of key_5")))
		}, taken("name")},
		{"digest taken by an insert", func(b *keycote.Batch, place int) {
			b.Insert = at(b.Insert, place, record("", "key_bad", digests(digest("bad"), record("", "key_5").Digests[0])))
		}, taken("secret")},
		{"digest taken by an update", func(b *keycote.Batch, place int) {
			b.Update = at(b.Update, place, next(record("", "key_6"), digests(record("", "key_5").Digests[0])))
		}, taken("secret")},
		{"insert of what is there", func(b *keycote.Batch, place int) {
			b.Insert = at(b.Insert, place, record("", "key_5", named("Other"), digests()))
		}, conflict},
		{"stale update", func(b *keycote.Batch, place int) {
			b.Update = at(b.Update, place, next(next(record("", "key_5"))))
		}, conflict},
		{"update of what is gone", func(b *keycote.Batch, place int) {
			b.Update = at(b.Update, place, next(record("", "key_bad")))
		}, notFound},
		{"stale delete", func(b *keycote.Batch, place int) {
			b.Delete = at(b.Delete, place, keycote.RecordRef{ID: "key_5", Revision: 2})
		}, conflict},
		{"delete of what is gone", func(b *keycote.Batch, place int) {
			b.Delete = at(b.Delete, place, keycote.RecordRef{ID: "key_bad", Revision: 1})
		}, notFound},
		{"item that is there", func(b *keycote.Batch, place int) {
			b.Items = at(b.Items, place, item("", "keyring", "index", 1))
		}, conflict},
		{"stale item", func(b *keycote.Batch, place int) {
			b.Items = at(b.Items, place, item("", "keyring", "index", 3))
		}, conflict},
		{"item that is absent", func(b *keycote.Batch, place int) {
			b.Items = at(b.Items, place, item("", "job", "bad", 2))
		}, conflict},
		{"removal of an absent item", func(b *keycote.Batch, place int) {
			b.Items = at(b.Items, place, keycote.Item{Space: "job", Name: "bad", Revision: 2})
		}, conflict},
		{"event that is there", func(b *keycote.Batch, place int) {
			b.Events = at(b.Events, place, event("", "evt_1", hours(9)))
		}, conflict},
	}
	_, position, err := s.Changes(t.Context(), "")
	require.NoError(t, err)
	before := dump(t, s)
	for _, f := range failures {
		for place, where := range []string{"first", "in the middle", "last"} {
			b := good
			f.spoil(&b, place)
			err := try(t, s, b)
			require.Error(t, err, "%s, %s", f.name, where)
			require.True(t, f.check(err), "%s, %s: %v", f.name, where, err)
			require.Equal(t, before, dump(t, s), "%s, %s: something was applied", f.name, where)
			for _, d := range [][]byte{digest("new"), digest("bad"), record("", "key_0").Digests[0]} {
				_, err := s.Lookup(t.Context(), [][]byte{d})
				require.ErrorIs(t, err, keycote.ErrNotFound, "%s, %s: a digest was applied", f.name, where)
			}
			requireHolder(t, s, "key_1", r1.Digests[0])
			requireHolder(t, s, "key_3", r3.Digests[0])
			changes, _, err := s.Changes(t.Context(), position)
			require.NoError(t, err)
			require.Empty(t, changes, "%s, %s: the feed tells of it", f.name, where)
		}
	}

	must(t, s, good)
	after := dump(t, s)
	require.Equal(
		t,
		[]string{"/key_0", "/key_1", "/key_2", "/key_5", "/key_6", "/key_7", "x/key_8", "x/key_9"},
		ids(after.Records),
	)
	require.Equal(
		t,
		[]keycote.Item{item("", "job", "a", 2), item("", "job", "c", 1), item("", "keyring", "index", 1)},
		after.Items,
	)
	require.Len(t, after.Events, 3)
	require.Equal(t, "nobody", after.Events[0].Actor)
	require.Len(t, after.Uses, 1)
}

func conflict(err error) bool { return oneOf(err, keycote.ErrConflict) }

func notFound(err error) bool { return oneOf(err, keycote.ErrNotFound) }

func taken(field string) func(error) bool {
	return func(err error) bool { return takenField(err) == field }
}

func batchRepeated(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	first := everything(r)
	first.ID, first.Update = "batch-1", nil
	first.Insert = append(first.Insert, r)
	must(t, s, first)
	_, position, err := s.Changes(t.Context(), "")
	require.NoError(t, err)
	before := dump(t, s)
	for range 3 {
		require.NoError(t, s.Commit(t.Context(), first), "as it is")
	}
	require.Equal(t, before, dump(t, s))
	changes, _, err := s.Changes(t.Context(), position)
	require.NoError(t, err)
	require.Empty(t, changes)

	// Whatever the Batch says now, its ID says that it is done, before anything else is judged.
	must(t, s, update(next(r, named("Other"), digests(digest("other")))))
	before = dump(t, s)
	for name, b := range map[string]keycote.Batch{
		"as it is":  first,
		"conflict":  {Expect: []keycote.ItemRef{{Space: "keyring", Name: "none", Revision: 9}}},
		"not found": {Delete: []keycote.RecordRef{{ID: "key_none", Revision: 1}}},
		"taken":     insert(record("", "key_2", named("Other"), digests(digest("other")))),
		"new":       insert(record("", "key_2")),
		"uses":      {Uses: []keycote.UseCount{use("", "key_1", 1, epoch, 1)}},
		"events":    {Events: []keycote.EventRecord{event("", "evt_2", epoch)}},
	} {
		b.ID = "batch-1"
		require.NoError(t, s.Commit(t.Context(), b), name)
		require.Equal(t, before, dump(t, s), name)
	}
	for _, id := range []string{"BATCH-1", "batch-1 ", "batch", "batch-10"} {
		must(t, s, keycote.Batch{ID: id, Insert: []keycote.Record{record("", "key of "+id)}})
		requireRecord(t, s, record("", "key of "+id), "IDs are compared by bytes")
	}
	must(t, s, keycote.Batch{ID: "only uses", Uses: []keycote.UseCount{use("", "key_9", 1, epoch, 1)}})
	must(t, s, keycote.Batch{ID: "only uses", Uses: []keycote.UseCount{use("", "key_9", 1, epoch, 1)}})
	uses := usageAll(t, s, keycote.UsageQuery{KeyID: "key_9"}, 10)
	require.Len(t, uses, 1)
	require.EqualValues(t, 1, uses[0].N, "a Batch of use counts alone is known too")
	must(
		t,
		s,
		keycote.Batch{ID: "nothing"},
		keycote.Batch{ID: "nothing", Insert: []keycote.Record{record("", "key_unseen")}},
	)
	requireAbsent(t, s, "", "key_unseen", "an empty Batch is known too")
}

func batchFailedIsNotRemembered(t testing.TB, s keycote.Store) {
	one, two := record("", "key_1"), record("", "key_2", named("Name of key_1"))
	must(t, s, insert(one))
	b := insert(two)
	b.ID = "batch-1"
	requireTaken(t, "name", s.Commit(t.Context(), b))
	requireTaken(t, "name", s.Commit(t.Context(), b), "it fails as long as its cause is there")
	must(t, s, remove(one))
	must(t, s, b)
	requireRecord(t, s, two, "and is applied once that is gone")
	must(t, s, remove(two), b)
	requireAbsent(t, s, "", "key_2", "from then on it is done")
}

func batchWithoutID(t testing.TB, s keycote.Store) {
	require.NoError(t, s.Commit(t.Context(), insert(record("", "key_1"))))
	require.NoError(t, s.Commit(t.Context(), insert(record("", "key_2"))))
	require.Equal(t, []string{"/key_1", "/key_2"}, ids(dump(t, s).Records), "an empty ID is never known")
	require.NoError(t, s.Commit(t.Context(), keycote.Batch{}), "nothing to do")
}

func batchLarge(t testing.TB, s keycote.Store) {
	const n = 600
	var b, change, end keycote.Batch
	for i := range n {
		id := fmt.Sprintf("key_%04d", i)
		r := record(fmt.Sprint("t", i%3), id)
		b.Insert = append(b.Insert, r)
		b.Items = append(b.Items, item("", "job", id, 1))
		b.Events = append(b.Events, event(r.Tenant, fmt.Sprintf("evt_%04d", i), epoch))
		b.Uses = append(b.Uses, use(r.Tenant, id, 1, epoch, int64(i+1)))
		change.Update = append(change.Update, next(r))
		end.Delete = append(end.Delete, refOf(next(r)))
	}
	must(t, s, b, change)
	got := dump(t, s)
	require.Equal(t, []int{n, n, n, n}, []int{len(got.Records), len(got.Items), len(got.Events), len(got.Uses)})
	for _, r := range got.Records {
		require.EqualValues(t, 2, r.Revision)
		require.Len(t, r.Uses, 1)
	}
	must(t, s, end)
	require.Empty(t, dump(t, s).Records)
}
