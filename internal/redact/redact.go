// Package redact keeps a value out of what is said about it: the errors of code that was handed the value and is not
// ours.
package redact

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Error returns err, or what may be said of it when its text holds one of values: of the original only the context's
// errors are kept. Empty values count for nothing.
func Error(err error, values ...string) error {
	if err == nil || !slices.ContainsFunc(values, func(v string) bool { return Tells(err.Error(), v) }) {
		return err
	}
	clean := errors.New("the cause is withheld: its text holds the value")
	for _, e := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			clean = errors.Join(clean, e)
		}
	}
	return clean
}

// Tells reports whether text holds value, as it is or as a URL, a quoted string, hex or base64 would write it: a
// *url.Error quotes the whole address, and so any key that was put into its query. Of an empty value nothing is told.
func Tells(text, value string) bool {
	if value == "" {
		return false
	}
	quoted := strconv.Quote(value)
	forms := []string{
		value, url.QueryEscape(value), url.PathEscape(value), quoted[1 : len(quoted)-1],
		hex.EncodeToString([]byte(value)),
		base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)),
	}
	return slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) })
}
