package keyhttp

import (
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newServer starts an HTTPS server on loopback that speaks HTTP/2 and complains about nothing. Its certificate is for
// example.com, 127.0.0.1 and ::1.
func newServer(t *testing.T, h http.HandlerFunc) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, roots
}

func get(t *testing.T, rt http.RoundTripper, target string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// hostile are addresses at which nobody's API is.
var hostile = []string{
	"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "168.63.129.16",
	"169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1",
	"192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255",
	"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
	"64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "100:0:0:1::1", "200::1",
	"2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:1::1", "2001:2::1", "2001:4:112::1", "2001:10::1",
	"2001:20::1", "2001:30::1", "2001:db8::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2620:4f:8000::1", "3ffe::1",
	"3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fec0::1", "ff02::1",
}

// TestGuardAddresses puts every hostile address into a URL, and behind a name: as the only answer, and as its second.
func TestGuardAddresses(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(hostile), 60)
	resolver := newDNS(t, func(name string, _ int) []netip.Addr {
		i, err := strconv.Atoi(strings.TrimSuffix(name, ".hostile.example"))
		if err != nil || i >= len(hostile) {
			return nil
		}
		return addrs(hostile[i])
	})
	for i, h := range hostile {
		addr := netip.MustParseAddr(h)
		for _, host := range []string{h, strconv.Itoa(i) + ".hostile.example"} {
			t.Run(h+" as "+host, func(t *testing.T) {
				t.Parallel()
				_, err := get(t, &Guard{Resolver: resolver}, (&url.URL{
					Scheme: "https", Host: net.JoinHostPort(host, "443"), Path: "/latest/meta-data",
				}).String())
				var refused *GuardError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, codePrivateAddress, refused.Code)
				require.Equal(t, addr.Unmap(), refused.Addr.Unmap())
				require.ErrorIs(t, err, codePrivateAddress)
				var v keycote.Violation
				require.ErrorAs(t, err, &v)
				require.Equal(t, "endpoint", v.Field)
			})
		}
	}
}

// TestGuardURLs: everything else that a person may type.
func TestGuardURLs(t *testing.T) {
	t.Parallel()
	resolver := newDNS(t, func(name string, _ int) []netip.Addr {
		if name == "example.com" || name == "" {
			return addrs("127.0.0.1")
		}
		return addrs("169.254.169.254", "fd00:ec2::254")
	})
	for _, tt := range []struct {
		name, url string
		code      keycote.Code
	}{
		{"a short address", "https://127.1/", codeSyntax},
		{"an address in octal", "https://0177.0.0.1/", codeSyntax},
		{"an address in hex", "https://0x7f.0.0.1/", codeSyntax},
		{"one number", "https://2130706433/", codeSyntax},
		{"one number in hex", "https://0x7f000001/", codeSyntax},
		{"a number too high", "https://256.256.256.256/", codeSyntax},
		{"a number at the end", "https://example.1/", codeSyntax},
		{"a zone", "https://[fe80::1%25eth0]/", codeSyntax},
		{"a zone on loopback", "https://[::1%25lo]/", codeSyntax},
		{"localhost", "https://localhost/", codePrivateAddress},
		{"localhost, dotted", "https://localhost./", codePrivateAddress},
		{"a name", "https://metadata.google.internal/", codePrivateAddress},
		{"a name in upper case", "https://METADATA.example/", codePrivateAddress},
		{"a user", "https://user@example.com/", codeUserInfo},
		{"a password", "https://user:password@example.com/", codeUserInfo},
		{"an empty user", "https://@example.com/", codeUserInfo},
		{"a name before an address", "https://example.com@169.254.169.254/", codeUserInfo},
		{"a user, in clear", "http://user@example.com/", codeUserInfo},
		{"a file", "file:///etc/passwd", codeScheme},
		{"gopher", "gopher://example.com:70/_x", codeScheme},
		{"ftp", "ftp://example.com/", codeScheme},
		{"a websocket", "wss://example.com/", codeScheme},
		{"data", "data:text/plain,x", codeScheme},
		{"a unix socket", "unix:///var/run/docker.sock", codeScheme},
		{"no host", "https:///path", codeSyntax},
		{"a port alone", "https://:443/", codeSyntax},
		{"port 0", "https://example.com:0/", codeNotAllowed},
		{"ssh", "https://example.com:22/", codeNotAllowed},
		{"smtp", "https://example.com:25/", codeNotAllowed},
		{"smb", "https://example.com:445/", codeNotAllowed},
		{"the last system port", "https://example.com:1023/", codeNotAllowed},
		{"docker", "http://example.com:2375/", codeNotAllowed},
		{"redis", "http://example.com:6379/", codeNotAllowed},
		{"irc", "http://example.com:6667/", codeNotAllowed},
		{"memcached", "http://example.com:11211/", codeNotAllowed},
		{"a port too high", "https://example.com:65536/", codeSyntax},
		{"a name that is none", "https://exa$mple.com/", codeSyntax},
		{"an empty label", "https://example..com/", codeSyntax},
		{"a dot", "https://./", codeSyntax},
		{"two dots at the end", "https://example.com../", codeSyntax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(tt.url)
			require.NoError(t, err)
			var closed atomic.Bool
			req := &http.Request{Method: "POST", URL: u, Header: http.Header{}, Body: onClose(func() { closed.Store(true) }), ContentLength: 1}
			_, err = (&Guard{Resolver: resolver}).RoundTrip(req.WithContext(t.Context()))
			var refused *GuardError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, tt.code, refused.Code)
			require.True(t, closed.Load(), "a RoundTripper closes the body of what it does not send")
			require.NotContains(t, err.Error(), "password")
		})
	}
	_, err := (&Guard{}).RoundTrip((&http.Request{}).WithContext(t.Context()))
	require.ErrorIs(t, err, codeSyntax)
}

