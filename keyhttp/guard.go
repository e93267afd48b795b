package keyhttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultConnectTimeout = 5 * time.Second  // what Dify gives an endpoint: 5 s to connect, and as much for TLS,
	defaultReadTimeout    = 60 * time.Second // and 60 s to read
	defaultMaxBody        = 10 << 20
	maxHeader             = 256 << 10
)

// ErrBodyTooLong is what the Body of a Guard's response answers beyond MaxBody.
var ErrBodyTooLong = errors.New("keyhttp: the response is longer than the guard allows")

// errUpgrade is what a Guard answers where an endpoint leaves HTTP: neither bound could be held from there on.
var errUpgrade = errors.New("keyhttp: the guard lets no endpoint switch protocols")

// Guard is an [http.RoundTripper] for addresses that people type: it reaches the public internet and what the operator
// has opened, and nothing else. The address is judged when it is about to be dialled, after the name was resolved, by
// the connection's own system call: a name that answers otherwise the second time gains nothing, and neither does a
// redirect, since it is another request. A connection that is used again was judged when it was made.
//
// It refuses by a [*GuardError]: addresses in IANA's special-purpose registries in every notation (NAT64, 6to4 and
// Teredo are blocks of IPv6 there, whatever they lead to), ports that are not allowed, schemes other than http and
// https, and URLs with a user, a password, an Opaque part or a path that does not begin with a slash. It verifies
// certificates, always, by TLS 1.2 or newer; it asks no proxy, not even one from the environment; it follows no
// redirect by itself.
//
// nil and the zero Guard are useful and allow nothing private; the connections of a nil Guard are not used again. A
// Guard is safe for concurrent use, must not be copied, and its fields must not be changed after its first use.
type Guard struct {
	// AllowNets are networks that may be reached though they are special. An entry with bits beyond its length opens
	// nothing, and the refusal says so. Where it holds forms of IPv4 (64:ff9b::/96, for hosts behind DNS64; 6to4, Teredo),
	// the IPv4 address inside is judged as well. In 64:ff9b:1::/48 name a NAT64 prefix in its own length: it says where
	// that address stands.
	AllowNets []netip.Prefix

	// AllowHosts are names that may lead anywhere their DNS says, and addresses that may be dialled: "nas.local",
	// "10.0.0.5". Who answers for such a name decides what is reached. An entry that is no host, such as a URL or
	// "10.0.0.5:8080", opens nothing, and the refusal says so.
	AllowHosts []string

	// AllowPorts are all the ports there are. nil: 80, 443, and those from 1024 on, without the ones that the Fetch
	// standard keeps browsers from, and without Docker's, Redis's and memcached's.
	AllowPorts []uint16

	ConnectTimeout time.Duration // resolving and dialling, and once more the TLS handshake; 0: 5 s
	MaxBody        int64         // bytes of a response's body, unpacked; 0: 10 MiB, negative: no bound

	// Timeout is from the request to the end of the response's body. 0: 60 s and what connecting may take; negative:
	// none. As with any [http.Transport], neither it nor the context ends a Read of the request's own body that blocks,
	// such as of an [io.Pipe] that nobody writes to: RoundTrip returns when that does.
	Timeout time.Duration

	RootCAs  *x509.CertPool // nil: the system's
	Resolver *net.Resolver  // nil: net.DefaultResolver

	// Proxy is asked for each request; [http.ProxyFromEnvironment] is one. nil, and its answer nil: none. A proxy
	// resolves and dials in the guard's place: then only the host and port as they are written can be judged, with
	// names that only a local resolver knows, and the proxy has to be a guard itself. It would be asked for the request's
	// Host over plain http, so one that is not the URL's is refused there.
	Proxy func(*http.Request) (*url.URL, error)

	once    sync.Once
	policy  *policy
	direct  *http.Transport
	proxied *http.Transport
	single  bool // stands for a nil Guard: nobody could close its idle connections
	blind   bool // for a test: its dialer judges nothing, as on Plan 9
}

type proxyKey struct{}

