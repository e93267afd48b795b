package dbtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// crashed is a host on a server that is killed: one Manager that writes, and one with a cache that is asked.
type crashed struct {
	writer, reader *keycote.Manager
	cached, cold   map[string]string // values by ID; nobody has asked for the cold ones

	mu    sync.Mutex
	acked map[string]int64 // revisions that were acknowledged, of the keys that writers made
	open  map[string]bool  // keys of which one change has an unknown outcome
	done  int
}

// A server is killed under load and started again on what it had written. What is cached is verified until MaxStale;
// then, and of what is not cached, nothing is known, which is no answer about keys. Once the server is back, so are the
// answers, and all that was acknowledged is there, whole.
func TestCrashedServer(t *testing.T) {
	onEach(t, "crashed server", mainServers, func(t *testing.T, e *engine) {
		s, err := startOrInstall(context.WithoutCancel(t.Context()), e.server.kind)
		require.NoError(t, err)
		t.Cleanup(func() { s.stop() })
		here := place{driver: e.driver, dialect: e.dialect, kek: newKEK(t)}
		for _, k := range kinds {
			if k.kind == s.kind {
				here.dsn = k.dsn(s, s.database)
			}
		}
		db := here.open(t)
		db.SetMaxIdleConns(8)
		require.NoError(t, sqlstore.Migrate(t.Context(), db, here.dialect))
		store := here.store(t, db)
		c := newCrashed(t, store, here)
		for round := range 2 {
			c.round(t, s, e.name, round)
			m, err := openHost(t.Context(), store, here.kek)
			require.NoError(t, err)
			c.requireKept(t, m)
			here.requireSound(t, db)
			requireTold(t, store, m)
		}
	})
}

