package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// loadEnv is how long TestLoad works on each database. Without it, it is a minute on PostgreSQL and a quarter of that
// on each other.
const loadEnv = "KEYCOTE_DBTEST_LOAD"

func loadTime(t *testing.T, e *engine) time.Duration {
	t.Helper()
	if text := os.Getenv(loadEnv); text != "" {
		length, err := time.ParseDuration(text)
		require.NoError(t, err, loadEnv)
		return length
	}
	if e.dialect != sqlstore.Postgres {
		return time.Minute / 4
	}
	return time.Minute
}

// staleOf is the MaxStale of each Manager under load. Those without are held against one order of all that was done,
// those with one against their bound.
var staleOf = []time.Duration{0, 0, 300 * time.Millisecond, 300 * time.Millisecond}

// load is what goroutines do to a few keys, which they have in common, through several Managers.
type load struct {
	managers []*keycote.Manager
	start    time.Time

	mu       sync.Mutex
	keys     []*loaded // those that are worked on
	all      []*loaded
	unmarked []unmarked
}

// unmarked is when a Manager could not write down the first use of a version, because others changed the key too often.
// It does so later, and refuses by itself what that should have ended: no checker here knows that.
type unmarked struct {
	manager int
	at      time.Duration
}

// listener hears of that in what one Manager logs.
type listener struct {
	slog.Handler
	l       *load
	manager int
}

func (h listener) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "first use") {
		h.l.mu.Lock()
		defer h.l.mu.Unlock()
		h.l.unmarked = append(h.l.unmarked, unmarked{h.manager, time.Since(h.l.start)})
	}
	return nil
}

func (h listener) Enabled(context.Context, slog.Level) bool { return true }

// loaded is a key and all that was done to it.
type loaded struct {
	id     string
	mu     sync.Mutex
	tokens map[int]string // by version
	latest int
	ended  bool
	acts   []act
}

// Eight goroutines verify, issue, rotate, revoke, disable, enable and delete keys that they have in common, and change
// their scopes, through Managers that know nothing of each other. No answer is one that the key's history forbids.
func TestLoad(t *testing.T) {
	onEach(t, "load", onceEach, func(t *testing.T, e *engine) {
		store, db, here := e.fresh(t)
		l := &load{start: time.Now()}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		for i, stale := range staleOf {
			kek, err := keycote.LocalKEK(here.kek)
			require.NoError(t, err)
			pool := here.open(t)
			pool.SetMaxOpenConns(8)
			pool.SetMaxIdleConns(8)
			m, err := keycote.New(t.Context(), here.store(t, pool), kek, &keycote.Options{
				MaxStale: stale, Logger: slog.New(listener{slog.DiscardHandler, l, i}),
			})
			require.NoError(t, err)
			running.Go(func() { _ = m.Run(ctx) })
			l.managers = append(l.managers, m)
		}
		for range 6 {
			l.keys = append(l.keys, nil)
		}
		for slot := range l.keys {
			require.NoError(t, l.issue(t.Context(), slot))
		}
		length := loadTime(t, e)
		working, enough := context.WithTimeout(t.Context(), length)
		defer enough()
		var workers sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			workers.Go(func() {
				for working.Err() == nil && errs[i] == nil {
					errs[i] = l.work(t.Context())
				}
			})
		}
		workers.Wait()
		require.NoError(t, errors.Join(errs...))
		l.readMarks(t)
		l.requireAllowed(t, e.name, length)
		requireTold(t, store, l.managers[0])
		here.requireSound(t, db)
	})
}

