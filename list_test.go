package keycote_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// fill makes n access keys, a second apart.
func (w *world) fill(n int) (all []string) {
	w.t.Helper()
	for i := range n {
		key, _ := w.issue(keycote.IssueParams{Name: fmt.Sprintf("key %03d", i)})
		all = append(all, key.ID)
		w.clock.Advance(time.Second)
	}
	return all
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	all := w.fill(60)
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for _, c := range []struct {
		name  string
		f     keycote.Filter
		limit int
		want  []string
		pages int
	}{
		{"the default", keycote.Filter{}, 0, all, 2},
		{"sevens", keycote.Filter{}, 7, all, 9},
		{"it divides evenly", keycote.Filter{}, 20, all, 3},
		{"newest first", keycote.Filter{Newest: true}, 7, reversed, 9},
		{"all on one", keycote.Filter{}, 60, all, 1},
		{"the most", keycote.Filter{}, 1000, all, 1},
		{"none", keycote.Filter{Name: "nobody"}, 0, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			cursor, pages := "", 0
			for {
				page, err := w.Page(t.Context(), c.f, cursor, c.limit)
				require.NoError(t, err)
				require.NotNil(t, page.Keys)
				got = append(got, ids(page.Keys)...)
				pages++
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.pages, pages, "Next is empty at the end")
		})
	}
}

func TestAFullPageOfTheMostKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
	all := w.fill(1001)
	page, err := w.Page(t.Context(), keycote.Filter{}, "", 1000)
	require.NoError(t, err)
	require.Len(t, page.Keys, 1000)
	require.NotEmpty(t, page.Next)
	page, err = w.Page(t.Context(), keycote.Filter{}, page.Next, 1000)
	require.NoError(t, err)
	require.Equal(t, all[1000:], ids(page.Keys))
	require.Empty(t, page.Next)
	require.NoError(t, w.Delete(t.Context(), all[0], ""))
	page, err = w.Page(t.Context(), keycote.Filter{}, "", 1000)
	require.NoError(t, err)
	require.Len(t, page.Keys, 1000)
	require.Empty(t, page.Next)
	require.Len(t, collect(t, w.List(t.Context(), keycote.Filter{})), 1000)
}

func TestCursorsAreNotTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.fill(3)
	f := keycote.Filter{Search: "key"}
	page, err := w.Page(t.Context(), f, "", 1)
	require.NoError(t, err)
	good := page.Next
	require.NotEmpty(t, good)
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	for name, cursor := range map[string]string{
		"empty bytes": "AA", "blank": " ", "not base64": "%%%", "padded": good + "=", "cut": good[:10],
		"no id":           base64.RawURLEncoding.EncodeToString(raw[:17]),
		"another format":  base64.RawURLEncoding.EncodeToString(append([]byte{2}, raw[1:]...)),
		"a control in it": base64.RawURLEncoding.EncodeToString(append(slices.Clone(raw), 0)),
		"not UTF-8":       base64.RawURLEncoding.EncodeToString(append(slices.Clone(raw), 0xff)),
		"too long":        strings.Repeat("A", 100_000),
	} {
		_, err := w.Page(t.Context(), f, cursor, 1)
		require.ErrorIs(t, err, keycote.ErrInvalid, name)
	}
	for name, other := range map[string]keycote.Filter{
		"another filter": {Search: "ke"}, "none": {}, "newest": {Search: "key", Newest: true}, "kind": {Search: "key", Kind: keycote.KindAccess},
		"labels": {Search: "key", Labels: map[string]string{"a": "b"}}, "time": {Search: "key", ExpiresBefore: worldStart},
	} {
		_, err := w.Page(t.Context(), other, good, 1)
		require.ErrorIs(t, err, keycote.ErrInvalid, name)
	}
	_, err = w.Tenant("acme").Page(t.Context(), f, good, 1)
	require.ErrorIs(t, err, keycote.ErrInvalid, "another tenant")
	for _, limit := range []int{-1, 1001} {
		_, err = w.Page(t.Context(), f, "", limit)
		require.ErrorIs(t, err, keycote.ErrInvalid)
	}
	page, err = w.Page(t.Context(), f, good, 2)
	require.NoError(t, err)
	require.Len(t, page.Keys, 2)
}

func TestFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	make := func(p keycote.IssueParams) (string, string) {
		key, v := w.issue(p)
		w.clock.Advance(time.Minute)
		return key.ID, v
	}
	plain, _ := make(keycote.IssueParams{Name: "Alpha", App: "shop", Owner: "ann", Labels: map[string]string{"env": "prod", "team": "a"}})
	ends, _ := make(keycote.IssueParams{Name: "beta 100%_x", App: "shop", Owner: "bob", ExpiresAt: worldStart.Add(time.Hour), Labels: map[string]string{"env": "dev"}})
	off, _ := make(keycote.IssueParams{Name: "ÉCLAIR"})
	gone, _ := make(keycote.IssueParams{Name: "gone", App: "shop"})
	used, value := make(keycote.IssueParams{Name: "used"})
	turned, _ := make(keycote.IssueParams{Name: "turned"})
	credential := w.add(keycote.AddParams{Name: "Alpha"}).ID
	w.clock.Advance(time.Minute)
	_, err := w.Disable(ctx, off, "")
	require.NoError(t, err)
	_, err = w.Revoke(ctx, gone, "")
	require.NoError(t, err)
	w.clock.Set(worldStart.Add(30 * time.Minute))
	require.Empty(t, w.verdict(value))
	w.rotate(turned, keycote.RotateParams{})
	require.NoError(t, w.Flush(ctx))
	hint := value[len(value)-4:]
	for _, c := range []struct {
		name string
		at   time.Duration
		f    keycote.Filter
		want []string
	}{
		{"all", 0, keycote.Filter{}, []string{plain, ends, off, gone, used, turned, credential}},
		{"kind", 0, keycote.Filter{Kind: keycote.KindCredential}, []string{credential}},
		{"name", 0, keycote.Filter{Name: "Alpha"}, []string{plain, credential}},
		{"name is exact", 0, keycote.Filter{Name: "alpha"}, nil},
		{"name of a revoked key", 0, keycote.Filter{Name: "gone"}, nil},
		{"app", 0, keycote.Filter{App: "shop"}, []string{plain, ends, gone}},
		{"app and owner", 0, keycote.Filter{App: "shop", Owner: "bob"}, []string{ends}},
		{"active", 0, keycote.Filter{State: active}, []string{plain, ends, used, turned, credential}},
		{"active when one has expired", time.Hour, keycote.Filter{State: active}, []string{plain, used, turned, credential}},
		{"expired before", time.Hour - 1, keycote.Filter{State: expired}, nil},
		{"expired at the deadline", time.Hour, keycote.Filter{State: expired}, []string{ends}},
		{"disabled", 0, keycote.Filter{State: keycote.StateDisabled}, []string{off}},
		{"revoked", 0, keycote.Filter{State: keycote.StateRevoked}, []string{gone}},
		{"label", 0, keycote.Filter{Labels: map[string]string{"env": "prod"}}, []string{plain}},
		{"labels", 0, keycote.Filter{Labels: map[string]string{"env": "prod", "team": "b"}}, nil},
		{"search in name and app", 0, keycote.Filter{Search: "SHOP"}, []string{plain, ends, gone}},
		{"search folds", 0, keycote.Filter{Search: "éclAIR"}, []string{off}},
		{"search is literal", 0, keycote.Filter{Search: "100%_"}, []string{ends}},
		{"a wildcard is none", 0, keycote.Filter{Search: "b%a"}, nil},
		{"search in the hint", 0, keycote.Filter{Search: "kc_…" + hint}, []string{used}},
		{"a blank search is none", 0, keycote.Filter{Search: " \t"}, []string{plain, ends, off, gone, used, turned, credential}},
		{"a blank belongs to the search", 0, keycote.Filter{Search: "beta "}, []string{ends}},
		{"expires before is strict", 0, keycote.Filter{ExpiresBefore: worldStart.Add(time.Hour)}, nil},
		{"expires before", 0, keycote.Filter{ExpiresBefore: worldStart.Add(time.Hour + time.Microsecond)}, []string{ends}},
		{"times are cut to the microsecond", 0, keycote.Filter{ExpiresBefore: worldStart.Add(time.Hour + 999)}, nil},
		{"unused since", 0, keycote.Filter{UnusedSince: worldStart.Add(4*time.Minute + 1000)}, []string{plain, ends, off, gone}},
		{"used before", 0, keycote.Filter{UnusedSince: worldStart.Add(31 * time.Minute), Name: "used"}, []string{used}},
		{"used after", 0, keycote.Filter{UnusedSince: worldStart.Add(30 * time.Minute), Name: "used"}, nil},
		{"never used", 0, keycote.Filter{NeverUsed: true}, []string{plain, ends, off, gone, turned, credential}},
		{"never used, and made before", 0, keycote.Filter{NeverUsed: true, UnusedSince: worldStart.Add(4*time.Minute + 1000)}, []string{plain, ends, off, gone}},
		{"rotated before", 0, keycote.Filter{RotatedBefore: worldStart.Add(6 * time.Minute)}, []string{plain, ends, off, gone, used}},
		{"newest first", 0, keycote.Filter{App: "shop", Newest: true}, []string{gone, ends, plain}},
	} {
		if c.at == 0 {
			c.at = 31 * time.Minute
		}
		w.clock.Set(worldStart.Add(c.at))
		require.Equal(t, c.want, ids(collect(t, w.List(ctx, c.f))), c.name)
		page, err := w.Page(ctx, c.f, "", 0)
		require.NoError(t, err)
		require.Equal(t, c.want, ids(page.Keys), c.name)
	}
	for name, f := range map[string]keycote.Filter{
		"ended": {State: ended}, "unreadable": {State: keycote.StateUnreadable}, "state": {State: "x"}, "kind": {Kind: "x"},
		"NUL": {Search: "\x00"}, "not UTF-8": {Name: "\xff"},
	} {
		_, err := w.Page(ctx, f, "", 0)
		require.ErrorIs(t, err, keycote.ErrInvalid, name)
		seen := 0
		for k, err := range w.List(ctx, f) {
			require.Nil(t, k)
			require.ErrorIs(t, err, keycote.ErrInvalid, name)
			seen++
		}
		require.Equal(t, 1, seen)
	}
}

