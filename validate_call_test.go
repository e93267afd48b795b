package keycote

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCheckCall(t *testing.T) {
	t.Parallel()
	rotation := callParams{Rotation: true}
	tests := []struct {
		name  string
		given callParams
		want  []Violation
	}{
		{"nothing", callParams{}, nil},
		{"a rotation of nothing", rotation, nil},
		{"a prefix", callParams{Prefix: "shop_live"}, nil},
		{"a bad prefix", callParams{Prefix: "Shop"}, []Violation{violation(fieldPrefix, codeSyntax)}},
		{"overlap of a year", callParams{Rotation: true, Overlap: 365 * 24 * time.Hour, UntilUsed: true}, nil},
		{"overlap of more", callParams{Rotation: true, Overlap: 365*24*time.Hour + 1},
			[]Violation{violation(fieldOverlap, codeOutOfRange, "min", "0", "max", "31536000")}},
		{"negative overlap", callParams{Rotation: true, Overlap: -1, UntilUsed: true},
			[]Violation{violation(fieldOverlap, codeOutOfRange, "min", "0", "max", "31536000")}},
		{"overlap of a credential", callParams{Rotation: true, Credential: true, Overlap: time.Hour, UntilUsed: true},
			[]Violation{violation(fieldOverlap, codeNotAllowed), violation(fieldUntilUsed, codeNotAllowed)}},
		{"until used, without overlap", callParams{Rotation: true, UntilUsed: true}, []Violation{violation(fieldUntilUsed, codeNotAllowed)}},
		{"until used, of a credential", callParams{Rotation: true, Credential: true, UntilUsed: true},
			[]Violation{violation(fieldUntilUsed, codeNotAllowed)}},
		{"overlap without a rotation", callParams{Overlap: time.Hour}, []Violation{violation(fieldOverlap, codeNotAllowed)}},
		{"revision", callParams{Revision: math.MaxInt64}, nil},
		{"negative revision", callParams{Revision: -1},
			[]Violation{violation(fieldRevision, codeOutOfRange, "min", "0", "max", "9223372036854775807")}},
		{"a reason", callParams{Reason: strings.Repeat("理", 1000), NeedReason: true}, nil},
		{"a long reason", callParams{Reason: strings.Repeat("理", 1001)}, []Violation{violation(fieldReason, codeTooLong, "max", "1000")}},
		{"a reason of 1 MiB", callParams{Reason: strings.Repeat(" ", 1<<20), NeedReason: true},
			[]Violation{violation(fieldReason, codeTooLong, "max", "1000")}},
		{"a reason with a line feed", callParams{Reason: "a\nb"}, []Violation{violation(fieldReason, codeControl)}},
		{"a reason that is not UTF-8", callParams{Reason: "\xff"}, []Violation{violation(fieldReason, codeEncoding)}},
		{"a reason with blank edges", callParams{Reason: " why ", NeedReason: true}, nil},
		{"no reason", callParams{NeedReason: true}, []Violation{violation(fieldReason, codeRequired)}},
		{"a blank reason", callParams{Reason: " \t", NeedReason: true}, []Violation{violation(fieldReason, codeRequired)}},
		{"a request id of 255 bytes", callParams{RequestID: strings.Repeat("\xff", 255)}, nil},
		{"a request id of 256 bytes", callParams{RequestID: strings.Repeat("r", 256)},
			[]Violation{violation(fieldRequestID, codeTooLong, "max", "255")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, checkCall(tt.given))
		})
	}

	all := checkCall(callParams{Prefix: "-", Overlap: -1, UntilUsed: true, Revision: -1, NeedReason: true, RequestID: strings.Repeat("r", 256)})
	sorted := slices.Clone(all)
	sortViolations(sorted)
	require.Equal(t, sorted, all, "in field order")
	require.Len(t, all, 6)
}

func TestFieldSet(t *testing.T) {
	t.Parallel()
	sets := []fieldSet{onName, onApp, onOwner, onPrefix, onEndpoint, onSecret, onScopes, onNetworks, onExpiresAt, onLimit,
		onLabels, onOverlap, onUntilUsed, onRevision, onReason, onRequestID}
	require.Len(t, sets, len(fieldOrder))
	var all []Violation
	for _, f := range fieldOrder {
		all = append(all, Violation{Field: f})
	}
	host := Violation{Field: "costCentre"}
	all = append(all, host)
	for i, s := range sets {
		require.Equal(t, []Violation{all[i], host}, s.keep(all))
	}
	require.Equal(t, []Violation{all[0], all[9], host}, (onName | onLimit).keep(all))
	require.Equal(t, []Violation{host}, fieldSet(0).keep(all))
	require.Equal(t, "name", all[0].Field, "the argument is left alone")
	require.Len(t, all, len(fieldOrder)+1)
	require.Nil(t, onName.keep(nil))
}

func TestSortViolations(t *testing.T) {
	t.Parallel()
	v := func(field string, code Code, index string) Violation {
		v := violation(field, code)
		if index != "" {
			v.Params = map[string]string{"index": index}
		}
		return v
	}
	want := []Violation{v("name", "b", ""), v("name", "a", ""), v("scopes", "whole", ""), v("scopes", "x", "0"), v("scopes", "y", "2"),
		v("scopes", "z", "10"), v("requestId", "a", ""), v("other", "a", "3"), v("costCentre", "a", "1")}
	got := []Violation{want[7], want[6], want[5], want[8], want[3], want[0], want[4], want[2], want[1]}
	sortViolations(got)
	require.Equal(t, want, got)
}
