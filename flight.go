package keycote

import (
	"context"
	"sync"
	"time"
)

// How long is waited for a store, besides the caller's own context. Who waits for another caller's read, or does what is
// not his own business, must not be held up by one connection that has died without a word.
const (
	// leaderWait is how long a caller waits for the read of another one before he reads for himself.
	leaderWait = time.Second
	// inlineWait bounds what a call may spend on what is everybody's: the root keyrings, a first use, the counts of a
	// window that is over.
	inlineWait = 3 * time.Second
	// storeWait bounds a read that others may be waiting for, and each step of Run.
	storeWait = 10 * time.Second
)

// flight is one read that several callers wait for. What it has found is written before done is closed.
type flight[V any] struct {
	done  chan struct{}
	began stamp // before the read was sent
	epoch int64 // of the cache, likewise
	value V
	err   error
	ended bool // else the leader has given up, and what he found is nobody's
}

// flights are the reads under way, by what they look for: one at a time for each, unless it takes too long. The zero
// flights is ready.
type flights[K comparable, V any] struct {
	mu  sync.Mutex
	all map[K]*flight[V]
}

// join returns the read that is under way for k, or makes the caller the leader of a new one: if there is none, or only
// the one that was late.
func (g *flights[K, V]) join(c *cache, k K, late *flight[V]) (f *flight[V], leader bool) {
	began := c.stamp(c.now())
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.all[k]; f != nil && f != late {
		return f, false
	}
	f = &flight[V]{done: make(chan struct{}), began: began, epoch: c.epoch.Load()}
	if g.all == nil {
		g.all = map[K]*flight[V]{}
	}
	g.all[k] = f
	return f, true
}

// land ends a read and lets its followers go.
func (g *flights[K, V]) land(k K, f *flight[V]) {
	g.mu.Lock()
	if g.all[k] == f {
		delete(g.all, k)
	}
	g.mu.Unlock()
	close(f.done)
}

// do has k read by lead, or takes what the read under way finds. of says of which record a value is, and since when it
// was known.
//
// A follower sees every change that this process had heard of when he called: the read began after it, or found another
// record. And what he gets is as fresh as if he had read it himself, or as the cache may answer with.
func (g *flights[K, V]) do(
	ctx context.Context, c *cache, k K, lead func(*flight[V]), of func(V) (r recordKey, known stamp),
) (V, error) {
	epoch := c.epoch.Load()
	var late *flight[V]
	for first := true; ; first = false {
		f, leader := g.join(c, k, late)
		if leader {
			defer g.land(k, f)
			lead(f)
			return f.value, f.err
		}
		timer := newTimer(leaderWait)
		select {
		case <-f.done:
			late = nil
		case <-timer.C:
			late = f
		case <-ctx.Done():
			timer.Stop()
			var nothing V
			return nothing, ctx.Err()
		}
		timer.Stop()
		switch {
		case late != nil, !f.ended:
		case f.err != nil:
			if f.epoch >= epoch {
				return f.value, f.err
			}
		default:
			r, known := of(f.value)
			seen := f.epoch >= epoch || !c.changedSince(r, f.epoch)
			// There was a read under way when he called, so one that he came upon later has begun after it.
			if seen && (!first || c.fresh(known, c.stamp(c.now()), nil)) {
				return f.value, nil
			}
		}
	}
}
