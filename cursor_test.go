package keycote_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// cursorWorld has keys of two applications in two tenants and in the unnamed one.
func cursorWorld(t testing.TB) (world *keytest.Env, views map[string]*keycote.Manager) {
	t.Helper()
	env := keytest.New(t, nil)
	views = map[string]*keycote.Manager{
		"": env.Manager, "acme": env.Manager.Tenant("acme"), "bolt": env.Manager.Tenant("bolt"),
	}
	for tenant, keys := range views {
		for i := range 6 {
			_, _, err := keys.Issue(t.Context(), keycote.IssueParams{
				Name: fmt.Sprintf("%s %d", tenant+"-", i), App: []string{"shop", "mill"}[i%2],
			})
			require.NoError(t, err)
		}
	}
	return env, views
}

func TestCursors(t *testing.T) {
	t.Parallel()
	_, views := cursorWorld(t)
	acme, shop := views["acme"], keycote.Filter{App: "shop"}
	first, err := acme.Page(t.Context(), shop, "", 2)
	require.NoError(t, err)
	require.Len(t, first.Keys, 2)
	next, err := acme.Page(t.Context(), shop, first.Next, 2)
	require.NoError(t, err)
	require.Len(t, next.Keys, 1)
	require.Empty(t, next.Next)

	raw, err := base64.RawURLEncoding.DecodeString(first.Next)
	require.NoError(t, err)
	changed := func(i int) string {
		b := slices.Clone(raw)
		b[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for _, c := range []struct {
		name   string
		keys   *keycote.Manager
		filter keycote.Filter
		cursor string
	}{
		{"another tenant's", views["bolt"], shop, first.Next},
		{"the unnamed tenant's", views[""], shop, first.Next},
		{"another filter's", acme, keycote.Filter{App: "mill"}, first.Next},
		{"the empty filter's", acme, keycote.Filter{}, first.Next},
		{"the other way round", acme, keycote.Filter{App: "shop", Newest: true}, first.Next},
		{"another format", acme, shop, changed(0)},
		{"another hash", acme, shop, changed(1)},
		{"padded", acme, shop, first.Next + "="},
		{"standard base64", acme, shop, "+" + first.Next[1:]},
		{"a newline", acme, shop, first.Next[:4] + "\n" + first.Next[4:]},
		{"cut", acme, shop, base64.RawURLEncoding.EncodeToString(raw[:17])},
		{"cut in the hash", acme, shop, base64.RawURLEncoding.EncodeToString(raw[:16])},
		{"an id that is a novel", acme, shop, keycote.CursorTo(acme, shop, strings.Repeat("k", 256))},
		{"endless", acme, shop, first.Next + strings.Repeat("A", 4096)},
		{"a control character", acme, shop, keycote.CursorTo(acme, shop, "key_\x00")},
		{"not UTF-8", acme, shop, keycote.CursorTo(acme, shop, "key_\xff")},
		{"an id alone", acme, shop, first.Keys[1].ID},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := c.keys.Page(t.Context(), c.filter, c.cursor, 2)
			require.ErrorIs(t, err, keycote.ErrInvalid)
		})
	}
}

// FuzzCursor: a cursor comes back from a browser. Whatever became of it there, it opens no other tenant's page and no
// other filter's, also when somebody has worked out a good hash for an id of his own.
func FuzzCursor(f *testing.F) {
	_, views := cursorWorld(f)
	tenants := []string{"", "acme", "bolt"}
	for _, tenant := range tenants {
		page, err := views[tenant].Page(f.Context(), keycote.Filter{App: "shop"}, "", 1)
		require.NoError(f, err)
		f.Add(page.Next, page.Keys[0].ID, uint8(1), false)
		f.Add("", "key_", uint8(2), true)
	}
	f.Add("AQ", "~", uint8(0), true)
	f.Add("", "\xff", uint8(0), false)
	f.Fuzz(func(t *testing.T, cursor, last string, which uint8, newest bool) {
		tenant := tenants[int(which)%len(tenants)]
		keys, filter := views[tenant], keycote.Filter{App: "shop", Newest: newest}
		for _, c := range []string{cursor, keycote.CursorTo(keys, filter, last)} {
			page, err := keys.Page(t.Context(), filter, c, 4)
			if err != nil {
				require.ErrorIs(t, err, keycote.ErrInvalid)
				continue
			}
			for _, key := range page.Keys {
				require.Equal(t, tenant, key.Tenant)
				require.Equal(t, "shop", key.App)
			}
			require.LessOrEqual(t, len(page.Keys), 3)
			require.True(t, slices.IsSortedFunc(page.Keys, func(a, b *keycote.Key) int {
				if newest {
					a, b = b, a
				}
				return strings.Compare(a.ID, b.ID)
			}))
		}
	})
}
