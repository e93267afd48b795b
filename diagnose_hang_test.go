package keycote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
	"github.com/keycote/keycote/memstore"
)

// stuck is a part of a host that hangs once on is set: until its context ends, or deaf to that, until the test does.
type stuck struct {
	on   atomic.Bool
	deaf bool
	test context.Context
}

func (s *stuck) wait(ctx context.Context) error {
	switch {
	case !s.on.Load():
		return nil
	case s.deaf:
		ctx = s.test
	}
	<-ctx.Done()
	return ctx.Err()
}

type stuckKEK struct {
	keycote.KEK
	*stuck
}

func (k stuckKEK) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	if err := k.wait(ctx); err != nil {
		return nil, err
	}
	return k.KEK.DecryptWithContext(ctx, ciphertext, ad)
}

type stuckStore struct {
	keycote.Store
	*stuck
}

func (s stuckStore) Usage(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.Usage(ctx, q)
}

// TestDiagnoseOutlastsWhatHangs: a part that hangs costs its own step, and the rest of the report is there in time,
// whether or not that part heeds its context.
func TestDiagnoseOutlastsWhatHangs(t *testing.T) {
	t.Parallel()
	well := map[string]string{
		"rules": "ok ok", "authorized rotate": "ok may", "http": "ok answered", "probe": "ok probe_ok", "open": "ok opens",
		"successes": "warning never_used",
	}
	const unchecked = "failed could_not_check"
	for _, tt := range []struct {
		name string
		set  func(o *keycote.Options, s *stuck)
		want map[string]string // besides well
	}{
		{"a Prober", func(o *keycote.Options, s *stuck) {
			o.Prober = func(ctx context.Context, _ string, _ keycote.Secret) error { return s.wait(ctx) }
		}, map[string]string{"probe": unchecked}},
		{"an Inspect", func(o *keycote.Options, s *stuck) {
			inspect := o.Inspect
			o.Inspect = func(ctx context.Context, endpoint string) []keycote.Check {
				if s.wait(ctx) != nil {
					return []keycote.Check{{Name: "name", Status: "failed", Code: "could_not_check"}}
				}
				return inspect(ctx, endpoint)
			}
		}, map[string]string{"name": unchecked, "http": ""}},
		{"a Rule", func(o *keycote.Options, s *stuck) {
			o.Validator = keycote.NewValidator(nil, func(ctx context.Context, _ *keycote.Draft) ([]keycote.Violation, error) {
				return nil, s.wait(ctx)
			})
		}, map[string]string{"rules": unchecked}},
		{"an Authorize", func(o *keycote.Options, s *stuck) {
			o.Authorize = func(ctx context.Context, _ keycote.Actor, action keycote.Action, _ *keycote.Key) error {
				if action == keycote.ActionDiagnose {
					return nil
				}
				return s.wait(ctx)
			}
		}, map[string]string{"authorized rotate": unchecked, "probe": "skipped not_checked"}},
		{"a KEK", nil, map[string]string{"open": "failed kek_unavailable", "probe": "skipped not_checked"}},
		{"a use log", nil, map[string]string{"successes": unchecked}},
	} {
		for _, deaf := range []bool{false, true} {
			name := tt.name
			if deaf {
				name += ", deaf"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := &stuck{deaf: deaf, test: t.Context()}
				opts := &keycote.Options{
					Inspect: func(context.Context, string) []keycote.Check {
						return []keycote.Check{{Name: "http", Status: "ok", Code: "answered", Params: map[string]string{"status": "200"}}}
					},
					Prober: func(context.Context, string, keycote.Secret) error { return nil },
				}
				if tt.set != nil {
					tt.set(opts, s)
				}
				kek, store := stuckKEK{newSpyKEK(t, "kms:one"), &stuck{}}, stuckStore{memstore.New(), &stuck{}}
				switch tt.name {
				case "a KEK":
					kek.stuck = s
				case "a use log":
					store.stuck = s
				}
				m, err := keycote.New(t.Context(), store, kek, opts)
				require.NoError(t, err)
				ctx := keycote.WithActor(t.Context(), keycote.Actor{ID: "admin"})
				key, err := m.Add(ctx, keycote.AddParams{
					Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue),
				})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
				defer cancel()
				s.on.Store(true)
				d, err := m.Diagnose(ctx, key.ID)
				require.NoError(t, err)
				require.NoError(t, ctx.Err(), "it was in time")
				require.Equal(t, "failed", d.Status)
				got := told(d)
				for step, want := range well {
					if other, ok := tt.want[step]; ok {
						want = other
					}
					if want == "" {
						continue
					}
					require.Equal(t, want, got[step], step)
				}
			})
		}
	}
}