// A cache that hears of no change gives answers that are found to be forbidden.
func TestLoadFindsAStaleAnswer(t *testing.T) {
	t.Parallel()
	store, _ := openStore(t, newFile(t))
	l, file := &load{start: time.Now(), keys: make([]*loaded, 1)}, newKEK(t)
	for _, stale := range []time.Duration{time.Hour, 0} {
		kek, err := keycote.LocalKEK(file)
		require.NoError(t, err)
		m, err := keycote.New(t.Context(), store, kek, &keycote.Options{MaxStale: stale})
		require.NoError(t, err)
		l.managers = append(l.managers, m)
	}
	require.NoError(t, l.issue(t.Context(), 0))
	k := l.keys[0]
	for _, a := range []act{{verb: verify}, {verb: revoke, manager: 1}, {verb: verify}} {
		require.NoError(t, checkLinear(k.acts))
		a.version = 1
		require.NoError(t, l.do(t.Context(), k, a, k.tokens[1]))
	}
	require.ErrorContains(t, checkLinear(k.acts), "no order")
	within := func(stale time.Duration) func(int) time.Duration { return func(int) time.Duration { return stale } }
	require.ErrorContains(t, checkIntervals(k.acts, within(0)), "not right at any moment")
	require.NoError(t, checkIntervals(k.acts, within(time.Hour)))
}

// work does one thing.
func (l *load) work(ctx context.Context) error {
	slot := rand.IntN(len(l.keys))
	l.mu.Lock()
	k := l.keys[slot]
	l.mu.Unlock()
	k.mu.Lock()
	ended, version := k.ended, k.latest
	switch rand.IntN(6) {
	case 0:
		version = 1 + rand.IntN(k.latest)
	case 1, 2: // which may go on beside the latest
		version = max(version-1, 1)
	}
	token := k.tokens[version]
	k.mu.Unlock()
	if ended && rand.IntN(20) == 0 {
		return l.issue(ctx, slot)
	}
	a := act{manager: rand.IntN(len(l.managers)), verb: verify, version: version}
	n := rand.IntN(200)
	for _, d := range []struct {
		verb string
		of   int // in 200
	}{
		{revoke, 2}, {remove, 2}, {rotate, 3}, {overlaps, 5}, {untilNext, 5},
		{disable, 6}, {enable, 12}, {narrow, 4}, {widen, 8},
	} {
		if n -= d.of; n < 0 {
			a.verb = d.verb
			break
		}
	}
	return l.do(ctx, k, a, token)
}

// scope is what is asked for.
const scope = "load:all"

