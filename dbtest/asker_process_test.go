package dbtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// asker is a process that runs answerAsked, as the test sees it.
type asker struct {
	process *os.Process
	warmed  chan string // "<n> <code>"
	synced  chan struct{}

	mu    sync.Mutex
	in    io.Writer
	ends  map[string]*end
	open  int // ends that are not seen yet
	wrong []string
}

// end is a value's end: a revocation, or a rotation that takes the version with it.
type end struct {
	want  keycote.Code
	acked time.Duration // when the change's acknowledgement was there; 0: not yet
	seen  bool
	yes   time.Duration // when the last call began that was answered yes
}

func newAsker(t *testing.T, here place) *asker {
	t.Helper()
	cmd, err := child(context.WithoutCancel(t.Context()), "ask", here, "asker")
	require.NoError(t, err)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	f := &asker{
		process: cmd.Process, in: in, warmed: make(chan string, 1<<16), synced: make(chan struct{}, 1),
		ends: map[string]*end{},
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			f.heard(lines.Text())
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, in.Close()) // it ends by itself, as it should
		<-over
		require.NoError(t, cmd.Wait(), "%s", &errs)
		require.Empty(t, errs.String())
	})
	f.sync(t)
	return f
}

func (f *asker) say(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := fmt.Fprintf(f.in, format+"\n", args...)
	return err
}

// sync returns when all that was said has been taken in.
func (f *asker) sync(t *testing.T) {
	t.Helper()
	require.NoError(t, f.say("sync"))
	select {
	case <-f.synced:
	case <-time.After(time.Minute):
		require.Fail(t, "the asker does not answer")
	}
}

func (f *asker) heard(line string) {
	w := strings.Fields(line)
	switch {
	case len(w) == 1 && w[0] == "sync":
		f.synced <- struct{}{}
	case len(w) == 3 && w[0] == "warm":
		f.warmed <- w[1] + " " + w[2]
	case len(w) == 4 && w[0] == "no":
		f.mu.Lock()
		defer f.mu.Unlock()
		e, yes := f.ends[w[1]], int64(0)
		if e != nil {
			yes, _ = strconv.ParseInt(w[2], 10, 64)
			e.seen, e.yes = true, time.Duration(yes)
			f.open--
		}
		if e == nil || string(e.want) != w[3] {
			f.wrong = append(f.wrong, line)
		}
	default:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wrong = append(f.wrong, line)
	}
}

// expect announces that value n is going to end.
func (f *asker) expect(n string, want keycote.Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[n] = &end{want: want}
	f.open++
}

// acked notes that the end of n was acknowledged just now.
func (f *asker) acked(n string) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[n].acked = now
	return nil
}

// warm has the asker verify values once, and fails unless each answer is yes.
func (f *asker) warm(values map[string]string) error {
	f.mu.Lock()
	for n, token := range values {
		if _, err := fmt.Fprintf(f.in, "warm %s %s\n", n, token); err != nil {
			f.mu.Unlock()
			return err
		}
	}
	f.mu.Unlock()
	for range values {
		select {
		case answer := <-f.warmed:
			if !strings.HasSuffix(answer, " yes") {
				return fmt.Errorf("the asker was asked for %s", answer)
			}
		case <-time.After(time.Minute):
			return fmt.Errorf("the asker does not answer")
		}
	}
	return nil
}

// requireBound waits until all ends are seen, and returns how many there are and the longest time after an end's
// acknowledgement at which a call began that was still answered yes.
func (f *asker) requireBound(t *testing.T) (n int, longest time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.open == 0 || len(f.wrong) > 0
	}, 2*time.Minute, 10*time.Millisecond, "the asker never refuses some of what has ended")
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Empty(t, f.wrong)
	for name, e := range f.ends {
		if e.yes == 0 {
			continue
		}
		late := e.yes - e.acked
		require.LessOrEqual(t, late, maxStale, "%s was honoured past the bound", name)
		longest = max(longest, late)
	}
	return len(f.ends), longest
}
