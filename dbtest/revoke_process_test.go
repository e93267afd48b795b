package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// revocationsEnv is how many keys are revoked in TestRevocations on each database; half as many come to an end
// otherwise. Without it there are a few hundred, which the race detector gets through in a minute.
const revocationsEnv = "KEYCOTE_DBTEST_REVOCATIONS"

func revocations(t *testing.T) int {
	t.Helper()
	text := os.Getenv(revocationsEnv)
	if text == "" {
		return 240
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, revocationsEnv)
	return n
}

// revoker is the process that ends keys; an asker is asked for them.
type revoker struct {
	*keycote.Manager
	clock         *wrongClock
	db            *sql.DB
	store         *sqlstore.Store
	f             *asker
	writers       int
	next, batches atomic.Int64

	before, after func() error // of the end of a batch; nil: nothing happens
}

func newRevoker(t *testing.T, here place, f *asker) *revoker {
	t.Helper()
	writers := 4
	if here.dialect == sqlstore.SQLite {
		here.dsn += "&_txlock=immediate"
		writers = 1 // a second would only wait for the first, and not in turn
	}
	db := here.open(t)
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	r := &revoker{clock: &wrongClock{}, db: db, store: here.store(t, db), f: f, writers: writers}
	kek, err := keycote.LocalKEK(here.kek)
	require.NoError(t, err)
	r.Manager, err = keycote.New(t.Context(), r.store, kek, &keycote.Options{Now: r.clock.Now})
	require.NoError(t, err)
	return r
}

// The ways to end a value, in turn.
const (
	hot       = iota // asked all the time, before and after
	idle             // asked once, and then not before it is revoked
	fresh            // revoked as soon as it is made, while it is asked for
	overlap          // revoked while two versions are alive, both of them known
	untilUsed        // the older version ends when the newer one is used
	rotated          // the version ends by a rotation without overlap
	ways
)

// doomed is a key that is going to end.
type doomed struct {
	n            string
	way          int
	id           string
	token, newer string
}

const day = 24 * time.Hour // no clock here is wrong by so much

// issue makes keys in one transaction, which is much faster than one by one. The fresh ones come later.
func (r *revoker) issue(ctx context.Context, batch []doomed) error {
	return inTx(ctx, r.db, func(tx *sql.Tx) error {
		view, _ := r.In(r.store.Tx(tx)) // the Manager has no cache from which it would have to evict
		for i := range batch {
			d := &batch[i]
			if d.way == fresh {
				continue
			}
			key, secret, err := view.Issue(ctx, keycote.IssueParams{Name: "key " + d.n})
			if err != nil {
				return err
			}
			d.id, d.token = key.ID, secret.Reveal()
			if d.way != overlap && d.way != untilUsed {
				continue
			}
			_, secret, err = view.Rotate(ctx, d.id, keycote.RotateParams{Overlap: day, UntilUsed: d.way == untilUsed})
			if err != nil {
				return err
			}
			d.newer = secret.Reveal()
		}
		return nil
	})
}

