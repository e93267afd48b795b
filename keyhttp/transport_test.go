package keyhttp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

const key = "Sn0w-on-the-line-88"

// add keeps key for endpoint.
func add(t *testing.T, env *keytest.Env, endpoint string) (id string) {
	t.Helper()
	k, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "it", Endpoint: endpoint, Secret: keycote.NewSecret(key),
	})
	require.NoError(t, err)
	return k.ID
}

// world is a Manager with one credential, and the endpoint that it is for.
func world(t *testing.T, h http.HandlerFunc) (*keytest.Env, *Transport, string) {
	t.Helper()
	server, roots := newServer(t, h)
	env := keytest.New(t, nil)
	return env, &Transport{
		Manager: env.Manager, KeyID: add(t, env, server.URL+"/v1"),
		Base: &Guard{AllowNets: loopback, RootCAs: roots},
	}, server.URL
}

func TestTransport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		set   func(*Transport)
		wants map[string]string
	}{
		{"bearer", func(*Transport) {}, map[string]string{"Authorization": "Bearer " + key}},
		{"another scheme", func(t *Transport) { t.Template = "Token token={key}" },
			map[string]string{"Authorization": "Token token=" + key}},
		{"a header", func(t *Transport) { t.Header = "x-api-key" }, map[string]string{"X-Api-Key": key, "Authorization": ""}},
		{"the header by name", func(t *Transport) { t.Header = "authorization" },
			map[string]string{"Authorization": "Bearer " + key}},
		{"a header's template", func(t *Transport) { t.Header, t.Template = "X-Key", "v1:{key}:" },
			map[string]string{"X-Key": "v1:" + key + ":"}},
		{"a function", func(t *Transport) {
			t.Set = func(r *http.Request, s keycote.Secret) {
				r.SetBasicAuth("shop", s.Reveal())
				r.Header.Set("X-Version", "2")
			}
		}, map[string]string{"X-Version": "2", "Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+key))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got atomic.Pointer[http.Request]
			_, transport, base := world(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Body", string(body))
				got.Store(r)
			})
			tt.set(transport)
			req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v1/charges?page=2", strings.NewReader("the body"))
			require.NoError(t, err)
			req.Header.Set("Accept", "text/plain")
			before := req.Header.Clone()
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, before, req.Header, "the caller's request is never changed")
			require.Same(t, req, resp.Request)
			require.Equal(t, "the body", resp.Header.Get("Body"))
			for name, value := range tt.wants {
				require.Equal(t, value, got.Load().Header.Get(name))
			}
			require.Equal(t, "text/plain", got.Load().Header.Get("Accept"))
			require.NotContains(t, got.Load().RequestURI, key)
		})
	}
}

