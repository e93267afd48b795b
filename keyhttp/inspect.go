package keyhttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/internal/special"
)

// The codes of an inspection's steps; the catalogue has a sentence for each, and advice.
const (
	foundOK             keycote.Code = "ok"
	foundNotChecked     keycote.Code = "not_checked"
	foundNoCheck        keycote.Code = "could_not_check"
	foundResolved       keycote.Code = "resolved" // count
	foundNoHost         keycote.Code = "no_such_host"
	foundRefused        keycote.Code = "refused_address"
	foundConnected      keycote.Code = "connected"
	foundNoConnection   keycote.Code = "no_connection"
	foundCertificate    keycote.Code = "certificate_ok"   // days
	foundExpiresSoon    keycote.Code = "certificate_soon" // days
	foundBadCertificate keycote.Code = "certificate_bad"
	foundNoTLS          keycote.Code = "no_tls"
	foundAnswered       keycote.Code = "answered"     // status
	foundServerError    keycote.Code = "server_error" // status
	foundNoAnswer       keycote.Code = "no_answer"
)

const (
	statusOK      = "ok"
	statusWarning = "warning"
	statusFailed  = "failed"
	statusSkipped = "skipped"

	// certificateNear is before a certificate's end when it is time to renew it.
	certificateNear = 14 * 24 * time.Hour
)

// Inspect returns an [keycote.Options].Inspect that looks at an endpoint in the five steps of a connection: "name" (it
// resolves), "guard" (g lets its addresses pass), "tcp", "tls" (the certificate is good, and for how long), and "http"
// (it answers GET). It sends no credential, follows no redirect, and tells of an answer nothing but the status: an
// endpoint must not speak to the person who reads the report. After a step that failed the rest is skipped. Each step
// takes at most what g allows.
//
// Through g.Proxy the first four steps are the proxy's, and are skipped. A nil g is a zero [Guard].
func Inspect(g *Guard) func(ctx context.Context, endpoint string) []keycote.Check {
	if g == nil {
		g = new(Guard)
	}
	return func(ctx context.Context, endpoint string) []keycote.Check {
		i := inspection{guard: g.ready(), ctx: ctx}
		i.run(endpoint)
		return i.checks
	}
}

// inspection is one look at an endpoint.
type inspection struct {
	guard  *Guard
	ctx    context.Context
	checks []keycote.Check
	over   bool // a step has failed
}

// step makes one check, unless one before it has failed.
func (i *inspection) step(name string, look func() keycote.Check) {
	c := keycote.Check{Status: statusSkipped, Code: foundNotChecked}
	if !i.over {
		began := now()
		c = look()
		c.Took = now().Sub(began)
	}
	c.Name = name
	i.over = i.over || c.Status == statusFailed
	i.checks = append(i.checks, c)
}

// now is for measuring a step, and for counting a certificate's days.
func now() time.Time {
	return time.Now() //house:allow clock an endpoint's certificate is judged by the machine's clock, as TLS does
}

func failed(code keycote.Code) keycote.Check { return keycote.Check{Status: statusFailed, Code: code} }

func with(status string, code keycote.Code, param string, n int) keycote.Check {
	return keycote.Check{Status: status, Code: code, Params: map[string]string{param: strconv.Itoa(n)}}
}

func (i *inspection) run(endpoint string) {
	req, err := http.NewRequestWithContext(i.ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		req = &http.Request{URL: &url.URL{}}
	}
	host, port := req.URL.Hostname(), portOf(req.URL)
	transport, _, refusal := i.guard.route(req)
	skip := func() keycote.Check { return keycote.Check{Status: statusSkipped, Code: foundNotChecked} }
	if refusal == nil && transport == i.guard.proxied {
		for _, name := range []string{"name", "guard", "tcp", "tls"} {
			i.step(name, skip)
		}
		i.step("http", func() keycote.Check { return i.http(req) })
		return
	}
	var addrs []netip.Addr
	i.step("name", func() (c keycote.Check) {
		if refusal != nil {
			return skip()
		}
		addrs, c = i.resolve(host)
		return c
	})
	i.step("guard", func() keycote.Check {
		if refusal != nil {
			return refused(refusal)
		}
		return i.judge(host, port, addrs)
	})
	var conn net.Conn
	i.step("tcp", func() (c keycote.Check) {
		conn, c = i.dial(host, port)
		return c
	})
	if conn != nil {
		defer conn.Close()
	}
	i.step("tls", func() keycote.Check {
		if req.URL.Scheme != "https" {
			return skip()
		}
		return i.handshake(conn, host)
	})
	i.step("http", func() keycote.Check { return i.http(req) })
}

