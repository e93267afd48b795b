// Package redact keeps a value out of what is said about it: the errors of code that was handed the value and is not
// ours.
package redact

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Error returns what may be said of err, which came from code that was handed values. An error of an unknown type may
// hold anything, the request among it, and show it to errors.As or by a verb of its own: of such a one the text is
// kept, and what it wraps that is known. Known are the types of the packages below, which hold what they print; an
// error made of them alone is returned as it is. A text that holds one of values is withheld. errors.Is goes on to find
// the context's errors, and whoever asks for a net.Error gets the same answers. Empty values count for nothing.
func Error(err error, values ...string) error {
	if err == nil || !slices.ContainsFunc(values, func(v string) bool { return v != "" }) {
		return err
	}
	kept, whole := known(err, values)
	if whole {
		return err
	}
	if u, ok := err.(*url.Error); ok && !tells(u.Op+" "+u.URL, values) {
		return &url.Error{Op: u.Op, URL: u.URL, Err: Error(u.Err, values...)}
	}
	clean := &cleaned{text: err.Error(), kept: kept}
	if tells(clean.text, values) {
		clean.text = "the cause is withheld: its text holds the value"
	}
	for _, e := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) && !errors.Is(clean, e) {
			clean.kept = append(clean.kept, e)
		}
	}
	var n net.Error
	if errors.As(err, &n) {
		return &cleanedNet{clean, n.Timeout()}
	}
	return clean
}

// cleaned is what is kept of an error.
type cleaned struct {
	text string
	kept []error
}

func (c *cleaned) Error() string   { return c.text }
func (c *cleaned) Unwrap() []error { return c.kept }

// cleanedNet is what is kept of a [net.Error].
type cleanedNet struct {
	*cleaned
	timeout bool
}

func (c *cleanedNet) Timeout() bool   { return c.timeout }
func (c *cleanedNet) Temporary() bool { return c.timeout } // deprecated, and part of the interface

// known returns the largest parts of err's tree that are made of known types alone and tell none of values; whole says
// that this is all of it.
func known(err error, values []string) (parts []error, whole bool) {
	whole = packages[packageOf(err)] && !tells(err.Error(), values) && !tells(fmt.Sprintf("%#v", err), values)
	for _, inner := range wrapped(err) {
		if inner == nil {
			continue
		}
		p, w := known(inner, values)
		parts, whole = append(parts, p...), whole && w
	}
	if whole {
		return []error{err}, true
	}
	return parts, false
}

func wrapped(err error) []error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// packages are those whose errors hold no more than they print, beside addresses, certificates and other errors, which
// they unwrap to.
var packages = func() map[string]bool {
	all := map[string]bool{}
	for _, p := range strings.Fields(`bufio compress/flate compress/gzip context crypto/tls crypto/x509 encoding/json
		errors fmt internal/poll io io/fs net net/http net/http/internal net/http/internal/http2 net/textproto net/url os
		strconv syscall github.com/keycote/keycote github.com/keycote/keycote/keyhttp github.com/keycote/keycote/internal/redact`) {
		all[p] = true
	}
	return all
}()

// packageOf is the path of the package that declares err's type.
func packageOf(err error) string {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}

func tells(text string, values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return Tells(text, v) })
}

// Tells reports whether text holds value, as it is or as a URL, a quoted string, JSON, HTML, hex, a list of bytes or
// base64 would write it, the last also where it is the end of a longer text, as in HTTP Basic: a *url.Error quotes the
// whole address, and so any key that was put into its query. Of an empty value nothing is told.
func Tells(text, value string) bool {
	if value == "" {
		return false
	}
	quoted := strconv.Quote(value)
	inJSON, _ := json.Marshal(value) // a string always has a JSON form
	inHex := hex.EncodeToString([]byte(value))
	inGo := strings.TrimPrefix(fmt.Sprintf("%#v", []byte(value)), "[]byte{")
	forms := []string{
		value, url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), quoted[1 : len(quoted)-1],
		string(inJSON[1 : len(inJSON)-1]), inHex, strings.ToUpper(inHex), fmt.Sprintf("% x", value),
		strings.Trim(fmt.Sprint([]byte(value)), "[]"), strings.TrimSuffix(inGo, "}"),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			forms = append(forms, within(enc, value, before))
		}
	}
	return slices.ContainsFunc(forms, func(form string) bool { return form != "" && strings.Contains(text, form) })
}

// within returns the characters that value alone decides in the encoding of a longer text in which 3n+before bytes come
// before it.
func within(enc *base64.Encoding, value string, before int) string {
	bits := 8 * (before + len(value))
	return enc.EncodeToString([]byte("\x00\x00"[:before] + value))[(8*before+5)/6 : bits/6]
}
