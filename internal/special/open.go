package special

import (
	"net/netip"
	"slices"
)

// Closed reports whether addr is special and none of nets opens it; nets are as Network returns them. A network of IPv6
// that stands for IPv4 opens an address only if what it leads to is open as well: an operator behind NAT64 opens all of
// it, and means the public ones.
func Closed(addr netip.Addr, nets []netip.Prefix) bool {
	if !Address(addr) {
		return false
	}
	addr = addr.Unmap().WithZone("")
	return !slices.ContainsFunc(nets, func(n netip.Prefix) bool {
		return n.Contains(addr) && !slices.ContainsFunc(embedded(addr, n.Bits()), func(inner netip.Addr) bool {
			return Closed(inner, nets)
		})
	})
}

// The blocks whose addresses hold one of IPv4, but for the mapped ones, which are judged as IPv4 everywhere.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291, section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052: the well-known prefix, of this one length
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215: prefixes of one's own, of RFC 6052's lengths
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
)

// embedded returns the IPv4 addresses that addr, which is no IPv4 address, may lead to when a prefix of so many bits
// has been opened.
func embedded(addr netip.Addr, bits int) []netip.Addr {
	b := addr.As16()
	at := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	switch {
	case compatible.Contains(addr) && !(addr == netip.IPv6Unspecified() || addr == netip.IPv6Loopback()),
		translated.Contains(addr), nat64.Contains(addr):
		return []netip.Addr{at(12, 13, 14, 15)}
	case localNAT64.Contains(addr):
		return local(b, bits)
	case sixToFour.Contains(addr):
		return []netip.Addr{at(2, 3, 4, 5)}
	case teredo.Contains(addr): // the server, and the client behind it, whose bits are inverted
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		return []netip.Addr{at(4, 5, 6, 7), client}
	}
	return nil
}

type reading struct {
	bits int
	at   [4]int
}

// readings are where RFC 6052 has the bytes of an IPv4 address after a prefix of so many bits. Byte 8 is left out.
var readings = [...]reading{
	{48, [4]int{6, 7, 9, 10}}, {56, [4]int{7, 9, 10, 11}}, {64, [4]int{9, 10, 11, 12}}, {96, [4]int{12, 13, 14, 15}},
}

// local returns what an address of the local-use block leads to. Nobody but the operator knows the length of his
// prefix: it is taken to be that of the network that he has opened. What follows the IPv4 address must then be zero;
// where it is not, the prefix may be a longer one inside that network, and all of those count as well. Readings of
// 0.0.0.0/8, which is nowhere, come of a prefix's zeros, and count only if there is no other.
func local(b [16]byte, bits int) (addrs []netip.Addr) {
	if bits > 96 { // one address, or a few of them
		bits = 0
	}
	fits := func(r reading) bool { return r.bits >= bits }
	for i, r := range readings[slices.IndexFunc(readings[:], fits):] {
		addr := netip.AddrFrom4([4]byte{b[r.at[0]], b[r.at[1]], b[r.at[2]], b[r.at[3]]})
		if b[r.at[0]] != 0 {
			addrs = append(addrs, addr)
		}
		if rest := b[r.at[3]+1:]; i == 0 && !slices.ContainsFunc(rest, func(c byte) bool { return c != 0 }) {
			break
		}
	}
	if addrs == nil {
		return []netip.Addr{netip.IPv4Unspecified()}
	}
	return addrs
}