// onClose is a body that a test hears of.
type onClose func()

func (f onClose) Read([]byte) (int, error) { return 0, io.EOF }
func (f onClose) Close() error             { f(); return nil }

// TestGuardRebinding: the name is public when it is looked at, and private when it is dialled.
func TestGuardRebinding(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server, roots := newServer(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	resolver := newDNS(t, func(_ string, asked int) []netip.Addr {
		if asked == 0 {
			return addrs("93.184.215.14")
		}
		return addrs("127.0.0.1")
	})
	got, err := resolver.LookupNetIP(t.Context(), "ip4", "example.com")
	require.NoError(t, err)
	require.Equal(t, addrs("93.184.215.14"), got, "whoever checks now lets it pass")
	_, err = get(t, &Guard{Resolver: resolver, RootCAs: roots}, "https://example.com:"+port)
	require.ErrorIs(t, err, codePrivateAddress)
	require.Zero(t, calls.Load())
}

// TestGuardJudgesConnections: where the dialer cannot ask before it connects, what it has connected to is judged, and
// nothing is sent there.
func TestGuardJudgesConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	resolver := newDNS(t, func(string, int) []netip.Addr { return addrs("127.0.0.1") })
	_, err = get(t, &Guard{Resolver: resolver, blind: true}, "http://example.com:"+port)
	var refused *GuardError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, &GuardError{
		Code: codePrivateAddress, Host: "example.com", Port: port, Addr: netip.MustParseAddr("127.0.0.1"),
	}, refused)
	conn, err := listener.Accept()
	require.NoError(t, err)
	sent, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Empty(t, sent)
	require.NoError(t, conn.Close())

	open := &Guard{Resolver: resolver, AllowNets: loopback, blind: true}
	conn, err = open.DialContext(t.Context(), "tcp", "example.com:"+port)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = open.DialContext(t.Context(), "udp", "127.0.0.1:"+port)
	require.ErrorIs(t, err, codeNotAllowed)
}

// TestGuardReuse: a connection that was allowed is used again, and a new one is judged anew.
func TestGuardReuse(t *testing.T) {
	t.Parallel()
	var calls, connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	g := &Guard{
		AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Resolver: newDNS(t, func(_ string, asked int) []netip.Addr {
			return [][]netip.Addr{addrs("127.0.0.1"), addrs("10.0.0.1")}[min(asked, 1)]
		}),
	}
	for range 3 {
		resp, err := get(t, g, "http://example.com:"+port)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	require.EqualValues(t, 3, calls.Load())
	require.EqualValues(t, 1, connections.Load())
	(&http.Client{Transport: g}).CloseIdleConnections()
	_, err = get(t, g, "http://example.com:"+port)
	require.ErrorIs(t, err, codePrivateAddress)
	require.EqualValues(t, 3, calls.Load())
}

// TestGuardRedirect: a redirect is another request, wherever it leads.
func TestGuardRedirect(t *testing.T) {
	t.Parallel()
	var strays atomic.Int64
	inner, _ := newServer(t, func(http.ResponseWriter, *http.Request) { strays.Add(1) })
	_, port, err := net.SplitHostPort(inner.Listener.Addr().String())
	require.NoError(t, err)
	for _, tt := range []struct {
		name, to string
		code     keycote.Code
	}{
		{"to an address", "https://127.0.0.2:" + port, codePrivateAddress},
		{"to a name", "https://inner.example:" + port, codePrivateAddress},
		{"to metadata", "http://169.254.169.254/latest/meta-data/", codePrivateAddress},
		{"to a port", "https://127.0.0.1:6379/", codeNotAllowed},
		{"to a file", "file:///etc/passwd", codeScheme},
		{"to a user", "https://a:b@127.0.0.1/", codeUserInfo},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outer, roots := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, tt.to, http.StatusTemporaryRedirect)
			})
			g := &Guard{
				AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, RootCAs: roots,
				Resolver: newDNS(t, func(string, int) []netip.Addr { return addrs("127.0.0.2") }),
			}
			_, err := get(t, g, outer.URL)
			require.ErrorIs(t, err, tt.code)
			require.Zero(t, strays.Load())
		})
	}
}

