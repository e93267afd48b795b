package keycote

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEndpointOrigin(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, endpoint, want string }{
		{"plain", "https://api.example.com", "https://api.example.com:443"},
		{"path and query", "https://api.example.com/v1/chat?x=1", "https://api.example.com:443"},
		{"http", "http://api.example.com/", "http://api.example.com:80"},
		{"letter case", "HTTPS://API.Example.COM/V1", "https://api.example.com:443"},
		{"default port written", "https://api.example.com:443/", "https://api.example.com:443"},
		{"empty port", "https://api.example.com:/", "https://api.example.com:443"},
		{"a port", "https://api.example.com:8443/", "https://api.example.com:8443"},
		{"a port with zeros", "https://api.example.com:0443/", "https://api.example.com:443"},
		{"http on 443", "http://api.example.com:443/", "http://api.example.com:443"},
		{"trailing dot", "https://api.example.com./", "https://api.example.com:443"},
		{"underscore", "https://my_host.example.com/", "https://my_host.example.com:443"},
		{"IPv4", "https://192.0.2.1/", "https://192.0.2.1:443"},
		{"IPv6", "https://[2001:DB8:0:0::1]:8443/", "https://[2001:db8::1]:8443"},
		{"IPv4-mapped", "https://[::ffff:7f00:1]/", "https://[::ffff:127.0.0.1]:443"},
		{"local name", "http://localhost:8080/", "http://localhost:8080"},
		{"fragment", "https://api.example.com/#x", "https://api.example.com:443"},
		{"long", "https://api.example.com/" + strings.Repeat("a", 5000), "https://api.example.com:443"},
		{"path beyond ASCII", "https://api.example.com/ключ", "https://api.example.com:443"},

		{"empty", "", ""},
		{"no scheme", "api.example.com", ""},
		{"no scheme, port", "api.example.com:443", ""},
		{"scheme-relative", "//api.example.com/", ""},
		{"another scheme", "ftp://api.example.com/", ""},
		{"javascript", "javascript:alert(1)", ""},
		{"no host", "https:///v1", ""},
		{"opaque", "https:api.example.com", ""},
		{"port alone", "https://:443/", ""},
		{"dot alone", "https://./", ""},
		{"two trailing dots", "https://api.example.com../", ""},
		{"empty label", "https://api..example.com/", ""},
		{"port 0", "https://api.example.com:0/", ""},
		{"port 65536", "https://api.example.com:65536/", ""},
		{"a huge port", "https://api.example.com:99999999999999999999/", ""},
		{"a named port", "https://api.example.com:https/", ""},
		{"user-info", "https://me:pw@api.example.com/", ""},
		{"empty user-info", "https://@api.example.com/", ""},
		{"user-info that looks like a host", "https://api.example.com@evil.example/", ""},
		{"backslash", `https://api.example.com\@evil.example/`, ""},
		{"backslash in the path", `https://api.example.com/\evil`, ""},
		{"blank before", " https://api.example.com/", ""},
		{"blank after", "https://api.example.com/ ", ""},
		{"blank within", "https://api.example.com/a b", ""},
		{"newline", "https://api.example.com/\n", ""},
		{"CRLF in the host", "https://api.example.com\r\nX: y/", ""},
		{"NUL", "https://api.example.com/\x00", ""},
		{"not UTF-8", "https://api.example.com/\xff", ""},
		{"host beyond ASCII", "https://bücher.example/", ""},
		{"full-width digits", "https://１２７.0.0.1/", ""},
		{"percent-encoded host", "https://api%2eexample.com/", ""},
		{"percent-encoded beyond ASCII", "https://b%C3%BCcher.example/", ""},
		{"sub-delimiters in the host", "https://a!$&'()*+,;=b.example/", ""},
		{"zone", "https://[fe80::1%25eth0]/", ""},
		{"IPv4 in brackets", "https://[127.0.0.1]/", ""},
		{"name in brackets", "https://[localhost]/", ""},
		{"IPv6 without brackets", "https://2001:db8::1/", ""},
		{"too many numbers", "https://1.2.3.4.5/", ""},
		{"a number too large", "https://256.1.1.1/", ""},
		{"a label of 64", "https://" + strings.Repeat("a", 64) + ".example/", ""},
		{"a name of 254", "https://" + strings.Repeat("a.", 126) + "aa/", ""},
		{"right-to-left override", "https://api.example.com/\u202e", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := endpointOrigin(tt.endpoint)
			require.Equal(t, tt.want != "", ok)
			require.Equal(t, tt.want, got)
		})
	}
}

