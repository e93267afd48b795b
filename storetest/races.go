package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

const racers = 10

// race lets all racers commit their Batch at once and returns their answers.
func race(t testing.TB, s keycote.Store, batch func(racer int) keycote.Batch) [racers]error {
	t.Helper()
	var answers [racers]error
	var group sync.WaitGroup
	start := make(chan struct{})
	for n := range racers {
		b := batch(n)
		if b.ID == "" {
			b.ID = fmt.Sprintf("%s of racer %d", t.Name(), n)
		}
		group.Go(func() {
			<-start
			answers[n] = s.Commit(t.Context(), b)
		})
	}
	close(start)
	group.Wait()
	return answers
}

// requireOneWinner holds one answer to be nil and all others to be what lost accepts, and returns the winner.
func requireOneWinner(t testing.TB, answers [racers]error, lost func(error) bool) int {
	t.Helper()
	winner := -1
	for n, err := range answers {
		if err == nil {
			require.Equal(t, -1, winner, "racers %d and %d have both won", winner, n)
			winner = n
			continue
		}
		require.True(t, lost(err), "racer %d: %v", n, err)
	}
	require.NotEqual(t, -1, winner, "nobody has won: %v", answers)
	return winner
}

func raceOfUpdates(t testing.TB, s keycote.Store) {
	r := record("", "key_1")
	must(t, s, insert(r))
	for round := range 5 {
		wanted := func(n int) keycote.Record {
			return next(r, func(r *keycote.Record) {
				r.Owner = fmt.Sprint("racer ", n)
				r.Digests = [][]byte{digest("race", round, n)}
			})
		}
		winner := requireOneWinner(t, race(t, s, func(n int) keycote.Batch {
			b := update(wanted(n))
			b.ID = fmt.Sprint("round ", round, " of ", n)
			b.Events = []keycote.EventRecord{event("", fmt.Sprintf("evt_%d_%d", round, n), epoch)}
			return b
		}), conflict)
		r = wanted(winner)
		requireRecord(t, s, r)
		events := dump(t, s).Events
		require.Len(t, events, round+1, "the losers' events are not there")
		require.Equal(t, fmt.Sprintf("evt_%d_%d", round, winner), events[round].ID)
		for n := range racers {
			if n != winner {
				_, err := s.Lookup(t.Context(), [][]byte{digest("race", round, n)})
				require.ErrorIs(t, err, keycote.ErrNotFound, "the losers' digests are not there")
			}
		}
	}
	require.Equal(t, []keycote.Record{asKept(r)}, dump(t, s).Records)

	answers := race(t, s, func(n int) keycote.Batch {
		if n%2 == 0 {
			return remove(r)
		}
		return update(next(r))
	})
	requireOneWinner(t, answers, func(err error) bool { return conflict(err) || notFound(err) })
}

func raceOfNames(t testing.TB, s keycote.Store) {
	winner := requireOneWinner(t, race(t, s, func(n int) keycote.Batch {
		return insert(record("", fmt.Sprint("key_", n), named("One name")))
	}), taken("name"))
	require.Equal(t, []string{fmt.Sprint("/key_", winner)}, ids(dump(t, s).Records))
}

func raceOfDigests(t testing.TB, s keycote.Store) {
	d := digest("one value")
	winner := requireOneWinner(t, race(t, s, func(n int) keycote.Batch {
		return insert(record(fmt.Sprint("tenant ", n), fmt.Sprint("key_", n), digests(digest("own", n), d)))
	}), taken("secret"))
	records := dump(t, s).Records
	require.Len(t, records, 1)
	found, err := s.Lookup(t.Context(), [][]byte{d})
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint("key_", winner), found.ID)
}

// raceOfItems is how several processes start on an empty store: all keyrings in one Batch, or none.
func raceOfItems(t testing.TB, s keycote.Store) {
	rings := []string{"index", "record", "trail"}
	winner := requireOneWinner(t, race(t, s, func(n int) keycote.Batch {
		var b keycote.Batch
		for i := range rings { // each racer in another order
			b.Items = append(b.Items, keycote.Item{
				Space: "keyring", Name: rings[(i+n)%len(rings)], Revision: 1, Body: []byte(fmt.Sprint("racer ", n)),
			})
		}
		return b
	}), conflict)
	items := dump(t, s).Items
	require.Len(t, items, len(rings))
	for _, i := range items {
		require.Equal(t, fmt.Sprint("racer ", winner), string(i.Body), "%s is of another racer than the rest", i.Name)
	}
}

