package dbtest

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// These two stand in the documentation of sqlstore, to be copied. They are tested as they stand there.

func listenByPgx(dsn string) sqlstore.Listener {
	return func(ctx context.Context, channel string, wake func()) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = conn.Close(ctx)
		}()
		if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
		for {
			wake()
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return err
			}
		}
	}
}

func listenByPQ(dsn string) sqlstore.Listener {
	return func(ctx context.Context, channel string, wake func()) error {
		l := pq.NewListener(dsn, 100*time.Millisecond, 10*time.Second, nil)
		defer context.AfterFunc(ctx, func() { _ = l.Close() })() // Listen waits for a connection, and knows no context
		defer func() { _ = l.Close() }()
		if err := l.Listen(channel); err != nil {
			return err
		}
		for {
			wake()
			select {
			case _, open := <-l.Notify: // nil when it has connected again by itself
				if !open {
					return errors.New("the listener was closed")
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// listeners are by the name of the driver in database/sql.
var listeners = map[string]func(dsn string) sqlstore.Listener{"pgx": listenByPgx, "postgres": listenByPQ}

// A program that listens differs in one line from one that does not.
func Example_listening() {
	open := func(ctx context.Context, store *sqlstore.Store, kek keycote.KEK, dsn string) (*keycote.Manager, error) {
		listening, err := store.WithListener(listenByPgx(dsn))
		if err != nil {
			return nil, err
		}
		return keycote.New(ctx, listening, kek, &keycote.Options{MaxStale: 30 * time.Second})
	}
	_ = open // and then: go keys.Run(ctx)
}