// TestTransportRefuses: nothing of this reaches the wire, and the body is closed all the same.
func TestTransportRefuses(t *testing.T) {
	t.Parallel()
	never := roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("it was sent")
		return nil, io.ErrUnexpectedEOF
	})
	for _, tt := range []struct {
		name string
		edit func(*Transport, *http.Request)
		code keycote.Code
	}{
		{"another host", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "evil.example", "" }, keycote.ErrAddress},
		{"a host below", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "a.api.example.com", "" }, keycote.ErrAddress},
		{"a host that begins alike", func(_ *Transport, r *http.Request) {
			r.URL.Host, r.Host = "api.example.com.evil.example", ""
		}, keycote.ErrAddress},
		{"another port", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "api.example.com:8443", "" }, keycote.ErrAddress},
		{"in clear", func(_ *Transport, r *http.Request) { r.URL.Scheme = "http" }, keycote.ErrAddress},
		{"in clear on the same port", func(_ *Transport, r *http.Request) {
			r.URL.Scheme, r.URL.Host, r.Host = "http", "api.example.com:443", ""
		}, keycote.ErrAddress},
		{"another scheme", func(_ *Transport, r *http.Request) { r.URL.Scheme = "ftp" }, keycote.ErrAddress},
		{"a user", func(_ *Transport, r *http.Request) { r.URL.User = url.User("a") }, keycote.ErrAddress},
		{"an opaque address", func(_ *Transport, r *http.Request) {
			r.URL.Host, r.URL.Opaque, r.Host = "evil.example", "//api.example.com/v1", ""
		}, keycote.ErrAddress},
		{"a path in the host", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "api.example.com/@evil.example", "" }, keycote.ErrAddress},
		{"a user in the host", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "api.example.com@evil.example", "" }, keycote.ErrAddress},
		{"a query in the host", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "evil.example?.api.example.com", "" }, keycote.ErrAddress},
		{"no host", func(_ *Transport, r *http.Request) { r.URL.Host, r.Host = "", "" }, keycote.ErrAddress},
		{"no URL", func(_ *Transport, r *http.Request) { r.URL = nil }, keycote.ErrAddress},
		{"another Host header", func(_ *Transport, r *http.Request) { r.Host = "evil.example" }, keycote.ErrAddress},
		{"an address for a path", func(_ *Transport, r *http.Request) { r.URL.Path = "http://evil.example/x" }, keycote.ErrAddress},
		{"an address for a path, TLS", func(_ *Transport, r *http.Request) { r.URL.Path = "https://evil.example/x" }, keycote.ErrAddress},
		{"an address for a path, raw", func(_ *Transport, r *http.Request) {
			r.URL.Path, r.URL.RawPath = "http://evil.example/x", "http://evil.example/x"
		}, keycote.ErrAddress},
		{"an address for a raw path alone", func(_ *Transport, r *http.Request) {
			r.URL.RawPath = "http://evil.example/x"
		}, keycote.ErrAddress},
		{"a raw path without a slash", func(_ *Transport, r *http.Request) {
			r.URL.Path, r.URL.RawPath = "/x", "%2Fx"
		}, keycote.ErrAddress},
		{"the end of a host for a path", func(_ *Transport, r *http.Request) { r.URL.Path = ".evil.example/" }, keycote.ErrAddress},
		{"an asterisk for a path", func(_ *Transport, r *http.Request) { r.Method, r.URL.Path = "OPTIONS", "*" }, keycote.ErrAddress},
		{"CONNECT", func(_ *Transport, r *http.Request) { r.Method = "CONNECT" }, keycote.ErrInvalid},
		{"CONNECT to another", func(_ *Transport, r *http.Request) {
			r.Method, r.URL.Path = "CONNECT", "evil.example:443"
		}, keycote.ErrInvalid},
		{"connect", func(_ *Transport, r *http.Request) { r.Method = "connect" }, keycote.ErrInvalid},
		{"TRACE", func(_ *Transport, r *http.Request) { r.Method = "TRACE" }, keycote.ErrInvalid},
		{"track", func(_ *Transport, r *http.Request) { r.Method = "track" }, keycote.ErrInvalid},
		{"a header of its own", func(_ *Transport, r *http.Request) { r.Header.Set("Authorization", "Bearer mine") }, keycote.ErrInvalid},
		{"a header of its own in lower case", func(_ *Transport, r *http.Request) {
			r.Header["authorization"] = []string{"Bearer mine"}
		}, keycote.ErrInvalid},
		{"an empty header of its own", func(t *Transport, r *http.Request) {
			t.Header = "X-Api-Key"
			r.Header["X-Api-Key"] = nil
		}, keycote.ErrInvalid},
		{"a header of its own, Set", func(t *Transport, r *http.Request) {
			t.Set = func(r *http.Request, s keycote.Secret) { r.Header.Set("X-Key", s.Reveal()) }
			r.Header.Set("X-Key", "mine")
		}, keycote.ErrInvalid},
		{"a header of its own, added to by Set", func(t *Transport, r *http.Request) {
			t.Set = func(r *http.Request, s keycote.Secret) { r.Header.Add("X-Key", s.Reveal()) }
			r.Header.Set("X-Key", "mine")
		}, keycote.ErrInvalid},
		{"Set writes into the query", func(t *Transport, _ *http.Request) {
			t.Set = func(r *http.Request, s keycote.Secret) { r.URL.RawQuery = "key=" + s.Reveal() }
		}, keycote.ErrAddress},
		{"Set writes into the path", func(t *Transport, _ *http.Request) {
			t.Set = func(r *http.Request, s keycote.Secret) { r.URL = r.URL.JoinPath(s.Reveal()) }
		}, keycote.ErrAddress},
		{"Set writes an address into the path, and into the caller's", func(t *Transport, own *http.Request) {
			t.Set = func(r *http.Request, _ keycote.Secret) {
				r.URL.Path, own.URL.Path = "http://evil.example/x", "http://evil.example/x"
			}
		}, keycote.ErrAddress},
		{"Set takes the URL away", func(t *Transport, _ *http.Request) {
			t.Set = func(r *http.Request, _ keycote.Secret) { r.URL = nil }
		}, keycote.ErrAddress},
		{"Set changes the Host", func(t *Transport, _ *http.Request) {
			t.Set = func(r *http.Request, _ keycote.Secret) { r.Host = "evil.example" }
		}, keycote.ErrAddress},
		{"Set changes the method", func(t *Transport, _ *http.Request) {
			t.Set = func(r *http.Request, _ keycote.Secret) { r.Method = "DELETE" }
		}, keycote.ErrAddress},
		{"Set and a Header", func(t *Transport, _ *http.Request) {
			t.Header, t.Set = "X-Key", func(*http.Request, keycote.Secret) {}
		}, keycote.ErrInvalid},
		{"a template without the key", func(t *Transport, _ *http.Request) { t.Template = "Bearer" }, keycote.ErrInvalid},
		{"a template with two", func(t *Transport, _ *http.Request) { t.Template = "{key}{key}" }, keycote.ErrInvalid},
		{"a header that is not sent", func(t *Transport, _ *http.Request) { t.Header = "host" }, keycote.ErrInvalid},
		{"a header of the connection", func(t *Transport, _ *http.Request) { t.Header = "connection" }, keycote.ErrInvalid},
		{"TE", func(t *Transport, _ *http.Request) { t.Header = "TE" }, keycote.ErrInvalid},
		{"Upgrade", func(t *Transport, _ *http.Request) { t.Header = "Upgrade" }, keycote.ErrInvalid},
		{"Keep-Alive", func(t *Transport, _ *http.Request) { t.Header = "Keep-Alive" }, keycote.ErrInvalid},
		{"Expect", func(t *Transport, _ *http.Request) { t.Header = "Expect" }, keycote.ErrInvalid},
		{"Trailer", func(t *Transport, _ *http.Request) { t.Header = "trailer" }, keycote.ErrInvalid},
		{"a length", func(t *Transport, _ *http.Request) { t.Header = "Content-Length" }, keycote.ErrInvalid},
		{"a proxy's header", func(t *Transport, _ *http.Request) { t.Header = "Proxy-Authorization" }, keycote.ErrInvalid},
		{"a header with a blank", func(t *Transport, _ *http.Request) { t.Header = "a b" }, keycote.ErrInvalid},
		{"a template with a line break", func(t *Transport, _ *http.Request) { t.Template = "a\n{key}" }, keycote.ErrInvalid},
		{"a template with DEL", func(t *Transport, _ *http.Request) { t.Template = "{key}\x7f" }, keycote.ErrInvalid},
		{"no Manager", func(t *Transport, _ *http.Request) { t.Manager = nil }, keycote.ErrInvalid},
		{"no key", func(t *Transport, _ *http.Request) { t.KeyID = "" }, keycote.ErrInvalid},
		{"another tenant's key", func(t *Transport, _ *http.Request) { t.Manager = t.Manager.Tenant("other") }, keycote.ErrNotFound},
		{"an unknown key", func(t *Transport, _ *http.Request) { t.KeyID = "key_unknown" }, keycote.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := keytest.New(t, nil)
			transport := &Transport{Manager: env.Manager, KeyID: add(t, env, "https://api.example.com/v1"), Base: never}
			var closed atomic.Int64
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://api.example.com/v1", onClose(func() { closed.Add(1) }))
			require.NoError(t, err)
			tt.edit(transport, req)
			_, err = transport.RoundTrip(req)
			require.Equal(t, tt.code, keycote.CodeOf(err), "%v", err)
			require.NotContains(t, fmt.Sprintf("%+v", err), key)
			require.EqualValues(t, 1, closed.Load())
		})
	}
}

