package keycote

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keycote/keycote/internal/redact"
)

// Code is a reason. It is itself an error, so that errors.Is(err, keycote.ErrNotFound) works on all that this module
// returns, and `var c keycote.Code; errors.As(err, &c)` gives a value to switch on.
type Code string

// Error returns the code itself: it is a word for programs. [Message] says it in a language.
func (c Code) Error() string { return string(c) }

const (
	// Of calls by id and of changes.
	ErrNotFound       Code = "not_found"
	ErrExists         Code = "exists" // inside a ValidationError, whose Field says what is taken
	ErrConflict       Code = "conflict"
	ErrInvalid        Code = "invalid"
	ErrWeak           Code = "weak_secret"
	ErrSecretRequired Code = "secret_required"
	ErrForbidden      Code = "forbidden"

	// Of Verify and Use.
	ErrUnauthenticated Code = "unauthenticated" // of Verify: any of the next five, and ErrTampered
	ErrUnknownKey      Code = "unknown_key"
	ErrRevoked         Code = "revoked"
	ErrDisabled        Code = "disabled"
	ErrExpired         Code = "expired"
	ErrAddress         Code = "address"
	ErrScope           Code = "scope"
	ErrLimited         Code = "limited" // Error.RetryAfter says when

	// Of what lies below.
	ErrTampered    Code = "tampered"
	ErrKEK         Code = "kek"      // the KEK given does not open what the store holds
	ErrShredded    Code = "shredded" // the tenant's keyring was destroyed
	ErrUnavailable Code = "unavailable"
)

// CodeOf returns the outermost Code in err, or "" when there is none. A cause inside an [Error] never carries a Code.
func CodeOf(err error) Code {
	var c Code
	if errors.As(err, &c) {
		return c
	}
	return ""
}

const (
	opNew    = "new"
	opVerify = "verify"
	opFlush  = "flush"
)

// Error says what failed on which key. It unwraps to its Code, to [ErrUnauthenticated] when Verify refused an identity,
// and to its cause when there is one. A revoked credential in Use, or a revoked key in Rotate, is not the caller's
// identity. A verb returns a [*ValidationError] as it is, never inside an Error.
type Error struct {
	Op         string        // an Action, "new", "verify" or "flush"
	ID         string        // of the key, when it is known and well-formed; never what a stranger sent
	Code       Code          // never empty
	RetryAfter time.Duration // of ErrLimited: how long until a use succeeds, if there is none before
	Limits     []LimitState  // of ErrLimited: what is left of the key's Limit
	Err        error         // the cause; nil when the Code says it all
}

// Error reads like "keycote: rotate key_01…: conflict: cause". It never holds a value.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("keycote: ")
	if e.Op != "" {
		b.WriteString(e.Op)
		if e.ID != "" {
			b.WriteByte(' ')
			b.WriteString(e.ID)
		}
		b.WriteString(": ")
	}
	b.WriteString(string(e.Code))
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the Code, ErrUnauthenticated where Verify refused an identity, and the cause.
func (e *Error) Unwrap() []error {
	errs := []error{e.Code} // never a nil among them: package errors forbids it
	if e.Op == opVerify && refusesIdentity(e.Code) {
		errs = append(errs, ErrUnauthenticated)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

func refusesIdentity(c Code) bool {
	switch c {
	case ErrUnknownKey, ErrRevoked, ErrDisabled, ErrExpired, ErrAddress, ErrTampered:
		return true
	}
	return false
}

// cause keeps an error from below readable and visible to errors.Is and errors.As, but for the types that decide
// anything here: a store that answers ErrNotFound out of its depth must not make an outage read as "unknown key".
type cause struct{ err error }

func causeOf(err error) error {
	if err == nil {
		return nil
	}
	if c, ok := err.(cause); ok {
		return c
	}
	return cause{err}
}

func (c cause) Error() string { return c.err.Error() }

func (c cause) Is(target error) bool {
	switch target.(type) {
	case Code, *Error, Violation, *ValidationError:
		return false
	}
	return errors.Is(c.err, target)
}

func (c cause) As(target any) bool {
	switch target.(type) {
	case *Code, **Error, *Violation, **ValidationError:
		return false
	}
	return errors.As(c.err, target)
}

// withheld is the cause of a call that host code answered with an error that may hold the value itself.
func withheld(err error, s Secret) error { return redact.Error(err, s.Reveal()) }

// ValidationError holds every rule that a call broke, in field order.
type ValidationError struct{ Violations []Violation }

// Error names fields and codes, never a value.
func (e *ValidationError) Error() string {
	var b strings.Builder
	b.WriteString("keycote: invalid")
	for i, v := range e.Violations {
		b.WriteString([]string{": ", ", "}[min(i, 1)])
		b.WriteString(v.Error())
	}
	return b.String()
}

// Unwrap returns ErrInvalid and each Violation.
func (e *ValidationError) Unwrap() []error {
	errs := []error{ErrInvalid}
	for _, v := range e.Violations {
		errs = append(errs, v)
	}
	return slices.Clip(errs)
}
