package dbtest

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

func openManager(t *testing.T, store keycote.Store) *keycote.Manager {
	t.Helper()
	kek, err := keycote.LocalKEK(filepath.Join(t.TempDir(), "kek"))
	require.NoError(t, err)
	m, err := keycote.New(t.Context(), store, kek, nil)
	require.NoError(t, err)
	return m
}

// A verification is one statement, whatever is in the database; a forged key is none.
func TestVerifyIsOneStatement(t *testing.T) {
	t.Parallel()
	store, _, w := faulty(t)
	m := openManager(t, store)
	_, secret, err := m.Issue(t.Context(), keycote.IssueParams{Name: "ci", Scopes: []string{"api:read"}})
	require.NoError(t, err)
	for range 3 {
		w.take()
		grant, err := m.Verify(t.Context(), secret.Reveal(), keycote.Request{Scopes: []string{"api:read"}})
		require.NoError(t, err)
		require.NotEmpty(t, grant.KeyID)
		seen := w.take()
		require.Len(t, seen, 1)
		require.True(t, strings.HasPrefix(seen[0].text, "SELECT r.tenant, r.id, r.body, r.seal FROM keycote_digests"))
	}
	token := secret.Reveal()
	_, err = m.Verify(t.Context(), token[:len(token)-1]+string(rune('0'+(token[len(token)-1]+1)%10)), keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrUnauthenticated)
	require.Empty(t, w.take())
}

// A key comes into being with the host's own row, or not at all.
func TestManagerInTx(t *testing.T) {
	t.Parallel()
	store, db := openStore(t, newFile(t))
	m := openManager(t, store)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE host (id TEXT PRIMARY KEY)")
	require.NoError(t, err)
	for _, kept := range []bool{true, false} {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		view, committed := m.In(store.Tx(tx))
		key, secret, err := view.Issue(t.Context(), keycote.IssueParams{Name: "ci"})
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "INSERT INTO host (id) VALUES (?)", key.ID)
		require.NoError(t, err)
		_, err = m.Get(t.Context(), key.ID)
		require.ErrorIs(t, err, keycote.ErrNotFound, "not before the commit")
		var n int
		if !kept {
			_, err = view.Revoke(t.Context(), key.ID, "")
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
			_, err = m.Get(t.Context(), key.ID)
			require.ErrorIs(t, err, keycote.ErrNotFound)
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM host WHERE id = ?", key.ID).Scan(&n))
			require.Zero(t, n)
			continue
		}
		require.NoError(t, tx.Commit())
		committed()
		_, err = m.Verify(t.Context(), secret.Reveal(), keycote.Request{})
		require.NoError(t, err)
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM host WHERE id = ?", key.ID).Scan(&n))
		require.Equal(t, 1, n)
		_, err = m.Revoke(t.Context(), key.ID, "frees the name")
		require.NoError(t, err)
	}
	ran(t, modernc, "in the host's transaction")
}

// A database in memory lives on one connection, which nothing here may lose.
func TestInMemory(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1)
	require.NoError(t, sqlstore.Migrate(t.Context(), db, sqlstore.SQLite))
	store, err := sqlstore.New(t.Context(), db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, store.Commit(t.Context(), everything("one")))
	require.ErrorIs(t, store.Commit(t.Context(), keycote.Batch{Delete: []keycote.RecordRef{{ID: "none"}}}), keycote.ErrNotFound)
	require.NoError(t, store.Commit(t.Context(), everything("two")))
	requireParts(t, db, "one", whole)
	requireParts(t, db, "two", whole)
	ran(t, "SQLite (modernc.org/sqlite, in memory)", "commit and refuse")
}
