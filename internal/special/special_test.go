package special

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRegistries holds Address against every block of IANA's two special-purpose address registries, the ones that a
// wider block here covers among them, by its first and its last address.
func TestRegistries(t *testing.T) {
	t.Parallel()
	for _, block := range []string{
		// IANA IPv4 Special-Purpose Address Registry.
		"0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32",
		"192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32",
		"192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"255.255.255.255/32",
		// IANA IPv6 Special-Purpose Address Registry.
		"::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
		"2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32",
		"2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16",
		"2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
		// Multicast, what was given back, what is not given out, and metadata services.
		"224.0.0.0/4", "ff00::/8", "fec0::/10", "3ffe::/16", "::/96", "4000::/3", "6000::/3", "8000::/3", "a000::/3",
		"c000::/3", "168.63.129.16/32", "fd00:ec2::254/128", "100.100.100.200/32", "192.0.0.192/32",
	} {
		n := netip.MustParsePrefix(block)
		require.Equal(t, n.Masked(), n)
		if block == "::ffff:0:0/96" { // judged as the IPv4 address within; the block as a whole is not one network
			continue
		}
		require.True(t, Address(n.Addr()), block)
		require.True(t, Address(last(n)), block)
	}
}

// TestEdges holds that each network here ends where it says, unless its neighbour is special too.
func TestEdges(t *testing.T) {
	t.Parallel()
	require.True(t, Address(netip.Addr{}), "what is no address")
	for _, n := range networks {
		require.Equal(t, n.Masked(), n)
		require.True(t, Address(n.Addr()), n)
		require.True(t, Address(last(n)), n)
		if n.Addr().Is4() {
			require.True(t, Address(netip.AddrFrom16(n.Addr().As16())), "%s, mapped", n)
		}
		require.True(t, Address(netip.AddrFrom16(n.Addr().As16()).WithZone("eth0")), "%s, with a zone", n)
	}
	for _, public := range []string{
		"1.0.0.0", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
		"191.255.255.255", "192.0.1.0", "192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255", "192.52.194.0",
		"192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "192.175.47.255", "192.175.49.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0",
		"223.255.255.255", "::ffff:8.8.8.8", "2000::", "2001:200::1", "2001:db7:ffff::", "2001:db9::", "2001:4860:4860::8888",
		"2001:ffff::", "2003::1", "2400:cb00::1", "2620:4f:7fff::", "2620:4f:8001::", "2a00::1", "3ffd::1", "3fff:1000::",
	} {
		require.False(t, Address(netip.MustParseAddr(public)), public)
	}
}

// last returns the highest address of n.
func last(n netip.Prefix) netip.Addr {
	b := n.Addr().AsSlice()
	for i := n.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// FuzzAddress: whatever bytes an address is made of, no way of writing it is judged otherwise.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "8.8.8.8", "::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2a00::1"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		if Address(addr) != Address(netip.AddrFrom16(addr.As16()).WithZone("eth0")) {
			t.Errorf("%s is judged otherwise when it is written as IPv6", addr)
		}
		if !Address(addr) && (addr.Unmap().IsLoopback() || addr.Unmap().IsPrivate() || !addr.Unmap().IsGlobalUnicast()) {
			t.Errorf("netip knows %s to be private", addr)
		}
	})
}
