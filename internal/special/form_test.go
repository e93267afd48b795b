package special

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHost(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	for _, tt := range []struct{ host, key string }{
		{"NAS.example.", "nas.example"}, {"redis", "redis"}, {"a_b-c.example", "a_b-c.example"},
		{"10.0.0.5", "10.0.0.5"}, {"10.0.0.5.", "10.0.0.5"}, {"::ffff:10.0.0.5", "10.0.0.5"}, {"[::ffff:10.0.0.5]", "10.0.0.5"},
		{"[0:0::1]", "::1"}, {"0:0::1", "::1"}, {label + ".example", label + ".example"},
		{strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "a"},
		{"", ""}, {".", ""}, {"..", ""}, {"a..b", ""}, {".a", ""}, {"a..", ""}, {"*", ""}, {"a b", ""}, {"é.example", ""},
		{"nas.local:443", ""}, {"https://nas.local", ""}, {"fe80::1%eth0", ""}, {"[fe80::1%eth0]", ""}, {"[::1", ""},
		{"::1]", ""}, {"[nas.local]", ""}, {"[10.0.0.5]", ""}, {"[]", ""}, {"[::1]:443", ""},
		{label + "a.example", ""}, {strings.Repeat("a.", 126) + "ab", ""},
	} {
		key, addr, ok := Host(tt.host)
		require.Equal(t, tt.key != "", ok, tt.host)
		if ok {
			require.Equal(t, tt.key, key)
			require.Equal(t, addr.IsValid(), strings.ContainsAny(key, ":") || key == "10.0.0.5")
		}
	}
}

// FuzzHost: whatever is typed, what is compared is a plain name or an address, and says so itself.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"", ".", "nas.local", "NAS.Local.", "[::1]", "::ffff:127.0.0.1", "fe80::1%lo", "a..b",
		"127.1", "é", "*", "0.0.0.0.", "::1."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, addr, ok := Host(s)
		if !ok {
			return
		}
		again, addr2, ok := Host(key)
		if !ok || again != key || addr.Unmap() != addr2 {
			t.Errorf("%q is %q, which is %q", s, key, again)
		}
		if strings.ContainsAny(key, "/@?#%[] \\*") || key != strings.ToLower(key) {
			t.Errorf("%q is no host", key)
		}
	})
}
