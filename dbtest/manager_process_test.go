package dbtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// openHost is a process of a host: a Manager over the store, whose KEK lies in a file.
func openHost(ctx context.Context, store keycote.Store, file string) (*keycote.Manager, error) {
	kek, err := keycote.LocalKEK(file)
	if err != nil {
		return nil, err
	}
	return keycote.New(ctx, store, kek, nil)
}

// manage is the main function of a child that works through a Manager. It waits until its input is closed, so that
// several can be let go at once.
func manage(ctx context.Context, store keycote.Store, role, name string) error {
	if role != "manage" {
		fmt.Println("ready")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
	}
	m, err := openHost(ctx, store, os.Getenv("KEYCOTE_DBTEST_KEK"))
	if err != nil {
		return err
	}
	switch role {
	case "start":
		key, secret, err := m.Issue(ctx, keycote.IssueParams{Name: name})
		if err != nil {
			return err
		}
		fmt.Println("token", key.ID, secret.Reveal())
		cred, err := m.Tenant("acme").Add(ctx, credential(name))
		if err != nil {
			return err
		}
		fmt.Println("credential", cred.ID, valueOf(name))
	case "rotate":
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				key, secret, err := m.Rotate(ctx, name, keycote.RotateParams{})
				if err != nil {
					fmt.Println("lost", keycote.CodeOf(err))
					return
				}
				fmt.Println("won", key.Versions[len(key.Versions)-1].Number, secret.Reveal())
			})
		}
		wg.Wait()
	case "update":
		app := strconv.Itoa(os.Getpid())
		if _, err := m.Update(ctx, name, keycote.Patch{App: &app, Revision: 1}); err != nil {
			fmt.Println("lost", keycote.CodeOf(err))
			return nil
		}
		fmt.Println("won", app)
	case "manage":
		errs := make([]error, managing)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = manageAtRandom(ctx, m, fmt.Sprint(name, " ", i)) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	return nil
}

func valueOf(name string) string { return "Value-of-" + strings.ReplaceAll(name, " ", "-") + "-x9Q2" }

func credential(name string) keycote.AddParams {
	return keycote.AddParams{
		Name: name, Endpoint: "https://api.example.com/", Secret: keycote.NewSecret(valueOf(name)), AllowWeak: true,
	}
}

// together starts n children in a role, lets them go at once, and returns what they printed.
func together(t *testing.T, n int, role string, here place, name func(int) string) (lines [][]string) {
	t.Helper()
	type process struct {
		cmd  *exec.Cmd
		in   io.WriteCloser
		out  *bufio.Scanner
		errs bytes.Buffer
	}
	var all []*process
	for i := range n {
		p := &process{}
		var err error
		p.cmd, err = child(t.Context(), role, here, name(i))
		require.NoError(t, err)
		p.cmd.Stderr = &p.errs
		p.in, err = p.cmd.StdinPipe()
		require.NoError(t, err)
		out, err := p.cmd.StdoutPipe()
		require.NoError(t, err)
		p.out = bufio.NewScanner(out)
		require.NoError(t, p.cmd.Start())
		all = append(all, p)
	}
	for _, p := range all {
		if !p.out.Scan() {
			_ = p.cmd.Wait()
			require.Fail(t, "a child did not start", p.errs.String())
		}
		require.Equal(t, "ready", p.out.Text())
	}
	for _, p := range all {
		require.NoError(t, p.in.Close())
	}
	for _, p := range all {
		for p.out.Scan() {
			lines = append(lines, strings.Fields(p.out.Text()))
		}
		require.NoError(t, p.cmd.Wait(), "%s", &p.errs)
	}
	return lines
}

// Processes that start at once where there is neither table nor key nor keyring end up with the same ones.
func TestManagersStartAtOnce(t *testing.T) {
	onEach(t, "managers that start at once", onceEach, managersStartAtOnce)
}

