package keycote

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// messageParams are the Params that each message may have (formats.md).
var messageParams = map[string][]string{
	"code.too_short": {"min"}, "code.too_long": {"max"}, "code.too_many": {"max"}, "code.weak_secret": {"min", "score"},
	"code.too_far": {"max"}, "code.out_of_range": {"max", "min"},

	"finding.rules_broken": {"fields"}, "finding.weak": {"min", "score"}, "finding.old": {"days", "max"},
	"finding.never_rotated": {"days"}, "finding.not_active": {"state"}, "finding.expires_soon": {"days"},
	"finding.may": {"action"}, "finding.may_not": {"action"}, "finding.bound_networks": {"count"},
	"finding.resolved": {"count"}, "finding.certificate_ok": {"days"}, "finding.certificate_soon": {"days"},
	"finding.answered": {"status"}, "finding.server_error": {"status"}, "finding.keyring_age": {"days"},
	"finding.used": {"count", "last"}, "finding.refusals": {"count", "last", "reason"},
}

// diagnosisWords are the last parts of the keys with which a diagnosis is said, by the first part. What a person can do
// something about has an advice under the same code.
var diagnosisWords = map[string]string{
	"area":   "format permission network log keeping",
	"status": "ok warning failed skipped",
	"check": "rules strength age state authorized scopes networks name guard tcp tls http probe successes " +
		"refusals alerts open seal keyring",
	"finding": "ok may any_network bound_networks address_within resolved connected certificate_ok answered probe_ok " +
		"used no_refusals no_alerts opens seal_holds not_checked " + adviceCodes,
	"advice": adviceCodes,
	"state":  "disabled revoked expired unreadable",                 // in which a key is not active
	"action": "use reveal update rotate",                            // of which Diagnose says whether the actor may
	"reason": "address scope limited tampered shredded kek invalid", // of refusals, besides those that are states
}

const adviceCodes = "rules_broken weak old never_rotated not_active expires_soon may_not no_scopes wide_scopes " +
	"address_outside opens_retired no_such_host refused_address private_address not_allowed scheme user_info syntax " +
	"no_connection certificate_soon certificate_bad no_tls key_refused server_error no_answer probe_failed never_used " +
	"refusals does_not_open tampered seal_broken keyring_age kek_unavailable shredded could_not_check"

// sourceConsts returns the values of the string constants for which keep says yes, out of the files that match.
func sourceConsts(t *testing.T, keep func(name, typ string) bool, patterns ...string) []string {
	t.Helper()
	var values []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			require.NoError(t, err)
			ast.Inspect(parsed, func(n ast.Node) bool {
				spec, ok := n.(*ast.ValueSpec)
				if !ok || len(spec.Values) != 1 {
					return true
				}
				typ := ""
				if id, ok := spec.Type.(*ast.Ident); ok {
					typ = id.Name
				}
				if lit, ok := spec.Values[0].(*ast.BasicLit); ok && keep(spec.Names[0].Name, typ) {
					v, err := strconv.Unquote(lit.Value)
					require.NoError(t, err)
					values = append(values, v)
				}
				return true
			})
		}
	}
	slices.Sort(values)
	return values
}

// TestLanguage: what Content-Language says is the catalogue that Message reads.
func TestLanguage(t *testing.T) {
	t.Parallel()
	for lang, want := range map[string]string{
		"": "en-US", "en-GB": "en-US", "tlh": "en-US", "%%%": "en-US", "zh-CN,en;q=0.5": "zh-Hans", "zh-Hans": "zh-Hans",
	} {
		require.Equal(t, want, Language(lang), lang)
		require.Equal(t, Message(want, ErrNotFound), Message(lang, ErrNotFound), lang)
	}
}