// failingLists answers n lists and fails from then on.
type failingLists struct {
	keycote.Store
	n int
}

func (s *failingLists) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	if s.n--; s.n < 0 {
		return nil, errAway
	}
	return s.Store.List(ctx, q)
}

func TestListStopsOnAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
	all := w.fill(450)
	m, err := keycote.New(t.Context(), &failingLists{w.store, 1}, w.kek, &keycote.Options{Now: w.clock.Now})
	require.NoError(t, err)
	var got []string
	failed := 0
	for k, err := range m.List(t.Context(), keycote.Filter{}) {
		if err != nil {
			require.Nil(t, k)
			require.ErrorIs(t, err, keycote.ErrUnavailable)
			require.True(t, errors.Is(err, errAway))
			failed++
			continue
		}
		got = append(got, k.ID)
	}
	require.Equal(t, 1, failed, "after an error the sequence ends")
	require.Equal(t, all[:len(got)], got)
	require.NotEmpty(t, got)
	require.Equal(t, all, ids(collect(t, w.List(t.Context(), keycote.Filter{}))), "over several pages")
	for k := range w.List(t.Context(), keycote.Filter{}) {
		require.Equal(t, all[0], k.ID)
		break
	}
}

// What this process has counted and not yet written is written before a list that goes by uses.
func TestAListByUsesSeesThisProcesssOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	unused, _ := w.issue(keycote.IssueParams{Name: "unused"})
	_, value := w.issue(keycote.IssueParams{Name: "used"})
	require.Empty(t, w.verdict(value))
	f := keycote.Filter{NeverUsed: true}
	require.Equal(t, []string{unused.ID}, ids(collect(t, w.List(t.Context(), f))))
	page, err := w.Page(t.Context(), f, "", 0)
	require.NoError(t, err)
	require.Equal(t, []string{unused.ID}, ids(page.Keys))
}
