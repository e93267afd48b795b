//go:build !unix

package redislimit

import (
	"context"
	"errors"
)

func start(context.Context) (*server, error) {
	return nil, errors.New("a server is started for the run on Unix only")
}

func install(context.Context) error {
	return errors.New("nothing is installed unless as root on Debian")
}
