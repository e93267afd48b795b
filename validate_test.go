package keycote

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// accessDraft and credentialDraft break no rule.
func accessDraft() Draft {
	return Draft{
		Now: testNow, Kind: KindAccess, Name: "billing", App: "shop", Owner: "ann",
		Scopes: []string{"orders:read", "orders:*:write", "reports:**"}, ExpiresAt: testNow.AddDate(1, 0, 0),
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		Limit:    Limit{Rate: 10, Per: time.Second, Burst: 20, Quota: 1000, Period: 24 * time.Hour},
		Labels:   map[string]string{"team": "payments", "a.b/c_d-0": ""},
	}
}

func credentialDraft() Draft {
	return Draft{
		Now: testNow, Kind: KindCredential, Name: "模型供应商", App: "chat", Owner: "ann",
		Endpoint: "https://api.example.com/v1", Secret: NewSecret(good), ExpiresAt: testNow.AddDate(1, 0, 0),
		Labels: map[string]string{"team": "研发"},
	}
}

// named gives each violation as "field code", with its index or part.
func named(vs []Violation) (names []string) {
	for _, v := range vs {
		name := v.Field + " " + string(v.Code)
		for _, p := range []string{"index", "part"} {
			if s := v.Params[p]; s != "" {
				name += " " + s
			}
		}
		names = append(names, name)
	}
	return names
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("n", n) }
	scopes := func(n int) []string { return slices.Repeat([]string{"a"}, n) }
	networks := func(n int) []netip.Prefix {
		return slices.Repeat([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, n)
	}
	labels := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[strconv.Itoa(i)] = ""
		}
		return m
	}
	host := netip.MustParsePrefix("10.0.0.1/8")
	tests := []struct {
		name   string
		start  func() Draft
		change func(d *Draft)
		want   []string
	}{
		{"a good access key", accessDraft, func(*Draft) {}, nil},
		{"a good credential", credentialDraft, func(*Draft) {}, nil},
		{"the least of an access key", accessDraft, func(d *Draft) { *d = Draft{Now: testNow, Kind: KindAccess, Name: "n"} }, nil},
		{"no optional text", accessDraft, func(d *Draft) { d.App, d.Owner = "", "" }, nil},

		{"no name", accessDraft, func(d *Draft) { d.Name = "" }, []string{"name required"}},
		{"no name on a kept key", accessDraft, func(d *Draft) { d.ID, d.Name = "key_x", "" }, []string{"name required"}},
		{"a name of 255", accessDraft, func(d *Draft) { d.Name = strings.Repeat("名", 255) }, nil},
		{"a name of 256", accessDraft, func(d *Draft) { d.Name = strings.Repeat("名", 256) }, []string{"name too_long"}},
		{"a name of 1 MiB", accessDraft, func(d *Draft) { d.Name = long(1 << 20) }, []string{"name too_long"}},
		{"a name of 1 MiB that is not UTF-8", accessDraft, func(d *Draft) { d.Name = strings.Repeat("\xff", 1<<20) }, []string{"name too_long"}},
		{"NUL in the name", accessDraft, func(d *Draft) { d.Name = "a\x00b" }, []string{"name control"}},
		{"newline in the name", accessDraft, func(d *Draft) { d.Name = "a\nb" }, []string{"name control"}},
		{"line separator in the name", accessDraft, func(d *Draft) { d.Name = "a\u2028b" }, []string{"name control"}},
		{"bidi isolate in the name", accessDraft, func(d *Draft) { d.Name = "a\u2066b" }, []string{"name control"}},
		{"a name that is not UTF-8", accessDraft, func(d *Draft) { d.Name = "a\xffb\x00 " }, []string{"name encoding"}},
		{"the replacement character is text", accessDraft, func(d *Draft) { d.Name = "a\ufffdb" }, nil},
		{"a blank before the name", accessDraft, func(d *Draft) { d.Name = " n" }, []string{"name blank_edge"}},
		{"an ideographic space after the name", accessDraft, func(d *Draft) { d.Name = "n\u3000" }, []string{"name blank_edge"}},
		{"a newline after the name", accessDraft, func(d *Draft) { d.Name = "n\n" }, []string{"name control"}},
		{"a blank name", accessDraft, func(d *Draft) { d.Name = " " }, []string{"name blank_edge"}},
		{"all faults of a name", accessDraft, func(d *Draft) { d.Name = " \x00" + long(255) },
			[]string{"name too_long", "name control", "name blank_edge"}},
		{"app and owner", accessDraft, func(d *Draft) { d.App, d.Owner = long(256), "\x7f" }, []string{"app too_long", "owner control"}},

		{"an access key has no endpoint", accessDraft, func(d *Draft) { d.Endpoint = "https://x.example/" }, []string{"endpoint not_allowed"}},
		{"a credential needs one", credentialDraft, func(d *Draft) { d.Endpoint = "" }, []string{"endpoint required"}},
		{"what a credential has not", credentialDraft, func(d *Draft) {
			d.Scopes, d.Networks, d.Limit = []string{"\x00"}, []netip.Prefix{host}, Limit{Rate: -1}
		}, []string{"scopes not_allowed", "networks not_allowed", "limit not_allowed"}},
		{"empty lists are none", credentialDraft, func(d *Draft) { d.Scopes, d.Networks = []string{}, []netip.Prefix{} }, nil},

		{"100 scopes", accessDraft, func(d *Draft) { d.Scopes = scopes(100) }, nil},
		{"101 scopes", accessDraft, func(d *Draft) { d.Scopes = scopes(101) }, []string{"scopes too_many"}},
		{"a million scopes", accessDraft, func(d *Draft) { d.Scopes = make([]string, 1_000_000) }, []string{"scopes too_many"}},
		{"a scope of 255", accessDraft, func(d *Draft) { d.Scopes = []string{long(255)} }, nil},
		{"bad scopes", accessDraft, func(d *Draft) { d.Scopes = []string{"a", "", long(256), "b", "a:**:b", "\x00"} },
			[]string{"scopes syntax 1", "scopes too_long 2", "scopes syntax 4", "scopes syntax 5"}},

		{"100 networks", accessDraft, func(d *Draft) { d.Networks = networks(100) }, nil},
		{"101 networks", accessDraft, func(d *Draft) { d.Networks = networks(101) }, []string{"networks too_many"}},
		{"bad networks", accessDraft, func(d *Draft) {
			d.Networks = []netip.Prefix{networks(1)[0], {}, host, netip.MustParsePrefix("::ffff:10.0.0.0/104"),
				netip.MustParsePrefix("::ffff:10.0.0.1/104")}
		}, []string{"networks syntax 1", "networks host_bits 2", "networks host_bits 4"}},

		{"never expires", accessDraft, func(d *Draft) { d.ExpiresAt = time.Time{} }, nil},
		{"expires a microsecond from now", accessDraft, func(d *Draft) { d.ExpiresAt = testNow.Add(time.Microsecond) }, nil},
		{"expires within the microsecond", accessDraft, func(d *Draft) { d.ExpiresAt = testNow.Add(999) }, []string{"expiresAt past"}},
		{"expires now", accessDraft, func(d *Draft) { d.ExpiresAt = testNow }, []string{"expiresAt past"}},
		{"now in another zone", accessDraft, func(d *Draft) { d.ExpiresAt = testNow.In(time.FixedZone("", 3600)) }, []string{"expiresAt past"}},
		{"expired", accessDraft, func(d *Draft) { d.ExpiresAt = testNow.Add(-time.Hour) }, []string{"expiresAt past"}},
		{"before 1970", accessDraft, func(d *Draft) { d.ExpiresAt = time.Unix(-1, 0) }, []string{"expiresAt past"}},
		{"100 years", accessDraft, func(d *Draft) { d.ExpiresAt = testNow.AddDate(100, 0, 0) }, nil},
		{"100 years and a microsecond", accessDraft, func(d *Draft) { d.ExpiresAt = testNow.AddDate(100, 0, 0).Add(time.Microsecond) },
			[]string{"expiresAt too_far"}},
		{"the year 9999", accessDraft, func(d *Draft) { d.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) },
			[]string{"expiresAt too_far"}},
		{"the year 292277026596", accessDraft, func(d *Draft) { d.ExpiresAt = time.Unix(math.MaxInt64, 0) }, []string{"expiresAt past"}},

		{"64 labels", accessDraft, func(d *Draft) { d.Labels = labels(64) }, nil},
		{"65 labels", accessDraft, func(d *Draft) { d.Labels = labels(65) }, []string{"labels too_many"}},
		{"a label of 63 and 255", accessDraft, func(d *Draft) { d.Labels = map[string]string{long(63): strings.Repeat("é", 255)} }, nil},
		{"bad labels, in byte order", accessDraft, func(d *Draft) {
			d.Labels = map[string]string{"": "v", "a": " v\x00", "A": "v", "b": "v", long(64): "\xff", "z": long(256)}
		}, []string{"labels syntax 0", "labels syntax 1", "labels control 2", "labels blank_edge 2", "labels too_long 4",
			"labels encoding 4", "labels too_long 5"}},

		{"everything at once, in field order", func() Draft { return Draft{Now: testNow, Kind: KindCredential} }, func(d *Draft) {
			d.App, d.Owner, d.Scopes, d.Networks, d.ExpiresAt = "\x00", " ", []string{"a"}, networks(1), testNow
			d.Limit, d.Labels = Limit{Rate: 1}, labels(65)
		}, []string{"name required", "app control", "owner blank_edge", "endpoint required", "secret required",
			"scopes not_allowed", "networks not_allowed", "expiresAt past", "limit not_allowed", "labels too_many"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := tt.start()
			tt.change(&d)
			for _, v := range []*Validator{NewValidator(nil), {}, nil} {
				vs, err := v.Validate(t.Context(), &d)
				require.NoError(t, err)
				require.Equal(t, tt.want, named(vs))
				require.NotContains(t, fmt.Sprint(vs), "\x00")
			}
		})
	}
}

