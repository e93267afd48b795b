package keytest_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

func TestOrders(t *testing.T) {
	t.Parallel()
	testOrders(t)
}

func TestIssue(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	read, none := env.Issue("orders:read"), env.Issue()
	require.NotEqual(t, read, none)

	grant, err := env.Manager.Verify(t.Context(), read, keycote.Request{Scopes: []string{"orders:read"}})
	require.NoError(t, err)
	require.Equal(t, []string{"orders:read"}, grant.Key().Scopes)

	_, err = env.Manager.Verify(t.Context(), none, keycote.Request{Scopes: []string{"orders:read"}})
	require.ErrorIs(t, err, keycote.ErrScope)

	names := map[string]bool{}
	for key, err := range env.Manager.List(t.Context(), keycote.Filter{}) {
		require.NoError(t, err)
		require.Empty(t, key.Owner, "the host itself has issued it")
		names[key.Name] = true
	}
	require.Len(t, names, 2)
}

func TestClock(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	start := env.Clock.Now()
	require.WithinDuration(t, time.Now(), start, time.Minute)
	require.Equal(t, start, env.Clock.Now(), "the clock stands still")
	require.Equal(t, time.UTC, start.Location())

	deadline := start.Add(time.Hour)
	key, secret, err := env.Manager.Issue(t.Context(), keycote.IssueParams{Name: "for an hour", ExpiresAt: deadline})
	require.NoError(t, err)
	require.Equal(t, start, key.CreatedAt)
	require.Equal(t, deadline, key.ExpiresAt)

	for _, step := range []struct {
		name string
		by   time.Duration
		want error
	}{
		{"a microsecond before the end", time.Hour - time.Microsecond, nil},
		{"at the end", time.Microsecond, keycote.ErrExpired},
		{"put back", -time.Microsecond, nil},
	} {
		env.Clock.Advance(step.by)
		_, err := env.Manager.Verify(t.Context(), secret.Reveal(), keycote.Request{})
		require.ErrorIs(t, err, step.want, step.name)
	}
}

func TestClockIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	start := env.Clock.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				env.Clock.Advance(time.Second)
				_ = env.Clock.Now()
			}
		})
	}
	all.Wait()
	require.Equal(t, 800*time.Second, env.Clock.Now().Sub(start))
}

func TestOptionsStayTheCallers(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	strict := keycote.NewValidator(nil)
	opts := &keycote.Options{Prefix: "acme", Now: func() time.Time { return at }, Validator: strict}
	env := keytest.New(t, opts)
	require.Same(t, strict, opts.Validator)
	require.Equal(t, at, opts.Now(), "the caller's own clock")
	require.Equal(t, at, env.Clock.Now())
	require.Regexp(t, "^acme_", env.Issue())

	env.Clock.Advance(time.Hour)
	require.Equal(t, at.Add(time.Hour), env.Clock.Now())
	key, _, err := env.Manager.Issue(t.Context(), keycote.IssueParams{Name: "later"})
	require.NoError(t, err)
	require.Equal(t, at.Add(time.Hour), key.CreatedAt)

	_, err = env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "in clear", Endpoint: "http://127.0.0.1:8080", Secret: keycote.NewSecret("a-Value-of-17-chars"),
	})
	require.ErrorIs(t, err, keycote.ErrInvalid, "the caller's validator judges")

	empty := &keycote.Options{}
	keytest.New(t, empty)
	require.Nil(t, empty.Now)
	require.Nil(t, empty.Validator)
}

func TestEndpointsOfTests(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tls.Close)
	for _, endpoint := range []string{
		plain.URL, tls.URL, "http://localhost:1234", "http://[::1]:1234", "https://api.example.com",
	} {
		key, err := env.Manager.Add(t.Context(), keycote.AddParams{
			Name: endpoint, Endpoint: endpoint, Secret: keycote.NewSecret("5f4dcc3b5aa765d61d83"),
		})
		require.NoError(t, err, endpoint)
		_, secret, err := env.Manager.Use(t.Context(), key.ID, keycote.Request{Endpoint: endpoint})
		require.NoError(t, err, endpoint)
		require.Equal(t, "5f4dcc3b5aa765d61d83", secret.Reveal())
	}
	_, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "metadata", Endpoint: "http://169.254.169.254", Secret: keycote.NewSecret("5f4dcc3b5aa765d61d83"),
	})
	require.ErrorIs(t, err, keycote.ErrInvalid)
}

func TestIssueUnderAuthorize(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, &keycote.Options{Authorize: keycote.ByRole})
	_, err := env.Manager.Verify(t.Context(), env.Issue("a:b"), keycote.Request{Scopes: []string{"a:b"}})
	require.NoError(t, err)
}

// fakeT records what a test would have been told.
type fakeT struct {
	testing.TB
	failed  bool
	cleanup []func()
}

