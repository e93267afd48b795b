package keycote

import (
	"context"
	"errors"
	"time"
)

// Run follows the change feed, flushes counts and delivers alerts until ctx ends; then it flushes once more and returns
// nil. Without Run everything stays correct: the first call after a window's end writes that window's counts. A host
// that does not run Run calls Flush before it exits.
func (m *Manager) Run(ctx context.Context) error {
	if m.broken != nil {
		return &Error{Op: opFlush, Code: ErrInvalid, Err: m.broken}
	}
	m.uses.running.Add(1)
	defer m.uses.running.Add(-1)
	const step = time.Second
	ticker := newTicker(step)
	defer ticker.Stop()
	position, waited := "", time.Duration(0)
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
		}
		position = m.follow(ctx, position)
		if waited += step; waited >= flushEvery {
			waited = 0
			if err := m.Flush(ctx); err != nil {
				m.logFailure(ctx, "the use log could not be written, and will be tried again", err)
			}
		}
	}
}

// follow reads the feed from position on and drops the keyrings that were changed elsewhere.
func (m *Manager) follow(ctx context.Context, position string) string {
	for {
		before := m.cache.stamp(m.now())
		changes, next, err := m.main.Changes(ctx, position)
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
				m.cache.epoch.Add(1) // first: who read before this vouches for nothing
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
