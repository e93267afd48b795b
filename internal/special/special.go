// Package special knows the addresses and names at which nobody's API is. The validator of the root package holds what
// is typed against it, and keyhttp's Guard what it is about to dial.
package special

import (
	"net/netip"
	"strings"
)

// networks are those in which no endpoint lies unless an operator opens it: all of IANA's IPv4 and IPv6 special-purpose
// address registries (RFC 6890 and its updates, as of 2025), those blocks too that the registries call globally
// reachable, because they are relays, translators and anycast services and none of them is somebody's API; multicast;
// addresses that were reserved once or are not given out; and the one metadata service on a public address.
// The predicates of package netip know less: to them 100.64.0.1, 198.18.0.1 and 64:ff9b::a9fe:a9fe are not private.
var networks = func() (nets []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8",            // this network, RFC 791
		"10.0.0.0/8",           // private use, RFC 1918
		"100.64.0.0/10",        // shared address space of carriers, RFC 6598; holds the metadata of Alibaba Cloud
		"127.0.0.0/8",          // loopback, RFC 1122
		"168.63.129.16/32",     // Azure's WireServer; in no registry
		"169.254.0.0/16",       // link-local, RFC 3927; holds the metadata of most clouds
		"172.16.0.0/12",        // private use, RFC 1918
		"192.0.0.0/24",         // IETF protocol assignments, RFC 6890; holds the metadata of Oracle Cloud
		"192.0.2.0/24",         // documentation, RFC 5737
		"192.31.196.0/24",      // AS112, RFC 7535
		"192.52.193.0/24",      // AMT, RFC 7450
		"192.88.99.0/24",       // 6to4 relays, RFC 7526
		"192.168.0.0/16",       // private use, RFC 1918
		"192.175.48.0/24",      // AS112, RFC 7534
		"198.18.0.0/15",        // benchmarks, RFC 2544
		"198.51.100.0/24",      // documentation, RFC 5737
		"203.0.113.0/24",       // documentation, RFC 5737
		"224.0.0.0/4",          // multicast, RFC 5771
		"240.0.0.0/4",          // reserved, RFC 1112; holds 255.255.255.255
		"::/3",                 // loopback, unspecified, IPv4-mapped and -compatible, NAT64, discard
		"2001::/23",            // IETF protocol assignments, RFC 2928: Teredo, benchmarks, AMT, AS112, ORCHID, drone ids
		"2001:db8::/32",        // documentation, RFC 3849
		"2002::/16",            // 6to4, RFC 3056: an IPv4 address in disguise
		"2620:4f:8000::/48",    // AS112, RFC 7534
		"3ffe::/16",            // 6bone, RFC 3701: given back
		"3fff::/20",            // documentation, RFC 9637
		"4000::/2", "8000::/1", // not global unicast, RFC 4291: SRv6, unique local, link-local, multicast
	} {
		nets = append(nets, netip.MustParsePrefix(s))
	}
	return nets
}()

// Address reports whether addr lies in one of the networks above. An IPv4 address written as IPv6 is judged as IPv4, a
// zone changes nothing, and what is no address is special.
func Address(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("") // netip would find no address with a zone in any network
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return !addr.IsValid()
}

// LocalName reports whether host, in lower case and without a last dot, can only be a name of the machine or of the
// network that it is resolved in.
func LocalName(host string) bool {
	if !strings.Contains(host, ".") {
		return true
	}
	for _, domain := range [...]string{"localhost", "local", "internal", "home.arpa"} {
		if rest, ok := strings.CutSuffix(host, domain); ok && (rest == "" || strings.HasSuffix(rest, ".")) {
			return true
		}
	}
	return false
}

// Number reports whether host, in lower case and without a last dot, is an address to programs that follow inet_aton or
// the WHATWG's URL standard: its last label is decimal digits or 0x and hexadecimal ones.
func Number(host string) bool {
	label := host[strings.LastIndexByte(host, '.')+1:]
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}
