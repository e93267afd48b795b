package special

import (
	"net/netip"
	"strings"
)

// Host returns host as it is compared: a name in lower case without its last dot, an address unmapped and as netip
// prints it. addr is the address that it is, as it was written. It refuses whatever is neither, with a port or a
// scheme; an address with a zone means something on one machine only.
func Host(host string) (key string, addr netip.Addr, ok bool) {
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if host, ok = strings.CutSuffix(inner, "]"); !ok {
			return "", netip.Addr{}, false
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), addr, addr.Zone() == "" && (addr.Is6() || !bracketed)
	}
	key = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(key); err == nil && addr.Is4() { // 127.0.0.1. is no name either
		return key, addr, !bracketed
	}
	return key, netip.Addr{}, !bracketed && Name(key)
}

// Name reports whether host, without a last dot, is at most 253 characters in labels of 1 to 63 letters, digits,
// hyphens and underscores, joined by dots.
func Name(host string) bool {
	label := 0
	for i := range len(host) {
		c := host[i] | 0x20
		switch {
		case c >= 'a' && c <= 'z', host[i] >= '0' && host[i] <= '9', host[i] == '-', host[i] == '_':
			label++
		case host[i] == '.' && label > 0:
			label = 0
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0 && len(host) <= 253
}

// Network returns n as addresses are compared with it: unmapped, so that ::ffff:10.0.0.0/104 becomes 10.0.0.0/8. One
// that is mapped and shorter than /96 always has bits beyond its length, and is returned as it is.
func Network(n netip.Prefix) netip.Prefix {
	if n.Addr().Is4In6() && n.Bits() >= 96 {
		return netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n
}
