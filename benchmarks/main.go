// Command benchmarks measures Keycote's figures, F1 to F12, each beside its limit or peer in one interleaved run, and
// prints a table of ratios: medians over rounds, and the quartiles around them. From the root of the repository:
//
//	go run ./benchmarks                 all of them, which takes some minutes
//	go run ./benchmarks -only F1,F2     some
//	go run ./benchmarks -rounds 15      more rounds than 9
//	go run ./benchmarks -write          also writes the table into docs/performance.md
//	go run ./benchmarks -check          a short run: fails when a figure is worse than its goal, and than what
//	                                    docs/performance.md records of it, by more than noise
//
// PostgreSQL and MariaDB are used where they run on their standard ports; the table names what was not there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	only := flags.String("only", "", "ids of figures, separated by commas; empty: all")
	rounds := flags.Int("rounds", 0, "rounds of each; 0: as many as is usual")
	write := flags.Bool("write", false, "write the table into docs/performance.md")
	check := flags.Bool("check", false, "a short run that fails when something has become slow")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ids, err := idsOf(*only)
	if err != nil {
		return err
	}
	if *write && (*check || len(ids) > 0) {
		return errors.New("-write wants a full run of all figures")
	}
	l := full()
	if *check {
		l = quick()
	}
	if *rounds > 0 {
		l.rounds = *rounds
	}
	path, err := performance(ctx)
	if err != nil {
		return err
	}
	if err := l.openDatabases(ctx); err != nil {
		return errors.Join(err, l.closeDatabases(ctx))
	}
	switch {
	case *check:
		err = l.check(ctx, path, ids, out)
	default:
		err = l.report(ctx, path, ids, *write, out)
	}
	return errors.Join(err, l.closeDatabases(ctx))
}

// idsOf are the figures that a person names.
func idsOf(only string) ([]string, error) {
	if only == "" {
		return nil, nil
	}
	ids := strings.Split(strings.ToUpper(only), ",")
	for _, id := range ids {
		if !slices.ContainsFunc(figures(), func(f figure) bool { return f.id == id }) {
			return nil, fmt.Errorf("there is no figure %q", id)
		}
	}
	return ids, nil
}

// performance is where docs/performance.md is.
func performance(ctx context.Context) (string, error) {
	dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", rootModule).Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", withStderr(err))
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "docs", "performance.md"), nil
}

func (l *lab) report(ctx context.Context, path string, ids []string, write bool, out io.Writer) error {
	lines, err := l.measure(ctx, ids)
	if err != nil {
		return err
	}
	about := l.about()
	if _, err := fmt.Fprint(out, about, "\n\n"); err != nil {
		return err
	}
	if err := writeTable(out, lines); err != nil || !write {
		return err
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := replaceTable(string(doc), about, lines)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// about says what the table was made on.
func (l *lab) about() string {
	on := []string{
		fmt.Sprintf("%s, %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0)),
		fmt.Sprintf("%d rounds", l.rounds),
	}
	for _, db := range l.databases {
		on = append(on, db.version)
	}
	return strings.Join(on, "; ") + "."
}

// attempts are how often a figure may be too slow before it is believed.
const attempts = 3

func (l *lab) check(ctx context.Context, path string, ids []string, out io.Writer) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	medians, err := recorded(string(doc))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for range attempts {
		lines, err := l.measure(ctx, ids)
		if err != nil {
			return err
		}
		if err := writeTable(out, lines); err != nil {
			return err
		}
		ids = nil
		for _, ln := range lines {
			if ln.tooSlow(medians) && !slices.Contains(ids, ln.figure) {
				ids = append(ids, ln.figure)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		if _, err := fmt.Fprintln(out, "too slow:", strings.Join(ids, ", ")); err != nil {
			return err
		}
	}
	return fmt.Errorf("too slow in %d attempts: %s", attempts, strings.Join(ids, ", "))
}
