package dbtest

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// SQLite keeps text in an integer's column. A row that somebody has written to so must fail alone: one undecryptable row
// broke Dify's whole list, and could not be deleted.
func TestHostileColumns(t *testing.T) {
	t.Parallel()
	for _, column := range []string{
		"records.created_at", "records.expires_at", "records.rotated_at", "records.revision", "digests.place",
		"labels.label", "totals.n",
	} {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			store, db := openStore(t, path)
			m, err := openHost(t.Context(), store, filepath.Join(t.TempDir(), "kek.json"))
			require.NoError(t, err)
			ids := map[string]string{}
			for _, name := range []string{"victim", "other"} {
				key, secret, err := m.Issue(t.Context(), keycote.IssueParams{Name: name, Labels: map[string]string{"team": "a"}})
				require.NoError(t, err)
				_, err = m.Verify(t.Context(), secret.Reveal(), keycote.Request{})
				require.NoError(t, err)
				ids[name] = key.ID
			}
			require.NoError(t, m.Flush(t.Context()))
			table, name := column[:len(column)-len(filepath.Ext(column))], filepath.Ext(column)[1:]
			_, err = db.Exec("UPDATE keycote_"+table+" SET "+name+" = 'x y' WHERE id = ?", ids["victim"])
			require.NoError(t, err)

			page, err := m.Page(t.Context(), keycote.Filter{}, "", 0)
			require.NoError(t, err)
			require.Len(t, page.Keys, 2)
			_, err = m.Get(t.Context(), ids["other"])
			require.NoError(t, err)
			_, err = m.Get(t.Context(), ids["victim"])
			if table != "totals" { // counters decide nothing
				require.ErrorIs(t, err, keycote.ErrTampered)
			}
			require.NoError(t, m.Delete(t.Context(), ids["victim"], "unreadable"))
			page, err = m.Page(t.Context(), keycote.Filter{}, "", 0)
			require.NoError(t, err)
			require.Len(t, page.Keys, 1)
		})
	}
	t.Run("events.at", func(t *testing.T) {
		t.Parallel()
		store, db := openStore(t, newFile(t))
		m, err := openHost(t.Context(), store, filepath.Join(t.TempDir(), "kek.json"))
		require.NoError(t, err)
		for _, name := range []string{"a", "b"} {
			_, _, err := m.Issue(t.Context(), keycote.IssueParams{Name: name})
			require.NoError(t, err)
		}
		_, err = db.Exec("UPDATE keycote_events SET at = 'x' WHERE id = (SELECT MIN(id) FROM keycote_events)")
		require.NoError(t, err)
		good, bad := 0, 0
		for _, err := range m.Events(t.Context(), keycote.EventFilter{}) {
			if err != nil {
				require.ErrorIs(t, err, keycote.ErrTampered)
				bad++
				continue
			}
			good++
		}
		require.Equal(t, 1, good)
		require.Equal(t, 1, bad)
	})
}