func TestValidateLimit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		limit Limit
		want  []string
	}{
		{"none", Limit{}, nil},
		{"rate", Limit{Rate: 1, Per: time.Second}, nil},
		{"quota", Limit{Quota: 1, Period: time.Second}, nil},
		{"the most", Limit{Rate: 1e9, Per: 366 * 24 * time.Hour, Burst: 1e9, Quota: 1e15, Period: 366 * 24 * time.Hour}, nil},
		{"rate without per", Limit{Rate: 1}, []string{"limit required per"}},
		{"per without rate", Limit{Per: time.Second}, []string{"limit required rate"}},
		{"burst without rate", Limit{Burst: 1}, []string{"limit required rate"}},
		{"quota without period", Limit{Quota: 1}, []string{"limit required period"}},
		{"period without quota", Limit{Period: time.Second}, []string{"limit required quota"}},
		{"negative", Limit{Rate: -1, Per: -time.Second, Burst: -1, Quota: -1, Period: -time.Second}, []string{"limit out_of_range rate",
			"limit out_of_range per", "limit out_of_range burst", "limit out_of_range quota", "limit out_of_range period"}},
		{"negative by less than a second", Limit{Rate: 1, Per: -1, Quota: 1, Period: -time.Second / 2},
			[]string{"limit out_of_range per", "limit out_of_range period"}},
		{"no whole seconds", Limit{Rate: 1, Per: time.Millisecond, Quota: 1, Period: 3 * time.Second / 2},
			[]string{"limit syntax per", "limit syntax period"}},
		{"too much", Limit{Rate: 1e9 + 1, Per: 366*24*time.Hour + time.Second, Burst: 1e9 + 1, Quota: 1e15 + 1, Period: math.MaxInt64},
			[]string{"limit out_of_range rate", "limit out_of_range per", "limit out_of_range burst", "limit out_of_range quota",
				"limit out_of_range period"}},
		{"too much by less than a second", Limit{Rate: 1, Per: 366*24*time.Hour + 1}, []string{"limit out_of_range per"}},
		{"the least number there is", Limit{Rate: math.MinInt, Per: math.MinInt64, Quota: math.MinInt64, Period: 1e9},
			[]string{"limit out_of_range rate", "limit out_of_range per", "limit out_of_range quota"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := accessDraft()
			d.Limit = tt.limit
			vs, err := NewValidator(nil).Validate(t.Context(), &d)
			require.NoError(t, err)
			require.Equal(t, tt.want, named(vs))
		})
	}
}

