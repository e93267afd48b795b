package keyhttp

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func trusting(t testing.TB, header string, prefixes ...string) *proxies {
	t.Helper()
	var list []netip.Prefix
	for _, s := range prefixes {
		list = append(list, netip.MustParsePrefix(s))
	}
	p, err := newProxies(list, header)
	require.NoError(t, err)
	return &p
}

// from makes a request of a peer, with lines of one header.
func from(remote, header string, lines ...string) *http.Request {
	r := &http.Request{RemoteAddr: remote, Header: http.Header{}}
	for _, line := range lines {
		r.Header.Add(header, line)
	}
	return r
}

func shown(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	const proxy, stranger = "10.0.0.1:4711", "203.0.113.7:4711"
	for _, tt := range []struct {
		name   string
		header string
		remote string
		lines  []string
		want   string
	}{
		{"a stranger", "", stranger, nil, "203.0.113.7"},
		{"a stranger's word", "", stranger, []string{"192.0.2.1"}, "203.0.113.7"},
		{"a stranger who names a proxy", "", stranger, []string{"192.0.2.1, 10.0.0.1"}, "203.0.113.7"},
		{"a proxy's own request", "", proxy, nil, "10.0.0.1"},
		{"a proxy's word", "", proxy, []string{"192.0.2.1"}, "192.0.2.1"},
		{"a client's word before it", "", proxy, []string{"198.51.100.66, 192.0.2.1"}, "192.0.2.1"},
		{"two proxies", "", proxy, []string{"198.51.100.66, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"a client who names a proxy", "", proxy, []string{"10.0.0.9, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"all within", "", proxy, []string{"10.0.0.7,10.0.0.2"}, "10.0.0.7"},
		{"two lines", "", proxy, []string{"192.0.2.1", "10.0.0.2"}, "192.0.2.1"},
		{"two lines, the client's first", "", proxy, []string{"198.51.100.66", "192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		{"two lines in which all is well", "", proxy, []string{"10.0.0.7", "10.0.0.8"}, "10.0.0.7"},
		{"another header", "", proxy, nil, "10.0.0.1"},
		{"six", "", proxy, []string{"2001:db8::1"}, "2001:db8::1"},
		{"six in brackets", "", proxy, []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"six with a port", "", proxy, []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"four with a port", "", proxy, []string{"192.0.2.1:4711"}, "192.0.2.1"},
		{"four mapped", "", proxy, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"a proxy mapped", "", "[::ffff:10.0.0.1]:4711", []string{"192.0.2.1, ::ffff:10.0.0.2"}, "192.0.2.1"},
		{"a zone", "", proxy, []string{"fe80::1%eth0"}, "fe80::1"},
		{"a peer with a zone", "", "[fe80::1%eth0]:4711", nil, "fe80::1"},
		{"a proxy with a zone", "", "[fd00::1%eth0]:4711", []string{"192.0.2.1"}, "192.0.2.1"},
		{"tabs", "", proxy, []string{"198.51.100.66,\t192.0.2.1\t"}, "192.0.2.1"},
		{"a name", "", proxy, []string{"192.0.2.1, localhost"}, ""},
		{"unknown", "", proxy, []string{"192.0.2.1, unknown"}, ""},
		{"an empty line", "", proxy, []string{""}, ""},
		{"an empty line at the end", "", proxy, []string{"192.0.2.1", ""}, ""},
		{"an empty entry", "", proxy, []string{"192.0.2.1,"}, ""},
		{"an empty entry further left", "", proxy, []string{",192.0.2.1"}, "192.0.2.1"},
		{"a number", "", proxy, []string{"3221225985"}, ""},
		{"a short form", "", proxy, []string{"127.1"}, ""},
		{"a leading zero", "", proxy, []string{"192.0.02.1"}, ""},
		{"a prefix", "", proxy, []string{"192.0.2.1/32"}, ""},
		{"two in one", "", proxy, []string{"192.0.2.1 192.0.2.2"}, ""},
		{"a port that is none", "", proxy, []string{"192.0.2.1:http"}, ""},
		{"a port that is too long", "", proxy, []string{"192.0.2.1:443443"}, ""},
		{"no port after the colon", "", proxy, []string{"192.0.2.1:"}, ""},
		{"four in brackets", "", proxy, []string{"[192.0.2.1]"}, ""},
		{"half a bracket", "", proxy, []string{"[2001:db8::1"}, ""},
		{"more behind the bracket", "", proxy, []string{"[2001:db8::1]1"}, ""},
		{"a Unix socket", "", "@", []string{"192.0.2.1"}, ""},
		{"no peer", "", "", []string{"192.0.2.1"}, ""},
		{"a peer without a port", "", "10.0.0.1", []string{"192.0.2.1"}, ""},
		{"a header of one address", "CF-Connecting-IP", proxy, []string{"192.0.2.1"}, "192.0.2.1"},
		{"that header twice", "CF-Connecting-IP", proxy, []string{"198.51.100.66", "192.0.2.1"}, "192.0.2.1"},
		{"Forwarded", "forwarded", proxy, []string{"for=192.0.2.1"}, "192.0.2.1"},
		{"all of it", "Forwarded", proxy, []string{`By=10.0.0.1;FOR="192.0.2.1:4711";proto=https;host=shop.example`}, "192.0.2.1"},
		{"six, Forwarded", "Forwarded", proxy, []string{`for="[2001:db8::1]:4711"`}, "2001:db8::1"},
		{"a hidden port", "Forwarded", proxy, []string{`for="192.0.2.1:_p0"`}, "192.0.2.1"},
		{"a client's word, Forwarded", "Forwarded", proxy, []string{"for=198.51.100.66, for=192.0.2.1;proto=http, for=10.0.0.2"},
			"192.0.2.1"},
		{"a comma in quotes", "Forwarded", proxy, []string{`for=192.0.2.1;host="a,for=198.51.100.66"`}, "192.0.2.1"},
		{"a semicolon in quotes", "Forwarded", proxy, []string{`host="a;for=198.51.100.66";for=192.0.2.1`}, "192.0.2.1"},
		{"an escape in quotes", "Forwarded", proxy, []string{`for=192.0.2.1;host="a\",for=198.51.100.66"`}, "192.0.2.1"},
		{"an open quote of the client's", "Forwarded", proxy, []string{`for="198.51.100.66, for=192.0.2.1`}, "192.0.2.1"},
		{"an open quote on a line before", "Forwarded", proxy, []string{`for="198.51.100.66`, `for=192.0.2.1`}, "192.0.2.1"},
		{"an escape of the client's", "Forwarded", proxy, []string{`for="a\, for=192.0.2.1`}, "192.0.2.1"},
		{"empty pairs", "Forwarded", proxy, []string{`;; for=192.0.2.1 ;`}, "192.0.2.1"},
		{"unknown, Forwarded", "Forwarded", proxy, []string{"for=192.0.2.1, for=unknown"}, ""},
		{"obfuscated", "Forwarded", proxy, []string{"for=192.0.2.1, for=_hidden"}, ""},
		{"no for", "Forwarded", proxy, []string{"for=192.0.2.1, proto=https"}, ""},
		{"for twice", "Forwarded", proxy, []string{"for=192.0.2.1;for=192.0.2.2"}, ""},
		{"for without a value", "Forwarded", proxy, []string{"for"}, ""},
		{"for with an empty value", "Forwarded", proxy, []string{"for="}, ""},
		{"a blank before the sign", "Forwarded", proxy, []string{"for =192.0.2.1"}, ""},
		{"a quote in the middle", "Forwarded", proxy, []string{`for=192.0.2.1"`}, ""},
		{"an address with an escape", "Forwarded", proxy, []string{`for="192.0.2.\1"`}, ""},
		{"more behind the quotes", "Forwarded", proxy, []string{`for="192.0.2.1"x`}, ""},
		{"X-Forwarded-For's form", "Forwarded", proxy, []string{"192.0.2.1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := trusting(t, tt.header, "10.0.0.0/8", "fd00::/8")
			r := from(tt.remote, p.header, tt.lines...)
			for _, other := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Client-Ip"} {
				if other != p.header {
					r.Header.Add(other, "198.51.100.77")
				}
			}
			require.Equal(t, tt.want, shown(p.client(r)))
		})
	}
	none := trusting(t, "")
	require.Equal(t, "10.0.0.1", shown(none.client(from(proxy, forwardedFor, "192.0.2.1"))), "nobody is trusted by default")
	mapped := trusting(t, "", "::ffff:10.0.0.0/104")
	require.Equal(t, "192.0.2.1", shown(mapped.client(from(proxy, forwardedFor, "192.0.2.1"))))
}

// TestLongLists: a client that fills its header with what looks like our proxies costs no more than reading it does. It
// counts allocations, so it runs alone.
func TestLongLists(t *testing.T) {
	p := trusting(t, "", "10.0.0.0/8")
	r := from("10.0.0.1:1", forwardedFor, "192.0.2.1,"+strings.Repeat("10.0.0.2,", 1<<15)+"10.0.0.3")
	require.Equal(t, "192.0.2.1", shown(p.client(r)))
	require.Zero(t, testing.AllocsPerRun(10, func() { p.client(r) }))
}

// FuzzClientAddress holds, for whatever a client sends, that what the last trusted proxy adds behind it is believed, and
// that nothing of it is when the peer is not trusted.
func FuzzClientAddress(f *testing.F) {
	for _, s := range []string{
		"", "192.0.2.1", "10.0.0.2, 10.0.0.3", `for="`, `for="a\`, `for=10.0.0.2;host="`, "for=10.0.0.2, for=\"[fd00::1]:1\"", ",", `"`, `\`,
	} {
		f.Add(s, "10.0.0.1:80")
		f.Add(s, "198.51.100.66:4711")
	}
	lists := map[string]func(string) string{
		"X-Forwarded-For": func(a string) string { return a },
		"X-Real-Ip":       func(a string) string { return a + ":443" },
		"Forwarded":       func(a string) string { return `by="_a,\"b";for="` + a + `"` },
	}
	f.Fuzz(func(t *testing.T, sent, remote string) {
		for header, written := range lists {
			p := trusting(t, header, "10.0.0.0/8", "fd00::/8")
			for _, lines := range [][]string{
				{sent + "," + written("203.0.113.7")},
				{sent, written("203.0.113.7")},
				{sent, written("203.0.113.7") + ", " + written("10.0.0.2")},
			} {
				if got := shown(p.client(from("10.0.0.1:80", header, lines...))); got != "203.0.113.7" {
					t.Errorf("%s %q: %s", header, lines, got)
				}
				own := p.client(from(remote, header))
				got := p.client(from(remote, header, lines...))
				if !p.trusts(own) && got != own {
					t.Errorf("%s from %q: %s, and not %s", header, remote, got, own)
				}
			}
			// What comes out is unmapped, without a zone, and written in the header or the peer's.
			got := p.client(from("10.0.0.1:80", header, sent))
			if got != plain(got) {
				t.Errorf("%s %q: %s is not plain", header, sent, got)
			}
			if got.IsValid() && !p.trusts(got) && !written4(sent, got) {
				t.Errorf("%s %q: %s is not in it", header, sent, got)
			}
		}
	})
}

// written4 reports whether an IPv4 address stands in s; what IPv6 addresses look like is their parser's affair.
func written4(s string, a netip.Addr) bool {
	return !a.Is4() || strings.Contains(s, a.String()) || strings.Contains(s, ":")
}

// FuzzForwarded holds that cutting a list from the right loses nothing, and that an element which a strict reader of RFC
// 7239 takes from the left, quotes and all, is what comes off.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{`for=a, for=b`, `for="a,b"`, `for="a\",b", x=y`, `"`, `\"`, `,,`, `a="\\",b="\""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		rest, joined := list, ""
		for more := true; more; {
			var element string
			if rest, element, more = cutLastQuoted(rest); more {
				joined = "," + element + joined
			}
		}
		if rest+joined != list {
			t.Errorf("%q became %q", list, rest+joined)
		}
		if elements, ok := splitForward(list); ok {
			_, last, found := cutLastQuoted(list)
			if found != (len(elements) > 1) || found && last != elements[len(elements)-1] {
				t.Errorf("%q: %q, and from the left %q", list, last, elements)
			}
		}
		for element := range strings.SplitSeq(list, ",") {
			parseForwarded(element)
			parseNode(element)
		}
	})
}

// splitForward splits a list at its commas from the left, and is false when its quotes are not those of quoted strings.
func splitForward(list string) (elements []string, ok bool) {
	start, quoted := 0, false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case !quoted && c == '\\', !quoted && c == '"' && (i == 0 || list[i-1] != '='):
			return nil, false
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			elements, start = append(elements, list[start:i]), i+1
		}
	}
	return append(elements, list[start:]), !quoted
}
