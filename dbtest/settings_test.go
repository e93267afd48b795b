package dbtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/sqlstore"
)

// A connection that would see the past, or what is not there, is refused: by Migrate, by New, and as a replica.
func TestConnectionsThatAreRefused(t *testing.T) {
	onEach(t, "settings of a connection", onceEach, func(t *testing.T, e *engine) {
		_, base, here := e.fresh(t)
		isolation := "?transaction_isolation="
		if e.server != nil && strings.Contains(e.server.version, "MariaDB") {
			isolation = "?tx_isolation="
		}
		var tests map[string]string // empty: it is accepted
		switch {
		case e.dialect == sqlstore.SQLite:
			tests = map[string]string{"": "", "&_pragma=read_uncommitted(1)": "read_uncommitted"}
		case e.dialect == sqlstore.MySQL:
			tests = map[string]string{
				"?autocommit=0":                  "autocommit",
				isolation + "'READ-UNCOMMITTED'": "READ UNCOMMITTED",
				isolation + "'READ-COMMITTED'":   "",
				isolation + "'REPEATABLE-READ'":  "",
				isolation + "'SERIALIZABLE'":     "",
			}
		case e.dialect == sqlstore.Postgres: // a statement by itself sees the present there, whatever the isolation
			tests = map[string]string{
				" default_transaction_isolation='repeatable read'":  "",
				" default_transaction_isolation=serializable":       "",
				" default_transaction_isolation='read uncommitted'": "", // which is READ COMMITTED there
			}
		}
		batches := 0
		for setting, want := range tests {
			p := here
			p.dsn += setting
			db := p.open(t)
			migrated := sqlstore.Migrate(t.Context(), db, p.dialect)
			opened, failed := sqlstore.New(t.Context(), db, p.dialect)
			whole, copied := here.store(t, base).WithReplica(t.Context(), db, time.Second)
			for _, err := range []error{migrated, failed, copied} {
				if want == "" {
					require.NoError(t, err, setting)
				} else {
					require.ErrorContains(t, err, want, setting)
				}
			}
			if want == "" {
				batches++
				require.NoError(t, opened.Commit(t.Context(), everything(fmt.Sprint("by ", batches))), setting)
				require.NoError(t, errors.Join(opened.Close(), whole.Close()))
			}
		}
	})
}
