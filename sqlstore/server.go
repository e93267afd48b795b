package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strings"
	"time"
)

// transaction runs fn in a transaction READ COMMITTED, on a server's database. What a Commit compares it has locked
// before, or it lies behind the head's row, which it has locked; each of its statements has to see what was committed
// until that lock was there. An isolation that fixes one moment for the whole transaction could not.
func transaction(ctx context.Context, s *Store, fn func(session) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit; a connection that fails here does not come back
	if err := fn(session{d: s.d, q: tx}); err != nil {
		return err
	}
	return tx.Commit()
}

// maxTries is how often a Commit is tried when the database ends it for the sake of another one.
const maxTries = 10

// retried runs fn until it ends for another reason than its company.
func (s *Store) retried(ctx context.Context, fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		if err == nil || s.d.transient == nil || !s.d.transient(err) || try == maxTries {
			return err
		}
		if pause(ctx, time.Duration(try)*time.Millisecond, 5*time.Millisecond) != nil {
			return err
		}
	}
}

// pause waits for least and a random part of spread, which keeps processes out of step.
func pause(ctx context.Context, least, spread time.Duration) error {
	var random [1]byte
	_, _ = rand.Read(random[:]) // never fails
	//house:allow clock it waits between two tries and judges nothing
	timer := time.NewTimer(least + spread*time.Duration(random[0])/256)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func insertStatement(table string, columns, values []string) string {
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
}

// onConflict is the clause of SQLite and PostgreSQL.
func onConflict(key []string, set ...string) string {
	return " ON CONFLICT (" + strings.Join(key, ", ") + ") DO UPDATE SET " + strings.Join(set, ", ")
}

// insertOrNothing is insertNew by the clause that SQLite and PostgreSQL have for it.
func insertOrNothing(
	ctx context.Context, x session, table string, columns, values []string, args ...any,
) (bool, error) {
	n, err := x.exec(ctx, insertStatement(table, columns, values)+" ON CONFLICT ("+columns[0]+") DO NOTHING", args...)
	return n > 0, err
}
