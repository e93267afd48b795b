package dbtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keycote/keycote"
)

// maxStale is what the processes of these tests promise: more than the second between two readings of the feed, so that
// both the feed and the bound have their turn.
const maxStale = 2 * time.Second

// askedStore is a Store whose feed can be cut, and that counts what is read for one call.
type askedStore struct {
	keycote.Store
	deaf     atomic.Bool
	followed atomic.Int64 // readings of the feed
	writing  sync.Mutex
}

var errDeaf = errors.New("the feed is cut")

func (s *askedStore) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	if s.deaf.Load() {
		return nil, "", errDeaf
	}
	changes, next, err := s.Store.Changes(ctx, after)
	if s.deaf.Load() {
		return nil, "", errDeaf
	}
	s.followed.Add(1)
	return changes, next, err
}

// readsKey is of a context: the *atomic.Int64 that counts the records read for it.
type readsKey struct{}

func countRead(ctx context.Context) {
	if n, ok := ctx.Value(readsKey{}).(*atomic.Int64); ok {
		n.Add(1)
	}
}

func (s *askedStore) Lookup(ctx context.Context, digests [][]byte) (keycote.Record, error) {
	countRead(ctx)
	return s.Store.Lookup(ctx, digests)
}

func (s *askedStore) Get(ctx context.Context, tenant, id string) (keycote.Record, error) {
	countRead(ctx)
	return s.Store.Get(ctx, tenant, id)
}

func (s *askedStore) Commit(ctx context.Context, b keycote.Batch) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.Store.Commit(ctx, b)
}

// asked is a value that is shown again and again until it is refused, or a credential that is used until it is refused
// or has another value.
type asked struct {
	n, what string        // a token, or use:<id>:<value>
	yes     time.Duration // when the last call began that was answered yes; 0: none
	hits    int           // answers that were yes without a record being read
	read    time.Duration // when the last call began that was answered yes by the store
	held    time.Duration // the same, once what was read has been answered again without the store
	over    time.Duration // when the first call returned after yes that was not answered yes
}

// replaced is the answer when a credential has another value.
const replaced = "replaced"

// ask returns "yes", or why not.
func (a *asked) ask(ctx context.Context, m *keycote.Manager) (string, error) {
	var reads atomic.Int64
	ctx = context.WithValue(ctx, readsKey{}, &reads)
	began, err := monotonic()
	if err != nil {
		return "", err
	}
	answer := "yes"
	if credential, ok := strings.CutPrefix(a.what, "use:"); ok {
		var secret keycote.Secret
		id, value, _ := strings.Cut(credential, ":")
		_, secret, err = m.Use(ctx, id, keycote.Request{})
		if err == nil && secret.Reveal() != value {
			answer = replaced
		}
	} else {
		_, err = m.Verify(ctx, a.what, keycote.Request{})
	}
	if err != nil {
		answer = string(keycote.CodeOf(err))
	}
	switch {
	case answer != "yes":
		if a.over == 0 {
			a.over, err = monotonic()
			return answer, err
		}
		return answer, nil
	case reads.Load() > 0:
		a.read, a.held = began, 0
	default:
		a.hits++
		a.held = a.read
	}
	a.yes, a.over = began, 0
	return answer, nil
}

// warm asks until the store is not needed for the answer. It is a matter of two calls, unless the machine is so busy
// that the first is too old by the second.
func (a *asked) warm(ctx context.Context, m *keycote.Manager) (string, error) {
	for range 100 {
		if answer, err := a.ask(ctx, m); answer != "yes" || err != nil || a.hits > 0 {
			return answer, err
		}
	}
	return "never-cached", nil
}

// answerAsked is the main function of a child that is asked, on its input, for values:
//
//	warm <n> <what>    until the answer is cached; it says "warm <n> <answer>"
//	add <n> <what>     again and again, until it is refused. It says "hit <n>" at the first answer from the cache, and
//	                   at the end "no <n> <yes> <hits> <held> <over> <answer>", which are the fields of asked
//	feed off|on        cuts the change feed, and mends it
//	follow             returns when the feed was read twice, of which the first reading drops all that is cached
//	writes off|on      has those who commit wait, and go on
//	clock <duration>   sets its clock off
//	clock saw          steps its clock back again and again
//	clock <unix µs>    stops its clock at a moment
//	sync               it says "sync" when it has come so far
func answerAsked(ctx context.Context, store keycote.Store) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kek, err := keycote.LocalKEK(os.Getenv("KEYCOTE_DBTEST_KEK"))
	if err != nil {
		return err
	}
	watched, clock := &askedStore{Store: store}, &wrongClock{}
	m, err := keycote.New(ctx, watched, kek, &keycote.Options{MaxStale: maxStale, Now: clock.Now})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	added := make(chan *asked, 1<<16)
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		_, _ = fmt.Printf(format+"\n", args...)
	}
	running.Go(func() { askAll(ctx, m, added, say) })

	warmed := map[string]*asked{} // that were not added yet
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch f[0] {
		case "warm":
			a := &asked{n: f[1], what: f[2]}
			answer, err := a.warm(ctx, m)
			if err != nil {
				return err
			}
			warmed[a.n] = a
			say("warm %s %s", a.n, answer)
		case "add":
			a := warmed[f[1]]
			if delete(warmed, f[1]); a == nil {
				a = &asked{n: f[1], what: f[2]}
			}
			added <- a
		case "feed":
			watched.deaf.Store(f[1] == "off")
		case "follow":
			for watched.followed.Load() < 2 {
				<-time.After(time.Millisecond)
			}
		case "writes":
			if f[1] == "off" {
				watched.writing.Lock()
			} else {
				watched.writing.Unlock()
			}
		case "clock":
			if err := clock.parse(f[1]); err != nil {
				return err
			}
		case "sync":
			say("sync")
		default:
			return fmt.Errorf("what is %q?", in.Text())
		}
	}
	cancel()
	running.Wait()
	return in.Err()
}

// askAll goes round and round.
func askAll(ctx context.Context, m *keycote.Manager, added <-chan *asked, say func(string, ...any)) {
	var all []*asked
	for ctx.Err() == nil {
		for more := true; more; {
			select {
			case a := <-added:
				all = append(all, a)
			default:
				more = false
			}
		}
		kept := all[:0]
		for _, a := range all {
			hits := a.hits
			answer, err := a.ask(ctx, m)
			if err != nil {
				say("failed %v", err)
				return
			}
			if hits == 0 && a.hits > 0 {
				say("hit %s", a.n)
			}
			switch answer {
			case "yes", string(keycote.ErrUnavailable): // which is neither yes nor no
				kept = append(kept, a)
			default:
				say("no %s %d %d %d %d %s", a.n, a.yes, a.hits, a.held, a.over, answer)
			}
		}
		clear(all[len(kept):])
		all = kept
		select { // it leaves something of the processor to the others
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}
