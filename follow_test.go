package keycote_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/keycote/keycote"
)

// prunedFeed is a Store whose feed can be lost: no position that was given out before then is known any more.
type prunedFeed struct {
	keycote.Store
	pruned int
}

func (s *prunedFeed) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	since := strconv.Itoa(s.pruned) + "/"
	position, known := strings.CutPrefix(after, since)
	if after != "" && !known {
		return nil, "", keycote.ErrNotFound
	}
	changes, next, err := s.Store.Changes(ctx, position)
	return changes, since + next, err
}

// What a lost feed would have named is not known, so all is read anew at once; and the follower finds its way back,
// after which the feed vouches for what is cached as before.
func TestAFeedThatIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	feed := &prunedFeed{Store: r.store}
	here := r.caching(t, feed, stale)
	revoked, token := issue(t, r.m, keycote.IssueParams{Name: "to be revoked"})
	later, lateToken := issue(t, r.m, keycote.IssueParams{Name: "to be revoked later"})
	_, kept := issue(t, r.m, keycote.IssueParams{Name: "to be kept"})
	credential, _ := add(t, r.m, "to be revoked")
	shredded, _ := add(t, r.m.Tenant("acme"), "under a keyring to be shredded")
	warm := func() {
		for _, value := range []string{token, lateToken, kept} {
			require.NoError(t, verifies(t, here, value))
		}
		_, err := opened(t, here, credential.ID)
		require.NoError(t, err)
		_, err = opened(t, here.Tenant("acme"), shredded.ID)
		require.NoError(t, err)
	}
	position := here.Follow(t.Context(), "")
	warm()
	position = here.Follow(t.Context(), position)
	r.store.reads()
	warm()
	reads := r.store.reads()
	require.Zero(t, reads["lookup"]+reads["get"]+reads["items"], "all is cached")
	for _, id := range []string{revoked.ID, credential.ID} {
		_, err := r.m.Revoke(t.Context(), id, "")
		require.NoError(t, err)
	}
	r.shred(t, "acme")
	r.change(t, "", "index", rotated(prf.HMACSHA256PRFKeyTemplate()), r.kek)

	feed.pruned++
	position = here.Follow(t.Context(), position)
	require.ErrorIs(t, verifies(t, here, token), keycote.ErrRevoked)
	_, err := opened(t, here, credential.ID)
	require.ErrorIs(t, err, keycote.ErrRevoked)
	_, err = opened(t, here.Tenant("acme"), shredded.ID)
	require.ErrorIs(t, err, keycote.ErrShredded)
	require.Equal(t, keycote.PrimaryIndexKey(r.open(t, nil)), keycote.PrimaryIndexKey(here))

	position = here.Follow(t.Context(), position)
	require.NoError(t, verifies(t, here, kept))
	require.NoError(t, verifies(t, here, lateToken))
	r.store.reads()
	for passed := time.Duration(0); passed < 4*stale; passed += stale / 2 {
		r.clock.advance(stale / 2)
		position = here.Follow(t.Context(), position)
		require.NoError(t, verifies(t, here, kept))
		require.NoError(t, verifies(t, here, lateToken))
	}
	require.Zero(t, r.store.reads()["lookup"], "the feed vouches again")
	_, err = r.m.Revoke(t.Context(), later.ID, "")
	require.NoError(t, err)
	position = here.Follow(t.Context(), position)
	require.ErrorIs(t, verifies(t, here, lateToken), keycote.ErrRevoked, "and tells again")
	require.NotEmpty(t, position)
}

// A tenant's keyring that the feed names is read again, whatever is left of MaxStale.
func TestAKeyringThatTheFeedNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	here := r.caching(t, r.store, time.Hour)
	acme, _ := add(t, r.m.Tenant("acme"), "k")
	other, _ := add(t, r.m.Tenant("other"), "k")
	use := func(tenant string, k *keycote.Key) error {
		_, err := opened(t, here.Tenant(tenant), k.ID)
		return err
	}
	position := here.Follow(t.Context(), "")
	for range 2 {
		require.NoError(t, use("acme", acme))
		require.NoError(t, use("other", other))
		position = here.Follow(t.Context(), position)
	}
	r.shred(t, "acme")
	require.NoError(t, use("acme", acme), "nobody has told")
	position = here.Follow(t.Context(), position)
	require.ErrorIs(t, use("acme", acme), keycote.ErrShredded)
	require.NoError(t, use("other", other))
	r.shred(t, "other")
	here.Follow(t.Context(), position)
	require.ErrorIs(t, use("other", other), keycote.ErrShredded)
}

// A root keyring that the feed names is held against the store at the next call, and not in a minute.
func TestARootKeyringThatTheFeedNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	here := r.caching(t, r.store, time.Hour)
	k, _ := issue(t, r.m, keycote.IssueParams{Name: "k"})
	get := func() { _, err := here.Get(t.Context(), k.ID); require.NoError(t, err) }
	position := here.Follow(t.Context(), "")
	get()
	position = here.Follow(t.Context(), position)
	before := keycote.PrimaryIndexKey(here)
	r.change(t, "", "index", rotated(prf.HMACSHA256PRFKeyTemplate()), r.kek)
	get()
	require.Equal(t, before, keycote.PrimaryIndexKey(here), "nobody has told")
	here.Follow(t.Context(), position)
	get()
	require.NotEqual(t, before, keycote.PrimaryIndexKey(here))
}
