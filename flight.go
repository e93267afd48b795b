package keycote

import (
	"context"
	"slices"
	"sync"
	"time"
)

// How long is waited for a store, besides the caller's own context. Who waits for another caller's read, or does what is
// not his own business, must not be held up by one connection that has died without a word.
const (
	// leaderWait is how long a read has before one of those who wait for it sends another. It is more than replicaWait.
	leaderWait = 1500 * time.Millisecond
	// inlineWait bounds what a call may spend on what is everybody's: a look at the root keyrings, a first use, the counts
	// of a window that is over.
	inlineWait = 3 * time.Second
	// storeWait bounds a call that others may be waiting for, and each reading of the change feed.
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

	record recordKey // what was found is of it; zero: that is not known
	known  stamp     // since when it was known; zero: it serves nobody who called after the read began
}

// flights are the reads under way, by what they look for: one at a time for each, unless it takes too long. The zero
// flights is ready.
type flights[K comparable, V any] struct {
	mu  sync.Mutex
	all map[K]*flight[V] // the latest
}

// join returns the latest read under way for k, or makes the caller the leader of a new one: if there is none, or only
// one that is late.
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

// do has k read by lead, or takes what a read under way finds, within storeWait.
//
// A follower sees every change that this process had heard of when he called: the read began after it, or found another
// record. And what he gets is as fresh as if he had read it himself, or as the cache may answer with. When a read is late
// one of its followers sends another, and the others wait for both.
func (g *flights[K, V]) do(ctx context.Context, c *cache, k K, lead func(context.Context, *flight[V])) (V, error) {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	epoch := c.epoch.Load()
	f, leader := g.join(c, k, nil)
	if leader {
		return g.lead(ctx, k, f, lead)
	}
	before, waiting := f, []*flight[V]{f} // before was under way when he called; all others have begun after that
	timer := newTimer(leaderWait)
	defer timer.Stop()
	for {
		latest := waiting[len(waiting)-1]
		select {
		case <-waiting[0].done:
			f = waiting[0]
		case <-latest.done:
			f = latest
		case <-timer.C:
			f = nil
		case <-ctx.Done():
			var nothing V
			return nothing, ctx.Err()
		}
		if f != nil {
			seen := f.epoch >= epoch || f.record.id != "" && !c.changedSince(f.record, f.epoch)
			if f.ended && seen && (f != before || c.fresh(f.known, c.stamp(c.now()), nil)) {
				return f.value, f.err
			}
			waiting = slices.DeleteFunc(waiting, func(other *flight[V]) bool { return other == f })
			if len(waiting) > 0 {
				continue // another one is under way
			}
		}
		next, leader := g.join(c, k, latest)
		if leader {
			return g.lead(ctx, k, next, lead)
		}
		waiting = append(waiting, next)
		timer.Reset(leaderWait)
	}
}

func (g *flights[K, V]) lead(ctx context.Context, k K, f *flight[V], lead func(context.Context, *flight[V])) (V, error) {
	defer g.land(k, f)
	lead(ctx, f)
	return f.value, f.err
}
