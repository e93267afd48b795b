package keyhttp_test

import (
	"bytes"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
)

// TestMisconfigured: what cannot be meant opens nothing, not even with Optional, and says so before the first request.
func TestMisconfigured(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	token := canary(env.Issue("**"))
	acme := func(*http.Request) (string, error) { return "acme", nil }
	prefixes := func(list ...string) *keyhttp.Options {
		o := &keyhttp.Options{}
		for _, s := range list {
			o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(s))
		}
		return o
	}
	for _, tt := range []struct {
		name   string
		keys   *keycote.Manager
		opts   *keyhttp.Options
		scopes []string
	}{
		{"no Manager", nil, &keyhttp.Options{}, nil},
		{"a Manager that is none", &keycote.Manager{}, &keyhttp.Options{}, nil},
		{"a Manager that is none, and tenants", &keycote.Manager{}, &keyhttp.Options{Tenant: acme}, nil},
		{"an empty scope", env.Manager, &keyhttp.Options{}, []string{"orders:read", ""}},
		{"an empty segment", env.Manager, &keyhttp.Options{}, []string{"orders:"}},
		{"a wildcard", env.Manager, &keyhttp.Options{}, []string{"orders:*"}},
		{"everything", env.Manager, &keyhttp.Options{}, []string{"**"}},
		{"scopes in one string", env.Manager, &keyhttp.Options{}, []string{"orders:read orders:write"}},
		{"a quotation mark", env.Manager, &keyhttp.Options{}, []string{`orders"`}},
		{"a scope that is too long", env.Manager, &keyhttp.Options{}, []string{strings.Repeat("s", 256)}},
		{"a header with a colon", env.Manager, &keyhttp.Options{Header: "X-API-Key:"}, nil},
		{"the cookie", env.Manager, &keyhttp.Options{Header: "cookie"}, nil},
		{"the host", env.Manager, &keyhttp.Options{Header: "Host"}, nil},
		{"the connection", env.Manager, &keyhttp.Options{Header: "connection"}, nil},
		{"a proxy's own credential", env.Manager, &keyhttp.Options{Header: "Proxy-Authorization"}, nil},
		{"a length", env.Manager, &keyhttp.Options{Header: "Content-Length"}, nil},
		{"an encoding", env.Manager, &keyhttp.Options{Header: "transfer-encoding"}, nil},
		{"addresses in TE", env.Manager, &keyhttp.Options{ForwardedHeader: "TE"}, nil},
		{"addresses in Upgrade", env.Manager, &keyhttp.Options{ForwardedHeader: "Upgrade"}, nil},
		{"a view of no tenant", env.Manager.Tenant(""), &keyhttp.Options{}, nil},
		{"a view of no tenant, and tenants", env.Manager.Tenant(""), &keyhttp.Options{Tenant: acme}, nil},
		{"a view of one tenant, and tenants", env.Manager.Tenant("acme"), &keyhttp.Options{Tenant: acme}, nil},
		{"addresses in Authorization", env.Manager, &keyhttp.Options{ForwardedHeader: "authorization"}, nil},
		{"addresses in both, and no other header", env.Manager, &keyhttp.Options{
			Header: "Authorization", ForwardedHeader: "Authorization",
		}, nil},
		{"addresses in the cookie", env.Manager, &keyhttp.Options{ForwardedHeader: "Cookie"}, nil},
		{"addresses in the host", env.Manager, &keyhttp.Options{ForwardedHeader: "host"}, nil},
		{"one header for both", env.Manager, &keyhttp.Options{Header: "X-Client", ForwardedHeader: "x-client"}, nil},
		{"a forwarded header with a blank", env.Manager, &keyhttp.Options{ForwardedHeader: "X Forwarded"}, nil},
		{"a realm with a quotation mark", env.Manager, &keyhttp.Options{Realm: `the "shop"`}, nil},
		{"a realm with a line break", env.Manager, &keyhttp.Options{Realm: "the\r\nshop"}, nil},
		{"host bits", env.Manager, prefixes("10.0.0.1/8"), nil},
		{"everybody", env.Manager, prefixes("10.0.0.0/8", "0.0.0.0/0"), nil},
		{"everybody, six", env.Manager, prefixes("::/0"), nil},
		{"everybody, mapped", env.Manager, prefixes("::ffff:0.0.0.0/96"), nil},
		{"a zero network", env.Manager, &keyhttp.Options{TrustedProxies: make([]netip.Prefix, 1)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			tt.opts.Optional, tt.opts.Logger = true, testLogger(&log)
			h := keyhttp.Require(tt.keys, tt.opts, tt.scopes...)(whoever)
			require.Contains(t, log.String(), "cannot be meant")
			for _, edit := range []func(*http.Request){nil, headers("Authorization: Bearer " + token)} {
				w := ask(t, h, edit)
				require.Equal(t, http.StatusInternalServerError, w.Code)
				require.Contains(t, w.Body.String(), `"urn:keycote:problem:internal"`)
			}
			_, ok := keyhttp.Scopes(h)
			require.False(t, ok)
		})
	}
	require.Equal(t, http.StatusInternalServerError, ask(t, keyhttp.Require(env.Manager, nil)(nil), headers("X-API-Key: "+token)).Code)

	var log bytes.Buffer
	view := env.Manager.Tenant("acme")
	_, acmes := issueIn(t, view, keycote.IssueParams{Name: "shop"})
	for name, h := range map[string]http.Handler{
		"a view":  keyhttp.Require(view, &keyhttp.Options{Logger: testLogger(&log)})(whoever),
		"tenants": keyhttp.Require(env.Manager, &keyhttp.Options{Logger: testLogger(&log), Tenant: acme})(whoever),
	} {
		require.Equal(t, http.StatusOK, ask(t, h, headers("X-API-Key: "+acmes)).Code, name)
	}
	require.Empty(t, log.String())
}

