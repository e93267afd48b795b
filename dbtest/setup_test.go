package dbtest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/keycote/keycote/sqlstore"
)

// skipEnv lets a person leave servers out, knowingly: "postgres,mysql".
const skipEnv = "KEYCOTE_DBTEST_SKIP"

// notice is a line at the end of a run about what did not run.
type notice struct {
	text  string
	fault bool // the run has failed by it
}

// cgoEngine is filled in where there is cgo, and so a C compiler; without one the other SQLite driver has to do.
var cgoEngine *engine

// prepare fills engines.
func prepare(ctx context.Context) (servers []*server, missing []notice) {
	engines = []*engine{{name: modernc, driver: "sqlite", dialect: sqlstore.SQLite, dsn: dsn}}
	if cgoEngine != nil {
		engines = append(engines, cgoEngine)
	} else {
		missing = append(missing, notice{"LEFT OUT, for want of cgo: no suite has run on SQLite by github.com/mattn/go-sqlite3", false})
	}
	skip := strings.Split(os.Getenv(skipEnv), ",")
	found := make([]*server, len(kinds))
	errs := make([]error, len(kinds))
	var group sync.WaitGroup
	for i, k := range kinds {
		if !slices.Contains(skip, k.kind) {
			group.Go(func() { found[i], errs[i] = find(ctx, k.kind) })
		}
	}
	group.Wait()
	for i, k := range kinds {
		switch {
		case found[i] != nil:
			servers = append(servers, found[i])
			engines = append(engines, enginesOf(found[i])...)
		case errs[i] != nil:
			missing = append(missing, notice{fmt.Sprintf("FAILED: no suite has run on %s (%s leaves it out): %v", k.kind, skipEnv, errs[i]), true})
		default:
			missing = append(missing, notice{fmt.Sprintf("LEFT OUT by %s: no suite has run on %s", skipEnv, k.kind), false})
		}
	}
	return servers, missing
}

// enginesOf are the ways to a server that are tested.
func enginesOf(s *server) []*engine {
	name := func(driver string) string { return fmt.Sprintf("%s (%s, %s)", s.version, driver, s.how) }
	switch s.kind {
	case "postgres":
		dsn := func(database string) string { return postgresDSN(s, database) }
		return []*engine{
			{name: name("pgx"), driver: "pgx", dialect: sqlstore.Postgres, server: s, dsn: dsn},
			{name: name("lib/pq"), driver: "postgres", dialect: sqlstore.Postgres, server: s, dsn: dsn, variant: true},
		}
	case "mysql":
		with := func(options string) func(string) string {
			return func(database string) string { return mysqlDSN(s, database) + options }
		}
		return []*engine{
			{name: name("go-sql-driver/mysql"), driver: "mysql", dialect: sqlstore.MySQL, server: s, dsn: with("")},
			{name: name("go-sql-driver/mysql with clientFoundRows, interpolateParams and parseTime"), driver: "mysql",
				dialect: sqlstore.MySQL, server: s, dsn: with("?clientFoundRows=true&interpolateParams=true&parseTime=true"), variant: true},
		}
	}
	return nil
}
