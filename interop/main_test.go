package interop_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/interop/newtink"
	"github.com/keycote/keycote/interop/wire"
)

// bin is the directory of the two programs that link the old Tink.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "keycote-interop-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "./cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", build.Args, err, out)
	}
	return m.Run(), nil
}

func program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(bin, name)
}

// party is one of the two Tinks: the test speaks to both in the same words.
type party struct {
	name  string
	serve wire.Serve
}

// parties returns the Tink that Keycote uses, which answers in this process, and the old one, which answers in its own.
func parties(t *testing.T) (ours, theirs party) {
	t.Helper()
	return party{"tink-go v2", newtink.Serve}, party{"tink v1.7.0", startOld(t)}
}

// bothWays runs f with each of the two as the maker and the other as the reader.
func bothWays(t *testing.T, f func(t *testing.T, maker, reader party)) {
	t.Helper()
	for _, name := range []string{"made there, read here", "made here, read there"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := parties(t)
			if strings.HasPrefix(name, "made there") {
				f(t, theirs, ours)
			} else {
				f(t, ours, theirs)
			}
		})
	}
}

// startOld starts the program of the old Tink. It ends with the test, and must then end well.
func startOld(t *testing.T) wire.Serve {
	t.Helper()
	cmd := exec.Command(program("oldtink"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
	})
	enc, dec := json.NewEncoder(in), json.NewDecoder(out)
	return func(req wire.Request) ([]byte, error) {
		var resp wire.Response
		if err := enc.Encode(req); err != nil {
			return nil, fmt.Errorf("oldtink is gone: %w", err)
		}
		if err := dec.Decode(&resp); err != nil {
			return nil, fmt.Errorf("oldtink is gone: %w", err)
		}
		if resp.Error != "" {
			return nil, refused(resp.Error)
		}
		return resp.Output, nil
	}
}

// refused is an error of the old Tink itself. One of the pipe is never taken for it.
type refused string

func (r refused) Error() string { return string(r) }

// must returns what p answers; an error fails the test.
func (p party) must(t *testing.T, req wire.Request) []byte {
	t.Helper()
	out, err := p.serve(req)
	require.NoError(t, err, "%s: %s", p.name, req.Op)
	return out
}

// refuses asserts that p answers with an error of its own whose text holds want.
func (p party) refuses(t *testing.T, req wire.Request, want string, why ...string) {
	t.Helper()
	_, err := p.serve(req)
	require.ErrorContains(t, err, want, "%s: %s %v", p.name, req.Op, why)
	require.NotContains(t, err.Error(), "oldtink is gone")
}
