package keycote_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// badTexts are texts that no field takes.
var badTexts = map[string]string{
	"1 MiB":              strings.Repeat("a", 1<<20),
	"1 MiB of NUL":       strings.Repeat("\x00", 1<<20),
	"NUL":                "a\x00b",
	"newline":            "a\nb",
	"carriage return":    "a\r\nX-Evil: 1",
	"tab":                "a\tb",
	"escape":             "a\x1b[31mb",
	"DEL":                "a\x7fb",
	"invalid UTF-8":      "a\xffb",
	"half a rune":        "a\xe2\x82",
	"a surrogate":        "a\xed\xa0\x80b",
	"overlong":           "a\xc0\xafb",
	"line separator":     "a\u2028b",
	"right to left":      "a\u202eb",
	"isolate":            "a\u2066b",
	"C1 control":         "a\u0085b",
	"4,097 of two bytes": strings.Repeat("é", 4097),
}

// badEdges are refused where edges matter.
var badEdges = map[string]string{"blank before": " a", "blank behind": "a ", "wide blank": "a\u3000", "no-break space": "\u00a0a"}

// requireViolation holds that an error is violations of these fields, and says no part of what was sent.
func requireViolation(t testing.TB, err error, what string, fields ...string) {
	t.Helper()
	var invalid *keycote.ValidationError
	require.ErrorAs(t, heard(err), &invalid, what)
	require.ErrorIs(t, err, keycote.ErrInvalid, what)
	var got []string
	for _, v := range invalid.Violations {
		got = append(got, v.Field)
		for _, p := range v.Params {
			require.Less(t, len(p), 64, what)
		}
	}
	for _, f := range fields {
		require.Contains(t, got, f, what)
	}
	require.Less(t, len(err.Error()), 1000, what)
}

