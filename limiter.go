package keycote

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// Limiter keeps how much of a [Limit] each key has used, for [Manager.Verify]. Options.Limiter takes one that several
// processes share, as package redislimit's; without it each process counts for itself.
type Limiter interface {
	// Take takes one use of a key under l, which is never the zero Limit, or takes nothing. It answers with the time after
	// which it would take one: 0, and only then, when it has. The states are of l's policies as they are after the call,
	// "rate" before "quota".
	//
	// Tenant and id name the key together: ids of two tenants may be equal, and either may hold any character. Nothing
	// about a key is secret here. A Limiter has a clock of its own, which processes that share it share as well. It MUST
	// judge both policies before it takes from either, MUST let a changed Limit take over what the one before has counted,
	// and MUST NOT forget a use that still counts. It is called by many goroutines at once, and returns soon after ctx has
	// ended; an error says that nobody knows whether the use was taken.
	Take(ctx context.Context, tenant, id string, l Limit) (wait time.Duration, states []LimitState, err error)
}

// LimitState says how much is left of one policy of a [Limit].
type LimitState struct {
	Policy    string        // "rate" or "quota"
	Limit     int64         // Limit.Rate or Limit.Quota
	Window    time.Duration // Limit.Per or Limit.Period
	Burst     int64         // of a rate, the most that can remain: a Limiter need not say it, Verify does
	Remaining int64         // uses that would be let through now; under a rate whose Burst is above Rate, it may exceed Limit
	Reset     time.Duration // until everything remains again, if there are no more uses
}

const (
	policyRate  = "rate"
	policyQuota = "quota"
)

// limiterPatience is how long a Limiter of the host's may take to answer. A use waits for it, so a Limiter that hangs must
// not hold every handler of the host.
const limiterPatience = time.Second

// Limits says how much is left of the key's [Limit] after this use: of its rate, of its quota, or of both in this order.
// It is empty for a key without a Limit, for a credential, and when the Limiter could not be asked and
// Options.LimitFailOpen let the use through.
func (g Grant) Limits() []LimitState {
	if g.limits == nil {
		return nil
	}
	return slices.Clone(*g.limits)
}

// limited reports whether there is anything to count.
func (l *Limit) limited() bool { return l.Rate > 0 && l.Per > 0 || l.Quota > 0 && l.Period > 0 }

// take takes one use of a key's Limit, or says by ErrLimited when there will be one.
func (m *Manager) take(ctx context.Context, s *standing) ([]LimitState, error) {
	wait, states, err := m.askLimiter(ctx, s)
	switch {
	case err == nil && wait > 0:
		return nil, &Error{Code: ErrLimited, RetryAfter: wait, Limits: s.limit.described(states)}
	case err == nil:
		return s.limit.described(states), nil
	case ctx.Err() == nil && m.opts.LimitFailOpen:
		m.unlimited.uses.Add(1)
		m.tellUnlimited(ctx, err)
		return nil, nil
	}
	return nil, &Error{Code: ErrUnavailable, Err: causeOf(err)}
}

// described returns a copy of a Limiter's states, with what l alone knows.
func (l *Limit) described(states []LimitState) []LimitState {
	states = slices.Clone(states)
	for i := range states {
		if s := &states[i]; s.Policy == policyRate {
			s.Burst = int64(l.Burst)
			if l.Burst <= 0 {
				s.Burst = int64(l.Rate)
			}
		}
	}
	return states
}

func (m *Manager) askLimiter(ctx context.Context, s *standing) (time.Duration, []LimitState, error) {
	if m.opts.Limiter == nil {
		return m.limiter.Take(ctx, s.tenant, s.id, s.limit)
	}
	patient, cancel := context.WithTimeout(ctx, limiterPatience)
	defer cancel()
	wait, states, err := m.opts.Limiter.Take(patient, s.tenant, s.id, s.limit)
	switch {
	case err == nil && wait < 0:
		err = errors.New("the limiter answered with a negative wait")
	case err == nil && m.unlimited.uses.Load() > 0: // the rest of an outage
		m.tellUnlimited(ctx, nil)
	}
	return wait, states, err
}

// unlimited counts the uses that were let through because the Limiter could not be asked.
type unlimited struct {
	uses atomic.Int64 // not told of yet
	told atomic.Int64 // when they were last, in microseconds; 0: never
}

// unlimitedEvery is how often they are told of: a log with a line for each use would be an outage of its own.
const unlimitedEvery = 10 * time.Second

func (m *Manager) tellUnlimited(ctx context.Context, err error) {
	u, now := &m.unlimited, m.now().UnixMicro()
	told := u.told.Load()
	if told != 0 && now >= told && now-told < unlimitedEvery.Microseconds() || !u.told.CompareAndSwap(told, now) {
		return
	}
	m.log.LogAttrs(ctx, slog.LevelError, "keycote: the limiter could not be asked, and uses were let through",
		slog.Int64("uses", u.uses.Swap(0)), slog.Any("error", err))
}
