package keycote

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counters are the fields of Key that its record does not carry, because each use would change them: the store keeps
// them, and nothing is decided by them. Anything else belongs into the body, under the seal.
var counters = map[string]bool{"Key.LastUsedAt": true, "Version.LastUsedAt": true, "Version.Uses": true}

// filler sets values to what no other field has.
type filler struct{ n int64 }

func (f *filler) fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	f.n++
	switch v.Addr().Interface().(type) {
	case *time.Time:
		v.Set(reflect.ValueOf(time.UnixMicro(1<<50 + f.n).UTC()))
		return
	case *time.Duration:
		v.SetInt(f.n * int64(time.Second))
		return
	case *netip.Prefix:
		addr := netip.AddrFrom4([4]byte{198, 51, byte(f.n >> 8), byte(f.n)})
		v.Set(reflect.ValueOf(netip.PrefixFrom(addr, 32)))
		return
	case *digestKind:
		v.SetUint(uint64(digestChosen))
		return
	case *[]rawField: // of a later version: TestUnknownFieldsStay
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("%s %d", path, f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(f.n)
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(uint64(f.n) & 0xff)
	case reflect.Array:
		for i := range v.Len() {
			f.fill(t, v.Index(i), path)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(t, v.Index(i), path)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(t, key, path)
			f.fill(t, value, path)
			v.SetMapIndex(key, value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(t, v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			f.fill(t, reflect.NewAt(field.Type, v.Field(i).Addr().UnsafePointer()).Elem(), path+"."+field.Name)
		}
	default:
		require.Fail(t, "the test does not know how to fill a field", "%s is a %s", path, v.Type())
	}
}

// full is a record with something else in each field.
func full(t *testing.T) *record {
	t.Helper()
	r := &record{}
	(&filler{}).fill(t, reflect.ValueOf(r).Elem(), "record")
	return r
}

// A field that a record gets later must be in its body.
func TestEveryFieldOfARecordIsInItsBody(t *testing.T) {
	t.Parallel()
	want := full(t)
	got, err := decodeRecord(want.encode())
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, want.encode(), got.encode())
}

// A field that Key, Version or Limit get later must be told from the body, or be named among the counters.
func TestEveryFieldOfAKeyIsInItsBody(t *testing.T) {
	t.Parallel()
	rec := full(t)
	rec.state = StateActive
	for i := range rec.versions {
		rec.versions[i].state = StateActive
	}
	now := time.UnixMicro(1)
	uses := []UseCount{
		{Version: rec.versions[0].number, N: 5, Last: time.UnixMicro(2)}, {Version: rec.versions[1].number, N: 6, Last: time.UnixMicro(3)},
	}
	decoded, err := decodeRecord(rec.encode())
	require.NoError(t, err)
	counted, key := rec.key(now, uses), decoded.key(now, nil)

	seen := map[string]int{}
	var walk func(a, b reflect.Value, path string)
	walk = func(a, b reflect.Value, path string) {
		if path != "" {
			seen[path]++
			require.False(t, a.IsZero(), "%s is not filled: is it neither in the body nor a counter?", path)
			if counters[path] {
				require.True(t, b.IsZero(), "%s is no counter", path)
				return
			}
			require.False(t, b.IsZero(), "%s is not in the body", path)
		}
		switch _, isTime := a.Interface().(time.Time); {
		case isTime, a.Kind() == reflect.Struct && a.Type().PkgPath() != reflect.TypeFor[Key]().PkgPath():
			require.Equal(t, a.Interface(), b.Interface(), path)
		case a.Kind() == reflect.Struct:
			for i := range a.NumField() {
				walk(a.Field(i), b.Field(i), a.Type().Name()+"."+a.Type().Field(i).Name)
			}
		case a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Struct:
			require.Equal(t, a.Len(), b.Len(), path)
			for i := range a.Len() {
				walk(a.Index(i), b.Index(i), path)
			}
		default:
			require.Equal(t, a.Interface(), b.Interface(), path)
		}
	}
	walk(reflect.ValueOf(*counted), reflect.ValueOf(*key), "")
	for _, of := range []reflect.Type{reflect.TypeFor[Key](), reflect.TypeFor[Version](), reflect.TypeFor[Limit]()} {
		for i := range of.NumField() {
			require.Contains(t, seen, of.Name()+"."+of.Field(i).Name)
		}
	}
	for path := range counters {
		require.Contains(t, seen, path)
	}
}

// What each field of a record is worth: two records that differ in it have different bodies, so that the seal covers it.
func TestEveryFieldOfARecordChangesItsBody(t *testing.T) {
	t.Parallel()
	base := string(full(t).encode())
	of := reflect.TypeFor[record]()
	for i := range of.NumField() {
		field := of.Field(i)
		if field.Name == "unknown" || field.Name == "stripped" {
			continue
		}
		r := full(t)
		v := reflect.NewAt(field.Type, reflect.ValueOf(r).Elem().Field(i).Addr().UnsafePointer()).Elem()
		v.SetZero()
		require.NotEqual(t, base, string(r.encode()), field.Name)
	}
}

// Fields of a later version that may be ignored survive the updates of this one.
func TestUnknownFieldsStay(t *testing.T) {
	t.Parallel()
	rec := full(t)
	rec.unknown = []rawField{{recTop + 1, "of later"}, {recTop + 1, "a list"}, {recTop + 40, ""}}
	rec.versions[0].unknown = []rawField{{verTop + 7, "of later, too"}}
	body := rec.encode()
	got, err := decodeRecord(body)
	require.NoError(t, err)
	require.Equal(t, rec, got)
	changed := got.clone()
	changed.name = "renamed"
	got, err = decodeRecord(changed.encode())
	require.NoError(t, err)
	require.Equal(t, rec.unknown, got.unknown)
	require.Equal(t, rec.versions[0].unknown, got.versions[0].unknown)
}

// One gate opens sealed values: for Use, which counts it, and for Reveal and Diagnose, which have committed an event
// before. In
// agi-cli#726 five code paths read plaintext and none logged it.
func TestOneGateOpensSealedValues(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var gate, decrypts, sealed []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, _ := sel.X.(*ast.Ident)
				of, inner := "", sel.X
				if s, ok := inner.(*ast.SelectorExpr); ok {
					of = s.Sel.Name
				}
				switch {
				case sel.Sel.Name == "open" && (of == "Manager" || x != nil && (x.Name == "m" || x.Name == "c")):
					gate = append(gate, f.Name.Name)
				case sel.Sel.Name == "Decrypt" && of == "aead":
					decrypts = append(decrypts, f.Name.Name)
				case sel.Sel.Name == "sealed":
					sealed = append(sealed, f.Name.Name)
				}
				return true
			})
		}
	}
	require.ElementsMatch(t, []string{"Use", "Reveal", "openValue"}, gate, "m.open has three call sites; openValue is Diagnose's")
	require.ElementsMatch(t, []string{"open", "DecryptWithContext"}, decrypts, "a KEK opens keyrings, and nothing else a value")
	for _, f := range sealed {
		require.Contains(t, []string{"open", "keep", "end", "strip", "encode", "decode"}, f)
	}
}