// TestBadTexts sends each bad text through each field of each verb that takes text: a violation of that field, nothing
// written, nothing cut, no panic.
func TestBadTexts(t *testing.T) {
	t.Parallel()
	r := newRig(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
	ctx := t.Context()
	key, _ := issue(t, r.m, keycote.IssueParams{Name: "access"})
	cred, _ := add(t, r.m, "credential")
	secret := keycote.NewSecret(canary("a-Value-for-bad-input-1"))
	before := r.store.rows(t)

	type verb struct {
		field string
		edges bool
		call  func(string) error
	}
	label := func(s string) map[string]string { return map[string]string{"k": s} }
	verbs := map[string]verb{
		"Issue name": {"name", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: s})
			return err
		}},
		"Issue app": {"app", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", App: s})
			return err
		}},
		"Issue owner": {"owner", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Owner: s})
			return err
		}},
		"Issue prefix": {"prefix", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Prefix: s})
			return err
		}},
		"Issue secret": {"secret", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Secret: keycote.NewSecret(s + "-and-More-of-it-17"), AllowWeak: true})
			if s == " a" || s == "\u00a0a" {
				return err
			}
			_, _, err2 := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Secret: keycote.NewSecret("More-of-it-17-" + s), AllowWeak: true})
			require.Error(t, err2)
			return err
		}},
		"Issue scope": {"scopes", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Scopes: []string{"a:b", s}})
			return err
		}},
		"Issue label": {"labels", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Labels: label(s)})
			return err
		}},
		"Issue label's key": {"labels", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Labels: map[string]string{s: "v"}})
			return err
		}},
		"Issue reason": {"reason", false, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: "x", Reason: s})
			return err
		}},
		"Issue, a dry run": {"name", true, func(s string) error {
			_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: s, DryRun: true})
			return err
		}},
		"Add name": {"name", true, func(s string) error {
			_, err := r.m.Add(ctx, keycote.AddParams{Name: s, Endpoint: attackEndpoint, Secret: secret})
			return err
		}},
		"Add endpoint": {"endpoint", true, func(s string) error {
			_, err := r.m.Add(ctx, keycote.AddParams{Name: "x", Endpoint: "https://api.example.com/" + s + "/", Secret: secret})
			if !slices.Contains([]string{" a", "a ", "a\u3000", "\u00a0a"}, s) || err != nil {
				return err
			}
			_, err = r.m.Add(ctx, keycote.AddParams{Name: "x", Endpoint: s, Secret: secret})
			return err
		}},
		"Add reason": {"reason", false, func(s string) error {
			_, err := r.m.Add(ctx, keycote.AddParams{Name: "x", Endpoint: attackEndpoint, Secret: secret, Reason: s})
			return err
		}},
		"Rotate secret": {"secret", false, func(s string) error {
			_, _, err := r.m.Rotate(ctx, cred.ID, keycote.RotateParams{Secret: keycote.NewSecret("More-of-it-17-" + s), AllowWeak: true})
			return err
		}},
		"Rotate reason": {"reason", false, func(s string) error {
			_, _, err := r.m.Rotate(ctx, key.ID, keycote.RotateParams{Reason: s})
			return err
		}},
		"Update name": {"name", true, func(s string) error {
			_, err := r.m.Update(ctx, key.ID, keycote.Patch{Name: &s})
			return err
		}},
		"Update app":   {"app", true, func(s string) error { _, err := r.m.Update(ctx, key.ID, keycote.Patch{App: &s}); return err }},
		"Update owner": {"owner", true, func(s string) error { _, err := r.m.Update(ctx, key.ID, keycote.Patch{Owner: &s}); return err }},
		"Update scopes": {"scopes", true, func(s string) error {
			_, err := r.m.Update(ctx, key.ID, keycote.Patch{Scopes: &[]string{s}})
			return err
		}},
		"Update labels": {"labels", true, func(s string) error {
			m := label(s)
			_, err := r.m.Update(ctx, key.ID, keycote.Patch{Labels: &m})
			return err
		}},
		"Update reason": {"reason", false, func(s string) error {
			_, err := r.m.Update(ctx, key.ID, keycote.Patch{App: ptr("y"), Reason: s})
			return err
		}},
		"Disable": {"reason", false, func(s string) error { _, err := r.m.Disable(ctx, key.ID, s); return err }},
		"Enable":  {"reason", false, func(s string) error { _, err := r.m.Enable(ctx, key.ID, s); return err }},
		"Revoke":  {"reason", false, func(s string) error { _, err := r.m.Revoke(ctx, key.ID, s); return err }},
		"Delete":  {"reason", false, func(s string) error { return r.m.Delete(ctx, key.ID, s) }},
		"Reveal":  {"reason", false, func(s string) error { _, err := r.m.Reveal(ctx, cred.ID, s); return err }},
	}
	for name, v := range verbs {
		for what, text := range badTexts {
			requireViolation(t, v.call(text), name+": "+what, v.field)
		}
		if v.edges {
			for what, text := range badEdges {
				requireViolation(t, v.call(text), name+": "+what, v.field)
			}
		}
	}
	requireViolation(t, func() error { _, err := r.m.Reveal(ctx, cred.ID, " \u3000"); return err }(), "blank reason", "reason")
	require.Equal(t, before, r.store.rows(t), "nothing was written, and nothing cut")
}

