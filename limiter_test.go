package keycote_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func issueLimited(t *testing.T, m *keycote.Manager, name string, l keycote.Limit) (*keycote.Key, string) {
	t.Helper()
	k, s, err := m.Issue(t.Context(), keycote.IssueParams{Name: name, Scopes: []string{"a:read"}, Limit: l})
	require.NoError(t, err)
	return k, s.Reveal()
}

// requireLimited holds err to be a refusal by limit and nothing else, with this wait.
func requireLimited(t *testing.T, err error, wait time.Duration) *keycote.Error {
	t.Helper()
	require.ErrorIs(t, heard(err), keycote.ErrLimited)
	require.NotErrorIs(t, err, keycote.ErrUnauthenticated, "limited is 429, not 401")
	require.NotErrorIs(t, err, keycote.ErrUnavailable)
	var e *keycote.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, wait, e.RetryAfter)
	return e
}

// TestLimitIsEnforced at the moment that RetryAfter names, and one microsecond to either side, with and without a cache,
// and in a view of a transaction.
func TestLimitIsEnforced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		opts keycote.Options
		view func(w *world) *keycote.Manager
	}{
		{"each time from the store", keycote.Options{}, func(w *world) *keycote.Manager { return w.Manager }},
		{"from the cache", keycote.Options{MaxStale: time.Hour}, func(w *world) *keycote.Manager { return w.Manager }},
		{"in a view of a tenant", keycote.Options{}, func(w *world) *keycote.Manager { return w.Tenant("acme") }},
		{"in a view of a transaction", keycote.Options{MaxStale: time.Hour}, func(w *world) *keycote.Manager {
			view, _ := w.In(w.store)
			return view
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &c.opts)
			m := c.view(w)
			k, token := issueLimited(t, m, "k", keycote.Limit{Rate: 2, Per: time.Minute, Quota: 4, Period: time.Hour})
			verify := func() (keycote.Grant, error) { return m.Verify(t.Context(), token, keycote.Request{}) }
			g, err := verify()
			require.NoError(t, err)
			require.Equal(t, []keycote.LimitState{
				{Policy: "rate", Limit: 2, Window: time.Minute, Burst: 2, Remaining: 1, Reset: 30 * time.Second},
				{Policy: "quota", Limit: 4, Window: time.Hour, Remaining: 3, Reset: time.Hour},
			}, g.Limits())
			g.Limits()[0].Remaining = 99
			require.EqualValues(t, 1, g.Limits()[0].Remaining, "a Grant's states are its own")
			_, err = verify()
			require.NoError(t, err)

			_, err = verify()
			e := requireLimited(t, err, 30*time.Second)
			require.Equal(t, k.ID, e.ID)
			require.Equal(t, "keycote: verify "+k.ID+": limited", e.Error())
			require.Equal(t, []keycote.LimitState{
				{Policy: "rate", Limit: 2, Window: time.Minute, Burst: 2, Remaining: 0, Reset: time.Minute},
				{Policy: "quota", Limit: 4, Window: time.Hour, Remaining: 2, Reset: time.Hour},
			}, e.Limits)
			w.clock.Advance(30*time.Second - time.Microsecond)
			_, err = verify()
			requireLimited(t, err, time.Microsecond)
			w.clock.Advance(time.Microsecond)
			_, err = verify()
			require.NoError(t, err)
			w.clock.Advance(time.Minute)
			_, err = verify()
			require.NoError(t, err)
			_, err = verify()
			requireLimited(t, err, time.Hour-90*time.Second)
			w.clock.Advance(time.Hour - 90*time.Second)
			_, err = verify()
			require.NoError(t, err)
		})
	}
}

// TestLimitIsJudgedLast: what is refused for another reason takes nothing, and does not tell that a limit is near.
func TestLimitIsJudgedLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k, token := issueLimited(t, w.Manager, "k", keycote.Limit{Quota: 1, Period: time.Hour})
	scope := keycote.Request{Scopes: []string{"b:read"}}
	for range 3 {
		_, err := w.Verify(t.Context(), token, scope)
		require.ErrorIs(t, heard(err), keycote.ErrScope)
		_, err = w.Disable(t.Context(), k.ID, "")
		require.NoError(t, err)
		_, err = w.Verify(t.Context(), token, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrDisabled)
		_, err = w.Enable(t.Context(), k.ID, "")
		require.NoError(t, err)
	}
	_, err := w.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	_, err = w.Verify(t.Context(), token, scope)
	require.ErrorIs(t, heard(err), keycote.ErrScope)
	_, err = w.Verify(t.Context(), token, keycote.Request{})
	requireLimited(t, err, time.Hour)
}

