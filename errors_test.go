package keycote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// codes reads every constant of type Code out of the source, so that a new one is walked without being listed.
func codes(t *testing.T) []Code {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var all []Code
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Code" {
				for _, v := range spec.Values {
					text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
					require.NoError(t, err)
					all = append(all, Code(text))
				}
			}
			return true
		})
	}
	require.GreaterOrEqual(t, len(all), 19)
	require.Contains(t, all, ErrNotFound)
	require.Contains(t, all, ErrUnavailable)
	return all
}

// TestCausesCarryNoCode walks every code as the cause of every other, in each form in which code below could answer it: an
// outage whose store says "not found" must not read as an unknown key.
func TestCausesCarryNoCode(t *testing.T) {
	t.Parallel()
	all := codes(t)
	for _, inner := range all {
		t.Run(string(inner), func(t *testing.T) {
			t.Parallel()
			innerError := &Error{Op: opVerify, ID: "key_x", Code: inner}
			violation := Violation{Field: "name", Code: inner}
			validation := &ValidationError{Violations: []Violation{violation}}
			forms := map[string]error{
				"the code":              inner,
				"wrapped":               fmt.Errorf("below: %w", inner),
				"wrapped twice":         fmt.Errorf("a: %w", fmt.Errorf("b: %w", inner)),
				"joined":                errors.Join(errors.New("x"), inner),
				"an Error":              innerError,
				"an Error, wrapped":     fmt.Errorf("below: %w", innerError),
				"an Error with a cause": &Error{Code: inner, Err: causeOf(inner)},
				"a Violation":           violation,
				"a Violation, joined":   errors.Join(violation, context.Canceled),
				"a ValidationError":     fmt.Errorf("below: %w", validation),
				"a cause":               causeOf(inner),
				"a cause, wrapped":      fmt.Errorf("below: %w", causeOf(inner)),
			}
			for name, form := range forms {
				for _, outer := range all {
					for _, op := range []string{"", opVerify, string(ActionRotate)} {
						outermost := &Error{Op: op, Code: outer, Err: causeOf(form)}
						wrapped := fmt.Errorf("host: %w", outermost)

						require.Equal(t, outer, CodeOf(wrapped), name)
						for _, c := range all {
							want := c == outer || c == ErrUnauthenticated && op == opVerify && refusesIdentity(outer)
							require.Equal(t, want, errors.Is(wrapped, c), "%s: %s in %s %s", name, c, op, outer)
						}
						var asError *Error
						require.ErrorAs(t, wrapped, &asError)
						require.Same(t, outermost, asError, name)
						require.NotErrorIs(t, wrapped, error(innerError), name)
						var asViolation Violation
						require.False(t, errors.As(wrapped, &asViolation), name)
						var asValidation *ValidationError
						require.False(t, errors.As(wrapped, &asValidation), name)
						require.NotErrorIs(t, wrapped, error(validation), name)
						require.Contains(t, wrapped.Error(), form.Error(), "the text stays readable")
					}
				}
			}
		})
	}
}

// TestCausesStayVisible: what is not ours can be asked for.
func TestCausesStayVisible(t *testing.T) {
	t.Parallel()
	path := &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	for name, err := range map[string]error{
		"as it is":           errors.Join(path, context.Canceled, context.DeadlineExceeded),
		"beside a code":      errors.Join(ErrNotFound, path, context.Canceled, context.DeadlineExceeded),
		"inside an Error":    &Error{Code: ErrNotFound, Err: errors.Join(path, context.Canceled, context.DeadlineExceeded)},
		"caused, caused":     causeOf(causeOf(errors.Join(path, context.Canceled, context.DeadlineExceeded))),
		"caused and wrapped": fmt.Errorf("x: %w", causeOf(errors.Join(path, context.Canceled, context.DeadlineExceeded))),
	} {
		e := error(&Error{Op: opVerify, Code: ErrUnavailable, Err: causeOf(err)})
		require.ErrorIs(t, e, context.Canceled, name)
		require.ErrorIs(t, e, context.DeadlineExceeded, name)
		require.ErrorIs(t, e, fs.ErrNotExist, name)
		var asPath *fs.PathError
		require.ErrorAs(t, e, &asPath, name)
		require.Same(t, path, asPath, name)
		require.Equal(t, ErrUnavailable, CodeOf(e), name)
		require.NotErrorIs(t, e, ErrUnauthenticated, name)
	}
	require.NoError(t, causeOf(nil))
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"code", ErrNotFound, "not_found"},
		{"all", &Error{Op: "rotate", ID: "key_01", Code: ErrConflict, Err: errors.New("x")}, "keycote: rotate key_01: conflict: x"},
		{"no cause", &Error{Op: "rotate", ID: "key_01", Code: ErrConflict}, "keycote: rotate key_01: conflict"},
		{"no id", &Error{Op: "verify", Code: ErrUnknownKey}, "keycote: verify: unknown_key"},
		{"no op", &Error{ID: "key_01", Code: ErrKEK, Err: errors.New("x")}, "keycote: kek: x"},
		{"a wait is for programs", &Error{Op: "verify", Code: ErrLimited, RetryAfter: time.Second}, "keycote: verify: limited"},
		{"violation", Violation{Field: "name", Code: ErrExists}, "name: exists"},
		{"violation with parameters", Violation{Field: "name", Code: "too_long", Params: map[string]string{"max": "9"}, Text: "t"},
			"name: too_long"},
		{"none", &ValidationError{}, "keycote: invalid"},
		{"one", &ValidationError{[]Violation{{Field: "name", Code: "required"}}}, "keycote: invalid: name: required"},
		{"three", &ValidationError{[]Violation{{Field: "a", Code: "x"}, {Field: "b", Code: "y"}, {Field: "c", Code: "z"}}},
			"keycote: invalid: a: x, b: y, c: z"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, test.err.Error())
		})
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	require.Empty(t, CodeOf(nil))
	require.Empty(t, CodeOf(errors.New("not_found")))
	require.Equal(t, ErrScope, CodeOf(ErrScope))
	require.Equal(t, ErrScope, CodeOf(fmt.Errorf("x: %w", ErrScope)))
	v := &ValidationError{[]Violation{{Field: "name", Code: ErrExists}, {Field: "secret", Code: ErrWeak}}}
	require.Equal(t, ErrInvalid, CodeOf(v), "the outermost")
	require.ErrorIs(t, v, ErrExists)
	require.ErrorIs(t, v, ErrWeak)
	var first Violation
	require.ErrorAs(t, v, &first)
	require.Equal(t, "name", first.Field)
}

