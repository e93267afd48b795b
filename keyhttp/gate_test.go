package keyhttp_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
	"github.com/keycote/keycote/memstore"
)

// noTenant is the name that docs of Options.Tenant give away.
const noTenant = "keyhttp:no-such-tenant"

// tenantOf reads a tenant's name out of a header, and fails in the ways that a host's function does.
func tenantOf(r *http.Request) (string, error) {
	switch name := r.Header.Get("X-Tenant"); name {
	case "empty":
		return "", nil
	case "malformed":
		return " acme", nil
	case "failing":
		return "acme", errors.New("no such tenant")
	default:
		return name, nil
	}
}

// newAway makes a Manager whose store counts.
func newAway(t *testing.T) (*keycote.Manager, *away) {
	t.Helper()
	kek, err := keycote.LocalKEK(filepath.Join(t.TempDir(), "kek.json"))
	require.NoError(t, err)
	store := &away{Store: memstore.New()}
	keys, err := keycote.New(t.Context(), store, kek, nil)
	require.NoError(t, err)
	return keys, store
}

// TestTenantTellsNothing: what a clock may show is how often the store is read, and that is the same whether there is
// such a tenant or not.
func TestTenantTellsNothing(t *testing.T) {
	t.Parallel()
	keys, store := newAway(t)
	_, umbras := issueIn(t, keys.Tenant("umbra"), keycote.IssueParams{Name: "shop"})
	id, gone := issueIn(t, keys.Tenant("umbra"), keycote.IssueParams{Name: "gone"})
	require.NoError(t, keys.Tenant("umbra").Delete(t.Context(), id, ""))
	_, acmes := issueIn(t, keys.Tenant("acme"), keycote.IssueParams{Name: "shop"})
	_, nobodys := issueIn(t, keys.Tenant(noTenant), keycote.IssueParams{Name: "shop"})
	h := keyhttp.Require(keys, &keyhttp.Options{Tenant: tenantOf}, "orders:read")(whoever)
	require.Equal(t, http.StatusOK, ask(t, h, headers("X-Tenant: acme", "X-API-Key: "+acmes)).Code)
	tenants := []string{"acme", "nobody", "empty", "malformed", "failing", noTenant}
	for name, value := range map[string]struct {
		token string
		reads int64
	}{
		"another tenant's": {umbras, 1}, "deleted": {gone, 1}, "of another form": {"correct-horse-battery", 1},
		"made elsewhere": {canary(keytest.New(t, nil).Issue()), 0}, "empty": {"", 0}, "of no tenant": {nobodys, 1},
	} {
		for _, tenant := range tenants {
			before := store.reads.Load()
			w := ask(t, h, headers("X-Tenant: "+tenant, "X-API-Key: "+value.token))
			require.Equal(t, http.StatusUnauthorized, w.Code, "%s, %s", name, tenant)
			require.Equal(t, value.reads, store.reads.Load()-before, "%s, %s", name, tenant)
		}
	}
	store.err = errors.New("away")
	for _, tenant := range tenants {
		require.Equal(t, http.StatusServiceUnavailable, ask(t, h, headers("X-Tenant: "+tenant, "X-API-Key: "+umbras)).Code, tenant)
	}
}

// TestStrangersAreCounted: refusals that the gate finds by itself are in the use log, by address. A request without a key
// that passes is none.
func TestStrangersAreCounted(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	plain := keyhttp.Require(env.Manager, nil)(whoever)
	optional := keyhttp.Require(env.Manager, &keyhttp.Options{Optional: true})(whoever)
	tenants := keyhttp.Require(env.Manager, &keyhttp.Options{Tenant: tenantOf})(whoever)
	from := func(addr string, h http.Handler, lines ...string) {
		ask(t, h, func(r *http.Request) {
			r.RemoteAddr = addr + ":4711"
			headers(lines...)(r)
		})
	}
	from("192.0.2.1", plain)
	from("192.0.2.2", plain, "X-API-Key: a", "Authorization: Bearer a")
	from("192.0.2.3", plain, "X-API-Key: a", "X-API-Key: a")
	from("192.0.2.4", optional)
	from("192.0.2.5", optional, "Authorization: Bearer:a")
	from("192.0.2.6", tenants)
	from("192.0.2.7", tenants, "X-Tenant: failing", "X-API-Key: a")
	from("192.0.2.8", tenants, "X-Tenant: malformed", "X-API-Key: a")
	require.NoError(t, env.Manager.Flush(t.Context()))
	rows, err := env.Store.Usage(t.Context(), keycote.UsageQuery{
		AllTenants: true, Until: env.Clock.Now().Add(time.Hour), Limit: 100,
	})
	require.NoError(t, err)
	got := map[string]string{}
	for _, row := range rows {
		require.Equal(t, []any{"", keycote.ErrUnknownKey, int64(1)}, []any{row.KeyID, row.Outcome, row.N}, row.Addr)
		got[row.Addr] = row.Tenant
	}
	require.Equal(t, map[string]string{
		"192.0.2.1": "", "192.0.2.2": "", "192.0.2.3": "", "192.0.2.5": "", "192.0.2.6": "", "192.0.2.7": noTenant,
		"192.0.2.8": noTenant,
	}, got)
}