// TestCatalogues walks every file there is: a locale that is added is held to the same keys and placeholders.
func TestCatalogues(t *testing.T) {
	t.Parallel()
	codes := sourceConsts(t, func(name, typ string) bool { return typ == "Code" && name != "unknownCode" }, "*.go")
	require.Contains(t, codes, string(ErrTampered))
	require.Contains(t, codes, string(codeHostBits))
	require.Len(t, slices.Compact(slices.Clone(codes)), len(codes), "two constants for one code")
	fields := sourceConsts(t, func(name, typ string) bool { return strings.HasPrefix(name, "field") && typ == "" }, "validate*.go")
	require.Len(t, fields, len(fieldOrder))

	const onTheWire = "invalid_request" // RFC 6750's code; no error of a Manager has it
	var want []string
	for _, c := range append(codes, string(unknownCode), onTheWire) {
		want = append(want, "code."+c)
	}
	for _, f := range fields {
		want = append(want, "field."+f)
	}
	for _, part := range []string{"rate", "per", "burst", "quota", "period"} {
		want = append(want, "field.limit."+part)
	}
	for section, words := range diagnosisWords {
		for _, word := range strings.Fields(words) {
			want = append(want, section+"."+word)
		}
	}
	slices.Sort(want)

	placeholder := regexp.MustCompile(`\{([^}]*)\}`)
	files, err := filepath.Glob("messages/*")
	require.NoError(t, err)
	require.Len(t, catalogues().list, len(files), "every file is built in")
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data, err := messageFiles.ReadFile(file)
			require.NoError(t, err)
			var text map[string]string
			require.NoError(t, json.Unmarshal(data, &text))
			require.Equal(t, want, slices.Sorted(maps.Keys(text)))
			for key, m := range text {
				require.NotEmpty(t, m, key)
				require.Equal(t, strings.TrimSpace(m), m, key)
				require.Zero(t, textFaults(m), key)
				var names []string
				for _, found := range placeholder.FindAllStringSubmatch(m, -1) {
					names = append(names, found[1])
				}
				slices.Sort(names)
				require.Equal(t, messageParams[key], names, key)
			}
		})
	}
}

