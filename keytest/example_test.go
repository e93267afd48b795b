package keytest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// orders is a handler of the host's: it lets in who presents a key with the scope "orders:read".
func orders(keys *keycote.Manager) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := keycote.Request{Scopes: []string{"orders:read"}}
		if _, err := keys.Verify(r.Context(), r.Header.Get("X-API-Key"), want); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
}

func ask(h http.Handler, token string) (status int) {
	r := httptest.NewRequest(http.MethodGet, "/orders", nil)
	r.Header.Set("X-API-Key", token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// A unit test of a handler that is protected by keys, from the first line to the last. In a host's own file testOrders
// is named TestOrders.
func Example() {
	_ = testOrders
}

func testOrders(t *testing.T) {
	env := keytest.New(t, nil)
	handler := orders(env.Manager)

	token := env.Issue("orders:read")
	if status := ask(handler, token); status != http.StatusOK {
		t.Errorf("a good key: %d", status)
	}
	if status := ask(handler, env.Issue("orders:write")); status != http.StatusUnauthorized {
		t.Errorf("a key without the scope: %d", status)
	}

	_, secret, err := env.Manager.Issue(t.Context(), keycote.IssueParams{
		Name: "for a day", Scopes: []string{"orders:read"}, ExpiresAt: env.Clock.Now().Add(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	env.Clock.Advance(24 * time.Hour)
	if status := ask(handler, secret.Reveal()); status != http.StatusUnauthorized {
		t.Errorf("a key after its end: %d", status)
	}
}
