package keycote

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTenantNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, tenant string
		want         bool
	}{
		{"plain", "acme", true},
		{"any letters", "Ácme 株式会社", true},
		{"255 bytes", strings.Repeat("a", 255), true},
		{"256 bytes", strings.Repeat("a", 256), false},
		{"256 bytes in fewer code points", strings.Repeat("é", 128), false},
		{"empty", "", false},
		{"a blank", " ", false},
		{"blank before", " acme", false},
		{"blank after", "acme ", false},
		{"no-break space after", "acme\u00a0", false},
		{"tab after", "acme\t", false},
		{"NUL", "ac\x00me", false},
		{"newline", "acme\n", false},
		{"line separator", "ac\u2028me", false},
		{"right-to-left override", "ac\u202eme", false},
		{"not UTF-8", "ac\xffme", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, tenantOK(tt.tenant))
		})
	}
}

func TestControlCharacters(t *testing.T) {
	t.Parallel()
	listed := func(r rune) bool { // formats.md
		return r <= 0x1f || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	}
	for r := range rune(0x3000) {
		require.Equal(t, listed(r), isControl(r), "%U", r)
	}
}
