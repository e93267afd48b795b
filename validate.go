package keycote

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keycote/keycote/internal/redact"
	"github.com/keycote/keycote/internal/special"
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

// clone shares nothing with d that could be changed.
func (d *Draft) clone() *Draft {
	c := *d
	c.Actor = d.Actor.clone()
	c.Scopes, c.Networks, c.Labels = slices.Clone(d.Scopes), slices.Clone(d.Networks), maps.Clone(d.Labels)
	return &c
}

// Rule checks a Draft. An error means that it could not: the call fails closed. The Draft is a copy: a Rule judges and
// changes nothing. Rules are called one after the other, by many goroutines at once, and a panic in one is not caught but
// by Diagnose.
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

// Error names the field and the code, never a value. [Message] says it in a language.
func (v Violation) Error() string { return v.Field + ": " + string(v.Code) }

// Unwrap returns the Code.
func (v Violation) Unwrap() error { return v.Code }

// violation makes a Violation; params are names and values in turn.
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

// The codes of violations. Those that are codes of errors too, ErrExists, ErrWeak and ErrSecretRequired, stand in
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
	codeTooFar         Code = "too_far"      // max: the latest time allowed, RFC 3339
	codeOutOfRange     Code = "out_of_range" // min, max; of times in seconds
	codeNotAllowed     Code = "not_allowed"
	codeProbeFailed    Code = "probe_failed"
	codeKeyRefused     Code = "key_refused"
)

// Validator applies the built-in rules and the host's. The zero Validator and a nil one apply the built-in rules as
// NewValidator(nil) does. It is safe for concurrent use if the host's rules are.
type Validator struct {
	opts       ValidatorOptions // as given; what is out of range is put right where it is used
	allowHosts map[string]bool
	allowNets  []netip.Prefix
	rules      []Rule

	skipStrength bool // for benchmarks of everything else
}

// ValidatorOptions moves the bounds that a host may choose. No zero value opens anything, and no mistake does: a
// negative number counts as zero, one out of range as the nearest that is allowed. A negative MaxLife lets no key pass.
// An entry of AllowHosts that is no host (it has a port, say) and one of AllowNets that is invalid or has host bits open
// nothing.
type ValidatorOptions struct {
	MinLength   int            // of a credential, in code points; 0: 5, which is also the least
	MinChosen   int            // of an access key's chosen value; 0: 10, the least is 5
	MinStrength int            // 0 to 4, below which a value is called weak; 0: 2
	MaxLife     time.Duration  // 0: no bound; else every key expires
	AllowHTTP   bool           // endpoints in clear
	AllowHosts  []string       // endpoint hosts that may be private addresses or local names
	AllowNets   []netip.Prefix // private networks that an endpoint may name
}

// NewValidator makes a Validator. What keeps keys safe to store and send (character set, control characters, upper
// bounds, syntax of endpoints, scopes and networks) always applies; opts may be nil; more are the host's own rules.
func NewValidator(opts *ValidatorOptions, more ...Rule) *Validator {
	v := &Validator{rules: slices.Clone(more)}
	if opts == nil {
		return v
	}
	v.opts = *opts
	v.opts.AllowHosts, v.opts.AllowNets = nil, nil
	v.allowHosts = make(map[string]bool, len(opts.AllowHosts))
	for _, h := range opts.AllowHosts {
		if key, _, ok := special.Host(h); ok {
			v.allowHosts[key] = true
		}
	}
	for _, n := range opts.AllowNets {
		if networkOK(n) {
			v.allowNets = append(v.allowNets, special.Network(n))
		}
	}
	return v
}

// bounded puts n right: unset or negative is otherwise, and nothing is outside least and most.
func bounded(n, otherwise, least, most int) int {
	if n <= 0 {
		return otherwise
	}
	return min(max(n, least), most)
}

const (
	maxText     = 255 // code points of a name, an app, an owner, a label's value
	maxScopes   = 100
	maxNetworks = 100
	maxYears    = 100 // to an expiry
)