// batch makes size keys and ends them, one after the other.
func (r *revoker) batch(ctx context.Context, size int, warming *sync.Mutex) error {
	batch, warm := make([]doomed, size), map[string]string{}
	for i := range batch {
		n := r.next.Add(1)
		batch[i] = doomed{n: strconv.FormatInt(n, 10), way: int(n % ways)}
	}
	if err := r.issue(ctx, batch); err != nil {
		return err
	}
	for _, d := range batch {
		if d.way != fresh {
			warm[d.n] = d.token
		}
		if d.way == overlap {
			warm[d.n+"b"] = d.newer
		}
	}
	warming.Lock() // the answers come over one pipe
	err := r.f.warm(warm)
	warming.Unlock()
	if err != nil {
		return err
	}
	for _, d := range batch {
		r.announce(d)
		if d.way != fresh && d.way != idle {
			if err := r.add(d); err != nil {
				return err
			}
		}
	}
	if err := r.issueFresh(ctx, batch); err != nil {
		return err
	}
	for _, step := range []func() error{r.before, func() error { return r.end(ctx, batch) }, r.after} {
		if step == nil {
			continue
		}
		if err := step(); err != nil {
			return err
		}
	}
	for _, d := range batch {
		if d.way == idle {
			if err := r.add(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *revoker) announce(d doomed) {
	want := keycote.ErrRevoked
	if d.way == untilUsed || d.way == rotated {
		want = keycote.ErrExpired
	}
	r.f.expect(d.n, want)
	if d.way == overlap {
		r.f.expect(d.n+"b", want)
	}
}

func (r *revoker) add(d doomed) error {
	err := r.f.say("add %s %s", d.n, d.token)
	if err == nil && d.way == overlap {
		err = r.f.say("add %sb %s", d.n, d.newer)
	}
	return err
}

// issueFresh makes those that nobody has seen before, and has the asker ask for them.
func (r *revoker) issueFresh(ctx context.Context, batch []doomed) error {
	err := inTx(ctx, r.db, func(tx *sql.Tx) error {
		view, _ := r.In(r.store.Tx(tx))
		for i := range batch {
			if d := &batch[i]; d.way == fresh {
				key, secret, err := view.Issue(ctx, keycote.IssueParams{Name: "key " + d.n})
				if err != nil {
					return err
				}
				d.id, d.token = key.ID, secret.Reveal()
			}
		}
		return nil
	})
	for _, d := range batch {
		if err == nil && d.way == fresh {
			err = r.add(d)
		}
	}
	return err
}

// end ends the keys of a batch, or their older versions: every fourth batch one by one, any other in one transaction.
func (r *revoker) end(ctx context.Context, batch []doomed) error {
	if r.batches.Add(1)%4 == 0 {
		for _, d := range batch {
			if err := endOne(ctx, r.Manager, d); err != nil {
				return err
			}
			if err := r.acked(d); err != nil {
				return err
			}
		}
		return nil
	}
	err := inTx(ctx, r.db, func(tx *sql.Tx) error {
		view, _ := r.In(r.store.Tx(tx))
		for _, d := range batch {
			if err := endOne(ctx, view, d); err != nil {
				return err
			}
		}
		return nil
	})
	for _, d := range batch {
		if err == nil {
			err = r.acked(d)
		}
	}
	return err
}

func endOne(ctx context.Context, m *keycote.Manager, d doomed) error {
	var err error
	switch d.way {
	case untilUsed:
		_, err = m.Verify(ctx, d.newer, keycote.Request{})
	case rotated:
		_, _, err = m.Rotate(ctx, d.id, keycote.RotateParams{})
	default:
		_, err = m.Revoke(ctx, d.id, "")
	}
	if err != nil {
		return fmt.Errorf("key %s: %w", d.n, err)
	}
	return nil
}

func (r *revoker) acked(d doomed) error {
	err := r.f.acked(d.n)
	if err == nil && d.way == overlap {
		err = r.f.acked(d.n + "b")
	}
	return err
}

// endAll revokes n keys and ends half as many otherwise, by several writers at once.
func (r *revoker) endAll(t *testing.T, n int) {
	t.Helper()
	const size, revoked = 4 * ways, 4 * untilUsed // the ways before that one are revocations
	var left atomic.Int64
	left.Store(int64(n))
	var group sync.WaitGroup
	var warming, failing sync.Mutex
	var failed error
	for range r.writers {
		group.Go(func() {
			for left.Add(-revoked) > -revoked {
				if err := r.batch(t.Context(), size, &warming); err != nil {
					failing.Lock()
					failed = err
					failing.Unlock()
					return
				}
			}
		})
	}
	group.Wait()
	require.NoError(t, failed)
}

// Keys end by one process while another, which has a cache, is asked for them: hot, idle and fresh ones, and such with
// two versions alive. No call that begins more than MaxStale after the acknowledgement is answered yes.
func TestRevocations(t *testing.T) {
	onEach(t, "revocations over two processes", onceEach, func(t *testing.T, e *engine) {
		_, db, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		began := time.Now()
		r.endAll(t, revocations(t))
		took := time.Since(began)
		n, longest := r.f.requireBound(t)
		measured(t, e.name, "%d keys revoked, %d values ended in %v: another process honoured one for %v (MaxStale %v)",
			revocations(t), n, took.Round(time.Second), longest.Round(time.Millisecond), maxStale)
		here.requireSound(t, db)
	})
}
