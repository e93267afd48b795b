package keyhttp_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// suite hears what the tests of this package log and are answered.
var suite = &eavesdropper{}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, leak := range suite.leaks() {
		fmt.Fprintf(os.Stderr, "FAIL: what the suite logged and answered holds a secret: %s\n", leak)
		code = 1
	}
	os.Exit(code)
}

// canary registers a secret, and returns it: neither it nor the middle of it must ever be seen.
func canary(value string) string {
	suite.fear(value)
	if half := len(value) / 2; half >= 12 {
		suite.fear(value[half-6 : half+6])
	}
	return value
}

// testLogger is a logger at debug level into what TestMain searches for canaries, and into also.
func testLogger(also io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(also, suite), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// eavesdropper keeps what was said, and what must never be said.
type eavesdropper struct {
	mu    sync.Mutex
	said  bytes.Buffer
	fears []string
}

func (e *eavesdropper) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said.Write(b)
}

func (e *eavesdropper) fear(value string) {
	if value == "" { // a chosen value is not handed out
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fears = append(e.fears, value)
}

// leaks returns what stands before each secret in its line.
func (e *eavesdropper) leaks() (found []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	said := e.said.String()
	for _, secret := range e.fears {
		if before, _, leaked := strings.Cut(said, secret); leaked {
			found = append(found, before[strings.LastIndexByte(before, '\n')+1:]+"<secret>")
		}
	}
	return found
}

func TestEavesdropper(t *testing.T) {
	t.Parallel()
	e := &eavesdropper{}
	e.fear("kc_correct-horse")
	fmt.Fprintln(e, "level=ERROR key=kc_correct-hors")
	require.Empty(t, e.leaks())
	fmt.Fprintln(e, "level=ERROR key=kc_correct-horse-battery")
	require.Equal(t, []string{"level=ERROR key=<secret>"}, e.leaks())
}