// stuckReads is a Store whose Get hangs, and that counts the Batches that come after.
type stuckReads struct {
	keycote.Store
	*stuck
	commits *atomic.Int64
}

func (s stuckReads) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	if err := s.wait(ctx); err != nil {
		return keycote.Record{}, err
	}
	return s.Store.Get(ctx, tenant, id)
}

func (s stuckReads) Commit(ctx context.Context, b keycote.Batch) error {
	s.commits.Add(1)
	return s.Store.Commit(ctx, b)
}

// TestDiagnoseAsksOnce: a store that was late once is not asked for the rest, or a report would wait for each of them.
func TestDiagnoseAsksOnce(t *testing.T) {
	t.Parallel()
	store := stuckReads{memstore.New(), &stuck{test: t.Context()}, &atomic.Int64{}}
	m, err := keycote.New(t.Context(), store, newSpyKEK(t, "kms:one"), nil)
	require.NoError(t, err)
	key, _, err := m.Issue(t.Context(), keycote.IssueParams{Name: "ci"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	store.on.Store(true)
	store.commits.Store(0)
	d, err := m.Diagnose(ctx, key.ID)
	require.NoError(t, err)
	require.NoError(t, ctx.Err())
	require.Zero(t, store.commits.Load())
	got := told(d)
	for _, step := range []string{"seal", "state", "successes", "refusals"} {
		require.Equal(t, "failed could_not_check", got[step], step)
	}
}

// TestDiagnoseReturnsWhatItFound: once its event is committed a diagnosis is a report, also when ctx ends meanwhile.
func TestDiagnoseReturnsWhatItFound(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"heeding": false, "deaf": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			s := &stuck{deaf: deaf, test: t.Context()}
			env := keytest.New(t, &keycote.Options{Prober: func(ctx context.Context, _ string, _ keycote.Secret) error {
				if s.on.Load() {
					cancel()
				}
				return s.wait(ctx)
			}})
			key := diagnosed(t, env)
			s.on.Store(true)
			d, err := env.Manager.Diagnose(ctx, key.ID)
			require.NoError(t, err)
			require.Error(t, ctx.Err())
			got := told(d)
			require.Equal(t, "ok answered", got["http"])
			require.Equal(t, "ok opens", got["open"])
			for _, step := range []string{"probe", "successes", "refusals"} {
				require.Equal(t, "failed could_not_check", got[step], step)
			}
		})
	}
}

// lines is a log that several goroutines write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestDiagnoseOutlastsPanics: what a host's code panics with ends in a log line, without the value, and nowhere else.
func TestDiagnoseOutlastsPanics(t *testing.T) {
	t.Parallel()
	on := false
	log := &lines{}
	env := keytest.New(t, &keycote.Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Inspect: func(context.Context, string) []keycote.Check {
			panic(errors.New("the inspector fell over"))
		},
		Prober: func(_ context.Context, _ string, s keycote.Secret) error {
			panic("cannot send " + s.Reveal())
		},
		Validator: keycote.NewValidator(nil, func(context.Context, *keycote.Draft) ([]keycote.Violation, error) {
			if on {
				panic("a rule fell over")
			}
			return nil, nil
		}),
	})
	key, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret(diagnosedValue), SkipProbe: true,
	})
	require.NoError(t, err)
	on = true
	d, err := env.Manager.Diagnose(t.Context(), key.ID)
	require.NoError(t, err)
	got := told(d)
	for _, step := range []string{"rules", "name", "guard", "tcp", "tls", "http", "probe"} {
		require.Equal(t, "failed could_not_check", got[step], step)
	}
	require.Equal(t, "ok opens", got["open"])
	out, err := json.Marshal(d)
	require.NoError(t, err)
	for _, text := range []string{string(out), log.String()} {
		require.NotContains(t, text, diagnosedValue)
	}
	require.NotContains(t, string(out), "fell over")
	require.Contains(t, log.String(), "the inspector fell over")
	require.Contains(t, log.String(), "a rule fell over")
	require.Contains(t, log.String(), "panicked")
}
