package keycote

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/keycote/keycote/internal/special"
)

// checkEndpoint judges where a credential may be sent. Names are not resolved: what they lead to is judged when it is
// dialled, each time anew, because the answer can change in between.
func (v *Validator) checkEndpoint(vs []Violation, d *Draft) []Violation {
	switch {
	case d.Kind == KindAccess:
		if d.Endpoint != "" {
			vs = append(vs, violation(fieldEndpoint, codeNotAllowed))
		}
		return vs
	case d.Endpoint == "":
		return append(vs, violation(fieldEndpoint, codeRequired))
	case len(d.Endpoint) > maxEndpoint:
		return append(vs, violation(fieldEndpoint, codeTooLong, "max", strconv.Itoa(maxEndpoint)))
	}
	parts, faults := parseEndpoint(d.Endpoint)
	vs = append(vs, faults...)
	if parts.scheme == "http" && !v.opts.AllowHTTP {
		vs = append(vs, violation(fieldEndpoint, codeScheme))
	}
	if parts.host == "" {
		return vs
	}
	if strings.Contains(d.Endpoint, "#") {
		vs = append(vs, violation(fieldEndpoint, codeFragment))
	}
	if v.private(parts) {
		vs = append(vs, violation(fieldEndpoint, codePrivateAddress))
	}
	return vs
}

// private reports whether the host is an address or a name inside somebody's network and not opened by the operator.
func (v *Validator) private(p endpointParts) bool {
	if v.allowHosts[p.host] || v.allowHosts[p.addr.Unmap().String()] {
		return false
	}
	if p.addr.IsValid() {
		return v.closed(p.addr)
	}
	var readings []netip.Addr
	if special.Number(p.host) { // 127.1: an address to one resolver, a name to the next
		readings = numberReadings(p.host)
	}
	if !strings.Contains(p.host, ".") {
		return len(readings) == 0 || slices.ContainsFunc(readings, func(a netip.Addr) bool { return !v.opened(a) })
	}
	return slices.ContainsFunc(readings, v.closed) || special.LocalName(p.host)
}

func (v *Validator) closed(addr netip.Addr) bool { return special.Closed(addr, v.allowNets) }

func (v *Validator) opened(addr netip.Addr) bool {
	return len(v.allowNets) > 0 && allowedFrom(v.allowNets, addr)
}