// TestBadNumbers is the same for times, spans, numbers and lists.
func TestBadNumbers(t *testing.T) {
	t.Parallel()
	r := newRig(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
	ctx, now := t.Context(), r.clock.Now()
	key, _ := issue(t, r.m, keycote.IssueParams{Name: "access"})
	cred, _ := add(t, r.m, "credential")
	secret := keycote.NewSecret(canary("a-Value-for-bad-input-2"))
	before := r.store.rows(t)
	issued := func(p keycote.IssueParams) error {
		p.Name = "x"
		_, _, err := r.m.Issue(ctx, p)
		return err
	}
	rotated := func(id string, p keycote.RotateParams) error {
		_, _, err := r.m.Rotate(ctx, id, p)
		return err
	}
	updated := func(p keycote.Patch) error {
		_, err := r.m.Update(ctx, key.ID, p)
		return err
	}

	for name, at := range map[string]time.Time{
		"year 9999":          time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		"year 10000":         time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		"year 292277":        time.Date(292277, 1, 1, 0, 0, 0, 0, time.UTC),
		"the end of time":    time.Unix(math.MaxInt64/2, 0),
		"beyond it":          time.Unix(1<<62, 999),
		"101 years":          now.AddDate(101, 0, 0),
		"100 years and a µs": now.AddDate(100, 0, 0).Add(time.Microsecond),
		"now":                now,
		"a nanosecond ahead": now.Add(time.Nanosecond),
		"a second ago":       now.Add(-time.Second),
		"1970":               time.Unix(0, 0),
		"year 1":             time.Time{}.Add(1),
		"year -1":            time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
		"the beginning":      time.Unix(math.MinInt64/2, 0),
		"in a strange zone":  now.Add(-time.Minute).In(time.FixedZone("x", 14*3600)),
	} {
		requireViolation(t, issued(keycote.IssueParams{ExpiresAt: at}), "Issue "+name, "expiresAt")
		requireViolation(t, rotated(key.ID, keycote.RotateParams{ExpiresAt: at, Overlap: time.Hour}), "Rotate "+name, "expiresAt")
		requireViolation(t, updated(keycote.Patch{ExpiresAt: &at}), "Update "+name, "expiresAt")
		_, err := r.m.Add(ctx, keycote.AddParams{Name: "x", Endpoint: attackEndpoint, Secret: secret, ExpiresAt: at})
		requireViolation(t, err, "Add "+name, "expiresAt")
	}
	for name, overlap := range map[string]time.Duration{
		"negative": -1, "very negative": math.MinInt64, "a second less": -time.Second, "very long": math.MaxInt64,
		"a year and a ns": 365*24*time.Hour + 1,
	} {
		requireViolation(t, rotated(key.ID, keycote.RotateParams{Overlap: overlap}), "overlap "+name, "overlap")
		requireViolation(t, rotated(key.ID, keycote.RotateParams{Overlap: overlap, UntilUsed: true, DryRun: true}), "overlap "+name, "overlap")
		requireViolation(t, rotated(cred.ID, keycote.RotateParams{Overlap: overlap, Secret: secret}), "overlap "+name, "overlap")
	}
	requireViolation(t, rotated(key.ID, keycote.RotateParams{UntilUsed: true}), "untilUsed without overlap", "untilUsed")
	requireViolation(t, rotated(cred.ID, keycote.RotateParams{UntilUsed: true, Secret: secret}), "untilUsed of a credential", "untilUsed")
	requireViolation(t, rotated(cred.ID, keycote.RotateParams{}), "a credential without a value", "secret")

	many := func(n int) (scopes []string, networks []netip.Prefix, labels map[string]string) {
		labels = map[string]string{}
		for i := range n {
			scopes = append(scopes, fmt.Sprint("scope:", i))
			networks = append(networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32))
			labels[fmt.Sprint("label", i)] = "x"
		}
		return scopes, networks, labels
	}
	for _, n := range []int{101, 100_000} {
		scopes, networks, labels := many(n)
		requireViolation(t, issued(keycote.IssueParams{Scopes: scopes, Networks: networks, Labels: labels}), fmt.Sprint(n),
			"scopes", "networks", "labels")
		requireViolation(t, updated(keycote.Patch{Scopes: &scopes, Networks: &networks, Labels: &labels}), fmt.Sprint(n),
			"scopes", "networks", "labels")
	}
	for name, n := range map[string]netip.Prefix{
		"zero":      {},
		"host bits": netip.MustParsePrefix("192.0.2.1/24"),
		"too long":  netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 33),
		"no addr":   netip.PrefixFrom(netip.Addr{}, 8),
		"negative":  netip.PrefixFrom(netip.MustParseAddr("192.0.2.0"), -1),
	} {
		requireViolation(t, issued(keycote.IssueParams{Networks: []netip.Prefix{n}}), name, "networks")
		requireViolation(t, updated(keycote.Patch{Networks: &[]netip.Prefix{n}}), name, "networks")
	}
	for name, l := range map[string]keycote.Limit{
		"negative rate": {Rate: -1, Per: time.Second}, "no per": {Rate: 1}, "negative per": {Rate: 1, Per: -time.Second},
		"a fraction": {Rate: 1, Per: time.Millisecond}, "huge": {Rate: math.MaxInt, Per: time.Second},
		"huge per": {Rate: 1, Per: math.MaxInt64}, "least per": {Rate: 1, Per: math.MinInt64},
		"negative quota": {Quota: math.MinInt64, Period: time.Hour}, "no period": {Quota: 1}, "burst alone": {Burst: 3},
	} {
		requireViolation(t, issued(keycote.IssueParams{Limit: l}), name, "limit")
		requireViolation(t, updated(keycote.Patch{Limit: &l}), name, "limit")
	}
	requireViolation(t, updated(keycote.Patch{App: ptr("y"), Revision: -1}), "negative revision", "revision")
	requireViolation(t, updated(keycote.Patch{Secret: secret}), "a secret where none moves", "secret")
	for name, id := range map[string]string{"256 bytes": strings.Repeat("r", 256), "1 MiB": strings.Repeat("r", 1<<20)} {
		requireViolation(t, issued(keycote.IssueParams{RequestID: id}), name, "requestId")
		requireViolation(t, rotated(key.ID, keycote.RotateParams{RequestID: id}), name, "requestId")
	}
	for _, limit := range []int{-1, 1001, math.MaxInt, math.MinInt} {
		_, err := r.m.Page(ctx, keycote.Filter{}, "", limit)
		require.ErrorIs(t, heard(err), keycote.ErrInvalid)
	}
	require.Equal(t, before, r.store.rows(t), "nothing was written")
}

