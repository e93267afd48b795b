package special

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		host          string
		local, number bool
	}{
		{"a public name", "api.example.com", false, false},
		{"one label", "redis", true, false},
		{"localhost", "localhost", true, false},
		{"below localhost", "a.localhost", true, false},
		{"mDNS", "nas.local", true, false},
		{"a cloud's metadata", "metadata.google.internal", true, false},
		{"a home", "nas.home.arpa", true, false},
		{"arpa alone", "nas.arpa", false, false},
		{"only alike", "notlocal.example", false, false},
		{"the end is alike", "example.notlocal", false, false},
		{"two numbers", "127.1", false, true},
		{"one number", "2130706433", true, true},
		{"hexadecimal", "0x7f000001", true, true},
		{"hexadecimal at the end", "127.0.0.0x1", false, true},
		{"0x alone", "example.0x", false, true},
		{"a number at the end", "example.7", false, true},
		{"a number in front", "7.example", false, false},
		{"digits and letters", "example.7a", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.local, LocalName(tt.host))
			require.Equal(t, tt.number, Number(tt.host))
		})
	}
}
