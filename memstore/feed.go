package memstore

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"

	"github.com/keycote/keycote"
)

// kept is the number of changes, and of Batch IDs, that are remembered at least. Twice as many are remembered at most:
// letting go of half of them at a time costs less than a ring, and less to read.
const kept = 250_000

// feed numbers changes from 1. A position is a number and the feed's random id: this Store cannot be put back to an
// earlier state, so one id does for all its numbers.
type feed struct {
	id      string
	gone    int // changes let go of: changes[0] has the number gone+1
	changes []keycote.Change
}

func (f *feed) add(c keycote.Change) {
	if len(f.changes) == 2*kept {
		f.changes, f.gone = slices.Clone(f.changes[kept:]), f.gone+kept
	}
	f.changes = append(f.changes, c)
}

func (f *feed) since(position string) ([]keycote.Change, string, error) {
	if f.id == "" {
		f.id = rand.Text()
	}
	end := f.gone + len(f.changes)
	if position == "" {
		return nil, f.position(end), nil
	}
	number, _, _ := strings.Cut(position, "-")
	n, err := strconv.Atoi(number)
	if err != nil || f.position(n) != position || n < f.gone || n > end {
		return nil, "", keycote.ErrNotFound
	}
	page := f.changes[n-f.gone : min(end, n+maxPage)-f.gone]
	out := slices.Clone(page)
	for i := range out {
		out[i].Digests = slices.Clone(out[i].Digests)
	}
	return out, f.position(n + len(out)), nil
}

func (f *feed) position(n int) string { return strconv.Itoa(n) + "-" + f.id }

// memory knows the Batch IDs of late, in two generations.
type memory struct{ young, old map[string]bool }

func (m *memory) knows(id string) bool { return m.young[id] || m.old[id] }

func (m *memory) keep(id string) {
	if len(m.young) == kept {
		m.young, m.old = nil, m.young
	}
	if m.young == nil {
		m.young = map[string]bool{}
	}
	if id != "" {
		m.young[id] = true
	}
}
