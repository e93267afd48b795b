package dbtest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// disturbed is how many are revoked in some of the tests with something in the way. In the others there is one batch
// with one of each way to end at a time.
const disturbed = 20

// later returns once a time has passed for another process, which no clock of the test's can spare it.
func later(wait time.Duration) { <-time.After(wait) }

// The feed of the one who is asked fails. He has nothing but the bound, and what he has cached he answers until then.
func TestRevocationsWithTheFeedCut(t *testing.T) {
	onEach(t, "revocations with the feed cut", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.f.tell(t, "follow") // it trusts the feed
		r.f.tell(t, "feed off")
		o := r.requireHonoured(t, revocations(t, disturbed))
		r.f.requireHeld(t)
		measured(t, e.name, "feed cut: %d revocations, of which another process honoured %v", r.revoked.Load(), o)
		r.f.tell(t, "feed on")
		r.requireHonoured(t, disturbed, idle)
	})
}

// All connections of the one who is asked are cut, and no new ones come about until every key has ended and the bound
// has passed: he answers what he may, then nothing, and when they are back he says no.
func TestRevocationsWithConnectionsCut(t *testing.T) {
	onEach(t, "revocations with connections cut", mainServers, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		w := newWire(t, e.server.address)
		through := *e.server
		through.address = w.address
		there := here
		for _, k := range kinds {
			if k.kind == through.kind {
				there.dsn = k.dsn(&through, through.database)
			}
		}
		r := newRevoker(t, here, newAsker(t, there))
		r.writers = 1
		r.before = func() error { w.cut(); return nil }
		r.after = func() error {
			later(maxStale + maxStale/4)
			w.mend()
			return nil
		}
		measured(t, e.name, "connections cut: another process honoured %v", r.requireHonoured(t, disturbed))
	})
}

// The one who is asked is stopped while keys end, for less and for more than the bound. What it says when it goes on is
// no yes from before, but for what it may still have cached.
func TestRevocationsWhilePaused(t *testing.T) {
	onEach(t, "revocations while paused", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.writers, r.each = 1, 2
		length := time.Duration(0)
		r.before = func() error {
			// In the middle of a commit it would have locked what the others need.
			return errors.Join(r.f.tellNow("writes off"), pause(r.f.cmd.Process))
		}
		r.after = func() error {
			later(length)
			return errors.Join(resume(r.f.cmd.Process), r.f.tellNow("writes on"))
		}
		t.Cleanup(func() { require.NoError(t, resume(r.f.cmd.Process)) }) // should the test fail: or else it does not end
		for _, length = range []time.Duration{maxStale + maxStale/4, maxStale / 4, 2 * maxStale} {
			r.endAll(t, 1)
		}
		o := r.f.requireBound(t)
		o.requireHits(t)
		measured(t, e.name, "paused for up to %v: another process honoured %v", length, o)

		r.f.tell(t, "feed off") // or else what it reads first when it goes on may be the feed
		length = maxStale / 4
		o = r.requireHonoured(t, 1)
		r.f.requireHeld(t)
		measured(t, e.name, "paused for %v with the feed cut: another process honoured %v", length, o)
	})
}

// The clock of one process is wrong by an hour, steps back by less than anybody would notice, or jumps about. The feed
// is cut: it would put an end to what is cached before the clock could.
func TestRevocationsWithWrongClocks(t *testing.T) {
	onEach(t, "revocations with wrong clocks", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.each = 1
		r.f.tell(t, "follow")
		r.f.tell(t, "feed off")
		for _, his := range []string{"1h", "-1h", "saw"} {
			r.f.tell(t, "clock %s", his)
			o := r.requireHonoured(t, 1)
			r.f.requireHeld(t)
			measured(t, e.name, "his clock at %s and the feed cut: another process honoured %v", his, o)
		}
		r.f.tell(t, "clock 0s")
		for _, mine := range []time.Duration{time.Hour, -time.Hour} {
			r.clock.set(mine)
			r.requireHonoured(t, 1)
			r.f.requireHeld(t)
		}
		r.clock.set(0)
		r.each = 2
		r.jump(t, disturbed)
		r.f.tell(t, "feed on")
		r.jump(t, disturbed)
	})
}

