package keycote

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryFindingIsSaid: what Diagnose and keyhttp.Inspect can find, and what the probes of keyhttp and its guard
// refuse by, has a sentence, and no sentence is for something that nobody finds.
func TestEveryFindingIsSaid(t *testing.T) {
	t.Parallel()
	codes := sourceConsts(t, func(_, typ string) bool { return typ == "finding" }, "diagnose*.go")
	require.Contains(t, codes, string(findWideScopes))
	byPrefix := func(prefix string) func(name, typ string) bool {
		return func(name, _ string) bool { return strings.HasPrefix(name, prefix) }
	}
	codes = append(codes, sourceConsts(t, byPrefix("found"), "keyhttp/inspect.go")...)
	codes = append(codes, sourceConsts(t, byPrefix("code"), "keyhttp/guard_policy.go")...)
	codes = append(codes, string(ErrShredded), string(ErrTampered)) // said as they are
	slices.Sort(codes)
	said := strings.Fields(diagnosisWords["finding"])
	slices.Sort(said)
	require.Equal(t, slices.Compact(codes), said)
	for _, state := range []State{StateDisabled, StateRevoked, StateExpired, StateUnreadable} {
		require.Contains(t, strings.Fields(diagnosisWords["state"]), string(state))
	}
}

// TestNoWordForPrograms: states, actions and reasons stand in a report in its own language.
func TestNoWordForPrograms(t *testing.T) {
	t.Parallel()
	var d Diagnosis
	var words []string
	add := func(code Code, param string, list ...string) {
		for _, word := range list {
			d.Checks = append(d.Checks, Check{Code: code, Status: checkWarning, Params: map[string]string{
				param: word, "count": "3", "last": "2026-01-02T03:04:05Z",
			}})
			words = append(words, word)
		}
	}
	add(findNotActive, "state", "disabled", "revoked", "expired", "unreadable")
	add(findMay, "action", "use", "reveal", "update", "rotate")
	add(findMayNot, "action", "use", "reveal", "update", "rotate")
	for _, c := range []Code{ // that Verify and Use count a refusal of a known key under
		ErrRevoked, ErrDisabled, ErrExpired, ErrAddress, ErrScope, ErrLimited, ErrTampered, ErrShredded, ErrKEK, ErrInvalid,
	} {
		add(findRefusals, "reason", string(c))
	}
	for _, l := range locales {
		if l.tag == defaultLocale {
			continue
		}
		for i, c := range d.In(l.tag).Checks {
			english := regexp.MustCompile(`(^|\PL)` + words[i] + `(\PL|$)`)
			require.NotRegexp(t, english, c.Text, l.tag)
			require.NotContains(t, c.Text, "…", l.tag)
		}
	}
	require.Equal(t, "Nicht aktiv; Zustand: deaktiviert.", d.In("de").Checks[0].Text)
	require.Equal(t, "Erlaubte Aktion: anzeigen.", d.In("de").Checks[5].Text)
	require.Equal(t, "The key was refused; in the last 7 days: 3, last refusal: 2026-01-02T03:04:05Z, reason: disabled.",
		d.In("en").Checks[13].Text)
	d.Checks = []Check{{Code: findMay, Params: map[string]string{"action": "a newer version's"}}}
	require.Equal(t, "Allowed action: a newer version's.", d.In("en").Checks[0].Text)
}

// TestEveryIllHasAdvice: whatever can be a warning or a failure comes with what to do about it, and nothing else does.
func TestEveryIllHasAdvice(t *testing.T) {
	t.Parallel()
	for _, code := range strings.Fields(diagnosisWords["finding"]) {
		for _, status := range []string{checkOK, checkSkipped, checkWarning, checkFailed} {
			c := (&Diagnosis{Checks: []Check{{Area: areaNetwork, Code: Code(code), Status: status}}}).In("fr").Checks[0]
			ill := status == checkWarning || status == checkFailed
			require.Equal(t, ill && slices.Contains(strings.Fields(adviceCodes), code), c.Advice != "", "%s %s", status, code)
			require.Equal(t, "Réseau", c.AreaTitle)
			require.NotEmpty(t, c.StatusTitle)
		}
	}
}
