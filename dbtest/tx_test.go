package dbtest

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

// host is an application with a table of its own beside Keycote's, on one SQLite file.
type host struct {
	*keycote.Manager
	t     testing.TB
	db    *sql.DB
	store *sqlstore.Store
}

func newHost(t testing.TB) *host {
	t.Helper()
	store, db := openStore(t, newFile(t))
	_, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id TEXT PRIMARY KEY)")
	require.NoError(t, err)
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	kek, err := aead.New(handle)
	require.NoError(t, err)
	m, err := keycote.New(t.Context(), store, keycote.NewKEK("test", kek), nil)
	require.NoError(t, err)
	return &host{m, t, db, store}
}

func (h *host) begin() *sql.Tx {
	h.t.Helper()
	tx, err := h.db.BeginTx(h.t.Context(), nil)
	require.NoError(h.t, err)
	return tx
}

func (h *host) order(tx *sql.Tx, id string) {
	h.t.Helper()
	_, err := tx.ExecContext(h.t.Context(), "INSERT INTO orders (id) VALUES (?)", id)
	require.NoError(h.t, err)
}

func (h *host) orders() (n int) {
	h.t.Helper()
	require.NoError(h.t, h.db.QueryRowContext(h.t.Context(), "SELECT COUNT(*) FROM orders").Scan(&n))
	return n
}

// count is how much Keycote keeps.
func (h *host) count() (records, items, events int) {
	h.t.Helper()
	ctx := h.t.Context()
	r, err := h.store.List(ctx, keycote.Query{AllTenants: true, Limit: 1000})
	require.NoError(h.t, err)
	i, err := h.store.Items(ctx, keycote.ItemQuery{AllTenants: true, Limit: 1000})
	require.NoError(h.t, err)
	e, err := h.store.Events(ctx, keycote.EventQuery{AllTenants: true, Limit: 1000})
	require.NoError(h.t, err)
	return len(r), len(i), len(e)
}

var upstreamParams = keycote.AddParams{
	Name: "upstream", Endpoint: "https://api.example.com", Secret: keycote.NewSecret("sk-9Vt2!Qm#7Lx@4Rz%8Kd"),
}

func TestInATransactionOfTheHost(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{false, true} {
		t.Run(map[bool]string{false: "rolled back", true: "committed"}[kept], func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			ctx := t.Context()
			tx := h.begin()
			h.order(tx, "before")
			in, committed := h.In(h.store.Tx(tx))
			key, secret, err := in.Issue(ctx, keycote.IssueParams{Name: "n"})
			require.NoError(t, err)
			acme := in.Tenant("acme")
			upstream, err := acme.Add(ctx, upstreamParams)
			require.NoError(t, err)
			_, _, err = in.Rotate(ctx, key.ID, keycote.RotateParams{Overlap: 60e9})
			require.NoError(t, err)
			h.order(tx, "after")
			_, err = in.Verify(ctx, secret.Reveal(), keycote.Request{})
			require.NoError(t, err, "inside it is there")
			_, value, err := acme.Use(ctx, upstream.ID, keycote.Request{})
			require.NoError(t, err)
			require.Equal(t, upstreamParams.Secret.Reveal(), value.Reveal())
			_, err = h.Verify(ctx, secret.Reveal(), keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrUnknownKey, "outside it is not")

			if !kept {
				require.NoError(t, tx.Rollback())
				records, items, events := h.count()
				require.Equal(t, []int{0, 3, 0, 0}, []int{records, items, events, h.orders()}, "the root keyrings alone")
				_, err = h.Verify(ctx, secret.Reveal(), keycote.Request{})
				require.ErrorIs(t, err, keycote.ErrUnknownKey)
				// The tenant's keyring that was made and rolled back is nobody's.
				again, err := h.Tenant("acme").Add(ctx, upstreamParams)
				require.NoError(t, err)
				_, value, err = h.Tenant("acme").Use(ctx, again.ID, keycote.Request{})
				require.NoError(t, err)
				require.Equal(t, upstreamParams.Secret.Reveal(), value.Reveal())
				return
			}
			require.NoError(t, tx.Commit())
			committed()
			records, items, events := h.count()
			require.Equal(t, []int{2, 4, 3, 2}, []int{records, items, events, h.orders()})
			_, err = h.Verify(ctx, secret.Reveal(), keycote.Request{})
			require.NoError(t, err)
			_, value, err = h.Tenant("acme").Use(ctx, upstream.ID, keycote.Request{})
			require.NoError(t, err)
			require.Equal(t, upstreamParams.Secret.Reveal(), value.Reveal())
			requireSound(t, h.db)
		})
	}
}

func TestAFailedBatchLeavesTheTransactionUsable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx := t.Context()
	taken, _, err := h.Issue(ctx, keycote.IssueParams{Name: "taken"})
	require.NoError(t, err)
	tx := h.begin()
	h.order(tx, "before")
	in, committed := h.In(h.store.Tx(tx))
	_, _, err = in.Issue(ctx, keycote.IssueParams{Name: "taken"})
	var invalid *keycote.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "name: exists", invalid.Violations[0].Error())
	_, err = in.Update(ctx, taken.ID, keycote.Patch{App: new(string), Revision: 7})
	require.ErrorIs(t, err, keycote.ErrConflict)
	_, err = in.Get(ctx, "key_00000000000000000000000000")
	require.ErrorIs(t, err, keycote.ErrNotFound)
	h.order(tx, "between")
	_, _, err = in.Issue(ctx, keycote.IssueParams{Name: "free"})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	committed()
	records, _, events := h.count()
	require.Equal(t, []int{2, 2, 2}, []int{records, events, h.orders()})
	requireSound(t, h.db)
}

// racing is a Store in which another change is committed just before the first Commit.
type racing struct {
	keycote.Store
	first   func()
	commits int
}

func (s *racing) Commit(ctx context.Context, b keycote.Batch) error {
	s.commits++
	if s.first != nil {
		first := s.first
		s.first = nil
		first()
	}
	return s.Store.Commit(ctx, b)
}

func TestAConflictInATransactionIsTheHostsToRetry(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx := t.Context()
	key, _, err := h.Issue(ctx, keycote.IssueParams{Name: "n"})
	require.NoError(t, err)
	tx := h.begin()
	store := h.store.Tx(tx)
	other, _ := h.In(store)
	r := &racing{Store: store, first: func() {
		app := "elsewhere"
		_, err := other.Update(ctx, key.ID, keycote.Patch{App: &app})
		require.NoError(t, err)
	}}
	in, committed := h.In(r)
	_, err = in.Disable(ctx, key.ID, "")
	require.ErrorIs(t, err, keycote.ErrConflict)
	require.Equal(t, 1, r.commits, "nothing is tried again")
	got, err := in.Disable(ctx, key.ID, "")
	require.NoError(t, err, "the transaction goes on")
	require.Equal(t, "elsewhere", got.App)
	require.NoError(t, tx.Commit())
	committed()
	got, err = h.Get(ctx, key.ID)
	require.NoError(t, err)
	require.Equal(t, keycote.StateDisabled, got.State)
	require.EqualValues(t, 3, got.Revision)
	_, _, events := h.count()
	require.Equal(t, 3, events, "the change that failed has no event")
}
