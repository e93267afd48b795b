package dbtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

const rounds = 200 // of each contending process

// contend raises a shared record's and a shared item's revision, and inserts a record of its own, rounds times. It
// prints what was acknowledged.
func contend(ctx context.Context, store keycote.Store, name string) error {
	conflicts := 0
	for i := 0; i < rounds; {
		shared, err := store.Get(ctx, "t", "shared")
		if err != nil {
			return err
		}
		revision := shared.Revision
		shared.Revision++
		shared.Body = fmt.Appendf(nil, "%s%s %d\n", shared.Body, name, i)
		own := record(name, fmt.Sprintf("own %03d", i))
		err = store.Commit(ctx, keycote.Batch{
			ID:     fmt.Sprintf("%s %d after %d", name, i, revision),
			Expect: []keycote.ItemRef{{Space: "s", Name: "shared", Revision: revision}},
			Insert: []keycote.Record{own},
			Update: []keycote.Record{shared},
			Items:  []keycote.Item{{Space: "s", Name: "shared", Revision: revision + 1, Body: shared.Body}},
			Uses:   []keycote.UseCount{{Tenant: "t", KeyID: "shared", Version: 1, Window: epoch, N: 1, First: epoch, Last: epoch}},
		})
		switch {
		case errors.Is(err, keycote.ErrConflict):
			conflicts++
			continue
		case err != nil:
			return err
		}
		fmt.Printf("%d\n", revision+1)
		i++
	}
	fmt.Printf("conflicts %d\n", conflicts)
	return nil
}

// Two processes on one database: no update is lost, nobody is told that the database is locked, and a third that follows
// the feed meanwhile sees every change, in order.
func TestTwoProcesses(t *testing.T) { eachEngine(t, "two processes", twoProcesses) }

func twoProcesses(t *testing.T, e *engine) {
	store, db, here := e.fresh(t)
	ctx := t.Context()
	_, at, err := store.Changes(ctx, "")
	require.NoError(t, err)
	shared := record("t", "shared")
	shared.Body = nil
	require.NoError(t, store.Commit(ctx, keycote.Batch{ID: "start", Insert: []keycote.Record{shared},
		Items: []keycote.Item{{Space: "s", Name: "shared", Revision: 1, Body: []byte("start")}}}))

	type outcome struct {
		name, out string
		err       error
	}
	done := make(chan outcome)
	names := []string{"left", "right"}
	for _, name := range names {
		cmd, err := child(ctx, "contend", here, name)
		require.NoError(t, err)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		require.NoError(t, cmd.Start())
		go func() {
			err := cmd.Wait()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, errs.String())
			}
			done <- outcome{name, out.String(), err}
		}()
	}

	var followed []keycote.Change
	follow := func() {
		for {
			changes, next, err := store.Changes(ctx, at)
			require.NoError(t, err)
			followed = append(followed, changes...)
			if at = next; len(changes) < 1000 {
				return
			}
		}
	}
	acknowledged := map[int64]string{}
	for range names {
		var o outcome
		for waiting := true; waiting; {
			follow()
			select {
			case o = <-done:
				waiting = false
			default:
			}
		}
		require.NoError(t, o.err, o.name)
		for line := range strings.Lines(o.out) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "conflicts ") {
				t.Logf("%s: %s", o.name, line)
				continue
			}
			n, err := strconv.ParseInt(line, 10, 64)
			require.NoError(t, err)
			require.Empty(t, acknowledged[n], "revision %d was given to both", n)
			acknowledged[n] = o.name
		}
	}
	follow()

	got, err := store.Get(ctx, "t", "shared")
	require.NoError(t, err)
	require.EqualValues(t, 1+len(names)*rounds, got.Revision)
	require.Len(t, acknowledged, len(names)*rounds)
	revision, next := int64(1), map[string]int{}
	for line := range strings.Lines(string(got.Body)) {
		revision++
		name, i, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		require.Equal(t, acknowledged[revision], name)
		require.Equal(t, strconv.Itoa(next[name]), i)
		next[name]++
	}
	require.EqualValues(t, got.Revision, revision)
	require.Len(t, got.Uses, 1)
	require.EqualValues(t, len(names)*rounds, got.Uses[0].N)

	last, items, own := int64(0), int64(0), map[string]int{}
	for _, ch := range followed {
		switch {
		case ch.ID == "shared":
			require.Equal(t, last+1, ch.Revision)
			last = ch.Revision
		case ch.Space == "s":
			require.Equal(t, items+1, ch.Revision)
			items = ch.Revision
		default:
			require.Equal(t, fmt.Sprintf("own %03d", own[ch.Tenant]), ch.ID)
			own[ch.Tenant]++
		}
	}
	require.Equal(t, got.Revision, last)
	require.Equal(t, got.Revision, items)
	require.Equal(t, map[string]int{"left": rounds, "right": rounds}, own)
	here.requireSound(t, db)
}

// writeUntilKilled commits one Batch after the other, and prints the name of each when it is acknowledged.
func writeUntilKilled(ctx context.Context, store keycote.Store, name string) error {
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s %d", name, i)
		if err := store.Commit(ctx, everything(id)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(os.Stdout, id); err != nil {
			return err
		}
	}
}

// A writer is killed in the middle of its work, again and again: what it had acknowledged is there, whole, and the one
// Batch that may have been under way is there whole or not at all.
func TestKilledWriter(t *testing.T) { onEach(t, "killed writer", onceEach, killedWriter) }

func killedWriter(t *testing.T, e *engine) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	store, db, here := e.fresh(t)
	acknowledged, unknown := 0, 0
	for kill := range 15 {
		name := fmt.Sprintf("life %d", kill)
		cmd, err := child(t.Context(), "die", here, name)
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		// The child works on while it is being killed, and a little spinning puts the end anywhere in a Commit.
		for range 1 + random.IntN(25) {
			require.True(t, lines.Scan(), "%v", lines.Err())
		}
		for range random.IntN(200_000) {
			_ = random.Uint64()
		}
		require.NoError(t, cmd.Process.Kill())
		last := -1
		for ok := true; ok; ok = lines.Scan() {
			_, n, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "life "), " ")
			last, err = strconv.Atoi(n)
			require.NoError(t, err, lines.Text())
		}
		require.Error(t, cmd.Wait(), "killed")
		acknowledged += last + 1

		if e.server == nil {
			db = here.open(t) // a file is read as it was left
			store = here.store(t, db)
		}
		for i := range last + 1 {
			here.requireParts(t, db, fmt.Sprintf("%s %d", name, i), whole)
		}
		n, err := here.parts(t.Context(), db, fmt.Sprintf("%s %d", name, last+1))
		require.NoError(t, err)
		require.Contains(t, []int{0, whole}, n)
		if n == whole {
			unknown++
		}
		here.requireSound(t, db)
		// A server may still be at it. Its outcome unknown, the Batch is repeated as it is.
		require.NoError(t, store.Commit(t.Context(), everything(fmt.Sprintf("%s %d", name, last+1))))
		here.requireParts(t, db, fmt.Sprintf("%s %d", name, last+1), whole)
	}
	t.Logf("%d acknowledged, %d done and not acknowledged", acknowledged, unknown)
}
