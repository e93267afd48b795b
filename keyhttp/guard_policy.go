package keyhttp

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/internal/special"
)

// The codes of a [GuardError] and of a probe's violation; the catalogue has a message for each.
const (
	codePrivateAddress keycote.Code = "private_address"
	codeNotAllowed     keycote.Code = "not_allowed"
	codeScheme         keycote.Code = "scheme"
	codeUserInfo       keycote.Code = "user_info"
	codeSyntax         keycote.Code = "syntax"
	codeProbeFailed    keycote.Code = "probe_failed"
	codeKeyRefused     keycote.Code = "key_refused"
)

const (
	fieldEndpoint = "endpoint"
	fieldSecret   = "secret"
)

// GuardError says that a [Guard] refused, and that nothing was sent. It unwraps to a [keycote.Violation] of the
// endpoint, so a Prober may return it as it is and [keycote.Message] says it in words. Its own text names the address
// that was about to be dialled: it is for the operator's log, not for the person who typed the name.
type GuardError struct {
	Code keycote.Code // "private_address", "not_allowed" (of a port or a network), "scheme", "user_info", "syntax"
	Host string       // as it was asked for; empty when there is none
	Port string
	Addr netip.Addr // that Host led to; invalid when it was refused before it was resolved

	ignored string // which entries of the guard's open nothing because they are malformed, by their places
}

// Error names host, port and address, and what opens an address that is private: also which entries of AllowHosts and
// AllowNets do not because they are malformed.
func (e *GuardError) Error() string {
	s := "keyhttp: the guard refuses "
	switch {
	case e.Host == "":
		s += "the address"
	case e.Port == "":
		s += strconv.Quote(e.Host)
	default:
		s += strconv.Quote(e.Host + ":" + e.Port)
	}
	if e.Addr.IsValid() {
		s += " at " + e.Addr.String()
	}
	s += ": " + string(e.Code)
	if e.Code != codePrivateAddress {
		return s
	}
	s += " (Guard.AllowHosts"
	if e.Addr.IsValid() {
		s += " or Guard.AllowNets"
	}
	return s + " opens it" + e.ignored + ")"
}

// Unwrap returns the violation.
func (e *GuardError) Unwrap() error { return keycote.Violation{Field: fieldEndpoint, Code: e.Code} }

// webPorts are the two system ports (RFC 6335: below 1024) that a nil AllowPorts opens.
var webPorts = []uint16{80, 443}

// closedPorts are those from 1024 on that a nil AllowPorts leaves closed: the Fetch standard's (section "port
// blocking"); Redis's and memcached's, which read a request line by line and act on what they understand; and Docker's
// without TLS, which obeys anybody.
var closedPorts = []uint16{
	1719, 1720, 1723, 2049, 2375, 3659, 4045, 4190, 5060, 5061, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
	6697, 10080, 11211,
}

// policy is what the operator opened, put into the form that is compared.
type policy struct {
	nets  []netip.Prefix
	hosts map[string]bool
	ports []uint16 // nil: by rule

	ignored string // for GuardError
}

func newPolicy(nets []netip.Prefix, hosts []string, ports []uint16) *policy {
	p := &policy{hosts: make(map[string]bool, len(hosts)), ports: slices.Clone(ports)}
	for i, n := range nets {
		if n.IsValid() && n == n.Masked() {
			p.nets = append(p.nets, special.Network(n))
			continue
		}
		p.ignored += fmt.Sprintf("; AllowNets[%d] is malformed or has bits beyond its length, and opens nothing", i)
	}
	for i, h := range hosts {
		if key, _, ok := special.Host(h); ok {
			p.hosts[key] = true
			continue
		}
		p.ignored += fmt.Sprintf("; AllowHosts[%d] is no host, and opens nothing", i) // it may be a URL with a password
	}
	return p
}

// judgeURL refuses a URL by its form.
func judgeURL(u *url.URL) error {
	switch {
	case u == nil:
		return &GuardError{Code: codeSyntax}
	case u.Scheme != "http" && u.Scheme != "https":
		return &GuardError{Code: codeScheme}
	case u.User != nil: // net/http would make an Authorization header of it
		return &GuardError{Code: codeUserInfo}
	case u.Hostname() == "" || !originForm(u):
		return &GuardError{Code: codeSyntax}
	}
	return nil
}

// originForm reports whether a request for u names no other host than u.Host. net/http writes an Opaque part, and a
// path as it is, into the request line: "http://other.example/" there is another address to the server, and
// ".other.example/" is another one to a proxy, for which it stands right behind the host.
func originForm(u *url.URL) bool {
	return u.Opaque == "" && (u.Path == "" || u.Path[0] == '/') && (u.RawPath == "" || u.RawPath[0] == '/')
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// judge refuses what is known to be wrong before host is resolved, and says whether the operator named it.
func (p *policy) judge(host, port string) (opened bool, err error) {
	key, addr, ok := special.Host(host)
	n, numErr := strconv.ParseUint(port, 10, 16)
	switch {
	case !ok, numErr != nil:
		return false, &GuardError{Code: codeSyntax, Host: host, Port: port}
	case !p.openPort(uint16(n)):
		return false, &GuardError{Code: codeNotAllowed, Host: host, Port: port}
	case p.hosts[key]:
		return true, nil
	case addr.IsValid() && special.Closed(addr, p.nets):
		return false, p.private(host, port, addr)
	case !addr.IsValid() && special.Number(key): // 127.1: an address to one resolver, a name to the next
		return false, &GuardError{Code: codeSyntax, Host: host, Port: port}
	}
	return false, nil
}

// unresolved judges a host that somebody else will resolve, so that its addresses stay unknown here.
func (p *policy) unresolved(host, port string) error {
	opened, err := p.judge(host, port)
	if err != nil || opened {
		return err
	}
	key, addr, _ := special.Host(host)
	if !addr.IsValid() && special.LocalName(key) {
		return p.private(host, port, netip.Addr{})
	}
	return nil
}

// control judges the address that a system call is about to connect to. It has the last word.
func (p *policy) control(network, address, host string, opened bool) error {
	to, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return &GuardError{Code: codeSyntax, Host: host}
	case network != "tcp4" && network != "tcp6":
		return &GuardError{Code: codeNotAllowed, Host: host, Port: portString(to), Addr: to.Addr()}
	case !p.openPort(to.Port()):
		return &GuardError{Code: codeNotAllowed, Host: host, Port: portString(to), Addr: to.Addr()}
	case !opened && special.Closed(to.Addr(), p.nets):
		return p.private(host, portString(to), to.Addr())
	}
	return nil
}

func (p *policy) private(host, port string, addr netip.Addr) error {
	return &GuardError{Code: codePrivateAddress, Host: host, Port: port, Addr: addr, ignored: p.ignored}
}

// connected judges a connection that is made, on which nothing was sent yet: on Plan 9, package net calls no control.
func (p *policy) connected(remote net.Addr, host string, opened bool) error {
	to, ok := remote.(*net.TCPAddr)
	if !ok {
		return &GuardError{Code: codeNotAllowed, Host: host}
	}
	return p.control("tcp6", to.String(), host, opened) // of either family
}

func portString(to netip.AddrPort) string { return strconv.Itoa(int(to.Port())) }

func (p *policy) openPort(port uint16) bool {
	switch {
	case p.ports != nil:
		return slices.Contains(p.ports, port)
	case port < 1024:
		return slices.Contains(webPorts, port)
	}
	_, closed := slices.BinarySearch(closedPorts, port)
	return !closed
}
