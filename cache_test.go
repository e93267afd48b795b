package keycote_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// lookupGate is a Store whose lookups can be counted, failed and held.
type lookupGate struct {
	keycote.Store
	lookups atomic.Int64
	away    atomic.Bool
	hold    atomic.Pointer[chan struct{}] // an answer waits for it
	held    chan struct{}                 // tells that one waits
}

func (g *lookupGate) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	g.lookups.Add(1)
	if g.away.Load() {
		return keycote.Record{}, context.DeadlineExceeded
	}
	r, err := g.Store.Lookup(ctx, digests)
	if wait := g.hold.Load(); wait != nil {
		g.held <- struct{}{}
		<-*wait
	}
	return r, err
}

const stale = 10 * time.Second

func cached(t *testing.T) (*keycote.Manager, *lookupGate, *handClock) {
	t.Helper()
	w := newWorld(t, nil)
	g := &lookupGate{Store: w.store, held: make(chan struct{}, 64)}
	m, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{Now: w.clock.Now, MaxStale: stale})
	require.NoError(t, err)
	return m, g, w.clock
}

func issueCached(t *testing.T, m *keycote.Manager, name string) (*keycote.Key, string) {
	t.Helper()
	k, s, err := m.Issue(t.Context(), keycote.IssueParams{Name: name, Scopes: []string{"a:read"}})
	require.NoError(t, err)
	return k, s.Reveal()
}

func TestCacheAnswersForLessThanMaxStale(t *testing.T) {
	t.Parallel()
	m, g, clock := cached(t)
	_, token := issueCached(t, m, "k")
	verify := func() error { _, err := m.Verify(t.Context(), token, keycote.Request{}); return err }
	require.NoError(t, verify())
	require.NoError(t, verify())
	require.EqualValues(t, 1, g.lookups.Load())
	clock.Advance(stale - time.Second)
	require.NoError(t, verify())
	require.EqualValues(t, 1, g.lookups.Load(), "within the bound")
	clock.Advance(time.Second)
	require.NoError(t, verify())
	require.EqualValues(t, 2, g.lookups.Load(), "at the bound the store is read")

	g.away.Store(true)
	require.NoError(t, verify(), "the database is away, the answer still good")
	clock.Advance(stale)
	err := verify()
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
	g.away.Store(false)
	require.NoError(t, verify(), "back without a restart")
}

func TestCacheHonoursAChangeOnTheNextCall(t *testing.T) {
	t.Parallel()
	m, _, _ := cached(t)
	for _, tt := range []struct {
		name   string
		change func(id string) error
		want   keycote.Code
	}{
		{"revoke", func(id string) error { _, err := m.Revoke(t.Context(), id, ""); return err }, keycote.ErrRevoked},
		{"disable", func(id string) error { _, err := m.Disable(t.Context(), id, ""); return err }, keycote.ErrDisabled},
		{"delete", func(id string) error { return m.Delete(t.Context(), id, "") }, keycote.ErrUnknownKey},
		{"rotate", func(id string) error {
			_, _, err := m.Rotate(t.Context(), id, keycote.RotateParams{})
			return err
		}, keycote.ErrExpired},
		{"update", func(id string) error {
			_, err := m.Update(t.Context(), id, keycote.Patch{Scopes: new([]string)})
			return err
		}, keycote.ErrScope},
	} {
		k, token := issueCached(t, m, tt.name)
		r := keycote.Request{Scopes: []string{"a:read"}}
		_, err := m.Verify(t.Context(), token, r)
		require.NoError(t, err, tt.name)
		require.NoError(t, tt.change(k.ID), tt.name)
		_, err = m.Verify(t.Context(), token, r)
		require.ErrorIs(t, err, tt.want, tt.name)
	}
}

