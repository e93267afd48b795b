//go:build unix

package dbtest

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic reads the one clock that all processes of a machine share and that nobody sets.
func monotonic() (time.Duration, error) {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		return 0, err
	}
	return time.Duration(at.Nano()), nil
}

// pause and resume are what a process cannot notice.
func pause(p *os.Process) error  { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
