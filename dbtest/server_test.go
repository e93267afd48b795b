package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// server is a database server, and the database in it that this run has made for itself.
type server struct {
	kind     string // "postgres" or "mysql", as KEYCOTE_DBTEST_SKIP has it
	version  string
	how      string // where it comes from
	database string
	address  string // host and port, or the directory or file of the socket
	user     string
	stop     func() // ends what was started for this run; nil for a server that was there

	// Of what was started for this run: crash kills it as it is, gone waits until the last of its processes has noticed,
	// and restart does that and starts it again on what it had written.
	crash, gone func() error
	restart     func(ctx context.Context) error
}

// kinds are the servers that this package knows, each with how it is reached.
var kinds = []struct {
	kind, driver string
	dsn          func(s *server, database string) string
	admin        string // the database to make another one from
	version      string
}{
	{"postgres", "pgx", postgresDSN, "postgres", "SELECT 'PostgreSQL ' || current_setting('server_version')"},
	{"mysql", "mysql", mysqlDSN, "", "SELECT VERSION()"},
}

func postgresDSN(s *server, database string) string {
	host, port, tcp := strings.Cut(s.address, ":")
	dsn := fmt.Sprintf("host=%s user=%s dbname=%s sslmode=disable", host, s.user, database)
	if tcp {
		dsn += " port=" + port
	}
	return dsn
}

func mysqlDSN(s *server, database string) string {
	net := "tcp"
	if strings.HasPrefix(s.address, "/") {
		net = "unix"
	}
	return fmt.Sprintf("%s@%s(%s)/%s", s.user, net, s.address, database)
}

// errNoServer says that nobody answers, or not to us.
var errNoServer = errors.New("no server answers")

// claim makes a database for this run, which shows that the server is there and may be used.
func (s *server) claim(ctx context.Context) error {
	var random [6]byte
	_, _ = rand.Read(random[:])
	database := "keycote_test_" + hex.EncodeToString(random[:])
	return s.administer(ctx, func(db *sql.DB, version string) error {
		if err := db.QueryRowContext(ctx, version).Scan(&s.version); err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, "CREATE DATABASE "+database); err != nil {
			return err
		}
		s.database = database
		return nil
	})
}

// release drops what claim made, and ends what was started for this run.
func (s *server) release(ctx context.Context) error {
	var err error
	if s.stop == nil {
		err = s.administer(ctx, func(db *sql.DB, _ string) error {
			drop := "DROP DATABASE " + s.database
			if s.kind == "postgres" {
				drop += " WITH (FORCE)" // a child that was killed may still be there, in the server's eyes
			}
			_, err := db.ExecContext(ctx, drop)
			return err
		})
	} else {
		s.stop()
	}
	return err
}

func (s *server) administer(ctx context.Context, do func(db *sql.DB, version string) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, k := range kinds {
		if k.kind != s.kind {
			continue
		}
		db, err := sql.Open(k.driver, k.dsn(s, k.admin))
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		if err := db.PingContext(ctx); err != nil {
			return fmt.Errorf("%w: %w", errNoServer, err)
		}
		return do(db, k.version)
	}
	return errNoServer
}

// standard are the places where a server may be found that somebody else runs.
func standard(kind string) []*server {
	var all []*server
	switch kind {
	case "postgres":
		for _, address := range []string{"127.0.0.1:5432", "/var/run/postgresql", "/tmp"} {
			for _, user := range []string{"postgres", "root"} {
				all = append(all, &server{kind: kind, address: address, user: user})
			}
		}
	case "mysql":
		for _, address := range []string{"127.0.0.1:3306", "/run/mysqld/mysqld.sock", "/tmp/mysql.sock"} {
			all = append(all, &server{kind: kind, address: address, user: "root"})
		}
	}
	return all
}

// find returns a server of that kind: one that runs on its standard port and lets us in, or one of our own, from
// programs that are installed, or have to be.
func find(ctx context.Context, kind string) (*server, error) {
	var why []error
	running := standard(kind)
	if os.Getenv(ownEnv) != "" {
		running = nil
	}
	for _, s := range running {
		err := s.claim(ctx)
		if err == nil {
			s.how = "running at " + s.address
			return s, nil
		}
		why = append(why, fmt.Errorf("at %s as %s: %w", s.address, s.user, err))
	}
	s, err := startOrInstall(ctx, kind)
	if err != nil {
		return nil, errors.Join(append(why, err)...)
	}
	return s, nil
}

// startOrInstall starts a server of our own, from programs that are installed, or have to be.
func startOrInstall(ctx context.Context, kind string) (*server, error) {
	s, err := start(ctx, kind)
	if !errors.Is(err, exec.ErrNotFound) {
		return s, err
	}
	installing.Lock() // apt-get does one thing at a time
	failed := install(ctx, kind)
	installing.Unlock()
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	return start(ctx, kind)
}

var installing sync.Mutex

// ownEnv, when it is set, has servers started for the run even where others run already.
const ownEnv = "KEYCOTE_DBTEST_OWN"