// Validate returns everything that is wrong with d, in field order; nothing when d may be kept. A Rule that could not
// judge makes it return that Rule's error and no violation at all, and so do a context that ended before all rules were
// asked, and a nil d or one of unknown Kind ([ErrInvalid]). d.Now must be set. It does not look whether names and values
// are taken: that takes a store.
func (v *Validator) Validate(ctx context.Context, d *Draft) ([]Violation, error) {
	if d == nil || d.Kind != KindAccess && d.Kind != KindCredential {
		return nil, &Error{Op: string(actionValidate), Code: ErrInvalid}
	}
	if v == nil {
		v = &Validator{}
	}
	vs := checkText(nil, fieldName, d.Name, maxText)
	if d.Name == "" {
		vs = append(vs, violation(fieldName, codeRequired))
	}
	vs = checkText(vs, fieldApp, d.App, maxText)
	vs = checkText(vs, fieldOwner, d.Owner, maxText)
	vs = v.checkEndpoint(vs, d)
	vs = v.checkSecret(vs, d)
	vs = checkScopes(vs, d)
	vs = checkNetworks(vs, d)
	vs = v.checkExpiry(vs, d)
	vs = checkLimit(vs, d)
	vs = checkLabels(vs, d.Labels)
	if len(v.rules) == 0 {
		return vs, nil
	}
	for _, rule := range v.rules {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		more, err := rule(ctx, d.clone())
		if err != nil {
			return nil, err
		}
		for _, m := range more {
			vs = append(vs, tidied(m, d.Secret))
		}
	}
	sortViolations(vs)
	return vs, nil
}

// tidied gives a host's violation the code it may lack, and takes the value out of it: violations are answered, logged
// and kept in events.
func tidied(v Violation, s Secret) Violation { return tidiedAs(v, s, ErrInvalid) }

// tidiedAs is tidied with the code for a violation that has none, or one that holds the value. A field that holds it
// becomes one that nobody knows, so that no call can pass over the violation.
func tidiedAs(v Violation, s Secret, otherwise Code) Violation {
	value := s.Reveal()
	if len(value) < leastSecret { // no key; and its letters are everywhere
		value = ""
	}
	if v.Code == "" || redact.Tells(string(v.Code), value) {
		v.Code = otherwise
	}
	if value == "" {
		return v
	}
	if !slices.Contains(fieldOrder[:], v.Field) { // the names of ours tell nothing, even to whoever has one for a value
		v.Field = withoutValue(v.Field, value)
	}
	v.Text = withoutValue(v.Text, value)
	params := v.Params
	if params != nil {
		v.Params = make(map[string]string, len(params))
	}
	for name, p := range params {
		v.Params[withoutValue(name, value)] = withoutValue(p, value)
	}
	return v
}

// withoutValue returns text with the value replaced, or nothing of text where it holds the value in another form.
func withoutValue(text, value string) string {
	text = strings.ReplaceAll(text, value, redacted)
	if redact.Tells(text, value) {
		return redacted
	}
	return text
}

func checkScopes(vs []Violation, d *Draft) []Violation {
	switch {
	case len(d.Scopes) == 0:
		return vs
	case d.Kind == KindCredential:
		return append(vs, violation(fieldScopes, codeNotAllowed))
	case len(d.Scopes) > maxScopes:
		return append(vs, violation(fieldScopes, codeTooMany, "max", strconv.Itoa(maxScopes)))
	}
	for i, s := range d.Scopes {
		switch {
		case len(s) > maxScope:
			vs = append(vs, violation(fieldScopes, codeTooLong, "index", strconv.Itoa(i), "max", strconv.Itoa(maxScope)))
		case !scopeOK(s):
			vs = append(vs, violation(fieldScopes, codeSyntax, "index", strconv.Itoa(i)))
		}
	}
	return vs
}

