package keyhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/keycote/keycote"
)

// Reachable returns a [keycote.Prober] that asks the endpoint for itself, by GET and with the value as a Bearer token,
// and takes every HTTP answer for good, a redirect too, which is not followed: it knows no more of an API that it does
// not know. 401 and 403 are a violation of the secret, "key_refused"; no answer is one of the endpoint, "probe_failed",
// or the guard's own. When the context ends the probe could not be made. A nil guard is a zero one.
func Reachable(g *Guard) keycote.Prober {
	if g == nil {
		g = new(Guard)
	}
	return func(ctx context.Context, endpoint string, secret keycote.Secret) error {
		resp, err := probe(ctx, g, http.MethodGet, endpoint, "", secret)
		if err != nil {
			return err
		}
		_ = resp.Body.Close() // the answer is here already: how it ends does not matter
		return answerOf(resp.StatusCode)
	}
}

const (
	ping    = `{"point":"ping","params":{}}`
	maxPong = 64 << 10
)

// PingPong returns a [keycote.Prober] that speaks the protocol by which Dify tries an API extension: it posts
// {"point":"ping","params":{}} with the value as a Bearer token, and the endpoint must answer 200 with a JSON object
// whose "result" is "pong". Everything else is refused: other statuses, redirects, text, arrays, null, other letters,
// an object around the object, a result that is said twice, anything behind the object, and more than 64 KiB. It is
// "key_refused" for 401 and 403, and "probe_failed" otherwise; the answer itself is shown to nobody. A zero guard gives
// the endpoint what Dify gives it, 5 seconds to connect, 5 for TLS and 60 to answer; a nil guard is a zero one.
func PingPong(g *Guard) keycote.Prober {
	if g == nil {
		g = new(Guard)
	}
	return func(ctx context.Context, endpoint string, secret keycote.Secret) error {
		resp, err := probe(ctx, g, http.MethodPost, endpoint, ping, secret)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := answerOf(resp.StatusCode); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return probeFailed
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxPong+1))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || len(body) > maxPong || !isPong(body):
			return probeFailed
		}
		return nil
	}
}

// What a probe finds.
var (
	probeFailed = keycote.Violation{Field: fieldEndpoint, Code: codeProbeFailed}
	keyRefused  = keycote.Violation{Field: fieldSecret, Code: codeKeyRefused}
)

// probe sends one request that carries the value, and turns what went wrong into what a Prober may say.
func probe(
	ctx context.Context, g *Guard, method, endpoint, body string, secret keycote.Secret,
) (*http.Response, error) {
	ctx = hideHeaders(ctx, []string{authorization})
	req, err := http.NewRequestWithContext(ctx, method, endpoint, strings.NewReader(body))
	if err != nil {
		return nil, keycote.Violation{Field: fieldEndpoint, Code: codeSyntax}
	}
	req.Header.Set(authorization, "Bearer "+secret.Reveal())
	if body == "" {
		req.Body, req.GetBody = nil, nil
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.RoundTrip(req)
	var refused *GuardError
	switch {
	case err == nil:
		return resp, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &refused):
		return nil, refused
	}
	return nil, probeFailed
}

// answerOf says what a status alone says about the value.
func answerOf(status int) error {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return keyRefused
	}
	return nil
}

// isPong reports whether body is one JSON object with one "result", which is "pong". It goes through the object by
// hand: package json would also take "Result", and the last of two.
func isPong(body []byte) bool {
	if !utf8.Valid(body) {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	found := false
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return false
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return false
		}
		if name != "result" {
			continue
		}
		var result any
		if err := json.Unmarshal(value, &result); err != nil || found || result != "pong" {
			return false
		}
		found = true
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return false
	}
	_, err := dec.Token()
	return found && err == io.EOF
}
