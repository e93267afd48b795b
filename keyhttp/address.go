package keyhttp

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/keycote/keycote/internal/special"
)

const (
	forwardedFor = "X-Forwarded-For"
	forwarded    = "Forwarded" // RFC 7239
)

// proxies knows whose word on a client's address is taken, and where it stands.
type proxies struct {
	trusted []netip.Prefix
	header  string // in canonical form
}

func newProxies(trusted []netip.Prefix, header string) (proxies, error) {
	p := proxies{header: forwardedFor}
	var faults []error
	for _, prefix := range trusted {
		prefix = special.Network(prefix)
		switch {
		case !prefix.IsValid() || prefix.Addr().Is4In6():
			faults = append(faults, errors.New("a trusted network is malformed"))
		case prefix != prefix.Masked():
			faults = append(faults, fmt.Errorf("the trusted network %s has bits set beyond its length", prefix))
		case prefix.Bits() == 0:
			faults = append(faults, fmt.Errorf("to trust %s is to let every client say where it is", prefix))
		}
		p.trusted = append(p.trusted, prefix)
	}
	if header != "" {
		var err error
		if p.header, err = headerName(header); err != nil {
			faults = append(faults, err)
		} else if p.header == authorization || slices.Contains(notCarriers, p.header) {
			faults = append(faults, fmt.Errorf("no proxy says in %s where a request came from", p.header))
		}
	}
	return p, errors.Join(faults...)
}

// client returns the address that a request came from, unmapped and without a zone, or the zero Addr when it is not
// known: a key that is bound to networks is then refused.
//
// It is the peer's, unless that is a trusted proxy. Then the header is walked from the right, since each proxy adds at
// that end what it saw: past the entries that are trusted proxies themselves, to the first that is not. What stands
// left of that one was sent by the client, and proves nothing. An entry that is no address (RFC 7239's "unknown" and
// obfuscated names, or anything malformed) ends the walk without a result, as nobody vouches for what comes before it.
// Several lines are one list in their order (RFC 9110, 5.3). When all entries are trusted the client is the leftmost: a
// proxy that asks for itself. A client cannot bring that about, for the proxy before us adds the client's address, unless
// that is trusted too.
func (p *proxies) client(r *http.Request) netip.Addr {
	addr := peer(r.RemoteAddr)
	if !p.trusts(addr) {
		return addr
	}
	cut, parse := cutLast, parseNode
	if p.header == forwarded {
		cut, parse = cutLastQuoted, parseForwarded
	}
	lines := r.Header[p.header]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var element string
			if rest, element, more = cut(rest); !more {
				element = rest
			}
			ok := false
			if addr, ok = parse(strings.Trim(element, " \t")); !ok {
				return netip.Addr{}
			}
			if !p.trusts(addr) {
				return addr
			}
		}
	}
	return addr
}

func (p *proxies) trusts(addr netip.Addr) bool {
	for _, prefix := range p.trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// peer parses a Request's RemoteAddr as net/http's server fills it. Anything else, such as the name of a Unix socket,
// or an address without a port that some middleware has copied from a header, is no peer that we know.
func peer(remote string) netip.Addr {
	p, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return plain(p.Addr())
}

func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// cutLast cuts the last element off a list. It is false, and returns list whole, when there is but one.
func cutLast(list string) (before, element string, found bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return list, "", false
	}
	return list[:i], list[i+1:], true
}

// parseNode parses an address as proxies write it: bare, with a port, or in brackets.
func parseNode(s string) (netip.Addr, bool) {
	host := s
	if inner, ok := strings.CutPrefix(s, "["); ok {
		end := strings.IndexByte(inner, ']')
		if end < 0 || !portOK(inner[end+1:]) {
			return netip.Addr{}, false
		}
		if host = inner[:end]; strings.IndexByte(host, ':') < 0 {
			return netip.Addr{}, false
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') {
		if !portOK(s[i:]) {
			return netip.Addr{}, false
		}
		host = s[:i]
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, false
	}
	return plain(addr), true
}

// portOK reports whether s is empty, or a colon and a port: a number, or a name of RFC 7239 that hides one.
func portOK(s string) bool {
	if s == "" {
		return true
	}
	port := s[1:]
	if s[0] != ':' || port == "" {
		return false
	}
	if port[0] == '_' {
		return isToken(port)
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	return len(port) <= 5
}
