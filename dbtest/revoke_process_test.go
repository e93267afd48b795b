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

// revocationsEnv is how many keys and credentials are revoked on each database in TestRevocations, and again in
// TestRevocationsWithTheFeedCut. For each five of them, four others end otherwise. Without it there are 160, and 20 with
// the feed cut, which the race detector gets through in half a minute.
const revocationsEnv = "KEYCOTE_DBTEST_REVOCATIONS"

func revocations(t *testing.T, otherwise int) int {
	t.Helper()
	text := os.Getenv(revocationsEnv)
	if text == "" {
		return otherwise
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
	each          int // of each way in a batch
	next, batches atomic.Int64
	revoked       atomic.Int64 // revocations that were acknowledged

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
	r := &revoker{clock: &wrongClock{}, db: db, store: here.store(t, db), f: f, writers: writers, each: 4}
	kek, err := keycote.LocalKEK(here.kek)
	require.NoError(t, err)
	r.Manager, err = keycote.New(t.Context(), r.store, kek, &keycote.Options{Now: r.clock.Now})
	require.NoError(t, err)
	// The first credential makes a keyring. Transactions that did so side by side would be in each other's way.
	_, err = r.Add(t.Context(), credential("first"))
	require.NoError(t, err)
	return r
}

// The ways to end a value, in turn. Those before untilUsed are revocations.
const (
	hot           = iota // asked all the time, before and after
	idle                 // asked until it is cached, and then not before it is revoked
	fresh                // revoked when just made: half of them when first cached, half while first read
	overlap              // revoked while two versions are alive, both of them known
	lease                // a credential in use is revoked
	untilUsed            // the older version ends when the newer one is used
	rotated              // the version ends by a rotation without overlap
	leaseRotated         // a credential in use has another value
	leaseDisabled        // a credential in use is disabled
	ways
)

var wayNames = [ways]string{
	"hot", "idle", "fresh", "overlap", "lease", "until used", "rotated", "lease rotated", "lease disabled",
}

// doomed is a key that is going to end.
type doomed struct {
	n           string
	way         int
	id          string
	what, newer string // what is asked for
	racing      bool   // of a fresh one: nobody waits until it is cached
}

const day = 24 * time.Hour // no clock here is wrong by so much

// issue makes one key.
func (d *doomed) issue(ctx context.Context, m *keycote.Manager) error {
	if d.way == lease || d.way == leaseRotated || d.way == leaseDisabled {
		key, err := m.Add(ctx, credential("lease "+d.n))
		if err == nil {
			d.id, d.what = key.ID, fmt.Sprintf("use:%s:%s", key.ID, valueOf("lease "+d.n))
		}
		return err
	}
	key, secret, err := m.Issue(ctx, keycote.IssueParams{Name: "key " + d.n})
	if err != nil {
		return err
	}
	d.id, d.what = key.ID, secret.Reveal()
	if d.way != overlap && d.way != untilUsed {
		return nil
	}
	_, secret, err = m.Rotate(ctx, d.id, keycote.RotateParams{Overlap: day, UntilUsed: d.way == untilUsed})
	if err == nil {
		d.newer = secret.Reveal()
	}
	return err
}

// issue makes keys in one transaction, which is much faster than one by one: the fresh ones, or all others.
func (r *revoker) issue(ctx context.Context, batch []doomed, recent bool) error {
	return inTx(ctx, r.db, func(tx *sql.Tx) error {
		view, _ := r.In(r.store.Tx(tx)) // the Manager has no cache from which it would have to evict
		for i := range batch {
			if d := &batch[i]; (d.way == fresh) == recent {
				if err := d.issue(ctx, view); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// make makes the keys of a batch, and has the asker cache all but the idle ones.
func (r *revoker) make(ctx context.Context, warming *sync.Mutex) ([]doomed, error) {
	batch := make([]doomed, r.each*ways)
	for i := range batch {
		batch[i] = doomed{n: strconv.FormatInt(r.next.Add(1), 10), way: i % ways, racing: i/ways%2 == 1}
	}
	if err := r.issue(ctx, batch, false); err != nil {
		return nil, err
	}
	return batch, r.warm(batch, warming, func(d doomed) bool { return d.way != fresh && d.way != idle })
}

// warm has the asker cache some of a batch.
func (r *revoker) warm(batch []doomed, warming *sync.Mutex, chosen func(doomed) bool) error {
	var values [][2]string
	for _, d := range batch {
		if !chosen(d) {
			continue
		}
		if d.way == overlap { // first: that it is used is written down, which drops what is known of the key
			values = append(values, [2]string{d.n + "b", d.newer})
		}
		values = append(values, [2]string{d.n, d.what})
	}
	warming.Lock() // the answers come over one pipe
	defer warming.Unlock()
	return r.f.warm(values)
}

func isIdle(d doomed) bool { return d.way == idle }

// batch makes keys and ends them, one after the other.
func (r *revoker) batch(ctx context.Context, warming *sync.Mutex) error {
	batch, err := r.make(ctx, warming)
	if err != nil {
		return err
	}
	r.announce(batch)
	for _, step := range []func() error{
		func() error { return r.addAll(batch, func(d doomed) bool { return d.way != fresh && d.way != idle }) },
		func() error { return r.freshen(ctx, batch) },
		func() error { return r.warm(batch, warming, isIdle) }, // last, for nobody renews what is known of them
		r.before,
		func() error { return r.end(ctx, batch) },
		func() error { return r.addAll(batch, isIdle) },
		r.after,
	} {
		if step == nil {
			continue
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *revoker) announce(batch []doomed) {
	for _, d := range batch {
		want := string(keycote.ErrRevoked)
		switch d.way {
		case untilUsed, rotated:
			want = string(keycote.ErrExpired)
		case leaseRotated:
			want = replaced
		case leaseDisabled:
			want = string(keycote.ErrDisabled)
		}
		for _, n := range d.names() {
			r.f.expect(n, d.way, want)
		}
	}
}

// names are those of the values that end with d.
func (d doomed) names() []string {
	if d.way == overlap {
		return []string{d.n, d.n + "b"}
	}
	return []string{d.n}
}

// addAll has the asker ask for some of a batch until they are refused.
func (r *revoker) addAll(batch []doomed, chosen func(doomed) bool) error {
	for _, d := range batch {
		if !chosen(d) {
			continue
		}
		err := r.f.say("add %s %s", d.n, d.what)
		if err == nil && d.way == overlap {
			err = r.f.say("add %sb %s", d.n, d.newer)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// freshen makes those that nobody has seen before, and has the asker ask for them.
func (r *revoker) freshen(ctx context.Context, batch []doomed) error {
	if err := r.issue(ctx, batch, true); err != nil {
		return err
	}
	if err := r.addAll(batch, func(d doomed) bool { return d.way == fresh && !d.racing }); err != nil {
		return err
	}
	for _, d := range batch {
		if d.way == fresh && !d.racing {
			if err := r.f.waitHit(d.n); err != nil {
				return err
			}
		}
	}
	return r.addAll(batch, func(d doomed) bool { return d.way == fresh && d.racing })
}

// end ends the keys of a batch, or their older versions: every fourth batch one by one, any other in one transaction.
func (r *revoker) end(ctx context.Context, batch []doomed) error {
	if r.batches.Add(1)%4 == 0 {
		for _, d := range batch {
			if err := d.end(ctx, r.Manager); err != nil {
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
			if err := d.end(ctx, view); err != nil {
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

func (d doomed) end(ctx context.Context, m *keycote.Manager) error {
	var err error
	switch d.way {
	case untilUsed:
		_, err = m.Verify(ctx, d.newer, keycote.Request{})
	case rotated:
		_, _, err = m.Rotate(ctx, d.id, keycote.RotateParams{})
	case leaseRotated:
		next := keycote.NewSecret(valueOf("next " + d.n))
		_, _, err = m.Rotate(ctx, d.id, keycote.RotateParams{Secret: next, AllowWeak: true})
	case leaseDisabled:
		_, err = m.Disable(ctx, d.id, "")
	default:
		_, err = m.Revoke(ctx, d.id, "")
	}
	if err != nil {
		return fmt.Errorf("key %s: %w", d.n, err)
	}
	return nil
}

func (r *revoker) acked(d doomed) error {
	for _, n := range d.names() {
		if err := r.f.acked(n); err != nil {
			return err
		}
	}
	if d.way < untilUsed {
		r.revoked.Add(1)
	}
	return nil
}

// endAll revokes n keys, to the next multiple of what is in a batch, and ends others otherwise, by several writers at
// once.
func (r *revoker) endAll(t *testing.T, n int) {
	t.Helper()
	revoked := int64(r.each * untilUsed)
	var left atomic.Int64
	left.Store(int64(n))
	var group sync.WaitGroup
	var warming, failing sync.Mutex
	var failed error
	for range r.writers {
		group.Go(func() {
			for left.Add(-revoked) > -revoked {
				if err := r.batch(t.Context(), &warming); err != nil {
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

// requireHonoured revokes n keys, and a few more where those do not do: of each way to end, but for some, one value must
// have been honoured after its end was acknowledged. Where none was, there is no cache to hold against a bound. It is
// repeated because a machine that is busy may need longer than the bound to end a key.
func (r *revoker) requireHonoured(t *testing.T, n int, but ...int) honoured {
	t.Helper()
	r.f.begin(t)
	r.endAll(t, n)
	o := r.f.requireBound(t)
	each := r.each
	r.each = 1
	for again := 0; again < 10 && len(o.missing(but)) > 0; again++ {
		r.endAll(t, 1)
		o = r.f.requireBound(t)
	}
	r.each = each
	require.Empty(t, o.missing(but), "none of these was honoured from the cache after its end")
	o.requireHits(t)
	return o
}

// Keys and credentials end by one process while another, which has a cache, is asked for them: hot, idle and fresh
// ones, and such with two versions alive. No call that begins more than MaxStale after the acknowledgement is answered yes.
func TestRevocations(t *testing.T) {
	onEach(t, "revocations over two processes", onceEach, func(t *testing.T, e *engine) {
		_, db, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		began := time.Now()
		n := revocations(t, 160)
		// An idle key that was just made is dropped when the feed tells so. With the feed cut it has to be honoured.
		o := r.requireHonoured(t, n, idle)
		took := time.Since(began)
		require.GreaterOrEqual(t, r.revoked.Load(), int64(n))
		measured(t, e.name, "%d revocations, %d values ended in %v: another process honoured %v",
			r.revoked.Load(), o.n, took.Round(time.Second), o)
		here.requireSound(t, db)
	})
}
