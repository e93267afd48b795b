package keyhttp_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
)

// sink is a ResponseWriter that costs nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}

func benchRequest(b *testing.B) *http.Request {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), "GET", "/orders", nil)
	r.RemoteAddr, r.Pattern = "203.0.113.7:4711", "GET /orders"
	r.Header.Set("User-Agent", "bench/1")
	return r
}

// BenchmarkRequire is F3 of docs/performance.md: what Require adds to a bare handler, with a verify cache. The key is in
// the cache, so "verify" is the part of it that is not HTTP.
func BenchmarkRequire(b *testing.B) {
	env := keytest.New(b, &keycote.Options{MaxStale: time.Hour})
	token := env.Issue("orders:read")
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
	gated := keyhttp.Require(env.Manager, &keyhttp.Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}, "orders:read")(bare)
	plain, keyed, named, proxied := benchRequest(b), benchRequest(b), benchRequest(b), benchRequest(b)
	keyed.Header.Set("Authorization", "Bearer "+token)
	named.Header.Set("X-API-Key", token)
	proxied.Header.Set("Authorization", "Bearer "+token)
	proxied.RemoteAddr = "10.0.0.1:4711"
	proxied.Header.Set("X-Forwarded-For", "198.51.100.3, 203.0.113.7, 10.0.0.2")
	serve := func(h http.Handler, r *http.Request) func(*testing.B) {
		return func(b *testing.B) {
			w := &sink{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
			require.Empty(b, w.header.Get("Www-Authenticate"))
		}
	}
	b.Run("limit/bare", serve(bare, plain))
	b.Run("limit/verify", func(b *testing.B) {
		want := keycote.Request{
			Scopes: []string{"orders:read"}, Addr: netip.MustParseAddr("203.0.113.7"), Route: "GET /orders", UserAgent: "bench/1",
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := env.Manager.Verify(b.Context(), token, want); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("limit/context", func(b *testing.B) { // what cannot be had for less: a context, and a request that holds it
		w, grant := &sink{http.Header{}}, keycote.Grant{KeyID: "key_1"}
		b.ReportAllocs()
		for b.Loop() {
			bare.ServeHTTP(w, plain.WithContext(keycote.WithGrant(plain.Context(), grant)))
		}
	})
	b.Run("bearer", serve(gated, keyed))
	b.Run("header", serve(gated, named))
	b.Run("proxied", serve(gated, proxied))
}

// BenchmarkRefusals compares the time of the kinds of refusal, interleaved, with that of a genuine value whose record is
// gone: what a client might learn from a clock. It reports the ratio of the medians for each. A value that was not made
// here is refused without a read, and may be faster: whoever sends it knows that he made it up. So are two keys, and none.
func BenchmarkRefusals(b *testing.B) {
	env := keytest.New(b, nil)
	ctx, acme := b.Context(), env.Manager.Tenant("acme")
	issue := func(name string, p keycote.IssueParams) (id, token string) {
		p.Name, p.Scopes = name, []string{"orders:read"}
		key, secret, err := acme.Issue(ctx, p)
		require.NoError(b, err)
		return key.ID, secret.Reveal()
	}
	deletedID, deleted := issue("deleted", keycote.IssueParams{})
	require.NoError(b, acme.Delete(ctx, deletedID, ""))
	revokedID, revoked := issue("revoked", keycote.IssueParams{})
	_, err := acme.Revoke(ctx, revokedID, "")
	require.NoError(b, err)
	disabledID, disabled := issue("disabled", keycote.IssueParams{})
	_, err = acme.Disable(ctx, disabledID, "")
	require.NoError(b, err)
	_, expired := issue("expired", keycote.IssueParams{ExpiresAt: env.Clock.Now().Add(time.Hour)})
	env.Clock.Advance(time.Hour)
	_, elsewhere := issue("elsewhere", keycote.IssueParams{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})

	_, umbras, err := env.Manager.Tenant("umbra").Issue(ctx, keycote.IssueParams{Name: "umbra's"})
	require.NoError(b, err)

	kinds := []struct{ name, tenant, token string }{
		{"deleted", "acme", deleted}, {"revoked", "acme", revoked}, {"disabled", "acme", disabled},
		{"expired", "acme", expired}, {"elsewhere", "acme", elsewhere}, {"another tenant's", "acme", umbras.Reveal()},
		{"an unknown tenant's", "nobody", deleted}, {"no tenant's", "failing", deleted},
		{"a malformed tenant's", "malformed", deleted},
		{"mistyped", "acme", deleted[:len(deleted)-1] + "~"}, {"missing", "acme", ""}, {"two", "acme", deleted},
	}
	handler := keyhttp.Require(env.Manager, &keyhttp.Options{
		Logger: slog.New(slog.DiscardHandler), Tenant: tenantOf,
	}, "orders:read")(http.NotFoundHandler())
	requests := make([]*http.Request, len(kinds))
	for i, kind := range kinds {
		requests[i] = benchRequest(b)
		requests[i].Header.Set("X-Tenant", kind.tenant)
		if kind.token != "" {
			requests[i].Header.Set("Authorization", "Bearer "+kind.token)
		}
		if kind.name == "two" {
			requests[i].Header.Set("X-API-Key", kind.token)
		}
	}
	times := make([][]time.Duration, len(kinds))
	for n := 0; b.Loop(); n++ {
		for i := range kinds {
			at := (i + n) % len(kinds) // nobody always comes after the same one
			w := &sink{http.Header{}}
			start := time.Now()
			handler.ServeHTTP(w, requests[at])
			times[at] = append(times[at], time.Since(start))
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2])
	}
	base := median(times[0])
	for i, kind := range kinds[1:] {
		b.ReportMetric(median(times[i+1])/base, strings.ReplaceAll(kind.name, " ", "-")+"/deleted")
	}
}