// ready returns g with all that is made at its first use.
func (g *Guard) ready() *Guard {
	if g == nil {
		g = &Guard{single: true}
	}
	g.once.Do(func() {
		g.policy = newPolicy(g.AllowNets, g.AllowHosts, g.AllowPorts)
		g.direct = &http.Transport{
			DialContext:            g.DialContext,
			TLSClientConfig:        g.tlsConfig(),
			TLSHandshakeTimeout:    g.connectTimeout(),
			ForceAttemptHTTP2:      true, // which a DialContext of one's own turns off
			MaxIdleConns:           100,
			IdleConnTimeout:        90 * time.Second,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives:      g.single,
		}
		if g.Proxy != nil {
			g.proxied = g.direct.Clone()
			g.proxied.DialContext = (&net.Dialer{Timeout: g.connectTimeout(), Resolver: g.Resolver}).DialContext
			g.proxied.Proxy = func(req *http.Request) (*url.URL, error) {
				u, _ := req.Context().Value(proxyKey{}).(*url.URL)
				return u, nil
			}
		}
	})
	return g
}

func (g *Guard) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: g.RootCAs, MinVersion: tls.VersionTLS12}
}

func (g *Guard) connectTimeout() time.Duration {
	if g.ConnectTimeout <= 0 {
		return defaultConnectTimeout
	}
	return g.ConnectTimeout
}

func (g *Guard) timeout() time.Duration {
	if g.Timeout == 0 {
		return 2*g.connectTimeout() + defaultReadTimeout
	}
	return g.Timeout
}

// RoundTrip sends req and returns the response, whose Body answers [ErrBodyTooLong] beyond MaxBody and the context's
// error beyond Timeout. It fails with a [*GuardError] when the guard refuses, and otherwise as [http.Transport] does. A
// response of 101 is an error.
func (g *Guard) RoundTrip(req *http.Request) (*http.Response, error) {
	g = g.ready()
	transport, ctx, err := g.route(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	cancel := func() {}
	if t := g.timeout(); t > 0 {
		ctx, cancel = context.WithTimeout(ctx, t)
	}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		err = errors.Join(errUpgrade, resp.Body.Close())
	}
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Request = req
	resp.Body = &boundedBody{body: resp.Body, left: g.MaxBody, cancel: cancel}
	switch {
	case g.MaxBody == 0:
		resp.Body.(*boundedBody).left = defaultMaxBody
	case g.MaxBody < 0:
		resp.Body.(*boundedBody).left = 1<<63 - 2
	}
	return resp, nil
}

// route judges a request's URL, and decides whether a proxy carries it.
func (g *Guard) route(req *http.Request) (*http.Transport, context.Context, error) {
	if err := judgeURL(req.URL); err != nil {
		return nil, nil, err
	}
	ctx := req.Context()
	if g.Proxy == nil {
		return g.direct, ctx, nil
	}
	proxy, err := g.Proxy(req)
	if err != nil || proxy == nil {
		return g.direct, ctx, err
	}
	if err := g.policy.unresolved(req.URL.Hostname(), portOf(req.URL)); err != nil {
		return nil, nil, err
	}
	if req.URL.Scheme == "http" && req.Host != "" && !strings.EqualFold(req.Host, req.URL.Host) {
		return nil, nil, &GuardError{Code: codeSyntax, Host: req.Host} // net/http asks the proxy for this one
	}
	return g.proxied, context.WithValue(ctx, proxyKey{}, proxy), nil
}

// DialContext connects to address, a host and a port, as the guard allows: for an [http.Transport] or another client of
// the host's own, which then has the guard's judgement and none of its other bounds. network is tcp, tcp4 or tcp6.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	g = g.ready()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &GuardError{Code: codeSyntax}
	}
	opened, err := g.policy.judge(host, port)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{
		Timeout:  g.connectTimeout(),
		Resolver: g.Resolver,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return g.policy.control(network, address, host, opened)
		},
	}
	if g.blind {
		dialer.ControlContext = nil
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := g.policy.connected(conn.RemoteAddr(), host, opened); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// CloseIdleConnections closes what is kept for the next request; [http.Client] calls it by this name.
func (g *Guard) CloseIdleConnections() {
	if g == nil {
		return
	}
	g = g.ready()
	g.direct.CloseIdleConnections()
	if g.proxied != nil {
		g.proxied.CloseIdleConnections()
	}
}

// closeBody does what a RoundTripper owes a request that it does not send.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// boundedBody ends a response that is too long, and the request's clock when the body ends.
type boundedBody struct {
	body   io.ReadCloser
	left   int64
	err    error
	cancel context.CancelFunc
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p)) > b.left+1 { // one byte more tells a body that ends from one that goes on
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), ErrBodyTooLong
	}
	b.left -= int64(n)
	if err != nil {
		b.err = err
		b.cancel()
	}
	return n, err
}

func (b *boundedBody) Close() error {
	err := b.body.Close()
	b.cancel()
	return err
}
