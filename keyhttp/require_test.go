package keyhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
	"github.com/keycote/keycote/memstore"
)

// whoever answers with the id of the key that a request came with.
var whoever = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	grant, ok := keyhttp.FromContext(r.Context())
	fmt.Fprintf(w, "%v %s", ok, grant.KeyID)
})

// ask sends a GET of /orders from 203.0.113.7 that edit has seen.
func ask(t *testing.T, h http.Handler, edit func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/orders", nil)
	r.RemoteAddr = "203.0.113.7:4711"
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Fprintln(suite, w.Code, w.Header(), w.Body)
	return w
}

// headers sets lines of "Name: value", each a line of its own.
func headers(lines ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
	}
}

func issueIn(t *testing.T, m *keycote.Manager, p keycote.IssueParams) (id, token string) {
	t.Helper()
	p.Scopes = []string{"orders:read"}
	key, secret, err := m.Issue(t.Context(), p)
	require.NoError(t, err)
	return key.ID, canary(secret.Reveal())
}

// TestOneRefusal sends every kind of bad key over a real connection, and compares what comes back byte for byte.
func TestOneRefusal(t *testing.T) {
	t.Parallel()
	env, stranger := keytest.New(t, nil), keytest.New(t, nil)
	acme := env.Manager.Tenant("acme")
	ctx := t.Context()
	var log bytes.Buffer
	server := httptest.NewServer(keyhttp.Require(env.Manager, &keyhttp.Options{
		Realm:  "orders",
		Logger: testLogger(&log),
		Tenant: func(r *http.Request) (string, error) {
			switch name := r.Header.Get("X-Tenant"); name {
			case "":
				return "acme", nil
			case "empty":
				return "", nil
			case "malformed":
				return " acme", nil
			case "failing":
				return "acme", fmt.Errorf("no tenant for %v", r.Header)
			default:
				return name, nil
			}
		},
	}, "orders:read")(whoever))
	t.Cleanup(server.Close)

	goodID, good := issueIn(t, acme, keycote.IssueParams{Name: "good"})
	_, second := issueIn(t, acme, keycote.IssueParams{Name: "second"})
	chosen := canary("Tr4vel,light=2031!")
	_, _ = issueIn(t, acme, keycote.IssueParams{Name: "chosen", Secret: keycote.NewSecret(chosen)})
	_, elsewhere := issueIn(t, acme, keycote.IssueParams{
		Name: "elsewhere", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
	_, expired := issueIn(t, acme, keycote.IssueParams{Name: "expired", ExpiresAt: env.Clock.Now().Add(time.Hour)})
	env.Clock.Advance(time.Hour)
	revokedID, revoked := issueIn(t, acme, keycote.IssueParams{Name: "revoked"})
	_, err := acme.Revoke(ctx, revokedID, "")
	require.NoError(t, err)
	disabledID, disabled := issueIn(t, acme, keycote.IssueParams{Name: "disabled"})
	_, err = acme.Disable(ctx, disabledID, "")
	require.NoError(t, err)
	deletedID, deleted := issueIn(t, acme, keycote.IssueParams{Name: "deleted"})
	require.NoError(t, acme.Delete(ctx, deletedID, ""))
	rotatedID, rotated := issueIn(t, acme, keycote.IssueParams{Name: "rotated"})
	_, _, err = acme.Rotate(ctx, rotatedID, keycote.RotateParams{})
	require.NoError(t, err)
	_, umbra := issueIn(t, env.Manager.Tenant("umbra"), keycote.IssueParams{Name: "umbra's"})
	_, unnamed := issueIn(t, env.Manager, keycote.IssueParams{Name: "the unnamed tenant's"})
	_, forged := issueIn(t, stranger.Manager.Tenant("acme"), keycote.IssueParams{Name: "made elsewhere"})
	tamperedID, tampered := issueIn(t, acme, keycote.IssueParams{Name: "tampered"})
	rec, err := env.Store.Get(ctx, "acme", tamperedID)
	require.NoError(t, err)
	rec.Body = bytes.Clone(rec.Body)
	rec.Body[len(rec.Body)-1] ^= 1
	rec.Revision++
	require.NoError(t, env.Store.Commit(ctx, keycote.Batch{ID: "tampering", Update: []keycote.Record{rec}}))
	kept, err := env.Store.Get(ctx, "acme", goodID)
	require.NoError(t, err)

	raw := func(target string, lines ...string) string {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: orders.example\r\nConnection: close\r\n"+
			strings.Join(append(lines, "\r\n"), "\r\n"))
		require.NoError(t, err)
		answer, err := io.ReadAll(bufio.NewReader(conn))
		require.NoError(t, err)
		_, err = suite.Write(answer)
		require.NoError(t, err)
		return regexp.MustCompile("\r\nDate: [^\r]*").ReplaceAllString(string(answer), "")
	}
	for _, carried := range [][]string{
		{"Authorization: Bearer " + good}, {"authorization: bEARER   " + good}, {"X-API-Key: " + good},
		{"Authorization: Bearer " + chosen}, {"X-API-Key: " + chosen}, {"Authorization: Basic dTpw", "X-API-Key: " + good},
	} {
		require.Contains(t, raw("/orders", carried...), "HTTP/1.1 200 OK", carried)
	}

	first := raw("/orders", "Authorization: Bearer "+deleted)
	require.Contains(t, first, "HTTP/1.1 401 Unauthorized\r\n")
	require.Contains(t, first, "\r\nWww-Authenticate: Bearer realm=\"orders\"\r\n")
	bad := map[string]string{
		"unknown": "correct-horse-battery", "forged": forged, "mistyped": good[:len(good)-1] + "~", "cut": good[:len(good)-1],
		"another prefix": "xx" + good[2:], "revoked": revoked, "disabled": disabled, "expired": expired,
		"ended by rotation": rotated, "another network's": elsewhere, "another tenant's": umbra, "no tenant's": unnamed,
		"tampered": tampered, "too long": good + strings.Repeat("x", 5000), "two as one": good + "," + second,
		"two in one line": good + ", " + second, "a blank inside": good + " x", "an id": goodID,
		"a digest": hex.EncodeToString(kept.Digests[0]), "a seal": hex.EncodeToString(kept.Seal), "empty": "",
	}
	tests := map[string][]string{
		"missing": nil, "an empty line": {"Authorization: "}, "Basic": {"Authorization: Basic " + good}, "no scheme": {"Authorization: " + good},
		"a longer scheme": {"Authorization: Bearerish " + good},
		"a cookie":        {"Cookie: X-API-Key=" + good + "; Authorization=Bearer " + good},
		"another header":  {"X-Auth-Key: " + good},
		"the proxy's":     {"Proxy-Authorization: Bearer " + good},
		"Bearer twice":    {"Authorization: Bearer " + good, "Authorization: Bearer " + good},
		"Basic, Bearer":   {"Authorization: Basic dTpw", "Authorization: Bearer " + good},
		"header twice":    {"X-API-Key: " + good, "x-api-key: " + good},
		"both":            {"Authorization: Bearer " + good, "X-API-Key: " + good},
		"both, one empty": {"Authorization: Bearer " + good, "X-API-Key:"},
		"joined":          {"Authorization: Bearer " + good + ", Bearer " + second},
		"of no tenant":    {"X-Tenant: empty", "X-API-Key: " + good},
		"of a bad tenant": {"X-Tenant: malformed", "X-API-Key: " + good},
		"of an error":     {"X-Tenant: failing", "X-API-Key: " + good},
		"of a new tenant": {"X-Tenant: nobody", "X-API-Key: " + good},
	}
	for name, token := range bad {
		tests[name+", Bearer"] = []string{"Authorization: Bearer " + token}
		tests[name+", header"] = []string{"X-API-Key: " + token}
	}
	for name, lines := range tests {
		require.Equal(t, first, raw("/orders", lines...), name)
	}
	for _, query := range []string{"access_token", "api_key", "X-API-Key", "key", "token"} {
		require.Equal(t, first, raw("/orders?"+query+"="+good), query)
	}
	require.Equal(t, first, raw("/orders", "Content-Type: application/x-www-form-urlencoded",
		fmt.Sprintf("Content-Length: %d\r\n\r\naccess_token=%s", len("access_token="+good), good)), "in the body")
	chinese := raw("/orders", "Accept-Language: zh-CN", "X-API-Key: "+deleted)
	require.NotEqual(t, first, chinese)
	require.Equal(t, chinese, raw("/orders", "Accept-Language: zh-CN", "X-API-Key: "+revoked), "in any language")
	require.Empty(t, log.String(), "a bad key is not the operator's concern, and what a Tenant's error quotes is not logged")
}

// TestUnavailable: an outage must not read as an unknown key, nor show what is wrong behind it.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	kek, err := keycote.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
	require.NoError(t, err)
	store := &away{Store: memstore.New()}
	keys, err := keycote.New(t.Context(), store, kek, nil)
	require.NoError(t, err)
	_, token := issueIn(t, keys, keycote.IssueParams{Name: "shop"})
	var log bytes.Buffer
	tenant := func(*http.Request) (string, error) {
		return "", fmt.Errorf("the directory: %w", keycote.ErrUnavailable)
	}
	options := &keyhttp.Options{Logger: testLogger(&log)}
	h := keyhttp.Require(keys, options, "orders:read")(whoever)
	require.Equal(t, http.StatusOK, ask(t, h, headers("X-API-Key: "+token)).Code)

	store.err = errors.New("dial tcp 10.1.2.3:5432: connection refused")
	options.Tenant = tenant
	for name, h := range map[string]http.Handler{
		"the store":    h,
		"the tenant's": keyhttp.Require(keys, options, "orders:read")(whoever),
	} {
		log.Reset()
		w := ask(t, h, headers("X-API-Key: "+token))
		require.Equal(t, http.StatusServiceUnavailable, w.Code, name)
		require.Empty(t, w.Header().Get("WWW-Authenticate"), name)
		require.Contains(t, w.Body.String(), `"type":"urn:keycote:problem:unavailable"`, name)
		require.NotContains(t, w.Body.String(), "10.1.2.3", name)
		require.Contains(t, log.String(), "unavailable", name)
		require.NotContains(t, log.String(), token, name)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w := ask(t, h, func(r *http.Request) {
		*r = *r.WithContext(gone)
		r.Header.Set("X-API-Key", token)
	})
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
}

// away is a store that can be cut off, and counts how often it is asked for a value.
type away struct {
	keycote.Store
	err   error
	reads atomic.Int64
}

func (a *away) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	a.reads.Add(1)
	if a.err != nil {
		return keycote.Record{}, a.err
	}
	return a.Store.Lookup(ctx, digests)
}

