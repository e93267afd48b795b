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

// deafStore is a Store whose feed can be cut.
type deafStore struct {
	keycote.Store
	deaf atomic.Bool
}

var errDeaf = errors.New("the feed is cut")

func (s *deafStore) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	if s.deaf.Load() {
		return nil, "", errDeaf
	}
	changes, next, err := s.Store.Changes(ctx, after)
	if s.deaf.Load() {
		return nil, "", errDeaf
	}
	return changes, next, err
}

// asked is a value that is shown again and again until it is refused.
type asked struct {
	n, token string
	yes      time.Duration // when the last call began that was answered yes; 0: none
}

// answerAsked is the main function of a child that verifies what it is asked on its input:
//
//	warm <n> <token>   once; it says "warm <n> <code>"
//	add <n> <token>    again and again, until it is refused; it says then "no <n> <last yes> <code>"
//	feed off|on        cuts the change feed, and mends it
//	clock <duration>   sets its clock off
//	sync               it says "sync" when it has come so far
func answerAsked(ctx context.Context, store keycote.Store) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kek, err := keycote.LocalKEK(os.Getenv("KEYCOTE_DBTEST_KEK"))
	if err != nil {
		return err
	}
	deaf, clock := &deafStore{Store: store}, &wrongClock{}
	m, err := keycote.New(ctx, deaf, kek, &keycote.Options{MaxStale: maxStale, Now: clock.Now})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	added := make(chan asked, 1<<16)
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		_, _ = fmt.Printf(format+"\n", args...)
	}
	running.Go(func() { askAll(ctx, m, added, say) })

	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch f[0] {
		case "warm":
			_, err := m.Verify(ctx, f[2], keycote.Request{})
			say("warm %s %s", f[1], verdict(err))
		case "add":
			added <- asked{n: f[1], token: f[2]}
		case "feed":
			deaf.deaf.Store(f[1] == "off")
		case "clock":
			by, err := time.ParseDuration(f[1])
			if err != nil {
				return err
			}
			clock.set(by)
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
func askAll(ctx context.Context, m *keycote.Manager, added <-chan asked, say func(string, ...any)) {
	var all []asked
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
			began, err := monotonic()
			if err != nil {
				say("failed %v", err)
				return
			}
			_, err = m.Verify(ctx, a.token, keycote.Request{})
			switch code := keycote.CodeOf(err); {
			case err == nil:
				a.yes = began
				kept = append(kept, a)
			case code == keycote.ErrUnavailable: // neither yes nor no
				kept = append(kept, a)
			default:
				say("no %s %d %s", a.n, a.yes, code)
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

func verdict(err error) string {
	if err == nil {
		return "yes"
	}
	return string(keycote.CodeOf(err))
}
