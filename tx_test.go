package keycote_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// fakeTx is a Store in a transaction: it shows what was there when it began and what was committed to it since, and
// gives its batches to the real Store at the end.
type fakeTx struct {
	keycote.Store
	base    keycote.Store
	batches []keycote.Batch
	tries   int
	fail    error
}

func (w *world) begin() *fakeTx {
	w.t.Helper()
	ctx := w.t.Context()
	records, err := w.store.Store.List(ctx, keycote.Query{AllTenants: true, Limit: 1000})
	require.NoError(w.t, err)
	items, err := w.store.Store.Items(ctx, keycote.ItemQuery{AllTenants: true, Limit: 1000})
	require.NoError(w.t, err)
	tx := &fakeTx{Store: memstore.New(), base: w.store}
	for _, i := range items { // an Item is inserted by revision 1 and raised from there
		for r := range i.Revision {
			i.Revision = r + 1
			require.NoError(w.t, tx.Store.Commit(ctx, keycote.Batch{ID: i.Tenant + i.Name + string(rune('0'+r)), Items: []keycote.Item{i}}))
		}
	}
	require.NoError(w.t, tx.Store.Commit(ctx, keycote.Batch{ID: "snapshot", Insert: records}))
	return tx
}

func (tx *fakeTx) Commit(ctx context.Context, b keycote.Batch) error {
	tx.tries++
	if tx.fail != nil {
		return tx.fail
	}
	err := tx.Store.Commit(ctx, b)
	if err == nil {
		tx.batches = append(tx.batches, b)
	}
	return err
}

func (tx *fakeTx) commit(t testing.TB) {
	t.Helper()
	for _, b := range tx.batches {
		require.NoError(t, tx.base.Commit(t.Context(), b))
	}
}

func TestInShowsNothingBeforeTheCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	old, token := w.issue(keycote.IssueParams{Name: "old"})
	tx := w.begin()
	in, committed := w.In(tx)
	before := w.dump()

	key, secret, err := in.Issue(t.Context(), keycote.IssueParams{Name: "new"})
	require.NoError(t, err)
	acme := in.Tenant("acme")
	credential, err := acme.Add(t.Context(), keycote.AddParams{Name: "c", Endpoint: "https://x.example.com", Secret: keycote.NewSecret(goodValue)})
	require.NoError(t, err, "with the tenant's first keyring")
	second, err := acme.Add(t.Context(), keycote.AddParams{Name: "d", Endpoint: "https://x.example.com", Secret: keycote.NewSecret(otherValue)})
	require.NoError(t, err, "and a second one under it")
	_, err = in.Disable(t.Context(), old.ID, "")
	require.NoError(t, err)

	_, err = in.Verify(t.Context(), secret.Reveal(), keycote.Request{})
	require.NoError(t, err, "inside it is there")
	_, s, err := acme.Use(t.Context(), credential.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, goodValue, s.Reveal())
	require.Equal(t, keycote.ErrUnknownKey, w.verdict(secret.Reveal()), "outside it is not")
	require.Empty(t, w.verdict(token))
	_, err = w.Tenant("acme").Get(t.Context(), credential.ID)
	require.ErrorIs(t, err, keycote.ErrNotFound)
	require.Equal(t, before, w.dump())

	tx.commit(t)
	committed()
	require.Empty(t, w.verdict(secret.Reveal()))
	require.Equal(t, keycote.ErrDisabled, w.verdict(token))
	got, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, key, got)
	for id, value := range map[string]string{credential.ID: goodValue, second.ID: otherValue} {
		_, s, err := w.Tenant("acme").Use(t.Context(), id, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, value, s.Reveal())
	}
}

func TestInRolledBackLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	before := w.dump()
	tx := w.begin()
	in, _ := w.In(tx)
	p := keycote.AddParams{Name: "c", Endpoint: "https://x.example.com", Secret: keycote.NewSecret(goodValue)}
	_, err := in.Add(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, tx.batches[0].Items, 1, "the first credential brings the keyring")
	require.Equal(t, before, w.dump())

	// It is rolled back. The keyring that was made in it is nobody's.
	key, err := w.Add(t.Context(), p)
	require.NoError(t, err)
	fresh := w.another(nil)
	secret, err := fresh.Reveal(t.Context(), key.ID, "look")
	require.NoError(t, err)
	require.Equal(t, goodValue, secret.Reveal())
	again, committed := w.In(w.begin())
	committed()
	_, secret, err = again.Use(t.Context(), key.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, goodValue, secret.Reveal())
	_, err = again.Reveal(t.Context(), key.ID, "look")
	require.ErrorIs(t, err, keycote.ErrInvalid, "a rollback would take its event away")
}

func TestInRetriesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	for _, c := range []struct {
		name string
		fail error
		want keycote.Code
	}{
		{"a conflict", keycote.ErrConflict, keycote.ErrConflict},
		{"an outage", errAway, keycote.ErrUnavailable},
	} {
		tx := w.begin()
		tx.fail = c.fail
		in, _ := w.In(tx)
		_, err := in.Disable(t.Context(), key.ID, "")
		require.ErrorIs(t, err, c.want, c.name)
		require.Equal(t, 1, tx.tries, c.name)
		tx.fail, tx.tries = nil, 0
		_, err = in.Disable(t.Context(), key.ID, "")
		require.NoError(t, err, "the transaction goes on")
		require.Equal(t, 1, tx.tries)
	}
}

func TestInCountsOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, token := w.issue(keycote.IssueParams{})
	tx := w.begin()
	in, _ := w.In(tx)
	_, err := in.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	w.clock.Advance(time.Hour)
	_, err = in.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	require.Zero(t, tx.tries, "no use count goes into the host's transaction")
	require.NoError(t, in.Flush(t.Context()))
	require.Zero(t, tx.tries)
	_, sums := w.usage()
	require.EqualValues(t, 2, sums[""], "a use that was answered has happened, whatever becomes of the transaction")
}

func TestInAndTheFirstUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, old := w.issue(keycote.IssueParams{})
	_, fresh := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
	tx := w.begin()
	in, committed := w.In(tx)
	_, err := in.Verify(t.Context(), fresh, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, 1, tx.tries, "the mark is a change of the record")
	_, err = in.Verify(t.Context(), old, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrExpired)
	require.Empty(t, w.verdict(old))
	tx.commit(t)
	committed()
	require.Equal(t, keycote.ErrExpired, w.verdict(old))
}