func managersStartAtOnce(t *testing.T, e *engine) {
	const processes = 4
	db, here := e.bare(t, "start")
	lines := together(t, processes, "start", here, func(i int) string { return fmt.Sprint("process ", i) })
	store := here.store(t, db)
	m, err := openHost(t.Context(), store, here.kek)
	require.NoError(t, err)
	items, err := store.Items(t.Context(), keycote.ItemQuery{AllTenants: true, Limit: 100})
	require.NoError(t, err)
	require.Len(t, items, 4, "three root keyrings and a tenant's")
	require.Len(t, lines, 2*processes)
	for _, line := range lines {
		if line[0] == "token" {
			grant, err := m.Verify(t.Context(), line[2], keycote.Request{})
			require.NoError(t, err)
			require.Equal(t, line[1], grant.KeyID)
			continue
		}
		_, secret, err := m.Tenant("acme").Use(t.Context(), line[1], keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, line[2], secret.Reveal())
	}
	here.requireSound(t, db)
	requireTold(t, store, m)
	requireTold(t, store, m.Tenant("acme"))
}

// Ten rotations of one key by two processes at once.
func TestParallelRotations(t *testing.T) {
	onEach(t, "parallel rotations", onceEach, parallelRotations)
}

func parallelRotations(t *testing.T, e *engine) {
	store, db, here := e.fresh(t)
	m, err := openHost(t.Context(), store, here.kek)
	require.NoError(t, err)
	key, _, err := m.Issue(t.Context(), keycote.IssueParams{Name: "one"})
	require.NoError(t, err)
	lines := together(t, 2, "rotate", here, func(int) string { return key.ID })
	require.Len(t, lines, 10)
	now, err := m.Get(t.Context(), key.ID)
	require.NoError(t, err)
	last := now.Versions[len(now.Versions)-1].Number
	won := map[string]bool{}
	for _, line := range lines {
		if line[0] == "lost" {
			require.Equal(t, string(keycote.ErrConflict), line[1])
			continue
		}
		require.False(t, won[line[1]], "version %s was given out twice", line[1])
		won[line[1]] = true
		_, err := m.Verify(t.Context(), line[2], keycote.Request{})
		require.Equal(t, line[1] == strconv.Itoa(last), err == nil, "version %s of %d: %v", line[1], last, err)
	}
	require.NotEmpty(t, won)
	require.Len(t, won, last-1, "each version was answered to somebody")
	here.requireSound(t, db)
	requireTold(t, store, m)
}

// Two processes update one revision.
func TestUpdatesOfOneRevision(t *testing.T) {
	onEach(t, "two updates of one revision", onceEach, updatesOfOneRevision)
}

func updatesOfOneRevision(t *testing.T, e *engine) {
	store, _, here := e.fresh(t)
	m, err := openHost(t.Context(), store, here.kek)
	require.NoError(t, err)
	key, _, err := m.Issue(t.Context(), keycote.IssueParams{Name: "one"})
	require.NoError(t, err)
	lines := together(t, 2, "update", here, func(int) string { return key.ID })
	now, err := m.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, now.Revision)
	require.ElementsMatch(t, [][]string{{"won", now.App}, {"lost", string(keycote.ErrConflict)}}, lines)
	requireTold(t, store, m)
}

// So many goroutines, each with keys of its own, make so many changes each.
const (
	managing = 4
	writes   = 50
)

