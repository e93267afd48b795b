package keycote

import (
	"context"
	"time"
)

// NewValidatorWithoutStrength leaves out the strength estimate, which takes longer than all the rest of Add.
func NewValidatorWithoutStrength() *Validator {
	v := NewValidator(nil)
	v.skipStrength = true
	return v
}

// Follow is one step of Run: it reads the feed from position on.
func (m *Manager) Follow(ctx context.Context, position string) string { return m.follow(ctx, position) }

// UseRows is how many rows of the use log are in memory, those on their way to the store included.
func (m *Manager) UseRows() int {
	n := 0
	for _, b := range m.uses.unsent {
		n += len(b.Uses)
	}
	return n + len(m.uses.rows) + len(m.uses.tallies)
}

// NewLocalLimiter is the Limiter of one process, with room for most keys in use at once; 0: as many as there is.
func NewLocalLimiter(now func() time.Time, most int) Limiter {
	l := newLocalLimiter(now)
	if most > 0 {
		l.most = most / limitShards
	}
	return l
}

// Meters is how many keys it keeps count of.
func Meters(l Limiter) int {
	n := 0
	for i := range l.(*localLimiter).shards {
		n += len(l.(*localLimiter).shards[i].meters)
	}
	return n
}