// TestLimitIsOfTheKey, not of a version, and no change of the key hands out another allowance.
func TestLimitIsOfTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &keycote.Options{MaxStale: time.Hour})
	ctx := t.Context()
	k, old := issueLimited(t, w.Manager, "k", keycote.Limit{Quota: 3, Period: time.Hour})
	verify := func(token string) error { _, err := w.Verify(ctx, token, keycote.Request{}); return err }
	require.NoError(t, verify(old))
	_, s, err := w.Rotate(ctx, k.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
	require.NoError(t, err)
	require.NoError(t, verify(old))

	_, err = w.Disable(ctx, k.ID, "")
	require.NoError(t, err)
	_, err = w.Enable(ctx, k.ID, "")
	require.NoError(t, err)
	limit := func(l keycote.Limit) {
		_, err := w.Update(ctx, k.ID, keycote.Patch{Limit: &l})
		require.NoError(t, err)
	}
	limit(keycote.Limit{Quota: 2, Period: time.Hour})
	requireLimited(t, verify(s.Reveal()), time.Hour)
	require.NoError(t, func() error { limit(keycote.Limit{}); return verify(old) }(), "a refused use is no first use of a version")
	limit(keycote.Limit{Quota: 3, Period: time.Hour})
	require.NoError(t, verify(s.Reveal()))
	require.ErrorIs(t, verify(old), keycote.ErrExpired, "a use that was let through is")
	requireLimited(t, verify(s.Reveal()), time.Hour)
	limit(keycote.Limit{Quota: 4, Period: time.Hour})
	require.NoError(t, verify(s.Reveal()))
	limit(keycote.Limit{})
	for range 10 {
		require.NoError(t, verify(s.Reveal()))
	}
	limit(keycote.Limit{Quota: 4, Period: time.Hour})
	requireLimited(t, verify(s.Reveal()), time.Hour)

	_, other := issueLimited(t, w.Manager, "other", keycote.Limit{Quota: 1, Period: time.Hour})
	require.NoError(t, verify(other))
}

func TestLimitedUsesAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k, token := issueLimited(t, w.Manager, "k", keycote.Limit{Rate: 1, Per: time.Hour})
	for range 4 {
		_, _ = w.Verify(t.Context(), token, keycote.Request{})
	}
	require.NoError(t, w.Flush(t.Context()))
	rows, err := w.store.Usage(t.Context(), keycote.UsageQuery{KeyID: k.ID, Limit: 10})
	require.NoError(t, err)
	n := map[keycote.Code]int64{}
	for _, r := range rows {
		n[r.Outcome] += r.N
		require.Equal(t, 1, r.Version)
	}
	require.Equal(t, map[keycote.Code]int64{"": 1, keycote.ErrLimited: 3}, n)
}

func TestNoLimitNoStates(t *testing.T) {
	t.Parallel()
	l := &fakeLimiter{}
	w := newWorld(t, &keycote.Options{Limiter: l})
	_, token := issueLimited(t, w.Manager, "k", keycote.Limit{})
	for range 1000 {
		g, err := w.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
		require.Empty(t, g.Limits())
	}
	require.Empty(t, keycote.Grant{}.Limits())
	require.Zero(t, l.calls.Load(), "a key without a Limit is none of its business")
}

// fakeLimiter answers as it is told.
type fakeLimiter struct {
	calls  atomic.Int64
	answer func(ctx context.Context, tenant, id string, l keycote.Limit) (time.Duration, []keycote.LimitState, error)
}

func (f *fakeLimiter) Take(ctx context.Context, tenant, id string, l keycote.Limit) (time.Duration, []keycote.LimitState, error) {
	f.calls.Add(1)
	return f.answer(ctx, tenant, id, l)
}

func TestOptionsLimiter(t *testing.T) {
	t.Parallel()
	limit := keycote.Limit{Rate: 1, Per: time.Hour, Burst: 9}
	states := []keycote.LimitState{{Policy: "rate", Limit: 1, Window: time.Hour, Remaining: 7}}
	told := []keycote.LimitState{{Policy: "rate", Limit: 1, Window: time.Hour, Burst: 9, Remaining: 7}}
	var wait time.Duration
	var asked []string
	f := &fakeLimiter{}
	f.answer = func(ctx context.Context, tenant, id string, l keycote.Limit) (time.Duration, []keycote.LimitState, error) {
		deadline, ok := ctx.Deadline()
		require.True(t, ok, "a Limiter has a time to answer in")
		require.LessOrEqual(t, time.Until(deadline), time.Second)
		require.Equal(t, limit, l)
		asked = append(asked, tenant+" "+id)
		return wait, states, nil
	}
	w := newWorld(t, &keycote.Options{Limiter: f})
	k, token := issueLimited(t, w.Tenant("acme"), "k", limit)
	for range 3 {
		g, err := w.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, told, g.Limits())
	}
	require.Equal(t, []string{"acme " + k.ID, "acme " + k.ID, "acme " + k.ID}, asked)
	wait = 90 * time.Second
	_, err := w.Verify(t.Context(), token, keycote.Request{})
	require.Equal(t, told, requireLimited(t, err, wait).Limits)
	require.Zero(t, states[0].Burst, "a Limiter's states are its own")
}

func TestALimiterThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection refused")
	for _, c := range []struct {
		name   string
		answer func(ctx context.Context) (time.Duration, error)
		cause  error
	}{
		{"an outage", func(context.Context) (time.Duration, error) { return 0, broken }, broken},
		{"one that speaks out of its depth", func(context.Context) (time.Duration, error) { return 0, keycote.ErrUnknownKey }, nil},
		{"one that refuses and fails", func(context.Context) (time.Duration, error) { return time.Hour, broken }, broken},
		{"an answer that makes no sense", func(context.Context) (time.Duration, error) { return -1, nil }, nil},
	} {
		for _, open := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				f := &fakeLimiter{}
				f.answer = func(ctx context.Context, _, _ string, _ keycote.Limit) (time.Duration, []keycote.LimitState, error) {
					wait, err := c.answer(ctx)
					return wait, []keycote.LimitState{{Policy: "rate"}}, err
				}
				w := newWorld(t, &keycote.Options{Limiter: f, LimitFailOpen: open})
				_, token := issueLimited(t, w.Manager, "k", keycote.Limit{Rate: 1, Per: time.Hour})
				g, err := w.Verify(t.Context(), token, keycote.Request{})
				if open {
					require.NoError(t, err)
					require.Empty(t, g.Limits(), "nobody knows them")
					return
				}
				require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
				require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
				require.NotErrorIs(t, err, keycote.ErrUnknownKey)
				if c.cause != nil {
					require.ErrorIs(t, err, c.cause)
				}
			})
		}
	}
}

// TestALimiterThatHangs is given up on, and the caller's own end is no failure of the Limiter's.
func TestALimiterThatHangs(t *testing.T) {
	t.Parallel()
	f := &fakeLimiter{}
	f.answer = func(ctx context.Context, _, _ string, _ keycote.Limit) (time.Duration, []keycote.LimitState, error) {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	for _, open := range []bool{false, true} {
		w := newWorld(t, &keycote.Options{Limiter: f, LimitFailOpen: open})
		_, token := issueLimited(t, w.Manager, "k", keycote.Limit{Rate: 1, Per: time.Hour})
		_, err := w.Verify(t.Context(), token, keycote.Request{})
		if open {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, heard(err), keycote.ErrUnavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = w.Verify(ctx, token, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrUnavailable, "whoever is gone is let through by nobody")
		require.ErrorIs(t, err, context.Canceled)
	}
}

// TestWhatAnOutageLetThroughIsCounted to the last use, in few lines.
func TestWhatAnOutageLetThroughIsCounted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var out bytes.Buffer
	away := true
	f := &fakeLimiter{}
	f.answer = func(context.Context, string, string, keycote.Limit) (time.Duration, []keycote.LimitState, error) {
		if away {
			return 0, nil, errors.New("away")
		}
		return 0, nil, nil
	}
	w := newWorld(t, &keycote.Options{
		Limiter: f, LimitFailOpen: true, Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(p)
		}), nil)),
	})
	k, token := issueLimited(t, w.Manager, "k", keycote.Limit{Rate: 1, Per: time.Hour})
	verify := func(n int) {
		for range n {
			_, err := w.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
		}
	}
	verify(100)
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	require.Contains(t, out.String(), "uses=1 ")
	w.clock.Advance(10 * time.Second)
	verify(20)
	require.Contains(t, out.String(), "uses=100 ")
	away = false
	w.clock.Advance(10 * time.Second)
	verify(1)
	require.Contains(t, out.String(), "uses=19 ")
	verify(50)
	require.Equal(t, 3, strings.Count(out.String(), "\n"))

	require.NoError(t, w.Flush(t.Context()))
	got, err := w.Get(t.Context(), k.ID)
	require.NoError(t, err)
	require.EqualValues(t, 171, got.Versions[0].Uses, "they are uses like others")
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
