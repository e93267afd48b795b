package special

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestClosed: a network that stands for IPv4 opens the public part of it, and with the inner network that part as well.
func TestClosed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		nets, addr string
		closed     bool
	}{
		{"", "8.8.8.8", false},
		{"", "10.0.0.1", true},
		{"10.0.0.0/8", "10.0.0.1", false},
		{"10.0.0.0/8", "::ffff:10.0.0.1", false},
		{"fe80::/10", "fe80::1%eth0", false},
		{"::1/128", "::1", false},
		{"::/3", "::1", false},
		{"::/0", "::", false},

		// IPv4-compatible, translated, and NAT64's well-known prefix.
		{"::/96", "::127.0.0.1", true},
		{"::/96", "::8.8.8.8", false},
		{"::/96", "::2", true},
		{"::/0", "::10.0.0.1", true},
		{"::/0 10.0.0.0/8", "::10.0.0.1", false},
		{"::/3", "::ffff:0:127.0.0.1", true},
		{"::/3", "::ffff:0:8.8.8.8", false},
		{"64:ff9b::/96", "64:ff9b::808:808", false},
		{"64:ff9b::/96", "64:ff9b::a9fe:a9fe", true},
		{"64:ff9b::/96 169.254.0.0/16", "64:ff9b::a9fe:a9fe", false},
		{"64:ff9b::a9fe:a9fe/128", "64:ff9b::a9fe:a9fe", true},
		{"169.254.0.0/16", "64:ff9b::a9fe:a9fe", true},

		// 6to4 and Teredo.
		{"2000::/3", "2002:7f00:1::1", true},
		{"2002::/16", "2002:7f00:1::1", true},
		{"2002::/16", "2002:808:808::1", false},
		{"2002::/16 127.0.0.0/8", "2002:7f00:1::1", false},
		{"2001::/32", "2001:0:808:808:0:0:f7f7:f7f7", false},
		{"2001::/32", "2001:0:7f00:1:0:0:f7f7:f7f7", true},
		{"2001::/32", "2001:0:808:808:0:0:80ff:fffe", true},
		{"2001::/23", "2001:4:112::1", false},

		// NAT64's local-use prefix, in each of RFC 6052's lengths: at 96, 64, 56, 48.
		{"64:ff9b:1::/96", "64:ff9b:1::808:808", false},
		{"64:ff9b:1::/96", "64:ff9b:1::a9fe:a9fe", true},
		{"64:ff9b:1::/96 169.254.0.0/16", "64:ff9b:1::a9fe:a9fe", false},
		{"64:ff9b:1:a00::/96", "64:ff9b:1:a00::808:808", false},
		{"64:ff9b:1::/64", "64:ff9b:1:0:8:808:800:0", false},
		{"64:ff9b:1::/64", "64:ff9b:1:0:7f:0:100:0", true},
		{"64:ff9b:1::/64 127.0.0.0/8", "64:ff9b:1:0:7f:0:100:0", false},
		{"64:ff9b:1::/56", "64:ff9b:1:8:8:808::", false},
		{"64:ff9b:1::/56", "64:ff9b:1:a9:fe:a9fe::", true},
		{"64:ff9b:1::/48", "64:ff9b:1:808:8:800::", false},
		{"64:ff9b:1::/48", "64:ff9b:1:107f:0:100::", false}, // 16.127.0.1, whose later bytes would be loopback
		{"64:ff9b:1::/48", "64:ff9b:1:7f00:0:100::", true},
		{"64:ff9b:1::/48", "64:ff9b:1:a9fe:a9:fe00::", true},

		// A network that is wider than the prefix, and one that is narrower.
		{"64:ff9b:1::/48", "64:ff9b:1::808:808", false},
		{"64:ff9b:1::/48", "64:ff9b:1::a9fe:a9fe", true},
		{"64:ff9b:1::/48", "64:ff9b:1:abcd::a9fe:a9fe", true},
		{"64:ff9b:1::/48", "64:ff9b:1:0:7f:0:100:0", true},
		{"64:ff9b:1::/48", "64:ff9b:1:8:7f:0:100:0", true},
		{"64:ff9b:1::/48", "64:ff9b:1:0:7f:0:108:808", true},
		{"64:ff9b:1::/48", "64:ff9b:1:7f00:0:108::808", true},
		{"64:ff9b::/16", "64:ff9b:1::a9fe:a9fe", true},
		{"::/3", "64:ff9b:1::808:808", false},
		{"64:ff9b:1::808:808/128", "64:ff9b:1::808:808", false},
		{"64:ff9b:1::a9fe:a9fe/128", "64:ff9b:1::a9fe:a9fe", true},
		{"64:ff9b:1::/48", "64:ff9b:1::", true},
		{"64:ff9b:1::/48", "64:ff9b:1::7f00:0", true},
		{"64:ff9b:1::/48 64:ff9b:1::/96", "64:ff9b:1::a9fe:a9fe", true},
	} {
		t.Run(fmt.Sprint(tt.nets, " ", tt.addr), func(t *testing.T) {
			t.Parallel()
			var nets []netip.Prefix
			for _, n := range strings.Fields(tt.nets) {
				nets = append(nets, netip.MustParsePrefix(n))
			}
			require.Equal(t, tt.closed, Closed(netip.MustParseAddr(tt.addr), nets))
		})
	}
	require.True(t, Closed(netip.Addr{}, []netip.Prefix{netip.MustParsePrefix("::/0")}), "what is no address")
}

// FuzzClosed: whatever is opened of IPv6 alone, no address that holds a private one in any form is.
func FuzzClosed(f *testing.F) {
	f.Add(byte(0), uint8(48), []byte{})
	f.Add(byte(3), uint8(64), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, form, bits byte, rest []byte) {
		block := []netip.Prefix{compatible, translated, nat64, sixToFour, localNAT64}[form%5]
		at := []int{12, 12, 12, 2, 12}[form%5]
		b := block.Addr().As16()
		copy(b[block.Bits()/8:], rest)
		copy(b[at:], []byte{169, 254, 169, 254})
		addr := netip.AddrFrom16(b)
		n, err := addr.Prefix(min(int(bits), 128))
		if err != nil {
			return
		}
		if !Closed(addr, []netip.Prefix{n}) {
			t.Errorf("%s opens %s", n, addr)
		}
	})
}
