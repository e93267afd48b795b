package lint

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// rule is one thing that must not be. why names the incident: in another project, or what a reader of a program that
// broke it would run into.
type rule struct {
	name     string
	why      string
	waivable bool
	binds    func(place) bool
	check    func(*file)
}

// rules is filled in by init because the checks look at it for waivers.
var rules []*rule

func init() {
	rules = []*rule{
		{
			name: "cleartext",
			why:  "five code paths of agi-cli read plaintext and none was logged (#726): raw keysets stay behind one door",
			binds: func(p place) bool {
				return !p.test && (p.dir != "." || p.base != "crypto.go")
			},
			check: imports(func(path string) bool {
				return strings.HasSuffix(path, "/insecurecleartextkeyset") || strings.HasSuffix(path, "/testkeyset")
			}),
		},
		{
			name: "keybytes",
			why:  "agi-cli#726 again: a key's bytes are taken out of a keyset in two files, each of which says what for",
			binds: func(p place) bool {
				return !p.test && (p.dir != "." || p.base != "crypto.go" && p.base != "hmac.go")
			},
			check: imports(func(path string) bool { return strings.HasSuffix(path, "/insecuresecretdataaccess") }),
		},
		{
			name:  "oldtink",
			why:   "a program that links it with tink-go/v2 panics before main, over the names of protobuf files",
			binds: func(p place) bool { return !p.under("interop") },
			check: imports(within("github.com/google/tink/go")),
		},
		{
			name:  "mathrand",
			why:   "owncast drew access tokens from it (owncast#1441): crypto/rand is fast enough for everything here",
			binds: place.production,
			check: imports(func(path string) bool { return path == "math/rand" || path == "math/rand/v2" }),
		},
		{
			name:  "unsafe",
			why:   "a Secret's value is hidden by the type system alone, and unsafe is the way round it",
			binds: func(place) bool { return true },
			check: imports(func(path string) bool { return path == "unsafe" }),
		},
		{
			name:  "testify",
			why:   "hosts would link a test library, its flags and a YAML parser with every key they verify",
			binds: place.production,
			check: imports(within("github.com/stretchr/testify")),
		},
		{
			name: "nethttp",
			why:  "hosts that speak gRPC or run jobs would link a web server; keyhttp is for those that want one",
			binds: func(p place) bool {
				return !p.test && (p.dir == "." || p.under("memstore", "sqlstore", "storetest"))
			},
			check: imports(within("net/http")),
		},
		{
			name:     "clock",
			why:      "a grace deadline was lost beside a cache (solana-developer-platform#897): tests must stand at it, ± 1 µs",
			waivable: true,
			binds: func(p place) bool {
				return !p.test && !p.under("examples", "keytest", "internal", "tools") && (p.dir != "." || p.base != "clock.go")
			},
			check: uses("time", "Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"),
		},
		{
			name:     "print",
			why:      "go-apikeys logs hashes, exposure-notifications the expected MAC: what is said goes by Options.Logger",
			waivable: true,
			binds:    place.library,
			check: func(f *file) {
				uses("fmt", "Print", "Printf", "Println")(f)
				imports(func(path string) bool { return path == "log" })(f)
				builtins("print", "println")(f)
				loggers(f)
			},
		},
		{
			name:     "panic",
			why:      "one row of Dify that did not decrypt broke the whole list: bad data is an error, of that key alone",
			waivable: true,
			binds:    place.library,
			check:    builtins("panic"),
		},
		{
			name:  "goroutine",
			why:   "the cleaner that scs's memstore starts when it is made races with those who use it: the caller runs Run",
			binds: place.library,
			check: goroutines,
		},
	}
}

func within(module string) func(string) bool {
	return func(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }
}

// imports reports each import whose path is forbidden.
func imports(forbidden func(path string) bool) func(*file) {
	return func(f *file) {
		for _, spec := range f.syntax.Imports {
			if p := importPath(spec); forbidden(p) {
				f.report(spec, "imports %s", p)
			}
		}
	}
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value // the parser lets nothing of the kind through
	}
	return p
}

// uses reports each mention of pkg's names, called or not, under whatever name pkg is imported. A dot import of pkg is
// reported as such.
func uses(pkg string, names ...string) func(*file) {
	return func(f *file) {
		local := ""
		for _, spec := range f.syntax.Imports {
			if importPath(spec) != pkg {
				continue
			}
			local = path.Base(pkg)
			if spec.Name != nil {
				local = spec.Name.Name
			}
			if local == "." {
				f.report(spec, "imports %s with a dot", pkg)
			}
		}
		if local == "" {
			return
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, sel.Sel.Name) && isIdent(sel.X, local) {
				f.report(sel, "uses %s.%s", pkg, sel.Sel.Name)
			}
			return true
		})
	}
}

// builtins reports each call of the named built-in functions.
func builtins(names ...string) func(*file) {
	return func(f *file) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if id, ok := call.Fun.(*ast.Ident); ok && slices.Contains(names, id.Name) {
					f.report(call, "calls %s", id.Name)
				}
			}
			return true
		})
	}
}

// loggers reports calls of slog's package functions that write to the program's own logger, behind the host's back.
func loggers(f *file) {
	uses("log/slog", "Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error", "ErrorContext",
		"Log", "LogAttrs", "Default", "SetDefault")(f)
}

// goroutines reports each go statement in a constructor, function literals inside it included.
func goroutines(f *file) {
	for _, decl := range f.syntax.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil || fn.Name.Name != "init" && !constructs(fn.Name.Name) {
			continue
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if stmt, ok := n.(*ast.GoStmt); ok {
				f.report(stmt, "%s starts a goroutine", fn.Name.Name)
			}
			return true
		})
	}
}

// constructs reports whether a function of that name is a constructor: New, NewStore, newRings, Open, openStore.
func constructs(name string) bool {
	for _, prefix := range []string{"New", "new", "Open", "open"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && (rest == "" || rest[0] >= 'A' && rest[0] <= 'Z') {
			return true
		}
	}
	return false
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
