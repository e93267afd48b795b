//go:build unix

package redislimit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long a server may take to answer for the first time.
const patience = 30 * time.Second

// start starts a server on a socket in a directory of its own, and nowhere else: there is no port to be taken. It runs
// under a shell that ends it, and removes the directory, when this process is gone, however it went.
func start(ctx context.Context) (*server, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w", exec.ErrNotFound)
	}
	dir, err := os.MkdirTemp("", "keycote-redis")
	if err != nil {
		return nil, err
	}
	s := &server{network: "unix", address: filepath.Join(dir, "socket"), how: "started for this run"}
	const script = `dir=$1; shift; "$@" & read -r _; kill -s TERM $!; wait $!; rm -rf -- "$dir"`
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script, "sh", dir,
		program, "--port", "0", "--unixsocket", s.address, "--save", "", "--appendonly", "no", "--dir", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is not for it
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	alive, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.stop = func() {
		_ = alive.Close()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err = s.answers(ctx); err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			s.stop()
			return nil, fmt.Errorf("redis-server did not answer within %v: %w: %s", patience, err, log.Bytes())
		}
	}
}

// install installs Debian's package, when we are root on a Debian. RUNLEVEL keeps it from starting a server of its own.
func install(ctx context.Context) error {
	if _, err := os.Stat("/etc/debian_version"); err != nil || os.Geteuid() != 0 {
		return errors.New("nothing is installed unless as root on Debian")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	fmt.Println("redislimit: installing redis-server, which this machine does not have")
	var failed error
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "redis-server"}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		out, err := cmd.CombinedOutput()
		failed = nil
		if err != nil { // a list that cannot be updated may do as it is
			failed = fmt.Errorf("apt-get %s: %w: %s", args[0], err, out[max(0, len(out)-2000):])
		}
	}
	return failed
}
