package redact_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/internal/redact"
)

const value, other = "Sn0w-<on>-the-line-88", "another value"

// sdk is an error as client libraries make them: it holds the request, and tells of it by %+v.
type sdk struct {
	text    string
	Request *http.Request
	err     error
}

func (e *sdk) Error() string { return e.text }
func (e *sdk) Unwrap() error { return e.err }
func (e *sdk) Timeout() bool { return true }
func (e *sdk) Temporary() bool {
	return true
}

func (e *sdk) Format(s fmt.State, verb rune) {
	_, _ = io.WriteString(s, e.text)
	if verb == 'v' && s.Flag('+') {
		_, _ = fmt.Fprint(s, e.Request.Header)
	}
}

func newSDK(text string, err error) error {
	return &sdk{text, &http.Request{Header: http.Header{"Authorization": {"Bearer " + value}}}, err}
}

// byValue shows what it holds by %#v alone.
type byValue struct{ header []string }

func (byValue) Error() string { return "by value" }

func TestError(t *testing.T) {
	t.Parallel()
	plain := errors.New("connection refused")
	dial := &net.OpError{
		Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: 443}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
	}
	for _, tt := range []struct {
		name   string
		err    error
		values []string
		same   bool
		text   string // "": withheld
		is     []error
		not    []error
	}{
		{name: "nothing to hide", err: plain, values: []string{value}, same: true},
		{name: "no value", err: newSDK("sent", nil), same: true},
		{name: "an empty value is in every text", err: plain, values: []string{""}, same: true},
		{name: "the standard library's", err: fmt.Errorf("a: %w", errors.Join(dial, io.ErrUnexpectedEOF)), same: true},
		{name: "an address", err: &url.Error{Op: "Get", URL: "https://x/", Err: dial}, same: true},
		{name: "the value", err: fmt.Errorf("sent %s", value)},
		{name: "the second value", err: fmt.Errorf("sent %s", other)},
		{name: "in hex, deep down", err: fmt.Errorf("a: %w", fmt.Errorf("sent %x", value))},
		{name: "what it wraps tells nothing", err: fmt.Errorf("%s: %w", value, dial),
			is: []error{dial, syscall.ECONNREFUSED}},
		{name: "what it wraps tells", err: fmt.Errorf("a: %w", errors.Join(plain, errors.New(value))), is: []error{plain}},
		{name: "a type that holds the request", err: newSDK("sent", plain), text: "sent", is: []error{plain}},
		{name: "one deep down", err: fmt.Errorf("a: %w", newSDK("sent", nil)), text: "a: sent"},
		{name: "one in an address", err: &url.Error{Op: "Get", URL: "https://x/", Err: newSDK("sent", plain)},
			text: `Get "https://x/": sent`, is: []error{plain}},
		{name: "an address that tells", err: &url.Error{Op: "Get", URL: "https://x/?k=" + url.QueryEscape(value), Err: plain},
			is: []error{plain}},
		{name: "a type that shows it by %#v", err: byValue{[]string{value}}, text: "by value"},
		{name: "the context's", err: fmt.Errorf("%s: %w", value, context.DeadlineExceeded),
			is: []error{context.DeadlineExceeded}, not: []error{context.Canceled}},
		{name: "a type that holds the context's", err: newSDK("sent", context.Canceled), text: "sent",
			is: []error{context.Canceled}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.values == nil && !tt.same {
				tt.values = []string{value, other}
			}
			got := redact.Error(tt.err, tt.values...)
			if tt.same {
				require.Same(t, tt.err, got)
				return
			}
			if tt.text == "" {
				tt.text = "the cause is withheld: its text holds the value"
			}
			require.Equal(t, tt.text, got.Error())
			require.NotErrorIs(t, got, tt.err)
			for _, e := range tt.is {
				require.ErrorIs(t, got, e)
			}
			for _, e := range tt.not {
				require.NotErrorIs(t, got, e)
			}
			var held *sdk
			require.False(t, errors.As(got, &held), "the request is not to be had")
			for _, v := range tt.values {
				require.False(t, redact.Tells(fmt.Sprintf("%v %+v %#v", got, got, got), v))
			}
		})
	}
	require.NoError(t, redact.Error(nil, value))
}

// TestErrorTimeout: what is kept answers as the error did, as url.Error asks it.
func TestErrorTimeout(t *testing.T) {
	t.Parallel()
	var timeout net.Error
	require.ErrorAs(t, redact.Error(newSDK("sent "+value, nil), value), &timeout)
	require.True(t, timeout.Timeout())
	require.True(t, (&url.Error{Err: redact.Error(newSDK("sent", nil), value)}).Timeout())
	require.False(t, errors.As(redact.Error(byValue{}, value), &timeout))
	var op *net.OpError
	require.ErrorAs(t, redact.Error(newSDK("sent", &net.OpError{Op: "dial", Err: io.EOF}), value), &op)
}

func TestTells(t *testing.T) {
	t.Parallel()
	inJSON, err := json.Marshal(value)
	require.NoError(t, err)
	for _, text := range []string{
		value, url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), string(inJSON),
		fmt.Sprintf("%q", value), fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), fmt.Sprintf("% x", value),
		fmt.Sprint([]byte("<" + value + ">")),
		fmt.Sprintf("%#v", []byte(value)), base64.StdEncoding.EncodeToString([]byte(value)),
	} {
		require.True(t, redact.Tells("sent "+text+".", value), text)
	}
	for _, user := range []string{"", "a", "ab", "abc", strings.Repeat("user", 9)} {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
			require.True(t, redact.Tells("Basic "+enc.EncodeToString([]byte(user+":"+value)), value), user)
			require.True(t, redact.Tells(enc.EncodeToString([]byte(user+value+"?more")), value), user)
		}
	}
	require.False(t, redact.Tells("sent", value))
	require.False(t, redact.Tells("", ""))
	require.False(t, redact.Tells("xyz", "a"), "of a short value no form is empty")
}