// do calls what a says, and notes the answer. An outage is an error.
func (l *load) do(ctx context.Context, k *loaded, a act, token string) error {
	var key *keycote.Key
	var secret keycote.Secret
	var err error
	m := l.managers[a.manager]
	a.call = time.Since(l.start)
	switch a.verb {
	case verify:
		var grant keycote.Grant
		grant, err = m.Verify(ctx, token, keycote.Request{Scopes: []string{scope}})
		a.got = grant.Version
	case revoke:
		key, err = m.Revoke(ctx, k.id, "")
	case rotate:
		key, secret, err = m.Rotate(ctx, k.id, keycote.RotateParams{})
	case overlaps, untilNext:
		key, secret, err = m.Rotate(ctx, k.id, keycote.RotateParams{Overlap: day, UntilUsed: a.verb == untilNext})
	case disable:
		key, err = m.Disable(ctx, k.id, "")
	case enable:
		key, err = m.Enable(ctx, k.id, "")
	case narrow:
		key, err = m.Update(ctx, k.id, keycote.Patch{Scopes: new([]string)})
	case widen:
		key, err = m.Update(ctx, k.id, keycote.Patch{Scopes: &[]string{scope}})
	case remove:
		err = m.Delete(ctx, k.id, "")
	}
	a.ret = time.Since(l.start)
	if a.code = keycote.CodeOf(err); err != nil && (a.code == "" || a.code == keycote.ErrUnavailable) {
		return fmt.Errorf("%s: %w", a.verb, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = k.ended || err == nil && (a.verb == revoke || a.verb == remove)
	if err == nil && key != nil {
		a.revision = key.Revision
		if !secret.IsZero() {
			a.got = key.Versions[len(key.Versions)-1].Number
			k.tokens[a.got] = secret.Reveal()
			k.latest = max(k.latest, a.got)
		}
	}
	k.acts = append(k.acts, a)
	return nil
}

// issue puts a new key into a slot.
func (l *load) issue(ctx context.Context, slot int) error {
	a := act{manager: rand.IntN(len(l.managers)), verb: issue, call: time.Since(l.start)}
	key, secret, err := l.managers[a.manager].Issue(ctx, keycote.IssueParams{
		Name: fmt.Sprint("key ", rand.Uint64()), Scopes: []string{scope},
	})
	if err != nil {
		return fmt.Errorf("issue: %w", err)
	}
	a.ret, a.revision = time.Since(l.start), key.Revision
	k := &loaded{id: key.ID, tokens: map[int]string{1: secret.Reveal()}, latest: 1, acts: []act{a}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[slot] = k
	l.all = append(l.all, k)
	return nil
}

// readMarks adds to the acts of each key the first uses that were written down, which the trail tells of. One happened
// not before a call began that showed the version, nor after one returned that was answered yes.
func (l *load) readMarks(t *testing.T) {
	t.Helper()
	by := map[string]*loaded{}
	for _, k := range l.all {
		by[k.id] = k
	}
	for e, err := range l.managers[0].Events(t.Context(), keycote.EventFilter{}) {
		require.NoError(t, err)
		if e.Action != "verify" || e.Revision == 0 {
			continue
		}
		k := by[e.KeyID]
		require.NotNil(t, k, e.KeyID)
		m := act{manager: nobody, verb: mark, version: e.Version, revision: e.Revision}
		m.call, m.ret = math.MaxInt64, math.MaxInt64
		for _, a := range k.acts {
			if a.verb == verify && a.version == e.Version {
				m.call = min(m.call, a.call)
				if a.code == "" {
					m.ret = min(m.ret, a.ret)
				}
			}
		}
		k.acts = append(k.acts, m)
	}
}

// judged reports whether each first use of a key was written down at once.
func (l *load) judged(k *loaded) bool {
	return !slices.ContainsFunc(l.unmarked, func(u unmarked) bool {
		return slices.ContainsFunc(k.acts, func(a act) bool {
			return a.verb == verify && a.code == "" && a.manager == u.manager && a.call <= u.at && u.at <= a.ret
		})
	})
}

func (l *load) requireAllowed(t *testing.T, database string, length time.Duration) {
	t.Helper()
	did := map[string]int{}
	late, unjudged := time.Duration(0), 0
	for _, k := range l.all {
		if !l.judged(k) {
			unjudged++
			continue
		}
		var linear []act
		for _, a := range k.acts {
			if a.code == "" {
				did[a.verb]++
			}
			if a.verb != verify || staleOf[a.manager] == 0 {
				linear = append(linear, a)
			}
		}
		require.NoError(t, checkLinear(linear), k.id)
		require.NoError(t, checkIntervals(k.acts, func(manager int) time.Duration { return staleOf[manager] }), k.id)
		late = max(late, longestLate(k.acts))
	}
	for _, verb := range []string{
		verify, issue, mark, rotate, overlaps, untilNext, revoke, disable, enable, narrow, widen, remove,
	} {
		require.Positive(t, did[verb], verb)
	}
	measured(t, database,
		"load for %v on %d keys (%d not judged): %v; no answer that was forbidden, and none older than %v (MaxStale %v)",
		length, len(l.all), unjudged, did, late.Round(time.Millisecond), staleOf[len(staleOf)-1])
}

// longestLate is how long after the revocation's or deletion's acknowledgement a call of one key began that was still
// answered yes.
func longestLate(acts []act) (late time.Duration) {
	for _, r := range acts {
		for _, a := range acts {
			if (r.verb == revoke || r.verb == remove) && r.code == "" && a.verb == verify && a.code == "" {
				late = max(late, a.call-r.ret)
			}
		}
	}
	return late
}
