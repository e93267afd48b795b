package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each case is a file that breaks a rule, or stands just beside it. want lists "line rule" of the findings.
var cases = []struct {
	name string
	file string
	src  string
	want []string
}{
	{"clean", "a.go", "import \"fmt\"\nvar E = fmt.Errorf(\"x\")", nil},

	{"cleartext in the root package", "token.go", `import _ "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"`,
		[]string{"2 cleartext"}},
	{"cleartext's brother", "keytest/a.go", `import _ "github.com/tink-crypto/tink-go/v2/testkeyset"`, []string{"2 cleartext"}},
	{"cleartext in another crypto.go", "sqlstore/crypto.go",
		`import x "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"`, []string{"2 cleartext"}},
	{"cleartext in an example", "examples/a/main.go",
		`import _ "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"`, []string{"2 cleartext"}},
	{"cleartext in crypto.go", "crypto.go", `import _ "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"`, nil},
	{"cleartext in a test", "a_test.go", `import _ "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"`, nil},

	{"key bytes", "verify.go", `import _ "github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"`, []string{"2 keybytes"}},
	{"key bytes in another hmac.go", "sqlstore/hmac.go",
		`import _ "github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"`, []string{"2 keybytes"}},
	{"key bytes in hmac.go", "hmac.go", `import _ "github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"`, nil},
	{"key bytes in crypto.go", "crypto.go", `import _ "github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"`, nil},
	{"key bytes in a test", "a_test.go", `import _ "github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"`, nil},

	{"old Tink in a test", "a_test.go", `import _ "github.com/google/tink/go/keyset"`, []string{"2 oldtink"}},
	{"old Tink in an example", "examples/a.go", `import _ "github.com/google/tink/go"`, []string{"2 oldtink"}},
	{"old Tink in interop", "interop/a.go", `import _ "github.com/google/tink/go/keyset"`, nil},
	{"a module of a like name", "a.go", `import _ "github.com/google/tink/golf"`, nil},

	{"math/rand", "a.go", `import "math/rand"`, []string{"2 mathrand"}},
	{"math/rand/v2 under a name", "keyhttp/a.go", `import r "math/rand/v2"`, []string{"2 mathrand"}},
	{"math/rand in an example", "examples/a/main.go", `import "math/rand"`, []string{"2 mathrand"}},
	{"math/rand in a test", "a_test.go", `import "math/rand"`, nil},
	{"math/rand in storetest", "storetest/model.go", `import "math/rand/v2"`, nil},

	{"unsafe in a test", "a_test.go", `import "unsafe"`, []string{"2 unsafe"}},

	{"testify", "sqlstore/a.go", `import "github.com/stretchr/testify/require"`, []string{"2 testify"}},
	{"testify in an example", "examples/a/main.go", `import "github.com/stretchr/testify/require"`, []string{"2 testify"}},
	{"testify in storetest", "storetest/a.go", `import "github.com/stretchr/testify/require"`, nil},
	{"testify in keytest", "keytest/a.go", `import "github.com/stretchr/testify/require"`, nil},

	{"net/http", "a.go", `import "net/http"`, []string{"2 nethttp"}},
	{"net/http/httptest in storetest", "storetest/a.go", `import "net/http/httptest"`, []string{"2 nethttp"}},
	{"net/http in keyhttp", "keyhttp/a.go", `import "net/http"`, nil},
	{"net/http in a test", "a_test.go", `import "net/http"`, nil},

	{"the clock, called", "a.go", "import \"time\"\nvar t = time.Now()", []string{"3 clock"}},
	{"the clock, handed on", "memstore/a.go", "import \"time\"\nvar now = time.Now", []string{"3 clock"}},
	{"the clock under a name", "a.go", "import t \"time\"\nvar d = t.Since(t.Time{})", []string{"3 clock"}},
	{"the clock with a dot", "a.go", "import . \"time\"\nvar d = Now()", []string{"2 clock"}},
	{"a timer", "keyhttp/a.go", "import \"time\"\nvar c = time.NewTimer(time.Second)", []string{"3 clock"}},
	{"another package's clock.go", "sqlstore/clock.go", "import \"time\"\nvar now = time.Now", []string{"3 clock"}},
	{"the clock in clock.go", "clock.go", "import \"time\"\nvar now = time.Now", nil},
	{"the clock in keytest", "keytest/a.go", "import \"time\"\nvar now = time.Now", nil},
	{"a Now of something else", "a.go", "import \"time\"\nvar _ time.Time\nvar t = opts.Now()", nil},

	{"fmt.Println", "a.go", "import \"fmt\"\nfunc f() { fmt.Println() }", []string{"3 print"}},
	{"package log", "sqlstore/a.go", `import "log"`, []string{"2 print"}},
	{"println", "a.go", "func f() { println(1) }", []string{"2 print"}},
	{"the program's own slog", "a.go", "import \"log/slog\"\nfunc f() { slog.Error(\"x\") }", []string{"3 print"}},
	{"the program's own slog, waived", "a.go", "import \"log/slog\"\n" +
		"var l = slog.Default() //house:allow print nothing else says that it never works", nil},
	{"a Logger given", "a.go", "import \"log/slog\"\nfunc f(l *slog.Logger) { l.Error(\"x\") }", nil},
	{"fmt.Println in an example", "examples/a/main.go", "import \"fmt\"\nfunc f() { fmt.Println() }", nil},
	{"fmt.Fprintln", "a.go", "import \"fmt\"\nfunc f() { fmt.Fprintln(nil) }", nil},

	{"panic", "a.go", "func f() { panic(1) }", []string{"2 panic"}},
	{"panic, waived above", "a.go", "func f() {\n//house:allow panic the table is a constant of this file\npanic(1) }", nil},
	{"panic, waived beside", "a.go", "func f() { panic(1) } //house:allow panic the table is a constant of this file", nil},
	{"a waiver covers one line", "a.go", "//house:allow panic the table is a constant of this file\nfunc f() { panic(1) }\n" +
		"func g() { panic(1) }", []string{"4 panic"}},
	{"a waiver without a reason", "a.go", "func f() { panic(1) } //house:allow panic", []string{"2 waiver", "2 panic"}},
	{"a waiver of another rule", "a.go", "func f() { panic(1) } //house:allow clock the table is a constant of this file",
		[]string{"2 panic", "2 waiver"}},
	{"a waiver that waives nothing", "a.go", "//house:allow panic the table is a constant of this file\nfunc f() {}",
		[]string{"2 waiver"}},
	{"a waiver of what cannot be waived", "a.go",
		"//house:allow unsafe the table is a constant of this file\nimport \"unsafe\"", []string{"2 waiver", "3 unsafe"}},
	{"a method named panic", "a.go", "func f() { x.panic(1) }", nil},
	{"panic in a test", "a_test.go", "func f() { panic(1) }", nil},

	{"a goroutine in New", "memstore/a.go", "func New() { go f() }", []string{"2 goroutine"}},
	{"a goroutine inside a literal", "a.go", "func newRings() { x(func() {\n go f() }) }", []string{"3 goroutine"}},
	{"a goroutine in init", "a.go", "func init() { go f() }", []string{"2 goroutine"}},
	{"a goroutine in Run", "a.go", "func Run() { go f() }", nil},
	{"a word that starts like New", "a.go", "func newest() { go f() }", nil},
}