func (i *inspection) resolve(host string) ([]netip.Addr, keycote.Check) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, with(statusOK, foundResolved, "count", 1)
	}
	ctx, cancel := context.WithTimeout(i.ctx, i.guard.connectTimeout())
	defer cancel()
	resolver := i.guard.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	switch {
	case err == nil:
		return addrs, with(statusOK, foundResolved, "count", len(addrs))
	case errors.As(err, &dns) && dns.IsNotFound:
		return nil, failed(foundNoHost)
	}
	return nil, failed(foundNoCheck)
}

// judge asks the guard about each address. One that it refuses among others that it lets pass is a warning: which of
// them is dialled depends on the network.
func (i *inspection) judge(host, port string, addrs []netip.Addr) keycote.Check {
	opened, err := i.guard.policy.judge(host, port)
	if err != nil {
		return refused(err)
	}
	closed := 0
	for _, a := range addrs {
		if !opened && special.Closed(a, i.guard.policy.nets) {
			closed++
		}
	}
	switch closed {
	case 0:
		return keycote.Check{Status: statusOK, Code: foundOK}
	case len(addrs):
		return failed(foundRefused)
	}
	return keycote.Check{Status: statusWarning, Code: foundRefused}
}

// refused says what the guard has refused: an address, or something else by its own code.
func refused(err error) keycote.Check {
	var g *GuardError
	if errors.As(err, &g) && g.Code != codePrivateAddress {
		return failed(g.Code)
	}
	return failed(foundRefused)
}

func (i *inspection) dial(host, port string) (net.Conn, keycote.Check) {
	conn, err := i.guard.DialContext(i.ctx, "tcp", net.JoinHostPort(host, port))
	var g *GuardError
	switch {
	case err == nil:
		return conn, keycote.Check{Status: statusOK, Code: foundConnected}
	case errors.As(err, &g): // the name has another address than a moment ago
		return nil, refused(err)
	}
	return nil, failed(foundNoConnection)
}

func (i *inspection) handshake(conn net.Conn, host string) keycote.Check {
	ctx, cancel := context.WithTimeout(i.ctx, i.guard.connectTimeout())
	defer cancel()
	config := i.guard.tlsConfig()
	config.ServerName = host
	client := tls.Client(conn, config)
	err := client.HandshakeContext(ctx)
	var bad *tls.CertificateVerificationError
	switch {
	case errors.As(err, &bad):
		return failed(foundBadCertificate)
	case err != nil:
		return failed(foundNoTLS)
	}
	left := chainEnd(client.ConnectionState().VerifiedChains).Sub(now())
	days := int(left / (24 * time.Hour))
	if left < certificateNear {
		return with(statusWarning, foundExpiresSoon, "days", days)
	}
	return with(statusOK, foundCertificate, "days", days)
}

// chainEnd returns when a certificate ceases to be good: at the first end in that of its chains which lasts longest.
// What a server sends along and no chain needs plays no part, such as an old cross-signature.
func chainEnd(chains [][]*x509.Certificate) (end time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(end) {
			end = first
		}
	}
	return end
}

// http takes every answer below 500 for a good one: without a credential, 401 is what an endpoint should say.
func (i *inspection) http(req *http.Request) keycote.Check {
	resp, err := i.guard.RoundTrip(req)
	if err != nil {
		var g *GuardError
		if errors.As(err, &g) {
			return refused(err)
		}
		return failed(foundNoAnswer)
	}
	_ = resp.Body.Close() // the answer is here already: how it ends does not matter
	if resp.StatusCode >= http.StatusInternalServerError {
		return with(statusWarning, foundServerError, "status", resp.StatusCode)
	}
	return with(statusOK, foundAnswered, "status", resp.StatusCode)
}
