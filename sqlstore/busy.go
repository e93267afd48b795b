package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// busyWait is how long a locked file of SQLite is asked for where no busy_timeout is set, which is how one of the
// drivers opens: nobody means that a call fails at once whenever another one writes.
const busyWait = 5 * time.Second

// sqliteBusy knows the error by its text: drivers have no type in common, and all of them show SQLite's own words.
func sqliteBusy(err error) bool {
	return strings.Contains(err.Error(), "database is locked") && !errors.As(err, new(halfRead))
}

// sqliteTimeout is the connection's busy_timeout. To ask for it no lock is needed.
func sqliteTimeout(ctx context.Context, x session) (time.Duration, error) {
	var timeout int64
	_, err := x.one(ctx, []any{&timeout}, "PRAGMA busy_timeout")
	return time.Duration(timeout) * time.Millisecond, err
}

// repeat runs try until it finds the file free, fails otherwise, or has paused for wait in all.
func repeat(ctx context.Context, wait time.Duration, try func() error) error {
	for waited := time.Duration(0); ; {
		err := try()
		if err == nil || !sqliteBusy(err) || waited >= wait {
			return err
		}
		const least, spread = time.Millisecond, 2560 * time.Microsecond
		waited += least + spread/2
		if pause(ctx, least, spread) != nil {
			return err
		}
	}
}

// whileBusy repeats a statement where SQLite does not wait by itself, and says so if it was in vain.
func whileBusy(ctx context.Context, timeout time.Duration, try func() error) error {
	if timeout > 0 {
		return try()
	}
	return advised(repeat(ctx, busyWait, try))
}

func advised(err error) error {
	if err != nil && sqliteBusy(err) {
		return fmt.Errorf("%w: set busy_timeout and WAL: see package sqlstore", err)
	}
	return err
}

// readAgain goes on with a read that has found the file locked, with err.
func (s *Store) readAgain(ctx context.Context, err error, read func() error) error {
	timeout, unknown := sqliteTimeout(ctx, session{d: s.d, q: s.db})
	if unknown == nil && timeout > 0 { // it has waited
		return err
	}
	return whileBusy(ctx, 0, read)
}

// opening repeats what opens a connection, or may. The switch of a file to WAL, which a DSN can ask for, is the one
// thing for which SQLite does not wait whatever busy_timeout says: of several processes that start at once some fail.
func (s *Store) opening(ctx context.Context, open func() error) error {
	if !s.d.embedded {
		return open()
	}
	limit, cancel := context.WithTimeout(ctx, busyWait) // an open may have waited for as long as that by itself
	defer cancel()
	return advised(repeat(limit, busyWait, open))
}
