// Package demotest starts the small examples as their main functions do, and calls them as their users would.
package demotest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/keytest"
)

// Start runs serve until the test ends, and returns the one line that it prints.
func Start(t *testing.T, serve func(ctx context.Context, out io.Writer) error) (line string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, write)
		_ = write.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		check(t, <-ended)
	})
	line, err := bufio.NewReader(read).ReadString('\n')
	check(t, err)
	return line
}

// Words cuts what was printed between quotes and blanks.
func Words(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" '\"\n", r) })
}

// HTTP starts an example and calls it with the key that it issued, with another, and with none.
func HTTP(t *testing.T, routes func(*keycote.Manager) http.Handler) {
	t.Helper()
	words := Words(Start(t, func(ctx context.Context, out io.Writer) error {
		return demo.Serve(ctx, "127.0.0.1:0", out, demo.Curl, routes)
	}))
	key, url := words[4], words[5]
	for _, c := range []struct {
		name, header string
		status       int
		body         string
	}{
		{"the key that was issued", "Bearer " + key, http.StatusOK, "order 7, for key_"},
		{"mistyped", "Bearer " + key[:20] + "~" + key[21:], http.StatusUnauthorized, "urn:keycote:"},
		{"none", "", http.StatusUnauthorized, "urn:keycote:"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		check(t, err)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		resp, err := http.DefaultClient.Do(r)
		check(t, err)
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		check(t, resp.Body.Close())
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.body) {
			t.Errorf("%s: got %d, and a body of %d bytes; want %d and %q", c.name, resp.StatusCode, len(body), c.status, c.body)
		}
	}
}

// Scopes calls an example's routes with a key that may read orders and with one that may write them.
func Scopes(t *testing.T, routes func(*keycote.Manager) http.Handler) {
	t.Helper()
	env := keytest.New(t, nil)
	handler := routes(env.Manager)
	reader, writer := env.Issue("orders:read"), env.Issue("orders:write")
	for _, c := range []struct {
		name, method, token string
		want                int
	}{
		{"a reader reads", http.MethodGet, reader, http.StatusOK},
		{"a reader does not write", http.MethodPut, reader, http.StatusForbidden},
		{"a writer does not read", http.MethodGet, writer, http.StatusForbidden},
		{"a writer writes", http.MethodPut, writer, http.StatusOK},
	} {
		r := httptest.NewRequest(c.method, "/orders/7", nil)
		r.Header.Set("X-API-Key", c.token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: got %d, want %d", c.name, w.Code, c.want)
		}
	}
}

// UseLog calls an example's route once, and holds the use log to what it calls that route.
func UseLog(t *testing.T, routes func(*keycote.Manager) http.Handler, route string) {
	t.Helper()
	env := keytest.New(t, nil)
	r := httptest.NewRequest(http.MethodGet, "/orders/7", nil)
	r.Header.Set("X-API-Key", env.Issue("orders:read"))
	routes(env.Manager).ServeHTTP(httptest.NewRecorder(), r)
	check(t, env.Manager.Flush(t.Context()))
	rows, err := env.Store.Usage(t.Context(), keycote.UsageQuery{Until: env.Clock.Now().Add(time.Hour), Limit: 2})
	check(t, err)
	if len(rows) != 1 || rows[0].Route != route {
		t.Errorf("got %+v; want one row, of %q", rows, route)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
