package keycote_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// The planted is looked for by its core, which no escaping changes; the rest makes every escaping do something.
const (
	canaryCore = "Canary7QxvZ81kPw"
	planted    = `+/"<` + canaryCore + `>&%'`
)

// printed lists every exported struct of the package, empty. Their Secrets are filled in by reflection, wherever they are.
var printed = []any{
	keycote.Secret{}, keycote.AddParams{}, keycote.IssueParams{}, keycote.RotateParams{}, keycote.Patch{}, keycote.Draft{},
	keycote.Manager{}, keycote.Options{}, keycote.Validator{}, keycote.ValidatorOptions{}, keycote.Actor{},
	keycote.Key{}, keycote.Version{}, keycote.Limit{}, keycote.LimitState{}, keycote.Diagnosis{}, keycote.Check{}, keycote.Filter{}, keycote.Page{}, keycote.Request{},
	keycote.Grant{}, keycote.Error{}, keycote.Violation{}, keycote.ValidationError{},
	keycote.Event{}, keycote.FieldChange{}, keycote.EventFilter{},
	keycote.Record{}, keycote.Query{}, keycote.Item{}, keycote.ItemQuery{}, keycote.EventRecord{}, keycote.EventQuery{},
	keycote.UseCount{}, keycote.UsageQuery{}, keycote.Change{}, keycote.Batch{}, keycote.Prune{}, keycote.ItemRef{},
	keycote.RecordRef{},
}

// TestEveryStructIsPrinted: a new exported type has to be put on the list, so that no way of printing it goes untried.
func TestEveryStructIsPrinted(t *testing.T) {
	t.Parallel()
	var listed, declared []string
	for _, v := range printed {
		listed = append(listed, reflect.TypeOf(v).Name())
	}
	for _, file := range rootFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				switch spec.Type.(type) {
				case *ast.InterfaceType, *ast.FuncType: // they hold nothing themselves
				case *ast.Ident: // type Code string and its like
				default:
					declared = append(declared, spec.Name.Name)
				}
			}
			return true
		})
	}
	require.ElementsMatch(t, declared, listed)

	var holders []string
	for _, v := range printed {
		if _, n := filled(v); n > 0 {
			holders = append(holders, reflect.TypeOf(v).Name())
		}
	}
	require.Equal(t, []string{"Secret", "AddParams", "IssueParams", "RotateParams", "Patch", "Draft"}, holders)
}

// TestNothingPrintsASecret tries all ways of printing on all carriers of all types.
func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	search := newSearch([]byte(canaryCore))
	for _, v := range printed {
		v, secrets := filled(v)
		if secrets == 0 {
			continue // what the others come to hold is printed below, of a Manager at work
		}
		t.Run(reflect.TypeOf(v).Name(), func(t *testing.T) {
			t.Parallel()
			for carrier, c := range carriers(v) {
				for way, print := range ways() {
					require.Empty(t, search.in(print(c)), "%s, %s", carrier, way)
				}
			}
		})
	}
}

// TestTheSearchFinds keeps the tests here honest: the same ways do show a string, and the search sees it in each.
func TestTheSearchFinds(t *testing.T) {
	t.Parallel()
	search := newSearch([]byte(canaryCore))
	shown := map[string]bool{}
	type open struct{ Value string }
	for _, c := range carriers(open{planted}) {
		for way, print := range ways() {
			if len(search.in(print(c))) > 0 {
				shown[way] = true
			}
		}
	}
	for _, c := range carriers(planted) {
		for way, print := range ways() {
			if len(search.in(print(c))) > 0 {
				shown[way] = true
			}
		}
	}
	for way := range ways() {
		if strings.HasPrefix(way, "fmt ") && strings.HasSuffix(way, "T") ||
			strings.Contains(way, ".3") || way == "fmt %[2]v" {
			continue // a type's name; three characters of the value; a value that is not there
		}
		require.True(t, shown[way], "%s shows no string either: what does it prove of a Secret?", way)
	}

	reversed := []byte(canaryCore)
	slices.Reverse(reversed)
	for _, text := range []string{
		string(reversed), fmt.Sprintf("%x", planted), fmt.Sprintf("% X", planted), fmt.Sprintf("%#x", planted),
		fmt.Sprintf("% #x", planted), fmt.Sprint([]byte(planted)), fmt.Sprintf("%#v", []byte(planted)),
		fmt.Sprintf("%U", []rune(planted)), base64.StdEncoding.EncodeToString([]byte(planted)),
		base64.StdEncoding.EncodeToString([]byte("x" + planted)), base64.URLEncoding.EncodeToString([]byte("xy" + planted)),
		testified(struct{ b []byte }{[]byte("shifted " + planted)}), hex.Dump([]byte(planted)),
	} {
		require.NotEmpty(t, search.in("before "+text+" after"), text)
	}
	require.Empty(t, search.in("planted [redacted]"))
}

