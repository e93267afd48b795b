package dbtest

import (
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// plans explains what a store of a server has asked for, on tables that are large enough for a scan not to pay.
type plans struct {
	dialect sqlstore.Dialect // without a prefix
	db      *sql.DB
}

// planned returns a store on tables with rows and statistics, and who watches it.
func planned(t *testing.T, e *engine) (*sqlstore.Store, *watch, plans) {
	_, db, here := e.fresh(t)
	here.fillBySQL(t, db)
	watched := here
	if e.dialect == sqlstore.MySQL { // else a statement is asked for twice: the driver hands it back to be prepared
		watched.dsn += "?interpolateParams=true"
	}
	pool, w := watched.openWatched(t)
	return here.store(t, pool), w, plans{e.dialect, db}
}

// fillBySQL makes 30 tenants of 300 keys, with what belongs to them.
func (p place) fillBySQL(t *testing.T, db *sql.DB) {
	text, hash, bytes, analyze, number := "CAST(%s AS text)", "md5(%s)", "decode(%s, 'hex')", "ANALYZE keycote_%s", "bigint"
	if strings.HasPrefix(string(p.dialect), string(sqlstore.MySQL)) {
		text, bytes, analyze, number = "CAST(%s AS CHAR)", "UNHEX(%s)", "ANALYZE TABLE keycote_%s", "SIGNED"
	}
	of := func(format, what string) string { return fmt.Sprintf(format, what) }
	tenant, id := "CONCAT('tenant ', "+of(text, "n % 30")+")", "CONCAT('key ', "+of(text, "n")+")"
	sum := of(hash, of(text, "n"))
	digest := of(bytes, "CONCAT("+sum+", SUBSTRING("+sum+" FROM 1 FOR 16))")
	rows := "WITH RECURSIVE k (n) AS (SELECT CAST(1 AS " + number + ") UNION ALL SELECT n + 1 FROM k WHERE n < 900)," +
		" m (n) AS (SELECT a.n * 10 + b.n FROM k a CROSS JOIN k b WHERE b.n <= 10)" // MySQL takes no more than 1,000 steps
	const at = "1700000000000000 + n * 1000000"
	for _, insert := range []string{
		"records (tenant, id, kind, name, app, owner, state, search, created_at, rotated_at, revision) SELECT " + tenant + ", " + id +
			", 'access', CONCAT('name ', " + of(text, "n") + "), CONCAT('app ', " + of(text, "n % 50") + "), CONCAT('owner ', " +
			of(text, "n % 50") + "), 'active', 'text', " + at + ", " + at + ", 1",
		"digests (digest, tenant, id, place) SELECT " + digest + ", " + tenant + ", " + id + ", 0",
		"labels (tenant, id, label, value) SELECT " + tenant + ", " + id + ", 'a', CONCAT('value ', " + of(text, "n % 50") + ")",
		"totals (tenant, id, version, n, first_at, last_at) SELECT " + tenant + ", " + id + ", 1, 1, " + at + ", " + at,
		"items (tenant, space, name, revision) SELECT " + tenant + ", CONCAT('space ', " + of(text, "n % 5") + "), " + id + ", 1",
		"events (id, tenant, key_id, actor, action, outcome, at) SELECT CONCAT('evt ', " + of(text, "n") + "), " + tenant + ", " + id +
			", CONCAT('owner ', " + of(text, "n % 50") + "), 'issue', '', " + at,
		"uses (tenant, window_at, key_id, version, outcome, addr, route, agent, n, first_at, last_at) SELECT " + tenant + ", " + at +
			", " + id + ", 1, '', '', '', '', 1, " + at + ", " + at,
		"batches (id, done_at) SELECT " + id + ", " + at,
	} {
		table, columns, _ := strings.Cut(insert, " ")
		columns, values, _ := strings.Cut(columns, "SELECT ")
		statement := rows + " INSERT INTO keycote_" + table + " " + columns + "SELECT " + values + " FROM m"
		if strings.HasPrefix(string(p.dialect), string(sqlstore.MySQL)) {
			statement = "INSERT INTO keycote_" + table + " " + columns + rows + " SELECT " + values + " FROM m"
		}
		_, err := db.ExecContext(t.Context(), p.named(statement))
		require.NoError(t, err, statement)
		_, err = db.ExecContext(t.Context(), p.named(of(analyze, table)))
		require.NoError(t, err)
	}
}

// explain returns the plan, a line for each step.
func (p plans) explain(t *testing.T, s statement) []string {
	t.Helper()
	tx, err := p.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	if p.dialect == sqlstore.Postgres {
		// What the plan would be on large tables: PostgreSQL takes these only where there is no other way.
		for _, costly := range []string{"enable_seqscan", "enable_sort"} {
			_, err := tx.ExecContext(t.Context(), "SET LOCAL "+costly+" = off")
			require.NoError(t, err)
		}
	}
	rows, err := tx.QueryContext(t.Context(), "EXPLAIN "+s.text, s.args...)
	require.NoError(t, err, s.text)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var plan []string
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range cells {
			dest[i] = &cells[i]
		}
		require.NoError(t, rows.Scan(dest...))
		line := ""
		for i, c := range cells {
			line += columns[i] + "=" + c.String + " "
		}
		plan = append(plan, line)
	}
	require.NoError(t, rows.Err())
	return plan
}