// TestLookingAtAManager: to find that a Manager cannot be meant, Require leaves nothing behind in it.
func TestLookingAtAManager(t *testing.T) {
	t.Parallel()
	authorized := 0
	env := keytest.New(t, &keycote.Options{Authorize: func(context.Context, keycote.Actor, keycote.Action, *keycote.Key) error {
		authorized++
		return nil
	}})
	env.Break(nil, keytest.FaultStore)
	var log bytes.Buffer
	keyhttp.Require(env.Manager, &keyhttp.Options{Tenant: tenantOf, Logger: testLogger(&log)})
	require.Empty(t, log.String())
	require.Zero(t, authorized)
	env.Mend()
	require.NoError(t, env.Manager.Flush(t.Context()))
	rows, err := env.Store.Usage(t.Context(), keycote.UsageQuery{
		AllTenants: true, Until: env.Clock.Now().Add(time.Hour), Limit: 100,
	})
	require.NoError(t, err)
	require.Empty(t, rows)
}

// TestOutageIsToldOnce: one line a second however many ask, the number of them in it, and the rest when it is over.
func TestOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	keys, store := newAway(t)
	_, token := issueIn(t, keys, keycote.IssueParams{Name: "shop"})
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := keyhttp.Require(keys, &keyhttp.Options{Logger: testLogger(&log)})(whoever)
		says := func(want ...string) {
			t.Helper()
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			require.Len(t, lines, max(len(want), 1))
			for i := range want {
				require.Contains(t, lines[i], "level=ERROR")
				require.Contains(t, lines[i], want[i])
			}
			log.Reset()
		}
		ask := func(times, status int) {
			t.Helper()
			for range times {
				require.Equal(t, status, ask(t, h, headers("X-API-Key: "+token)).Code)
			}
		}
		ask(3, http.StatusOK)
		store.err = errors.New("away")
		ask(5, http.StatusServiceUnavailable)
		says("requests=1")
		time.Sleep(time.Second - time.Microsecond)
		ask(1, http.StatusServiceUnavailable)
		require.Empty(t, log.String())
		time.Sleep(time.Microsecond)
		ask(2, http.StatusServiceUnavailable)
		says("requests=6")
		store.err = nil
		ask(1, http.StatusOK)
		require.Empty(t, log.String())
		time.Sleep(time.Second)
		ask(9, http.StatusOK)
		says("requests=1")
		time.Sleep(time.Second)
		ask(1, http.StatusOK)
		require.Empty(t, log.String())
	})
}

// TestHangingUp: a client that goes is not the operator's concern, and a time that the host gives up at is.
func TestHangingUp(t *testing.T) {
	t.Parallel()
	keys, store := newAway(t)
	_, token := issueIn(t, keys, keycote.IssueParams{Name: "shop"})
	var log bytes.Buffer
	h := keyhttp.Require(keys, &keyhttp.Options{Logger: testLogger(&log)})(whoever)
	call := func(ctx context.Context) {
		store.err = ctx.Err()
		w := ask(t, h, func(r *http.Request) {
			*r = *r.WithContext(ctx)
			r.Header.Set("X-API-Key", token)
		})
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	call(gone)
	call(gone)
	require.Equal(t, 2, strings.Count(log.String(), "level=DEBUG"), log.String())
	require.NotContains(t, log.String(), "level=ERROR")
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	call(late)
	require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())
	require.Contains(t, log.String(), "requests=1")
}

// TestOptionalWithin: a Grant belongs to the Require that has verified it, and one without a key takes none away.
func TestOptionalWithin(t *testing.T) {
	t.Parallel()
	env, other := keytest.New(t, nil), keytest.New(t, nil)
	id, token := issueIn(t, env.Manager, keycote.IssueParams{Name: "shop"})
	inner := keyhttp.Require(other.Manager, &keyhttp.Options{Optional: true, Header: "X-Partner-Key"})(whoever)
	h := keyhttp.Require(env.Manager, nil)(inner)
	require.Equal(t, "true "+id, ask(t, h, headers("X-API-Key: "+token)).Body.String())
	require.Equal(t, "false ", ask(t, inner, headers("X-API-Key: "+token)).Body.String())

	p := canary(other.Issue())
	both := ask(t, h, headers("X-API-Key: "+token, "X-Partner-Key: "+p))
	require.Equal(t, http.StatusOK, both.Code)
	require.NotEqual(t, "true "+id, both.Body.String(), "the innermost counts")
}
