package dbtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asker is a process that runs answerAsked, as the test sees it.
type asker struct {
	here   place
	warmed chan string // "<n> <answer>"
	synced chan struct{}
	cmd    *exec.Cmd
	errs   *bytes.Buffer
	over   chan struct{} // it has said all that it has to say

	mu    sync.Mutex
	in    io.WriteCloser
	ends  map[string]*end
	open  int // ends that are not seen yet
	wrong []string
}

// end is a value's end: a revocation, or a change that takes the value with it.
type end struct {
	way   int
	want  string
	acked time.Duration // when the change's acknowledgement was there; 0: not yet
	hit   bool          // it was answered from the cache
	seen  bool
	asked
}

func newAsker(t *testing.T, here place) *asker {
	t.Helper()
	f := &asker{
		here: here, warmed: make(chan string, 1<<16), synced: make(chan struct{}, 1), ends: map[string]*end{},
	}
	f.start(t)
	t.Cleanup(func() {
		require.NoError(t, f.in.Close()) // it ends by itself, as it should
		<-f.over
		require.NoError(t, f.cmd.Wait(), "%s", f.errs)
		require.Empty(t, f.errs.String())
	})
	return f
}

func (f *asker) start(t *testing.T) {
	t.Helper()
	cmd, err := child(context.WithoutCancel(t.Context()), "ask", f.here, "asker")
	require.NoError(t, err)
	f.cmd, f.errs, f.over = cmd, &bytes.Buffer{}, make(chan struct{})
	cmd.Stderr = f.errs
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	f.mu.Lock()
	f.in = in
	f.mu.Unlock()
	go func() {
		defer close(f.over)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			f.heard(lines.Text())
		}
	}()
	f.tell(t, "feed on")
}

// restart kills the process, and has another one take its place.
func (f *asker) restart(t *testing.T, between func()) {
	t.Helper()
	require.NoError(t, f.cmd.Process.Kill())
	<-f.over
	require.Error(t, f.cmd.Wait(), "killed")
	require.Empty(t, f.errs.String())
	between()
	f.start(t)
}

func (f *asker) say(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := fmt.Fprintf(f.in, format+"\n", args...)
	return err
}

// tellNow says something, and returns when it has been done.
func (f *asker) tellNow(format string, args ...any) error {
	if err := f.say(format+"\nsync", args...); err != nil {
		return err
	}
	select {
	case <-f.synced:
		return nil
	case <-time.After(time.Minute):
		return errors.New("the asker does not answer")
	}
}

func (f *asker) tell(t *testing.T, format string, args ...any) {
	t.Helper()
	require.NoError(t, f.tellNow(format, args...))
}

func (f *asker) heard(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := strings.Fields(line)
	switch {
	case len(w) == 1 && w[0] == "sync":
		f.synced <- struct{}{}
		return
	case len(w) == 3 && w[0] == "warm":
		f.warmed <- w[1] + " " + w[2]
		return
	case len(w) == 2 && w[0] == "hit" && f.ends[w[1]] != nil:
		f.ends[w[1]].hit = true
		return
	case len(w) == 7 && w[0] == "no" && f.ends[w[1]] != nil:
		e := f.ends[w[1]]
		_, err := fmt.Sscan(strings.Join(w[2:6], " "), &e.yes, &e.hits, &e.held, &e.over)
		e.seen = true
		if f.open--; err == nil && e.want == w[6] {
			return
		}
	}
	f.wrong = append(f.wrong, line)
}

// expect announces that value n is going to end.
func (f *asker) expect(n string, way int, want string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[n] = &end{way: way, want: want}
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

// warm has the asker ask for values, in turn, until they are cached, and fails unless each answer is yes.
func (f *asker) warm(values [][2]string) error {
	f.mu.Lock()
	for _, v := range values {
		if _, err := fmt.Fprintf(f.in, "warm %s %s\n", v[0], v[1]); err != nil {
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
			return errors.New("the asker does not answer")
		}
	}
	return nil
}

// waitHit returns when value n, which was added, has been answered from the cache.
func (f *asker) waitHit(n string) error {
	for range 60_000 {
		f.mu.Lock()
		e := *f.ends[n]
		f.mu.Unlock()
		switch {
		case e.hit:
			return nil
		case e.seen:
			return fmt.Errorf("%s was refused before it ended", n)
		}
		later(time.Millisecond)
	}
	return fmt.Errorf("%s is never answered from the cache", n)
}

// honoured is what became of all values that have ended, by the way in which they did.
type honoured struct {
	n       int           // values
	longest time.Duration // after an end's acknowledgement until a call began that was still answered yes
	hits    [ways]int     // values that were ever answered from the cache
	late    [ways]int     // values that were still answered yes by a call that began after the acknowledgement
}

func (o honoured) String() string {
	var late []string
	for way, n := range o.late {
		late = append(late, fmt.Sprintf("%s %d", wayNames[way], n))
	}
	return fmt.Sprintf("one for %v (MaxStale %v), and after its end of %d values: %s",
		o.longest.Round(time.Millisecond), maxStale, o.n, strings.Join(late, ", "))
}

// missing names the ways in which no value was still honoured.
func (o honoured) missing(but []int) (names []string) {
	for way, n := range o.late {
		if n == 0 && !slices.Contains(but, way) {
			names = append(names, wayNames[way])
		}
	}
	return names
}

func (o honoured) requireHits(t *testing.T) {
	t.Helper()
	for way, n := range o.hits {
		require.Positive(t, n, "%s: none was answered from the cache", wayNames[way])
	}
}

// begin forgets what has ended: the next honoured is of what comes.
func (f *asker) begin(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Zero(t, f.open)
	clear(f.ends)
}

// requireSeen waits until each end is seen.
func (f *asker) requireSeen(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.open == 0 || len(f.wrong) > 0
	}, 2*time.Minute, 10*time.Millisecond, "the asker never refuses some of what has ended")
}

// requireBound waits until all ends are seen, and holds each against the bound.
func (f *asker) requireBound(t *testing.T) (o honoured) {
	t.Helper()
	f.requireSeen(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Empty(t, f.wrong)
	o.n = len(f.ends)
	for name, e := range f.ends {
		if e.hits > 0 {
			o.hits[e.way]++
		}
		if e.yes <= e.acked {
			continue
		}
		late := e.yes - e.acked
		require.LessOrEqual(t, late, maxStale, "%s was honoured past the bound", name)
		o.late[e.way]++
		o.longest = max(o.longest, late)
	}
	return o
}

// requireHeld says that without a feed, what was read and answered again from the cache goes on being answered from it
// for as long as it may: a call that is answered no returns MaxStale later, or after that.
func (f *asker) requireHeld(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var held [ways]int
	for name, e := range f.ends {
		if e.held > 0 {
			require.GreaterOrEqual(t, e.over-e.held, maxStale, "%s was dropped", name)
			held[e.way]++
		}
	}
	for way, n := range held {
		require.Positive(t, n, "%s: none was cached", wayNames[way])
	}
}

// requireRefusedFrom says that no value that has ended was answered yes by a call that began after a moment.
func (f *asker) requireRefusedFrom(t *testing.T, moment time.Duration) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NotEmpty(t, f.ends)
	for name, e := range f.ends {
		require.True(t, e.seen, name)
		require.LessOrEqual(t, e.yes, moment, "%s was honoured", name)
	}
}
