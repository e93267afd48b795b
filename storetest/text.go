package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// lookalikes are texts that a database's collation may take for one, in the order of their bytes.
var lookalikes = sorted(
	"Acme",
	"Acmé",
	"ACME",
	"acme",
	"acme ",
	" acme",
	"acme  ",
	"acmé",
	"acme\u0301",
	"ss",
	"ß",
	"SS",
	"ẞ",
	"i",
	"I",
	"ı",
	"İ",
	"ａ",
	"a",
	"Ａ",
	"ae",
	"æ",
	"ǆ",
	"ﬁ",
	"fi",
	"straße",
	"strasse",
	"\u200bacme",
	"acme\u200b",
	"acme\t",
	"acme\n",
	"1",
	"01",
	"1.0",
	"1e0",
	"+1",
	"null",
	"NULL",
	"true",
)

func sorted(texts ...string) []string {
	slices.Sort(texts)
	return texts
}

// textComparedByBytes puts the same lookalikes into every column that identifies or orders.
func textComparedByBytes(t testing.TB, s keycote.Store) {
	var b keycote.Batch
	window := epoch
	for i, text := range lookalikes {
		b.Insert = append(b.Insert,
			record(text, "key_1"),
			record("ids", text, func(r *keycote.Record) { r.Name = fmt.Sprint("name ", i) }),
			record("names", fmt.Sprintf("key_%03d", i), named(text), func(r *keycote.Record) {
				r.App, r.Owner, r.Labels, r.Search = text, text, map[string]string{"label": text}, fmt.Sprint(i)
			}))
		b.Items = append(b.Items, item(text, "space", "name", 1), item("", text, "name", 1), item("", "space", text, 1))
		b.Events = append(
			b.Events,
			event("events", text, epoch, func(e *keycote.EventRecord) { e.KeyID, e.Actor = text, text }),
		)
		b.Uses = append(b.Uses,
			use("keys", text, 1, window, 1),
			use("outcomes", "key_1", 1, window, 1, func(u *keycote.UseCount) { u.Outcome = keycote.Code(text) }),
			use("addrs", "key_1", 1, window, 1, func(u *keycote.UseCount) { u.Addr = text }),
			use("routes", "key_1", 1, window, 1, func(u *keycote.UseCount) { u.Route = text }),
			use("agents", "key_1", 1, window, 1, func(u *keycote.UseCount) { u.Agent = text }))
	}
	must(t, s, b)

	for i, text := range lookalikes {
		about := fmt.Sprintf("%q", text)
		requireRecord(t, s, b.Insert[3*i], about)
		requireRecord(t, s, b.Insert[3*i+1], about)
		for _, q := range []keycote.Query{
			{Tenant: "names", Filter: keycote.Filter{Name: text}},
			{Tenant: "names", Filter: keycote.Filter{App: text}},
			{Tenant: "names", Filter: keycote.Filter{Owner: text}},
			{Tenant: "names", Filter: keycote.Filter{Labels: map[string]string{"label": text}}},
		} {
			require.Equal(t, []string{fmt.Sprintf("names/key_%03d", i)}, ids(listAll(t, s, q, 100)), "%s: %+v", about, q.Filter)
		}
		require.Equal(
			t,
			[]keycote.Item{b.Items[3*i+2]},
			itemsAll(t, s, keycote.ItemQuery{Space: "space", Name: text}, 100),
			about,
		)
		require.Equal(t, []keycote.Item{b.Items[3*i+1]}, itemsAll(t, s, keycote.ItemQuery{Space: text}, 100), about)
		require.Equal(
			t,
			[]keycote.Item{b.Items[3*i]},
			itemsAll(t, s, keycote.ItemQuery{Tenant: text, Space: "space"}, 100),
			about,
		)
		for _, f := range []keycote.EventFilter{{KeyID: text}, {Actor: text}} {
			require.Equal(
				t,
				[]keycote.EventRecord{b.Events[i]},
				eventsAll(t, s, keycote.EventQuery{Tenant: "events", Filter: f}, 100),
				about,
			)
		}
		require.Equal(
			t,
			[]keycote.UseCount{b.Uses[5*i]},
			usageAll(t, s, keycote.UsageQuery{Tenant: "keys", KeyID: text}, 100),
			about,
		)
	}

	// The order, by pages that end between lookalikes.
	for _, newest := range []bool{false, true} {
		want := slices.Clone(lookalikes)
		if newest {
			slices.Reverse(want)
		}
		var got []string
		for _, r := range listAll(t, s, keycote.Query{Tenant: "ids", Filter: keycote.Filter{Newest: newest}}, 1) {
			got = append(got, r.ID)
		}
		require.Equal(t, want, got, "records by ID")
		got = nil
		for _, e := range eventsAll(t, s, keycote.EventQuery{Tenant: "events", Filter: keycote.EventFilter{Newest: newest}}, 1) {
			got = append(got, e.ID)
		}
		require.Equal(t, want, got, "events by ID")
	}
	var tenants, names []string
	for _, r := range listAll(t, s, keycote.Query{AllTenants: true}, 1) {
		if r.ID == "key_1" && r.Tenant != "ids" && r.Tenant != "names" {
			tenants = append(tenants, r.Tenant)
		}
	}
	require.Equal(t, lookalikes, tenants, "records by tenant")
	for _, i := range itemsAll(t, s, keycote.ItemQuery{Space: "space"}, 1) {
		names = append(names, i.Name)
	}
	require.Equal(t, lookalikes, names, "items by name")
	for tenant, column := range map[string]func(keycote.UseCount) string{
		"keys":     func(u keycote.UseCount) string { return u.KeyID },
		"outcomes": func(u keycote.UseCount) string { return string(u.Outcome) },
		"addrs":    func(u keycote.UseCount) string { return u.Addr },
		"routes":   func(u keycote.UseCount) string { return u.Route },
		"agents":   func(u keycote.UseCount) string { return u.Agent },
	} {
		var got []string
		for _, u := range usageAll(t, s, keycote.UsageQuery{Tenant: tenant}, 1) {
			got = append(got, column(u))
		}
		require.Equal(t, lookalikes, got, "use counts of %s", tenant)
	}
}

