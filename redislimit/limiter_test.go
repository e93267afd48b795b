package redislimit

import (
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/internal/limittest"
	"github.com/keycote/keycote/memstore"
)

// fresh is a Limiter with a prefix of its own, whose keys are removed at the end of the test.
func fresh(t *testing.T, s *server) *Limiter {
	t.Helper()
	client := s.client()
	l, err := New(client, "keycote:test:"+rand.Text()+":")
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, name := range names(t, l) {
			require.NoError(t, client.Del(context.Background(), name).Err())
		}
		require.NoError(t, client.Close())
	})
	return l
}

// names are the Redis keys that l has made.
func names(t *testing.T, l *Limiter) (list []string) {
	t.Helper()
	ctx := context.Background()
	keys := l.client.Scan(ctx, 0, l.prefix+"*", 1000).Iterator()
	for keys.Next(ctx) {
		list = append(list, keys.Val())
	}
	require.NoError(t, keys.Err())
	return list
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	s, ok := need(t, "the semantics of a Limiter")
	if !ok {
		return
	}
	limittest.Run(t, func(t *testing.T, now func() time.Time) keycote.Limiter {
		l := fresh(t, s)
		l.now = now
		return l
	})
}

// TestServerClock: without a clock of the test's the server's own counts, and what is kept goes by itself.
func TestServerClock(t *testing.T) {
	t.Parallel()
	s, ok := need(t, "the server's clock")
	if !ok {
		return
	}
	l := fresh(t, s)
	ctx := t.Context()
	limit := keycote.Limit{Rate: 10, Per: time.Second, Burst: 1}
	wait, _, err := l.Take(ctx, "acme", "key_1", limit)
	require.NoError(t, err)
	require.Zero(t, wait)
	list := names(t, l)
	require.Len(t, list, 1)
	require.NotContains(t, list[0], "acme", "a tenant's name is not shown")
	require.Contains(t, list[0], "key_1")
	ttl, err := l.client.PTTL(ctx, list[0]).Result()
	require.NoError(t, err)
	require.LessOrEqual(t, ttl, 102*time.Millisecond)

	server, err := l.client.Time(ctx).Result()
	require.NoError(t, err)
	long := keycote.Limit{Rate: 1, Per: time.Hour, Quota: 9, Period: 48 * time.Hour}
	wait, _, err = l.Take(ctx, "acme", "key_2", long)
	require.NoError(t, err)
	require.Zero(t, wait)
	kept, err := l.client.Get(ctx, l.name("acme", "key_2")).Result()
	require.NoError(t, err)
	at, err := strconv.ParseInt(strings.Fields(kept)[1], 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, server, time.UnixMicro(at), 10*time.Second)
	ttl, err = l.client.PTTL(ctx, l.name("acme", "key_2")).Result()
	require.NoError(t, err)
	require.Greater(t, ttl, 47*time.Hour)
	require.LessOrEqual(t, ttl, 48*time.Hour+2*time.Millisecond)
	wait, _, err = l.Take(ctx, "acme", "key_2", long)
	require.NoError(t, err)
	require.InDelta(t, float64(time.Hour), float64(wait), float64(10*time.Second))

	require.Eventually(t, func() bool { return len(names(t, l)) == 1 }, 10*time.Second, 20*time.Millisecond)
}

// TestStateOfALaterVersion is not guessed at: nothing is allowed by it.
func TestStateOfALaterVersion(t *testing.T) {
	t.Parallel()
	s, ok := need(t, "states that it does not know")
	if !ok {
		return
	}
	l := fresh(t, s)
	ctx := t.Context()
	for _, kept := range []string{"2 1 1 1 1 1 1 1 1", "1 1 1", "", "1 a b c d e f g h", "1 1 1 1 1 1 1 1 1 1"} {
		require.NoError(t, l.client.Set(ctx, l.name("", "key_1"), kept, time.Minute).Err())
		_, _, err := l.Take(ctx, "", "key_1", keycote.Limit{Rate: 1, Per: time.Second})
		require.ErrorContains(t, err, "not one that this version reads", "%q", kept)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := New(nil, "")
	require.Error(t, err)
	for _, c := range []struct {
		name string
		make func(enabled bool) redis.UniversalClient
	}{
		{"a client", func(on bool) redis.UniversalClient {
			return redis.NewClient(&redis.Options{ContextTimeoutEnabled: on})
		}},
		{"a cluster's client", func(on bool) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: on})
		}},
		{"a ring", func(on bool) redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, ContextTimeoutEnabled: on})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, on := range []bool{false, true} {
				client := c.make(on)
				l, err := New(client, "")
				require.NoError(t, client.Close())
				if !on {
					require.ErrorContains(t, err, "ContextTimeoutEnabled")
					continue
				}
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(l.name("acme", "key_1"), "keycote:limit:key_1:"))
			}
		})
	}
}