func TestRules(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	for _, test := range cases {
		for _, want := range test.want {
			_, rule, _ := strings.Cut(want, " ")
			broken[rule] = true
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := File(test.file, []byte("package p\n"+test.src+"\n"))
			require.NoError(t, err)
			var short []string
			for _, f := range got {
				require.Equal(t, test.file, f.File)
				require.NotEmpty(t, f.Why)
				line, _, _ := strings.Cut(strings.TrimPrefix(f.String(), test.file+":"), ":")
				short = append(short, line+" "+f.Rule)
			}
			require.Equal(t, test.want, short)
		})
	}
	for _, r := range rules {
		require.True(t, broken[r.name], "no case breaks rule %s", r.name)
	}
}

func TestRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, src := range map[string]string{
		"a.go":                  "package p\nimport _ \"unsafe\"\n",
		"b/c.go":                "package c\n",
		"b/d_test.go":           "package c\nimport _ \"unsafe\"\n",
		"testdata/bad.go":       "package p\nimport _ \"unsafe\"\n",
		".hidden/bad.go":        "package p\nimport _ \"unsafe\"\n",
		"web/node_modules/x.go": "package p\nimport _ \"unsafe\"\n",
		"README":                "import _ \"unsafe\"\n",
	} {
		name = filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(src), 0o600))
	}

	findings, files, err := Repository(dir)
	require.NoError(t, err)
	require.Equal(t, 3, files)
	require.Len(t, findings, 2)
	require.Contains(t, findings[0].String(), "a.go:2: unsafe: imports unsafe (")
	require.Contains(t, findings[1].String(), "b/d_test.go:2: unsafe: imports unsafe (")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "e.go"), []byte("package p\nfunc {"), 0o600))
	_, _, err = Repository(dir)
	require.ErrorContains(t, err, "e.go:2")
}
