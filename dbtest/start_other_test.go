//go:build !unix

package dbtest

import (
	"context"
	"errors"
)

func start(context.Context, string) (*server, error) {
	return nil, errors.New("a server is started for the run on Unix only")
}

func install(context.Context, string) error {
	return errors.New("nothing is installed unless as root on Debian")
}
