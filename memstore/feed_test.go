package memstore

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestFeedLetsGoOfTheOldestOnly(t *testing.T) {
	t.Parallel()
	var f feed
	_, start, err := f.since("")
	require.NoError(t, err)

	for n := range 2 * kept {
		f.add(keycote.Change{Revision: int64(n + 1)})
	}
	page, second, err := f.since(start)
	require.NoError(t, err, "all of them are still there")
	require.Len(t, page, maxPage)
	require.EqualValues(t, 1, page[0].Revision)

	f.add(keycote.Change{Revision: 2*kept + 1})
	for name, position := range map[string]string{"the start": start, "a position let go of": second} {
		_, _, err = f.since(position)
		require.ErrorIs(t, err, keycote.ErrNotFound, name)
	}
	page, _, err = f.since(f.position(kept))
	require.NoError(t, err, "as many as promised are kept")
	require.EqualValues(t, kept+1, page[0].Revision)
	page, end, err := f.since(f.position(2 * kept))
	require.NoError(t, err)
	require.Len(t, page, 1)
	page, again, err := f.since(end)
	require.NoError(t, err)
	require.Empty(t, page)
	require.Equal(t, end, again)
}

func TestFeedKnowsItsOwnPositionsOnly(t *testing.T) {
	t.Parallel()
	var f, other feed
	f.add(keycote.Change{})
	other.add(keycote.Change{})
	_, end, err := f.since("")
	require.NoError(t, err)
	_, foreign, err := other.since("")
	require.NoError(t, err)
	for _, position := range []string{foreign, "1", "1-", "x", "-1-" + f.id, "2-" + f.id, "01-" + f.id, "+1-" + f.id, end + " "} {
		_, _, err := f.since(position)
		require.ErrorIs(t, err, keycote.ErrNotFound, position)
	}
}

func TestMemoryOfBatchesIsBounded(t *testing.T) {
	t.Parallel()
	var m memory
	for n := range kept + 1 {
		m.keep(strconv.Itoa(n))
	}
	require.True(t, m.knows("0"), "the last kept are known, and some more")
	for n := range kept {
		m.keep(strconv.Itoa(kept + 1 + n))
	}
	require.False(t, m.knows("0"))
	require.True(t, m.knows(strconv.Itoa(kept+1)))
	require.LessOrEqual(t, len(m.young)+len(m.old), 2*kept)
	require.False(t, m.knows(""))
}