func newCrashed(t *testing.T, store *sqlstore.Store, here place) *crashed {
	t.Helper()
	c := &crashed{
		cached: map[string]string{}, cold: map[string]string{}, acked: map[string]int64{}, open: map[string]bool{},
	}
	var err error
	c.writer, err = openHost(t.Context(), store, here.kek)
	require.NoError(t, err)
	kek, err := keycote.LocalKEK(here.kek)
	require.NoError(t, err)
	c.reader, err = keycote.New(t.Context(), store, kek, &keycote.Options{MaxStale: maxStale})
	require.NoError(t, err)
	for i := range 24 {
		key, secret, err := c.writer.Issue(t.Context(), keycote.IssueParams{Name: fmt.Sprint("key ", i)})
		require.NoError(t, err)
		if i%2 == 0 {
			c.cached[key.ID] = secret.Reveal()
		} else {
			c.cold[key.ID] = secret.Reveal()
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.reader.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return c
}

// verify asks for all of values at once, and returns how many there were of each answer.
func (c *crashed) verify(ctx context.Context, values map[string]string) map[keycote.Code]int {
	answers := map[keycote.Code]int{}
	for _, token := range values {
		_, err := c.reader.Verify(ctx, token, keycote.Request{})
		answers[keycote.CodeOf(err)]++
	}
	return answers
}

// write makes keys and changes them until ctx ends. A change that fails may have been made; there is no other on that
// key.
func (c *crashed) write(ctx context.Context, name string) error {
	call := context.WithoutCancel(ctx)
	for n := 0; ctx.Err() == nil; n++ {
		key, _, err := c.writer.Issue(call, keycote.IssueParams{Name: fmt.Sprint(name, " key ", n)})
		for step := 0; err == nil; step++ {
			id := key.ID
			c.note(id, key.Revision, false)
			if step == 5 || ctx.Err() != nil {
				break
			}
			switch step {
			case 0, 3:
				key, _, err = c.writer.Rotate(call, id, keycote.RotateParams{})
			case 1:
				key, err = c.writer.Disable(call, id, "")
			case 2:
				key, err = c.writer.Enable(call, id, "")
			case 4:
				key, err = c.writer.Revoke(call, id, "")
			}
			if err != nil {
				c.note(id, 0, true)
			}
		}
		if err == nil {
			continue
		}
		if keycote.CodeOf(err) != keycote.ErrUnavailable {
			return err
		}
		later(10 * time.Millisecond)
	}
	return nil
}

// note notes an acknowledged revision, or that one more may be there.
func (c *crashed) note(id string, revision int64, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open {
		c.open[id] = true
		return
	}
	c.acked[id] = revision
	c.done++
}

func (c *crashed) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// requireKept holds what is there against what was acknowledged.
func (c *crashed) requireKept(t *testing.T, m *keycote.Manager) {
	t.Helper()
	survived := 0
	for id, revision := range c.acked {
		key, err := m.Get(t.Context(), id)
		require.NoError(t, err)
		if c.open[id] && key.Revision == revision+1 {
			survived++
			continue
		}
		require.Equal(t, revision, key.Revision, "an acknowledged change is gone")
	}
	t.Logf("%d keys, %d changes unanswered, of which %d were made", len(c.acked), len(c.open), survived)
}

func (c *crashed) round(t *testing.T, s *server, name string, round int) {
	t.Helper()
	ctx := t.Context()
	working, enough := context.WithCancel(ctx)
	var group sync.WaitGroup
	const writers = 4
	var errs [writers + 1]error
	for i := range writers {
		group.Go(func() { errs[i] = c.write(working, fmt.Sprint("round ", round, " writer ", i)) })
	}
	stopped := sync.OnceFunc(func() { enough(); group.Wait() })
	defer stopped()
	await := func(what string, so func() bool) {
		require.Eventually(t, so, time.Minute, 5*time.Millisecond, what)
	}
	all := func(values map[string]string, code keycote.Code) func() bool {
		return func() bool { return c.verify(ctx, values)[code] == len(values) }
	}
	await("all is cached", all(c.cached, ""))
	busy := c.count() + 20 + rand.IntN(50)
	await("the writers work", func() bool { return c.count() >= busy })
	require.Equal(t, len(c.cached), c.verify(ctx, c.cached)[""])

	require.NoError(t, s.crash())
	away := time.Now()
	var ended atomic.Int64 // when the last of its processes had
	group.Go(func() {
		errs[writers] = s.gone()
		ended.Store(int64(time.Since(away)))
	})
	lastYes, yes := time.Duration(0), 0
	for {
		at, dead := time.Since(away), time.Duration(ended.Load())
		if dead > 0 && at > dead+maxStale+maxStale/4 {
			break
		}
		answers := c.verify(ctx, c.cached)
		require.Equal(t, len(c.cached), answers[""]+answers[keycote.ErrUnavailable], "%v", answers)
		if answers[""] > 0 {
			lastYes = at
			yes++
		}
		later(time.Millisecond)
	}
	require.LessOrEqual(t, lastYes, time.Duration(ended.Load())+maxStale)
	require.Positive(t, yes, "the cache answers")
	require.Equal(t, map[keycote.Code]int{keycote.ErrUnavailable: len(c.cached)}, c.verify(ctx, c.cached))
	require.Equal(t, map[keycote.Code]int{keycote.ErrUnavailable: len(c.cold)}, c.verify(ctx, c.cold))

	require.NoError(t, s.restart(context.WithoutCancel(ctx)))
	back := time.Now()
	await("the answers are back", all(c.cached, ""))
	recovered := time.Since(back)
	require.Equal(t, map[keycote.Code]int{"": len(c.cold)}, c.verify(ctx, c.cold))
	busy = c.count() + 20
	await("the writers work again", func() bool { return c.count() >= busy })
	stopped()
	require.NoError(t, errors.Join(errs[:]...))
	measured(t, name, "server killed under load: cached keys verified for %v (MaxStale %v), all keys %v after it was back",
		lastYes.Round(time.Millisecond), maxStale, recovered.Round(time.Millisecond))
}
