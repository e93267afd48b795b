package dbtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
	"github.com/keycote/keycote/sqlstore"
)

// world draws what a store may be asked, from few values, so that they meet.
type world struct {
	*rand.Rand
	batch  int
	strict bool // only what the contract calls a text: valid UTF-8 without NUL
}

func pick[T any](w *world, from ...T) T { return from[w.IntN(len(from))] }

func (w *world) text() string {
	if w.strict {
		return pick(w, "", "a", "A", "a ", "b%", "%", "_", `\`, "é", "E\u0301", "'", "日本")
	}
	return pick(w, "", "a", "A", "a ", "b%", "%", "_", `\`, "é", "E\u0301", "a\x00b", "\xff", "'", "日本")
}

func (w *world) tenant() string {
	if w.strict {
		return pick(w, "", "a", "A", "a ", "é")
	}
	return pick(w, "", "a", "A", "a ", "\xff")
}

func (w *world) id() string { return fmt.Sprintf("key %d", w.IntN(25)) }

func (w *world) time() time.Time {
	return pick(w, time.Time{}, time.UnixMicro(0).UTC(), epoch.Add(time.Duration(w.IntN(9)-4)*time.Microsecond))
}

// bound may lie between two times that can be stored.
func (w *world) bound() time.Time {
	if t := w.time(); !t.IsZero() {
		return t.Add(time.Duration(w.IntN(3)-1) * 300 * time.Nanosecond)
	}
	return time.Time{}
}

func (w *world) labels() map[string]string {
	var labels map[string]string
	for range w.IntN(3) {
		if labels == nil {
			labels = map[string]string{}
		}
		labels[pick(w, "env", "team", "x/y")] = w.text()
	}
	return labels
}

func (w *world) record(revision int64) keycote.Record {
	r := keycote.Record{
		Tenant: w.tenant(), ID: w.id(), Kind: pick(w, keycote.KindAccess, keycote.KindCredential), Name: w.text(),
		App: w.text(), Owner: w.text(), State: pick(w, keycote.StateActive, keycote.StateActive, keycote.StateDisabled, keycote.StateRevoked),
		Search: w.text() + "\n" + w.text(), Labels: w.labels(), CreatedAt: w.time(), ExpiresAt: w.time(), RotatedAt: w.time(),
		Revision: revision, Body: []byte("body " + w.text()), Seal: []byte("seal"),
	}
	if w.IntN(2) == 0 {
		r.Name = fmt.Sprintf("name %d", w.IntN(12))
	}
	for _, n := range w.Perm(200)[:w.IntN(4)] {
		r.Digests = append(r.Digests, digest(fmt.Sprint(n)))
	}
	return r
}

func (w *world) useCount() keycote.UseCount {
	return keycote.UseCount{
		Tenant: w.tenant(), KeyID: pick(w, "", w.id(), w.id(), w.id()), Version: w.IntN(3), Outcome: pick(w, "", "", keycote.ErrExpired),
		Addr: pick(w, "", "192.0.2.1"), Route: w.text(), Agent: pick(w, "", "agent"),
		Window: epoch.Truncate(time.Minute).Add(time.Duration(w.IntN(3)) * time.Minute), N: int64(1 + w.IntN(9)), First: w.time(), Last: w.time(),
	}
}

// present is a record that is there, mostly, with its right revision, mostly.
func (w *world) present(store keycote.Store, t *testing.T) keycote.RecordRef {
	all, err := store.List(t.Context(), keycote.Query{AllTenants: true})
	require.NoError(t, err)
	if len(all) == 0 || w.IntN(12) == 0 {
		return keycote.RecordRef{Tenant: w.tenant(), ID: w.id(), Revision: 1}
	}
	r := pick(w, all...)
	return keycote.RecordRef{Tenant: r.Tenant, ID: r.ID, Revision: r.Revision - int64(w.IntN(12)/11)}
}

func (w *world) commit(store keycote.Store, t *testing.T) keycote.Batch {
	w.batch++
	b := keycote.Batch{ID: fmt.Sprintf("batch %d", w.batch-w.IntN(30)/29)} // a known one now and then
	for range w.IntN(3) {
		b.Insert = append(b.Insert, w.record(1))
	}
	for range w.IntN(3) {
		ref := w.present(store, t)
		r := w.record(ref.Revision + 1)
		r.Tenant, r.ID = ref.Tenant, ref.ID
		b.Update = append(b.Update, r)
	}
	if w.IntN(3) == 0 {
		b.Delete = append(b.Delete, w.present(store, t))
	}
	for range w.IntN(3) {
		i := keycote.Item{Tenant: w.tenant(), Space: pick(w, "s", "keyring"), Name: pick(w, "a", "b", "\x01"), Revision: 1, Body: []byte("item")}
		found, err := store.Items(t.Context(), keycote.ItemQuery{Tenant: i.Tenant, Space: i.Space, Name: i.Name})
		require.NoError(t, err)
		if len(found) == 1 && w.IntN(12) > 0 {
			i.Revision = found[0].Revision + 1
			b.Expect = append(b.Expect, keycote.ItemRef{Tenant: i.Tenant, Space: i.Space, Name: i.Name, Revision: found[0].Revision - int64(w.IntN(12)/11)})
		}
		if w.IntN(4) == 0 {
			i.Body = nil
		}
		b.Items = append(b.Items, i)
	}
	for range w.IntN(3) {
		b.Events = append(b.Events, keycote.EventRecord{ID: fmt.Sprintf("evt %03d", w.IntN(999)), Tenant: w.tenant(), KeyID: w.id(), Actor: w.text(),
			Action: pick(w, keycote.ActionIssue, keycote.ActionUse), Outcome: pick(w, "", keycote.ErrForbidden), At: w.time(),
			Body: []byte("event"), Seal: []byte("seal"), Personal: []byte("personal")})
	}
	if w.IntN(4) == 0 {
		b.Redact = append(b.Redact, keycote.EventRecord{ID: fmt.Sprintf("evt %03d", w.IntN(999)), Tenant: w.tenant(), Personal: []byte("redacted")})
	}
	for range w.IntN(6) {
		b.Uses = append(b.Uses, w.useCount())
	}
	if w.IntN(20) == 0 {
		b.Prune = append(b.Prune, keycote.Prune{Tenant: w.tenant(), AllTenants: w.IntN(2) == 0, EventsBefore: w.bound(),
			UsesBefore: epoch.Truncate(time.Minute).Add(time.Duration(w.IntN(3)) * time.Minute), Limit: w.IntN(5)})
	}
	return b
}

func (w *world) query() keycote.Query {
	some := func() bool { return w.IntN(4) == 0 }
	q := keycote.Query{Tenant: w.tenant(), AllTenants: w.IntN(2) == 0, Now: w.bound(), Limit: pick(w, 0, 1, 2, 5, 1000, 5000)}
	if some() {
		q.After, q.AfterTenant = w.id(), w.tenant()
	}
	f := &q.Filter
	f.Newest = some()
	if some() {
		f.Kind = pick(w, keycote.KindAccess, keycote.KindCredential)
	}
	if some() {
		f.State = pick(w, keycote.StateActive, keycote.StateDisabled, keycote.StateRevoked, keycote.StateExpired)
	}
	if some() {
		f.Name = w.text()
	}
	if some() {
		f.App = w.text()
	}
	if some() {
		f.Owner = w.text()
	}
	if some() {
		f.Search = w.text()
	}
	if some() {
		f.Labels = w.labels()
	}
	if some() {
		f.ExpiresBefore = w.bound()
	}
	if some() {
		f.UnusedSince = w.bound()
	}
	f.NeverUsed = some()
	if some() {
		f.RotatedBefore = w.bound()
	}
	return q
}

// answer is what a call gave, with its error as far as the contract goes.
func answer[T any](out []T, err error) any {
	if len(out) == 0 {
		out = nil
	}
	return struct {
		Out []T
		Err string
	}{out, outcome(err)}
}

func outcome(err error) string {
	var v keycote.Violation
	if errors.As(err, &v) {
		return v.Error()
	}
	if err != nil && keycote.CodeOf(err) == "" {
		return "outage: " + err.Error()
	}
	return string(keycote.CodeOf(err))
}

// Whatever memstore answers, the database answers: the same rows in the same order, the same refusals, the same feed.
func TestLikeMemstore(t *testing.T) {
	eachEngine(t, "like memstore", func(t *testing.T, e *engine) {
		done, nonEmpty := likeMemstore(t, e, 250)
		for _, code := range []string{"", "conflict", "not_found", "name: exists", "secret: exists"} {
			require.NotZero(t, done[code], "outcome %q", code)
		}
		require.Greater(t, nonEmpty, 100)
	})
}

// likeMemstore returns how the commits came out, one for each round, and how many pages had rows.
func likeMemstore(t *testing.T, e *engine, rounds int) (done map[string]int, nonEmpty int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), strict: e.dialect == sqlstore.Postgres}
	ctx := t.Context()
	store, _, _ := e.fresh(t)
	mem := memstore.New()
	_, sqlAt, err := store.Changes(ctx, "")
	require.NoError(t, err)
	_, memAt, err := mem.Changes(ctx, "")
	require.NoError(t, err)
	done = map[string]int{}
	for range rounds {
		b := w.commit(mem, t)
		want := outcome(mem.Commit(ctx, b))
		require.Equal(t, want, outcome(store.Commit(ctx, b)), "%+v", b)
		done[want]++

		for range 6 {
			q := w.query()
			want, err := mem.List(ctx, q)
			nonEmpty += min(len(want), 1)
			require.Equal(t, answer(want, err), answer(store.List(ctx, q)), "%+v", q)
		}
		iq := keycote.ItemQuery{Space: pick(w, "", "s", "keyring"), Tenant: w.tenant(), AllTenants: w.IntN(2) == 0, Name: pick(w, "", "", "a"),
			AfterTenant: w.tenant(), After: pick(w, "", "", "a", "b"), Limit: pick(w, 0, 1, 3)}
		require.Equal(t, answer(mem.Items(ctx, iq)), answer(store.Items(ctx, iq)), "%+v", iq)
		eq := keycote.EventQuery{Tenant: w.tenant(), AllTenants: w.IntN(2) == 0, Limit: pick(w, 0, 1, 3), Filter: keycote.EventFilter{
			KeyID: pick(w, "", w.id()), Actor: pick(w, "", "", w.text()), Action: pick(w, "", "", keycote.ActionUse), Since: pick(w, time.Time{}, w.bound()),
			Until: pick(w, time.Time{}, w.bound()), After: pick(w, "", fmt.Sprintf("evt %03d", w.IntN(999))), Newest: w.IntN(2) == 0}}
		require.Equal(t, answer(mem.Events(ctx, eq)), answer(store.Events(ctx, eq)), "%+v", eq)
		uq := keycote.UsageQuery{Tenant: w.tenant(), KeyID: pick(w, "", w.id()), AllTenants: w.IntN(2) == 0, Since: pick(w, time.Time{}, w.bound()),
			Until: pick(w, time.Time{}, epoch), After: pick(w, keycote.UseCount{}, w.useCount()), Limit: pick(w, 0, 1, 3)}
		if uq.After != (keycote.UseCount{}) && !uq.AllTenants {
			uq.After.Tenant = uq.Tenant
		}
		require.Equal(t, answer(mem.Usage(ctx, uq)), answer(store.Usage(ctx, uq)), "%+v", uq)
		digests := [][]byte{digest(fmt.Sprint(w.IntN(200))), digest(fmt.Sprint(w.IntN(200)))}[:1+w.IntN(2)]
		one := func(r keycote.Record, err error) any { return answer([]keycote.Record{r}, err) }
		require.Equal(t, one(mem.Lookup(ctx, digests)), one(store.Lookup(ctx, digests)))

		var want2, got2 []keycote.Change
		want2, memAt, err = mem.Changes(ctx, memAt)
		require.NoError(t, err)
		got2, sqlAt, err = store.Changes(ctx, sqlAt)
		require.NoError(t, err)
		require.Len(t, got2, len(want2))
		for i := range want2 {
			require.ElementsMatch(t, want2[i].Digests, got2[i].Digests)
			want2[i].Digests, got2[i].Digests = nil, nil
			require.Equal(t, want2[i], got2[i])
		}
	}
	t.Logf("commits by outcome %v, pages with rows %d", done, nonEmpty)
	return done, nonEmpty
}
