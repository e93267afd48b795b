package dbtest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// Tables of another schema are somebody else's, even where search_path finds them.
func TestFirstSchemaAlone(t *testing.T) {
	onEach(t, "first schema alone", onPostgres, func(t *testing.T, e *engine) {
		ctx := t.Context()
		admin := e.pool(t)
		shared, mine := "shared_by_"+e.driver, "mine_by_"+e.driver
		for _, schema := range []string{shared, mine} {
			_, err := admin.ExecContext(ctx, "CREATE SCHEMA "+schema)
			require.NoError(t, err)
			t.Cleanup(func() {
				_, err := admin.ExecContext(context.WithoutCancel(ctx), "DROP SCHEMA "+schema+" CASCADE")
				require.NoError(t, err)
			})
		}
		in := func(path string) (place, *sql.DB) {
			p := place{e.driver, e.dsn(e.server.database) + " search_path=" + path, e.dialect, ""}
			return p, p.open(t)
		}
		theirs, db := in(shared)
		require.NoError(t, sqlstore.Migrate(ctx, db, theirs.dialect))
		there := theirs.store(t, db)
		ours, db := in(mine + "," + shared)
		_, err := sqlstore.New(ctx, db, ours.dialect)
		require.ErrorContains(t, err, "call sqlstore.Migrate first")
		require.NoError(t, sqlstore.Migrate(ctx, db, ours.dialect))
		here := ours.store(t, db)
		require.NoError(t, here.Commit(ctx, everything("mine")))
		_, err = here.Get(ctx, "t", "new of mine")
		require.NoError(t, err)
		_, err = there.Get(ctx, "t", "new of mine")
		require.ErrorIs(t, err, keycote.ErrNotFound)
		ours.requireParts(t, db, "mine", whole)
	})
}
