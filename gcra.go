package keycote

import (
	"math"
	"math/bits"
	"time"
)

// meter is what one key has used. Its rate is the Generic Cell Rate Algorithm, GCRA(T, τ) with T = Per/Rate and
// τ = (Burst-1)·T, in the form of a continuous-state leaky bucket (ITU-T I.371, annex A; ATM Forum, Traffic Management
// 4.0, section 4.4.3): a use puts 1 into the bucket, which leaks Rate per Per and holds Burst. So no window of length t
// lets more than Burst + Rate·t/Per through, and who keeps to the rate is never refused.
//
// The level is kept in uses, a whole number and a part counted in 1/per, so that nothing is ever rounded, and a Limit that
// is changed takes it over. Times are microseconds from an origin of the caller's.
type meter struct {
	at        int64 // when level and part were worked out
	rate, per int64 // under which they leak; 0: there is none
	level     int64
	part      int64 // of 1/per; 0 ≤ part < per

	start, period int64 // of the quota's period that runs; period 0: none does
	used          int64
}

// policies are a Limit's numbers in the meter's units. Zero in per or period: there is no such policy.
type policies struct{ rate, per, burst, quota, period int64 }

func policiesOf(l Limit) (p policies) {
	if l.Rate > 0 && l.Per > 0 {
		p.rate, p.per, p.burst = int64(l.Rate), l.Per.Microseconds(), int64(l.Burst)
		if p.burst <= 0 {
			p.burst = p.rate
		}
	}
	if l.Quota > 0 && l.Period > 0 {
		p.quota, p.period = l.Quota, l.Period.Microseconds()
	}
	return p
}

// take takes one use at now, or answers how long it would have to wait and takes nothing.
func (s *meter) take(now int64, p policies) (wait int64) {
	s.settle(now)
	s.adopt(now, p)
	if p.per > 0 && (s.level >= p.burst || s.level == p.burst-1 && s.part > 0) {
		wait = s.leaksIn(s.level+1-p.burst, s.part)
	}
	if s.counts(p) && s.used >= p.quota {
		wait = max(wait, s.start+s.period-now)
	}
	if wait > 0 {
		return wait
	}
	if p.per > 0 {
		s.level++
	}
	if p.period > 0 {
		if s.period == 0 {
			s.start, s.period, s.used = now, p.period, 0
		}
		s.used++
	}
	return 0
}

// counts reports whether a period of the quota's runs.
func (s *meter) counts(p policies) bool { return p.period > 0 && s.period > 0 }

// settle brings the meter up to now, under the Limit that it was kept under: what has come back by then stays so,
// whatever the Limit is now. A clock that went back gives nothing back; from there on the bucket leaks again, and a period
// that would begin later begins now. So it opens nothing, and locks for no longer than one period.
func (s *meter) settle(now int64) {
	if elapsed := now - s.at; elapsed > 0 && s.per > 0 {
		s.leak(uint64(elapsed))
	}
	s.at = now
	if s.period > 0 {
		s.start = min(s.start, now)
		s.end(now)
	}
}

func (s *meter) end(now int64) {
	if now-s.start >= s.period {
		s.start, s.period, s.used = 0, 0, 0
	}
}

func (s *meter) leak(elapsed uint64) {
	hi, lo := bits.Mul64(elapsed, uint64(s.rate))
	if hi >= uint64(s.per) {
		s.level, s.part = 0, 0
		return
	}
	whole, part := bits.Div64(hi, lo, uint64(s.per))
	if whole > math.MaxInt64 || int64(whole) > s.level || int64(whole) == s.level && int64(part) >= s.part {
		s.level, s.part = 0, 0
		return
	}
	s.level -= int64(whole)
	if s.part -= int64(part); s.part < 0 {
		s.level--
		s.part += s.per
	}
}

// adopt lets a Limit take over. The level carries over in uses, at most a full bucket of the new size; the quota's count
// and the start of its period carry over too. A policy that the Limit no longer has is kept until it is over, so that
// taking it away and setting it again forgives nothing.
func (s *meter) adopt(now int64, p policies) {
	if p.per > 0 {
		if p.per != s.per && s.part > 0 {
			s.level, s.part = s.level+1, 0
		}
		s.rate, s.per = p.rate, p.per
		if s.level >= p.burst {
			s.level, s.part = p.burst, 0
		}
	}
	if s.counts(p) {
		s.period = p.period
		s.end(now)
	}
}

// leaksIn is how long whole uses and a part take to leak, rounded up to the microsecond.
func (s *meter) leaksIn(whole, part int64) int64 {
	hi, lo := bits.Mul64(uint64(whole), uint64(s.per))
	lo, carry := bits.Add64(lo, uint64(part), 0)
	hi += carry
	lo, carry = bits.Add64(lo, uint64(s.rate-1), 0)
	hi += carry
	if hi >= uint64(s.rate) {
		return math.MaxInt64
	}
	us, _ := bits.Div64(hi, lo, uint64(s.rate))
	return int64(min(us, math.MaxInt64))
}

// idle reports whether nothing in a settled meter counts any more.
func (s *meter) idle() bool { return s.level == 0 && s.part == 0 && s.period == 0 }

// states are those of l's policies, which p is, in a settled meter.
func (s *meter) states(now int64, l Limit, p policies) []LimitState {
	states := make([]LimitState, 0, 2)
	if p.per > 0 {
		left := p.burst - s.level
		if s.part > 0 {
			left--
		}
		states = append(states, LimitState{
			Policy: policyRate, Limit: p.rate, Window: l.Per, Remaining: left, Reset: span(s.leaksIn(s.level, s.part)),
		})
	}
	if p.period > 0 {
		state := LimitState{Policy: policyQuota, Limit: p.quota, Window: l.Period, Remaining: p.quota}
		if s.period > 0 {
			state.Remaining, state.Reset = max(p.quota-s.used, 0), span(s.start+s.period-now)
		}
		states = append(states, state)
	}
	return states
}

// span is a number of microseconds as a Duration, or the longest there is.
func span(us int64) time.Duration {
	if us > math.MaxInt64/int64(time.Microsecond) {
		return math.MaxInt64
	}
	return time.Duration(us) * time.Microsecond
}
