package keyhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
)

func written(t *testing.T, method string, err error, lines ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), method, "/keys", nil)
	headers(lines...)(r)
	keyhttp.WriteError(w, r, err)
	return w
}

// TestStatuses is the table of docs/formats.md: statuses and types that clients rely on.
func TestStatuses(t *testing.T) {
	t.Parallel()
	const secret = "Sn0w-on-the-line-88"
	cause := errors.New("dial tcp 10.1.2.3:5432: password " + secret)
	of := func(op string, code keycote.Code) error {
		return &keycote.Error{Op: op, ID: "key_1", Code: code, Err: cause}
	}
	violations := func(codes ...keycote.Code) error {
		e := &keycote.ValidationError{}
		for _, c := range codes {
			e.Violations = append(e.Violations, keycote.Violation{Field: "name", Code: c})
		}
		return e
	}
	for _, tt := range []struct {
		name   string
		err    error
		status int
		kind   string
	}{
		{"unknown", of("verify", keycote.ErrUnknownKey), 401, "unauthenticated"},
		{"revoked", of("verify", keycote.ErrRevoked), 401, "unauthenticated"},
		{"disabled", of("verify", keycote.ErrDisabled), 401, "unauthenticated"},
		{"expired", of("verify", keycote.ErrExpired), 401, "unauthenticated"},
		{"address", of("verify", keycote.ErrAddress), 401, "unauthenticated"},
		{"tampered", of("verify", keycote.ErrTampered), 401, "unauthenticated"},
		{"wrapped", fmt.Errorf("who: %w", of("verify", keycote.ErrRevoked)), 401, "unauthenticated"},
		{"bare", keycote.ErrUnauthenticated, 401, "unauthenticated"},
		{"invalid fields", violations("required", keycote.ErrExists), 422, "invalid"},
		{"taken", violations(keycote.ErrExists, keycote.ErrExists), 409, "exists"},
		{"no violation", violations(), 422, "invalid"},
		{"scope", of("verify", keycote.ErrScope), 403, "scope"},
		{"forbidden", of("rotate", keycote.ErrForbidden), 403, "forbidden"},
		{"not found", of("rotate", keycote.ErrNotFound), 404, "not_found"},
		{"conflict", of("update", keycote.ErrConflict), 409, "conflict"},
		{"a revoked key", of("rotate", keycote.ErrRevoked), 409, "revoked"},
		{"a disabled credential", of("use", keycote.ErrDisabled), 409, "disabled"},
		{"an expired credential", of("use", keycote.ErrExpired), 409, "expired"},
		{"shredded", of("use", keycote.ErrShredded), 410, "shredded"},
		{"limited", of("verify", keycote.ErrLimited), 429, "limited"},
		{"invalid", of("page", keycote.ErrInvalid), 422, "invalid"},
		{"unavailable", of("verify", keycote.ErrUnavailable), 503, "unavailable"},
		{"kek", of("use", keycote.ErrKEK), 503, "unavailable"},
		{"canceled", fmt.Errorf("query: %w", context.Canceled), 503, "unavailable"},
		{"too late", context.DeadlineExceeded, 503, "unavailable"},
		{"a tampered record", of("get", keycote.ErrTampered), 500, "tampered"},
		{"another address", of("use", keycote.ErrAddress), 500, "internal"},
		{"not ours", cause, 500, "internal"},
		{"nil", nil, 500, "internal"},
		{"first match", errors.Join(keycote.ErrUnavailable, keycote.ErrNotFound, keycote.ErrForbidden), 403, "forbidden"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := written(t, "GET", tt.err)
			require.Equal(t, tt.status, w.Code)
			var body map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			require.Equal(t, "urn:keycote:problem:"+tt.kind, body["type"])
			require.Equal(t, tt.kind, body["code"])
			require.EqualValues(t, tt.status, body["status"])
			require.NotEmpty(t, body["title"])
			require.NotContains(t, w.Body.String(), secret)
			require.NotContains(t, w.Body.String(), "10.1.2.3")
			require.NotContains(t, w.Body.String(), "key_1")
			want := map[string]string{
				"unauthenticated": `Bearer realm="api"`, "scope": `Bearer realm="api", error="insufficient_scope"`,
			}[tt.kind]
			require.Equal(t, want, w.Header().Get("WWW-Authenticate"))
			require.Equal(t, tt.status == 429, w.Header().Get("Retry-After") != "")
			for name, value := range map[string]string{
				"Content-Type": "application/problem+json", "Cache-Control": "no-store", "Content-Language": "en-US",
				"X-Content-Type-Options": "nosniff", "Vary": "Accept-Language", "Content-Length": strconv.Itoa(w.Body.Len()),
			} {
				require.Equal(t, value, w.Header().Get(name), name)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]string{
		0: "1", time.Millisecond: "1", time.Second: "1", time.Second + 1: "2", time.Hour: "3600",
	} {
		w := written(t, "GET", &keycote.Error{Op: "verify", Code: keycote.ErrLimited, RetryAfter: after})
		require.Equal(t, want, w.Header().Get("Retry-After"))
	}
}

func TestViolations(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("issue: %w", &keycote.ValidationError{Violations: []keycote.Violation{
		{Field: "name", Code: "too_long", Params: map[string]string{"max": "255"}},
		{Field: "secret", Code: keycote.ErrWeak, Params: map[string]string{"score": "0", "min": "2"}, Warning: true},
		{Field: "plan", Code: "no_such_plan", Text: "There is no <such> plan."},
	}})
	require.JSONEq(t, `{
		"type": "urn:keycote:problem:invalid", "title": "This is not valid.", "status": 422, "code": "invalid",
		"detail": "Name: too long; maximum length: 255\nKey: easy to guess; strength 0 of 4, advised: at least 2\nplan: There is no <such> plan.",
		"violations": [
			{"field": "name", "code": "too_long", "params": {"max": "255"}, "warning": false, "message": "Name: too long; maximum length: 255"},
			{"field": "secret", "code": "weak_secret", "params": {"min": "2", "score": "0"}, "warning": true,
			 "message": "Key: easy to guess; strength 0 of 4, advised: at least 2"},
			{"field": "plan", "code": "no_such_plan", "warning": false, "message": "plan: There is no <such> plan."}
		]}`, written(t, "GET", err).Body.String())
	require.NotContains(t, written(t, "GET", err).Body.String(), "<", "what a browser might take for markup is escaped")
}

// TestLanguages: titles, messages and Content-Language are of one catalogue.
func TestLanguages(t *testing.T) {
	t.Parallel()
	w := written(t, "GET", keycote.ErrNotFound, "Accept-Language: zh-CN,en;q=0.5")
	require.Equal(t, "zh-Hans", w.Header().Get("Content-Language"))
	require.Contains(t, w.Body.String(), keycote.Message("zh-Hans", keycote.ErrNotFound))
	for _, lines := range [][]string{
		{"Accept-Language: de, qx;q=0.5"}, {"Accept-Language: de;q=1.0, en-xyzzy;q=0.2"},
		{"Accept-Language: en;q=0.2", "Accept-Language: de"}, {"Accept-Language: ", "Accept-Language: de"},
	} {
		w = written(t, "GET", keycote.ErrNotFound, lines...)
		require.Equal(t, "de-DE", w.Header().Get("Content-Language"), lines)
		require.Contains(t, w.Body.String(), keycote.Message("de-DE", keycote.ErrNotFound), lines)
	}
	for _, none := range []string{"", "tlh", "%%%", strings.Repeat("tlh,", 400)} {
		w = written(t, "GET", keycote.ErrNotFound, "Accept-Language: "+none)
		require.Equal(t, "en-US", w.Header().Get("Content-Language"))
		require.Contains(t, w.Body.String(), "This does not exist.")
	}
}

// TestWholeAnswer: an error takes the place of what the handler was about to say.
func TestWholeAnswer(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	for name, value := range map[string]string{
		"Content-Type": "text/csv", "Content-Length": "4", "Content-Encoding": "gzip", "ETag": `"a"`, "Cache-Control": "public",
		"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "Vary": "Origin", "X-Request-Id": "1",
		"Content-Disposition": "attachment", "Content-Location": "/orders.csv", "Content-Digest": "sha-256=:AA==:",
		"Repr-Digest": "sha-256=:AA==:", "Digest": "sha-256=AA==", "Content-MD5": "AA==", "Content-Range": "bytes 0-3/9",
		"Accept-Ranges": "bytes", "Expires": "Wed, 21 Oct 2099 07:28:00 GMT", "Trailer": "X-Sum",
		"Transfer-Encoding": "chunked", "CDN-Cache-Control": "max-age=60", "Surrogate-Control": "max-age=60",
	} {
		w.Header().Set(name, value)
	}
	keyhttp.WriteError(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), keycote.ErrConflict)
	names := slices.Sorted(maps.Keys(w.Header()))
	require.Equal(t, []string{
		"Cache-Control", "Content-Language", "Content-Length", "Content-Type", "Vary", "X-Content-Type-Options", "X-Request-Id",
	}, names)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, []string{"no-store"}, w.Header().Values("Cache-Control"))
	require.Equal(t, []string{strconv.Itoa(w.Body.Len())}, w.Header().Values("Content-Length"))
	require.Equal(t, []string{"Origin", "Accept-Language"}, w.Header().Values("Vary"))
	require.Equal(t, "1", w.Header().Get("X-Request-Id"))

	get, head := written(t, "GET", keycote.ErrConflict), written(t, http.MethodHead, keycote.ErrConflict)
	require.Equal(t, get.Header(), head.Header())
	require.Equal(t, get.Code, head.Code)
	require.Zero(t, head.Body.Len())
}