// hostile are texts that end a statement, a pattern, a parameter list or a line early where somebody forgot to quote.
var hostile = []string{
	`'`, `''`, `"`, "`", `\`, `\\`, `\'`, `%`, `_`, `%%`, `[a-z]`, `*`, `?`, `??`, `$1`, `:name`, `@p1`, `{}`, `;`, `--`, `/*`, `*/`, `#`,
	`'; DROP TABLE records; --`, `" OR ""="`, `' OR '1'='1`, `) OR (1=1`, `a,b`, `a b`, `a=b`, `x'00'`, `E'\x27'`, `$$`, `$tag$`,
	"\n", "\r\n", "\t", "\x01", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\u202e", "\ufeff", "\ufffd", "\U0010ffff", "👩‍👩‍👧‍👦", "العربية", "键",
	"NaN", "-0", "1;2", "evt_", "key_", "\\x00", "\\u0000", "%00", "<script>", "${jndi:x}", "{{.}}", "%s%d%n",
}

// textHostile puts hostile text into every text column there is, and looks it up by each.
func textHostile(t testing.TB, s keycote.Store) {
	for i, x := range hostile {
		about := fmt.Sprintf("%q", x)
		r := record(x, x, func(r *keycote.Record) {
			r.Name, r.App, r.Owner, r.Search, r.Labels = x, x, x, search(x), map[string]string{x: x, "plain": "x"}
			r.Body, r.Digests = []byte(x), [][]byte{digest("hostile", i)}
		})
		it := keycote.Item{Tenant: x, Space: x, Name: x, Revision: 1, Body: []byte(x)}
		e := event(x, x, epoch, func(e *keycote.EventRecord) {
			e.KeyID, e.Actor, e.Action, e.Outcome, e.Body = x, x, keycote.Action(x), keycote.Code(x), []byte(x)
		})
		refused := use(
			x,
			x,
			2,
			epoch,
			3,
			func(u *keycote.UseCount) { u.Outcome, u.Addr, u.Route, u.Agent = keycote.Code(x), x, x, x },
		)
		used := use(x, x, 1, epoch, 2)
		must(t, s, keycote.Batch{
			ID: "batch " + x, Insert: []keycote.Record{r}, Items: []keycote.Item{it}, Events: []keycote.EventRecord{e},
			Uses: []keycote.UseCount{refused, used},
		})
		must(t, s, keycote.Batch{ID: "batch " + x, Uses: []keycote.UseCount{used}}) // known already
		requireRecord(t, s, r, about)
		q := keycote.Query{
			Tenant: x,
			Filter: keycote.Filter{Name: x, App: x, Owner: x, Search: search(x), Labels: map[string]string{x: x}},
		}
		listed := listAll(t, s, q, 10)
		require.Equal(t, []string{x + "/" + x}, ids(listed), about)
		require.Len(t, listed[0].Uses, 1, about)
		require.EqualValues(t, 2, listed[0].Uses[0].N, about)
		require.Equal(t, []keycote.Item{it}, itemsAll(t, s, keycote.ItemQuery{Tenant: x, Space: x, Name: x}, 10), about)
		f := keycote.EventFilter{KeyID: x, Actor: x, Action: keycote.Action(x)}
		require.Equal(t, []keycote.EventRecord{e}, eventsAll(t, s, keycote.EventQuery{Tenant: x, Filter: f}, 10), about)
		require.Equal(t, []keycote.UseCount{used, refused}, usageAll(t, s, keycote.UsageQuery{Tenant: x, KeyID: x}, 1), about)
		err := try(
			t,
			s,
			keycote.Batch{
				Expect: []keycote.ItemRef{{Tenant: x, Space: x, Name: x, Revision: 1}},
				Update: []keycote.Record{next(r)},
			},
		)
		require.NoError(t, err, about)
	}
	n := len(hostile)
	for i, x := range hostile {
		must(t, s, keycote.Batch{
			Delete: []keycote.RecordRef{{Tenant: x, ID: x, Revision: 2}},
			Items:  []keycote.Item{{Tenant: x, Space: x, Name: x, Revision: 2}},
			Redact: []keycote.EventRecord{{Tenant: x, ID: x, Actor: x + x}},
			Prune:  []keycote.Prune{{Tenant: x, UsesBefore: hours(1), Limit: 10}},
		})
		left := dump(t, s)
		require.Len(t, left.Records, n-i-1, "after the delete of %q", x)
		require.Len(t, left.Items, n-i-1, "after the removal of %q", x)
		require.Len(t, left.Uses, 2*(n-i-1), "after the pruning of %q", x)
		require.Len(t, left.Events, n, "after the redaction of %q", x)
	}
	for _, e := range dump(t, s).Events {
		require.Equal(t, e.ID+e.ID, e.Actor)
	}
}
