package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// revocations is F9: how long another process's cache honours a key after its revocation has been committed. The other
// process is another Manager on another pool of connections, which is all that two processes would share.
func revocations(ctx context.Context, l *lab) ([]line, error) {
	return l.eachDatabase(ctx, func(ctx context.Context, d *database) ([]line, error) {
		polling, err := d.revoke(ctx, l, nil)
		if err != nil {
			return nil, err
		}
		stale := goal{atMost, float64(l.maxStale.Milliseconds())}
		lines := []line{
			{
				what: "revoked keys honoured by the next call in the same process on " + d.name, goal: goal{counted, 0},
				got: exactly(polling.honoured), unit: "keys", note: number(float64(l.revocations)) + " revocations",
			},
			{
				what: "longest that another process honours a revoked key on " + d.name + ", by polling", limit: "`MaxStale`",
				goal: stale, got: exactly(polling.part(1)), unit: "ms", note: polling.String(),
			},
		}
		if d.driver != "pgx" {
			return lines, nil
		}
		told, err := d.revoke(ctx, l, listenByPgx(d.dsn))
		if err != nil {
			return nil, err
		}
		return append(lines, line{
			what: "p99 of the same on " + d.name + ", told by NOTIFY through pgx", goal: goal{atMost, 5}, got: exactly(told.part(0.99)),
			unit: "ms", note: told.String(),
		}), nil
	})
}

// seen is what revocations have shown.
type seen struct {
	elsewhere []time.Duration // from the commit to the first refusal, ascending
	honoured  int             // by the next call in the process that had revoked
}

// part is a quantile in milliseconds.
func (s seen) part(p float64) float64 {
	return float64(s.elsewhere[int(p*float64(len(s.elsewhere)-1)+0.5)].Microseconds()) / 1000
}

func (s seen) String() string {
	return fmt.Sprintf("p50 %s ms, p99 %s ms, %d revocations", number(s.part(0.5)), number(s.part(0.99)), len(s.elsewhere))
}

// revoke revokes keys that are in the caches of both, one after the other. A nil Listener leaves the follower to poll.
func (d *database) revoke(ctx context.Context, l *lab, listener sqlstore.Listener) (s seen, err error) {
	t, err := d.newTables(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, t.store.Close()) }()
	k, err := newKEK()
	if err != nil {
		return s, err
	}
	options := keycote.Options{MaxStale: l.maxStale}
	writer, err := keycote.New(ctx, t.store, k, &options)
	if err != nil {
		return s, err
	}
	other, err := sql.Open(d.driver, d.dsn)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	store, err := sqlstore.New(ctx, other, t.dialect)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var followed keycote.Store = store
	if listener != nil {
		if followed, err = store.WithListener(listener); err != nil {
			return s, err
		}
	}
	follower, err := keycote.New(ctx, followed, k, &options)
	if err != nil {
		return s, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = follower.Run(running) // what it cannot do shows in what is measured
	}()
	defer func() { stop(); <-ended }()
	for i := range l.revocations {
		if err := s.one(ctx, writer, follower, i); err != nil {
			return s, err
		}
	}
	slices.Sort(s.elsewhere)
	return s, nil
}

func (s *seen) one(ctx context.Context, writer, follower *keycote.Manager, i int) error {
	key, secret, err := writer.Issue(ctx, keycote.IssueParams{
		Name: fmt.Sprintf("key %d", i), App: "shop", Scopes: []string{"orders:read"},
	})
	if err != nil {
		return err
	}
	token, r := secret.Reveal(), request()
	for _, m := range []*keycote.Manager{writer, follower} {
		if _, err := m.Verify(ctx, token, r); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(i%10) * 37 * time.Millisecond) //house:allow clock at any moment between two real polls
	if _, err := writer.Revoke(ctx, key.ID, "benchmark"); err != nil {
		return err
	}
	start := now()
	if _, err := writer.Verify(ctx, token, r); err == nil {
		s.honoured++
	}
	for {
		_, err := follower.Verify(ctx, token, r)
		if errors.Is(err, keycote.ErrUnauthenticated) {
			s.elsewhere = append(s.elsewhere, now().Sub(start))
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(20 * time.Microsecond) //house:allow clock the interval of asking is real
	}
}

// listenByPgx is the listener of sqlstore's documentation.
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
