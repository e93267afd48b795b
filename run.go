package keycote

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// pollEvery is how often Run reads the change feed when nobody wakes it.
	pollEvery = time.Second
	// flushMost bounds a Flush by Run. What it has not come to, the next one writes.
	flushMost = time.Minute
	// pollLeast bounds the polling that a small MaxStale brings about.
	pollLeast = 100 * time.Millisecond

	// A Notifier that ends is started again after a wait that doubles, from relistenLeast to relistenMost. One that has
	// listened for as long as relistenMost starts with the least again.
	relistenLeast = 100 * time.Millisecond
	relistenMost  = 10 * time.Second
)

// Run follows the change feed, flushes counts and delivers alerts until ctx ends; then it flushes once more and returns
// nil. Without Run everything stays correct: the first call after a window's end writes that window's counts, as far as it
// comes in three seconds. A host that does not run Run calls Flush before it exits. Close the store only when Run has
// returned: what the last flush cannot write is lost, and the Logger is told.
//
// The feed is read once a second, and twice in MaxStale where that is less than two seconds, but not more than ten
// times a second: so the feed vouches for what is cached before it grows too old. With MaxStale and a Store that is a
// [Notifier] it is read at each wake-up besides; Run returns when the Notifier has.
func (m *Manager) Run(ctx context.Context) error {
	if m.broken != nil {
		return &Error{Op: opFlush, Code: ErrInvalid, Err: m.broken}
	}
	m.uses.running.Add(1)
	defer m.uses.running.Add(-1)
	var group sync.WaitGroup
	defer group.Wait()
	wakes := make(chan struct{}, 1) // one stands for all that have not been followed yet
	if n, ok := m.main.(Notifier); ok && m.cache.stale > 0 {
		group.Go(func() { m.listen(ctx, n, wakes) })
	}
	group.Go(func() { m.followOn(ctx, wakes) }) // a revocation does not wait while counts are written
	ticker := newTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushEvery)
			defer cancel()
			if err := m.Flush(last); err != nil {
				m.logFailure(last, "the last counts could not be written", err)
			}
			return nil
		case <-ticker.C:
			limited, cancel := context.WithTimeout(ctx, flushMost)
			err := m.Flush(limited)
			cancel()
			if err != nil {
				m.logFailure(ctx, "the use log could not be written, and will be tried again", err)
			}
		}
	}
}

// followOn reads the feed at each step and each wake, until ctx ends.
func (m *Manager) followOn(ctx context.Context, wakes <-chan struct{}) {
	ticker := newTicker(pollStep(m.cache.stale))
	defer ticker.Stop()
	for position := ""; ; position = m.follow(ctx, position) {
		select {
		case <-ctx.Done():
			return
		case <-wakes:
		case <-ticker.C:
		}
	}
}

func pollStep(stale time.Duration) time.Duration {
	if stale == 0 {
		return pollEvery
	}
	return min(pollEvery, max(stale/2, pollLeast))
}

// listen keeps n listening until ctx ends.
func (m *Manager) listen(ctx context.Context, n Notifier, wakes chan<- struct{}) {
	wake := func() {
		select {
		case wakes <- struct{}{}:
		default:
		}
	}
	for wait := relistenLeast; ctx.Err() == nil; wait = min(2*wait, relistenMost) {
		began := systemClock()
		err := n.Notify(ctx, wake)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		m.logFailure(ctx, "the store is no longer heard, and is polled until it is listened to again", err)
		if sinceStart(began) >= relistenMost {
			wait = relistenLeast
		}
		timer := newTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// follow reads the feed from position on and drops the keyrings that were changed elsewhere.
func (m *Manager) follow(ctx context.Context, position string) string {
	for {
		before := m.cache.stamp(m.now())
		limited, cancel := context.WithTimeout(ctx, storeWait)
		changes, next, err := m.main.Changes(limited, position)
		cancel()
		switch {
		case errors.Is(err, ErrNotFound):
			// What happened in between is not known: look at everything again.
			m.forgetAll()
			return ""
		case err != nil:
			m.logFailure(ctx, "the change feed could not be read", err)
			return position
		}
		for _, c := range changes {
			switch {
			case c.ID != "":
				m.cache.evict(recordKey{c.Tenant, c.ID})
			case c.Space == spaceKeyring:
				m.cache.changedAll() // first: who read before this vouches for nothing
				if c.Tenant == "" {
					m.cache.reset() // a key that made what is cached may be gone
				}
				m.rings.tenants.drop(c.Tenant)
				m.rings.checked.Store(0)
			}
		}
		if position == "" {
			m.forgetAll() // what was read before this position is not vouched for
			return next
		}
		position = next
		if len(changes) < 1000 {
			m.cache.fed.Store(&before)
			return position
		}
	}
}

// forgetAll drops all that other processes may have changed without our knowing.
func (m *Manager) forgetAll() {
	if m.cache.stale > 0 {
		m.cache.fed.Store(nil)
		m.cache.reset()
	}
	m.rings.tenants.clear()
	m.rings.checked.Store(0)
}