// TestUnauthenticated: a client may be told that it is nobody; that it lacks a scope, asks too often or that the store is
// away is another answer, and a key that a management call finds revoked is not the caller's identity.
func TestUnauthenticated(t *testing.T) {
	t.Parallel()
	refused := map[Code]bool{
		ErrUnknownKey: true, ErrRevoked: true, ErrDisabled: true, ErrExpired: true, ErrAddress: true, ErrTampered: true,
		ErrUnauthenticated: true,
	}
	for _, c := range codes(t) {
		require.Equal(t, refused[c], errors.Is(&Error{Op: opVerify, Code: c}, ErrUnauthenticated), c)
		for _, op := range []string{"", opNew, opFlush, string(ActionUse), string(ActionRotate)} {
			require.Equal(t, c == ErrUnauthenticated, errors.Is(&Error{Op: op, Code: c}, ErrUnauthenticated), "%s %s", op, c)
		}
	}
}

func TestWithheld(t *testing.T) {
	t.Parallel()
	secret := NewSecret("s3cret-value")
	plain := errors.New("dial tcp: refused")
	telling := fmt.Errorf("GET /?key=s3cret-value: %w", errors.Join(context.DeadlineExceeded, fs.ErrNotExist))
	tests := []struct {
		name   string
		err    error
		secret Secret
		want   []error // what it still is
		not    []error
	}{
		{"nothing", nil, secret, nil, nil},
		{"it says nothing", plain, secret, []error{plain}, nil},
		{"no secret", telling, Secret{}, []error{telling}, nil},
		{"it tells", telling, secret, []error{context.DeadlineExceeded, fs.ErrNotExist}, []error{telling, context.Canceled}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := withheld(test.err, test.secret)
			require.Equal(t, test.err == nil, got == nil)
			for _, err := range test.want {
				require.ErrorIs(t, got, err)
			}
			for _, err := range test.not {
				require.NotErrorIs(t, got, err)
			}
			if got != nil && !test.secret.IsZero() {
				require.NotContains(t, got.Error(), test.secret.Reveal())
			}
		})
	}
}

// TestWithheldForms: a Prober that puts the value into its URL gets a *url.Error back, which quotes it escaped.
func TestWithheldForms(t *testing.T) {
	t.Parallel()
	const value = `a+b/"c d\e`
	tests := []struct{ name, text string }{
		{"query", (&url.Error{Op: "Get", URL: "https://x/?" + url.Values{"key": {value}}.Encode(), Err: io.EOF}).Error()},
		{"path", (&url.Error{Op: "Get", URL: "https://x/" + url.PathEscape(value), Err: io.EOF}).Error()},
		{"quoted", fmt.Sprintf("header %q is refused", value)},
		{"hex", fmt.Sprintf("sent %x", value)},
		{"base64", "sent " + base64.StdEncoding.EncodeToString([]byte(value))},
		{"base64 of URLs", "sent " + base64.URLEncoding.EncodeToString([]byte(value))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := withheld(errors.New(test.text), NewSecret(value))
			require.NotContains(t, got.Error(), test.text)
			require.NoError(t, withheld(nil, NewSecret(value)))
		})
	}
	plain := errors.New("connection refused")
	require.Same(t, plain, withheld(plain, NewSecret(value)))
}
