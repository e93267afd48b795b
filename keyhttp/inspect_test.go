package keyhttp

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// TestInspect walks an endpoint that is well, and one that fails at each step.
func TestInspect(t *testing.T) {
	t.Parallel()
	server, roots := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("a word to whoever reads this"))
	})
	failing, failingRoots := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, silent.Close())
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	resolver := newDNS(t, func(name string, _ int) []netip.Addr {
		switch name {
		case "example.com", "other.test":
			return addrs("127.0.0.1")
		case "inside.test":
			return addrs("10.0.0.1", "169.254.169.254")
		case "half.test":
			return addrs("10.0.0.1", "127.0.0.1")
		}
		return nil
	})
	guard := &Guard{AllowNets: loopback, RootCAs: roots, Resolver: resolver, ConnectTimeout: 2 * time.Second}
	skipped := "skipped not_checked"
	for _, c := range []struct {
		name, endpoint string
		guard          *Guard
		want           []string // name, guard, tcp, tls, http
	}{
		{"well", server.URL, guard, []string{"ok resolved", "ok ok", "ok connected", "ok certificate_ok", "ok answered"}},
		{"by name", "https://example.com:" + port, guard, []string{"ok resolved", "ok ok", "ok connected", "ok certificate_ok", "ok answered"}},
		{"in clear", plain.URL, guard, []string{"ok resolved", "ok ok", "ok connected", skipped, "ok answered"}},
		{"no such host", "https://nowhere.test", guard, []string{"failed no_such_host", skipped, skipped, skipped, skipped}},
		{"private", "https://inside.test", guard, []string{"ok resolved", "failed refused_address", skipped, skipped, skipped}},
		{"half private", "https://half.test:" + port, guard,
			[]string{"ok resolved", "warning refused_address", "ok connected", "failed certificate_bad", skipped}},
		{"private by its number", "https://127.0.0.1", nil, []string{"ok resolved", "failed refused_address", skipped, skipped, skipped}},
		{"a port that is closed", "https://example.com:22", guard, []string{"ok resolved", "failed not_allowed", skipped, skipped, skipped}},
		{"nobody there", "https://" + silent.Addr().String(), guard, []string{"ok resolved", "ok ok", "failed no_connection", skipped, skipped}},
		{"another's certificate", "https://other.test:" + port, guard,
			[]string{"ok resolved", "ok ok", "ok connected", "failed certificate_bad", skipped}},
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), guard,
			[]string{"ok resolved", "ok ok", "ok connected", "failed no_tls", skipped}},
		{"a failing server", failing.URL, &Guard{AllowNets: loopback, RootCAs: failingRoots},
			[]string{"ok resolved", "ok ok", "ok connected", "ok certificate_ok", "warning server_error"}},
		{"another scheme", "ftp://example.com", guard, []string{skipped, "failed scheme", skipped, skipped, skipped}},
		{"no URL", "://", guard, []string{skipped, "failed scheme", skipped, skipped, skipped}},
		{"with a password", "https://a:b@example.com", guard, []string{skipped, "failed user_info", skipped, skipped, skipped}},
		{"by a proxy", "http://example.com", &Guard{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(plain.URL) }},
			[]string{skipped, skipped, skipped, skipped, "ok answered"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checks := Inspect(c.guard)(t.Context(), c.endpoint)
			var got []string
			for i, k := range checks {
				require.Equal(t, []string{"name", "guard", "tcp", "tls", "http"}[i], k.Name)
				got = append(got, k.Status+" "+string(k.Code))
				require.Empty(t, k.Text)
				for _, p := range k.Params {
					require.NotContains(t, p, "a word", "what an endpoint says is for nobody")
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}

// TestInspectEnds: an endpoint that accepts and says nothing takes no longer than ctx.
func TestInspectEnds(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	checks := Inspect(&Guard{AllowNets: loopback})(ctx, "https://"+silent.Addr().String())
	require.Equal(t, "failed no_tls", checks[3].Status+" "+string(checks[3].Code))
}

// TestDiagnoseOverHTTP is the whole of it: a Manager whose credential leads to a real endpoint.
func TestDiagnoseOverHTTP(t *testing.T) {
	t.Parallel()
	const value = "Kx7-diagnosed-value-Qp42zw"
	server, roots := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+value {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	guard := &Guard{AllowNets: loopback, RootCAs: roots}
	env := keytest.New(t, &keycote.Options{Inspect: Inspect(guard), Prober: Reachable(guard)})
	key, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "it", Endpoint: server.URL, Secret: keycote.NewSecret(value),
	})
	require.NoError(t, err)
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	found := map[string]string{}
	for _, c := range d.Checks {
		if c.Area == "network" {
			found[c.Name] = c.Status + " " + string(c.Code)
			require.NotEmpty(t, c.Text)
			require.Positive(t, c.Took)
		}
	}
	require.Equal(t, map[string]string{
		"name": "ok resolved", "guard": "ok ok", "tcp": "ok connected", "tls": "ok certificate_ok", "http": "ok answered",
		"probe": "ok probe_ok",
	}, found)
}
