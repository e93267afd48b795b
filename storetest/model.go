package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// model does random operations on s and on a naive Store and holds every answer against the other's. Ids, names,
// digests and times are few, so that most Batches meet something.
func model(t testing.TB, s keycote.Store) {
	operations := 1_500
	if testing.Short() {
		operations = 200
	}
	w := &walker{TB: t, random: newRandom(t), s: s, position: present(t, s)}
	for w.step = range operations {
		switch w.below(10) {
		case 0:
			w.look()
		case 1:
			w.list()
		case 2:
			w.read()
		default:
			w.commit()
		}
		if w.step%100 == 99 {
			require.Equal(t, w.n.all(), dump(t, s), "after step %d", w.step)
		}
	}
	require.Equal(t, w.n.all(), dump(t, s))
	w.follow()
}

type walker struct {
	testing.TB
	*random
	s        keycote.Store
	n        naive
	step     int
	made     int
	past     []keycote.Batch
	position string
	followed int // changes of n that were seen in the feed
}

func (w *walker) tenant() string { return pick(w.random, "", "acme", "Acme") }

func (w *walker) id() string { return fmt.Sprint("key_", w.below(12)) }

func (w *walker) digests() [][]byte {
	var out [][]byte
	for range w.below(4) {
		if d := digest("model", w.below(40)); !slices.ContainsFunc(out, func(o []byte) bool { return bytes.Equal(o, d) }) {
			out = append(out, d)
		}
	}
	return out
}

func (w *walker) at() time.Time {
	return hours(w.below(20)).Add(time.Duration(w.below(3)) * time.Microsecond)
}

// some is mostly a record that is there.
func (w *walker) some() keycote.Record {
	if len(w.n.records) > 0 && !w.chance(10) {
		return pick(w.random, w.n.records...)
	}
	return record(w.tenant(), w.id())
}

func (w *walker) vary(r *keycote.Record) {
	r.Kind, r.Name = pick(
		w.random,
		keycote.KindAccess,
		keycote.KindCredential,
	), pick(
		w.random,
		"",
		"A",
		"a",
		"B",
		"C",
		"D",
		"E",
		"F",
	)
	r.App, r.Owner, r.State = pick(
		w.random,
		"",
		"shop",
	), pick(
		w.random,
		"ann",
		"bob",
	), pick(
		w.random,
		keycote.StateActive,
		keycote.StateDisabled,
		keycote.StateRevoked,
	)
	r.Search = search(r.Name) + "\n" + r.App + "\n" + pick(w.random, "100%", "a_b", "")
	r.Labels = map[string]string{"env": pick(w.random, "", "prod", "test")}
	r.ExpiresAt, r.RotatedAt, r.Digests = pick(w.random, time.Time{}, w.at()), w.at(), w.digests()
	r.Body = fmt.Appendf(nil, "body %d", w.next())
}

