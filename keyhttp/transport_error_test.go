package keyhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
)

const sentValue = "Sn0w-on-the-line-88"

// responseError is an error as client libraries make them: it holds the request, and tells of it by %+v.
type responseError struct {
	Request *http.Request
	err     error
}

func (e *responseError) Error() string { return "no answer: " + e.err.Error() }
func (e *responseError) Unwrap() error { return e.err }

func (e *responseError) Format(s fmt.State, verb rune) {
	_, _ = io.WriteString(s, e.Error())
	if verb == 'v' && s.Flag('+') {
		_, _ = fmt.Fprint(s, e.Request.Header)
	}
}

type base func(*http.Request) (*http.Response, error)

func (f base) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// through sends one request through a Transport with the base, and returns its error.
func through(t *testing.T, b base) error {
	t.Helper()
	_, err := response(t, b)
	return err
}

func response(t *testing.T, b base) (*http.Response, error) {
	t.Helper()
	env := keytest.New(t, nil)
	k, err := env.Manager.Add(t.Context(), keycote.AddParams{
		Name: "it", Endpoint: "https://api.example.com", Secret: keycote.NewSecret(sentValue),
	})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.example.com", nil)
	require.NoError(t, err)
	return (&keyhttp.Transport{Manager: env.Manager, KeyID: k.ID, Base: b}).RoundTrip(req)
}

// TestTransportErrorTypes: an error of a type that may hold the request comes through as its text, and what it wraps of
// the standard library's and Keycote's is still found.
func TestTransportErrorTypes(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	refused := &keyhttp.GuardError{Code: "private_address", Host: "nas.local"}
	for name, inner := range map[string]error{"a dial": dial, "the guard": refused, "a sentinel": io.ErrUnexpectedEOF} {
		for wrapped, wrap := range map[string]func(error) error{
			"": func(err error) error { return err }, "wrapped, ": func(err error) error { return fmt.Errorf("call: %w", err) },
		} {
			t.Run(wrapped+name, func(t *testing.T) {
				t.Parallel()
				err := through(t, func(r *http.Request) (*http.Response, error) {
					return nil, wrap(&responseError{r, inner})
				})
				require.ErrorContains(t, err, "no answer: "+inner.Error())
				require.ErrorIs(t, err, inner)
				var held *responseError
				require.False(t, errors.As(err, &held), "it holds the request, and that the value")
				require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), sentValue)
				var timeout net.Error
				require.Equal(t, inner == error(dial), errors.As(err, &timeout) && timeout.Timeout())
			})
		}
		t.Run(name+" alone", func(t *testing.T) {
			t.Parallel()
			require.Same(t, inner, through(t, func(*http.Request) (*http.Response, error) { return nil, inner }))
		})
	}
}

// failingBody is the body of a Base that knows the request.
type failingBody struct{ err error }

func (b failingBody) Read([]byte) (int, error)  { return 0, b.err }
func (b failingBody) Write([]byte) (int, error) { return 7, nil }
func (b failingBody) Close() error              { return b.err }

// TestTransportBodyErrors: what goes wrong while the answer is read tells no more than what goes wrong before.
func TestTransportBodyErrors(t *testing.T) {
	t.Parallel()
	resp, err := response(t, func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 101, Body: failingBody{&responseError{r, io.ErrUnexpectedEOF}}}, nil
	})
	require.NoError(t, err)
	_, readErr := resp.Body.Read(nil)
	for _, err := range []error{readErr, resp.Body.Close()} {
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		var held *responseError
		require.False(t, errors.As(err, &held))
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), sentValue)
	}
	n, err := resp.Body.(io.Writer).Write(nil)
	require.NoError(t, err)
	require.Equal(t, 7, n)

	resp, err = response(t, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: failingBody{io.EOF}}, nil
	})
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Empty(t, body)
	require.Same(t, io.EOF, resp.Body.Close())
	require.NotContains(t, fmt.Sprintf("%+v %#v", resp.Body, resp.Body), sentValue)
}

// buggy is where the stack of a panic must lead to.
func buggy(*http.Request) (*http.Response, error) { panic("a bug") }

// TestTransportPanicKeepsItsStack: a panic that goes on leads to where it came from.
func TestTransportPanicKeepsItsStack(t *testing.T) {
	t.Parallel()
	var stack []byte
	func() {
		defer func() {
			require.Equal(t, "a bug", recover())
			stack = debug.Stack()
		}()
		_ = through(t, buggy)
	}()
	require.Contains(t, string(stack), "keyhttp_test.buggy(")
}