// Dify dropped its cache before the database committed: a fill begun before the change revived a revoked key.
func TestCacheDoesNotPublishAFillBegunBeforeAChange(t *testing.T) {
	t.Parallel()
	m, g, _ := cached(t)
	k, token := issueCached(t, m, "k")
	release := make(chan struct{})
	g.hold.Store(&release)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := m.Verify(context.WithoutCancel(t.Context()), token, keycote.Request{})
		if err != nil { // it asked before the change, and may have looked twice
			require.ErrorIs(t, err, keycote.ErrRevoked)
		}
	})
	<-g.held
	g.hold.Store(nil)
	_, err := m.Revoke(t.Context(), k.ID, "stolen")
	require.NoError(t, err)
	_, err = m.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrRevoked, "it asked after the change, and must not join the read from before it")
	close(release)
	wg.Wait()
	_, err = m.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrRevoked)
}

// Without a length before the tenant, "acme" ‖ "x…" and "acmex" ‖ "…" would be one entry.
func TestCacheKeepsViewsApart(t *testing.T) {
	t.Parallel()
	m, _, _ := cached(t)
	a, b := m.Tenant("acme"), m.Tenant("acmex")
	const value = "Xr4!uLongChosenValue-91"
	_, _, err := b.Issue(t.Context(), keycote.IssueParams{Name: "k", Secret: keycote.NewSecret(value)})
	require.NoError(t, err)
	_, err = b.Verify(t.Context(), value, keycote.Request{})
	require.NoError(t, err)
	for name, view := range map[string]*keycote.Manager{"joined": a, "unbound": m} {
		for _, v := range []string{value, "x" + value} {
			_, err = view.Verify(t.Context(), v, keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrUnknownKey, name)
		}
	}
}

func TestCacheJudgesDeadlinesAtUse(t *testing.T) {
	t.Parallel()
	m, g, clock := cached(t)
	k, s, err := m.Issue(t.Context(), keycote.IssueParams{Name: "k", ExpiresAt: clock.Now().Add(3 * time.Second)})
	require.NoError(t, err)
	_, err = m.Verify(t.Context(), s.Reveal(), keycote.Request{})
	require.NoError(t, err)
	clock.Advance(k.ExpiresAt.Sub(clock.Now()) - time.Microsecond)
	_, err = m.Verify(t.Context(), s.Reveal(), keycote.Request{})
	require.NoError(t, err)
	clock.Advance(time.Microsecond)
	_, err = m.Verify(t.Context(), s.Reveal(), keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrExpired)
	require.EqualValues(t, 1, g.lookups.Load())
}

func TestCacheRemembersMissesOfIssuedFormOnly(t *testing.T) {
	t.Parallel()
	m, g, _ := cached(t)
	k, token := issueCached(t, m, "k")
	require.NoError(t, m.Delete(t.Context(), k.ID, ""))
	for range 3 {
		_, err := m.Verify(t.Context(), token, keycote.Request{})
		require.ErrorIs(t, err, keycote.ErrUnknownKey)
	}
	require.EqualValues(t, 1, g.lookups.Load())
	for range 3 {
		_, err := m.Verify(t.Context(), "some-value-of-a-person", keycote.Request{})
		require.ErrorIs(t, err, keycote.ErrUnknownKey)
	}
	require.EqualValues(t, 4, g.lookups.Load(), "such a key may come into being")
}

func TestCacheDropsEverythingWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	m, g, clock := cached(t)
	_, token := issueCached(t, m, "k")
	verify := func() { _, err := m.Verify(t.Context(), token, keycote.Request{}); require.NoError(t, err) }
	verify()
	clock.Advance(-time.Hour)
	verify()
	require.EqualValues(t, 2, g.lookups.Load())
	clock.Advance(time.Hour + time.Second)
	verify()
	require.EqualValues(t, 3, g.lookups.Load(), "an hour has passed by this clock")
}

func TestCacheReadsOnceForMany(t *testing.T) {
	t.Parallel()
	m, g, _ := cached(t)
	_, token := issueCached(t, m, "k")
	release := make(chan struct{})
	g.hold.Store(&release)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 32 {
		wg.Go(func() {
			if _, err := m.Verify(context.WithoutCancel(t.Context()), token, keycote.Request{}); err != nil {
				failed.Add(1)
			}
		})
	}
	<-g.held
	close(release)
	wg.Wait()
	require.Zero(t, failed.Load())
	require.LessOrEqual(t, g.lookups.Load(), int64(2), "a second one only for who came after the first had landed")
}

func TestUseLeasesACredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	m := w.another(&keycote.Options{MaxStale: stale})
	k, err := m.Add(t.Context(), keycote.AddParams{
		Name: "k", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("Some-long-Value-of-theirs-1"),
	})
	require.NoError(t, err)
	use := func() (string, error) {
		_, s, err := m.Use(t.Context(), k.ID, keycote.Request{Endpoint: "https://api.example.com/v1"})
		return s.Reveal(), err
	}
	reads := func() int { return w.store.readsOf("get") + w.store.readsOf("items") }
	for range 2 { // the second time nothing has changed since
		_, err = use()
		require.NoError(t, err)
	}
	before := reads()
	value, err := use()
	require.NoError(t, err)
	require.Equal(t, "Some-long-Value-of-theirs-1", value)
	require.Equal(t, before, reads(), "within MaxStale it needs no store")

	_, _, err = m.Rotate(t.Context(), k.ID, keycote.RotateParams{Secret: keycote.NewSecret("The-next-Value-of-theirs-2")})
	require.NoError(t, err)
	value, err = use()
	require.NoError(t, err)
	require.Equal(t, "The-next-Value-of-theirs-2", value, "a change made here is honoured on the next call")

	w.clock.Advance(stale)
	before = reads()
	_, err = use()
	require.NoError(t, err)
	require.Greater(t, reads(), before, "at the bound it is read again")
	_, err = m.Revoke(t.Context(), k.ID, "")
	require.NoError(t, err)
	_, err = use()
	require.ErrorIs(t, err, keycote.ErrRevoked)
}

// What another process revokes is known here when the feed names it, or else within MaxStale.
func TestCacheFollowsAnotherProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	keys := map[string]string{}
	for _, name := range []string{"hot", "idle", "kept"} {
		k, token := issueCached(t, w.Manager, name)
		keys[name], keys[name+".id"] = token, k.ID
		_, err := here.Verify(t.Context(), token, keycote.Request{})
		require.NoError(t, err)
	}
	position := here.Follow(t.Context(), "")
	for _, name := range []string{"hot", "idle", "kept"} { // what was read before the position is not vouched for
		_, err := here.Verify(t.Context(), keys[name], keycote.Request{})
		require.NoError(t, err)
	}
	_, err := w.Revoke(t.Context(), keys["idle.id"], "")
	require.NoError(t, err)
	_, err = here.Verify(t.Context(), keys["idle"], keycote.Request{})
	require.NoError(t, err, "nobody has told us yet")
	position = here.Follow(t.Context(), position)
	_, err = here.Verify(t.Context(), keys["idle"], keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrRevoked)

	lookups := w.store.readsOf("lookup")
	for range 5 { // a feed that is read keeps the others good, long past MaxStale
		w.clock.Advance(stale - time.Second)
		position = here.Follow(t.Context(), position)
		_, err = here.Verify(t.Context(), keys["kept"], keycote.Request{})
		require.NoError(t, err)
	}
	require.Equal(t, lookups, w.store.readsOf("lookup"))

	_, err = w.Revoke(t.Context(), keys["hot.id"], "")
	require.NoError(t, err)
	w.clock.Advance(stale) // the feed is cut
	_, err = here.Verify(t.Context(), keys["hot"], keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrRevoked)
}

// Values that anybody can make up wait for each other, and for no issued key.
func TestJunkDoesNotStarveIssuedKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := &lookupGate{Store: w.store, held: make(chan struct{}, 1024)}
	m, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{Now: w.clock.Now})
	require.NoError(t, err)
	_, token := issueCached(t, m, "k")
	release := make(chan struct{})
	g.hold.Store(&release)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := m.Verify(ctx, fmt.Sprintf("made-up-by-somebody-%d", i), keycote.Request{})
			if err == nil {
				t.Error("verified")
			}
		})
	}
	<-g.held // the store is slow: these are in their lane, or wait for it
	before := g.lookups.Load()
	require.LessOrEqual(t, before, int64(32))
	g.hold.Store(nil)
	_, err = m.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	cancel()
	close(release)
	wg.Wait()
}