func TestValidateParams(t *testing.T) {
	t.Parallel()
	d := accessDraft()
	d.Name, d.Scopes, d.Networks = strings.Repeat("n", 256), make([]string, 101), make([]netip.Prefix, 101)
	d.ExpiresAt, d.Limit, d.Labels = testNow.AddDate(101, 0, 0), Limit{Rate: -1, Per: time.Second}, map[string]string{"B": "v"}
	vs, err := NewValidator(nil).Validate(t.Context(), &d)
	require.NoError(t, err)
	require.Equal(t, []Violation{
		{Field: "name", Code: "too_long", Params: map[string]string{"max": "255"}},
		{Field: "scopes", Code: "too_many", Params: map[string]string{"max": "100"}},
		{Field: "networks", Code: "too_many", Params: map[string]string{"max": "100"}},
		{Field: "expiresAt", Code: "too_far", Params: map[string]string{"max": "2126-11-23T12:00:00Z"}},
		{Field: "limit", Code: "out_of_range", Params: map[string]string{"part": "rate", "min": "0", "max": "1000000000"}},
		{Field: "labels", Code: "syntax", Params: map[string]string{"index": "0"}},
	}, vs)
}

func TestMaxLife(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		maxLife time.Duration
		expires time.Time
		want    []string
	}{
		{"within", time.Hour, testNow.Add(time.Hour), nil},
		{"beyond", time.Hour, testNow.Add(time.Hour + time.Microsecond), []string{"expiresAt too_far"}},
		{"never", time.Hour, time.Time{}, []string{"expiresAt required"}},
		{"past", time.Hour, testNow.Add(-1), []string{"expiresAt past"}},
		{"longer than a hundred years is no more than that", math.MaxInt64, testNow.AddDate(101, 0, 0), []string{"expiresAt too_far"}},
		{"a negative one lets nothing pass", -time.Hour, testNow.Add(time.Microsecond), []string{"expiresAt too_far"}},
		{"a negative one lets nothing live for ever", -1, time.Time{}, []string{"expiresAt required"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := accessDraft()
			d.ExpiresAt = tt.expires
			vs, err := NewValidator(&ValidatorOptions{MaxLife: tt.maxLife}).Validate(t.Context(), &d)
			require.NoError(t, err)
			require.Equal(t, tt.want, named(vs))
		})
	}
}

