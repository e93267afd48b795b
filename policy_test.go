package keycote

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/internal/special"
)

func TestScopeSyntax(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, scope string
		want        bool
	}{
		{"one segment", "orders", true},
		{"segments", "api:orders:read", true},
		{"any visible ASCII", "a!#$%&'()+-./09;<=>?@[]^_`{|}~Z", true},
		{"wildcard alone", "*", true},
		{"wildcard first", "*:read", true},
		{"wildcards", "*:*", true},
		{"rest alone", "**", true},
		{"rest last", "api:**", true},
		{"255 bytes", strings.Repeat("a", 255), true},
		{"256 bytes", strings.Repeat("a", 256), false},
		{"empty", "", false},
		{"empty segment", "api::read", false},
		{"leading colon", ":api", false},
		{"trailing colon", "api:", false},
		{"colon alone", ":", false},
		{"rest in the middle", "api:**:read", false},
		{"rest twice", "**:**", false},
		{"partial wildcard", "api:re*", false},
		{"three stars", "***", false},
		{"blank", "api: read", false},
		{"tab", "api:\tread", false},
		{"newline at the end", "api:read\n", false},
		{"NUL", "api:\x00", false},
		{"DEL", "api:\x7f", false},
		{"double quote", `api:"read"`, false},
		{"backslash", `api:\read`, false},
		{"comma", "api,read", false},
		{"not ASCII", "api:lésen", false},
		{"not UTF-8", "api:\xff", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, scopeOK(tt.scope))
		})
	}
}

func TestMeets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		grants   []string
		required string
		want     bool
	}{
		{"equal", []string{"api:read"}, "api:read", true},
		{"second of two", []string{"x", "api:read"}, "api:read", true},
		{"no grants", nil, "api", false},
		{"letter case counts", []string{"API"}, "api", false},
		{"a prefix of a segment", []string{"api"}, "apix", false},
		{"a parent", []string{"api"}, "api:read", false},
		{"a child", []string{"api:read"}, "api", false},
		{"star is one segment", []string{"api:*"}, "api:read", true},
		{"star is not two", []string{"api:*"}, "api:a:b", false},
		{"star is not none", []string{"api:*"}, "api", false},
		{"star in the middle", []string{"api:*:read"}, "api:orders:read", true},
		{"rest is one", []string{"api:**"}, "api:read", true},
		{"rest is many", []string{"api:**"}, "api:a:b:c", true},
		{"rest is not none", []string{"api:**"}, "api", false},
		{"everything", []string{"**"}, "a:b", true},
		{"star and rest", []string{"*:**"}, "a", false},
		{"star and rest meet two", []string{"*:**"}, "a:b", true},

		{"a required star is literal", []string{"api:read"}, "api:*", false},
		{"a required star is met by a wildcard", []string{"api:*"}, "api:*", true},
		{"a required rest is one segment", []string{"*"}, "**", true},
		{"a required rest is met by no literal", []string{"a", "a:b"}, "**", false},
		{"a required partial wildcard", []string{"api:*"}, "api:re*", true},

		{"empty", []string{"**"}, "", false},
		{"empty against an empty grant", []string{""}, "", false},
		{"empty segment", []string{"**"}, "a::b", false},
		{"leading colon", []string{"**"}, ":a", false},
		{"trailing colon", []string{"**"}, "a:", false},
		{"blank", []string{"**"}, "a b", false},
		{"NUL", []string{"**"}, "a\x00", false},
		{"not ASCII", []string{"**"}, "é", false},
		{"comma", []string{"**"}, "a,b", false},
		{"255 bytes", []string{"**"}, strings.Repeat("a", 255), true},
		{"256 bytes", []string{"**"}, strings.Repeat("a", 256), false},

		{"malformed grant: rest in the middle", []string{"**:b"}, "**:b", false},
		{"malformed grant: partial wildcard", []string{"re*"}, "re*", false},
		{"malformed grant: partial wildcard is no wildcard", []string{"re*"}, "read", false},
		{"malformed grant: empty", []string{"", ":", "::"}, "a", false},
		{"malformed grant: too long", []string{strings.Repeat("*:", 127) + "**"}, strings.Repeat("a:", 127) + "a", false},
		{"malformed grant: trailing colon", []string{"a:*:"}, "a:b", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, meets(tt.grants, tt.required))
		})
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	require.True(t, allows(nil, nil), "identity only")
	require.True(t, allows([]string{"a:*", "b"}, []string{"b", "a:x"}))
	require.False(t, allows([]string{"a:*", "b"}, []string{"b", "c"}))
	require.False(t, allows([]string{"**"}, []string{"a", ""}), "an empty required scope is met by nothing")
}