// TestGuardOpens shows what the operator can open, and that nothing else opens with it.
func TestGuardOpens(t *testing.T) {
	t.Parallel()
	resolver := newDNS(t, func(name string, _ int) []netip.Addr {
		if name == "both.example" {
			return addrs("10.0.0.1", "127.0.0.1")
		}
		return addrs("127.0.0.1")
	})
	nets := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		guard   *Guard
		address string
		code    keycote.Code
	}{
		{"a network", &Guard{AllowNets: nets("127.0.0.0/8")}, "127.0.0.1:8443", ""},
		{"a network, mapped", &Guard{AllowNets: nets("127.0.0.0/8")}, "[::ffff:127.0.0.1]:8443", ""},
		{"a mapped network", &Guard{AllowNets: nets("::ffff:127.0.0.0/104")}, "127.0.0.1:8443", ""},
		{"another network", &Guard{AllowNets: nets("127.0.0.0/16")}, "127.1.0.1:8443", codePrivateAddress},
		{"a network with host bits", &Guard{AllowNets: nets("127.0.0.1/8")}, "127.0.0.1:8443", codePrivateAddress},
		{"an invalid network", &Guard{AllowNets: []netip.Prefix{{}}}, "127.0.0.1:8443", codePrivateAddress},
		{"all of IPv6", &Guard{AllowNets: nets("::/0")}, "127.0.0.1:8443", codePrivateAddress},
		{"NAT64, private inside", &Guard{AllowNets: nets("64:ff9b::/96")}, "[64:ff9b::a9fe:a9fe]:443", codePrivateAddress},
		{"all of IPv4, NAT64", &Guard{AllowNets: nets("0.0.0.0/0")}, "[64:ff9b::7f00:1]:443", codePrivateAddress},
		{"NAT64 of one's own, private inside", &Guard{AllowNets: nets("64:ff9b:1::/48")}, "[64:ff9b:1::a9fe:a9fe]:443",
			codePrivateAddress},
		{"6to4, private inside", &Guard{AllowNets: nets("2000::/3")}, "[2002:7f00:1::1]:443", codePrivateAddress},
		{"Teredo, private inside", &Guard{AllowNets: nets("2001::/32")}, "[2001:0:808:808::80ff:fffe]:443",
			codePrivateAddress},
		{"a label too long", &Guard{AllowNets: loopback}, strings.Repeat("a", 64) + ".example:443", codeSyntax},
		{"a network, a short address", &Guard{AllowNets: nets("127.0.0.0/8")}, "127.1:8443", codeSyntax},
		{"a network, a zone", &Guard{AllowNets: nets("fe80::/10")}, "[fe80::1%lo]:8443", codeSyntax},
		{"a network, a name with an address outside", &Guard{AllowNets: nets("127.0.0.0/8")}, "both.example:8443", ""},
		{"a network, no address inside", &Guard{AllowNets: nets("172.16.0.0/12")}, "both.example:8443", codePrivateAddress},
		{"a host", &Guard{AllowHosts: []string{"NAS.example."}}, "nas.example:8443", ""},
		{"a host, one below it", &Guard{AllowHosts: []string{"nas.example"}}, "x.nas.example:8443", codePrivateAddress},
		{"a host, its address", &Guard{AllowHosts: []string{"nas.example"}}, "127.0.0.1:8443", codePrivateAddress},
		{"an address as host", &Guard{AllowHosts: []string{"::ffff:127.0.0.1"}}, "127.0.0.1:8443", ""},
		{"an address as host, in brackets", &Guard{AllowHosts: []string{"[0:0::1]"}}, "[::1]:8443", ""},
		{"no host", &Guard{AllowHosts: []string{"", ".", "*", "*.example", "nas.example:8443"}}, "nas.example:8443", codePrivateAddress},
		{"a host, a closed port", &Guard{AllowHosts: []string{"nas.example"}}, "nas.example:22", codeNotAllowed},
		{"ports", &Guard{AllowNets: loopback, AllowPorts: []uint16{22}}, "127.0.0.1:22", ""},
		{"ports, another one", &Guard{AllowNets: loopback, AllowPorts: []uint16{22}}, "127.0.0.1:443", codeNotAllowed},
		{"no ports", &Guard{AllowNets: loopback, AllowPorts: []uint16{}}, "127.0.0.1:443", codeNotAllowed},
		{"a service's name for a port", &Guard{AllowNets: loopback}, "127.0.0.1:https", codeSyntax},
		{"no port", &Guard{AllowNets: loopback}, "127.0.0.1", codeSyntax},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.guard.Resolver = resolver
			conn, err := tt.guard.DialContext(t.Context(), "tcp", tt.address)
			if err == nil {
				require.NoError(t, conn.Close())
			}
			require.Equal(t, tt.code, keycote.CodeOf(err), "%v", err) // whether anybody listens there is another matter
		})
	}
	t.Run("other networks", func(t *testing.T) {
		t.Parallel()
		for _, network := range []string{"udp", "udp4"} {
			_, err := (&Guard{AllowNets: loopback}).DialContext(t.Context(), network, "127.0.0.1:8443")
			require.ErrorIs(t, err, codeNotAllowed)
		}
		_, err := (&Guard{}).DialContext(t.Context(), "unix", "/var/run/docker.sock")
		require.ErrorIs(t, err, codeSyntax)
	})
}