func TestRequire(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	read, both, none := canary(env.Issue("orders:read")), canary(env.Issue("orders:**")), canary(env.Issue())
	for _, tt := range []struct {
		name      string
		opts      *keyhttp.Options
		scopes    []string
		lines     []string
		status    int
		challenge string
	}{
		{"a scope that is granted", nil, []string{"orders:read"}, []string{"X-API-Key: " + read}, 200, ""},
		{"two of them", nil, []string{"orders:read", "orders:write"}, []string{"X-API-Key: " + both}, 200, ""},
		{"any key", nil, nil, []string{"X-API-Key: " + none}, 200, ""},
		{"no scope", nil, []string{"orders:read"}, []string{"X-API-Key: " + none}, 403,
			`Bearer realm="api", error="insufficient_scope", scope="orders:read"`},
		{"half of what is needed", &keyhttp.Options{Realm: "the shop"}, []string{"orders:read", "orders:write"},
			[]string{"Authorization: Bearer " + read}, 403,
			`Bearer realm="the shop", error="insufficient_scope", scope="orders:read orders:write"`},
		{"a header of the host's", &keyhttp.Options{Header: "x-shop-key"}, nil, []string{"X-Shop-Key: " + read}, 200, ""},
		{"the usual one then", &keyhttp.Options{Header: "x-shop-key"}, nil, []string{"X-API-Key: " + read}, 401,
			`Bearer realm="api"`},
		{"the usual one beside it", &keyhttp.Options{Header: "x-shop-key"}, nil,
			[]string{"X-Shop-Key: " + read, "X-API-Key: whatever"}, 200, ""},
		{"Bearer alone", &keyhttp.Options{Header: "authorization"}, nil, []string{"Authorization: Bearer " + read}, 200, ""},
		{"Bearer alone, in a header", &keyhttp.Options{Header: "authorization"}, nil, []string{"X-API-Key: " + read}, 401,
			`Bearer realm="api"`},
		{"Bearer alone, no scheme", &keyhttp.Options{Header: "authorization"}, nil, []string{"Authorization: " + read}, 401,
			`Bearer realm="api"`},
		{"optional, a key", &keyhttp.Options{Optional: true}, nil, []string{"X-API-Key: " + read}, 200, ""},
		{"optional, a wrong key", &keyhttp.Options{Optional: true}, nil, []string{"X-API-Key: " + read + "x"}, 401,
			`Bearer realm="api"`},
		{"optional, an empty key", &keyhttp.Options{Optional: true}, nil, []string{"Authorization: Bearer"}, 401,
			`Bearer realm="api"`},
		{"optional, two keys", &keyhttp.Options{Optional: true}, nil,
			[]string{"X-API-Key: " + read, "Authorization: Bearer " + read}, 401, `Bearer realm="api"`},
		{"optional, too little", &keyhttp.Options{Optional: true}, []string{"orders:write"}, []string{"X-API-Key: " + read}, 403,
			`Bearer realm="api", error="insufficient_scope", scope="orders:write"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := ask(t, keyhttp.Require(env.Manager, tt.opts, tt.scopes...)(whoever), headers(tt.lines...))
			require.Equal(t, tt.status, w.Code, w.Body)
			require.Equal(t, tt.challenge, w.Header().Get("WWW-Authenticate"))
			require.Equal(t, tt.status == 200, strings.HasPrefix(w.Body.String(), "true key_"), w.Body)
		})
	}
	optional := keyhttp.Require(env.Manager, &keyhttp.Options{Optional: true}, "orders:read")(whoever)
	require.Equal(t, "false ", ask(t, optional, nil).Body.String())
	require.Equal(t, "false ", ask(t, optional, headers("Authorization: Basic dTpw")).Body.String())
}

// TestGrant shows what a handler and the use log learn of a request.
func TestGrant(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	acme := env.Manager.Tenant("acme")
	id, token := issueIn(t, acme, keycote.IssueParams{
		Name: "shop", App: "shop", Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
	})
	options := &keyhttp.Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Tenant:         func(r *http.Request) (string, error) { return strings.TrimSuffix(r.Host, ".shop.example"), nil },
	}
	require10 := keyhttp.Require(env.Manager, options, "orders:read")
	options.TrustedProxies[0], options.Tenant = netip.Prefix{}, nil // a copy was made
	var got keycote.Grant
	mux := http.NewServeMux()
	mux.Handle("GET /orders/{id}", require10(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, _ = keyhttp.FromContext(r.Context())
	})))
	request := func(edit func(*http.Request)) int {
		return ask(t, mux, func(r *http.Request) {
			r.URL.Path, r.Host, r.RemoteAddr = "/orders/17", "acme.shop.example", "10.0.0.1:4711"
			headers("Authorization: Bearer "+token, "User-Agent: till/2", "X-Forwarded-For: 192.0.2.1, 198.51.100.9")(r)
			edit(r)
		}).Code
	}
	require.Equal(t, http.StatusOK, request(func(*http.Request) {}))
	require.Equal(t, []any{id, "acme", "shop"}, []any{got.KeyID, got.Tenant, got.App})
	require.True(t, got.Allows("orders:read"))
	require.Equal(t, http.StatusUnauthorized, request(func(r *http.Request) { r.Host = "umbra.shop.example" }))
	require.Equal(t, http.StatusUnauthorized, request(func(r *http.Request) { r.RemoteAddr = "203.0.113.7:4711" }),
		"a stranger's word on where he is")

	require.NoError(t, env.Manager.Flush(t.Context()))
	rows, err := env.Store.Usage(t.Context(), keycote.UsageQuery{Tenant: "acme", KeyID: id, Until: env.Clock.Now().Add(time.Hour), Limit: 10})
	require.NoError(t, err)
	require.Len(t, rows, 2)
	for _, row := range rows {
		want := map[keycote.Code]string{"": "198.51.100.9", keycote.ErrAddress: "203.0.113.7"}[row.Outcome]
		require.Equal(t, []string{want, "GET /orders/{id}", "till/2"}, []string{row.Addr, row.Route, row.Agent})
	}
}

// TestAllocations is half of F3: beyond what the handler does, a request that passes costs one context and one request.
// It counts allocations, so it runs alone.
func TestAllocations(t *testing.T) {
	env := keytest.New(t, &keycote.Options{MaxStale: time.Hour})
	token := canary(env.Issue("orders:read"))
	h := keyhttp.Require(env.Manager, &keyhttp.Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ForwardedHeader: "Forwarded",
	}, "orders:read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, line := range []string{"Authorization: Bearer " + token, "X-API-Key: " + token} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/orders", nil)
		r.RemoteAddr = "10.0.0.1:4711"
		headers(line, "User-Agent: till/2", `Forwarded: for="[2001:db8::1]:443";host="a,b", for=10.0.0.2`)(r)
		w := &sink{http.Header{}}
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }), 2.0, line[:9])
	}
}

func TestSuperseded(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	id, first := issueIn(t, env.Manager, keycote.IssueParams{Name: "shop"})
	h := keyhttp.Require(env.Manager, nil, "orders:read")(whoever)
	fields := func(token string) []string {
		w := ask(t, h, headers("Authorization: Bearer "+token))
		require.Equal(t, http.StatusOK, w.Code)
		return []string{w.Header().Get("Deprecation"), w.Header().Get("Sunset")}
	}
	require.Equal(t, []string{"", ""}, fields(first))
	env.Clock.Advance(time.Hour)
	_, second, err := env.Manager.Rotate(t.Context(), id, keycote.RotateParams{Overlap: 24 * time.Hour})
	require.NoError(t, err)
	rotated := env.Clock.Now()
	env.Clock.Advance(time.Minute)
	require.Equal(t, []string{
		fmt.Sprintf("@%d", rotated.Unix()), rotated.Add(24 * time.Hour).UTC().Format(http.TimeFormat),
	}, fields(first))
	require.Equal(t, []string{"", ""}, fields(second.Reveal()))
}

// TestPrivate: shared caches do not keep an answer to Authorization (RFC 9111, 3.5), but they know no other header.
func TestPrivate(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	token := canary(env.Issue())
	plain := keyhttp.Require(env.Manager, nil)(whoever)
	public := keyhttp.Require(env.Manager, nil)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Cache-Control", "max-age=60")
	}))
	require.Equal(t, []string{"private"}, ask(t, plain, headers("X-API-Key: "+token)).Header()["Cache-Control"])
	require.Empty(t, ask(t, plain, headers("Authorization: Bearer "+token)).Header()["Cache-Control"])
	require.Equal(t, []string{"private", "max-age=60"}, ask(t, public, headers("X-API-Key: "+token)).Header()["Cache-Control"])
	require.Equal(t, []string{"private"}, ask(t, plain, headers("X-API-Key: "+token)).Header()["Cache-Control"])
	strict := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		plain.ServeHTTP(w, r)
	})
	require.Equal(t, []string{"no-store"}, ask(t, strict, headers("X-API-Key: "+token)).Header()["Cache-Control"])
}

// TestVary: what an Optional route answers depends on the key, and caches are told so.
func TestVary(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	token := canary(env.Issue())
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Add("Vary", "Accept") })
	vary := func(o keyhttp.Options, next http.Handler, lines ...string) []string {
		w := httptest.NewRecorder()
		w.Header().Set("Vary", "Origin")
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/orders", nil)
		headers(lines...)(r)
		gate := keyhttp.Require(env.Manager, &o)(next)
		gate.ServeHTTP(w, r)
		plain := ask(t, gate, headers(lines...)).Header().Values("Vary")
		require.Equal(t, append([]string{"Origin"}, plain...), w.Header().Values("Vary"))
		require.Equal(t, plain, ask(t, gate, headers(lines...)).Header().Values("Vary"), "and not once more with each answer")
		return plain
	}
	optional := keyhttp.Options{Optional: true}
	both := "Authorization, X-Api-Key"
	require.Equal(t, []string{both}, vary(optional, whoever))
	require.Equal(t, []string{both, "Accept"}, vary(optional, h))
	require.Equal(t, []string{both, "Accept"}, vary(optional, h, "Authorization: Bearer "+token))
	require.Equal(t, []string{both, "Accept"}, vary(optional, h, "X-API-Key: "+token))
	require.Equal(t, []string{"Authorization, X-Shop-Key"}, vary(keyhttp.Options{Optional: true, Header: "x-shop-key"}, whoever))
	require.Equal(t, []string{"Authorization"}, vary(keyhttp.Options{Optional: true, Header: "Authorization"}, whoever))
	require.Empty(t, vary(keyhttp.Options{}, whoever, "X-API-Key: "+token))
}
