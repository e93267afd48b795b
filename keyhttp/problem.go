package keyhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/keycote/keycote"
)

// WriteError answers a request with err, for all that a host's handlers get from this module: an RFC 9457 problem whose
// type and code are stable (docs/formats.md), whose title and detail are in the language that the request prefers, and
// which lists every violation of a [*keycote.ValidationError]. What err.Error() says is for logs, and never part of it.
//
// The first that matches decides: 401 [keycote.ErrUnauthenticated]; 409 a ValidationError that only names what is
// taken, 422 any other; 403 ErrScope and ErrForbidden; 404 ErrNotFound; 409 ErrConflict, ErrRevoked, ErrDisabled and
// ErrExpired; 410 ErrShredded; 429 ErrLimited, with Retry-After and RateLimit fields; 422 ErrInvalid; 503 ErrUnavailable,
// ErrKEK and a context that ended; 500 anything else, nil included.
//
// It is the whole answer: what the handler has set for another body (its length, encoding, name, digests, validators,
// trailers, caching) is replaced. It must come before anything is written.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	writeError(w, r, err, plainChallenges)
}

// typePrefix and a code are a problem's type. It is a name and not an address: it means the same wherever a host runs.
const typePrefix = "urn:keycote:problem:"

// codeInternal stands for all that has no code which a client is told. The catalogue says it in a general sentence.
const codeInternal keycote.Code = "internal"

// problem is an error as a client sees it.
type problem struct {
	Type       string       `json:"type"`
	Title      string       `json:"title"`
	Status     int          `json:"status"`
	Detail     string       `json:"detail,omitempty"`
	Code       keycote.Code `json:"code"`
	Violations []violation  `json:"violations,omitempty"`
}

// violation is a [keycote.Violation] with its message.
type violation struct {
	Field   string            `json:"field"`
	Code    keycote.Code      `json:"code"`
	Params  map[string]string `json:"params,omitempty"`
	Warning bool              `json:"warning"`
	Message string            `json:"message"`
}

// challenges are the values of WWW-Authenticate (RFC 6750, 3) for the two refusals that a better key would cure. That
// of identity has no error code: it is the same with a key and without one.
type challenges struct{ identity, scope string }

const plainRealm = "api"

// plainChallenges is what WriteError knows: neither the realm nor what its route requires.
var plainChallenges = challenges{
	identity: `Bearer realm="` + plainRealm + `"`,
	scope:    `Bearer realm="` + plainRealm + `", error="insufficient_scope"`,
}

