package keycote_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// A value is shown before the transaction that makes its key commits, so somebody may try it too early. What follows is
// about those who remember that it was not there.

func verifies(t testing.TB, m *keycote.Manager, token string) error {
	t.Helper()
	_, err := m.Verify(t.Context(), token, keycote.Request{})
	return heard(err)
}

// requireMissed tries a value twice, the second time without the store.
func (w *world) requireMissed(m *keycote.Manager, token string) {
	w.t.Helper()
	before := w.store.readsOf("lookup")
	require.ErrorIs(w.t, verifies(w.t, m, token), keycote.ErrUnknownKey)
	require.ErrorIs(w.t, verifies(w.t, m, token), keycote.ErrUnknownKey)
	require.Equal(w.t, before+1, w.store.readsOf("lookup"), "that it is not there is remembered")
}

func TestAKeyTriedBeforeItsCommitVerifiesAfterIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &keycote.Options{MaxStale: time.Hour})
	tx := w.begin()
	in, committed := w.In(tx)
	_, token := issue(t, in, keycote.IssueParams{Name: "k"})
	_, theirs := issue(t, in.Tenant("acme"), keycote.IssueParams{Name: "k"})
	w.requireMissed(w.Manager, token)
	w.requireMissed(w.Manager, theirs)
	w.requireMissed(w.Tenant("acme"), theirs)
	tx.commit(t)
	committed()
	require.NoError(t, verifies(t, w.Manager, token))
	require.NoError(t, verifies(t, w.Manager, theirs))
	require.NoError(t, verifies(t, w.Tenant("acme"), theirs))
}

// The same for one whose read was on its way when the transaction committed.
func TestAMissReadBeforeTheCommitIsNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := &readGate{Store: w.store}
	m, err := keycote.New(t.Context(), g, w.kek, &keycote.Options{Now: w.clock.Now, MaxStale: time.Hour})
	require.NoError(t, err)
	tx := w.begin()
	in, committed := m.In(tx)
	_, token := issue(t, in, keycote.IssueParams{Name: "k"})
	g.hold("lookup").during(t,
		func() { _, _ = m.Verify(t.Context(), token, keycote.Request{}) },
		func() {
			tx.commit(t)
			committed()
		},
	)
	require.NoError(t, verifies(t, m, token))
}

// Another process learns of the key within MaxStale. The feed, which names the key, must not make the miss last.
func TestAMissLastsForMaxStaleAtMost(t *testing.T) {
	t.Parallel()
	for name, follows := range map[string]bool{"who follows the feed": true, "who does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			other := w.another(&keycote.Options{MaxStale: stale})
			position := ""
			follow := func() {
				if follows {
					position = other.Follow(t.Context(), position)
				}
			}
			follow()
			follow()
			tx := w.begin()
			in, committed := w.In(tx)
			_, token := issue(t, in, keycote.IssueParams{Name: "k"})
			_, never := issue(t, in, keycote.IssueParams{Name: "rolled back"})
			w.requireMissed(other, token)
			w.requireMissed(other, never)
			tx.batches = tx.batches[:1]
			tx.commit(t)
			committed()
			follow()
			w.clock.Advance(stale - time.Second)
			follow()
			w.clock.Advance(time.Second)
			require.NoError(t, verifies(t, other, token))
			w.requireMissed(other, never)
		})
	}
}