func (f *fakeT) Helper()               {}
func (f *fakeT) Errorf(string, ...any) { f.failed = true }
func (f *fakeT) Fatalf(string, ...any) { f.failed = true; panic(f) }
func (f *fakeT) Cleanup(done func())   { f.cleanup = append(f.cleanup, done) }
func (f *fakeT) fatal(call func()) (hit bool) {
	defer func() { hit = recover() == f }()
	call()
	return hit
}

func TestFailures(t *testing.T) {
	t.Parallel()
	t.Run("options that make no sense", func(t *testing.T) {
		t.Parallel()
		f := &fakeT{TB: t}
		require.True(t, f.fatal(func() { keytest.New(f, &keycote.Options{Prefix: "NO"}) }))
	})
	t.Run("a scope that is none", func(t *testing.T) {
		t.Parallel()
		f := &fakeT{TB: t}
		env := keytest.New(f, nil)
		require.True(t, f.fatal(func() { env.Issue("not a scope") }))
	})
	t.Run("a fault that there is none of", func(t *testing.T) {
		t.Parallel()
		f := &fakeT{TB: t}
		env := keytest.New(f, nil)
		require.True(t, f.fatal(func() { env.Break(nil, "sea1") }))
		require.True(t, f.fatal(func() { env.Mend("sea1") }))
	})
	t.Run("a fault of a key that is not given", func(t *testing.T) {
		t.Parallel()
		f := &fakeT{TB: t}
		env := keytest.New(f, nil)
		for _, fault := range []keytest.Fault{keytest.FaultSeal, keytest.FaultShredded} {
			require.True(t, f.fatal(func() { env.Break(nil, fault) }), fault)
			require.True(t, f.fatal(func() { env.Break(&keycote.Key{ID: "key_00000000000000000000000000"}, fault) }), fault)
		}
	})
	t.Run("a flush at the end that fails", func(t *testing.T) {
		t.Parallel()
		f := &fakeT{TB: t}
		env := keytest.New(f, nil)
		_, err := env.Manager.Get(t.Context(), "key_00000000000000000000000000")
		require.ErrorIs(t, err, keycote.ErrNotFound)
		require.NoError(t, env.Store.Commit(t.Context(), keycote.Batch{
			ID: "lost", Items: []keycote.Item{{Space: "keyring", Name: "trail", Revision: 2}},
		}))
		f.cleanup[0]()
		require.True(t, f.failed)
	})
	t.Run("the flush at the end", func(t *testing.T) {
		t.Parallel()
		f := &fakeT{TB: t}
		env := keytest.New(f, nil)
		_, err := env.Manager.Get(t.Context(), "key_00000000000000000000000000")
		require.ErrorIs(t, err, keycote.ErrNotFound)
		require.Len(t, f.cleanup, 1)
		f.cleanup[0]()
		require.False(t, f.failed, "the refused call has become an event")
		events, err := env.Store.Events(t.Context(), keycote.EventQuery{Limit: 10})
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.Equal(t, keycote.ErrNotFound, events[0].Outcome)
	})
}

// TestClockRefillsLimits: a host's test sees a limit reached, and with the clock moved what comes back.
func TestClockRefillsLimits(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	_, secret, err := env.Manager.Issue(t.Context(), keycote.IssueParams{
		Name: "limited", Limit: keycote.Limit{Rate: 1, Per: time.Minute},
	})
	require.NoError(t, err)
	verify := func() error {
		_, err := env.Manager.Verify(t.Context(), secret.Reveal(), keycote.Request{})
		return err
	}
	require.NoError(t, verify())
	require.ErrorIs(t, verify(), keycote.ErrLimited)
	env.Clock.Advance(time.Minute)
	require.NoError(t, verify())
}

// TestKEKsChangePlaces: what is kept while the KEK is a new one opens when it is the old one again, and the other way
// round; and another KEK opens nothing that was kept.
func TestKEKsChangePlaces(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	ids := map[string]string{}
	add := func(tenant string) {
		key, err := env.Manager.Tenant(tenant).Add(t.Context(), keycote.AddParams{
			Name: "dify", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("5f4dcc3b5aa765d61d83"),
		})
		require.NoError(t, err)
		ids[tenant] = key.ID
	}
	opening := func(tenant string) (found keycote.Code) {
		d, err := env.Manager.Tenant(tenant).Diagnose(t.Context(), ids[tenant])
		require.NoError(t, err)
		for _, c := range d.Checks {
			if c.Name == "open" {
				found = c.Code
			}
		}
		return found
	}
	add("before")
	env.Break(nil, keytest.FaultOldKEK)
	add("meanwhile")
	require.Equal(t, keycote.Code("opens_retired"), opening("before"))
	require.Equal(t, keycote.Code("opens"), opening("meanwhile"))
	env.Mend(keytest.FaultOldKEK)
	require.Equal(t, keycote.Code("opens"), opening("before"))
	require.Equal(t, keycote.Code("opens_retired"), opening("meanwhile"))
	env.Break(nil, keytest.FaultWrongKEK)
	require.Equal(t, keycote.Code("does_not_open"), opening("before"))
	require.Equal(t, keycote.Code("does_not_open"), opening("meanwhile"))
}
