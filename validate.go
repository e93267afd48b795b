package keycote

import (
	"context"
	"net/netip"
	"time"
)

// Draft is a key before it is kept, as a Rule sees it.
type Draft struct {
	ID, Tenant      string    // ID is empty for a new key
	Now             time.Time // the Manager's clock
	Actor           Actor     // zero when the host itself calls
	Kind            Kind
	Name, App       string
	Owner, Endpoint string
	Secret          Secret
	Scopes          []string
	Networks        []netip.Prefix
	ExpiresAt       time.Time
	Limit           Limit
	Labels          map[string]string
}

// Rule checks a Draft. An error means that it could not: the call fails closed.
type Rule func(ctx context.Context, d *Draft) ([]Violation, error)

// Violation is one broken rule; it is an error that unwraps to its Code. Field is the JSON name of what is wrong; the
// fields, their order, the codes and their Params are listed in formats.md.
type Violation struct {
	Field   string            `json:"field"`
	Code    Code              `json:"code"`
	Params  map[string]string `json:"params,omitempty"`
	Warning bool              `json:"warning"`        // AllowWeak lets it pass
	Text    string            `json:"text,omitempty"` // for a host's own code; the catalogue has none
}

func (v Violation) Error() string { return v.Field + ": " + string(v.Code) }
func (v Violation) Unwrap() error { return v.Code }

// Validator applies the built-in rules and the host's.
type Validator struct{ _ *int }

// NewValidator makes a Validator. What keeps keys safe to store and send (character set, control characters, upper
// bounds, syntax of endpoints, scopes and networks) always applies; opts may be nil; more are the host's own rules.
func NewValidator(opts *ValidatorOptions, more ...Rule) *Validator               { return nil }
func (v *Validator) Validate(ctx context.Context, d *Draft) ([]Violation, error) { return nil, nil }

type ValidatorOptions struct {
	MinLength   int            // of a credential, in code points; 0: 5, which is also the least
	MinChosen   int            // of an access key's chosen value; 0: 10, the least is 5
	MinStrength int            // 0 to 4, below which a value is called weak; 0: 2
	MaxLife     time.Duration  // 0: no bound; else every key expires
	AllowHTTP   bool           // endpoints in clear
	AllowHosts  []string       // endpoint hosts that may be private addresses or local names
	AllowNets   []netip.Prefix // private networks that an endpoint may name
}
