package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestParametersOfADialect(t *testing.T) {
	t.Parallel()
	numbered := &dialect{numbered: true, prefix: defaultPrefix}
	tests := []struct{ name, statement, want string }{
		{"none", "SELECT 1", "SELECT 1"},
		{"in order", "a = ? AND (b, c) > (?, ?)", "a = $1 AND (b, c) > ($2, $3)"},
		{"in a text", "a = '?' AND b = ?", "a = '?' AND b = $1"},
		{"behind a doubled quote", "a = 'it''s ?' AND b = ?", "a = 'it''s ?' AND b = $1"},
		{"more than nine", strings.Repeat("?", 11), "$1$2$3$4$5$6$7$8$9$10$11"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, numbered.text(test.statement))
			require.Equal(t, test.statement, sqlite.text(test.statement))
		})
	}
}

func TestPrefixOfADialect(t *testing.T) {
	t.Parallel()
	d, err := dialectOf(Postgres.WithPrefix("kc_"))
	require.NoError(t, err)
	require.Equal(t, "SELECT kc_records.n FROM kc_records WHERE a = $1",
		d.text("SELECT keycote_records.n FROM keycote_records WHERE a = ?"))
	require.Equal(t, defaultPrefix, postgres.prefix+defaultPrefix, "the dialect itself is as it was")
	for prefix, ok := range map[string]bool{
		"k": true, "kc_": true, "a0_b": true, strings.Repeat("a", 30): true,
		"": false, "_k": false, "0k": false, "K": false, "k-": false, "k.": false, "k;": false, "é": false,
		strings.Repeat("a", 31): false,
	} {
		_, err := dialectOf(MySQL.WithPrefix(prefix))
		require.Equal(t, ok, err == nil, "%q", prefix)
	}
}

// Whatever the dialect, all that has a name in the database begins with the prefix, and fits into PostgreSQL's 63
// bytes.
func TestNamesInSchemas(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?:TABLE|INDEX|VIEW)(?: IF NOT EXISTS)? (\w+)`)
	prefix := strings.Repeat("p", 30)
	for _, d := range []Dialect{SQLite, Postgres, MySQL} {
		scripts, err := Schema(d.WithPrefix(prefix))
		require.NoError(t, err)
		found := names.FindAllStringSubmatch(strings.Join(scripts, ""), -1)
		require.Greater(t, len(found), 20, d)
		for _, name := range found {
			require.True(t, strings.HasPrefix(name[1], prefix), "%s: %s", d, name[1])
			require.LessOrEqual(t, len(name[1]), 63, name[1])
		}
		last := scripts[len(scripts)-1]
		require.Contains(t, last[strings.LastIndex(last, "INSERT"):],
			fmt.Sprintf("schema (version, oldest) VALUES (%d, ", len(scripts)))
	}
}

func TestBeyond(t *testing.T) {
	t.Parallel()
	columns, place := []string{"a", "b", "c"}, []any{1, 2, 3}
	cond, args := beyondByRow(columns, false, place)
	require.Equal(t, "(a, b, c) > (?, ?, ?)", cond)
	require.Equal(t, place, args)
	cond, args = beyondByColumn(columns, false, place)
	require.Equal(t, "a >= ? AND (a > ? OR b >= ? AND (b > ? OR c > ?))", cond)
	require.Equal(t, []any{1, 1, 2, 2, 3}, args)
	cond, args = beyondByColumn(columns[:2], true, place[:2])
	require.Equal(t, "a <= ? AND (a < ? OR b < ?)", cond)
	require.Equal(t, []any{1, 1, 2}, args)
}

func TestNumbersOfMySQL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"Error 1213 (40001): Deadlock found": 1213, "Error 1205: Lock wait timeout exceeded": 1205,
		"keys: Error 1062 (23000): x": 1062, "Error 1406 (22001): Data too long for column 'Error 1213'": 1406,
		"Error": 0, "Error x": 0, "invalid connection": 0, "": 0,
	} {
		require.Equal(t, want, mysqlNumber(errors.New(text)), text)
	}
	require.Zero(t, mysqlNumber(nil))
}

// What two windows within a microsecond, or one in two zones, are in the database, they are within a Batch.
func TestMerged(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1_700_000_000_000_001).UTC()
	use := func(window time.Time, n int64, first, last int) keycote.UseCount {
		return keycote.UseCount{
			KeyID: "k", Window: window, N: n, First: at.Add(time.Duration(first)), Last: at.Add(time.Duration(last)),
		}
	}
	whole := func(u keycote.UseCount) keycote.UseCount { return u }
	elsewhere := at.In(time.FixedZone("x", 3600))
	got := merged([]keycote.UseCount{
		use(at, 1, 5, 5), use(elsewhere, 2, 3, 4), use(at.Add(999), 3, 4, 9), use(at.Add(1000), 4, 0, 0),
	}, whole)
	require.Equal(t, []keycote.UseCount{use(at, 6, 3, 9), use(at.Add(1000), 4, 0, 0)}, got)
	require.Empty(t, merged(nil, whole))
}

func TestStatementsOfAMigration(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"CREATE TABLE a (\n  b TEXT -- it; is\n)\n", "INSERT INTO a VALUES (';')\n"},
		statements("-- a comment;\n\nCREATE TABLE a (\n  b TEXT -- it; is\n);\n\nINSERT INTO a VALUES (';')"))
	steps, err := sqlite.steps()
	require.NoError(t, err)
	require.NotEmpty(t, steps)
	require.True(t, strings.HasPrefix(steps[0][0], "CREATE TABLE keycote_schema"))
	_, err = (&dialect{name: "no such"}).steps()
	require.Error(t, err)
}

// What is looked for never becomes part of a statement, nor a pattern: there is no LIKE, and nothing to escape.
func TestValuesStayParameters(t *testing.T) {
	t.Parallel()
	const hostile = `%_\'"; DROP TABLE keycote_records; --`
	f := keycote.Filter{
		Kind: hostile, State: keycote.State(hostile), Name: hostile, App: hostile, Owner: hostile, Search: hostile,
		Labels: map[string]string{hostile: hostile, "other": hostile}, ExpiresBefore: time.Unix(1, 0),
		UnusedSince: time.Unix(1, 0), RotatedBefore: time.Unix(1, 0), Newest: true,
	}
	events := keycote.EventFilter{KeyID: hostile, Actor: hostile, Action: hostile, After: hostile}
	for _, d := range []*dialect{&sqlite, &postgres, &mysql} {
		valuesStayParameters(t, d, hostile, f, events)
	}
}

