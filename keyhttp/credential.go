package keyhttp

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

const (
	authorization = "Authorization"
	defaultHeader = "X-Api-Key" // as net/http keeps it
)

// carrier is where in a request a key was found.
type carrier int

const (
	nowhere carrier = iota
	inAuthorization
	inHeader
	several
)

// credential returns the one key that r presents. A header that is there and empty presents a key, of no characters, and
// so does an Authorization that looks like Bearer and is not: with Optional neither may pass for a request without one.
func (g *gate) credential(r *http.Request) (token string, from carrier) {
	lines := r.Header[authorization]
	if len(lines) > 1 {
		return "", several
	}
	if len(lines) == 1 {
		if value, ok := bearer(lines[0]); ok {
			token, from = value, inAuthorization
		}
	}
	if g.header == "" {
		return token, from
	}
	switch lines = r.Header[g.header]; {
	case len(lines) == 0:
		return token, from
	case len(lines) > 1, from != nowhere:
		return "", several
	}
	return lines[0], inHeader
}

const bearerScheme = "Bearer"

// bearer returns what follows the scheme, whose letters may be of either case (RFC 9110, 11.1). What follows is not
// held to RFC 6750's alphabet, because a value that a person chose may hold any visible character; nothing is cut from
// it but the blanks at its edges, so that two values which were joined are found to be no key.
//
// It is false for another scheme alone. An empty line, one that runs on behind the scheme's name, and another scheme to
// which a proxy has joined a line with Bearer are keys, and bad ones: "".
func bearer(line string) (token string, ok bool) {
	line = strings.Trim(line, " \t")
	rest, ok := cutScheme(line)
	switch {
	case !ok:
		return "", line == "" || joined(line)
	case rest != "" && rest[0] != ' ' && rest[0] != '\t':
		return "", true
	}
	return strings.TrimLeft(rest, " \t"), true
}

func cutScheme(s string) (rest string, ok bool) {
	if len(s) < len(bearerScheme) || !strings.EqualFold(s[:len(bearerScheme)], bearerScheme) {
		return "", false
	}
	return s[len(bearerScheme):], true
}

// joined reports whether Bearer and a blank, or nothing, stand behind a comma.
func joined(line string) bool {
	for more := true; more; {
		_, line, more = strings.Cut(line, ",")
		line = strings.TrimLeft(line, " \t")
		if rest, ok := cutScheme(line); ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
			return true
		}
	}
	return false
}

// credentialHeader returns the header beside Authorization that may carry a key.
func credentialHeader(name string) (string, error) {
	if name == "" {
		return defaultHeader, nil
	}
	switch canonical, err := headerName(name); {
	case err != nil:
		return "", err
	case canonical == authorization:
		return "", nil
	case slices.Contains(notCarriers, canonical):
		return "", errors.New("no key is taken from " + canonical)
	default:
		return canonical, nil
	}
}

// ofConnection are headers that belong to one connection or to the message's own framing (RFC 9110, 7.6.1; RFC 9112):
// whoever passes a message on takes them out, acts on them, or writes its own.
var ofConnection = []string{
	"Connection", "Content-Length", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate",
	"Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding",
	"Upgrade",
}

// notCarriers are headers in which neither a key nor a client's address comes: a browser sends cookies unasked, and
// net/http keeps Host elsewhere.
var notCarriers = append([]string{"Cookie", "Host"}, ofConnection...)

// headerName returns a header's name as net/http keeps it.
func headerName(name string) (string, error) {
	if !isToken(name) {
		return "", fmt.Errorf("%q is no header's name", name)
	}
	return textproto.CanonicalMIMEHeaderKey(name), nil
}

// isToken reports whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