// jump revokes n keys while the clocks of both processes jump about.
func (r *revoker) jump(t *testing.T, n int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var jumping sync.WaitGroup
	var failed error
	jumping.Go(func() {
		by := []time.Duration{-time.Hour, -maxStale, -time.Second / 2, 0, time.Second / 2, maxStale, time.Hour}
		for ctx.Err() == nil {
			failed = errors.Join(failed, r.f.say("clock %v", by[rand.IntN(len(by))]))
			r.clock.set(by[rand.IntN(len(by))])
			later(time.Duration(rand.Int64N(int64(maxStale / 10))))
		}
	})
	r.endAll(t, n)
	stop()
	jumping.Wait()
	require.NoError(t, failed)
	r.clock.set(0)
	r.f.tell(t, "clock 0s")
	r.f.requireBound(t)
}

// The machine of the one who is asked sleeps, which the clock that nobody sets does not count: when it wakes, only the
// clock on the wall tells that what is cached is old.
func TestRevocationsWhileAsleep(t *testing.T) {
	onEach(t, "revocations while asleep", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.each = 1
		r.f.tell(t, "follow")
		r.f.tell(t, "feed off")
		r.requireHonoured(t, 1) // it would honour them
		r.f.begin(t)
		batch, err := r.make(t.Context(), &sync.Mutex{})
		require.NoError(t, err)
		r.announce(batch)
		require.NoError(t, r.freshen(t.Context(), batch))
		require.NoError(t, r.warm(batch, &sync.Mutex{}, isIdle))
		require.NoError(t, r.end(t.Context(), batch))
		r.f.tell(t, "clock 1h")
		awake, err := monotonic()
		require.NoError(t, err)
		require.NoError(t, r.addAll(batch, func(d doomed) bool { return d.way != fresh }))
		o := r.f.requireBound(t)
		o.requireHits(t)
		r.f.requireRefusedFrom(t, awake)
	})
}

// The one who is asked is killed while he has keys cached, and they end while he is away. The one who takes his place
// does not honour them, whether he hears of them or not.
func TestRevocationsOverARestart(t *testing.T) {
	onEach(t, "revocations over a restart", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.each = 1
		for _, feed := range []string{"on", "off"} {
			batch, err := r.make(t.Context(), &sync.Mutex{}) // fails unless they are cached
			require.NoError(t, err)
			require.NoError(t, r.issue(t.Context(), batch, true))
			notYet := func(d doomed) bool { return d.way == idle || d.way == fresh }
			require.NoError(t, r.warm(batch, &sync.Mutex{}, notYet))
			r.announce(batch)
			r.f.restart(t, func() { require.NoError(t, r.end(t.Context(), batch)) })
			r.f.tell(t, "feed %s", feed)
			require.NoError(t, r.addAll(batch, func(doomed) bool { return true }))
			r.f.requireBound(t)
			r.f.requireRefusedFrom(t, 0)
		}
	})
}

// A version in overlap ends at its deadline for one who has it cached, too, and not a microsecond later.
func TestOverlapEndsInAnotherProcess(t *testing.T) {
	onEach(t, "the end of an overlap in another process", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.f.tell(t, "feed off")
		for _, past := range []time.Duration{0, time.Microsecond} {
			d := doomed{n: past.String(), way: overlap}
			require.NoError(t, d.issue(t.Context(), r.Manager))
			key, err := r.Get(t.Context(), d.id)
			require.NoError(t, err)
			deadline := key.Versions[0].ExpiresAt
			require.False(t, deadline.IsZero())
			r.f.tell(t, "clock %d", deadline.Add(-time.Microsecond).UnixMicro())
			require.NoError(t, r.f.warm([][2]string{{d.n, d.what}}), "it is cached a microsecond before")
			r.f.tell(t, "clock %d", deadline.Add(past).UnixMicro())
			r.f.expect(d.n, overlap, string(keycote.ErrExpired))
			awake, err := monotonic()
			require.NoError(t, err)
			require.NoError(t, r.f.say("add %s %s", d.n, d.what))
			r.f.requireSeen(t)
			r.f.requireRefusedFrom(t, awake)
		}
	})
}

// wire is a way to a server that can be cut.
type wire struct {
	address string
	mu      sync.Mutex
	broken  bool
	ends    map[net.Conn]bool
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(server, "/") {
		network = "unix"
		if socket := server + "/.s.PGSQL.5432"; exists(socket) {
			server = socket
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{address: listener.Addr().String(), ends: map[net.Conn]bool{}}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { w.join(near, network, server) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.cut()
		group.Wait()
	})
	return w
}

// join carries what both ends say until one of them falls silent for good.
func (w *wire) join(near net.Conn, network, server string) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial(network, server)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	w.mu.Lock()
	broken := w.broken
	if !broken {
		w.ends[near], w.ends[far] = true, true
	}
	w.mu.Unlock()
	if broken {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ends, near)
	delete(w.ends, far)
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = true
	for end := range w.ends {
		_ = end.Close()
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