// endpointCodes are the codes of what is wrong with endpoint.
func endpointCodes(t *testing.T, v *Validator, endpoint string) []Code {
	t.Helper()
	vs, err := v.Validate(t.Context(), &Draft{Kind: KindCredential, ID: "key_x", Name: "n", Endpoint: endpoint})
	require.NoError(t, err)
	var codes []Code
	for _, v := range vs {
		require.Equal(t, fieldEndpoint, v.Field)
		codes = append(codes, v.Code)
	}
	return codes
}

func TestEndpointRules(t *testing.T) {
	t.Parallel()
	strict := NewValidator(nil)
	private := []Code{codePrivateAddress}
	tests := []struct {
		name, endpoint string
		want           []Code
	}{
		{"good", "https://api.example.com/v1?x=1", nil},
		{"public address", "https://8.8.8.8:8443/", nil},
		{"public IPv6", "https://[2606:4700::1111]/", nil},
		{"2,048 bytes", "https://api.example.com/" + strings.Repeat("a", 2024), nil},

		{"empty", "", []Code{codeRequired}},
		{"2,049 bytes", "https://api.example.com/" + strings.Repeat("a", 2025), []Code{codeTooLong}},
		{"1 MiB of NUL", strings.Repeat("\x00", 1<<20), []Code{codeTooLong}},
		{"not UTF-8", "https://api.example.com/\xff", []Code{codeEncoding}},
		{"newline", "https://api.example.com/\n", []Code{codeControl}},
		{"NUL", "https://api.example.com/\x00", []Code{codeControl}},
		{"blank edge", " https://api.example.com/", []Code{codeBlankEdge}},
		{"blank within", "https://api.example.com/a b", []Code{codeSyntax}},
		{"backslash", `https://api.example.com\@evil.example/`, []Code{codeSyntax}},
		{"no host", "https:///v1", []Code{codeSyntax}},
		{"host beyond ASCII", "https://bücher.example/", []Code{codeCharset}},
		{"port 0", "https://api.example.com:0/", []Code{codeOutOfRange}},
		{"port 65536", "https://api.example.com:65536/", []Code{codeOutOfRange}},
		{"http", "http://api.example.com/", []Code{codeScheme}},
		{"file", "file:///etc/passwd", []Code{codeScheme}},
		{"ftp", "ftp://api.example.com/", []Code{codeScheme}},
		{"no scheme", "api.example.com/v1", []Code{codeScheme}},
		{"no scheme, port", "api.example.com:443/v1", []Code{codeScheme}},
		{"user-info", "https://me:pw@api.example.com/", []Code{codeUserInfo}},
		{"fragment", "https://api.example.com/#a", []Code{codeFragment}},
		{"empty fragment", "https://api.example.com/#", []Code{codeFragment}},
		{"all at once", "http://me@127.0.0.1:0/#a",
			[]Code{codeUserInfo, codeOutOfRange, codeScheme, codeFragment, codePrivateAddress}},

		// The list of lessons.md, and every block of design section 9.
		{"loopback", "https://127.0.0.1/", private},
		{"loopback, another", "https://127.255.255.254/", private},
		{"this network", "https://0.0.0.0/", private},
		{"RFC 1918, 10", "https://10.1.2.3/", private},
		{"RFC 1918, 172.16", "https://172.31.255.255/", private},
		{"RFC 1918, 192.168", "https://192.168.1.5/", private},
		{"link-local and metadata", "https://169.254.169.254/latest/", private},
		{"carriers", "https://100.64.0.1/", private},
		{"Alibaba's metadata", "https://100.100.100.200/", private},
		{"Oracle's metadata", "https://192.0.0.192/", private},
		{"Azure's WireServer", "https://168.63.129.16/", private},
		{"benchmarks", "https://198.18.0.1/", private},
		{"benchmarks, upper half", "https://198.19.255.255/", private},
		{"documentation 1", "https://192.0.2.1/", private},
		{"documentation 2", "https://198.51.100.1/", private},
		{"documentation 3", "https://203.0.113.1/", private},
		{"6to4 relay", "https://192.88.99.1/", private},
		{"AS112", "https://192.175.48.1/", private},
		{"AMT", "https://192.52.193.1/", private},
		{"multicast", "https://224.0.0.1/", private},
		{"reserved", "https://240.0.0.1/", private},
		{"broadcast", "https://255.255.255.255/", private},
		{"IPv6 loopback", "https://[::1]/", private},
		{"IPv6 unspecified", "https://[::]/", private},
		{"IPv4-mapped loopback", "https://[::ffff:127.0.0.1]/", private},
		{"IPv4-mapped in hexadecimal", "https://[::ffff:7f00:1]/", private},
		{"IPv4-compatible", "https://[::127.0.0.1]/", private},
		{"NAT64 of metadata", "https://[64:ff9b::a9fe:a9fe]/", private},
		{"NAT64, local", "https://[64:ff9b:1::1]/", private},
		{"discard", "https://[100::1]/", private},
		{"Teredo", "https://[2001::1]/", private},
		{"IPv6 benchmarks", "https://[2001:2::1]/", private},
		{"ORCHID", "https://[2001:20::1]/", private},
		{"IPv6 documentation", "https://[2001:db8::1]/", private},
		{"IPv6 documentation, new", "https://[3fff::1]/", private},
		{"6to4 of loopback", "https://[2002:7f00:1::]/", private},
		{"AWS's metadata", "https://[fd00:ec2::254]/", private},
		{"unique local", "https://[fc00::1]/", private},
		{"IPv6 link-local", "https://[fe80::1]/", private},
		{"site-local", "https://[fec0::1]/", private},
		{"SRv6", "https://[5f00::1]/", private},
		{"IPv6 multicast", "https://[ff02::1]/", private},
		{"with a zone", "https://[fe80::1%25eth0]/", []Code{codeSyntax, codePrivateAddress}},
		{"in brackets", "https://[127.0.0.1]/", []Code{codeSyntax}},

		// Spellings.
		{"short", "https://127.1/", private},
		{"three parts", "https://127.0.1/", private},
		{"hexadecimal", "https://0x7f000001/", private},
		{"hexadecimal parts", "https://0x7f.0x0.0x0.0x1/", private},
		{"hexadecimal, letter case", "https://0X7F.1/", private},
		{"decimal", "https://2130706433/", private},
		{"octal", "https://0177.0.0.1/", private},
		{"octal as a whole", "https://017700000001/", private},
		{"leading zeros that some read as decimal", "https://0127.0.0.1/", private},
		{"zero", "https://0/", private},
		{"an empty hexadecimal number", "https://0x/", private},
		{"metadata in decimal", "https://2852039166/", private},
		{"trailing dot", "https://127.0.0.1./", private},
		{"short, trailing dot", "https://127.1./", private},
		{"a public address in decimal is a name without a dot", "https://134744072/", private},
		{"a public address in hexadecimal parts", "https://0x8.8.8.8/", nil},
		{"no address at all", "https://256.0.0.1/", []Code{codeSyntax}},
		{"too large for what is left", "https://127.16777216/", []Code{codeSyntax}},
		{"full-width", "https://１２７.0.0.1/", []Code{codeCharset}},

		// Names.
		{"localhost", "https://localhost/", private},
		{"localhost, letter case, dot, port", "https://LocalHost.:8443/", private},
		{"under localhost", "https://a.localhost/", private},
		{"local", "https://printer.local/", private},
		{"internal", "https://metadata.google.internal/", private},
		{"home.arpa", "https://nas.home.arpa/", private},
		{"home.arpa itself", "https://home.arpa/", private},
		{"no dot", "https://intranet/", private},
		{"no dot but a trailing one", "https://intranet./", private},
		{"ends alike", "https://notlocalhost.example/", nil},
		{"ends alike, within a label", "https://mylocal.xlocal.com/", nil},
		{"another arpa", "https://somewhere.arpa/", nil},
		{"a label that is almost local", "https://a.xinternal/", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, endpointCodes(t, strict, tt.endpoint))
		})
	}
}