func valuesStayParameters(t *testing.T, d *dialect, hostile string, f keycote.Filter, events keycote.EventFilter) {
	t.Helper()
	for _, all := range []bool{true, false} {
		statement, args := listStatement(d, keycote.Query{Tenant: hostile, AllTenants: all, Filter: f, After: hostile, AfterTenant: hostile})
		requireParameters(t, statement, args)
		statement, args = itemsStatement(d, keycote.ItemQuery{Space: hostile, Tenant: hostile, AllTenants: all, Name: hostile, After: hostile})
		requireParameters(t, statement, args)
		statement, args = eventsStatement(d, keycote.EventQuery{Tenant: hostile, AllTenants: all, Filter: events})
		requireParameters(t, statement, args)
		statement, args = usageStatement(d, keycote.UsageQuery{Tenant: hostile, KeyID: hostile, AllTenants: all,
			After: keycote.UseCount{Tenant: hostile, KeyID: hostile, Outcome: keycote.Code(hostile), Addr: hostile, Route: hostile, Agent: hostile}})
		requireParameters(t, statement, args)
	}
}

func requireParameters(t *testing.T, statement string, args []any) {
	t.Helper()
	require.NotContains(t, statement, "DROP")
	require.NotContains(t, statement, "LIKE")
	require.Equal(t, strings.Count(statement, "?"), len(args), statement)
}

func TestPageSize(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]string{-1: "1000", 0: "1000", 1: "1", 999: "999", 1000: "1000", 1001: "1000"} {
		require.Equal(t, want, pageSize(limit))
	}
}

