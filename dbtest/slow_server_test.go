package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// tallyStore counts the lookups that are under way, and those that there were.
type tallyStore struct {
	keycote.Store
	now, all atomic.Int64
}

func (s *tallyStore) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	s.all.Add(1)
	s.now.Add(1)
	defer s.now.Add(-1)
	return s.Store.Lookup(ctx, digests)
}

// stall locks a table that every lookup reads, for nobody else. What is asked for hangs until resume.
func (p place) stall(t *testing.T, db *sql.DB) (resume func()) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	lock, unlock := []string{"BEGIN", "LOCK TABLE keycote_digests IN ACCESS EXCLUSIVE MODE"}, "ROLLBACK"
	if p.driver == "mysql" {
		lock, unlock = []string{"LOCK TABLES keycote_digests WRITE"}, "UNLOCK TABLES"
	}
	for _, statement := range lock {
		_, err := conn.ExecContext(t.Context(), p.named(statement))
		require.NoError(t, err)
	}
	resume = sync.OnceFunc(func() {
		_, err := conn.ExecContext(context.Background(), unlock)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	})
	t.Cleanup(resume)
	return resume
}

// The lookups that may be under way at once: of values of issued form, and of others.
const (
	issuedLane = 256
	othersLane = 32
)

// waitCtx tells when somebody waits for its end for the first time.
type waitCtx struct {
	context.Context
	waits func()
}

func (c *waitCtx) Done() <-chan struct{} {
	c.waits()
	return c.Context.Done()
}

// A server hangs. What is cached is verified as ever; who has to ask waits as long as he said and learns that nothing
// is known; those who ask do not bury the server. When it goes on, each key that many wait for is read once.
func TestSlowServer(t *testing.T) {
	onEach(t, "slow server", mainServers, func(t *testing.T, e *engine) {
		ctx := t.Context()
		_, db, here := e.fresh(t)
		writer, err := openHost(ctx, here.store(t, db), here.kek)
		require.NoError(t, err)
		pool := here.open(t)
		pool.SetMaxOpenConns(8)
		store, clock := &tallyStore{Store: here.store(t, pool)}, &wrongClock{}
		kek, err := keycote.LocalKEK(here.kek)
		require.NoError(t, err)
		m, err := keycote.New(ctx, store, kek, &keycote.Options{MaxStale: 2 * maxWait, Now: clock.Now})
		require.NoError(t, err)
		issued := issueMany(t, writer, here, db, issuedLane+44)
		warm, cold := issued[:4], issued[4:]
		for _, token := range warm {
			_, err := m.Verify(ctx, token, keycote.Request{})
			require.NoError(t, err)
		}
		goOn := here.stall(t, db)

		waiting, enough := context.WithCancel(ctx)
		var group sync.WaitGroup
		var refused atomic.Int64
		ask := func(value string) {
			group.Go(func() {
				if _, err := m.Verify(waiting, value, keycote.Request{}); keycote.CodeOf(err) != keycote.ErrUnavailable {
					refused.Add(1)
				}
			})
		}
		for i := range 2 * othersLane {
			ask(fmt.Sprintf("made-up-by-somebody-%d", i))
		}
		require.Eventually(t, func() bool { return store.now.Load() == othersLane }, maxWait, time.Millisecond)
		for _, token := range cold {
			ask(token)
		}
		require.Eventually(t, func() bool { return store.now.Load() == issuedLane+othersLane }, maxWait, time.Millisecond)
		for _, token := range warm {
			_, err := m.Verify(ctx, token, keycote.Request{})
			require.NoError(t, err, "what is cached waits for nobody")
		}
		hurried, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err = m.Verify(hurried, cold[0], keycote.Request{})
		cancel()
		require.ErrorIs(t, err, keycote.ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
		require.EqualValues(t, issuedLane+othersLane, store.now.Load(), "no more than these, whoever waits")
		enough()
		group.Wait()
		require.Zero(t, refused.Load(), "an outage is no answer about keys")

		clock.set(2 * maxWait)
		for _, err := range m.Events(ctx, keycote.EventFilter{}) { // which looks at the keyrings, as is due
			require.NoError(t, err)
		}
		const each = 32
		before := store.all.Load()
		var failed, waits atomic.Int64
		for _, token := range warm {
			for range each {
				ctx := &waitCtx{ctx, sync.OnceFunc(func() { waits.Add(1) })}
				group.Go(func() {
					if _, err := m.Verify(ctx, token, keycote.Request{}); err != nil {
						failed.Add(1)
					}
				})
			}
		}
		all := int64(each * len(warm))
		require.Eventually(t, func() bool { return waits.Load() == all }, maxWait, time.Millisecond)
		goOn()
		group.Wait()
		require.Zero(t, failed.Load())
		require.Equal(t, before+int64(len(warm)), store.all.Load(), "of %d that wait for a key one reads", each)
	})
}

// maxWait is how long a machine under load may take for anything here.
const maxWait = time.Minute

// issueMany makes keys in one transaction, and returns their values.
func issueMany(t *testing.T, m *keycote.Manager, here place, db *sql.DB, n int) (values []string) {
	t.Helper()
	store, err := sqlstore.New(t.Context(), db, here.dialect)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, inTx(t.Context(), db, func(tx *sql.Tx) error {
		view, _ := m.In(store.Tx(tx))
		for i := range n {
			_, secret, err := view.Issue(t.Context(), keycote.IssueParams{Name: fmt.Sprint("key ", i)})
			if err != nil {
				return err
			}
			values = append(values, secret.Reveal())
		}
		return nil
	}))
	return values
}
