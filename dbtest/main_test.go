// Package dbtest runs Keycote's stores against real databases: conformance, faults, several processes, sudden death.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keycote/keycote/sqlstore"
)

// roleEnv makes the test binary a process of another kind: a test starts itself once more to have a second writer.
const roleEnv = "KEYCOTE_DBTEST_ROLE"

// suites is what was run and passed, by database.
var suites = struct {
	sync.Mutex
	on map[string][]string
}{on: map[string][]string{}}

func ran(t *testing.T, database, suite string) {
	if t.Failed() {
		return
	}
	suites.Lock()
	defer suites.Unlock()
	suites.on[database] = append(suites.on[database], suite)
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := runRole(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, database := range slices.Sorted(maps.Keys(suites.on)) {
		on := suites.on[database]
		slices.Sort(on)
		fmt.Printf("dbtest: %s: %s\n", database, strings.Join(on, ", "))
	}
	os.Exit(code)
}

// runRole is the main function of a child: the role, the file and the child's name stand in the environment.
func runRole(role string) error {
	ctx := context.Background()
	db, err := sql.Open("sqlite", dsn(os.Getenv("KEYCOTE_DBTEST_FILE")))
	if err != nil {
		return err
	}
	if err := sqlstore.Migrate(ctx, db, sqlstore.SQLite); err != nil {
		return err
	}
	store, err := sqlstore.New(ctx, db, sqlstore.SQLite)
	if err != nil {
		return err
	}
	name := os.Getenv("KEYCOTE_DBTEST_NAME")
	switch role {
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
func child(ctx context.Context, role, file, name string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "KEYCOTE_DBTEST_FILE="+file, "KEYCOTE_DBTEST_NAME="+name)
	return cmd, nil
}