// enumerate yields all words of 1 to depth segments over the alphabet.
func enumerate(alphabet []string, depth int) (words []string) {
	last := []string{""}
	for range depth {
		var next []string
		for _, w := range last {
			for _, seg := range alphabet {
				next = append(next, strings.TrimPrefix(w+":"+seg, ":"))
			}
		}
		words, last = append(words, next...), next
	}
	return words
}

// TestPatternWithin compares with the definition: inner is within outer when outer meets all that inner meets. "z" stands
// for every segment that no pattern names, and one segment more than the patterns have shows what "**" reaches.
func TestPatternWithin(t *testing.T) {
	t.Parallel()
	patterns := enumerate([]string{"a", "b", "*", "**", "", "a*"}, 3)
	scopes := enumerate([]string{"a", "b", "z"}, 4)
	met := map[string][]bool{}
	for _, p := range patterns {
		for _, s := range scopes {
			met[p] = append(met[p], meets([]string{p}, s))
		}
	}
	within := 0
	for _, inner := range patterns {
		for _, outer := range patterns {
			want := scopeOK(inner) && scopeOK(outer)
			for i := range scopes {
				want = want && (!met[inner][i] || met[outer][i])
			}
			if patternWithin(inner, outer) != want {
				t.Fatalf("patternWithin(%q, %q) = %v", inner, outer, !want)
			}
			if want {
				within++
			}
		}
	}
	require.Greater(t, within, 200)
}

func TestWithinCeiling(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		grants, ceiling []string
		want            bool
	}{
		{"nothing within nothing", nil, nil, true},
		{"nothing within something", []string{}, []string{"a"}, true},
		{"something within nothing", []string{"a"}, nil, false},
		{"everything", []string{"**", "a:*"}, []string{"**"}, true},
		{"the ceiling itself", []string{"api:*"}, []string{"api:*"}, true},
		{"wider", []string{"api:**"}, []string{"api:*"}, false},
		{"one of two outside", []string{"a", "b"}, []string{"a"}, false},
		{"each within another", []string{"a:x", "b"}, []string{"b", "a:*"}, true},
		{"no union of entries", []string{"**"}, []string{"*", "*:**"}, false},
		{"malformed entry grants nothing", []string{"a"}, []string{"", "a:", "**:a", "a*"}, false},
		{"malformed entry equal to the grant", []string{"a*"}, []string{"a*"}, false},
		{"malformed grant", []string{"a::b"}, []string{"**"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, withinCeiling(tt.grants, tt.ceiling))
		})
	}
}

