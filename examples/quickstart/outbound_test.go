package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

const outboundKey = "Sn0w-on-the-line-88"

// newApp is an application without its servers, acting as the host that it is.
func newApp(t *testing.T) *app {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	f, err := newFiles(t.TempDir())
	require.NoError(t, err)
	db, err := openDatabase(t.Context(), f.db)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	keys, err := openKeys(t.Context(), db, f, log)
	require.NoError(t, err)
	require.NoError(t, ensureAdmin(t.Context(), keys, filepath.Join(f.data, "admin.header")))
	return &app{db: db, keys: keys, log: log}
}

// TestOutboundCall shows that a credential reaches its own endpoint and nothing else, and that nothing comes back of it.
func TestOutboundCall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		answer    func(w http.ResponseWriter, r *http.Request, other string)
		otherCert bool
		says      string // part of the error; empty: none
		calls     int64
	}{
		{
			name:  "right",
			calls: 1,
			answer: func(w http.ResponseWriter, r *http.Request, _ string) {
				writeJSON(w, 200, map[string]bool{"authorized": r.Header.Get("Authorization") == "Bearer "+outboundKey})
			},
		},
		{
			name:  "redirect elsewhere",
			calls: 1,
			says:  "redirect",
			answer: func(w http.ResponseWriter, r *http.Request, other string) {
				http.Redirect(w, r, other, http.StatusTemporaryRedirect)
			},
		},
		{
			name:  "redirect to itself",
			calls: 1,
			says:  "redirect",
			answer: func(w http.ResponseWriter, r *http.Request, _ string) {
				http.Redirect(w, r, "/again", http.StatusFound)
			},
		},
		{
			name:  "repeats what it was sent",
			calls: 1,
			says:  "not JSON",
			answer: func(w http.ResponseWriter, r *http.Request, _ string) {
				_, _ = io.WriteString(w, r.Header.Get("Authorization"))
			},
		},
		{name: "another certificate", otherCert: true, says: "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls, strays atomic.Int64
			other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strays.Add(1) }))
			t.Cleanup(other.Close)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				tt.answer(w, r, other.URL)
			}))
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			server.StartTLS()
			t.Cleanup(server.Close)
			trusted := server.Certificate()
			if tt.otherCert {
				made, err := selfSigned(server.Certificate().NotBefore.AddDate(50, 0, 0))
				require.NoError(t, err)
				trusted = made.Leaf
			}
			a := newApp(t)
			a.guard = newGuard(trusted, server.Listener.Addr())
			ctx := keycote.WithActor(t.Context(), keycote.Actor{ID: "test", Roles: []string{"admin"}})
			key, err := a.keys.Add(ctx, keycote.AddParams{
				Name: "it", Endpoint: server.URL, Secret: keycote.NewSecret(outboundKey),
			})
			require.NoError(t, err)

			got, err := a.call(ctx, key.ID)
			require.Equal(t, tt.calls, calls.Load())
			require.Zero(t, strays.Load())
			if tt.says == "" {
				require.NoError(t, err)
				require.Equal(t, answer{KeyID: key.ID, Version: 1, Status: 200, Authorized: true}, got)
				return
			}
			require.ErrorIs(t, err, errUpstream)
			require.ErrorContains(t, err, tt.says)
			require.NotContains(t, err.Error(), outboundKey)
			require.Zero(t, got)
		})
	}
}

// TestOneAddress shows that nothing private but the echo endpoint is dialled, whatever a credential says.
func TestOneAddress(t *testing.T) {
	t.Parallel()
	var strays atomic.Int64
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strays.Add(1) }))
	t.Cleanup(other.Close)
	at := other.Listener.Addr().(*net.TCPAddr)
	for code, echo := range map[keycote.Code]*net.TCPAddr{
		"not_allowed":     {IP: at.IP, Port: at.Port - 1},
		"private_address": {IP: net.IPv4(127, 0, 0, 2), Port: at.Port},
	} {
		guard := newGuard(other.Certificate(), echo)
		req, err := http.NewRequestWithContext(t.Context(), "GET", other.URL, nil)
		require.NoError(t, err)
		_, err = (&http.Client{Transport: guard}).Do(req)
		require.ErrorIs(t, err, code)
		require.Zero(t, strays.Load())
	}
}

// TestUnavailable shows that a database that is away is not taken for a key that is wrong.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	ctx := keycote.WithActor(t.Context(), keycote.Actor{ID: "test", Roles: []string{"admin"}, MaxScopes: []string{"**"}})
	_, secret, err := a.keys.Issue(ctx, keycote.IssueParams{Name: "shop", Scopes: []string{"orders:read"}})
	require.NoError(t, err)
	handler := a.routes("127.0.0.1:8321")
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:8321/orders", strings.NewReader(""))
		r.Header.Set("Authorization", "Bearer "+secret.Reveal())
		handler.ServeHTTP(w, r)
		return w
	}
	require.Equal(t, http.StatusOK, ask().Code)
	require.NoError(t, a.db.Close())
	w := ask()
	require.Equal(t, http.StatusServiceUnavailable, w.Code, w.Body)
	require.Contains(t, w.Body.String(), `"unavailable"`)
	require.NotContains(t, w.Body.String(), "sql")
	require.Empty(t, w.Header().Get("WWW-Authenticate"))
}
