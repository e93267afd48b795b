package keyhttp

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// answers writes a status and a body.
func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// TestPingPong holds the protocol: what is sent, and each answer that is none.
func TestPingPong(t *testing.T) {
	t.Parallel()
	const failed, refused = "endpoint: probe_failed", "secret: key_refused"
	const pong = `{"result":"pong"}`
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // the violation; empty: none
	}{
		{"pong", answers(200, pong), ""},
		{"more in the object", answers(200, ` {"a":[{"result":1}],"result":"pong","b":null}`+"\r\n"), ""},
		{"pong in escapes", answers(200, `{"re\u0073ult":"p\u006fng"}`), ""},
		{"packed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, pong)
			_ = z.Close()
		}, ""},
		{"201", answers(201, pong), failed},
		{"202", answers(202, pong), failed},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, failed},
		{"206", answers(206, pong), failed},
		{"400", answers(400, pong), failed},
		{"404", answers(404, pong), failed},
		{"407", answers(407, pong), failed},
		{"500", answers(500, pong), failed},
		{"401", answers(401, pong), refused},
		{"403", answers(403, pong), refused},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, failed},
		{"a redirect to what would do", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/other")
			answers(302, pong)(w, r)
		}, failed},
		{"nothing", answers(200, ""), failed},
		{"text", answers(200, "pong"), failed},
		{"a string", answers(200, `"pong"`), failed},
		{"a page", answers(200, "<html>pong</html>"), failed},
		{"null", answers(200, "null"), failed},
		{"an array", answers(200, `["pong"]`), failed},
		{"an object in an array", answers(200, "["+pong+"]"), failed},
		{"an empty object", answers(200, "{}"), failed},
		{"an object in an object", answers(200, `{"data":`+pong+`}`), failed},
		{"an object in the result", answers(200, `{"result":`+pong+`}`), failed},
		{"an array in the result", answers(200, `{"result":["pong"]}`), failed},
		{"null in the result", answers(200, `{"result":null}`), failed},
		{"true in the result", answers(200, `{"result":true}`), failed},
		{"PONG", answers(200, `{"result":"PONG"}`), failed},
		{"Result", answers(200, `{"Result":"pong"}`), failed},
		{"a blank", answers(200, `{"result":"pong "}`), failed},
		{"twice", answers(200, `{"result":"pong","result":"pong"}`), failed},
		{"twice, the last one right", answers(200, `{"result":"no","result":"pong"}`), failed},
		{"something behind", answers(200, pong+pong), failed},
		{"a brace behind", answers(200, pong+"}"), failed},
		{"cut off", answers(200, `{"result":"pong"`), failed},
		{"a comma too many", answers(200, `{"result":"pong",}`), failed},
		{"no JSON", answers(200, `{'result':'pong'}`), failed},
		{"a byte order mark", answers(200, "\ufeff"+pong), failed},
		{"no UTF-8", answers(200, "{\"a\":\"\xff\",\"result\":\"pong\"}"), failed},
		{"too long", answers(200, strings.Repeat(" ", maxPong)+pong), failed},
		{"broken off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answers(200, pong)(w, r)
		}, failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			server, roots := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				body, err := io.ReadAll(r.Body)
				if err != nil || r.Method != "POST" || r.URL.Path != "/ping" || string(body) != `{"point":"ping","params":{}}` ||
					r.Header.Get("Authorization") != "Bearer "+key || r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("it was sent %s %s %s %v", r.Method, r.URL, body, err)
				}
				tt.answer(w, r)
			})
			prober := PingPong(&Guard{AllowNets: loopback, RootCAs: roots})
			err := prober(t.Context(), server.URL+"/ping", keycote.NewSecret(key))
			require.EqualValues(t, 1, calls.Load(), "no redirect is followed, and nothing is tried twice")
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			var v keycote.Violation
			require.ErrorAs(t, err, &v)
			require.Equal(t, tt.want, v.Error())
			require.Empty(t, v.Text, "the answer is shown to nobody")
			require.Empty(t, v.Params)
		})
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]keycote.Code{
		200: "", 204: "", 301: "", 307: "", 400: "", 404: "", 405: "", 429: "", 500: "", 503: "",
		401: codeKeyRefused, 403: codeKeyRefused,
	} {
		var calls atomic.Int64
		server, roots := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			if r.Method != "GET" || r.Header.Get("Authorization") != "Bearer "+key || r.ContentLength != 0 {
				t.Errorf("it was sent %s %v", r.Method, r.Header)
			}
			w.Header().Set("Location", "/other")
			w.WriteHeader(status)
		})
		err := Reachable(&Guard{AllowNets: loopback, RootCAs: roots})(t.Context(), server.URL, keycote.NewSecret(key))
		require.Equal(t, want, keycote.CodeOf(err), status)
		require.EqualValues(t, 1, calls.Load(), status)
		if err != nil {
			require.Equal(t, "secret: key_refused", err.Error())
		}
	}
}

