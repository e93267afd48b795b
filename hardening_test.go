package keycote_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// A RequestID must not give its actor a value of a key that has become somebody else's.
func TestReplayIsPutToAuthorizeWithTheKeyThatIsThere(t *testing.T) {
	t.Parallel()
	own := func(_ context.Context, a keycote.Actor, _ keycote.Action, k *keycote.Key) error {
		if a.ID == "root" || k.Owner == a.ID {
			return nil
		}
		return errors.New("not yours")
	}
	w := newWorld(t, &keycote.Options{Authorize: own})
	alice := keycote.WithActor(t.Context(), keycote.Actor{ID: "alice", MaxScopes: []string{"**"}})
	root := keycote.WithActor(t.Context(), keycote.Actor{ID: "root", MaxScopes: []string{"**"}})
	p := keycote.IssueParams{Name: "k", RequestID: "r1"}
	k, first, err := w.Issue(alice, p)
	require.NoError(t, err)
	bob := "bob"
	_, err = w.Update(root, k.ID, keycote.Patch{Owner: &bob})
	require.NoError(t, err)
	_, secret, err := w.Issue(alice, p)
	require.ErrorIs(t, err, keycote.ErrForbidden)
	require.True(t, secret.IsZero())
	_, err = w.Verify(t.Context(), first.Reveal(), keycote.Request{})
	require.NoError(t, err, "and the value that is out there still works")
}

// A host may take the tenant from a request, and a stranger may send any.
func TestStrangersDoNotFillTheUseLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const tenants = 6000
	for i := range tenants {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		_, err := w.Tenant(fmt.Sprint("tenant ", i)).Verify(t.Context(), "made-up-value", keycote.Request{Addr: addr})
		require.ErrorIs(t, err, keycote.ErrUnknownKey)
	}
	require.NoError(t, w.Flush(t.Context()))
	rows, sum := 0, int64(0)
	var after keycote.UseCount
	for {
		page, err := w.store.Usage(t.Context(), keycote.UsageQuery{AllTenants: true, After: after, Limit: 1000})
		require.NoError(t, err)
		for _, u := range page {
			rows, sum = rows+1, sum+u.N
		}
		if len(page) < 1000 {
			break
		}
		after = page[len(page)-1]
	}
	require.EqualValues(t, tenants, sum)
	require.LessOrEqual(t, rows, 4097)
}

// With the store away the windows pile up, and still memory is bounded and no count is lost.
func TestStrangersDoNotFillMemoryWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.store.away()
	const windows, each = 80, 4000
	for range windows {
		for i := range each {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			_, _ = w.Verify(t.Context(), "made-up-value", keycote.Request{Addr: addr})
		}
		w.clock.Advance(time.Minute)
	}
	require.LessOrEqual(t, w.UseRows(), 4*65536+256, "as many on their way as there are")
	w.store.back()
	require.NoError(t, w.Flush(t.Context()))
	require.NoError(t, w.Flush(t.Context()))
	var sum int64
	for _, b := range w.store.batches {
		for _, u := range b.Uses {
			sum += u.N
		}
	}
	require.EqualValues(t, windows*each, sum)
}

// Made-up tokens must not spend the reload that a genuine record's seal needs.
func TestJunkTokensDoNotMakeRecordsReadAsTampered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	other := newWorld(t, nil)
	_, foreign := issueCached(t, other.Manager, "foreign")
	_, err := w.Verify(t.Context(), foreign, keycote.Request{}) // names an index key that nobody here knows
	require.ErrorIs(t, err, keycote.ErrUnknownKey)
	before := w.store.readsOf("items")
	k, _ := issueCached(t, w.Manager, "k")
	row := w.raw(k.ID)
	row.Seal = append([]byte{1, 0, 0, 0, 7}, row.Seal[5:]...) // a key that is not there
	row.Revision++
	require.NoError(t, w.store.Store.Commit(t.Context(), keycote.Batch{ID: "b", Update: []keycote.Record{row}}))
	_, err = w.Get(t.Context(), k.ID)
	require.ErrorIs(t, err, keycote.ErrTampered)
	require.Greater(t, w.store.readsOf("items"), before, "it looked first")
}

// A request that was cancelled before it came must not take the minute's look at the keyrings from all others.
func TestACancelledRequestSpendsNoRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, token := issueCached(t, w.Manager, "k")
	w.clock.Advance(2 * time.Minute)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = w.Verify(gone, token, keycote.Request{})
	before := w.store.readsOf("items")
	w.clock.Advance(time.Second)
	_, err := w.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err)
	require.Greater(t, w.store.readsOf("items"), before)
}

// A Store's own words for an outage must not read as a verdict.
func TestAStoresCodesOutOfItsDepth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k, err := w.Add(t.Context(), keycote.AddParams{
		Name: "k", Endpoint: "https://api.example.com", Secret: keycote.NewSecret(strings.Repeat("Va1ue-", 5)),
	})
	require.NoError(t, err)
	m, err := keycote.New(t.Context(), &itemsFail{Store: w.store}, w.kek, &keycote.Options{Now: w.clock.Now})
	require.NoError(t, err)
	_, _, err = m.Use(t.Context(), k.ID, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	require.NotErrorIs(t, err, keycote.ErrRevoked)
}

// itemsFail answers the second reading of items with a Code that is none of a Store's.
type itemsFail struct {
	keycote.Store
	n int
}

func (s *itemsFail) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	if s.n++; s.n > 1 {
		return nil, keycote.ErrRevoked
	}
	return s.Store.Items(ctx, q)
}

// An actor's id stands in events, and not every database takes every byte.
func TestBadActor(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for what, id := range map[string]string{"NUL": "a\x00b", "half a rune": "a\xff", "a mebibyte": strings.Repeat("a", 1<<20)} {
		ctx := keycote.WithActor(t.Context(), keycote.Actor{ID: id, MaxScopes: []string{"**"}})
		_, _, err := r.m.Issue(ctx, keycote.IssueParams{Name: what})
		require.ErrorIs(t, heard(err), keycote.ErrInvalid, what)
		_, err = r.m.Page(ctx, keycote.Filter{}, "", 0)
		require.ErrorIs(t, heard(err), keycote.ErrInvalid, what)
	}
}

// What a Prober says of an endpoint is answered, and may hold what the endpoint answered: the value among it.
func TestAProbersViolationTellsNoValue(t *testing.T) {
	t.Parallel()
	const value = "Kx7-probed-value-Qp42zw"
	w := newWorld(t, &keycote.Options{Prober: func(_ context.Context, _ string, s keycote.Secret) error {
		return keycote.Violation{Field: "at " + s.Reveal(), Code: keycote.Code("refused:" + s.Reveal())}
	}})
	_, err := w.Add(t.Context(), keycote.AddParams{
		Name: "it", Endpoint: "https://api.example.com", Secret: keycote.NewSecret(value),
	})
	var invalid *keycote.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, []keycote.Violation{{Field: "at [redacted]", Code: "probe_failed"}}, invalid.Violations)
	require.NotContains(t, keycote.Message("en", err), value)
}