// TestTransportSaysWhere: who reads that a request went to the wrong place reads which, and which was right.
func TestTransportSaysWhere(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	transport := &Transport{Manager: env.Manager, KeyID: add(t, env, "https://api.example.com/v1")}
	_, err := get(t, transport, "https://example.com/v1?a=b")
	require.EqualError(t, errors.Unwrap(err), "keycote: use "+transport.KeyID+": address: "+
		"the request goes to https://example.com:443, the credential belongs to https://api.example.com:443")
}

// TestTransportCountsWhatIsOpened: a use is one although the guard keeps it from being sent, and none where the
// Transport itself is wrong.
func TestTransportCountsWhatIsOpened(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	id := add(t, env, "https://127.0.0.1:8443")
	uses := func() (n int64) {
		require.NoError(t, env.Manager.Flush(t.Context()))
		rows, err := env.Store.Usage(t.Context(), keycote.UsageQuery{KeyID: id, Limit: 100})
		require.NoError(t, err)
		for _, row := range rows {
			n += row.N
		}
		return n
	}
	_, err := get(t, &Transport{Manager: env.Manager, KeyID: id, Template: "a\n{key}"}, "https://127.0.0.1:8443")
	require.ErrorIs(t, err, keycote.ErrInvalid)
	require.Zero(t, uses())
	_, err = get(t, &Transport{Manager: env.Manager, KeyID: id}, "https://127.0.0.1:8443")
	require.ErrorIs(t, err, codePrivateAddress)
	require.EqualValues(t, 1, uses())
}

