package storetest

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// broken is memstore with one promise broken: what is set stands in for a method.
type broken struct {
	*memstore.Store
	commit  func(ctx context.Context, b keycote.Batch) error
	get     func(ctx context.Context, tenant, id string) (keycote.Record, error)
	lookup  func(ctx context.Context, digests [][]byte) (keycote.Record, error)
	list    func(ctx context.Context, q keycote.Query) ([]keycote.Record, error)
	items   func(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error)
	events  func(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error)
	usage   func(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error)
	changes func(ctx context.Context, after string) ([]keycote.Change, string, error)
}

func (b *broken) Commit(ctx context.Context, batch keycote.Batch) error {
	if b.commit != nil {
		return b.commit(ctx, batch)
	}
	return b.Store.Commit(ctx, batch)
}

func (b *broken) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	if b.get != nil {
		return b.get(ctx, tenant, id)
	}
	return b.Store.Get(ctx, tenant, id)
}

func (b *broken) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	if b.lookup != nil {
		return b.lookup(ctx, digests)
	}
	return b.Store.Lookup(ctx, digests)
}

func (b *broken) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	if b.list != nil {
		return b.list(ctx, q)
	}
	return b.Store.List(ctx, q)
}

func (b *broken) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	if b.items != nil {
		return b.items(ctx, q)
	}
	return b.Store.Items(ctx, q)
}

func (b *broken) Events(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
	if b.events != nil {
		return b.events(ctx, q)
	}
	return b.Store.Events(ctx, q)
}

func (b *broken) Usage(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
	if b.usage != nil {
		return b.usage(ctx, q)
	}
	return b.Store.Usage(ctx, q)
}

func (b *broken) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	if b.changes != nil {
		return b.changes(ctx, after)
	}
	return b.Store.Changes(ctx, after)
}

// breakage says how s comes to break its promise, and which cases must notice.
type breakage struct {
	name  string
	cases []string
	do    func(s *broken)
}

func breakages() []breakage {
	return slices.Concat(brokenCommits, brokenText, brokenReads, brokenLogs, brokenFeeds, brokenRaces)
}

func TestBrokenStoresFail(t *testing.T) {
	t.Parallel()
	for _, b := range breakages() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, b.cases)
			for _, name := range b.cases {
				i := slices.IndexFunc(cases, func(c testCase) bool { return c.name == name })
				require.GreaterOrEqual(t, i, 0, "no case %s", name)
				s := &broken{Store: memstore.New()}
				b.do(s)
				verdict := watch(t, cases[i], s)
				require.Empty(t, verdict.panicked, "a case must fail, not panic: it would take the other cases with it")
				require.True(t, verdict.failed, "%s has not noticed", name)
			}
		})
	}
}

// TestEveryCaseCanFail holds the suite to have no case that passes whatever a Store does, and the watch itself to let a
// right Store pass.
func TestEveryCaseCanFail(t *testing.T) {
	t.Parallel()
	noticed := map[string]bool{}
	for _, b := range breakages() {
		for _, name := range b.cases {
			noticed[name] = true
		}
	}
	seen := map[string]bool{}
	for _, c := range cases {
		require.True(t, noticed[c.name], "no broken store fails %s", c.name)
		require.False(t, seen[c.name], "two cases are called %s", c.name)
		seen[c.name] = true
		verdict := watch(t, c, &broken{Store: memstore.New()})
		require.Empty(t, verdict.panicked, c.name)
		require.False(t, verdict.failed, "%s: %s", c.name, verdict.log.String())
	}
}

// recorder is a testing.TB that a case can fail without failing the test that watches it.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	panicked string
	log      strings.Builder
	cleanups []func()
}

// watch runs a case as testing would, on a goroutine of its own that FailNow can end.
func watch(t *testing.T, c testCase, s keycote.Store) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	var done sync.WaitGroup
	done.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				r.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		c.run(r, s)
	})
	done.Wait()
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
	return r
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.WriteString(text + "\n")
}

func (r *recorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Errorf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...))
	r.Fail()
}

func (r *recorder) Error(args ...any) {
	r.note(fmt.Sprint(args...))
	r.Fail()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	r.FailNow()
}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	r.FailNow()
}

func (r *recorder) Logf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
