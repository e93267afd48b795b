//go:build !unix

package dbtest

import (
	"context"
	"errors"
	"os"
	"time"
)

func start(context.Context, string) (*server, error) {
	return nil, errors.New("a server is started for the run on Unix only")
}

func install(context.Context, string) error {
	return errors.New("nothing is installed unless as root on Debian")
}

// monotonic is the wall clock, for want of a better one that processes share.
func monotonic() (time.Duration, error) { return time.Duration(time.Now().UnixNano()), nil }

func pause(*os.Process) error  { return errors.New("a process is paused on Unix only") }
func resume(*os.Process) error { return errors.New("a process is paused on Unix only") }
