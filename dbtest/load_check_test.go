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

// life is a key as its answers depend on it. Nothing in it comes to an end by time.
type life struct {
	state    keycote.State // "": it is not there yet, or no more
	gone     bool
	narrow   bool // it lacks the scope that is asked for
	revision int64
	versions [keptVersions + 3]edition // in order, those without a number being none
}

// edition is a version of a key.
type edition struct {
	number          int
	ended           bool
	used, untilUsed bool
}

// keptVersions is how many ended versions a record knows. One older than those is unknown.
const keptVersions = 4

// The verbs of acts. A mark is the first use of a version, written down, which ends those that go on until then.
const (
	issue     = "issue"
	verify    = "verify"
	mark      = "mark"
	rotate    = "rotate"
	overlaps  = "rotate with overlap"
	untilNext = "rotate until used"
	revoke    = "revoke"
	disable   = "disable"
	enable    = "enable"
	narrow    = "narrow"
	widen     = "widen"
	remove    = "delete"
)

// step says whether the answer is the one of a key in this state, and what becomes of the key.
func (l life) step(a act) (right bool, next life) {
	switch {
	case a.verb == issue:
		next = life{state: keycote.StateActive, revision: 1, versions: [len(l.versions)]edition{{number: 1}}}
		return a.code == "" && l == life{}, next
	case a.verb == verify:
		return a.code == l.verdict(a.version) && (a.code != "" || a.got == a.version), l
	case a.code == keycote.ErrConflict: // another was faster, or many were: nothing was done
		return true, l
	case l.gone:
		return a.code == keycote.ErrNotFound, l
	case l.state == keycote.StateRevoked && a.verb != revoke && a.verb != remove:
		return a.code == keycote.ErrRevoked, l
	case a.code != "":
		return false, l
	}
	next = l
	right = true
	switch a.verb {
	case mark:
		right = next.mark(a.version)
	case rotate, overlaps, untilNext:
		right = a.got == next.rotate(a.verb)
	case revoke:
		next.state = keycote.StateRevoked
		for i := range next.versions {
			next.versions[i].ended = next.versions[i].number > 0
		}
		next.trim()
	case disable:
		next.state = keycote.StateDisabled
	case enable:
		next.state = keycote.StateActive
	case narrow, widen:
		next.narrow = a.verb == narrow
	case remove:
		return true, life{gone: true} // it answers no revision
	}
	if next != l {
		next.revision++
	}
	return right && a.revision == next.revision, next
}

// mark notes the first use of a version, and reports whether it was one.
func (l *life) mark(version int) bool {
	at := l.find(version)
	if l.verdict(version) != "" || l.versions[at].used || version == 1 {
		return false
	}
	l.versions[at].used = true
	for i := range l.versions[:at] {
		v := &l.versions[i]
		v.ended = v.ended || v.untilUsed
	}
	l.trim()
	return true
}

// rotate adds a version and returns its number. At most two are alive.
func (l *life) rotate(verb string) int {
	n, alive := l.count(), []*edition(nil)
	for i := range n {
		if v := &l.versions[i]; !v.ended {
			alive = append(alive, v)
		}
	}
	if len(alive) == 2 {
		out := alive[1]
		if out.used {
			out = alive[0]
		}
		out.ended = true
	}
	for _, v := range alive {
		v.ended = v.ended || verb == rotate
		v.untilUsed = v.untilUsed || !v.ended && verb == untilNext
	}
	number := l.versions[n-1].number + 1
	l.versions[n] = edition{number: number}
	l.trim()
	return number
}

// trim forgets the oldest of those that ended.
func (l *life) trim() {
	ended, n := 0, l.count()
	for i := n - 1; i >= 0; i-- {
		if !l.versions[i].ended {
			continue
		}
		if ended++; ended > keptVersions {
			copy(l.versions[i:], l.versions[i+1:])
			l.versions[len(l.versions)-1] = edition{}
		}
	}
}

func (l *life) count() (n int) {
	for n < len(l.versions) && l.versions[n].number > 0 {
		n++
	}
	return n
}

// find returns where a version is, or -1.
func (l *life) find(version int) int {
	return slices.IndexFunc(l.versions[:l.count()], func(v edition) bool { return v.number == version })
}

func (l *life) verdict(version int) keycote.Code {
	at := l.find(version)
	switch {
	case at < 0:
		return keycote.ErrUnknownKey
	case l.state == keycote.StateRevoked:
		return keycote.ErrRevoked
	case l.state == keycote.StateDisabled:
		return keycote.ErrDisabled
	case l.versions[at].ended:
		return keycote.ErrExpired
	case l.narrow:
		return keycote.ErrScope
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
		if a.call <= until && (a.verb != verify || a.ret > until-20*time.Millisecond) {
			fmt.Fprintf(&text, "\n\t%v", a)
		}
	}
	return text.String()
}