// Stored times have no nanoseconds: a bound rounded up gives the same answers.
func TestTimes(t *testing.T) {
	t.Parallel()
	for _, stored := range []time.Time{{}, time.Unix(0, 0), time.UnixMicro(-1), time.UnixMicro(1_700_000_000_000_001),
		time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)} {
		require.Equal(t, stored.UTC(), timeOf(micros(stored)))
		require.Equal(t, stored.UTC(), readBack(t, stored))
		for _, apart := range []time.Duration{-1001, -1000, -999, -1, 0, 1, 999, 1000, 1001} {
			bound := stored.Add(apart)
			require.Equal(t, stored.Before(bound), micros(stored) < ceil(bound), "%v before %v", stored, bound)
			require.Equal(t, stored.After(bound), micros(stored) > micros(bound), "%v after %v", stored, bound)
		}
		for _, far := range []int64{1 << 44, 1 << 62} { // seconds, beyond what counts in microseconds can say
			for _, n := range []int64{0, 1} {
				require.Less(t, micros(stored), ceil(time.Unix(far, n)))
				require.Less(t, micros(stored), micros(time.Unix(far, n)))
				require.Greater(t, micros(stored), ceil(time.Unix(-far, n)))
			}
		}
	}
}

func TestUnpackRefusesNonsense(t *testing.T) {
	t.Parallel()
	text := func(s string) sql.NullString { return sql.NullString{String: s, Valid: true} }
	for _, packed := range []string{"", "1", "1 2 3", "x AA", "1 A", "1 XX", "1 AA,"} {
		_, err := unpackDigests(text(packed))
		require.ErrorIs(t, err, errPacked, "%q", packed)
		if packed != "1 AA," && packed != "" {
			_, err = unpackTotals(text(packed), "", "")
			require.ErrorIs(t, err, errPacked, "%q", packed)
		}
	}
	for _, packed := range []string{"A A", "AA Z", "AA"} {
		_, err := unpackLabels(text(packed))
		require.ErrorIs(t, err, errPacked, "%q", packed)
	}
	digests, err := unpackDigests(text("2 BB,10 CC,1 AA"))
	require.NoError(t, err)
	require.Equal(t, [][]byte{{0xaa}, {0xbb}, {0xcc}}, digests)
}

func FuzzSplitDigests(f *testing.F) {
	f.Add([]byte{})
	f.Add(joinDigests([][]byte{{1, 2}, {}, {3}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		digests, err := splitDigests(b)
		if err != nil {
			return
		}
		again, err := splitDigests(joinDigests(digests))
		require.NoError(t, err)
		require.Equal(t, digests, again)
	})
}

func TestPositions(t *testing.T) {
	t.Parallel()
	n, ok := number(position(17, "ab"))
	require.True(t, ok)
	require.EqualValues(t, 17, n)
	for _, strange := range []string{"", ".", "17", "-1.ab", "x.ab", "99999999999999999999.ab"} {
		_, ok := number(strange)
		require.False(t, ok, "%q", strange)
	}
}

func TestContextual(t *testing.T) {
	t.Parallel()
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, contextual(ctx, nil))
	require.Equal(t, interrupted, contextual(ctx, interrupted))
	cancel()
	require.NoError(t, contextual(ctx, nil))
	require.ErrorIs(t, contextual(ctx, interrupted), context.Canceled)
	require.ErrorIs(t, contextual(ctx, interrupted), interrupted)
	wrapped := fmt.Errorf("%w, interrupted", context.Canceled)
	require.Equal(t, wrapped, contextual(ctx, wrapped))
}

func TestDialectNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "postgres", Postgres.String())
	require.Equal(t, "postgres:kc_", Postgres.WithPrefix("kc_").String())
	require.Equal(t, Postgres, Postgres.WithPrefix("kc_").WithPrefix("keycote_"))
	require.Equal(t, MySQL.WithPrefix("b_"), MySQL.WithPrefix("a_").WithPrefix("b_"))
}

// readBack is a time after it was written and scanned.
func readBack(t *testing.T, at time.Time) time.Time {
	t.Helper()
	v, err := never(at).Value()
	require.NoError(t, err)
	var l looseOrNull
	require.NoError(t, l.Scan(v))
	if !l.valid {
		return time.Time{}
	}
	return timeOf(int64(l.n))
}

func TestLoose(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		in   any
		want loose
	}{
		{"an integer", int64(7), 7},
		{"bytes, as MySQL's text protocol has them", []byte("-7"), -7},
		{"text", "12", 12},
		{"no number", "x y", unreadable},
		{"half a number", 1.5, unreadable},
		{"nothing", nil, unreadable},
		{"too many digits", "99999999999999999999", unreadable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var l loose
			require.NoError(t, l.Scan(c.in))
			require.Equal(t, c.want, l)
		})
	}
}
