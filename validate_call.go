package keycote

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The fields of violations.
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

// fieldOrder is the order in which violations are reported.
var fieldOrder = [...]string{fieldName, fieldApp, fieldOwner, fieldPrefix, fieldEndpoint, fieldSecret, fieldScopes,
	fieldNetworks, fieldExpiresAt, fieldLimit, fieldLabels, fieldOverlap, fieldUntilUsed, fieldRevision, fieldReason,
	fieldRequestID}

// fieldSet is a set of fields.
type fieldSet uint32

// One constant for each field, in the order of fieldOrder.
const (
	onName fieldSet = 1 << iota
	onApp
	onOwner
	onPrefix
	onEndpoint
	onSecret
	onScopes
	onNetworks
	onExpiresAt
	onLimit
	onLabels
	onOverlap
	onUntilUsed
	onRevision
	onReason
	onRequestID
)

// keep returns the violations of fields in s, and those of fields that are a host's own. A key that is updated or
// rotated is judged on what the call touches: a rule that grew stricter must not stop a key from being renamed, or worse,
// from being rotated. vs is not changed.
func (s fieldSet) keep(vs []Violation) []Violation {
	drop := func(v Violation) bool {
		i := slices.Index(fieldOrder[:], v.Field)
		return i >= 0 && s&(1<<i) == 0
	}
	if !slices.ContainsFunc(vs, drop) {
		return vs
	}
	return slices.DeleteFunc(slices.Clone(vs), drop)
}

// sortViolations puts vs into field order, and those of a list into the list's order. A host's own fields come last, as
// they were given.
func sortViolations(vs []Violation) {
	slices.SortStableFunc(vs, func(a, b Violation) int {
		i, j := fieldRank(a.Field), fieldRank(b.Field)
		if i != j || i == len(fieldOrder) {
			return cmp.Compare(i, j)
		}
		return cmp.Compare(listIndex(a), listIndex(b))
	})
}

func fieldRank(field string) int {
	if i := slices.Index(fieldOrder[:], field); i >= 0 {
		return i
	}
	return len(fieldOrder)
}

// listIndex is -1 for a violation of the field as a whole.
func listIndex(v Violation) int {
	i, err := strconv.Atoi(v.Params["index"])
	if err != nil {
		return -1
	}
	return i
}

// callParams is what a call carries besides the key itself.
type callParams struct {
	Prefix, Reason, RequestID        string
	NeedReason, Rotation, Credential bool
	Overlap                          time.Duration
	UntilUsed                        bool
	Revision                         int64
}

const (
	maxReason    = 1000                 // code points
	maxRequestID = 255                  // bytes
	maxOverlap   = 365 * 24 * time.Hour // one year
)

// checkCall returns what is wrong with p, in field order. An empty Prefix and RequestID are none.
func checkCall(p callParams) (vs []Violation) {
	if p.Prefix != "" && !prefixOK(p.Prefix) {
		vs = append(vs, violation(fieldPrefix, codeSyntax))
	}
	overlaps := p.Rotation && !p.Credential // a credential's new value takes the place of the old one
	switch {
	case p.Overlap != 0 && !overlaps:
		vs = append(vs, violation(fieldOverlap, codeNotAllowed))
	case p.Overlap < 0 || p.Overlap > maxOverlap:
		vs = append(vs, violation(fieldOverlap, codeOutOfRange,
			"min", "0", "max", strconv.FormatInt(int64(maxOverlap/time.Second), 10)))
	}
	if p.UntilUsed && (!overlaps || p.Overlap == 0) {
		vs = append(vs, violation(fieldUntilUsed, codeNotAllowed))
	}
	if p.Revision < 0 {
		vs = append(vs, violation(fieldRevision, codeOutOfRange, "min", "0", "max", strconv.FormatInt(math.MaxInt64, 10)))
	}
	vs = checkReason(vs, p)
	if len(p.RequestID) > maxRequestID {
		vs = append(vs, violation(fieldRequestID, codeTooLong, "max", strconv.Itoa(maxRequestID)))
	}
	return vs
}

// checkReason judges the words of a person. Blanks at their edges do no harm, but blanks alone are no reason.
func checkReason(vs []Violation, p callParams) []Violation {
	if p.NeedReason && len(p.Reason) <= maxReason && strings.TrimSpace(p.Reason) == "" {
		return append(vs, violation(fieldReason, codeRequired))
	}
	for _, v := range checkText(nil, fieldReason, p.Reason, maxReason) {
		if v.Code != codeBlankEdge {
			vs = append(vs, v)
		}
	}
	return vs
}
