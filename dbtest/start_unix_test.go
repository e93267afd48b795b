//go:build unix

package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A server of our own listens on a socket in its directory and nowhere else: there is no port to be taken, and nobody
// on the network who could come in. What it has committed lies with the operating system, and not necessarily on the
// disk: a test here may kill a server, and none takes the machine away.

// patience is how long a server may take to answer for the first time.
const patience = 90 * time.Second

// start makes and starts a server of that kind from installed programs, whose directories are looked for in the usual
// places too. exec.ErrNotFound when there are none.
func start(ctx context.Context, kind string) (*server, error) {
	dir, err := os.MkdirTemp("", "keycote-"+kind)
	if err != nil {
		return nil, err
	}
	s, err := launch(ctx, kind, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func launch(ctx context.Context, kind, dir string) (*server, error) {
	as, err := account(kind)
	if err != nil {
		return nil, err
	}
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	s := &server{kind: kind, user: "root", how: "started for this run"}
	var make, serve []string
	signal := "TERM"
	switch kind {
	case "postgres":
		const places = "/usr/lib/postgresql/*/bin:/usr/pgsql-*/bin:/usr/local/pgsql/bin:/opt/homebrew/opt/postgresql*/bin"
		initdb, err := program(places, "initdb")
		if err != nil {
			return nil, err
		}
		s.address = dir
		make = []string{initdb, "-D", data, "-U", s.user, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"}
		serve = []string{filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-F"}
		signal = "INT" // fast: it waits for no client
	case "mysql":
		s.address = filepath.Join(dir, "socket")
		if make, serve, err = mysqlPrograms(data); err != nil {
			return nil, err
		}
		serve = append(serve, "--no-defaults", "--datadir="+data, "--socket="+s.address, "--pid-file="+filepath.Join(dir, "pid"),
			"--skip-networking", "--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0")
	}
	if out, err := command(ctx, as, dir, make).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", make[0], err, out)
	}
	s.restart = func(ctx context.Context) error {
		if err := s.gone(); err != nil {
			return err
		}
		database := s.database
		err := s.serve(ctx, as, dir, signal, serve)
		s.database = database // it has made another one, to see whether it may
		return err
	}
	if err := s.serve(ctx, as, dir, signal, serve); err != nil {
		return nil, err
	}
	return s, nil
}

func mysqlPrograms(data string) (make, serve []string, err error) {
	const places = "/usr/sbin:/usr/libexec:/usr/local/sbin:/opt/homebrew/opt/mariadb/bin:/opt/homebrew/opt/mysql/bin"
	server, err := program(places, "mariadbd")
	if err != nil {
		if server, err = program(places, "mysqld"); err != nil {
			return nil, nil, err
		}
		return []string{server, "--no-defaults", "--initialize-insecure", "--datadir=" + data}, []string{server}, nil
	}
	install, err := program(places, "mariadb-install-db")
	if err != nil {
		return nil, nil, err
	}
	return []string{install, "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db"},
		[]string{server}, nil
}

// serve runs a server under a shell that ends it, and removes dir, when this process is gone, however it went: it then
// reads the end of its input. A directory with a file "keep" in it stays. serve waits until the server answers.
func (s *server) serve(ctx context.Context, as *syscall.Credential, dir, signal string, args []string) error {
	const script = `dir=$1 signal=$2; shift 2; "$@" & echo $! >"$dir/server"; read -r _; kill -s "$signal" $!; wait $!
		[ -e "$dir/keep" ] || rm -rf -- "$dir"`
	cmd := command(ctx, as, dir, append([]string{"/bin/sh", "-c", script, "sh", dir, signal}, args...))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.stop = func() {
		_ = alive.Close()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	s.crash = func() error {
		text, err := os.ReadFile(filepath.Join(dir, "server"))
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		keep := filepath.Join(dir, "keep")
		if err := os.WriteFile(keep, nil, 0o600); err != nil {
			return err
		}
		s.gone = sync.OnceValue(func() error {
			_ = alive.Close()
			_ = cmd.Wait() // the shell says that there was nothing left to end
			return os.Remove(keep)
		})
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := s.claim(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			s.stop()
			return fmt.Errorf("%s did not answer within %v: %w: %s", args[0], patience, err, tail(&log))
		}
	}
}

func tail(log *bytes.Buffer) []byte {
	text := log.Bytes()
	return text[max(0, len(text)-2000):]
}

func command(ctx context.Context, as *syscall.Credential, dir string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true} // an interrupt from the keyboard is not for it
	cmd.WaitDelay = time.Minute
	return cmd
}

// account is who runs a server: ourselves, but never root, which neither of them likes.
func account(kind string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{kind, "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
	}
	return nil, errors.New("root has nobody to run a server as")
}

// program looks along PATH and in further places, the last match of a pattern first: it has the highest version.
func program(places, name string) (string, error) {
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	for _, place := range filepath.SplitList(places) {
		found, err := filepath.Glob(filepath.Join(place, name))
		if err != nil {
			return "", err
		}
		slices.Sort(found)
		for _, path := range slices.Backward(found) {
			if _, err := exec.LookPath(path); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// packages are Debian's.
var packages = map[string]string{"postgres": "postgresql", "mysql": "mariadb-server"}

// install installs Debian's package of that kind, when we are root on a Debian. Debian would start a server of its own
// on the standard port; RUNLEVEL keeps it from that, as in any chroot.
func install(ctx context.Context, kind string) error {
	if _, err := os.Stat("/etc/debian_version"); err != nil || os.Geteuid() != 0 {
		return errors.New("nothing is installed unless as root on Debian")
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	fmt.Printf("dbtest: installing %s, which this machine does not have\n", packages[kind])
	var failed error
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", packages[kind]}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, io.Writer(&out)
		failed = nil
		if err := cmd.Run(); err != nil { // a list that cannot be updated may do as it is
			failed = fmt.Errorf("apt-get %s: %w: %s", args[0], err, tail(&out))
		}
	}
	return failed
}
