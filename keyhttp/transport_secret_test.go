package keyhttp

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// TestTransportTellsNobody looks for the value in everything that a caller can lay hands on.
func TestTransportTellsNobody(t *testing.T) {
	t.Parallel()
	basic := func(r *http.Request, s keycote.Secret) { r.SetBasicAuth("shop", s.Reveal()) }
	panics := func(p any) http.RoundTripper {
		return roundTrip(func(*http.Request) (*http.Response, error) { panic(p) })
	}
	fails := func(f func(r *http.Request) error) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) { return nil, f(r) })
	}
	for _, tt := range []struct {
		name  string
		set   func(*http.Request, keycote.Secret)
		base  http.RoundTripper
		is    error
		panic bool
	}{
		{name: "an error with the value", base: fails(func(*http.Request) error { return errors.New(key) })},
		{name: "an error with the request", base: fails(func(r *http.Request) error { return fmt.Errorf("%+v", r) })},
		{name: "an error with the value in hex", base: fails(func(*http.Request) error { return fmt.Errorf("%x", key) })},
		{name: "an error with a header that is made of it", set: basic, base: fails(func(r *http.Request) error {
			return fmt.Errorf("sent %v", r.Header)
		})},
		{name: "an error with an address", base: fails(func(*http.Request) error {
			return &url.Error{Op: "Get", URL: "https://x/?" + url.Values{"k": {key}}.Encode(), Err: context.DeadlineExceeded}
		}), is: context.DeadlineExceeded},
		{name: "an innocent error", base: fails(func(*http.Request) error { return io.ErrUnexpectedEOF }), is: io.ErrUnexpectedEOF},
		{name: "an error with a response", base: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{Body: io.NopCloser(strings.NewReader(key))}, io.ErrUnexpectedEOF
		}), is: io.ErrUnexpectedEOF},
		{name: "neither", base: roundTrip(func(*http.Request) (*http.Response, error) { return nil, nil })},
		{name: "a panic with the value", base: panics("sent " + key)},
		{name: "a panic with an error", base: panics(errors.New(key))},
		{name: "a panic with a struct", base: panics(struct{ v string }{key})},
		{name: "Set panics", set: func(_ *http.Request, s keycote.Secret) { panic(s.Reveal()) }, base: panics("")},
		{name: "Set panics with a header", set: func(r *http.Request, s keycote.Secret) {
			basic(r, s)
			panic(r.Header)
		}, base: panics("")},
		{name: "an innocent panic", base: panics("a bug"), panic: true},
		{name: "no such address", base: &Guard{}, is: codePrivateAddress},
		{name: "nobody listens", base: &Guard{AllowNets: loopback}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := keytest.New(t, nil)
			transport := &Transport{Manager: env.Manager, KeyID: add(t, env, "https://127.0.0.1:1025"), Set: tt.set, Base: tt.base}
			var closed atomic.Bool
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://127.0.0.1:1025", onClose(func() { closed.Store(true) }))
			require.NoError(t, err)
			if tt.panic {
				require.PanicsWithValue(t, "a bug", func() { _, _ = transport.RoundTrip(req) })
				require.True(t, closed.Load())
				return
			}
			resp, err := transport.RoundTrip(req)
			require.Error(t, err)
			require.Nil(t, resp)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				silent(t, fmt.Sprintf("%v %+v %#v", e, e, e))
			}
			silent(t, fmt.Sprintf("%+v", req.Header))
		})
	}
}

// silent holds that text tells neither the value nor the header that HTTP Basic makes of it.
func silent(t *testing.T, text string) {
	t.Helper()
	for _, v := range []string{key, fmt.Sprintf("%x", key), base64.StdEncoding.EncodeToString([]byte("shop:" + key))} {
		require.NotContains(t, text, v)
	}
}

// TestTransportTrace: hooks of net/http/httptrace see each header but the value's; dumps see none.
func TestTransportTrace(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			t.Parallel()
			_, transport, base := world(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Proto", r.Proto)
				w.Header().Set("Right", fmt.Sprint(r.Header.Get("Authorization") == "Bearer "+key))
			})
			if !http2 {
				guard := transport.Base.(*Guard).ready()
				guard.direct.Protocols = new(http.Protocols)
				guard.direct.Protocols.SetHTTP1(true)
			}
			var mu sync.Mutex
			fields := map[string][]string{}
			connected, wrote := 0, 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				WroteHeaderField: func(k string, v []string) {
					mu.Lock()
					defer mu.Unlock()
					fields[http.CanonicalHeaderKey(k)] = v
				},
				GotConn:      func(httptrace.GotConnInfo) { connected++ },
				WroteRequest: func(httptrace.WroteRequestInfo) { wrote++ },
			})
			ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{}) // one around the other
			req, err := http.NewRequestWithContext(ctx, "GET", base+"/v1", nil)
			require.NoError(t, err)
			req.Header.Set("X-Mine", "visible")
			resp, err := (&http.Client{Transport: transport}).Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, "true", resp.Header.Get("Right"))
			require.Equal(t, http2, resp.Header.Get("Proto") == "HTTP/2.0")
			mu.Lock()
			seen := maps.Clone(fields)
			mu.Unlock() // the dumps below call the hooks as well
			require.Equal(t, []string{"[redacted]"}, seen["Authorization"])
			require.Equal(t, []string{"visible"}, seen["X-Mine"])
			require.Equal(t, []int{1, 1}, []int{connected, wrote})
			silent(t, fmt.Sprint(seen))
			for _, r := range []*http.Request{req, resp.Request} {
				dump, err := httputil.DumpRequestOut(r, true)
				require.NoError(t, err)
				silent(t, string(dump))
				dump, err = httputil.DumpRequest(r, true)
				require.NoError(t, err)
				silent(t, string(dump))
			}
			dump, err := httputil.DumpResponse(resp, true)
			require.NoError(t, err)
			silent(t, string(dump))
			silent(t, fmt.Sprintf("%+v %#v", resp, *resp.Request))
		})
	}
}

// TestTransportTLS: a certificate that does not hold is an error without the value, and nothing was said before it.
func TestTransportTLS(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	env, transport, base := world(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	transport = &Transport{Manager: env.Manager, KeyID: transport.KeyID, Base: &Guard{AllowNets: loopback, RootCAs: x509.NewCertPool()}}
	_, err := get(t, transport, base)
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)
	silent(t, fmt.Sprintf("%+v %#v", err, err))
	require.Zero(t, calls.Load())
}