// A chosen value may pass from one key to another, and what is known of it must go with the one that has it.
func TestCacheEvictsAValueThatHasPassedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	const value = "Xr4!uLongChosenValue-91"
	verify := func() error { _, err := here.Verify(t.Context(), value, keycote.Request{}); return err }
	choose := func(name string) *keycote.Key {
		k, _, err := w.Issue(t.Context(), keycote.IssueParams{Name: name, Secret: keycote.NewSecret(value)})
		require.NoError(t, err)
		return k
	}
	first := choose("first")
	require.NoError(t, verify())
	require.NoError(t, w.Delete(t.Context(), first.ID, ""))
	second := choose("second")
	w.clock.Advance(stale)
	require.NoError(t, verify())
	_, err := here.Revoke(t.Context(), second.ID, "")
	require.NoError(t, err)
	require.ErrorIs(t, verify(), keycote.ErrRevoked)
}

// An older copy of a row that is put back is noticed by a process that has seen the newer one.
func TestCacheNoticesAnOlderRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	k, token := issueCached(t, w.Manager, "k")
	older := w.raw(k.ID)
	_, err := w.Disable(t.Context(), k.ID, "")
	require.NoError(t, err)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrDisabled)
	now := w.raw(k.ID)
	for _, b := range []keycote.Batch{
		{ID: "away", Delete: []keycote.RecordRef{{ID: k.ID, Revision: now.Revision}}},
		{ID: "back", Insert: []keycote.Record{older}},
	} {
		require.NoError(t, w.store.Store.Commit(t.Context(), b))
	}
	w.clock.Advance(stale)
	_, err = here.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrTampered)
	require.ErrorIs(t, err, keycote.ErrUnauthenticated)
}

// A key that is used again from one place is counted without a look-up; from another place, in another window or after a
// flush it has another row, and the sum is exact all the same.
func TestCachedUsesAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	m := w.another(&keycote.Options{MaxStale: time.Hour})
	k, token := issueCached(t, m, "k")
	places := []keycote.Request{
		{Route: "GET /a", UserAgent: "x"}, {Route: "GET /b", UserAgent: "x"}, {Route: "GET /a", UserAgent: strings.Repeat("y", 4096)},
	}
	const rounds, each = 4, 8
	for range rounds {
		var wg sync.WaitGroup
		for _, r := range places {
			for range each {
				wg.Go(func() { _, err := m.Verify(context.WithoutCancel(t.Context()), token, r); require.NoError(t, err) })
			}
		}
		wg.Wait()
		require.NoError(t, m.Flush(t.Context()))
		w.clock.Advance(20 * time.Second)
	}
	got, err := m.Get(t.Context(), k.ID)
	require.NoError(t, err)
	require.EqualValues(t, rounds*each*len(places), got.Versions[0].Uses)
	rows, err := w.store.Usage(t.Context(), keycote.UsageQuery{KeyID: k.ID, Limit: 1000})
	require.NoError(t, err)
	for _, u := range rows {
		require.LessOrEqual(t, len(u.Agent), 128)
	}
}

// The same for a credential on lease: its older value must not be used again.
func TestUseNoticesAnOlderRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	here := w.another(&keycote.Options{MaxStale: stale})
	k, err := w.Add(t.Context(), keycote.AddParams{
		Name: "k", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("Some-long-Value-of-theirs-1"),
	})
	require.NoError(t, err)
	older := w.raw(k.ID)
	_, _, err = w.Rotate(t.Context(), k.ID, keycote.RotateParams{Secret: keycote.NewSecret("The-next-Value-of-theirs-2")})
	require.NoError(t, err)
	_, _, err = here.Use(t.Context(), k.ID, keycote.Request{})
	require.NoError(t, err)
	for _, b := range []keycote.Batch{
		{ID: "away", Delete: []keycote.RecordRef{{ID: k.ID, Revision: w.raw(k.ID).Revision}}},
		{ID: "back", Insert: []keycote.Record{older}},
	} {
		require.NoError(t, w.store.Store.Commit(t.Context(), b))
	}
	w.clock.Advance(stale)
	_, secret, err := here.Use(t.Context(), k.ID, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrTampered)
	require.True(t, secret.IsZero())
}