func FuzzScopes(f *testing.F) {
	for _, s := range []string{"a", "*", "**", "a:*", "a:**", "*:**", "a:b", "", ":", "a::b", "**:a", "a*", "é", "\x00",
		strings.Repeat("a:", 127) + "a", strings.Repeat("a:", 128) + "a"} {
		f.Add(s, "a:**", "a:b:c")
		f.Add("**", s, "a:b")
		f.Add("a:*", "**", s)
	}
	f.Fuzz(func(t *testing.T, inner, outer, required string) {
		if patternWithin(inner, inner) != scopeOK(inner) {
			t.Fatalf("%q is within itself when it is well-formed", inner)
		}
		for _, p := range []string{inner, outer} {
			if meets([]string{p}, required) && !(scopeOK(p) && requiredOK(required)) {
				t.Fatalf("%q meets %q, and one of them is malformed", p, required)
			}
		}
		if scopeOK(required) && !meets([]string{required}, required) {
			t.Fatalf("%q does not meet itself", required)
		}
		if scopeOK(required) && !strings.Contains(required, "*") &&
			meets([]string{outer}, required) != patternWithin(required, outer) {
			t.Fatalf("meeting the literal %q and holding it differ in %q", required, outer)
		}
		if patternWithin(inner, outer) && meets([]string{inner}, required) && !meets([]string{outer}, required) {
			t.Fatalf("%q is within %q and meets %q, which the other does not", inner, outer, required)
		}
	})
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		prefix    netip.Prefix
		ok        bool
		canonical string
	}{
		{"IPv4", netip.MustParsePrefix("10.0.0.0/8"), true, "10.0.0.0/8"},
		{"IPv6", netip.MustParsePrefix("2001:db8::/32"), true, "2001:db8::/32"},
		{"one address", netip.MustParsePrefix("192.0.2.7/32"), true, "192.0.2.7/32"},
		{"all of IPv4", netip.MustParsePrefix("0.0.0.0/0"), true, "0.0.0.0/0"},
		{"mapped", netip.MustParsePrefix("::ffff:10.0.0.0/104"), true, "10.0.0.0/8"},
		{"mapped, all of it", netip.MustParsePrefix("::ffff:0.0.0.0/96"), true, "0.0.0.0/0"},
		{"mapped, host bits", netip.MustParsePrefix("::ffff:10.0.0.1/104"), false, "10.0.0.1/8"},
		{"mapped, too short", netip.MustParsePrefix("::ffff:0.0.0.0/95"), false, "::ffff:0.0.0.0/95"},
		{"host bits", netip.MustParsePrefix("10.0.0.1/8"), false, "10.0.0.1/8"},
		{"a zone is dropped by netip", netip.PrefixFrom(netip.MustParseAddr("fe80::%eth0"), 10), true, "fe80::/10"},
		{"the zero prefix", netip.Prefix{}, false, "invalid Prefix"},
		{"too many bits", netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33), false, "invalid Prefix"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := special.Network(tt.prefix)
			require.Equal(t, tt.canonical, got.String())
			require.Equal(t, tt.ok, networkOK(tt.prefix), "as given")
			require.Equal(t, tt.ok, networkOK(got), "canonical")
		})
	}
}

func TestAllowedFrom(t *testing.T) {
	t.Parallel()
	lan := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	tests := []struct {
		name string
		nets []netip.Prefix
		addr netip.Addr
		want bool
	}{
		{"no list", nil, netip.MustParseAddr("203.0.113.1"), true},
		{"no list, unknown address", nil, netip.Addr{}, true},
		{"inside", lan, netip.MustParseAddr("10.255.255.255"), true},
		{"outside", lan, netip.MustParseAddr("11.0.0.0"), false},
		{"mapped", lan, netip.MustParseAddr("::ffff:10.1.2.3"), true},
		{"zone", lan, netip.MustParseAddr("fe80::1%eth0"), true},
		{"unknown address", lan, netip.Addr{}, false},
		{"IPv4 is not in all of IPv6", []netip.Prefix{netip.MustParsePrefix("::/0")}, netip.MustParseAddr("::ffff:10.0.0.1"), false},
		{"an invalid network holds nothing", []netip.Prefix{{}}, netip.MustParseAddr("10.0.0.1"), false},
		{"an invalid network and an unknown address", []netip.Prefix{{}}, netip.Addr{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, allowedFrom(tt.nets, tt.addr))
		})
	}
}