// TestProbeFails: what goes wrong on the way is a violation of the endpoint, and the end of the context is none.
func TestProbeFails(t *testing.T) {
	t.Parallel()
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.Copy(io.Discard, r.Body) // until then the server does not hear of a client that goes
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	secure, _ := newServer(t, func(http.ResponseWriter, *http.Request) {})
	probers := map[string]func(*Guard) keycote.Prober{"Reachable": Reachable, "PingPong": PingPong}
	for name, prober := range probers {
		for _, tt := range []struct {
			name, endpoint string
			guard          *Guard
			want           keycote.Code
		}{
			{"nil guards", silent.URL, nil, codePrivateAddress},
			{"private", "https://169.254.169.254/", &Guard{}, codePrivateAddress},
			{"a port", "https://127.0.0.1:22/", &Guard{AllowNets: loopback}, codeNotAllowed},
			{"a user", "https://a:b@127.0.0.1/", &Guard{AllowNets: loopback}, codeUserInfo},
			{"a scheme", "ftp://127.0.0.1/", &Guard{AllowNets: loopback}, codeScheme},
			{"no URL", "https://%zz", &Guard{}, codeSyntax},
			{"a certificate", secure.URL, &Guard{AllowNets: loopback}, codeProbeFailed},
			{"nobody listens", "https://127.0.0.1:1025/", &Guard{AllowNets: loopback}, codeProbeFailed},
			{"no answer", silent.URL, &Guard{AllowNets: loopback, Timeout: 50 * time.Millisecond}, codeProbeFailed},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				err := prober(tt.guard)(t.Context(), tt.endpoint, keycote.NewSecret(key))
				require.Equal(t, tt.want, keycote.CodeOf(err), "%v", err)
				var v keycote.Violation
				require.ErrorAs(t, err, &v)
				require.Equal(t, "endpoint", v.Field)
			})
		}
		t.Run(name+", the context ends", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			err := prober(&Guard{AllowNets: loopback})(ctx, silent.URL, keycote.NewSecret(key))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Empty(t, keycote.CodeOf(err), "the probe could not be made")
		})
	}
}

// TestProbeTrace: a hook that a caller left in the context sees no value.
func TestProbeTrace(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(answers(200, `{"result":"pong"}`))
	t.Cleanup(server.Close)
	seen := map[string][]string{}
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		WroteHeaderField: func(k string, v []string) { seen[k] = v },
	})
	require.NoError(t, PingPong(&Guard{AllowNets: loopback})(ctx, server.URL, keycote.NewSecret(key)))
	require.Equal(t, []string{"[redacted]"}, seen["Authorization"])
	silent(t, fmt.Sprint(seen))
}

// TestProbeKeepsNothing: where the probe fails nothing is stored, on each call that brings an endpoint or a value,
// unless the caller says to skip it.
func TestProbeKeepsNothing(t *testing.T) {
	t.Parallel()
	var right atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !right.Load() {
			answers(200, r.Header.Get("Authorization"))(w, r) // an endpoint that repeats what it was sent
			return
		}
		answers(200, `{"result":"pong"}`)(w, r)
	}))
	t.Cleanup(server.Close)
	env := keytest.New(t, &keycote.Options{Prober: PingPong(&Guard{AllowNets: loopback})})
	params := keycote.AddParams{Name: "it", Endpoint: server.URL, Secret: keycote.NewSecret(key)}
	_, err := env.Manager.Add(t.Context(), params)
	var invalid *keycote.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, []keycote.Violation{{Field: "endpoint", Code: "probe_failed"}}, invalid.Violations)
	require.Equal(t, "Endpoint: the endpoint could not be reached or did not answer as expected", keycote.Message("en", err))
	page, err := env.Manager.Page(t.Context(), keycote.Filter{}, "", 0)
	require.NoError(t, err)
	require.Empty(t, page.Keys)

	right.Store(true)
	k, err := env.Manager.Add(t.Context(), params)
	require.NoError(t, err)
	right.Store(false)
	next := keycote.NewSecret("Thaw-in-the-line-99")
	elsewhere := "https://169.254.169.254/"
	_, _, err = env.Manager.Rotate(t.Context(), k.ID, keycote.RotateParams{Secret: next})
	require.ErrorIs(t, err, codeProbeFailed)
	_, err = env.Manager.Update(t.Context(), k.ID, keycote.Patch{Endpoint: &elsewhere, Secret: next})
	require.ErrorIs(t, err, codePrivateAddress)
	after, err := env.Manager.Get(t.Context(), k.ID)
	require.NoError(t, err)
	require.Equal(t, k.Revision, after.Revision)
	_, _, err = env.Manager.Rotate(t.Context(), k.ID, keycote.RotateParams{Secret: next, SkipProbe: true})
	require.NoError(t, err)
}

// FuzzPong: what is taken for a pong is one to any reader of JSON.
func FuzzPong(f *testing.F) {
	for _, s := range []string{`{"result":"pong"}`, `{"a":{"result":1},"result":"pong"} `, `{"result":"pong","result":"pong"}`,
		`null`, `[]`, `{"Result":"pong"}`, `{"result":"PONG"}`, "{\"\xff\":1,\"result\":\"pong\"}", `{"result":"pong"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !isPong(body) {
			return
		}
		var object map[string]any
		if err := json.Unmarshal(body, &object); err != nil || object["result"] != "pong" {
			t.Errorf("%q is taken for a pong: %v", body, err)
		}
	})
}