var (
	postgresScan  = regexp.MustCompile(`Seq Scan on (\w+)`)
	postgresIndex = regexp.MustCompile(`(Index|Index Only) Scan |Bitmap Index Scan `)
	postgresSort  = regexp.MustCompile(`QUERY PLAN=[ >-]*Sort  \(`) // and not "Incremental Sort", of rows that are alike so far
)

// faults are the steps of a plan that read more than they need: a scan of a table, or of a whole index, and a sort.
func (p plans) faults(plan []string, walk bool) (faults []string) {
	if p.dialect == sqlstore.MySQL {
		for _, line := range plan {
			whole := strings.Contains(line, "type=ALL ") || strings.Contains(line, "type=index ") && !walk
			// One row is what it expects of a name, or of a label that nobody has.
			kept := !strings.Contains(line, " rows=1 ") && (strings.Contains(line, "filesort") || strings.Contains(line, "temporary"))
			if (whole || kept) && !strings.Contains(line, "head ") {
				faults = append(faults, line)
			}
		}
		return faults
	}
	for i, line := range plan {
		if table := postgresScan.FindStringSubmatch(line); table != nil && !strings.HasSuffix(table[1], "head") {
			faults = append(faults, line)
		}
		bounded := i+1 < len(plan) && strings.Contains(plan[i+1], "Index Cond:")
		if postgresIndex.MatchString(line) && !bounded && !walk || postgresSort.MatchString(line) {
			faults = append(faults, line)
		}
	}
	return faults
}

// Every statement that is asked often reaches its rows by an index, in their order.
func TestQueryPlansOfServers(t *testing.T) {
	onEach(t, "query plans", mainServers, func(t *testing.T, e *engine) {
		store, w, p := planned(t, e)
		_, position, err := store.Changes(t.Context(), "")
		require.NoError(t, err)
		for _, test := range hotReads(store, position) {
			w.take()
			if err := test.call(t.Context()); err != nil {
				require.ErrorIs(t, err, keycote.ErrNotFound, test.name)
			}
			seen := w.take()
			require.Len(t, seen, 1, "%s is one statement", test.name)
			plan := p.explain(t, seen[0])
			require.Empty(t, p.faults(plan, test.walk), "%s: %s\n%s", test.name, seen[0].text, strings.Join(plan, "\n"))
		}
	})
}

// A write of any kind searches, too.
func TestWritePlansOfServers(t *testing.T) {
	onEach(t, "write plans", mainServers, func(t *testing.T, e *engine) {
		store, w, p := planned(t, e)
		ctx := t.Context()
		w.take()
		require.NoError(t, store.Commit(ctx, everything("plan")))
		update := record("t", "new of plan")
		update.Revision, update.Name, update.Labels, update.Digests = 2, "", nil, nil
		require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "2", Update: []keycote.Record{update}, Insert: []keycote.Record{record("t", "k")}}))
		require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "3", Delete: []keycote.RecordRef{{Tenant: "t", ID: "k", Revision: 1}},
			Prune: []keycote.Prune{{Tenant: "tenant 1", EventsBefore: time.Unix(1, 0), UsesBefore: time.Unix(1, 0), Limit: 10},
				{AllTenants: true, EventsBefore: time.Unix(1, 0), UsesBefore: time.Unix(1, 0), Limit: 10}}}))
		n := 0
		for _, s := range w.take() {
			if strings.HasPrefix(s.text, "INSERT ") {
				continue
			}
			n++
			plan := p.explain(t, s)
			require.Empty(t, p.faults(plan, false), "%s\n%s", s.text, strings.Join(plan, "\n"))
		}
		require.Greater(t, n, 20)
	})
}
