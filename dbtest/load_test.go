package dbtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// loadEnv is how long TestLoad works on PostgreSQL; on each other database it is a quarter of that.
const loadEnv = "KEYCOTE_DBTEST_LOAD"

func loadTime(t *testing.T, e *engine) time.Duration {
	t.Helper()
	length := time.Minute
	if text := os.Getenv(loadEnv); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err, loadEnv)
	}
	if e.dialect != sqlstore.Postgres {
		length /= 4
	}
	return length
}

// staleOf is the MaxStale of each Manager under load. Those without are held against one order of all that was done,
// those with one against their bound.
var staleOf = []time.Duration{0, 0, 300 * time.Millisecond, 300 * time.Millisecond}

// load is what goroutines do to a few keys, which they have in common, through several Managers.
type load struct {
	managers []*keycote.Manager
	start    time.Time

	mu   sync.Mutex
	keys []*loaded // those that are worked on
	all  []*loaded
}

// loaded is a key and all that was done to it.
type loaded struct {
	id     string
	mu     sync.Mutex
	tokens map[int]string // by version
	latest int
	ended  bool
	acts   []act
}

// Eight goroutines verify, issue, rotate, revoke, disable and enable keys that they have in common, through Managers
// that know nothing of each other. No answer is one that the key's history forbids.
func TestLoad(t *testing.T) {
	onEach(t, "load", onceEach, func(t *testing.T, e *engine) {
		_, db, here := e.fresh(t)
		l := &load{start: time.Now()}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		for _, stale := range staleOf {
			kek, err := keycote.LocalKEK(here.kek)
			require.NoError(t, err)
			pool := here.open(t)
			pool.SetMaxOpenConns(8)
			pool.SetMaxIdleConns(8)
			m, err := keycote.New(t.Context(), here.store(t, pool), kek, &keycote.Options{MaxStale: stale})
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
		l.requireAllowed(t, e.name, length)
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
	for _, a := range []act{{verb: "verify"}, {verb: "revoke", manager: 1}, {verb: "verify"}} {
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
	if rand.IntN(3) == 0 {
		version = 1 + rand.IntN(k.latest)
	}
	token := k.tokens[version]
	k.mu.Unlock()
	if ended && rand.IntN(20) == 0 {
		return l.issue(ctx, slot)
	}
	a := act{manager: rand.IntN(len(l.managers)), verb: "verify", version: version}
	switch n := rand.IntN(100); {
	case n < 1:
		a.verb = "revoke"
	case n < 7:
		a.verb = "rotate"
	case n < 13:
		a.verb = "disable"
	case n < 23:
		a.verb = "enable"
	}
	return l.do(ctx, k, a, token)
}

// do calls what a says, and notes the answer. An outage is an error.
func (l *load) do(ctx context.Context, k *loaded, a act, token string) error {
	var key *keycote.Key
	var secret keycote.Secret
	var err error
	m := l.managers[a.manager]
	a.call = time.Since(l.start)
	switch a.verb {
	case "verify":
		var grant keycote.Grant
		grant, err = m.Verify(ctx, token, keycote.Request{})
		a.got = grant.Version
	case "revoke":
		key, err = m.Revoke(ctx, k.id, "")
	case "rotate":
		key, secret, err = m.Rotate(ctx, k.id, keycote.RotateParams{})
	case "disable":
		key, err = m.Disable(ctx, k.id, "")
	case "enable":
		key, err = m.Enable(ctx, k.id, "")
	}
	a.ret = time.Since(l.start)
	if a.code = keycote.CodeOf(err); err != nil && (a.code == "" || a.code == keycote.ErrUnavailable) {
		return fmt.Errorf("%s: %w", a.verb, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && key != nil {
		a.revision = key.Revision
		if a.verb == "rotate" {
			a.got = key.Versions[len(key.Versions)-1].Number
			k.tokens[a.got] = secret.Reveal()
			k.latest = max(k.latest, a.got)
		}
		k.ended = k.ended || a.verb == "revoke"
	}
	k.acts = append(k.acts, a)
	return nil
}

// issue puts a new key into a slot.
func (l *load) issue(ctx context.Context, slot int) error {
	a := act{manager: rand.IntN(len(l.managers)), verb: "issue", call: time.Since(l.start)}
	key, secret, err := l.managers[a.manager].Issue(ctx, keycote.IssueParams{Name: fmt.Sprint("key ", rand.Uint64())})
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

func (l *load) requireAllowed(t *testing.T, database string, length time.Duration) {
	t.Helper()
	did := map[string]int{}
	late := time.Duration(0)
	for _, k := range l.all {
		var linear []act
		for _, a := range k.acts {
			did[a.verb]++
			if a.verb != "verify" || staleOf[a.manager] == 0 {
				linear = append(linear, a)
			}
		}
		require.NoError(t, checkLinear(linear), k.id)
		require.NoError(t, checkIntervals(k.acts, func(manager int) time.Duration { return staleOf[manager] }), k.id)
		late = max(late, longestLate(k.acts))
	}
	for _, verb := range []string{"verify", "issue", "rotate", "revoke", "disable", "enable"} {
		require.Positive(t, did[verb], verb)
	}
	measured(t, database, "load for %v on %d keys: %v; no answer that was forbidden, and none older than %v (MaxStale %v)",
		length, len(l.all), did, late.Round(time.Millisecond), staleOf[len(staleOf)-1])
}

// longestLate is how long after the revocation's acknowledgement a call of one key began that was still answered yes.
func longestLate(acts []act) (late time.Duration) {
	for _, r := range acts {
		for _, a := range acts {
			if r.verb == "revoke" && r.code == "" && a.verb == "verify" && a.code == "" {
				late = max(late, a.call-r.ret)
			}
		}
	}
	return late
}
