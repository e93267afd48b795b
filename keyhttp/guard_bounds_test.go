package keyhttp

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// TestGuardBounds: an endpoint can neither be silent nor talk for ever.
func TestGuardBounds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
		case "/half":
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 1<<20))
			_ = z.Close()
		case "/header":
			w.Header().Set("X", strings.Repeat("x", maxHeader))
		case "/upgrade":
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "raw")
			w.WriteHeader(http.StatusSwitchingProtocols)
		default:
			_, _ = io.WriteString(w, "12345678")
		}
	}))
	t.Cleanup(server.Close)
	for _, tt := range []struct {
		name, path string
		timeout    time.Duration
		max        int64
		body       string
		err, read  error // of the request, and of its body
		says       string
	}{
		{name: "within", path: "/", body: "12345678"},
		{name: "the bound itself", path: "/", max: 8, body: "12345678"},
		{name: "one too many", path: "/", max: 7, body: "1234567", read: ErrBodyTooLong},
		{name: "no bound", path: "/bomb", max: -1, body: string(make([]byte, 1<<20))},
		{name: "no bound, no time-out", path: "/", max: -1, timeout: -1, body: "12345678"},
		{name: "packed", path: "/bomb", max: 1 << 10, body: string(make([]byte, 1<<10)), read: ErrBodyTooLong},
		{name: "silent", path: "/silent", timeout: 50 * time.Millisecond, err: context.DeadlineExceeded},
		{name: "half an answer", path: "/half", timeout: 500 * time.Millisecond, body: "half", read: context.DeadlineExceeded},
		{name: "a long header", path: "/header", says: "headers exceeded"},
		{name: "another protocol", path: "/upgrade", err: errUpgrade},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &Guard{AllowNets: loopback, Timeout: tt.timeout, MaxBody: tt.max}
			resp, err := get(t, g, server.URL+tt.path)
			switch {
			case tt.err != nil:
				require.ErrorIs(t, err, tt.err)
				return
			case tt.says != "":
				require.ErrorContains(t, err, tt.says)
				return
			}
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.ErrorIs(t, err, tt.read)
			require.Equal(t, tt.body, string(body))
			_, again := resp.Body.Read(make([]byte, 1))
			if tt.read != nil {
				require.ErrorIs(t, again, tt.read)
			}
			require.NoError(t, resp.Body.Close())
		})
	}
}

// TestGuardDefaults names the bounds of a zero Guard.
func TestGuardDefaults(t *testing.T) {
	t.Parallel()
	g := (&Guard{}).ready()
	require.Equal(t, 5*time.Second, g.connectTimeout())
	require.Equal(t, 5*time.Second, g.direct.TLSHandshakeTimeout)
	require.Equal(t, 70*time.Second, g.timeout(), "60 s to read are left when connecting took all that it may")
	require.Equal(t, 80*time.Second, (&Guard{ConnectTimeout: 10 * time.Second}).timeout())
	require.Equal(t, time.Second, (&Guard{Timeout: time.Second}).timeout())
	require.Negative(t, (&Guard{Timeout: -1}).timeout())
	require.Equal(t, 10<<20, defaultMaxBody)
	require.EqualValues(t, 256<<10, g.direct.MaxResponseHeaderBytes)
}

// TestGuardConnectTimeout: neither a name server nor an endpoint that accepts and says nothing holds a request up.
func TestGuardConnectTimeout(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = mute.Close() })
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = deaf.Close() })
	g := &Guard{AllowNets: loopback, ConnectTimeout: 50 * time.Millisecond, Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", deaf.LocalAddr().String())
		},
	}}
	for _, target := range []string{"https://" + mute.Addr().String(), "https://example.com:8443"} {
		_, err := get(t, g, target)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout, target)
		require.True(t, timeout.Timeout(), target)
	}
}

// TestGuardProxy: a proxy is used when it is asked for, and does not get what can be seen to be wrong.
func TestGuardProxy(t *testing.T) {
	t.Parallel()
	var asked atomic.Pointer[string]
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host := r.Host
		asked.Store(&host)
	}))
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	g := &Guard{Proxy: http.ProxyURL(at), AllowHosts: []string{"nas.local"}}
	for _, host := range []string{"example.com", "93.184.215.14", "nas.local"} {
		resp, err := get(t, g, "http://"+host+"/")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, host, *asked.Swap(nil))
	}
	for host, code := range map[string]keycote.Code{
		"169.254.169.254": codePrivateAddress, "localhost": codePrivateAddress, "redis": codePrivateAddress,
		"metadata.google.internal": codePrivateAddress, "localhost..": codeSyntax, "127.1": codeSyntax,
		"example.com:22": codeNotAllowed,
	} {
		_, err := get(t, g, "http://"+host+"/")
		require.ErrorIs(t, err, code, host)
		require.Nil(t, asked.Load(), host)
	}
	direct := &Guard{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
	_, err = get(t, direct, "http://"+at.Host)
	require.ErrorIs(t, err, codePrivateAddress)
	broken := errors.New("no proxy today")
	_, err = get(t, &Guard{Proxy: func(*http.Request) (*url.URL, error) { return nil, broken }}, "http://example.com")
	require.ErrorIs(t, err, broken)
	g.CloseIdleConnections()
}

// TestGuardRequestLine: what stands in the request line beside the host that was judged leads nowhere else.
func TestGuardRequestLine(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	for _, tt := range []struct {
		name    string
		edit    func(*http.Request)
		proxied bool // whether it is refused for the sake of a proxy alone
	}{
		{"a path that is an address", func(r *http.Request) { r.URL.Path = "http://169.254.169.254/" }, false},
		{"a path that ends the host's name", func(r *http.Request) { r.URL.Path = ".evil.example/" }, false},
		{"a raw path", func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/x", "%2Fx" }, false},
		{"an Opaque part", func(r *http.Request) { r.URL.Opaque = "//169.254.169.254/" }, false},
		{"another Host", func(r *http.Request) { r.Host = "169.254.169.254" }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, g := range []*Guard{
				{AllowNets: loopback}, {AllowNets: loopback, Proxy: http.ProxyURL(at)},
			} {
				req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
				require.NoError(t, err)
				tt.edit(req)
				resp, err := g.RoundTrip(req)
				if tt.proxied && g.Proxy == nil {
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					continue
				}
				require.ErrorIs(t, err, codeSyntax)
			}
		})
	}
}