// manager is one process: a Manager of its own on a store that it shares.
func manager(t *testing.T, store keycote.Store, kek keycote.KEK, l keycote.Limiter, open bool) *keycote.Manager {
	t.Helper()
	m, err := keycote.New(t.Context(), store, kek, &keycote.Options{Limiter: l, LimitFailOpen: open, MaxStale: time.Hour})
	require.NoError(t, err)
	return m
}

func newKEK(t *testing.T) keycote.KEK {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	primitive, err := aead.New(handle)
	require.NoError(t, err)
	return keycote.NewKEK("test", primitive)
}

// TestManagersShare: two processes together allow what one would.
func TestManagersShare(t *testing.T) {
	t.Parallel()
	s, ok := need(t, "two Managers on one limit")
	if !ok {
		return
	}
	l := fresh(t, s)
	other := s.client()
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	second, err := New(other, l.prefix)
	require.NoError(t, err)
	store, kek := memstore.New(), newKEK(t)
	one, two := manager(t, store, kek, l, false), manager(t, store, kek, second, false)
	_, secret, err := one.Tenant("acme").Issue(t.Context(), keycote.IssueParams{
		Name: "k", Limit: keycote.Limit{Rate: 1, Per: time.Hour, Burst: 60, Quota: 50, Period: time.Hour},
	})
	require.NoError(t, err)
	var allowed, refused atomic.Int64
	var group sync.WaitGroup
	for _, m := range []*keycote.Manager{one, two, one, two} {
		group.Go(func() {
			for range 40 {
				switch _, err := m.Verify(t.Context(), secret.Reveal(), keycote.Request{}); keycote.CodeOf(err) {
				case "":
					allowed.Add(1)
				case keycote.ErrLimited:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 50, allowed.Load())
	require.EqualValues(t, 110, refused.Load())
}

// TestRedisAway: gone, hanging and back, for a Manager that then refuses and for one that lets through.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	s, ok := need(t, "an outage, closed and open")
	if !ok {
		return
	}
	p := newProxy(t, s)
	behind := redis.NewClient(&redis.Options{Addr: p.address, ContextTimeoutEnabled: true, MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { require.NoError(t, behind.Close()) })
	l, err := New(behind, fresh(t, s).prefix)
	require.NoError(t, err)
	store, kek := memstore.New(), newKEK(t)
	closed, open := manager(t, store, kek, l, false), manager(t, store, kek, l, true)
	_, secret, err := closed.Issue(t.Context(), keycote.IssueParams{
		Name: "k", Limit: keycote.Limit{Quota: 2, Period: time.Hour},
	})
	require.NoError(t, err)
	verify := func(m *keycote.Manager) error {
		_, err := m.Verify(t.Context(), secret.Reveal(), keycote.Request{})
		return err
	}
	require.NoError(t, verify(closed))
	for _, state := range []string{"dead", "hung"} {
		p.set(state)
		began := time.Now()
		err := verify(closed)
		require.ErrorIs(t, err, keycote.ErrUnavailable, state)
		require.NotErrorIs(t, err, keycote.ErrLimited)
		require.NoError(t, verify(open), state)
		require.Less(t, time.Since(began), 10*time.Second, "%s: each has a second", state)
	}
	p.set("")
	require.Eventually(t, func() bool { return verify(closed) == nil }, 10*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, verify(closed), keycote.ErrLimited, "what was used before the outage counts after it")
	require.ErrorIs(t, verify(open), keycote.ErrLimited)
}

// BenchmarkTake is one use beside the shortest question that the server answers.
func BenchmarkTake(b *testing.B) {
	if found == nil {
		b.Fatal("there is no Redis")
	}
	client := found.client()
	defer func() { _ = client.Close() }()
	l, err := New(client, "keycote:test:"+rand.Text()+":")
	require.NoError(b, err)
	defer client.Del(context.Background(), l.name("", "key_1"))
	b.Run("ping", func(b *testing.B) {
		for b.Loop() {
			if err := client.Ping(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("take", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := l.Take(b.Context(), "", "key_1", keycote.Limit{Rate: 1e9, Per: time.Second}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
