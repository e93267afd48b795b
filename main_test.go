package keycote_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// roleEnv makes the test binary a process of another kind: a test starts itself once more to have a second process.
const roleEnv = "KEYCOTE_TEST_ROLE"

// suite listens to all that the tests of this package let it hear.
var suite = &eavesdropper{}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := runRole(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, leak := range suite.leaks() {
		fmt.Fprintf(os.Stderr, "FAIL: what the suite logged and answered holds a secret: %s\n", leak)
		code = 1
	}
	for _, wrong := range suite.wrong {
		fmt.Fprintln(os.Stderr, "FAIL: an error says more than one thing:", wrong)
		code = 1
	}
	os.Exit(code)
}

// runRole is the main function of a child.
func runRole(role string) error {
	if role != "local-kek" {
		return fmt.Errorf("unknown role %q", role)
	}
	kek, err := keycote.LocalKEK(os.Getenv("KEYCOTE_TEST_FILE"))
	if err != nil {
		return err
	}
	// The parent lets all children go at once, by closing their input.
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	wrapped, err := kek.EncryptWithContext(context.Background(), []byte("keyset"), []byte("ad"))
	if err != nil {
		return err
	}
	fmt.Println(kek.ID(), hex.EncodeToString(wrapped))
	return nil
}

// canary registers a secret of the suite, and returns it. Neither it nor the middle of it must ever be seen in a log
// line or an error.
func canary(value string) string {
	suite.fear(value)
	if half := len(value) / 2; half >= 12 {
		suite.fear(value[half-6 : half+6])
	}
	return value
}

// canaryBytes registers bytes that must never be seen, in the ways that bytes are printed.
func canaryBytes(b []byte) {
	suite.fear(string(b))
	suite.fear(hex.EncodeToString(b))
	suite.fear(strings.ToUpper(hex.EncodeToString(b)))
	suite.fear(base64.RawStdEncoding.EncodeToString(b))
	suite.fear(base64.RawURLEncoding.EncodeToString(b))
	suite.fear(strings.Trim(fmt.Sprint(b), "[]"))
	suite.fear(strings.Trim(fmt.Sprintf("%q", b), `"`))
}

// canaryBatch registers what a Batch holds and no log may: digests and seals.
func canaryBatch(b keycote.Batch) {
	const tinkPrefix = 5
	seal := func(s []byte) {
		if canaryBytes(s); len(s) > tinkPrefix {
			canaryBytes(s[tinkPrefix:])
		}
	}
	for _, r := range slices.Concat(b.Insert, b.Update) {
		for _, d := range r.Digests {
			canaryBytes(d)
		}
		seal(r.Seal)
	}
	for _, e := range b.Events {
		seal(e.Seal)
	}
}

// testLogger is a logger at debug level, in both of slog's forms, into what TestMain searches for canaries.
func testLogger(testing.TB) *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	return slog.New(both{slog.NewTextHandler(suite, opts), slog.NewJSONHandler(suite, opts)})
}

// both hands every record to two handlers; package slog has one of its own from Go 1.26 on.
type both [2]slog.Handler

func (b both) Enabled(context.Context, slog.Level) bool { return true }

func (b both) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(b[0].Handle(ctx, r.Clone()), b[1].Handle(ctx, r.Clone()))
}

func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{b[0].WithAttrs(attrs), b[1].WithAttrs(attrs)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b[0].WithGroup(name), b[1].WithGroup(name)}
}

// overheard takes down what an error says, in the ways that errors are printed, and returns it.
func overheard(err error) error {
	if err != nil {
		fmt.Fprintf(suite, "%v\n%+v\n%#v\n%q\n", err, err, err, err)
	}
	return err
}

// heard is overheard for an error of a verb, which must say one thing only.
func heard(err error) error {
	if overheard(err) != nil {
		for _, word := range doubleTongued(err) {
			suite.accuse(word)
		}
	}
	return err
}

var allCodes = []keycote.Code{
	keycote.ErrNotFound, keycote.ErrExists, keycote.ErrConflict, keycote.ErrInvalid, keycote.ErrWeak,
	keycote.ErrSecretRequired, keycote.ErrForbidden, keycote.ErrUnauthenticated, keycote.ErrUnknownKey, keycote.ErrRevoked,
	keycote.ErrDisabled, keycote.ErrExpired, keycote.ErrAddress, keycote.ErrScope, keycote.ErrLimited, keycote.ErrTampered,
	keycote.ErrKEK, keycote.ErrShredded, keycote.ErrUnavailable,
}