func TestValidateRefusesWhatIsNoDraft(t *testing.T) {
	t.Parallel()
	for _, d := range []*Draft{nil, {}, {Kind: "other", Name: "n"}} {
		vs, err := NewValidator(nil).Validate(t.Context(), d)
		require.ErrorIs(t, err, ErrInvalid)
		require.Nil(t, vs)
	}
}

func TestOptionsAreCopied(t *testing.T) {
	t.Parallel()
	opts := &ValidatorOptions{AllowHosts: []string{"a.local"}, AllowNets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	rules := []Rule{func(context.Context, *Draft) ([]Violation, error) { return nil, nil }}
	v := NewValidator(opts, rules...)
	opts.AllowHTTP, opts.AllowHosts[0], opts.AllowNets[0], rules[0] = true, "b.local", netip.MustParsePrefix("0.0.0.0/0"), nil
	d := credentialDraft()
	for endpoint, want := range map[string][]string{
		"https://a.local/": nil, "https://10.0.0.1/": nil, "http://a.local/": {"endpoint scheme"},
		"https://b.local/": {"endpoint private_address"}, "https://127.0.0.1/": {"endpoint private_address"},
	} {
		d.Endpoint = endpoint
		vs, err := v.Validate(t.Context(), &d)
		require.NoError(t, err)
		require.Equal(t, want, named(vs), endpoint)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	meddler := func(_ context.Context, d *Draft) ([]Violation, error) {
		d.Name, d.Secret, d.Actor.MaxScopes[0] = "changed", Secret{}, "**"
		d.Scopes[0], d.Networks[0], d.Labels["team"] = "**", netip.Prefix{}, "changed"
		return []Violation{{Field: "costCentre", Code: "unknown_centre"}, {Field: fieldLabels, Code: "no", Params: map[string]string{"index": "10"}},
			{Field: fieldLabels, Code: "no", Params: map[string]string{"index": "9"}}, {Field: fieldName, Code: "profanity", Warning: true}}, nil
	}
	var seen *Draft
	witness := func(_ context.Context, d *Draft) ([]Violation, error) {
		seen = d
		return []Violation{{Field: "b"}, {Field: "a"}}, nil
	}
	d := accessDraft()
	d.Secret, d.Actor = NewSecret(good), Actor{ID: "ann", MaxScopes: []string{"orders:**"}}
	d.Endpoint = "https://x.example/"
	before := *d.clone()
	vs, err := NewValidator(nil, meddler, witness).Validate(t.Context(), &d)
	require.NoError(t, err)
	require.Equal(t, []string{"name profanity", "endpoint not_allowed", "labels no 9", "labels no 10",
		"costCentre unknown_centre", "b invalid", "a invalid"}, named(vs))
	require.True(t, vs[0].Warning)
	for _, got := range []Draft{d, *seen} {
		require.Equal(t, good, got.Secret.Reveal())
		got.Secret, before.Secret = Secret{}, Secret{}
		require.Equal(t, before, got)
	}
}

func TestRuleThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("directory is away")
	calls := 0
	count := func(context.Context, *Draft) ([]Violation, error) { calls++; return nil, nil }
	fail := func(context.Context, *Draft) ([]Violation, error) {
		return []Violation{{Field: fieldName, Code: "x"}}, broken
	}
	d := accessDraft()
	d.Name = ""
	vs, err := NewValidator(nil, count, fail, count).Validate(t.Context(), &d)
	require.ErrorIs(t, err, broken)
	require.Nil(t, vs, "half a judgement is none")
	require.Equal(t, 1, calls)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	vs, err = NewValidator(nil, count).Validate(ctx, &d)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, vs)
	require.Equal(t, 1, calls)

	require.PanicsWithValue(t, "rule", func() {
		_, _ = NewValidator(nil, func(context.Context, *Draft) ([]Violation, error) { panic("rule") }).Validate(t.Context(), &d)
	})
}