// manageAtRandom makes random changes, and prints each when it is acknowledged: what was done, to which key, the
// revision that the key has now, and the value that it was given, or "-".
func manageAtRandom(ctx context.Context, m *keycote.Manager, name string) error {
	type known struct {
		id      string
		cred    bool
		revoked bool
	}
	var keys []known
	for n := range writes {
		what := rand.IntN(10)
		if len(keys) < 3 {
			what %= 2
		}
		title := fmt.Sprint(name, " ", n)
		var key *keycote.Key
		var secret keycote.Secret
		var err error
		at := 0
		if len(keys) > 0 {
			at = rand.IntN(len(keys))
		}
		verb := ""
		switch what {
		case 0:
			verb = "issue"
			if key, secret, err = m.Issue(ctx, keycote.IssueParams{Name: title, Scopes: []string{"a:b"}}); err == nil {
				keys = append(keys, known{id: key.ID})
			}
		case 1:
			verb = "add"
			if key, err = m.Add(ctx, credential(title)); err == nil {
				keys = append(keys, known{id: key.ID, cred: true})
			}
		case 2, 3:
			verb = "rotate"
			p := keycote.RotateParams{Overlap: time.Hour}
			if keys[at].cred {
				p = keycote.RotateParams{Secret: keycote.NewSecret(valueOf(title)), AllowWeak: true}
			}
			key, secret, err = m.Rotate(ctx, keys[at].id, p)
		case 4, 5:
			verb = "update"
			key, err = m.Update(ctx, keys[at].id, keycote.Patch{Name: &title})
		case 6:
			verb = "disable"
			key, err = m.Disable(ctx, keys[at].id, title)
		case 7:
			verb = "enable"
			key, err = m.Enable(ctx, keys[at].id, title)
		case 8:
			verb = "revoke"
			if key, err = m.Revoke(ctx, keys[at].id, title); err == nil {
				keys[at].revoked = true
			}
		case 9:
			verb = "delete"
			if err = m.Delete(ctx, keys[at].id, title); err == nil {
				key = &keycote.Key{ID: keys[at].id}
				keys = append(keys[:at], keys[at+1:]...)
			}
		}
		if errors.Is(err, keycote.ErrRevoked) && keys[at].revoked {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		value := "-"
		if !secret.IsZero() {
			value = secret.Reveal()
		}
		if _, err := fmt.Fprintln(os.Stdout, verb, key.ID, key.Revision, value); err != nil {
			return err
		}
	}
	return nil
}

// A host is killed in the middle of its work, again and again: every change that it had acknowledged is there, and of
// each goroutine one more at most. What a change did is what is there, and the trail tells it.
func TestKilledManager(t *testing.T) { onEach(t, "killed manager", onceEach, killedManager) }

func killedManager(t *testing.T, e *engine) {
	store, db, here := e.fresh(t)
	acknowledged, survived := 0, 0
	for life := range 10 {
		cmd, err := child(t.Context(), "manage", here, fmt.Sprint("life ", life))
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		last := map[string]ackedChange{}
		took := func() {
			f := strings.Fields(lines.Text())
			require.Len(t, f, 4)
			revision, err := strconv.ParseInt(f[2], 10, 64)
			require.NoError(t, err)
			a := ackedChange{f[0], revision, last[f[1]].value}
			if f[3] != "-" {
				a.value = f[3]
			}
			last[f[1]] = a
			acknowledged++
		}
		// The child works on while it is being killed, and a little spinning puts the end anywhere in a change. A life of
		// all its writes ends by itself.
		ended := false
		for range 1 + rand.IntN(managing*writes) {
			if ended = !lines.Scan(); ended {
				break
			}
			took()
		}
		for range rand.IntN(100_000) {
			_ = rand.Uint64()
		}
		_ = cmd.Process.Kill()
		for lines.Scan() {
			took()
		}
		if err := cmd.Wait(); ended {
			require.NoError(t, err, "%s", &errs)
		}
		require.Empty(t, errs.String())

		if e.server == nil {
			db = here.open(t) // a file is read as it was left
			store = here.store(t, db)
		}
		m, err := openHost(t.Context(), store, here.kek)
		require.NoError(t, err)
		changed := 0
		for id, a := range last {
			key, err := m.Get(t.Context(), id)
			if a.verb == "delete" {
				require.ErrorIs(t, err, keycote.ErrNotFound, "it was deleted")
				continue
			}
			if errors.Is(err, keycote.ErrNotFound) {
				changed++ // the deletion that was not acknowledged
				continue
			}
			require.NoError(t, err)
			require.GreaterOrEqual(t, key.Revision, a.revision, "an acknowledged change is gone")
			if key.Revision > a.revision {
				require.Equal(t, a.revision+1, key.Revision)
				changed++
				continue
			}
			a.requireDone(t, m, key)
		}
		require.LessOrEqual(t, changed, managing, "one change of each at most was under way")
		survived += changed
		here.requireSound(t, db)
		requireTold(t, store, m)
		for key, err := range m.List(t.Context(), keycote.Filter{}) {
			require.NoError(t, err)
			require.NotEqual(t, keycote.StateUnreadable, key.State)
			require.NotEmpty(t, key.Versions)
			if key.Kind == keycote.KindCredential && key.State != keycote.StateRevoked {
				secret, err := m.Reveal(t.Context(), key.ID, "to see")
				require.NoError(t, err)
				require.Regexp(t, `^Value-of-life(-\d+){3}-x9Q2$`, secret.Reveal())
			}
		}
	}
	t.Logf("%d acknowledged, %d done and not acknowledged", acknowledged, survived)
}

// ackedChange is the last change of a key that a child has told of.
type ackedChange struct {
	verb     string
	revision int64
	value    string // that it was given last, an access key's; it is not used before the child is gone
}

// requireDone says that the key is as that change left it. It may mark the value as used, which is one revision more.
func (a ackedChange) requireDone(t *testing.T, m *keycote.Manager, key *keycote.Key) {
	t.Helper()
	switch a.verb {
	case "disable":
		require.Equal(t, keycote.StateDisabled, key.State)
	case "enable":
		require.Equal(t, keycote.StateActive, key.State)
	case "revoke":
		require.Equal(t, keycote.StateRevoked, key.State)
	}
	if a.value == "" {
		return
	}
	want := map[keycote.State]keycote.Code{
		keycote.StateDisabled: keycote.ErrDisabled, keycote.StateRevoked: keycote.ErrRevoked,
	}[key.State]
	_, err := m.Verify(t.Context(), a.value, keycote.Request{Scopes: []string{"a:b"}})
	require.Equal(t, want, keycote.CodeOf(err), "the value that was given last, after %s", a.verb)
}

// requireTold holds every record of m's tenant against its events: each revision has one, the last one's hash is that
// of the body, and of a key without a record the last one tells the deletion.
func requireTold(t testing.TB, store keycote.Store, m *keycote.Manager) {
	t.Helper()
	type told struct {
		revisions map[int64]bool
		last      int64
		hash      []byte
		action    keycote.Action
	}
	trail, tenant := map[string]*told{}, ""
	for e, err := range m.Events(t.Context(), keycote.EventFilter{}) {
		require.NoError(t, err)
		if tenant = e.Tenant; e.Revision == 0 {
			continue
		}
		of := trail[e.KeyID]
		if of == nil {
			of = &told{revisions: map[int64]bool{}}
			trail[e.KeyID] = of
		}
		require.False(t, of.revisions[e.Revision], "two events of revision %d of %s", e.Revision, e.KeyID)
		of.revisions[e.Revision] = true
		if e.Revision > of.last {
			of.last, of.hash, of.action = e.Revision, e.BodyHash, e.Action
		}
	}
	q := keycote.Query{Tenant: tenant, Limit: 1000}
	for {
		records, err := store.List(t.Context(), q)
		require.NoError(t, err)
		for _, r := range records {
			of, sum := trail[r.ID], sha256.Sum256(r.Body)
			require.NotNil(t, of, "%s has no event", r.ID)
			require.Equal(t, r.Revision, of.last, "%s and its last event", r.ID)
			require.Equal(t, sum[:], of.hash, "%s and its last event", r.ID)
			require.Len(t, of.revisions, int(of.last), "a gap in the trail of %s", r.ID)
			delete(trail, r.ID)
			q.After = r.ID
		}
		if len(records) < q.Limit {
			break
		}
	}
	for id, of := range trail {
		require.Equal(t, keycote.ActionDelete, of.action, "%s has events and no record", id)
		require.Empty(t, of.hash)
		require.Len(t, of.revisions, int(of.last), "a gap in the trail of %s", id)
	}
}
