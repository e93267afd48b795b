package keycote

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/keycote/keycote/internal/special"
)

// maxEndpoint is the most bytes of an endpoint that is kept. The address of a single request may be longer.
const maxEndpoint = 2048

// endpointParts is an endpoint taken apart: what decides where a value is sent.
type endpointParts struct {
	scheme string     // "https" or "http"
	host   string     // in lower case, without brackets and trailing dot
	addr   netip.Addr // of a host that is an address as netip reads it; else invalid
	port   int
}

// origin is scheme, host and port as formats.md writes them: the port always there, IPv6 as netip prints it.
func (p endpointParts) origin() string {
	var room [128]byte
	b := append(append(room[:0], p.scheme...), "://"...)
	if p.addr.Is6() {
		b = append(p.addr.AppendTo(append(b, '[')), ']')
	} else {
		b = append(b, p.host...)
	}
	return string(strconv.AppendInt(append(b, ':'), int64(p.port), 10))
}

// endpointOrigin returns where endpoint sends to, as "scheme://host:port", and false when that cannot be said for
// certain. Every endpoint that a Validator lets pass has one. Policy is not its business: plain http, private addresses,
// and a fragment or a length that no stored endpoint may have give an origin all the same, because the address of a
// request is held against that of its key.
func endpointOrigin(endpoint string) (origin string, ok bool) {
	parts, faults := parseEndpoint(endpoint)
	if len(faults) > 0 {
		return "", false
	}
	return parts.origin(), true
}

// parseEndpoint takes an endpoint apart by net/url, the parser that net/http will use, and refuses whatever another
// parser might read as another host. It returns all faults; parts holds what could be told in spite of them.
func parseEndpoint(s string) (parts endpointParts, faults []Violation) {
	fault := func(code Code, params ...string) {
		faults = append(faults, violation(fieldEndpoint, code, params...))
	}
	if code := endpointText(s); code != "" {
		fault(code)
		return parts, faults
	}
	u, err := url.Parse(s)
	if err != nil {
		fault(codeSyntax)
		return parts, faults
	}
	parts.scheme = u.Scheme
	switch u.Scheme {
	case "https":
		parts.port = 443
	case "http":
		parts.port = 80
	default:
		fault(codeScheme)
		if u.Host == "" { // "example.com:443", "mailto:a@b": nothing more can be told
			return parts, faults
		}
	}
	if u.User != nil {
		fault(codeUserInfo)
	}
	if code := parts.setHost(u); code != "" {
		fault(code)
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			fault(codeOutOfRange, "min", "1", "max", "65535")
		}
		parts.port = int(n)
	}
	return parts, faults
}

// endpointText judges s as text: blanks and control characters are cut, skipped or escaped by one program and not by
// the next, and a backslash is a slash to a browser.
func endpointText(s string) Code {
	if isVisibleASCII(s) && strings.IndexByte(s, '\\') < 0 {
		return ""
	}
	if faults := textFaults(s); faults.first() != "" {
		return faults.first()
	}
	for _, r := range s {
		if unicode.IsSpace(r) || r == '\\' {
			return codeSyntax
		}
	}
	return ""
}

// setHost fills in host and addr. A name is made of letters, digits, hyphens, underscores and dots; net/url lets more
// pass, and percent-encoding too. An address with a zone is no endpoint, as it means something on one machine only.
func (p *endpointParts) setHost(u *url.URL) Code {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return codeSyntax
		}
		p.addr = addr.WithZone("")
		p.host = p.addr.String()
		if addr.Zone() != "" {
			return codeSyntax
		}
		return ""
	}
	host = strings.TrimSuffix(host, ".")
	switch {
	case !isASCII(host):
		return codeCharset
	case !special.Name(host):
		return codeSyntax
	}
	p.host = strings.ToLower(host)
	if special.Number(p.host) {
		if addr, err := netip.ParseAddr(p.host); err == nil {
			p.addr = addr
		} else if len(numberReadings(p.host)) == 0 { // 256.1.1.1: no top-level domain is a number
			return codeSyntax
		}
	}
	return ""
}

// numberReadings returns every IPv4 address that some resolver takes host for: inet_aton reads 1 to 4 numbers, in
// octal after a leading 0 and in hexadecimal after 0x, of which the last fills all bytes that are left; others read
// leading zeros as decimal.
func numberReadings(host string) (addrs []netip.Addr) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return nil
	}
	for _, base := range []int{0, 10} {
		var v uint64
		ok := true
		for i, p := range parts {
			n, good := number(p, base)
			limit := uint64(1) << 8
			if i == len(parts)-1 {
				limit = 1 << (8 * (5 - len(parts)))
			}
			ok = ok && good && n < limit
			if i == len(parts)-1 {
				v = v<<(8*(5-len(parts))) | n
			} else {
				v = v<<8 | n
			}
		}
		if ok {
			addrs = append(addrs, netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}))
		}
	}
	return addrs
}

// number reads one part of an address: base 0 goes by its prefix as C does, base 10 takes a leading 0 for nothing.
func number(s string, base int) (uint64, bool) {
	hex, isHex := strings.CutPrefix(s, "0x")
	switch {
	case isHex && hex == "":
		return 0, true // WHATWG
	case isHex:
		s, base = hex, 16
	case base == 0 && len(s) > 1 && s[0] == '0':
		base = 8
	default:
		base = 10
	}
	n, err := strconv.ParseUint(s, base, 33)
	return n, err == nil
}
