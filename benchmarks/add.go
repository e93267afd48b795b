package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// addAndReveal is F6. Leaving the strength estimate out is a door that only the root package's own tests have, so its
// benchmarks are built, and run as a process of their own: once for each round, the limit and the call one after the
// other in each.
func addAndReveal(ctx context.Context, l *lab) ([]line, error) {
	binary, done, err := rootTests(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	type pair struct{ limit, call timing }
	pairs := map[string]*pair{"Add": {}, "Reveal": {}}
	for range l.rounds {
		got, err := binary.bench(ctx, l.slice, "^Benchmark(Add|Reveal)$")
		if err != nil {
			return nil, err
		}
		for verb, p := range pairs {
			limit, call := got["Benchmark"+verb+"/limit/crypto"], got["Benchmark"+verb+"/"+strings.ToLower(verb)]
			if limit.ns == 0 || call.ns == 0 {
				return nil, fmt.Errorf("what ran does not have Benchmark%s: %v", verb, got)
			}
			p.limit.ns, p.call.ns = append(p.limit.ns, limit.ns), append(p.call.ns, call.ns)
			p.call.allocs = call.allocs
		}
	}
	var lines []line
	for _, verb := range []string{"Add", "Reveal"} {
		p, without := pairs[verb], " without its store"
		if verb == "Add" {
			without = " without strength estimate and store"
		}
		lines = append(lines, line{
			what: "`" + verb + "`" + without, limit: "its Tink and HMAC calls alone", goal: goal{atMost, 2},
			got: times(p.call, p.limit), unit: unitTimes, note: took(p.call) + ", " + allocs(p.call),
		})
	}
	calls, err := kmsCalls(ctx)
	if err != nil {
		return nil, err
	}
	return append(lines, line{
		what: "calls to the KMS by `Add` and `Reveal` of a warm tenant", goal: goal{counted, 0}, got: exactly(calls), unit: "calls",
	}), nil
}

// kmsCalls counts what the KEK is asked once the tenant's keyring is there.
func kmsCalls(ctx context.Context) (int64, error) {
	k, err := newKEK()
	if err != nil {
		return 0, err
	}
	m, err := keycote.New(ctx, memstore.New(), k, nil)
	if err != nil {
		return 0, err
	}
	add := func(name string) error {
		key, err := m.Add(ctx, keycote.AddParams{
			Name: name, Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(rand.Text()),
		})
		if err != nil {
			return err
		}
		_, err = m.Reveal(ctx, key.ID, "bench")
		return err
	}
	if err := add("first"); err != nil {
		return 0, err
	}
	before := k.calls.Load()
	err = add("second")
	return k.calls.Load() - before, err
}

// testBinary is the root package's tests, built.
type testBinary struct{ path, dir string }

const rootModule = "github.com/keycote/keycote"

// rootTests builds them; the go command has them ready when nothing has changed.
func rootTests(ctx context.Context) (b testBinary, done func(), err error) {
	list, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", rootModule).Output()
	if err != nil {
		return b, nil, fmt.Errorf("go list: %w", withStderr(err))
	}
	dir, err := os.MkdirTemp("", "keycote-bench-")
	if err != nil {
		return b, nil, err
	}
	b = testBinary{path: filepath.Join(dir, "root.test"), dir: strings.TrimSpace(string(list))}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", b.path, rootModule)
	if out, err := build.CombinedOutput(); err != nil {
		return b, nil, errors.Join(fmt.Errorf("go test -c: %w: %s", err, out), os.RemoveAll(dir))
	}
	return b, func() { _ = os.RemoveAll(dir) }, nil
}

func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

// result is one line of a benchmark's output.
type result struct{ ns, allocs float64 }

func (b testBinary) bench(ctx context.Context, each time.Duration, pattern string) (map[string]result, error) {
	cmd := exec.CommandContext(ctx, b.path, "-test.run", "^$", "-test.bench", pattern, "-test.benchmem", "-test.benchtime", each.String())
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return parseBench(out)
}

// parseBench reads lines like "BenchmarkAdd/add-2  100  9876 ns/op  512 B/op  9 allocs/op".
func parseBench(out []byte) (map[string]result, error) {
	results := map[string]result{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		var r result
		for i := 2; i+1 < len(fields); i += 2 {
			n, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q is no benchmark's line: %w", lines.Text(), err)
			}
			switch fields[i+1] {
			case "ns/op":
				r.ns = n
			case "allocs/op":
				r.allocs = n
			}
		}
		results[name] = r
	}
	return results, lines.Err()
}
