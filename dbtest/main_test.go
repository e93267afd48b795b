// Package dbtest runs Keycote's stores against real databases: conformance, faults, several processes, sudden death.
package dbtest

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/keycote/keycote/sqlstore"
)

// roleEnv makes the test binary a process of another kind: a test starts itself once more to have a second writer.
const roleEnv = "KEYCOTE_DBTEST_ROLE"

// suites is what was run and passed, by database, and what was measured.
var suites = struct {
	sync.Mutex
	on      map[string][]string
	figures []string
}{on: map[string][]string{}}

// ran notes that a suite has passed on a database.
func ran(t *testing.T, database, suite string) {
	if t.Failed() {
		return
	}
	suites.Lock()
	defer suites.Unlock()
	suites.on[database] = append(suites.on[database], suite)
}

// measured notes a figure, to be printed with the last lines of a run.
func measured(t *testing.T, database, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	suites.Lock()
	defer suites.Unlock()
	suites.figures = append(suites.figures, database+": "+line)
}

func TestMain(m *testing.M) {
	// Connections are cut here, of each of which the driver tells on the standard error.
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if role := os.Getenv(roleEnv); role != "" {
		if err := runRole(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx := context.Background()
	servers, missing := prepare(ctx)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ended
		for _, s := range servers { // nobody else would
			_ = s.release(ctx)
		}
		os.Exit(1)
	}()
	code = m.Run()
	for _, e := range engines {
		if e.db != nil {
			_ = e.db.Close()
		}
	}
	for _, s := range servers {
		if err := s.release(ctx); err != nil {
			fmt.Printf("dbtest: %s: %v\n", s.database, err)
			code = 1
		}
	}
	for _, e := range engines {
		if suites.on[e.name] == nil {
			fmt.Printf("dbtest: %s: no suite\n", e.name)
		}
	}
	for _, database := range slices.Sorted(maps.Keys(suites.on)) {
		on := suites.on[database]
		slices.Sort(on)
		fmt.Printf("dbtest: %s: %s\n", database, strings.Join(slices.Compact(on), ", "))
	}
	slices.Sort(suites.figures)
	for _, line := range suites.figures {
		fmt.Println("dbtest: " + line)
	}
	for _, line := range missing {
		fmt.Println("dbtest: " + line.text)
		if line.fault {
			code = 1
		}
	}
	return code
}

// runRole is the main function of a child: the role, the store's place and the child's name stand in the environment.
func runRole(role string) error {
	ctx := context.Background()
	db, err := sql.Open(os.Getenv("KEYCOTE_DBTEST_DRIVER"), os.Getenv("KEYCOTE_DBTEST_DSN"))
	if err != nil {
		return err
	}
	dialect := sqlstore.Dialect(os.Getenv("KEYCOTE_DBTEST_DIALECT"))
	if err := sqlstore.Migrate(ctx, db, dialect); err != nil {
		return err
	}
	store, err := sqlstore.New(ctx, db, dialect)
	if err != nil {
		return err
	}
	name := os.Getenv("KEYCOTE_DBTEST_NAME")
	switch role {
	case "ask":
		return answerAsked(ctx, store)
	case "contend":
		return contend(ctx, store, name)
	case "die":
		return writeUntilKilled(ctx, store, name)
	case "start", "rotate", "update", "manage":
		return manage(ctx, store, role, name)
	}
	return fmt.Errorf("unknown role %q", role)
}

// child is this binary in another role.
func child(ctx context.Context, role string, p place, name string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "KEYCOTE_DBTEST_NAME="+name, "KEYCOTE_DBTEST_DRIVER="+p.driver,
		"KEYCOTE_DBTEST_DSN="+p.dsn, "KEYCOTE_DBTEST_DIALECT="+string(p.dialect), "KEYCOTE_DBTEST_KEK="+p.kek)
	return cmd, nil
}