func TestEndpointOptions(t *testing.T) {
	t.Parallel()
	hosts := func(h ...string) *ValidatorOptions { return &ValidatorOptions{AllowHosts: h} }
	nets := func(n ...string) *ValidatorOptions {
		o := &ValidatorOptions{}
		for _, s := range n {
			o.AllowNets = append(o.AllowNets, netip.MustParsePrefix(s))
		}
		return o
	}
	private := []Code{codePrivateAddress}
	tests := []struct {
		name     string
		opts     *ValidatorOptions
		endpoint string
		want     []Code
	}{
		{"http allowed", &ValidatorOptions{AllowHTTP: true}, "http://api.example.com/", nil},
		{"http allowed, private all the same", &ValidatorOptions{AllowHTTP: true}, "http://localhost/", private},
		{"http allowed, nothing else", &ValidatorOptions{AllowHTTP: true}, "ws://api.example.com/", []Code{codeScheme}},
		{"a host", hosts("localhost"), "https://LOCALHOST.:8443/", nil},
		{"a host, written otherwise", hosts("NAS.Local."), "https://nas.local/", nil},
		{"a host opens no http", hosts("localhost"), "http://localhost/", []Code{codeScheme}},
		{"a host opens no other", hosts("localhost"), "https://a.localhost/", private},
		{"an address as host", hosts("127.0.0.1"), "https://127.0.0.1/", nil},
		{"an address as host, mapped", hosts("127.0.0.1"), "https://[::ffff:127.0.0.1]/", nil},
		{"an address as host, another spelling", hosts("127.0.0.1"), "https://127.1/", private},
		{"IPv6 as host", hosts("[FD00::1]"), "https://[fd00::1]/", nil},
		{"IPv6 as host without brackets", hosts("fd00:0::1"), "https://[fd00::1]/", nil},
		{"a host with a port opens nothing", hosts("localhost:8443"), "https://localhost:8443/", private},
		{"empty and nonsense open nothing", hosts("", ".", "*", "*.local", "invalid IP"), "https://a.local/", private},
		{"a network", nets("192.168.0.0/16"), "https://192.168.1.5/", nil},
		{"a network, mapped", nets("192.168.0.0/16"), "https://[::ffff:192.168.1.5]/", nil},
		{"a mapped network", nets("::ffff:192.168.0.0/112"), "https://192.168.1.5/", nil},
		{"a network opens no other", nets("192.168.0.0/16"), "https://10.0.0.1/", private},
		{"a network, another spelling", nets("127.0.0.0/8"), "https://127.1/", nil},
		{"a network, a number", nets("127.0.0.0/8"), "https://2130706433/", nil},
		{"a network opens no name", nets("127.0.0.0/8"), "https://localhost/", private},
		{"one reading is not enough", nets("127.0.0.0/8"), "https://0127.0.0.1/", nil}, // the other one, 87.0.0.1, is public
		{"one private reading is enough to refuse", nets("10.0.0.0/8"), "https://0127.0.0.1/", private},
		{"a network with host bits opens nothing", nets("192.168.1.1/16"), "https://192.168.1.5/", private},
		{"all of IPv4 does not open NAT64", nets("0.0.0.0/0"), "https://[64:ff9b::a9fe:a9fe]/", private},
		{"NAT64, public inside", nets("64:ff9b::/96"), "https://[64:ff9b::808:808]/", nil},
		{"NAT64, private inside", nets("64:ff9b::/96", "64:ff9b:1::/48"), "https://[64:ff9b::a9fe:a9fe]/", private},
		{"NAT64 of one's own, private inside", nets("64:ff9b:1::/48"), "https://[64:ff9b:1::a9fe:a9fe]/", private},
		{"6to4, private inside", nets("2000::/3"), "https://[2002:7f00:1::1]/", private},
		{"a mapped address as host", hosts("::ffff:10.0.0.5"), "https://10.0.0.5/", nil},
		{"a label too long opens nothing", hosts(strings.Repeat("a", 64)), "https://" + strings.Repeat("a", 64) + "/",
			[]Code{codeSyntax}},
		{"an invalid network opens nothing", &ValidatorOptions{AllowNets: []netip.Prefix{{}}}, "https://127.0.0.1/", private},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, endpointCodes(t, NewValidator(tt.opts), tt.endpoint))
		})
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"", "https://api.example.com/v1", "http://LOCALHOST:8080", "https://[::1]:0443/", "https://127.1./#x",
		"https://a@b:1/", "https://0x7f.1", "https://[fe80::1%25eth0]/", "https:// ", "https://h:65536", "https://é", `https://a\@b/`,
		"https://0x", "https://0777777777777777777777", "//x", "https://x/?q=#", "https://[::ffff:1.2.3.4]"} {
		f.Add(s)
	}
	strict := NewValidator(nil)
	loose := NewValidator(&ValidatorOptions{AllowHTTP: true, AllowNets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"),
		netip.MustParsePrefix("::/0")}})
	f.Fuzz(func(t *testing.T, endpoint string) {
		codes := func(v *Validator, endpoint string) map[Code]bool {
			vs, err := v.Validate(t.Context(), &Draft{Kind: KindCredential, ID: "key_x", Name: "n", Endpoint: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			codes := map[Code]bool{}
			for _, v := range vs {
				codes[v.Code] = true
			}
			return codes
		}
		origin, ok := endpointOrigin(endpoint)
		found := codes(loose, endpoint)
		beyondOrigin := found[codePrivateAddress] || found[codeFragment] || found[codeTooLong]
		if !ok && len(found) == 0 {
			t.Fatalf("%q passes and has no origin", endpoint)
		}
		if ok && len(found) > 0 && !beyondOrigin {
			t.Fatalf("%q has the origin %q and is refused for %v", endpoint, origin, found)
		}
		if !ok {
			return
		}
		if again, ok := endpointOrigin(origin); !ok || again != origin {
			t.Fatalf("the origin of %q is %q, whose own is %q", endpoint, origin, again)
		}
		if len(endpoint) <= maxEndpoint && codes(strict, endpoint)[codePrivateAddress] != codes(strict, origin)[codePrivateAddress] {
			t.Fatalf("%q and its origin %q are not equally private", endpoint, origin)
		}
		u, err := url.Parse(endpoint) // what net/http dials
		if err != nil {
			t.Fatal(err)
		}
		host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
		if addr, err := netip.ParseAddr(host); err == nil {
			host = addr.String()
		}
		if host != hostOf(t, origin) {
			t.Fatalf("net/url reads %q as %q, the origin is %q", endpoint, host, origin)
		}
	})
}

func hostOf(t *testing.T, origin string) string {
	t.Helper()
	u, err := url.Parse(origin)
	require.NoError(t, err)
	return u.Hostname()
}
