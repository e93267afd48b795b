package keycote_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/internal/lint"
)

// The tests here hold the house rules: what must never stand in this repository, what the root package exports, and what
// a host links with it. The golden lists change only on purpose: UPDATE_GOLDEN=1 (make golden) writes them anew, and the
// diff belongs to the change that caused it.

// maxExports bounds the root package. A name beyond it has to push another one out, or to make the case for more.
const maxExports = 150

func TestHouseRules(t *testing.T) {
	t.Parallel()
	findings, files, err := lint.Repository(".")
	require.NoError(t, err)
	require.Greater(t, files, 20, "the repository's files were not found")
	for _, f := range findings {
		t.Error(f)
	}
}

// TestOldTinkStaysOut: a program that links github.com/google/tink/go with this package panics before main. The house
// rules look at imports; this looks at what the modules require.
func TestOldTinkStaysOut(t *testing.T) {
	t.Parallel()
	const old = "github.com/google/tink/go "
	var modules, requiring []string
	require.NoError(t, filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "go.mod" {
			return err
		}
		modules = append(modules, filepath.ToSlash(name))
		text, err := os.ReadFile(name)
		if bytes.Contains(text, []byte(old)) {
			requiring = append(requiring, filepath.ToSlash(name))
		}
		return err
	}))
	require.Contains(t, modules, "go.mod")
	requiring = slices.DeleteFunc(requiring, func(m string) bool { return m == "interop/go.mod" })
	require.Empty(t, requiring, "only interop may require the old Tink")
}

// TestExports counts as go doc -all lists: one for each exported constant, variable, function and type, and one for each
// exported method of an exported type. Fields, and the methods of an interface, are part of their type's declaration.
func TestExports(t *testing.T) {
	t.Parallel()
	exports := exportsOf(t, rootFiles(t))
	compareGolden(t, "exports.txt", exports)
	require.LessOrEqual(t, len(exports), maxExports, "the root package exports too much")
}

// TestExportsAreSeen keeps the count honest, on a package that has one of everything.
func TestExportsAreSeen(t *testing.T) {
	t.Parallel()
	const src = `package p
const ( A, b = 1, 2; C = 3 )
var D, e = 1, 2
type F struct { G int }
type h struct{}
type I interface { J() }
func K() {}
func l() {}
func (F) M() {}
func (*F) N() {}
func (F) o() {}
func (h) P() {}
type Q[T any] struct{}
func (q *Q[T]) R() {}
`
	syntax, err := parser.ParseFile(token.NewFileSet(), "p.go", src, parser.SkipObjectResolution)
	require.NoError(t, err)
	require.Equal(t, []string{
		"const A", "const C", "func K", "method F.M", "method F.N", "method Q.R", "type F", "type I", "type Q", "var D",
	}, exportsOf(t, []*ast.File{syntax}))
}

// forTests lists the packages of the root module that no host's program links. All others count as production.
var forTests = []string{"internal/limittest", "internal/lint", "keytest", "storetest"}

func production(t *testing.T) []string {
	t.Helper()
	const root = "github.com/keycote/keycote"
	packages := goList(t, "-f", "{{.ImportPath}}", "./...")
	require.Contains(t, packages, root)
	return slices.DeleteFunc(packages, func(pkg string) bool {
		return slices.Contains(forTests, strings.TrimPrefix(pkg, root+"/"))
	})
}

// TestDependencies lists what a host links beside the standard library. Versions stand in go.mod.
func TestDependencies(t *testing.T) {
	t.Parallel()
	const format = "{{if not .Standard}}{{.Module.Path}} {{.ImportPath}}{{end}}"
	var lines []string
	for _, dep := range goList(t, append([]string{"-deps", "-f", format}, production(t)...)...) {
		module, path, _ := strings.Cut(dep, " ")
		lines = append(lines, "module "+module, "package "+path)
	}
	slices.Sort(lines)
	compareGolden(t, "deps.txt", slices.Compact(lines))
}

// TestNoWebServer: whoever verifies keys of a gRPC service or of a job links no net/http.
func TestNoWebServer(t *testing.T) {
	t.Parallel()
	for _, pkg := range production(t) {
		if strings.HasSuffix(pkg, "/keyhttp") {
			continue
		}
		deps := goList(t, "-deps", "-f", "{{.ImportPath}}", pkg)
		require.Contains(t, deps, pkg, "the list is not one of dependencies")
		require.NotContains(t, deps, "net/http", pkg)
	}
}

// TestWorkspaceVersions: go.work merges the modules' graphs, so a nested module could have the root tested with another
// version of what it requires than its users get.
func TestWorkspaceVersions(t *testing.T) {
	t.Parallel()
	const direct = "{{if not .Indirect}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}"
	alone := goList(t, "-m", "-f", direct, "all")
	require.NotEmpty(t, alone)
	modules := make([]string, len(alone))
	for i, m := range alone {
		modules[i], _, _ = strings.Cut(m, " ")
	}
	cmd := exec.Command("go", append([]string{"list", "-m", "-f", "{{.Path}} {{.Version}}"}, modules...)...)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderrOf(err))
	require.Equal(t, alone, linesOf(out))
}

// goList runs go list on the root module as its users have it: outside the workspace, for one platform, without the
// flags of the test run.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err, "go list %v: %s", args, stderrOf(err))
	return linesOf(out)
}

func linesOf(out []byte) []string {
	return slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { return strings.TrimSpace(line) == "" })
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}

// rootFiles parses the root package, for every platform.
func rootFiles(t *testing.T) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		require.Equal(t, "keycote", file.Name.Name)
		files = append(files, file)
	}
	require.NotEmpty(t, files)
	return files
}

// exportsOf lists what files export, sorted, each name once.
func exportsOf(t *testing.T, files []*ast.File) []string {
	t.Helper()
	found := map[string]bool{}
	add := func(kind, prefix string, names ...*ast.Ident) {
		for _, n := range names {
			if n.IsExported() {
				found[kind+" "+prefix+n.Name] = true
			}
		}
	}
	for _, file := range files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add("func", "", d.Name)
				} else if recv := receiver(d); ast.IsExported(recv) {
					add("method", recv+".", d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						add("type", "", s.Name)
					case *ast.ValueSpec:
						add(d.Tok.String(), "", s.Names...)
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// receiver returns the name of the type that d is a method of.
func receiver(d *ast.FuncDecl) string {
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// compareGolden compares lines with testdata/golden/name, and says which lines came and which went.
func compareGolden(t *testing.T, name string, lines []string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	golden := linesOf(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	if slices.Equal(golden, lines) {
		return
	}
	var diff strings.Builder
	for _, line := range golden {
		if !slices.Contains(lines, line) {
			fmt.Fprintf(&diff, "- %s\n", line)
		}
	}
	for _, line := range lines {
		if !slices.Contains(golden, line) {
			fmt.Fprintf(&diff, "+ %s\n", line)
		}
	}
	t.Errorf("%s has changed. If that is meant, run make golden and commit the list.\n%s", filepath.ToSlash(path), diff.String())
}