func TestMessageLanguage(t *testing.T) {
	t.Parallel()
	const english, chinese = "The service is not available right now. Try again later.", "服务暂时不可用，请稍后再试。"
	tests := []struct{ name, lang, want string }{
		{"none", "", english},
		{"the tag", "en-US", english},
		{"another English", "en-GB", english},
		{"letter case", "ZH-hans", chinese},
		{"a region", "zh-CN", chinese},
		{"an underscore", "zh_CN", chinese},
		{"language alone", "zh", chinese},
		{"Singapore", "zh-SG", chinese},
		{"a header", "tlh, zh-CN;q=0.8, en;q=0.7, *;q=0.5", chinese},
		{"weights", "zh;q=0.2, en;q=0.9", english},
		{"nothing fits", "tlh", english},
		{"a star", "*", english},
		{"nonsense", "%%%;;;,,,", english},
		{"NUL", "\x00", english},
		{"a long header", strings.Repeat("zh,", 100_000), chinese},
		{"an unknown language beside it", "zh, qx;q=0.5", chinese},
		{"an unknown variant beside it", "zh;q=1.0, en-xyzzy;q=0.2", chinese},
		{"an unknown language before it", "qx, zh;q=0.5, en;q=0.2", chinese},
		{"a weight that is none", "en;q=high, zh;q=0.5", chinese},
		{"a weight of nothing", "zh;q=0, en;q=0.2", english},
		{"empty entries", ",, zh ,,en", chinese},
		{"the sixteenth", strings.Repeat("tlh,", 15) + "zh", chinese},
		{"one too many", strings.Repeat("tlh,", 16) + "zh", english},
		{"within the bound", "zh" + strings.Repeat(" ", 510), chinese},
		{"cut by the bound", strings.Repeat(" ", 505) + "tlh, zh-Hans", english},
		{"behind the bound", "zh;q=0.5," + strings.Repeat("x", 512) + ",en", chinese},
		{"many hyphens", strings.Repeat("a-", 250), english},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, Message(tt.lang, ErrUnavailable))
		})
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	short := violation(fieldSecret, codeTooShort, "min", "10")
	scope := violation(fieldScopes, codeSyntax, "index", "0")
	tests := []struct {
		name, lang string
		err        error
		want       string
	}{
		{"nil", "en", nil, ""},
		{"a code", "en", ErrRevoked, "This key has been revoked."},
		{"a code in Chinese", "zh", ErrRevoked, "该密钥已被吊销。"},
		{"an Error", "en", &Error{Op: "rotate", ID: "key_x", Code: ErrRevoked}, "This key has been revoked."},
		{"an Error within", "en", fmt.Errorf("handler: %w", &Error{Code: ErrExpired}), "This key has expired."},
		{"a refused identity is said by its own code", "en", &Error{Op: opVerify, Code: ErrExpired}, "This key has expired."},
		{"a violation", "en", short, "Key: too short; minimum length: 10"},
		{"a violation in Chinese", "zh", short, "密钥：过短；最小长度：10"},
		{"a violation within", "en", fmt.Errorf("probe: %w", violation(fieldEndpoint, codeProbeFailed)),
			"Endpoint: the endpoint could not be reached or did not answer as expected"},
		{"one of a list", "en", scope, "Scopes #1: not in the right form"},
		{"one of a list in Chinese", "zh", scope, "权限范围 #1：格式不正确"},
		{"a part", "en", violation(fieldLimit, codeRequired, "part", "per"), "Limit, interval in seconds: required"},
		{"an unknown part", "en", violation(fieldLimit, codeRequired, "part", "x"), "Limit: required"},
		{"all violations", "en", &ValidationError{Violations: []Violation{short, scope}},
			"Key: too short; minimum length: 10\nScopes #1: not in the right form"},
		{"no violations", "en", &ValidationError{}, "This is not valid."},
		{"a host's code", "en", Violation{Field: fieldName, Code: "profanity", Text: "please be polite"}, "Name: please be polite"},
		{"a host's text is no template", "en", Violation{Code: "x", Text: "{min}", Params: map[string]string{"min": "7"}}, "{min}"},
		{"a host's field", "en", Violation{Field: "costCentre", Code: codeRequired}, "costCentre: required"},
		{"a host's code without text", "en", Violation{Field: "costCentre", Code: "x"}, "costCentre: This is not valid."},
		{"a host's code of the catalogue's own name", "en", Violation{Code: "unknown", Text: "never heard of it"}, "never heard of it"},
		{"text does not replace a known code", "en", Violation{Field: fieldName, Code: codeRequired, Text: "x"}, "Name: required"},
		{"a missing param", "en", violation(fieldSecret, codeTooShort), "Key: too short; minimum length: …"},
		{"a param like a placeholder", "en", violation(fieldLimit, codeOutOfRange, "min", "{max}", "max", "{min}"),
			"Limit: must lie between {max} and {min}"},
		{"a code alone has no params", "en", codeTooShort, "too short; minimum length: …"},
		{"an unknown code", "en", Code("nonsense"), "The request could not be completed."},
		{"an unknown error", "en", errors.New("dial tcp 10.0.0.1: password=hunter2"), "The request could not be completed."},
		{"an unknown error in Chinese", "zh", errors.New("x"), "无法完成此请求。"},
		{"a cause is not shown", "en", &Error{Code: ErrUnavailable, Err: causeOf(errors.New("hunter2"))},
			"The service is not available right now. Try again later."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, Message(tt.lang, tt.err))
		})
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	params := map[string]string{"min": "1", "max": "{min}"}
	for template, want := range map[string]string{
		"":            "",
		"none":        "none",
		"{min}":       "1",
		"{min}{max}":  "1{min}",
		"a{max}b":     "a{min}b",
		"{":           "{",
		"}":           "}",
		"{}":          "{}",
		"{{min}}":     "{1}",
		"{min":        "{min",
		"{a b} {min}": "{a b} 1",
		"{other}":     "…",
	} {
		require.Equal(t, want, fill(template, params), template)
	}
}

// FuzzPlaceholders holds fill against its definition by a regular expression.
func FuzzPlaceholders(f *testing.F) {
	for _, s := range []string{"", "{", "}", "{}", "{min}", "{{min}}", "{min}{max}", "{min", "a{b}c", "{max}}", "{é}", "\xff{min}"} {
		f.Add(s, "{max}", "{min}")
	}
	placeholder := regexp.MustCompile(`\{[A-Za-z]+\}`)
	f.Fuzz(func(t *testing.T, template, low, high string) {
		params := map[string]string{"min": low, "max": high}
		var want strings.Builder
		end := 0
		for _, at := range placeholder.FindAllStringIndex(template, -1) {
			want.WriteString(template[end:at[0]])
			value, ok := params[template[at[0]+1:at[1]-1]]
			if !ok {
				value = "…"
			}
			want.WriteString(value)
			end = at[1]
		}
		want.WriteString(template[end:])
		if got := fill(template, params); got != want.String() {
			t.Fatalf("fill(%q) = %q, want %q", template, got, want.String())
		}
	})
}