// TestHostileIDs: people paste keys where ids belong. What is no id of a key is not found, by every verb, and appears
// nowhere.
func TestHostileIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	_, token := issue(t, r.m, keycote.IssueParams{Name: "access"})
	cred, value := add(t, r.m, "credential")
	hostile := map[string]string{
		"empty": "", "a pasted token": token, "a pasted credential": value, "1 MiB": strings.Repeat("k", 1<<20),
		"256 bytes": strings.Repeat("k", 256), "NUL": cred.ID + "\x00", "newline": cred.ID + "\n", "invalid UTF-8": cred.ID + "\xff",
		"blank": " " + cred.ID, "upper case": strings.ToUpper(cred.ID), "a pattern": "key_%", "a quote": "' OR 1=1 --",
		"a path": "../../etc/passwd", "an event's": strings.Replace(cred.ID, "key_", "evt_", 1),
		"unknown": "key_00000000000000000000000000", "not base32": "key_01jtbqz4m0e8v3w2x1y0z9abcu",
	}
	for what, id := range hostile {
		fail := map[string]error{}
		_, fail["Get"] = r.m.Get(ctx, id)
		_, fail["Update"] = r.m.Update(ctx, id, keycote.Patch{App: ptr("x")})
		_, fail["Disable"] = r.m.Disable(ctx, id, "")
		_, fail["Enable"] = r.m.Enable(ctx, id, "")
		_, fail["Revoke"] = r.m.Revoke(ctx, id, "")
		_, fail["Reveal"] = r.m.Reveal(ctx, id, "to see")
		_, _, fail["Use"] = r.m.Use(ctx, id, keycote.Request{})
		_, _, fail["Rotate"] = r.m.Rotate(ctx, id, keycote.RotateParams{})
		fail["Delete"] = r.m.Delete(ctx, id, "")
		for verb, err := range fail {
			require.ErrorIs(t, heard(err), keycote.ErrNotFound, "%s: %s", verb, what)
			var e *keycote.Error
			require.ErrorAs(t, err, &e)
			if what != "unknown" {
				require.Empty(t, e.ID, "%s: %s", verb, what)
			}
			require.Less(t, len(err.Error()), 200)
		}
		for e, err := range r.m.Events(ctx, keycote.EventFilter{KeyID: id, After: ""}) {
			if id == "" {
				require.NoError(t, err)
				require.NotEmpty(t, e.ID)
				continue
			}
			require.Error(t, heard(err), what)
		}
		for _, err := range r.m.Events(ctx, keycote.EventFilter{After: id + "x"}) {
			require.ErrorIs(t, heard(err), keycote.ErrInvalid, what)
		}
		_, err := r.m.Page(ctx, keycote.Filter{}, id+"x", 10)
		require.ErrorIs(t, heard(err), keycote.ErrInvalid, what)
	}
	// The refusals are events. They hold none of it either.
	require.NoError(t, r.m.Flush(ctx))
	for e, err := range r.m.Events(ctx, keycote.EventFilter{}) {
		require.NoError(t, err)
		require.Contains(t, []int{0, len(cred.ID)}, len(e.KeyID))
		overheard(fmt.Errorf("%+v", e))
	}
}

func TestHostileFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	issue(t, r.m, keycote.IssueParams{Name: "100%_\\of'it", App: "a"})
	r.store.reads()
	for what, text := range map[string]string{
		"1 MiB": strings.Repeat("a", 1<<20), "NUL": "a\x00", "invalid UTF-8": "\xff",
	} {
		for field, f := range map[string]keycote.Filter{
			"name": {Name: text}, "app": {App: text}, "owner": {Owner: text}, "search": {Search: text},
			"label": {Labels: map[string]string{"k": text}}, "label's key": {Labels: map[string]string{text: "v"}},
			"kind": {Kind: keycote.Kind(text)}, "state": {State: keycote.State(text)},
		} {
			for key, err := range r.m.List(ctx, f) {
				require.ErrorIs(t, heard(err), keycote.ErrInvalid, "%s: %s", field, what)
				require.Nil(t, key)
			}
			_, err := r.m.Page(ctx, f, "", 1)
			require.ErrorIs(t, heard(err), keycote.ErrInvalid, "%s: %s", field, what)
		}
		for field, f := range map[string]keycote.EventFilter{"actor": {Actor: text}, "action": {Action: keycote.Action(text)}} {
			for _, err := range r.m.Events(ctx, f) {
				require.ErrorIs(t, heard(err), keycote.ErrInvalid, "%s: %s", field, what)
			}
		}
	}
	require.Empty(t, r.store.reads())
	for _, state := range []keycote.State{keycote.StateEnded, keycote.StateUnreadable, "ACTIVE"} {
		_, err := r.m.Page(ctx, keycote.Filter{State: state}, "", 1)
		require.ErrorIs(t, heard(err), keycote.ErrInvalid)
	}
	for search, found := range map[string]int{
		"%": 1, "_": 1, "\\": 1, "'": 1, "%%": 0, "__": 0, "100%_\\OF'IT": 1, "a_b": 0, "of.it": 0, "\n": 1, "it\na": 1,
	} {
		page, err := r.m.Page(ctx, keycote.Filter{Search: search}, "", 10)
		require.NoError(t, heard(err), search)
		require.Len(t, page.Keys, found, "%q", search)
	}
	far := time.Date(200000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{far, far.AddDate(-400000, 0, 0), time.Unix(1<<62, 0), time.Unix(-1<<62, 0)} {
		_, err := r.m.Page(ctx, keycote.Filter{ExpiresBefore: at, UnusedSince: at, RotatedBefore: at}, "", 10)
		if err != nil {
			require.ErrorIs(t, heard(err), keycote.ErrInvalid)
		}
		for _, err := range r.m.Events(ctx, keycote.EventFilter{Since: at, Until: at}) {
			if err != nil {
				require.ErrorIs(t, heard(err), keycote.ErrInvalid)
			}
		}
	}
}