// doubleTongued returns what an error of a verb matches and must not: every Code but its own, ErrUnauthenticated where
// Verify refused an identity, and the codes of violations.
func doubleTongued(err error) (words []string) {
	main := keycote.CodeOf(err)
	allowed := map[keycote.Code]bool{main: true}
	var invalid *keycote.ValidationError
	var e *keycote.Error
	switch {
	case errors.As(err, &invalid):
		for _, v := range invalid.Violations {
			allowed[v.Code] = true
		}
	case errors.As(err, &e):
		if e.Op == "" || e.Code != main || e.Code == keycote.ErrUnauthenticated {
			words = append(words, fmt.Sprintf("%#v is half an error", e))
		}
		switch main {
		case keycote.ErrUnknownKey, keycote.ErrRevoked, keycote.ErrDisabled, keycote.ErrExpired, keycote.ErrAddress,
			keycote.ErrTampered:
			allowed[keycote.ErrUnauthenticated] = e.Op == "verify"
		}
		if e.ID != "" && strings.Contains(e.ID, "\n") {
			words = append(words, "an id of several lines")
		}
	default:
		return []string{fmt.Sprintf("%T is no error of this module: %v", err, err)}
	}
	for _, code := range allCodes {
		if errors.Is(err, code) && !allowed[code] {
			words = append(words, fmt.Sprintf("%v matches %s", err, code))
		}
	}
	return words
}

// eavesdropper keeps what was said, and what must never be said.
type eavesdropper struct {
	mu    sync.Mutex
	said  bytes.Buffer
	fears map[string]map[string]bool // by the first bytes
	wrong []string
}

var _ io.Writer = (*eavesdropper)(nil)

const canaryHead = 8

func (e *eavesdropper) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said.Write(b)
}

// accuse notes something that fails the suite.
func (e *eavesdropper) accuse(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wrong = append(e.wrong, what)
}

// fear ignores what is so short that it is found by chance.
func (e *eavesdropper) fear(value string) {
	if len(value) < canaryHead {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fears == nil {
		e.fears = map[string]map[string]bool{}
	}
	head := value[:canaryHead]
	if e.fears[head] == nil {
		e.fears[head] = map[string]bool{}
	}
	e.fears[head][value] = true
}

// leaks returns the lines that hold a secret, with the secret taken out.
func (e *eavesdropper) leaks() (found []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	said := e.said.String()
	for i := 0; i+canaryHead <= len(said); i++ {
		for value := range e.fears[said[i:i+canaryHead]] {
			if strings.HasPrefix(said[i:], value) {
				from := strings.LastIndexByte(said[:i], '\n') + 1
				found = append(found, said[from:i]+"<secret>")
			}
		}
	}
	return found
}

func TestEavesdropperHearsSecrets(t *testing.T) {
	t.Parallel()
	e := &eavesdropper{}
	e.fear("kc_correct-horse")
	e.fear("kc_corral")
	e.fear("short")
	_, _ = io.WriteString(e, "a short line\nlevel=ERROR msg=x key=kc_correct-hors\n")
	require.Empty(t, e.leaks())
	_, _ = io.WriteString(e, `{"msg":"kc_correct-horse"}`)
	require.Equal(t, []string{`{"msg":"<secret>`}, e.leaks())

	log := slog.New(slog.NewJSONHandler(e, nil))
	log.Error("x", slog.String("value", "kc_corral"))
	require.Len(t, e.leaks(), 2)
}

func TestDoubleTonguedErrors(t *testing.T) {
	t.Parallel()
	good := []error{
		&keycote.Error{Op: "use", Code: keycote.ErrRevoked},
		&keycote.Error{Op: "verify", Code: keycote.ErrRevoked},
		&keycote.Error{Op: "verify", Code: keycote.ErrUnavailable, Err: io.EOF},
		&keycote.ValidationError{Violations: []keycote.Violation{{Field: "name", Code: keycote.ErrExists}}},
	}
	for _, err := range good {
		require.Empty(t, doubleTongued(err))
	}
	bad := []error{
		io.EOF, keycote.ErrNotFound,
		&keycote.Error{Code: keycote.ErrRevoked},
		&keycote.Error{Op: "verify", Code: keycote.ErrUnavailable, Err: keycote.ErrUnknownKey},
		&keycote.Error{Op: "use", Code: keycote.ErrUnavailable, Err: fmt.Errorf("x: %w", keycote.ErrNotFound)},
	}
	for _, err := range bad {
		require.NotEmpty(t, doubleTongued(err), "%v", err)
	}
}