func checkNetworks(vs []Violation, d *Draft) []Violation {
	switch {
	case len(d.Networks) == 0:
		return vs
	case d.Kind == KindCredential:
		return append(vs, violation(fieldNetworks, codeNotAllowed))
	case len(d.Networks) > maxNetworks:
		return append(vs, violation(fieldNetworks, codeTooMany, "max", strconv.Itoa(maxNetworks)))
	}
	for i, n := range d.Networks {
		switch {
		case !n.IsValid():
			vs = append(vs, violation(fieldNetworks, codeSyntax, "index", strconv.Itoa(i)))
		case !networkOK(n):
			vs = append(vs, violation(fieldNetworks, codeHostBits, "index", strconv.Itoa(i)))
		}
	}
	return vs
}

// checkExpiry judges times as they will be kept, cut to the microsecond: an expiry half a microsecond away is now.
func (v *Validator) checkExpiry(vs []Violation, d *Draft) []Violation {
	if d.ExpiresAt.IsZero() {
		if v.opts.MaxLife != 0 {
			vs = append(vs, violation(fieldExpiresAt, codeRequired))
		}
		return vs
	}
	now, at := d.Now.Truncate(time.Microsecond), d.ExpiresAt.Truncate(time.Microsecond)
	if !at.After(now) {
		return append(vs, violation(fieldExpiresAt, codePast))
	}
	bound := v.opts.MaxLife
	if bound == 0 {
		bound = shortestMax
	}
	if at.Sub(now) <= min(bound, shortestMax) { // as nearly always: no calendar is needed
		return vs
	}
	latest := now.AddDate(maxYears, 0, 0)
	if v.opts.MaxLife != 0 {
		if l := now.Add(max(v.opts.MaxLife, 0)); l.Before(latest) {
			latest = l
		}
	}
	if at.After(latest) {
		vs = append(vs, violation(fieldExpiresAt, codeTooFar, "max", latest.UTC().Format(time.RFC3339)))
	}
	return vs
}

// shortestMax is less than maxYears wherever in the calendar they begin.
const shortestMax = maxYears * 365 * 24 * time.Hour

const (
	maxRate  = 1_000_000_000         // of Limit.Rate and Burst
	maxQuota = 1_000_000_000_000_000 // of Limit.Quota; exact in JSON
	maxPer   = 366 * 24 * time.Hour  // of Limit.Per and Period
)

// checkLimit judges a Limit. Params["part"] says which of its numbers is wrong, by its JSON name.
func checkLimit(vs []Violation, d *Draft) []Violation {
	l := d.Limit
	if l == (Limit{}) {
		return vs
	}
	if d.Kind == KindCredential {
		return append(vs, violation(fieldLimit, codeNotAllowed))
	}
	number := func(part string, n, most int64, wanted bool) {
		switch {
		case n == 0 && wanted:
			vs = append(vs, violation(fieldLimit, codeRequired, "part", part))
		case n < 0 || n > most:
			vs = append(vs, violation(fieldLimit, codeOutOfRange, "part", part, "min", "0", "max", strconv.FormatInt(most, 10)))
		}
	}
	span := func(part string, n time.Duration, wanted bool) {
		if n%time.Second != 0 && n > 0 && n < maxPer {
			vs = append(vs, violation(fieldLimit, codeSyntax, "part", part))
			return
		}
		whole := int64(n / time.Second)
		if n%time.Second != 0 { // out of range by a fraction, which must not be cut off
			whole = -1
		}
		number(part, whole, int64(maxPer/time.Second), wanted)
	}
	number("rate", int64(l.Rate), maxRate, l.Per != 0 || l.Burst != 0)
	span("per", l.Per, l.Rate != 0)
	number("burst", int64(l.Burst), maxRate, false)
	number("quota", l.Quota, maxQuota, l.Period != 0)
	span("period", l.Period, l.Quota != 0)
	return vs
}