// TestMisconfiguredSaysAll: one start is enough to learn of everything.
func TestMisconfiguredSaysAll(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	keyhttp.Require(nil, &keyhttp.Options{
		Logger: testLogger(&told), Realm: "the\r\nshop", Header: "X API", ForwardedHeader: "Te",
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("::/0")},
	}, "orders:*", "", "orders:read")
	for _, said := range []string{
		"there is no Manager", "the realm holds", `X API`, "in Te where", "10.0.0.1/8", "::/0", `orders:*`, "no scope that",
	} {
		require.Contains(t, told.String(), said)
	}
	require.NotContains(t, told.String(), "orders:read")
	require.NotContains(t, told.String(), "one header", "neither is known")
}

// TestMisconfiguredWithoutLogger: the program's own logger hears of what can never work, once, and of nothing else. It
// sets that logger, so it runs alone.
func TestMisconfiguredWithoutLogger(t *testing.T) {
	before, out, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	var said bytes.Buffer
	slog.SetDefault(testLogger(&said))
	env := keytest.New(t, nil)
	h := keyhttp.Require(env.Manager, nil, "orders:*")(whoever)
	require.Equal(t, 1, strings.Count(said.String(), "\n"), said.String())
	require.Contains(t, said.String(), "orders:*")
	keyhttp.Require(nil, &keyhttp.Options{})
	require.Equal(t, 2, strings.Count(said.String(), "\n"), said.String())
	said.Reset()
	require.Equal(t, http.StatusInternalServerError, ask(t, h, nil).Code)
	h = keyhttp.Require(env.Manager, nil, "orders:read")(whoever)
	require.Equal(t, http.StatusUnauthorized, ask(t, h, nil).Code)
	token := canary(env.Issue("**"))
	env.Break(nil, keytest.FaultStore)
	require.Equal(t, http.StatusServiceUnavailable, ask(t, h, headers("X-API-Key: "+token)).Code)
	require.Empty(t, said.String(), "no Logger is silent")
}

func TestScopes(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	read := keyhttp.Require(env.Manager, nil, "orders:read")
	maybe := keyhttp.Require(env.Manager, &keyhttp.Options{Optional: true}, "orders:write", "orders:read")
	for _, tt := range []struct {
		name   string
		h      http.Handler
		scopes []string
		ok     bool
	}{
		{"one", read(whoever), []string{"orders:read"}, true},
		{"any key", keyhttp.Require(env.Manager, nil)(whoever), []string{}, true},
		{"nested", read(maybe(whoever)), []string{"orders:read", "orders:write"}, true},
		{"nested the other way", maybe(read(whoever)), []string{"orders:write", "orders:read"}, true},
		{"optional", maybe(whoever), nil, false},
		{"open", whoever, nil, false},
		{"nothing", nil, nil, false},
		{"a mux with a protected route", func() http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/", read(whoever))
			return mux
		}(), nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			scopes, ok := keyhttp.Scopes(tt.h)
			require.Equal(t, tt.ok, ok)
			require.Equal(t, tt.scopes, scopes)
		})
	}
	h := read(whoever)
	scopes, _ := keyhttp.Scopes(h)
	scopes[0] = "nothing"
	again, _ := keyhttp.Scopes(h)
	require.Equal(t, []string{"orders:read"}, again, "what was handed out is a copy")
	token := env.Issue("orders:read", "orders:write")
	require.Equal(t, http.StatusOK, ask(t, read(maybe(whoever)), headers("X-API-Key: "+token)).Code)
}