// TestTransportOrigin: what is the same origin in other words is allowed, and plain http where the endpoint is http.
func TestTransportOrigin(t *testing.T) {
	t.Parallel()
	for endpoint, targets := range map[string][]string{
		"https://api.example.com/v1": {"https://api.example.com", "https://API.example.com:443/other?x#y"},
		"http://127.0.0.1:8080":      {"http://127.0.0.1:8080/v1"},
	} {
		env := keytest.New(t, nil)
		sent := 0
		transport := &Transport{Manager: env.Manager, KeyID: add(t, env, endpoint), Base: roundTrip(
			func(r *http.Request) (*http.Response, error) {
				sent++
				require.Equal(t, "Bearer "+key, r.Header.Get("Authorization"))
				return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
			})}
		for _, target := range targets {
			_, err := get(t, transport, target)
			require.NoError(t, err, target)
		}
		require.Equal(t, len(targets), sent)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTransportRedirect: within the origin a redirect is another request with the key; out of it none is sent.
func TestTransportRedirect(t *testing.T) {
	t.Parallel()
	var strays, calls atomic.Int64
	other, otherRoots := newServer(t, func(http.ResponseWriter, *http.Request) { strays.Add(1) })
	clear := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strays.Add(1) }))
	t.Cleanup(clear.Close)
	_, transport, base := world(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		require.Equal(t, []string{"Bearer " + key}, r.Header["Authorization"])
		switch r.URL.Path {
		case "/inside":
			http.Redirect(w, r, "/end", http.StatusPermanentRedirect)
		case "/outside":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/clear":
			http.Redirect(w, r, clear.URL, http.StatusFound)
		case "/user":
			http.Redirect(w, r, "https://a:b@"+r.Host+"/end", http.StatusFound)
		}
	})
	roots := transport.Base.(*Guard).RootCAs
	roots.AddCert(other.Certificate())
	require.NotNil(t, otherRoots)
	resp, err := get(t, transport, base+"/inside")
	require.NoError(t, err)
	require.Equal(t, "/end", resp.Request.URL.Path)
	require.Empty(t, resp.Request.Header["Authorization"])
	for i, path := range []string{"/outside", "/clear", "/user"} {
		_, err = get(t, transport, base+path)
		require.ErrorIs(t, err, keycote.ErrAddress, path)
		if path != "/user" { // which does not say for certain where it goes
			to := map[string]string{"/outside": other.URL, "/clear": clear.URL}[path]
			require.ErrorContains(t, err, "the request goes to "+to+", the credential belongs to "+base)
		}
		require.EqualValues(t, 3+i, calls.Load())
	}
	require.Zero(t, strays.Load())
}