func (w *walker) commit() {
	if len(w.past) > 0 && w.chance(20) { // one that is done already
		b := pick(w.random, w.past...)
		require.NoError(w, w.s.Commit(w.Context(), b), "step %d: a known Batch", w.step)
		return
	}
	b := keycote.Batch{ID: fmt.Sprint("batch ", w.step)}
	seen := map[[2]string]bool{}
	items := map[keycote.ItemRef]bool{}
	off := func() int64 { return int64(pick(w.random, 0, 0, 0, 0, 0, 0, 0, 0, 1, -1)) }
	for range 1 + w.below(3) {
		switch w.below(9) {
		case 0, 1:
			if r := record(w.tenant(), w.id(), w.vary); !seen[[2]string{r.Tenant, r.ID}] {
				seen[[2]string{r.Tenant, r.ID}] = true
				b.Insert = append(b.Insert, r)
			}
		case 2, 3:
			if r := w.some(); !seen[[2]string{r.Tenant, r.ID}] {
				seen[[2]string{r.Tenant, r.ID}] = true
				b.Update = append(b.Update, next(r, w.vary, func(r *keycote.Record) { r.Revision += off() }))
			}
		case 4:
			if r := w.some(); !seen[[2]string{r.Tenant, r.ID}] {
				seen[[2]string{r.Tenant, r.ID}] = true
				b.Delete = append(b.Delete, keycote.RecordRef{Tenant: r.Tenant, ID: r.ID, Revision: r.Revision + off()})
			}
		case 5:
			i := keycote.Item{Tenant: w.tenant(), Space: pick(w.random, "keyring", "job"), Name: pick(w.random, "a", "b", "A")}
			key := keycote.ItemRef{Tenant: i.Tenant, Space: i.Space, Name: i.Name}
			revision := w.n.itemRevision(i.Tenant, i.Space, i.Name)
			if w.chance(3) {
				key.Revision = revision + off()
				b.Expect = append(b.Expect, key)
			} else if !items[key] {
				items[key] = true
				i.Revision = revision + 1 + off()
				if revision == 0 || !w.chance(4) {
					i.Body = fmt.Appendf(nil, "item %d", w.next())
				}
				b.Items = append(b.Items, i)
			}
		case 6:
			w.made++
			b.Events = append(b.Events, event(w.tenant(), fmt.Sprintf("evt_%06d", w.made), w.at(), func(e *keycote.EventRecord) {
				e.KeyID, e.Actor = w.id(), pick(w.random, "", "ann", "bob")
			}))
			if w.chance(3) {
				b.Redact = append(b.Redact, keycote.EventRecord{
					Tenant: w.tenant(), ID: fmt.Sprintf("evt_%06d", 1+w.below(w.made)), Actor: "erased", Personal: []byte("erased"),
				})
			}
		case 7:
			at := w.at()
			b.Uses = append(
				b.Uses,
				use(w.tenant(), w.id(), 1+w.below(3), hours(w.below(20)), int64(1+w.below(5)), func(u *keycote.UseCount) {
					u.Outcome, u.Addr = pick(w.random, "", "", keycote.ErrScope), pick(w.random, "a", "b")
					u.First, u.Last = at, at.Add(time.Duration(w.below(1000))*time.Microsecond)
				}),
			)
		case 8:
			if w.chance(4) { // one moment for events and one tenant for counts: so it is certain which are the oldest
				b.Prune = append(b.Prune, keycote.Prune{
					Tenant: w.tenant(), AllTenants: w.chance(2), EventsBefore: hours(w.below(8)), UsesBefore: hours(w.below(8)), Limit: 1_000,
				})
			}
		}
	}
	err := w.s.Commit(w.Context(), b)
	faults := w.n.commit(b)
	if len(faults) == 0 {
		require.NoError(w, err, "step %d: %+v", w.step, b)
		w.past = append(w.past, b)
		return
	}
	require.Error(w, err, "step %d: %v is due: %+v", w.step, faults, b)
	ok := slices.ContainsFunc(faults, func(due error) bool {
		var v keycote.Violation
		if errors.As(due, &v) {
			return takenField(err) == v.Field
		}
		return errors.Is(err, due) && takenField(err) == ""
	})
	require.True(w, ok, "step %d: %v is due, not %v: %+v", w.step, faults, err, b)
}

func (w *walker) look() {
	asked := w.digests()
	want, due := w.n.lookup(asked)
	got, err := w.s.Lookup(w.Context(), asked)
	require.Equal(w, due == nil, err == nil, "step %d: lookup: %v", w.step, err)
	require.ErrorIs(w, err, due, "step %d: lookup", w.step)
	require.Equal(w, [4]string{want.Tenant, want.ID, string(want.Body), string(want.Seal)},
		[4]string{got.Tenant, got.ID, string(got.Body), string(got.Seal)}, "step %d: lookup", w.step)

	r := w.some()
	got, err = w.s.Get(w.Context(), r.Tenant, r.ID)
	if i := slices.IndexFunc(w.n.all().Records, func(o keycote.Record) bool { return byRecord(o, r) == 0 }); i >= 0 {
		require.NoError(w, err, "step %d: get", w.step)
		require.Equal(w, w.n.all().Records[i], plain(got), "step %d: get", w.step)
	} else {
		require.ErrorIs(w, err, keycote.ErrNotFound, "step %d: get", w.step)
	}
}

