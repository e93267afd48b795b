package keyhttp

import (
	"math"
	"math/bits"
	"net/http"
	"strconv"
	"time"

	"github.com/keycote/keycote"
)

// setLimits sets the RateLimit-Policy and RateLimit fields of draft-ietf-httpapi-ratelimit-headers-10, which are lists
// of structured fields (RFC 9651): what is allowed (q) in how many seconds (w), and what is left (r) for how many (t).
// A time is rounded up, because a client that comes back too early is refused again.
//
// Clients take q for the most that r can be, and q - r for what they have used. So the q of a rate is its burst, and w is
// the time in which so much comes back: the rate is the same.
func setLimits(h http.Header, states []keycote.LimitState) {
	if len(states) == 0 {
		return
	}
	var policy, state []byte
	for i, s := range states {
		if i > 0 {
			policy, state = append(policy, ", "...), append(state, ", "...)
		}
		most, window := s.Limit, seconds(s.Window)
		if s.Burst > 0 && s.Limit > 0 {
			most, window = s.Burst, refill(&s)
		}
		policy = appendParam(appendParam(appendName(policy, s.Policy), 'q', most), 'w', window)
		state = appendParam(appendParam(appendName(state, s.Policy), 'r', s.Remaining), 't', seconds(s.Reset))
	}
	h.Set("RateLimit-Policy", string(policy))
	h.Set("RateLimit", string(state))
}

func appendName(b []byte, name string) []byte { return append(append(append(b, '"'), name...), '"') }

// maxInteger is the largest that a structured field can hold (RFC 9651, 3.3.1); a quota may be larger.
const maxInteger = 999_999_999_999_999

func appendParam(b []byte, name byte, value int64) []byte {
	return strconv.AppendInt(append(b, ';', name, '='), min(max(value, 0), maxInteger), 10)
}

// refill returns the seconds in which the whole burst comes back, rounded up.
func refill(s *keycote.LimitState) int64 {
	hi, lo := bits.Mul64(uint64(s.Burst), uint64(max(s.Window, 0)))
	per := uint64(s.Limit)
	lo, carry := bits.Add64(lo, per-1, 0)
	if hi += carry; hi >= per {
		return maxInteger
	}
	whole, _ := bits.Div64(hi, lo, per)
	return seconds(time.Duration(min(whole, math.MaxInt64)))
}

// seconds rounds up.
func seconds(d time.Duration) int64 {
	whole := int64(d / time.Second)
	if d%time.Second > 0 {
		whole++
	}
	return whole
}
