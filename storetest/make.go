package storetest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// epoch is where the suite's time starts; it has microseconds to lose.
var epoch = time.Date(2026, 3, 4, 5, 6, 7, 123_457_000, time.UTC)

func hours(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }

// digest makes the digest that words stand for.
func digest(words ...any) []byte {
	sum := sha256.Sum256(fmt.Append(nil, words...))
	return sum[:24]
}

// record makes an ordinary record, ready to be inserted. Its name and its one digest are its own.
func record(tenant, id string, edits ...func(*keycote.Record)) keycote.Record {
	r := keycote.Record{
		Tenant: tenant, ID: id, Kind: keycote.KindAccess, Name: "Name of " + id,
		Digests: [][]byte{digest(tenant, "/", id)}, App: "shop", Owner: "ann", State: keycote.StateActive,
		Search: "name of " + id + "\nshop\nkc_…abcd", Labels: map[string]string{"team": "core"},
		CreatedAt: epoch, RotatedAt: epoch, Revision: 1,
		Body: []byte("body 1 of " + id), Seal: []byte("seal 1 of " + id),
	}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

// next makes the update that follows r.
func next(r keycote.Record, edits ...func(*keycote.Record)) keycote.Record {
	r.Digests, r.Labels, r.Uses = slices.Clone(r.Digests), maps.Clone(r.Labels), nil
	r.Revision++
	r.Body = fmt.Appendf(nil, "body %d of %s", r.Revision, r.ID)
	r.Seal = fmt.Appendf(nil, "seal %d of %s", r.Revision, r.ID)
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func named(name string) func(*keycote.Record) { return func(r *keycote.Record) { r.Name = name } }

func digests(d ...[]byte) func(*keycote.Record) { return func(r *keycote.Record) { r.Digests = d } }

func refOf(r keycote.Record) keycote.RecordRef {
	return keycote.RecordRef{Tenant: r.Tenant, ID: r.ID, Revision: r.Revision}
}

func insert(records ...keycote.Record) keycote.Batch { return keycote.Batch{Insert: records} }

func update(records ...keycote.Record) keycote.Batch { return keycote.Batch{Update: records} }

func remove(records ...keycote.Record) keycote.Batch {
	var b keycote.Batch
	for _, r := range records {
		b.Delete = append(b.Delete, refOf(r))
	}
	return b
}

func item(tenant, space, name string, revision int64) keycote.Item {
	return keycote.Item{
		Tenant: tenant, Space: space, Name: name, Revision: revision, Body: fmt.Appendf(nil, "item %d of %s", revision, name),
	}
}

func event(tenant, id string, at time.Time, edits ...func(*keycote.EventRecord)) keycote.EventRecord {
	e := keycote.EventRecord{
		ID: id, Tenant: tenant, KeyID: "key_1", Actor: "ann", Action: keycote.ActionIssue, At: at,
		Body: []byte("body of " + id), Seal: []byte("seal of " + id), Personal: []byte("personal of " + id),
	}
	for _, edit := range edits {
		edit(&e)
	}
	return e
}

func use(
	tenant, key string,
	version int,
	window time.Time,
	n int64,
	edits ...func(*keycote.UseCount),
) keycote.UseCount {
	u := keycote.UseCount{
		Tenant: tenant, KeyID: key, Version: version, Addr: "192.0.2.0/24", Route: "GET /orders/{id}", Agent: "curl",
		Window: window, N: n, First: window.Add(time.Second), Last: window.Add(2 * time.Second),
	}
	for _, edit := range edits {
		edit(&u)
	}
	return u
}

// try commits b under an ID of its own.
func try(t testing.TB, s keycote.Store, b keycote.Batch) error {
	t.Helper()
	if b.ID == "" {
		b.ID = rand.Text()
	}
	return s.Commit(t.Context(), b)
}

func must(t testing.TB, s keycote.Store, batches ...keycote.Batch) {
	t.Helper()
	for i, b := range batches {
		require.NoError(t, try(t, s, b), "batch %d", i)
	}
}

// requireTaken holds err to be what Commit answers for a taken name or digest.
func requireTaken(t testing.TB, field string, err error, about ...any) {
	t.Helper()
	require.ErrorIs(t, err, keycote.ErrExists, about...)
	var v keycote.Violation
	require.ErrorAs(t, err, &v, about...)
	require.Equal(t, field, v.Field, about...)
	require.Equal(t, keycote.ErrExists, v.Code, about...)
	require.NotErrorIs(t, err, keycote.ErrConflict, about...)
	require.NotErrorIs(t, err, keycote.ErrNotFound, about...)
}

// requireRecord holds what the store has under r's name to be r, without regard to Uses.
func requireRecord(t testing.TB, s keycote.Store, r keycote.Record, about ...any) {
	t.Helper()
	got, err := s.Get(t.Context(), r.Tenant, r.ID)
	require.NoError(t, err, about...)
	got.Uses = nil
	require.Equal(t, asKept(r), plain(got), about...)
}

func requireAbsent(t testing.TB, s keycote.Store, tenant, id string, about ...any) {
	t.Helper()
	got, err := s.Get(t.Context(), tenant, id)
	require.ErrorIs(t, err, keycote.ErrNotFound, about...)
	require.Zero(t, got, about...)
}

// asKept is what a Store must answer for what it was given: instants in UTC. plain is what a Store may answer in
// several ways, in one of them. Times are left as they are there: one that is not in UTC is a difference.
func asKept(r keycote.Record) keycote.Record {
	r.CreatedAt, r.ExpiresAt, r.RotatedAt = r.CreatedAt.UTC(), r.ExpiresAt.UTC(), r.RotatedAt.UTC()
	return plain(r)
}

func plain(r keycote.Record) keycote.Record {
	r.Digests = sortedDigests(r.Digests)
	r.Body, r.Seal = slices.Clip(orNil(r.Body)), slices.Clip(orNil(r.Seal))
	if len(r.Labels) == 0 {
		r.Labels = nil
	}
	r.Uses = orNil(r.Uses)
	return r
}

func plainEvent(e keycote.EventRecord) keycote.EventRecord {
	e.Body, e.Seal, e.Personal = orNil(e.Body), orNil(e.Seal), orNil(e.Personal)
	return e
}

func sortedDigests(d [][]byte) [][]byte {
	d = slices.Clone(d)
	slices.SortFunc(d, bytes.Compare)
	return orNil(d)
}

func orNil[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}

// contents is all that a Store shows.
type contents struct {
	Records []keycote.Record
	Items   []keycote.Item
	Events  []keycote.EventRecord
	Uses    []keycote.UseCount
}

// dump reads all contents, by pages.
func dump(t testing.TB, s keycote.Store) contents {
	t.Helper()
	var c contents
	c.Records = listAll(t, s, keycote.Query{AllTenants: true, Now: epoch}, 1000)
	items, err := s.Items(t.Context(), keycote.ItemQuery{AllTenants: true, Limit: 1000})
	require.NoError(t, err)
	c.Items = orNil(items)
	c.Events = eventsAll(t, s, keycote.EventQuery{AllTenants: true}, 1000)
	c.Uses = usageAll(t, s, keycote.UsageQuery{AllTenants: true}, 1000)
	return c
}

// pages walks over all pages of at most limit rows. turn fetches the page after a row, or the first for nil.
func pages[T any](t testing.TB, limit int, turn func(after *T) ([]T, error)) []T {
	t.Helper()
	var all []T
	var last *T
	for range 10_000 {
		page, err := turn(last)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), limit, "rows on a page")
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
		last = &page[len(page)-1]
	}
	require.FailNow(t, "the walk over the pages has no end")
	return nil
}