func TestActorInContext(t *testing.T) {
	t.Parallel()
	_, ok := ActorFrom(t.Context())
	require.False(t, ok)

	given := Actor{ID: "ann", Roles: []string{"viewer"}, MaxScopes: []string{"a"}}
	ctx := WithActor(t.Context(), given)
	given.MaxScopes[0] = "**"
	got, ok := ActorFrom(ctx)
	require.True(t, ok)
	require.Equal(t, Actor{ID: "ann", Roles: []string{"viewer"}, MaxScopes: []string{"a"}}, got)

	got.Roles[0], got.MaxScopes[0] = "admin", "**"
	again, _ := ActorFrom(ctx)
	require.Equal(t, []string{"viewer"}, again.Roles)
	require.Equal(t, []string{"a"}, again.MaxScopes)
}

func TestGrantInContext(t *testing.T) {
	t.Parallel()
	_, ok := GrantFrom(t.Context())
	require.False(t, ok)

	type hostKey struct{}
	outer := context.WithValue(WithGrant(t.Context(), Grant{KeyID: "key_a"}), hostKey{}, 7)
	inner, cancel := context.WithTimeout(WithGrant(outer, Grant{KeyID: "key_b"}), time.Hour)
	defer cancel()
	for ctx, want := range map[context.Context]string{outer: "key_a", inner: "key_b"} {
		g, ok := GrantFrom(ctx)
		require.True(t, ok)
		require.Equal(t, want, g.KeyID)
		require.Equal(t, 7, ctx.Value(hostKey{}), "other values stay visible")
		require.NotContains(t, fmt.Sprintf("%v %s", ctx, ctx), "key_")
	}
}

func TestByRole(t *testing.T) {
	t.Parallel()
	all := []Action{ActionAdd, ActionIssue, ActionUse, ActionReveal, ActionRotate, ActionUpdate, ActionDisable,
		ActionEnable, ActionRevoke, ActionDelete, ActionRead, ActionEvents, actionOperate}
	tests := []struct {
		name  string
		roles []string
		want  []Action
	}{
		{"no role", nil, nil},
		{"an unknown role", []string{"root", "Admin", ""}, nil},
		{"viewer", []string{"viewer"}, []Action{ActionRead}},
		{"editor", []string{"editor"}, []Action{ActionAdd, ActionIssue, ActionUse, ActionRotate, ActionUpdate,
			ActionDisable, ActionEnable, ActionRevoke, ActionRead}},
		{"auditor", []string{"auditor"}, []Action{ActionRead, ActionEvents}},
		{"admin", []string{"admin"}, all},
		{"roles add up", []string{"viewer", "auditor", "unknown"}, []Action{ActionRead, ActionEvents}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []Action
			for _, a := range all {
				err := ByRole(t.Context(), Actor{Roles: tt.roles}, a, nil)
				if err == nil {
					got = append(got, a)
				} else {
					require.ErrorIs(t, err, ErrForbidden)
				}
			}
			require.Equal(t, tt.want, got)
		})
	}
}

var sinkContext context.Context

// Not parallel: testing.AllocsPerRun wants the process for itself.
func TestPolicyAllocations(t *testing.T) {
	grants, required := []string{"api:orders:read", "api:*:write", "**"}, []string{"api:orders:read", "x:y"}
	nets := []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fe80::/10")}
	addr := netip.MustParseAddr("fe80::1%eth0")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !allows(grants, required) || !allowedFrom(nets, addr) || !withinCeiling(grants, grants) {
			t.Error("refused")
		}
	}))
	background := context.Background()
	require.InDelta(t, 1, testing.AllocsPerRun(100, func() {
		sinkContext = WithGrant(background, Grant{KeyID: "key_a"})
	}), 0)
}

func BenchmarkMeets(b *testing.B) {
	for name, grants := range map[string][]string{
		"first of two":  {"api:orders:read", "api:orders:write"},
		"second of two": {"api:orders:write", "api:orders:read"},
		"wildcard":      {"api:**"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !meets(grants, "api:orders:read") {
					b.Fatal("refused")
				}
			}
		})
	}
}