// A forgotten or malformed tenant never falls back on another one.
func TestMalformedTenants(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	_, token := issue(t, r.m, keycote.IssueParams{Name: "of nobody"})
	_, acmes := issue(t, r.m.Tenant("acme"), keycote.IssueParams{Name: "of acme"})
	views := map[string]*keycote.Manager{
		"another on a view":  r.m.Tenant("acme").Tenant("evil"),
		"none on a view":     r.m.Tenant("acme").Tenant(""),
		"back from a broken": r.m.Tenant("").Tenant("acme"),
		"without a store":    func() *keycote.Manager { v, _ := r.m.In(nil); return v }(),
	}
	for what, name := range badTexts {
		views[what] = r.m.Tenant(name)
	}
	for what, name := range badEdges {
		views[what] = r.m.Tenant(name)
	}
	views["empty"], views["256 bytes"] = r.m.Tenant(""), r.m.Tenant(strings.Repeat("t", 256))
	before := r.store.rows(t)
	r.store.reads()
	for what, m := range views {
		fail := map[string]error{}
		for _, v := range []string{token, acmes} {
			_, err := m.Verify(ctx, v, keycote.Request{})
			require.ErrorIs(t, heard(err), keycote.ErrInvalid, what)
			require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
		}
		_, _, fail["Issue"] = m.Issue(ctx, keycote.IssueParams{Name: "x"})
		_, fail["Add"] = m.Add(ctx, keycote.AddParams{Name: "x"})
		_, fail["Get"] = m.Get(ctx, "key_00000000000000000000000000")
		_, fail["Page"] = m.Page(ctx, keycote.Filter{}, "", 0)
		_, _, fail["Use"] = m.Use(ctx, "x", keycote.Request{})
		_, _, fail["Rotate"] = m.Rotate(ctx, "x", keycote.RotateParams{})
		_, fail["Update"] = m.Update(ctx, "x", keycote.Patch{})
		_, fail["Reveal"] = m.Reveal(ctx, "x", "")
		_, fail["Revoke"] = m.Revoke(ctx, "x", "")
		fail["Delete"], fail["Flush"], fail["Run"] = m.Delete(ctx, "x", ""), m.Flush(ctx), m.Run(ctx)
		for _, err := range m.List(ctx, keycote.Filter{}) {
			fail["List"] = errors.Join(fail["List"], err)
		}
		for _, err := range m.Events(ctx, keycote.EventFilter{}) {
			fail["Events"] = errors.Join(fail["Events"], err)
		}
		for _, err := range m.Tenants(ctx) {
			fail["Tenants"] = errors.Join(fail["Tenants"], err)
		}
		require.Len(t, fail, 15)
		for verb, err := range fail {
			require.ErrorIs(t, overheard(err), keycote.ErrInvalid, "%s: %s", verb, what)
		}
	}
	require.Empty(t, r.store.reads(), "none of it came to the store")
	require.Equal(t, before, r.store.rows(t))
}

// What a client sends with its key goes into the use log, and must neither break it nor fill it.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	_, token := issue(t, r.m, keycote.IssueParams{Name: "access", Scopes: []string{"**"}})
	cred, _ := add(t, r.m, "credential")
	for what, text := range badTexts {
		for _, addr := range []netip.Addr{{}, netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("fe80::1%eth0\n")} {
			_, err := r.m.Verify(ctx, token, keycote.Request{Route: text, UserAgent: text, Addr: addr, Endpoint: text})
			require.NoError(t, heard(err), what)
			_, err = r.m.Verify(ctx, token, keycote.Request{Scopes: []string{text}, Route: text})
			require.ErrorIs(t, heard(err), keycote.ErrScope, what)
			_, err = r.m.Verify(ctx, text, keycote.Request{Route: text, UserAgent: text, Addr: addr})
			require.ErrorIs(t, heard(err), keycote.ErrUnknownKey, what)
			_, _, err = r.m.Use(ctx, cred.ID, keycote.Request{Route: text, UserAgent: text, Addr: addr})
			require.NoError(t, heard(err), what)
			_, _, err = r.m.Use(ctx, cred.ID, keycote.Request{Endpoint: text})
			require.ErrorIs(t, heard(err), keycote.ErrAddress, what)
			_, _, err = r.m.Use(ctx, cred.ID, keycote.Request{Endpoint: attackEndpoint + text + "@evil.example.com"})
			if err != nil {
				require.ErrorIs(t, heard(err), keycote.ErrAddress, what)
			}
		}
	}
	require.NoError(t, r.m.Flush(ctx))
	for _, u := range r.store.rows(t).uses {
		for _, text := range []string{u.Route, u.Agent, u.Addr} {
			require.LessOrEqual(t, len(text), 128+2)
			require.True(t, utf8.ValidString(text))
			require.NotContains(t, text, "\x00")
			require.NotContains(t, text, "\n")
			require.NotContains(t, text, "%")
		}
	}
}