func raceOfOneBatch(t testing.TB, s keycote.Store) {
	must(t, s, insert(record("", "key_1")))
	b := everything(record("", "key_1"))
	b.ID = "one batch"
	for n, err := range race(t, s, func(int) keycote.Batch { return b }) {
		require.NoError(t, err, "racer %d", n)
	}
	got := dump(t, s)
	require.Len(t, got.Records, 2)
	require.Len(t, got.Events, 1)
	for _, u := range got.Uses {
		require.EqualValues(t, 1, u.N, "it is applied once")
	}
}

func raceOfUses(t testing.TB, s keycote.Store) {
	must(t, s, insert(record("", "key_1")))
	const rounds = 10
	for round := range rounds {
		answers := race(t, s, func(n int) keycote.Batch {
			b := counts(use("", "key_1", 1, epoch, 1), use("", "key_1", 2, epoch, 1), use("", "", 0, epoch, 1))
			if n%2 == 0 { // whoever locks rows as they come waits here for ever
				b.Uses[0], b.Uses[2] = b.Uses[2], b.Uses[0]
			}
			b.ID = fmt.Sprint("round ", round, " of ", n)
			return b
		})
		require.NoError(t, errors.Join(answers[:]...))
	}
	got := dump(t, s)
	require.Len(t, got.Uses, 3)
	for _, u := range got.Uses {
		require.EqualValues(t, racers*rounds, u.N, "a count was lost")
	}
	require.Len(t, got.Records[0].Uses, 2)
	for _, u := range got.Records[0].Uses {
		require.EqualValues(t, racers*rounds, u.N, "a total has lost a count")
	}
}

// raceOfExpectAndItem lets one change a keyring while others seal under it: whoever is let through must have been
// before.
func raceOfExpectAndItem(t testing.TB, s keycote.Store) {
	must(t, s, keycote.Batch{Items: []keycote.Item{item("", "keyring", "index", 1)}})
	for round := range 10 {
		revision := int64(round + 1)
		position := present(t, s)
		answers := race(t, s, func(n int) keycote.Batch {
			id := fmt.Sprintf("key_%d_%d", round, n)
			if n == 0 {
				return keycote.Batch{ID: id, Items: []keycote.Item{item("", "keyring", "index", revision+1)}}
			}
			return keycote.Batch{
				ID: id,
				Expect: []keycote.ItemRef{
					{Space: "keyring", Name: "index", Revision: revision},
				}, Insert: []keycote.Record{record("", id)},
			}
		})
		require.NoError(t, answers[0], "the keyring's change has no rival")
		changes, _ := since(t, s, position)
		changed := false
		inTime := map[string]bool{}
		for _, c := range changes {
			changed = changed || c.Space == "keyring"
			require.False(t, changed && c.ID != "", "%s was committed after the keyring that it expects had changed", c.ID)
			inTime[c.ID] = true
		}
		for n, err := range answers[1:] {
			id := fmt.Sprintf("key_%d_%d", round, n+1)
			require.Equal(t, err == nil, inTime[id], "%s: %v", id, err)
			if err != nil {
				require.ErrorIs(t, err, keycote.ErrConflict)
				requireAbsent(t, s, "", id)
			}
		}
	}
}

// raceOfReaders: whoever reads while others write sees Batches whole.
func raceOfReaders(t testing.TB, s keycote.Store) {
	one, two := record("", "key_1"), record("", "key_2")
	must(t, s, insert(one, two))
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for range 50 {
			one, two = next(one, digests(two.Digests...)), next(two, digests(one.Digests...)) // the digests change places
			b := update(one, two)
			b.ID = fmt.Sprint("swap ", one.Revision)
			if err := s.Commit(t.Context(), b); err != nil {
				done <- err
				return
			}
		}
	}()
	sum := record("", "key_1").Digests
	for writing := true; writing; {
		select {
		case err := <-done:
			require.NoError(t, err)
			writing = false
		default:
		}
		_, err := s.Lookup(t.Context(), sum)
		require.NoError(t, err, "a digest that changes hands is always somewhere")
		page, err := s.List(t.Context(), keycote.Query{Now: epoch, Limit: 10})
		require.NoError(t, err)
		require.Len(t, page, 2)
		require.Equal(t, page[0].Revision, page[1].Revision, "half of a Batch")
		require.Len(t, page[0].Digests, 1)
		require.NotEqual(t, page[0].Digests, page[1].Digests, "half of a Batch")
		r, err := s.Get(t.Context(), "", "key_1")
		require.NoError(t, err)
		require.Equal(
			t,
			fmt.Sprintf("body %d of key_1", r.Revision),
			string(r.Body),
			"columns of one revision and the body of another",
		)
		require.Len(t, r.Digests, 1)
	}
}
