package keycote

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
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

// The codes of violations. Those that a call can fail with besides, ErrExists, ErrWeak and ErrSecretRequired, stand in
// errors.go.
const (
	codeRequired       Code = "required"
	codeTooShort       Code = "too_short" // min
	codeTooLong        Code = "too_long"  // max
	codeTooMany        Code = "too_many"  // max
	codeEncoding       Code = "encoding"
	codeControl        Code = "control"
	codeBlankEdge      Code = "blank_edge"
	codeCharset        Code = "charset"
	codeSyntax         Code = "syntax"
	codeReservedForm   Code = "reserved_form"
	codeScheme         Code = "scheme"
	codeUserInfo       Code = "user_info"
	codeFragment       Code = "fragment"
	codePrivateAddress Code = "private_address"
	codeHostBits       Code = "host_bits"
	codePast           Code = "past"
	codeTooFar         Code = "too_far"      // max
	codeOutOfRange     Code = "out_of_range" // min, max
	codeNotAllowed     Code = "not_allowed"
	codeProbeFailed    Code = "probe_failed"
	codeKeyRefused     Code = "key_refused"
)

// The fields of violations, in the order in which they are reported.
const (
	fieldName      = "name"
	fieldApp       = "app"
	fieldOwner     = "owner"
	fieldPrefix    = "prefix"
	fieldEndpoint  = "endpoint"
	fieldSecret    = "secret"
	fieldScopes    = "scopes"
	fieldNetworks  = "networks"
	fieldExpiresAt = "expiresAt"
	fieldLimit     = "limit"
	fieldLabels    = "labels"
	fieldOverlap   = "overlap"
	fieldUntilUsed = "untilUsed"
	fieldRevision  = "revision"
	fieldReason    = "reason"
	fieldRequestID = "requestId"
)

// violation makes a Violation of a name and value for each of its Params.
func violation(field string, code Code, params ...string) Violation {
	v := Violation{Field: field, Code: code}
	if len(params) > 0 {
		v.Params = make(map[string]string, len(params)/2)
		for i := 0; i+1 < len(params); i += 2 {
			v.Params[params[i]] = params[i+1]
		}
	}
	return v
}

// textFault is what is wrong with a text as such, whatever it is for.
type textFault uint8

const (
	textEncoding textFault = 1 << iota // not UTF-8; nothing else is looked at
	textControl
	textBlankEdge
)

// textFaults judges s. A line feed at an edge is a control character only.
func textFaults(s string) (f textFault) {
	if !utf8.ValidString(s) {
		return textEncoding
	}
	for _, r := range s {
		if isControl(r) {
			f |= textControl
			break
		}
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	for _, r := range [...]rune{first, last} {
		if unicode.IsSpace(r) && !isControl(r) {
			f |= textBlankEdge
		}
	}
	return f
}

// first returns the code of the fault that is reported first, or "".
func (f textFault) first() Code {
	switch {
	case f&textEncoding != 0:
		return codeEncoding
	case f&textControl != 0:
		return codeControl
	case f&textBlankEdge != 0:
		return codeBlankEdge
	}
	return ""
}

// isControl reports whether r is of category Cc, breaks a line, or turns the direction of what follows: such text does
// not mean what it shows.
func isControl(r rune) bool {
	if r < 0x2028 {
		return r < ' ' || r >= 0x7f && r < 0xa0
	}
	return r <= 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxTenant is the most bytes of a tenant's name.
const maxTenant = 255

// tenantOK reports whether name can name a tenant: 1 to 255 bytes of UTF-8, no control characters, no blank edges.
func tenantOK(name string) bool {
	return name != "" && len(name) <= maxTenant && textFaults(name) == 0
}

// callParams is what a call carries besides the key itself.
type callParams struct {
	Prefix, Reason, RequestID        string
	NeedReason, Rotation, Credential bool
	Overlap                          time.Duration
	UntilUsed                        bool
	Revision                         int64
}

var _ = slices.Sort[[]int]
var _ = strconv.Itoa
