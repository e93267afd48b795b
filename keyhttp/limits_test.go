package keyhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
)

// A key with a Limit is told where it stands with each answer, and when to come back by the one that refuses it.
func TestRequireTellsLimits(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	_, secret, err := env.Manager.Issue(t.Context(), keycote.IssueParams{
		Name: "limited", Limit: keycote.Limit{Rate: 2, Per: 10 * time.Second, Quota: 100, Period: time.Hour},
	})
	require.NoError(t, err)
	handler := keyhttp.Require(env.Manager, nil)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	call := func(token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	const policy = `"rate";q=2;w=10, "quota";q=100;w=3600`
	for _, want := range []struct {
		status       int
		state, after string
	}{
		{200, `"rate";r=1;t=5, "quota";r=99;t=3600`, ""},
		{200, `"rate";r=0;t=10, "quota";r=98;t=3600`, ""},
		{429, `"rate";r=0;t=10, "quota";r=98;t=3600`, "5"},
	} {
		w := call(secret.Reveal())
		require.Equal(t, want.status, w.Code)
		require.Equal(t, policy, w.Header().Get("RateLimit-Policy"))
		require.Equal(t, want.state, w.Header().Get("RateLimit"))
		require.Equal(t, want.after, w.Header().Get("Retry-After"))
	}
	env.Clock.Advance(5 * time.Second)
	require.Equal(t, 200, call(secret.Reveal()).Code, "Retry-After is when it works again")

	_, secret, err = env.Manager.Issue(t.Context(), keycote.IssueParams{
		Name: "bursting", Limit: keycote.Limit{Rate: 1, Per: time.Second, Burst: 2},
	})
	require.NoError(t, err)
	for _, want := range []string{`"rate";r=1;t=1`, `"rate";r=0;t=2`, `"rate";r=0;t=2`} {
		w := call(secret.Reveal())
		require.Equal(t, `"rate";q=2;w=2`, w.Header().Get("RateLimit-Policy"), "what is left is never more than what is allowed")
		require.Equal(t, want, w.Header().Get("RateLimit"))
	}

	w := call(env.Issue())
	require.Equal(t, 200, w.Code)
	require.Empty(t, w.Header().Get("RateLimit"), "a key without a limit has none to tell of")
}