// TestNothingPrintsWhatALiveManagerHolds prints a Manager that is at work, what it answers and what its store holds: none
// of it shows the credential it keeps, the access key it made, or its key-encryption key.
func TestNothingPrintsWhatALiveManagerHolds(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "kek.json")
	kek, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	store := memstore.New()
	retired, err := keycote.LocalKEK(filepath.Join(t.TempDir(), "retired.json"))
	require.NoError(t, err)
	opts := &keycote.Options{Retired: []keycote.KEK{retired}, MaxStale: 0}
	m, err := keycote.New(ctx, store, kek, opts)
	require.NoError(t, err)
	cred, err := m.Add(ctx, keycote.AddParams{
		Name: "upstream", Endpoint: "https://api.example.com", Secret: keycote.NewSecret(planted), AllowWeak: true,
	})
	require.NoError(t, err)
	key, issued, err := m.Issue(ctx, keycote.IssueParams{Name: "client", Scopes: []string{"a:b"}})
	require.NoError(t, err)
	grant, err := m.Verify(ctx, issued.Reveal(), keycote.Request{Scopes: []string{"a:b"}})
	require.NoError(t, err)
	use, opened, err := m.Use(ctx, cred.ID, keycote.Request{})
	require.NoError(t, err)
	revealed, err := m.Reveal(ctx, cred.ID, "test")
	require.NoError(t, err)
	require.Equal(t, planted, revealed.Reveal())
	_, refused := m.Verify(ctx, issued.Reveal()[:20]+"~"+issued.Reveal()[21:], keycote.Request{})
	require.ErrorIs(t, refused, keycote.ErrUnauthenticated)
	_, scope := m.Verify(ctx, issued.Reveal(), keycote.Request{Scopes: []string{"c"}})
	require.ErrorIs(t, scope, keycote.ErrScope)
	_, weak := m.Add(ctx, keycote.AddParams{Name: "x", Endpoint: "x", Secret: keycote.NewSecret(planted + "\n")})
	require.ErrorIs(t, weak, keycote.ErrInvalid)
	var events []keycote.Event
	for e, err := range m.Events(ctx, keycote.EventFilter{}) {
		require.NoError(t, err)
		events = append(events, e)
	}
	require.NotEmpty(t, events)

	searches := map[string]search{
		"the credential": newSearch([]byte(canaryCore)),
		"the issued key": newSearch([]byte(issued.Reveal()[3 : len(issued.Reveal())-4])), // its hint shows the rest
		"the KEK":        newSearch(kekBytes(t, path)),
	}
	for name, v := range map[string]any{
		"Manager": m, "view": m.Tenant("acme"), "Options": opts, "KEK": kek, "credential": cred, "key": key, "grant": grant,
		"use": use, "issued": issued, "opened": opened, "revealed": revealed, "refused": refused, "scope": scope,
		"weak": weak, "events": events, "store": store,
	} {
		for carrier, c := range carriers(v) {
			// Widths and rare flags change nothing in what fmt reaches; a Secret itself meets all of them above.
			for way, print := range waysWith([]string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"}) {
				texts := spread(print(c))
				for what, s := range searches {
					if len(s.within(texts)) > 0 {
						t.Errorf("%s shows %s: %s, %s", name, what, carrier, way)
					}
				}
			}
		}
	}
}

// kekBytes reads the raw key out of a local KEK's file.
func kekBytes(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	require.NoError(t, err)
	value := insecurecleartextkeyset.KeysetMaterial(h).Key[0].KeyData.Value // a protobuf whose last field is the key
	return value[len(value)-32:]
}

// filled returns a copy of v with every Secret set that can be reached through exported fields, and how many they are.
func filled(v any) (any, int) {
	p := reflect.New(reflect.TypeOf(v)).Elem()
	n := fill(p, 0)
	return p.Interface(), n
}

func fill(v reflect.Value, depth int) (n int) {
	if v.Type() == reflect.TypeFor[keycote.Secret]() {
		v.Set(reflect.ValueOf(keycote.NewSecret(planted)))
		return 1
	}
	if depth > 6 || !v.CanSet() {
		return 0
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			n += fill(v.Field(i), depth+1)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		n = fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		n = fill(v.Index(0), depth+1)
	case reflect.Map:
		elem := reflect.New(v.Type().Elem()).Elem()
		n = fill(elem, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.Zero(v.Type().Key()), elem)
	}
	return n
}