func (w *walker) list() {
	q := keycote.Query{Tenant: w.tenant(), AllTenants: w.chance(2), Now: w.at()}
	f := &q.Filter
	f.Newest = w.chance(2)
	for range w.below(3) {
		switch w.below(8) {
		case 0:
			f.Kind = keycote.KindAccess
		case 1:
			f.State = pick(w.random, keycote.StateActive, keycote.StateDisabled, keycote.StateRevoked, keycote.StateExpired)
		case 2:
			f.Name = pick(w.random, "A", "a")
		case 3:
			f.Search = pick(w.random, "%", "_", "shop", "\n", "a")
		case 4:
			f.Labels = map[string]string{"env": pick(w.random, "", "prod")}
		case 5:
			f.ExpiresBefore = w.at()
		case 6:
			f.UnusedSince = w.at()
		case 7:
			f.NeverUsed = true
		}
	}
	require.Equal(w, matching(w.n.all().Records, q), orNil(listAll(w, w.s, q, 1+w.below(8))), "step %d: %+v", w.step, q)
}

func (w *walker) read() {
	all := w.n.all()
	switch w.below(4) {
	case 0:
		q := keycote.EventQuery{Tenant: w.tenant(), AllTenants: w.chance(2), Filter: keycote.EventFilter{
			KeyID: pick(
				w.random,
				"",
				w.id(),
			), Actor: pick(w.random, "", "ann", "erased"), Since: pick(w.random, time.Time{}, w.at()), Newest: w.chance(2),
		}}
		require.Equal(w, matchingEvents(all.Events, q), orNil(eventsAll(w, w.s, q, 1+w.below(8))), "step %d: %+v", w.step, q)
	case 1:
		q := keycote.UsageQuery{
			Tenant:     w.tenant(),
			AllTenants: w.chance(2),
			KeyID:      pick(w.random, "", w.id()),
			Since:      pick(w.random, time.Time{}, w.at()),
		}
		require.Equal(w, matchingUses(all.Uses, q), orNil(usageAll(w, w.s, q, 1+w.below(8))), "step %d: %+v", w.step, q)
	case 2:
		q := keycote.ItemQuery{Tenant: w.tenant(), AllTenants: w.chance(2), Space: pick(w.random, "keyring", "job")}
		want := slices.DeleteFunc(
			all.Items,
			func(i keycote.Item) bool { return i.Space != q.Space || !q.AllTenants && i.Tenant != q.Tenant },
		)
		require.Equal(w, orNil(want), orNil(itemsAll(w, w.s, q, 1+w.below(4))), "step %d: %+v", w.step, q)
	case 3:
		w.follow()
	}
}

// follow reads what came into the feed. Changes of one Batch may come in any order, and all of them more than once, so
// what is compared is the set.
func (w *walker) follow() {
	changes, reached := since(w, w.s, w.position)
	w.position = reached
	for i, due := range w.n.changes[w.followed:] {
		require.True(w, slices.ContainsFunc(changes, func(c keycote.Change) bool {
			return c.Tenant == due.Tenant && c.ID == due.ID && c.Space == due.Space && c.Revision == due.Revision &&
				slices.EqualFunc(c.Digests, slices.CompactFunc(sortedDigests(due.Digests), bytes.Equal), bytes.Equal)
		}), "step %d: change %d is missing: %+v", w.step, w.followed+i, due)
	}
	w.followed = len(w.n.changes)
}