// span is a state of a key and when it can have been the latest.
type span struct {
	life
	first, last time.Duration
	maker       int           // the Manager that made it, or nobody
	made        time.Duration // when its maker's call returned
}

// spans puts the changes of one key into the order of their revisions. A change that changed nothing answers with the
// revision that it found, and tells that this one had been committed.
func spans(acts []act) ([]span, error) {
	by := map[int64][]act{}
	var removed *act
	for _, a := range acts {
		switch {
		case a.verb == verify, a.code != "":
		case a.verb == remove:
			removed = &a
		default:
			by[a.revision] = append(by[a.revision], a)
		}
	}
	var all []span
	var now life
	add := func(s span, committed time.Duration) {
		s.life, s.last = now, math.MaxInt64
		for i := range all {
			all[i].last = min(all[i].last, committed)
			s.first = max(s.first, all[i].first)
		}
		all = append(all, s)
	}
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
			return nil, fmt.Errorf("nobody made revision %d; of it are %v", revision, of)
		}
		s := span{first: of[at].call, maker: of[at].manager, made: of[at].ret}
		committed := of[at].ret
		for _, a := range of {
			committed = min(committed, a.ret)
			if a.verb == of[at].verb { // it may be this one
				s.first = min(s.first, a.call)
			}
		}
		if len(of) > 1 {
			s.maker = nobody
		}
		add(s, committed)
	}
	if removed != nil {
		now = life{gone: true, revision: math.MaxInt64}
		add(span{first: removed.call, maker: removed.manager, made: removed.ret}, removed.ret)
	}
	return all, nil
}

// nobody is who is not known.
const nobody = -1

