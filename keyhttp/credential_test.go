package keyhttp

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBearer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, line, token string
		ok                bool
	}{
		{"a key", "Bearer a", "a", true},
		{"letter case, a tab, blanks", " bEARER\t a ", "a", true},
		{"a comma in a chosen value", "Bearer a,b", "a,b", true},
		{"two as one", "Bearer a, Bearer b", "a, Bearer b", true},
		{"the scheme alone", "Bearer", "", true},
		{"nothing", "", "", true},
		{"blanks", " \t ", "", true},
		{"a comma for the blank", "Bearer,x", "", true},
		{"a colon for the blank", "bearer:x", "", true},
		{"no blank", "Bearerx", "", true},
		{"joined", "Basic dTpw, Bearer key", "", true},
		{"joined without a blank", "Basic dTpw,bEARER\tkey", "", true},
		{"joined to two others", "Basic dTpw, Digest a=b, bearer key", "", true},
		{"joined, without a key", "Basic dTpw, Bearer", "", true},
		{"joined to nothing", ", Bearer key", "", true},
		{"another scheme", "Basic dTpw", "", false},
		{"another scheme that is a list", `Digest realm="a", bearer=b, response="c"`, "", false},
		{"a name within", "Basic Bearer key", "", false},
		{"a longer name", "XBearer key", "", false},
		{"a key without a scheme", "kc_key", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token, ok := bearer(tt.line)
			require.Equal(t, tt.ok, ok)
			require.Equal(t, tt.token, token)
		})
	}
}

// FuzzCredential holds for whatever stands in the two headers that a key is found whole or not at all, and that what
// looks like one is never passed over.
func FuzzCredential(f *testing.F) {
	f.Add("Bearer a", "", true)
	f.Add("bearer\ta, Bearer b", "c", false)
	f.Add("Basic dTpw", "c, d", true)
	f.Add("Basic dTpw, bearer c", "", false)
	f.Add("Bearer:a", "", false)
	g := &gate{header: defaultHeader}
	presents := regexp.MustCompile(`(?i)^[ \t]*$|^[ \t]*bearer|,[ \t]*bearer([ \t]|$)`)
	whole := regexp.MustCompile(`(?is)^[ \t]*bearer[ \t]+(.*)$`)
	f.Fuzz(func(t *testing.T, auth, key string, both bool) {
		r := &http.Request{Header: http.Header{authorization: {auth}}}
		if both {
			r.Header[defaultHeader] = []string{key}
		}
		want, wanted := nowhere, ""
		switch looks := presents.MatchString(auth); {
		case looks && both:
			want = several
		case looks:
			want = inAuthorization
			if m := whole.FindStringSubmatch(auth); m != nil {
				wanted = strings.TrimRight(m[1], " \t")
			}
		case both:
			want, wanted = inHeader, key
		}
		if token, where := g.credential(r); where != want || token != wanted {
			t.Errorf("%q, %q: %q from %d, and not %q from %d", auth, key, token, where, wanted, want)
		}
	})
}
