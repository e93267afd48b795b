package dbtest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// What is ended by a filter has ended, each with its event, and its neighbours have not.
func TestRevokeAll(t *testing.T) {
	onEach(t, "bulk changes", onceEach, func(t *testing.T, e *engine) {
		ctx := t.Context()
		store, db, here := e.fresh(t)
		root, err := openHost(ctx, store, here.kek)
		require.NoError(t, err)
		m := root.Tenant("acme")
		tokens := map[string]string{}
		for i := range 250 {
			owner := []string{"ann", "bob"}[i%2]
			key, secret, err := m.Issue(ctx, keycote.IssueParams{Name: fmt.Sprint(i), Owner: owner})
			require.NoError(t, err)
			tokens[key.ID] = secret.Reveal()
		}
		for _, want := range []int{125, 0} {
			n, err := m.RevokeAll(ctx, keycote.Filter{Owner: "ann", State: keycote.StateActive}, "has left")
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
		n, err := root.RevokeAll(ctx, keycote.Filter{Owner: "bob"}, "another tenant's")
		require.NoError(t, err)
		require.Zero(t, n)
		for key, err := range m.List(ctx, keycote.Filter{}) {
			require.NoError(t, err)
			_, err = m.Verify(ctx, tokens[key.ID], keycote.Request{})
			require.Equal(t, key.Owner == "ann", err != nil, "%v", err)
		}
		here.requireSound(t, db)
		requireTold(t, store, m)
	})
}
