package dbtest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// act is a call about one key, with its answer.
type act struct {
	manager   int // who was asked
	verb      string
	version   int           // of the value that was verified
	call, ret time.Duration // since the beginning
	code      keycote.Code  // "": it was done
	got       int           // the version that Verify found, or that Rotate made
	revision  int64         // of the key after a change
}

func (a act) String() string {
	return fmt.Sprintf("%v to %v: manager %d, %s %d: %q, version %d, revision %d",
		a.call, a.ret, a.manager, a.verb, a.version, a.code, a.got, a.revision)
}

// life is a key as its answers depend on it. It rotates without overlap, and has no expiry.
type life struct {
	state   keycote.State
	current int
}

// keptVersions is how many ended versions a record knows. One older than those is unknown.
const keptVersions = 4

// step says whether the answer is the one of a key in this state, and what becomes of the key.
func (l life) step(a act) (right bool, next life) {
	switch a.verb {
	case "issue":
		return a.code == "" && l.current == 0, life{keycote.StateActive, 1}
	case "verify":
		return a.code == l.verdict(a.version) && (a.code != "" || a.got == a.version), l
	}
	switch {
	case a.code == keycote.ErrConflict: // another was faster, or many were: nothing was done
		return true, l
	case l.state == keycote.StateRevoked && a.verb != "revoke":
		return a.code == keycote.ErrRevoked, l
	case a.code != "":
		return false, l
	}
	next = l
	switch a.verb {
	case "rotate":
		next.current++
		return a.got == next.current, next
	case "revoke":
		next.state = keycote.StateRevoked
	case "disable":
		next.state = keycote.StateDisabled
	case "enable":
		next.state = keycote.StateActive
	}
	return true, next
}

func (l life) verdict(version int) keycote.Code {
	oldest := l.current - keptVersions
	if l.state == keycote.StateRevoked { // which ends the current one, too
		oldest++
	}
	switch {
	case version > l.current, version < oldest:
		return keycote.ErrUnknownKey
	case l.state == keycote.StateRevoked:
		return keycote.ErrRevoked
	case l.state == keycote.StateDisabled:
		return keycote.ErrDisabled
	case version < l.current:
		return keycote.ErrExpired
	}
	return ""
}

// checkLinear says that each act of one key took effect at one moment between its call and its return.
func checkLinear(acts []act) error {
	model := porcupine.Model{
		Init: func() any { return life{} },
		Step: func(state, input, _ any) (bool, any) { return state.(life).step(input.(act)) },
	}
	history := make([]porcupine.Operation, len(acts))
	for i, a := range acts {
		history[i] = porcupine.Operation{ClientId: a.manager, Input: a, Call: int64(a.call), Return: int64(a.ret)}
	}
	switch porcupine.CheckOperationsTimeout(model, history, time.Minute) {
	case porcupine.Illegal:
		// What had begun when it first went wrong says more than all of it.
		slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		n := sort.Search(len(history), func(n int) bool {
			return porcupine.CheckOperationsTimeout(model, history[:n], time.Minute) == porcupine.Illegal
		})
		until := time.Duration(history[max(0, n-1)].Call)
		return fmt.Errorf("no order of these explains their answers: %s", tell(acts, until))
	case porcupine.Unknown:
		return fmt.Errorf("%d acts are too many to judge", len(acts))
	}
	return nil
}

// tell lists the changes until a moment, and what was answered shortly before it.
func tell(acts []act, until time.Duration) string {
	var text strings.Builder
	for _, a := range acts {
		if a.call <= until && (a.verb != "verify" || a.ret > until-20*time.Millisecond) {
			fmt.Fprintf(&text, "\n\t%v", a)
		}
	}
	return text.String()
}

// span is a state of a key and when it can have been the latest.
type span struct {
	life
	revision    int64
	first, last time.Duration
	maker       int           // the Manager that made it; -1: not known
	made        time.Duration // when its maker's call returned
}

// spans puts the changes of one key into the order of their revisions. A change that changed nothing answers with the
// revision that it found, and tells that this one had been committed. The first use of a version but the first is
// written down, which is a revision that no act here makes.
func spans(acts []act) ([]span, error) {
	by := map[int64][]act{}
	for _, a := range acts {
		if a.verb != "verify" && a.code == "" {
			by[a.revision] = append(by[a.revision], a)
		}
	}
	var all []span
	var now life
	marks := 0
	for revision := int64(1); len(by) > 0; revision++ {
		of := by[revision]
		delete(by, revision)
		before := now
		at := slices.IndexFunc(of, func(a act) bool { // who made it
			right, after := before.step(a)
			now = after
			return right && after != before && !slices.ContainsFunc(of, func(other act) bool {
				right, same := after.step(other)
				return other != a && (!right || same != after)
			})
		})
		if at < 0 {
			now = before
			if marks++; marks >= now.current || slices.ContainsFunc(of, func(a act) bool {
				right, same := now.step(a)
				return !right || same != now
			}) {
				return nil, fmt.Errorf("nobody made revision %d; of it are %v", revision, of)
			}
			continue
		}
		s := span{
			life: now, revision: revision, first: of[at].call, last: math.MaxInt64, maker: of[at].manager, made: of[at].ret,
		}
		committed := of[at].ret
		for _, a := range of {
			committed = min(committed, a.ret)
			if a.verb == of[at].verb { // it may be this one
				s.first = min(s.first, a.call)
			}
		}
		if len(of) > 1 {
			s.maker = -1
		}
		for i := range all {
			all[i].last = min(all[i].last, committed)
			s.first = max(s.first, all[i].first)
		}
		all = append(all, s)
	}
	return all, nil
}