// TestGuardSaysHow: a refusal tells the operator what opens an address, and which of his entries do not, without a word
// of them.
func TestGuardSaysHow(t *testing.T) {
	t.Parallel()
	none := func(*http.Request) (*url.URL, error) { return url.Parse("http://proxy.example:3128") }
	for _, tt := range []struct {
		name  string
		guard *Guard
		url   string
		want  string
	}{
		{"an address", &Guard{}, "http://127.0.0.1:8080",
			`"127.0.0.1:8080" at 127.0.0.1: private_address (Guard.AllowHosts or Guard.AllowNets opens it)`},
		{"a name behind a proxy", &Guard{Proxy: none}, "http://nas.local",
			`"nas.local:80": private_address (Guard.AllowHosts opens it)`},
		{"a port", &Guard{}, "http://example.com:22", `"example.com:22": not_allowed`},
		{"entries that open nothing", &Guard{
			AllowHosts: []string{"nas.local", "127.0.0.1:8080", "http://a:password@127.0.0.1"},
			AllowNets:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/8")},
		}, "http://127.0.0.1:8080", `"127.0.0.1:8080" at 127.0.0.1: private_address (Guard.AllowHosts or Guard.AllowNets ` +
			`opens it; AllowNets[1] is malformed or has bits beyond its length, and opens nothing; ` +
			`AllowHosts[1] is no host, and opens nothing; AllowHosts[2] is no host, and opens nothing)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := get(t, tt.guard, tt.url)
			var refused *GuardError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "keyhttp: the guard refuses "+tt.want, refused.Error())
		})
	}
}

// TestGuardMixed: of a name with private and public addresses only those that may be reached are.
func TestGuardMixed(t *testing.T) {
	t.Parallel()
	server, roots := newServer(t, func(http.ResponseWriter, *http.Request) {})
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	g := &Guard{
		AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, RootCAs: roots,
		Resolver: newDNS(t, func(string, int) []netip.Addr { return addrs("169.254.169.254", "127.0.0.1") }),
	}
	resp, err := get(t, g, "https://example.com:"+port)
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", resp.Proto)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestGuardTLS(t *testing.T) {
	t.Parallel()
	server, roots := newServer(t, func(http.ResponseWriter, *http.Request) {})
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	resolver := newDNS(t, func(string, int) []netip.Addr { return addrs("127.0.0.1") })
	_, err = get(t, &Guard{AllowNets: loopback}, server.URL)
	var authority x509.UnknownAuthorityError
	require.ErrorAs(t, err, &authority)
	_, err = get(t, &Guard{AllowNets: loopback, RootCAs: roots, Resolver: resolver}, "https://other.test:"+port)
	var name x509.HostnameError
	require.ErrorAs(t, err, &name, "the certificate of another name")
	var refused *GuardError
	require.False(t, errors.As(err, &refused), "a failure is no refusal")
	resp, err := get(t, &Guard{AllowNets: loopback, RootCAs: roots}, server.URL)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// TestGuardNil: a nil Guard works, and opens nothing.
func TestGuardNil(t *testing.T) {
	t.Parallel()
	var g *Guard
	_, err := get(t, g, "https://127.0.0.1:8443")
	require.ErrorIs(t, err, codePrivateAddress)
	_, err = g.DialContext(t.Context(), "tcp", "10.0.0.1:443")
	require.ErrorIs(t, err, codePrivateAddress)
	g.CloseIdleConnections()
	require.True(t, g.ready().direct.DisableKeepAlives)
	require.False(t, (&Guard{}).ready().direct.DisableKeepAlives)
	require.Nil(t, (&Guard{}).ready().direct.Proxy, "no proxy out of the environment")
}