// TestTransportLife: the value is asked for anew each time.
func TestTransportLife(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, &keycote.Options{MaxStale: time.Minute})
	var got string
	transport := &Transport{Manager: env.Manager, KeyID: add(t, env, "https://api.example.com"), Route: "GET /v1/{id}",
		Base: roundTrip(func(r *http.Request) (*http.Response, error) {
			got = r.Header.Get("Authorization")
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		})}
	call := func() error {
		got = ""
		_, err := get(t, transport, "https://api.example.com/v1/7")
		return err
	}
	require.NoError(t, call())
	require.Equal(t, "Bearer "+key, got)
	_, _, err := env.Manager.Rotate(t.Context(), transport.KeyID, keycote.RotateParams{Secret: keycote.NewSecret("Thaw-in-the-line-99")})
	require.NoError(t, err)
	require.NoError(t, call())
	require.Equal(t, "Bearer Thaw-in-the-line-99", got)
	_, err = env.Manager.Disable(t.Context(), transport.KeyID, "")
	require.NoError(t, err)
	require.ErrorIs(t, call(), keycote.ErrDisabled)
	require.Empty(t, got)
	_, err = env.Manager.Enable(t.Context(), transport.KeyID, "")
	require.NoError(t, err)
	require.NoError(t, call())
	_, err = env.Manager.Revoke(t.Context(), transport.KeyID, "")
	require.NoError(t, err)
	require.ErrorIs(t, call(), keycote.ErrRevoked)
	require.Empty(t, got)
	require.NoError(t, env.Manager.Flush(t.Context()))
	rows, err := env.Store.Usage(t.Context(), keycote.UsageQuery{KeyID: transport.KeyID, Limit: 100})
	require.NoError(t, err)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		require.Equal(t, "GET /v1/{id}", row.Route)
	}
}

// TestTransportGuards: a nil Base reaches nothing private, whatever the Validator let pass.
func TestTransportGuards(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	transport := &Transport{Manager: env.Manager, KeyID: add(t, env, "https://127.0.0.1:8443")}
	_, err := get(t, transport, "https://127.0.0.1:8443")
	require.ErrorIs(t, err, codePrivateAddress)
	transport.CloseIdleConnections()
	(&Transport{Base: roundTrip(nil)}).CloseIdleConnections()
	_, err = get(t, &Transport{}, "https://example.com")
	require.ErrorIs(t, err, keycote.ErrInvalid)
}

// TestTransportBody: what Set makes of a body is sent, and a refusal closes it.
func TestTransportBody(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	_, transport, base := world(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s := string(body)
		got.Store(&s)
	})
	transport.Set = func(r *http.Request, s keycote.Secret) {
		body, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		signed := append(body, ", signed"...)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(signed)), int64(len(signed))
		r.Header.Set("X-Signature", s.Reveal())
	}
	resp, err := (&http.Client{Transport: transport}).Post(base+"/v1", "text/plain", strings.NewReader("the body"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "the body, signed", *got.Load())
}

// TestTransportConcurrent is for the race detector.
func TestTransportConcurrent(t *testing.T) {
	t.Parallel()
	_, transport, base := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			resp, err := get(t, transport, base+"/v1")
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestTransportDoors shows the three doors together: the validator's, the guard's and the origin's.
func TestTransportDoors(t *testing.T) {
	t.Parallel()
	server, roots := newServer(t, func(http.ResponseWriter, *http.Request) {})
	nets := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	env := keytest.New(t, &keycote.Options{Validator: keycote.NewValidator(&keycote.ValidatorOptions{AllowNets: nets})})
	id := add(t, env, server.URL)
	client := func(g *Guard) *http.Client {
		g.RootCAs = roots
		return &http.Client{Transport: &Transport{Manager: env.Manager, KeyID: id, Base: g}}
	}
	_, err := client(&Guard{}).Get(server.URL)
	require.ErrorIs(t, err, codePrivateAddress)
	resp, err := client(&Guard{AllowNets: nets}).Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}