func listAll(t testing.TB, s keycote.Store, q keycote.Query, limit int) []keycote.Record {
	t.Helper()
	q.Limit = limit
	all := pages(t, limit, func(after *keycote.Record) ([]keycote.Record, error) {
		if after != nil {
			q.AfterTenant, q.After = after.Tenant, after.ID
		}
		return s.List(t.Context(), q)
	})
	for i := range all {
		all[i] = plain(all[i])
	}
	return all
}

func itemsAll(t testing.TB, s keycote.Store, q keycote.ItemQuery, limit int) []keycote.Item {
	t.Helper()
	q.Limit = limit
	return pages(t, limit, func(after *keycote.Item) ([]keycote.Item, error) {
		if after != nil {
			q.AfterTenant, q.After = after.Tenant, after.Name
		}
		return s.Items(t.Context(), q)
	})
}

func eventsAll(t testing.TB, s keycote.Store, q keycote.EventQuery, limit int) []keycote.EventRecord {
	t.Helper()
	q.Limit = limit
	all := pages(t, limit, func(after *keycote.EventRecord) ([]keycote.EventRecord, error) {
		if after != nil {
			q.Filter.After = after.ID
		}
		return s.Events(t.Context(), q)
	})
	for i := range all {
		all[i] = plainEvent(all[i])
	}
	return all
}

func usageAll(t testing.TB, s keycote.Store, q keycote.UsageQuery, limit int) []keycote.UseCount {
	t.Helper()
	q.Limit = limit
	return pages(t, limit, func(after *keycote.UseCount) ([]keycote.UseCount, error) {
		if after != nil {
			q.After = *after
		}
		return s.Usage(t.Context(), q)
	})
}

func ids(records []keycote.Record) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = r.Tenant + "/" + r.ID
	}
	return out
}

// search folds text as the Manager does before it reaches a Store.
func search(text string) string { return strings.ToLower(text) }

// oneOf reports whether err matches any of codes.
func oneOf(err error, codes ...error) bool {
	return slices.ContainsFunc(codes, func(c error) bool { return errors.Is(err, c) })
}

// takenField is the Field of the Violation that err is for a taken name or digest, or "".
func takenField(err error) string {
	var v keycote.Violation
	if errors.Is(err, keycote.ErrExists) && errors.As(err, &v) && v.Code == keycote.ErrExists {
		return v.Field
	}
	return ""
}