// checkIntervals says that each verification of one key was answered as the key was at some moment between stale before
// the call and the return; and not as it was before a change that the same Manager had acknowledged.
func checkIntervals(acts []act, stale func(manager int) time.Duration) error {
	history, err := spans(acts)
	if err != nil {
		return err
	}
	for _, a := range acts {
		if a.verb != verify {
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
	begin := act{verb: issue, call: 1 * ms, ret: 2 * ms, revision: 1}
	change := func(manager int, verb string, call, ret time.Duration, got int, revision int64) act {
		return act{manager: manager, verb: verb, call: call, ret: ret, got: got, revision: revision}
	}
	ask := func(manager, version int, call, ret time.Duration, code keycote.Code) act {
		a := act{manager: manager, verb: verify, version: version, call: call, ret: ret, code: code}
		if code == "" {
			a.got = version
		}
		return a
	}
	marked := func(version int, call, ret time.Duration, revision int64) act {
		return act{manager: nobody, verb: mark, version: version, call: call, ret: ret, revision: revision}
	}
	revoked := change(1, revoke, 10*ms, 12*ms, 0, 2)
	tests := []struct {
		name            string
		acts            []act
		linear, bounded bool
	}{
		{"yes and then no", []act{ask(0, 1, 3*ms, 4*ms, ""), revoked, ask(0, 1, 13*ms, 14*ms, keycote.ErrRevoked)},
			true, true},
		{"either while it is being revoked", []act{revoked, ask(0, 1, 11*ms, 13*ms, ""),
			ask(0, 1, 11*ms, 13*ms, keycote.ErrRevoked)}, true, true},
		{"yes after the revocation, within the bound", []act{revoked, ask(0, 1, 21*ms, 22*ms, "")}, false, true},
		{"yes after the bound", []act{revoked, ask(0, 1, 23*ms, 24*ms, "")}, false, false},
		{"yes after the own revocation", []act{revoked, ask(1, 1, 13*ms, 14*ms, "")}, false, false},
		{"no before the revocation", []act{ask(0, 1, 3*ms, 4*ms, keycote.ErrRevoked), revoked}, false, false},
		{"no and yes again", []act{revoked, ask(0, 1, 10*ms, 11*ms, keycote.ErrRevoked), ask(0, 1, 11*ms+1, 12*ms, "")},
			false, true}, // the bound promises no order among answers
		{"unknown", []act{ask(0, 1, 3*ms, 4*ms, keycote.ErrUnknownKey)}, false, false},
		{"another version", []act{{verb: verify, version: 1, got: 2, call: 3 * ms, ret: 4 * ms}}, false, false},
		{"an older version", []act{change(1, rotate, 5*ms, 6*ms, 2, 2), ask(0, 1, 7*ms, 8*ms, ""),
			ask(0, 2, 7*ms, 8*ms, "")}, false, true},
		{"a version given twice", []act{change(1, rotate, 5*ms, 6*ms, 2, 2), change(1, rotate, 7*ms, 8*ms, 2, 3)},
			false, false},
		{"disabled and enabled", []act{change(1, disable, 5*ms, 6*ms, 0, 2), ask(0, 1, 7*ms, 8*ms, keycote.ErrDisabled),
			change(0, disable, 8*ms, 9*ms, 0, 2), change(1, enable, 9*ms, 10*ms, 0, 3),
			ask(1, 1, 11*ms, 12*ms, "")}, true, true},
		{"enabled and still refused", []act{change(1, disable, 5*ms, 6*ms, 0, 2), change(1, enable, 9*ms, 10*ms, 0, 3),
			ask(0, 1, 21*ms, 22*ms, keycote.ErrDisabled)}, false, false},
		{"a revocation that was beaten, and yes", []act{
			{verb: revoke, manager: 1, call: 5 * ms, ret: 6 * ms, code: keycote.ErrConflict},
			ask(0, 1, 27*ms, 28*ms, "")}, true, true},
		{"enabled once revoked", []act{revoked, change(1, enable, 13*ms, 14*ms, 0, 3)}, false, false},
		{"a lost change", []act{change(1, disable, 5*ms, 6*ms, 0, 2),
			change(0, rotate, 7*ms, 8*ms, 2, 2)}, false, false},
		{"two in overlap", []act{change(1, overlaps, 5*ms, 6*ms, 2, 2), ask(0, 1, 7*ms, 8*ms, ""),
			ask(0, 2, 7*ms, 9*ms, ""), marked(2, 7*ms, 9*ms, 3), ask(0, 1, 21*ms, 22*ms, "")}, true, true},
		{"the older one after the last overlap", []act{change(1, overlaps, 5*ms, 6*ms, 2, 2),
			change(1, rotate, 7*ms, 8*ms, 3, 3),
			ask(0, 1, 21*ms, 22*ms, "")}, false, false},
		{"the newer one, unused, after another rotation", []act{change(1, overlaps, 5*ms, 6*ms, 2, 2),
			change(1, overlaps, 7*ms, 8*ms, 3, 3), ask(0, 2, 21*ms, 22*ms, keycote.ErrExpired),
			ask(0, 1, 21*ms, 22*ms, "")}, true, true},
		{"the newer one, used, after another rotation", []act{change(1, overlaps, 5*ms, 6*ms, 2, 2),
			ask(0, 2, 6*ms, 7*ms, ""), marked(2, 6*ms, 7*ms, 3), change(1, overlaps, 7*ms, 8*ms, 3, 4), ask(0, 2, 21*ms, 22*ms, ""),
			ask(0, 1, 21*ms, 22*ms, "")}, false, false},
		{"the older one before the newer one is used", []act{change(1, untilNext, 5*ms, 6*ms, 2, 2),
			ask(0, 1, 21*ms, 22*ms, ""), ask(0, 2, 23*ms, 24*ms, ""), marked(2, 23*ms, 24*ms, 3),
			ask(0, 1, 25*ms, 26*ms, keycote.ErrExpired)}, true, true},
		{"the older one once the newer one is used", []act{change(1, untilNext, 5*ms, 6*ms, 2, 2),
			ask(0, 2, 7*ms, 8*ms, ""), marked(2, 7*ms, 8*ms, 3), ask(0, 1, 21*ms, 22*ms, "")}, false, false},
		{"a use that was not written down", []act{change(1, untilNext, 5*ms, 6*ms, 2, 2), ask(0, 2, 7*ms, 8*ms, ""),
			change(1, disable, 9*ms, 10*ms, 0, 4)}, false, false},
		{"without the scope", []act{change(1, narrow, 5*ms, 6*ms, 0, 2), ask(0, 1, 7*ms, 8*ms, keycote.ErrScope),
			change(1, widen, 9*ms, 10*ms, 0, 3), ask(0, 1, 21*ms, 22*ms, "")}, true, true},
		{"with a scope that was taken", []act{change(1, narrow, 5*ms, 6*ms, 0, 2),
			ask(0, 1, 17*ms, 18*ms, "")}, false, false},
		{"deleted", []act{change(1, remove, 5*ms, 6*ms, 0, 0),
			ask(0, 1, 15*ms, 16*ms, keycote.ErrUnknownKey)}, true, true},
		{"deleted and yes, within the bound", []act{change(1, remove, 5*ms, 6*ms, 0, 0),
			ask(0, 1, 15*ms, 16*ms, "")}, false, true},
		{"deleted and yes", []act{change(1, remove, 5*ms, 6*ms, 0, 0), ask(0, 1, 17*ms, 18*ms, "")}, false, false},
		{"deleted by the same and yes", []act{change(1, remove, 5*ms, 6*ms, 0, 0),
			ask(1, 1, 7*ms, 8*ms, "")}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			acts := append([]act{begin}, tt.acts...)
			require.Equal(t, tt.linear, checkLinear(acts) == nil)
			require.Equal(t, tt.bounded, checkIntervals(acts, func(int) time.Duration { return stale }) == nil)
		})
	}
}