// newChallenges fails when realm or a scope is what no header or no grant can hold, and names all that are. A wildcard
// in what a route requires is compared like any other character, so nobody means it.
func newChallenges(realm string, scopes []string) (challenges, error) {
	if realm == "" {
		realm = plainRealm
	}
	var faults []error
	for i := range len(realm) {
		if c := realm[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			faults = append(faults, errors.New("the realm holds a character that no quoted string may hold"))
			break
		}
	}
	for _, s := range scopes {
		if !literalScope(s) {
			faults = append(faults, fmt.Errorf("%q is no scope that a route can require", s))
		}
	}
	if len(faults) > 0 {
		return challenges{}, errors.Join(faults...)
	}
	says := challenges{identity: `Bearer realm="` + realm + `"`}
	says.scope = says.identity + `, error="insufficient_scope"`
	if len(scopes) > 0 {
		says.scope += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	return says, nil
}

// literalScope reports whether s is a scope that can be granted (formats.md), without a wildcard.
func literalScope(s string) bool {
	for _, segment := range strings.Split(s, ":") {
		if segment == "" {
			return false
		}
		for i := range len(segment) {
			if c := segment[i]; c <= 0x20 || c > 0x7e || strings.IndexByte(`*"\,`, c) >= 0 {
				return false
			}
		}
	}
	return len(s) <= 255
}

// statuses is the table of formats.md; the first that matches decides. Of a ValidationError, see statusOf.
var statuses = []struct {
	code   keycote.Code
	status int
}{
	{keycote.ErrScope, http.StatusForbidden},
	{keycote.ErrForbidden, http.StatusForbidden},
	{keycote.ErrNotFound, http.StatusNotFound},
	{keycote.ErrConflict, http.StatusConflict},
	{keycote.ErrRevoked, http.StatusConflict},
	{keycote.ErrDisabled, http.StatusConflict},
	{keycote.ErrExpired, http.StatusConflict},
	{keycote.ErrShredded, http.StatusGone},
	{keycote.ErrLimited, http.StatusTooManyRequests},
	{keycote.ErrInvalid, http.StatusUnprocessableEntity},
	{keycote.ErrUnavailable, http.StatusServiceUnavailable},
}

// statusOf returns what a client may be told of err. A KEK that does not fit is the operator's business alone.
func statusOf(err error) (status int, code keycote.Code, invalid *keycote.ValidationError) {
	if errors.Is(err, keycote.ErrUnauthenticated) {
		return http.StatusUnauthorized, keycote.ErrUnauthenticated, nil
	}
	if errors.As(err, &invalid) && invalid != nil {
		if onlyTaken(invalid.Violations) {
			return http.StatusConflict, keycote.ErrExists, invalid
		}
		return http.StatusUnprocessableEntity, keycote.ErrInvalid, invalid
	}
	for _, s := range statuses {
		if errors.Is(err, s.code) {
			return s.status, s.code, nil
		}
	}
	switch {
	case errors.Is(err, keycote.ErrKEK), ended(err):
		return http.StatusServiceUnavailable, keycote.ErrUnavailable, nil
	case errors.Is(err, keycote.ErrTampered):
		return http.StatusInternalServerError, keycote.ErrTampered, nil
	}
	return http.StatusInternalServerError, codeInternal, nil
}

func onlyTaken(violations []keycote.Violation) bool {
	for _, v := range violations {
		if v.Code != keycote.ErrExists {
			return false
		}
	}
	return len(violations) > 0
}

// ended reports whether err says that a context did.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// ofTheBody are the fields of a body that is not sent after all. The targeted cache controls (RFC 9213, and what Edge
// Side Includes had before) are among them because a cache that knows one does not look at Cache-Control.
var ofTheBody = []string{
	"Accept-Ranges", "Cdn-Cache-Control", "Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Location",
	"Content-Md5", "Content-Range", "Digest", "Etag", "Expires", "Last-Modified", "Repr-Digest", "Surrogate-Control",
	"Trailer", "Transfer-Encoding",
}

// writeError writes err with says as the challenges, and returns the status.
func writeError(w http.ResponseWriter, r *http.Request, err error, says challenges) int {
	status, code, invalid := statusOf(err)
	language := keycote.Language(strings.Join(r.Header["Accept-Language"], ",")) // several lines are one list
	p := problem{
		Type: typePrefix + string(code), Title: keycote.Message(language, code), Status: status, Code: code,
	}
	if invalid != nil {
		p.Detail = keycote.Message(language, invalid)
		for _, v := range invalid.Violations {
			p.Violations = append(p.Violations, violation{v.Field, v.Code, v.Params, v.Warning, keycote.Message(language, v)})
		}
	}
	h := w.Header()
	switch {
	case status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", says.identity)
	case code == keycote.ErrScope:
		h.Set("WWW-Authenticate", says.scope)
	case status == http.StatusTooManyRequests:
		var limited *keycote.Error
		if errors.As(err, &limited) && limited != nil {
			h.Set("Retry-After", strconv.FormatInt(max(seconds(limited.RetryAfter), 1), 10))
			setLimits(h, limited.Limits)
		}
	}
	body, _ := json.Marshal(p) // strings, numbers and lists of them: there is nothing that could fail
	body = append(body, '\n')
	for _, name := range ofTheBody {
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Language", language)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client has gone; there is nobody to tell
	}
	return status
}