// checkIntervals says that each verification of one key was answered as the key was at some moment between stale before
// the call and the return; and not as it was before a change that the same Manager had acknowledged.
func checkIntervals(acts []act, stale func(manager int) time.Duration) error {
	history, err := spans(acts)
	if err != nil {
		return err
	}
	for _, a := range acts {
		if a.verb != "verify" {
			continue
		}
		own := int64(0)
		for _, s := range history {
			if s.maker == a.manager && s.made < a.call {
				own = s.revision
			}
		}
		if !slices.ContainsFunc(history, func(s span) bool {
			right, _ := s.step(a)
			return right && s.first <= a.ret && s.last >= a.call-stale(a.manager) && s.revision >= own
		}) {
			return fmt.Errorf("this answer was not right at any moment that it may be of: %v; of %s", a, tell(acts, a.ret))
		}
	}
	return nil
}

// Both checkers find what is forbidden, and nothing else.
func TestCheckers(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	const stale = 10 * ms
	issue := act{verb: "issue", call: 1 * ms, ret: 2 * ms, revision: 1}
	change := func(manager int, verb string, call, ret time.Duration, got int, revision int64) act {
		return act{manager: manager, verb: verb, call: call, ret: ret, got: got, revision: revision}
	}
	verify := func(manager, version int, call, ret time.Duration, code keycote.Code) act {
		a := act{manager: manager, verb: "verify", version: version, call: call, ret: ret, code: code}
		if code == "" {
			a.got = version
		}
		return a
	}
	revoke := change(1, "revoke", 10*ms, 12*ms, 0, 2)
	tests := []struct {
		name            string
		acts            []act
		linear, bounded bool
	}{
		{"yes and then no", []act{verify(0, 1, 3*ms, 4*ms, ""), revoke, verify(0, 1, 13*ms, 14*ms, keycote.ErrRevoked)},
			true, true},
		{"either while it is being revoked", []act{revoke, verify(0, 1, 11*ms, 13*ms, ""),
			verify(0, 1, 11*ms, 13*ms, keycote.ErrRevoked)}, true, true},
		{"yes after the revocation, within the bound", []act{revoke, verify(0, 1, 21*ms, 22*ms, "")}, false, true},
		{"yes after the bound", []act{revoke, verify(0, 1, 23*ms, 24*ms, "")}, false, false},
		{"yes after the own revocation", []act{revoke, verify(1, 1, 13*ms, 14*ms, "")}, false, false},
		{"no before the revocation", []act{verify(0, 1, 3*ms, 4*ms, keycote.ErrRevoked), revoke}, false, false},
		{"no and yes again", []act{revoke, verify(0, 1, 10*ms, 11*ms, keycote.ErrRevoked), verify(0, 1, 11*ms+1, 12*ms, "")},
			false, true}, // the bound promises no order among answers
		{"unknown", []act{verify(0, 1, 3*ms, 4*ms, keycote.ErrUnknownKey)}, false, false},
		{"another version", []act{{verb: "verify", version: 1, got: 2, call: 3 * ms, ret: 4 * ms}}, false, false},
		{"an older version", []act{change(1, "rotate", 5*ms, 6*ms, 2, 2), verify(0, 1, 7*ms, 8*ms, ""),
			verify(0, 2, 7*ms, 8*ms, "")}, false, true},
		{"a version given twice", []act{change(1, "rotate", 5*ms, 6*ms, 2, 2), change(1, "rotate", 7*ms, 8*ms, 2, 3)},
			false, false},
		{"disabled and enabled", []act{change(1, "disable", 5*ms, 6*ms, 0, 2), verify(0, 1, 7*ms, 8*ms, keycote.ErrDisabled),
			change(0, "disable", 8*ms, 9*ms, 0, 2), change(1, "enable", 9*ms, 10*ms, 0, 3),
			verify(1, 1, 11*ms, 12*ms, "")}, true, true},
		{"enabled and still refused", []act{change(1, "disable", 5*ms, 6*ms, 0, 2), change(1, "enable", 9*ms, 10*ms, 0, 3),
			verify(0, 1, 21*ms, 22*ms, keycote.ErrDisabled)}, false, false},
		{"a revocation that was beaten, and yes", []act{{verb: "revoke", manager: 1, call: 5 * ms, ret: 6 * ms, code: keycote.ErrConflict},
			verify(0, 1, 27*ms, 28*ms, "")}, true, true},
		{"enabled once revoked", []act{revoke, change(1, "enable", 13*ms, 14*ms, 0, 3)}, false, false},
		{"a lost change", []act{change(1, "disable", 5*ms, 6*ms, 0, 2), change(0, "rotate", 7*ms, 8*ms, 2, 2)}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			acts := append([]act{issue}, tt.acts...)
			require.Equal(t, tt.linear, checkLinear(acts) == nil)
			require.Equal(t, tt.bounded, checkIntervals(acts, func(int) time.Duration { return stale }) == nil)
		})
	}
}
