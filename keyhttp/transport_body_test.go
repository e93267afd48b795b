package keyhttp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// dying is a server that reads the second request of its first connection, and closes it without an answer, as one does
// that has given the connection up meanwhile. It returns what it was sent, body after body.
func dying(t *testing.T) (address string, bodies func() []string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var got []string
	serve := func(conn net.Conn, first bool) {
		defer conn.Close()
		for r, n := bufio.NewReader(conn), 0; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			mu.Lock()
			got = append(got, string(body)+" "+req.Header.Get("X-Signature"))
			mu.Unlock()
			if first && n == 1 {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(conn, n == 0) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return "http://" + listener.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

// TestTransportRetry: net/http sends a request once more when a connection that was used before has died. Never with
// another body than the headers were made for.
func TestTransportRetry(t *testing.T) {
	t.Parallel()
	// sign puts another body into the place of the caller's, of the same length, so that no length gives it away.
	sign := func(r *http.Request, s keycote.Secret) []byte {
		body, _ := io.ReadAll(r.Body)
		body = bytes.ToUpper(body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("X-Signature", strconv.Itoa(len(s.Reveal())))
		return body
	}
	const signed, plain = "THE BODY 19", "the body 19"
	for _, tt := range []struct {
		name  string
		set   func(*http.Request, keycote.Secret)
		wants []string // after the first request
		fails bool
	}{
		{"Set replaces the body alone", func(r *http.Request, s keycote.Secret) { sign(r, s) }, []string{signed}, true},
		{"Set gives the body again", func(r *http.Request, s keycote.Secret) {
			body := sign(r, s)
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		}, []string{signed, signed}, false},
		{"Set makes its body of the caller's", func(r *http.Request, s keycote.Secret) {
			again := r.GetBody
			sign(r, s)
			r.GetBody = func() (io.ReadCloser, error) {
				b, err := again()
				if err != nil {
					return nil, err
				}
				body, err := io.ReadAll(b)
				return io.NopCloser(bytes.NewReader(bytes.ToUpper(body))), err
			}
		}, []string{signed, signed}, false},
		{"Set reads the body and leaves it", func(r *http.Request, s keycote.Secret) {
			b, err := r.GetBody()
			require.NoError(t, err)
			body, err := io.ReadAll(b)
			require.NoError(t, err)
			require.Equal(t, "the body", string(body))
			r.Header.Set("X-Signature", strconv.Itoa(len(s.Reveal())))
		}, []string{plain, plain}, false},
		{"no Set", nil, []string{"the body ", "the body "}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, bodies := dying(t)
			env := keytest.New(t, nil)
			guard := &Guard{AllowNets: loopback}
			t.Cleanup(guard.CloseIdleConnections)
			transport := &Transport{Manager: env.Manager, KeyID: add(t, env, address), Base: guard, Set: tt.set}
			send := func() error {
				req, err := http.NewRequestWithContext(t.Context(), "POST", address, strings.NewReader("the body"))
				require.NoError(t, err)
				req.Header.Set("Idempotency-Key", "1")
				resp, err := transport.RoundTrip(req)
				if err == nil {
					err = resp.Body.Close()
				}
				return err
			}
			require.NoError(t, send())
			require.Equal(t, tt.fails, send() != nil)
			require.Equal(t, tt.wants, bodies()[1:])
		})
	}
}

// TestTransportClosesBodies: whatever Set does with the caller's body, it is closed, and once.
func TestTransportClosesBodies(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*http.Request, keycote.Secret){
		"left":     func(*http.Request, keycote.Secret) {},
		"dropped":  func(r *http.Request, _ keycote.Secret) { r.Body, r.ContentLength = nil, 0 },
		"no body":  func(r *http.Request, _ keycote.Secret) { r.Body, r.ContentLength = http.NoBody, 0 },
		"replaced": func(r *http.Request, _ keycote.Secret) { r.Body = io.NopCloser(strings.NewReader("it")) },
		"closed by Set": func(r *http.Request, _ keycote.Secret) {
			_, r.Body = r.Body.Close(), io.NopCloser(strings.NewReader("it"))
		},
		"wrapped": func(r *http.Request, _ keycote.Secret) { r.Body = io.NopCloser(bufio.NewReader(r.Body)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := keytest.New(t, nil)
			id := add(t, env, "https://api.example.com")
			transport := &Transport{Manager: env.Manager, KeyID: id, Set: set, Base: roundTrip(
				func(r *http.Request) (*http.Response, error) {
					if r.Body != nil {
						_, err := io.Copy(io.Discard, r.Body)
						return &http.Response{StatusCode: 204, Body: http.NoBody}, errors.Join(err, r.Body.Close())
					}
					return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
				})}
			var closed atomic.Int64
			body := onClose(func() { closed.Add(1) })
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://api.example.com", body)
			require.NoError(t, err)
			_, err = transport.RoundTrip(req)
			require.NoError(t, err)
			require.EqualValues(t, 1, closed.Load())
		})
	}
}

// atEOF calls a function before it says that it has ended.
type atEOF struct {
	io.Reader
	end func()
}

func (r atEOF) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.end()
	}
	return n, err
}

// TestTransportTrailers: trailers may be filled in while the body is read, by the caller and by Set; those of Set are
// in no error.
func TestTransportTrailers(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		t.Run("HTTP/2 "+strconv.FormatBool(http2), func(t *testing.T) {
			t.Parallel()
			var got atomic.Pointer[http.Header]
			_, transport, base := world(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				got.Store(&r.Trailer)
			})
			if !http2 {
				guard := transport.Base.(*Guard).ready()
				guard.direct.Protocols = new(http.Protocols)
				guard.direct.Protocols.SetHTTP1(true)
			}
			send := func() error {
				trailer := http.Header{"X-Sum": nil}
				req, err := http.NewRequestWithContext(t.Context(), "POST", base, atEOF{strings.NewReader("it"), func() {
					trailer.Set("X-Sum", "42")
				}})
				require.NoError(t, err)
				req.Trailer = trailer
				resp, err := transport.RoundTrip(req)
				if err != nil {
					return err
				}
				return resp.Body.Close()
			}
			require.NoError(t, send())
			require.Equal(t, http.Header{"X-Sum": {"42"}}, *got.Load())

			transport = &Transport{Manager: transport.Manager, KeyID: transport.KeyID, Base: transport.Base,
				Set: func(r *http.Request, s keycote.Secret) {
					trailer := r.Trailer
					trailer["X-Early"], trailer["X-Late"] = []string{s.Reveal()}, nil
					r.Body = io.NopCloser(atEOF{r.Body, func() { trailer.Set("X-Late", "signed "+strings.ToLower(s.Reveal())) }})
				}}
			require.NoError(t, send())
			late := "signed " + strings.ToLower(key)
			require.Equal(t, http.Header{"X-Sum": {"42"}, "X-Early": {key}, "X-Late": {late}}, *got.Load())

			for _, name := range []string{"X-Early", "X-Late"} {
				transport.Base = roundTrip(func(r *http.Request) (*http.Response, error) {
					_, err := io.Copy(io.Discard, r.Body)
					told := strings.TrimPrefix(r.Trailer.Get(name), "signed ")
					return nil, errors.Join(err, r.Body.Close(), errors.New("trailer "+told))
				})
				err := send()
				require.ErrorContains(t, err, "withheld")
				require.NotContains(t, strings.ToLower(err.Error()), strings.ToLower(key))
			}
		})
	}
}
