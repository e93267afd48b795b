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
)

// disturbed is how many keys are revoked in each of the tests with something in the way.
const disturbed = 8 * untilUsed

// later returns once a time has passed for another process, which no clock of the test's can spare it.
func later(wait time.Duration) { <-time.After(wait) }

// The feed of the one who is asked fails. He has nothing but the bound.
func TestRevocationsWithTheFeedCut(t *testing.T) {
	onEach(t, "revocations with the feed cut", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		later(maxStale / 2) // it has read the feed and trusts it
		require.NoError(t, r.f.say("feed off"))
		r.f.sync(t)
		r.endAll(t, disturbed)
		n, longest := r.f.requireBound(t)
		require.NoError(t, r.f.say("feed on"))
		r.endAll(t, disturbed)
		r.f.requireBound(t)
		measured(t, e.name, "feed cut: %d values were honoured for %v at most (MaxStale %v)",
			n, longest.Round(time.Millisecond), maxStale)
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
		r.endAll(t, disturbed)
		n, longest := r.f.requireBound(t)
		for again := 0; longest == 0 && again < 4; again++ { // a machine that is busy may take longer than the bound to end a key
			r.endAll(t, disturbed)
			n, longest = r.f.requireBound(t)
		}
		require.Positive(t, longest, "what was cached is answered without a server")
		measured(t, e.name, "connections cut: %d values were honoured for %v at most (MaxStale %v)",
			n, longest.Round(time.Millisecond), maxStale)
	})
}

// The one who is asked is stopped while keys end, for less and for more than the bound. What it says when it goes on is
// no yes from before.
func TestRevocationsWhilePaused(t *testing.T) {
	onEach(t, "revocations while paused", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		r.writers = 1
		pauses := []time.Duration{maxStale + maxStale/4, maxStale / 4, 2 * maxStale}
		for _, length := range pauses {
			r.before = func() error { return pause(r.f.process) }
			r.after = func() error {
				later(length)
				return resume(r.f.process)
			}
			r.endAll(t, disturbed/2)
		}
		n, longest := r.f.requireBound(t)
		measured(t, e.name, "paused for up to %v: %d values were honoured for %v at most (MaxStale %v)",
			2*maxStale, n, longest.Round(time.Millisecond), maxStale)
	})
}

// The clock of one process is wrong by an hour, or jumps about.
func TestRevocationsWithWrongClocks(t *testing.T) {
	onEach(t, "revocations with wrong clocks", onceEach, func(t *testing.T, e *engine) {
		_, _, here := e.fresh(t)
		r := newRevoker(t, here, newAsker(t, here))
		his := func(by time.Duration) { require.NoError(t, r.f.say("clock %v", by)) }
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			his(by)
			r.endAll(t, disturbed/2)
			his(0)
			r.clock.set(by)
			r.endAll(t, disturbed/2)
			r.clock.set(0)
		}
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
		r.endAll(t, disturbed)
		stop()
		jumping.Wait()
		require.NoError(t, failed)
		n, longest := r.f.requireBound(t)
		measured(t, e.name, "clocks wrong by an hour and jumping: %d values were honoured for %v at most (MaxStale %v)",
			n, longest.Round(time.Millisecond), maxStale)
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
