// Package lint holds the rules of this repository that no general linter knows: what must never stand in it, and the
// incident behind each. It reads syntax alone, so it needs nothing but the sources; a test of the root package runs it
// over all modules. Its rules bind every file of the repository, nested modules and tests included, each within the
// places that it names.
//
// Where a rule says that it may be waived, a comment on the same line or the one above waives it once:
//
//	//house:allow panic the catalogues are part of the binary and a test reads them all
//
// with a reason of at least four words. A waiver that waives nothing is a finding too.
package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Finding is one breach of a rule.
type Finding struct {
	File string // slash-separated, relative to the directory given
	Line int
	Rule string
	What string // what stands there
	Why  string // the incident behind the rule
}

// String reads like a compiler's message.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s (%s)", f.File, f.Line, f.Rule, f.What, f.Why)
}

// Repository checks every Go file below dir. It leaves out what the go command leaves out: testdata, vendor, and names
// that start with a dot or an underscore; and node_modules. It returns the number of files read, so that a caller can
// tell a clean repository from an empty one, and an error for a file that cannot be read or parsed.
func Repository(dir string) (findings []Finding, files int, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != dir && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
				slices.Contains([]string{"testdata", "vendor", "node_modules"}, base)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		found, err := File(filepath.ToSlash(rel), src)
		findings, files = append(findings, found...), files+1
		return err
	})
	return findings, files, err
}

// File checks one file; name is its slash-separated path within the repository, which decides what binds it.
func File(name string, src []byte) ([]Finding, error) {
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &file{place: placeOf(name), name: name, fset: fset, syntax: syntax}
	f.readWaivers()
	for _, r := range rules {
		if r.binds(f.place) {
			f.rule = r
			r.check(f)
		}
	}
	f.reportUnusedWaivers()
	slices.SortStableFunc(f.findings, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return f.findings, nil
}

// place says where a file stands.
type place struct {
	dir  string // "." for the root package
	base string
	test bool
}

func placeOf(name string) place {
	return place{path.Dir(name), path.Base(name), strings.HasSuffix(name, "_test.go")}
}

// under reports whether the file's first directory is one of dirs.
func (p place) under(dirs ...string) bool {
	first, _, _ := strings.Cut(p.dir, "/")
	return slices.Contains(dirs, first)
}

// production reports whether the file becomes part of a host's program, or shows how to write one.
func (p place) production() bool {
	return !p.test && !p.under("storetest", "keytest", "dbtest", "interop", "benchmarks", "tools", "internal")
}

// library reports whether the file becomes part of a host's program.
func (p place) library() bool { return p.production() && !p.under("examples") }

// file is what a rule checks.
type file struct {
	place
	name     string
	fset     *token.FileSet
	syntax   *ast.File
	rule     *rule
	waivers  []*waiver
	findings []Finding
}

type waiver struct {
	rule string
	line int
	used bool
}

const waiverMark = "//house:allow"

func (f *file) readWaivers() {
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			rest, ok := strings.CutPrefix(c.Text, waiverMark)
			if !ok {
				continue
			}
			words := strings.Fields(rest)
			line := f.fset.Position(c.Pos()).Line
			i := slices.IndexFunc(rules, func(r *rule) bool { return len(words) > 0 && r.name == words[0] && r.waivable })
			switch {
			case i < 0:
				f.add(line, "waiver", "it names no rule that may be waived", "a waiver must mean something")
			case len(words) < 5:
				f.add(line, "waiver", "it gives no reason", "who reads it later must be able to judge it")
			default:
				f.waivers = append(f.waivers, &waiver{rule: words[0], line: line})
			}
		}
	}
}

func (f *file) reportUnusedWaivers() {
	for _, w := range f.waivers {
		if !w.used {
			f.add(w.line, "waiver", "it waives nothing: "+w.rule, "a waiver that outlives its cause hides the next one")
		}
	}
}

// report notes a breach of the rule at hand, unless it is waived.
func (f *file) report(at ast.Node, format string, args ...any) {
	line := f.fset.Position(at.Pos()).Line
	for _, w := range f.waivers {
		if w.rule == f.rule.name && (w.line == line || w.line == line-1) {
			w.used = true
			return
		}
	}
	f.add(line, f.rule.name, fmt.Sprintf(format, args...), f.rule.why)
}

func (f *file) add(line int, rule, what, why string) {
	f.findings = append(f.findings, Finding{f.name, line, rule, what, why})
}