func TestRuleThatQuotesTheValue(t *testing.T) {
	t.Parallel()
	params := map[string]string{"got": "<" + good + ">"}
	d := accessDraft()
	d.Secret = NewSecret(good)
	vs, err := NewValidator(nil, func(_ context.Context, d *Draft) ([]Violation, error) {
		return []Violation{{Field: fieldSecret, Code: "breached", Text: d.Secret.Reveal() + " was in a breach", Params: params}}, nil
	}).Validate(t.Context(), &d)
	require.NoError(t, err)
	require.Equal(t, "[redacted] was in a breach", vs[0].Text)
	require.Equal(t, map[string]string{"got": "<[redacted]>"}, vs[0].Params)
	require.Equal(t, "<"+good+">", params["got"], "the rule's own map is left alone")
}

// TestTidied: nowhere in a host's violation does the value stay, in whatever form it was written.
func TestTidied(t *testing.T) {
	t.Parallel()
	for _, form := range []string{good, fmt.Sprintf("%x", good), url.QueryEscape(good), "<" + good + ">"} {
		v := Violation{Field: "x:" + form, Code: Code("refused:" + form), Text: "not " + form, Params: map[string]string{
			form: "name", "got": form, "plain": "as it is",
		}}
		got := tidied(v, NewSecret(good))
		require.Equal(t, ErrInvalid, got.Code)
		require.Equal(t, codeProbeFailed, tidiedAs(v, NewSecret(good), codeProbeFailed).Code)
		require.Equal(t, "as it is", got.Params["plain"])
		require.NotContains(t, fmt.Sprintf("%#v", got), form)
		require.NotContains(t, fmt.Sprintf("%#v", got), good)
		require.Equal(t, len(fieldOrder), fieldRank(got.Field), "a field of ours would let a call pass over it")
	}
	kept := Violation{
		Field: "costCentre", Code: "unknown_centre", Text: "no such centre", Params: map[string]string{"max": "5"},
	}
	require.Equal(t, kept, tidied(kept, NewSecret(good)))
	require.Equal(t, kept, tidied(kept, Secret{}))
	require.Equal(t, fieldEndpoint, tidied(Violation{Field: fieldEndpoint}, NewSecret("endpoint")).Field)
	require.Equal(t, Code("no"), tidied(Violation{Code: "no"}, NewSecret("n")).Code, "no key: its letters are everywhere")
}

func BenchmarkValidate(b *testing.B) {
	access, credential := accessDraft(), credentialDraft()
	access.Secret = NewSecret(good)
	for name, d := range map[string]Draft{"access": access, "credential": credential} {
		b.Run(name, func(b *testing.B) {
			v := NewValidator(nil)
			v.skipStrength = true
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if vs, err := v.Validate(ctx, &d); len(vs) > 0 || err != nil {
					b.Fatal(vs, err)
				}
			}
		})
	}
}
