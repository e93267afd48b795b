package keycote

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
)

// locale is what can be known of a language by somebody who does not read it. A message is looked at in lower case.
type locale struct {
	tag     string
	least   string // of words or parts of words that say a minimum, between bars; no message about a maximum has one
	most    string // the same of a maximum, "latest" included
	script  []*unicode.RangeTable
	foreign string // letters of its neighbour, which a copy would bring along
	loan    string // keys whose text is the English word
}

var (
	han      = []*unicode.RangeTable{unicode.Han}
	japanese = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana}
	cyrillic = []*unicode.RangeTable{unicode.Cyrillic}
	arabic   = []*unicode.RangeTable{unicode.Arabic}
	latin    = []*unicode.RangeTable{unicode.Latin}
)

var locales = []locale{
	{tag: "en-US", least: "minimum|at least", most: "maximum|latest", script: latin},
	{tag: "zh-Hans", least: "最小|至少", most: "最大|最多|最晚|最高", script: han, foreign: "鑰網絡許請證過時間務應"},
	{tag: "zh-Hant", least: "最小|至少", most: "最大|最多|最晚|最高", script: han, foreign: "钥网络许请证过时间务应"},
	{tag: "ja-JP", least: "最小|以上", most: "最大|以下|最も遅い", script: japanese},
	{tag: "ko-KR", least: "최소|이상", most: "최대|이하|가장 늦은", script: []*unicode.RangeTable{unicode.Hangul}},
	{tag: "de-DE", least: "mindest", most: "höchst|maxim|spätest", script: latin,
		loan: "area.format field.labels field.limit field.name field.revision"},
	{tag: "fr-FR", least: "minim|au moins", most: "maxim|au plus", script: latin, loan: "area.format field.app"},
	{tag: "es-ES", least: "mínim|al menos", most: "máxim|muy tarde", script: latin},
	{tag: "pt-BR", least: "mínim", most: "máxim|mais tardar", script: latin, loan: "field.endpoint"},
	{tag: "it-IT", least: "minim|almeno", most: "massim|al più", script: latin, loan: "field.endpoint"},
	{tag: "ru-RU", least: "минимальн|не менее", most: "максим|не позднее", script: cyrillic, foreign: "іїєґ"},
	{tag: "uk-UA", least: "мінімальн|щонайменше", most: "максим|не пізніше", script: cyrillic, foreign: "ыэёъ"},
	{tag: "pl-PL", least: "minim|co najmniej", most: "maks|najpóźniej", script: latin, loan: "area.format field.limit"},
	{tag: "ro-RO", least: "minim|cel puțin", most: "maxim|cel târziu", script: latin, loan: "area.format field.prefix",
		foreign: "şţ"}, // with a cedilla, as in Turkish
	{tag: "sl-SI", least: "najmanj", most: "največ|najpozneje", script: latin},
	{tag: "tr-TR", least: "en az", most: "en fazla|en geç", script: latin},
	{tag: "vi-VN", least: "tối thiểu|ít nhất", most: "tối đa|muộn nhất", script: latin},
	{tag: "th-TH", least: "ขั้นต่ำ|อย่างน้อย", most: "สูงสุด|ช้าที่สุด", script: []*unicode.RangeTable{unicode.Thai}},
	{tag: "hi-IN", least: "न्यूनतम|कम से कम", most: "अधिकतम", script: []*unicode.RangeTable{unicode.Devanagari}},
	{tag: "id-ID", least: "minimum|setidaknya", most: "maksimum|paling lambat", script: latin},
	{tag: "fa-IR", least: "حداقل|دست\u200cکم", most: "حداکثر", script: arabic, foreign: "يكى"},
	{tag: "ar-TN", least: "الأدنى|على الأقل", most: "الأقصى|أقصاه", script: arabic, foreign: "یکپچگ"},
	{tag: "nl-NL", least: "minim|ten minste", most: "maxim|uiterlijk", script: latin, loan: "field.labels field.prefix"},
}

// eachLocale runs f for every locale, with its texts.
func eachLocale(t *testing.T, f func(t *testing.T, l locale, text map[string]string)) {
	t.Helper()
	for _, l := range locales {
		t.Run(l.tag, func(t *testing.T) {
			t.Parallel()
			f(t, l, catalogueFor(l.tag).text)
		})
	}
}

func english() map[string]string { return catalogues().list[0].text }

func TestLocalesAreAllThere(t *testing.T) {
	t.Parallel()
	files, err := messageFiles.ReadDir("messages")
	require.NoError(t, err)
	var have, want []string
	for _, f := range files {
		have = append(have, f.Name())
	}
	for _, l := range locales {
		want = append(want, l.tag+".json")
	}
	require.ElementsMatch(t, want, have)
}

// TestMinimumIsNoMaximum: a catalogue once said in Korean that a key may have ten characters at most.
func TestMinimumIsNoMaximum(t *testing.T) {
	t.Parallel()
	eachLocale(t, func(t *testing.T, l locale, text map[string]string) {
		least, most := regexp.MustCompile(l.least), regexp.MustCompile(l.most)
		for key, m := range text {
			low := strings.ToLower(m)
			from, to := strings.Index(m, "{min}"), strings.Index(m, "{max}")
			switch {
			case from >= 0 && to >= 0:
				require.Less(t, from, to, "%s: %s", key, m)
			case from >= 0:
				require.Regexp(t, least, low, key)
				require.NotRegexp(t, most, low, key)
			case to >= 0:
				require.Regexp(t, most, low, key)
				require.NotRegexp(t, least, low, key)
			}
		}
	})
}

// englishWords are common in English and no words of any other language here.
var englishWords = regexp.MustCompile(`(?i)(^|\PL)(the|must|this|not|been|which|with|from|has|does|cannot|and)(\PL|$)`)

// acronyms are the Latin words that stand in text of another script.
var acronyms = strings.Fields("HTTP TLS TCP DNS ASCII UTF ID https")

func TestNothingIsLeftInEnglish(t *testing.T) {
	t.Parallel()
	word, placeholder := regexp.MustCompile(`[A-Za-z]+`), regexp.MustCompile(`\{[a-z]+\}`)
	require.Regexp(t, englishWords, english()["code.tampered"])
	eachLocale(t, func(t *testing.T, l locale, text map[string]string) {
		if l.tag == defaultLocale {
			return
		}
		var same []string
		for key, m := range text {
			if m == english()[key] {
				same = append(same, key)
			}
			bare := placeholder.ReplaceAllString(m, "")
			require.True(t, strings.ContainsFunc(bare, func(r rune) bool { return unicode.In(r, l.script...) }), key)
			require.NotRegexp(t, englishWords, bare, key)
			require.False(t, l.foreign != "" && strings.ContainsAny(strings.ToLower(bare), l.foreign), "%s: %s", key, m)
			if l.script[0] != unicode.Latin {
				require.Subset(t, acronyms, word.FindAllString(bare, -1), key)
			}
		}
		require.ElementsMatch(t, strings.Fields(l.loan), same)
	})
}

// TestMessagesDiffer finds a line that was given twice, or all lines after it moved by one.
func TestMessagesDiffer(t *testing.T) {
	t.Parallel()
	eachLocale(t, func(t *testing.T, _ locale, text map[string]string) {
		seen := map[string]string{}
		for key, m := range text {
			section, _, _ := strings.Cut(key, ".")
			require.Empty(t, seen[section+m], "%s: %s", key, m)
			seen[section+m] = key
		}
	})
}

// TestSentences: what follows a field's name and a colon is no sentence of its own, nor is what stands within another;
// everything else is one, or a name.
func TestSentences(t *testing.T) {
	t.Parallel()
	eachLocale(t, func(t *testing.T, l locale, text map[string]string) {
		for key, m := range text {
			first, _ := utf8.DecodeRuneInString(m)
			last, _ := utf8.DecodeLastRuneInString(m)
			stops := strings.ContainsRune(".。।", last)
			switch section, _, _ := strings.Cut(key, "."); {
			case section == "code" && !strings.HasSuffix(english()[key], "."):
				require.False(t, stops || unicode.IsUpper(first), "%s: %s", key, m)
			case section == "code" || section == "finding" || section == "advice":
				require.False(t, unicode.IsLower(first), "%s: %s", key, m)
				require.Equal(t, l.tag != "th-TH", stops, "%s: %s", key, m) // Thai has no full stop
			case section == "state" || section == "action" || section == "reason": // stand within a sentence
				require.False(t, stops || unicode.IsUpper(first), "%s: %s", key, m)
			default:
				require.False(t, stops || unicode.IsLower(first), "%s: %s", key, m)
			}
		}
	})
}

// TestMessageCharacters: what is shown in one order must be written in it, and one text has one form in bytes.
func TestMessageCharacters(t *testing.T) {
	t.Parallel()
	const nonJoiner = '\u200c' // joins nothing and turns nothing: Persian spelling needs it within words
	placeholder := regexp.MustCompile(`(.?)\{[a-z]+\}(.?)`)
	eachLocale(t, func(t *testing.T, l locale, text map[string]string) {
		for key, m := range text {
			require.True(t, norm.NFC.IsNormalString(m), key)
			require.NotContains(t, m, "  ", key)
			for _, r := range m {
				require.False(t, unicode.Is(unicode.Bidi_Control, r), "%s: %U", key, r)
				require.False(t, unicode.Is(unicode.Cf, r) && (r != nonJoiner || l.tag != "fa-IR"), "%s: %U", key, r)
				require.False(t, unicode.IsSpace(r) && r != ' ' && l.tag != "fr-FR", "%s: %U", key, r)
				require.False(t, unicode.Is(unicode.Nd, r) && r > '9', "%s: %U: params have Latin digits", key, r)
			}
			for _, around := range placeholder.FindAllStringSubmatch(m, -1) {
				for _, s := range around[1:] {
					r, _ := utf8.DecodeRuneInString(s)
					particle := l.tag == "ko-KR" && s == around[2]
					require.False(t, r == '{' || unicode.In(r, unicode.L, unicode.M, unicode.N) && !particle, "%s: %s", key, m)
				}
			}
		}
		if l.tag == "fr-FR" {
			for key, m := range text {
				require.NotRegexp(t, `[^\x{a0}]:(?: |$)|[^\x{202f}];`, m, key)
			}
		}
	})
}

func TestNegotiation(t *testing.T) {
	t.Parallel()
	answers := func(t *testing.T, tag, lang string) {
		t.Helper()
		i := slices.IndexFunc(locales, func(l locale) bool { return l.tag == tag })
		require.GreaterOrEqual(t, i, 0)
		require.Same(t, catalogueFor(tag), catalogueFor(lang), "%q is answered as %q", lang,
			catalogueFor(lang).text["code.unavailable"])
	}
	for _, l := range locales {
		base, _, _ := strings.Cut(l.tag, "-")
		require.Equal(t, l.tag == defaultLocale, catalogueFor(l.tag) == catalogues().list[0], l.tag)
		answers(t, l.tag, strings.ToUpper(l.tag)+";q=0.9, tlh;q=0.1")
		if l.tag != "zh-Hant" {
			answers(t, l.tag, base)
		}
	}
	for lang, tag := range map[string]string{
		"zh-TW": "zh-Hant", "zh-HK": "zh-Hant", "zh-MO": "zh-Hant", "zh-Hant-TW": "zh-Hant", "zh-CN": "zh-Hans",
		"pt-PT": "pt-BR", "ar-EG": "ar-TN", "es-MX": "es-ES", "fr-CA": "fr-FR", "de-AT, en;q=0.5": "de-DE",
		"nl-BE": "nl-NL", "en-GB": "en-US", "nb": "en-US", "tlh, nl;q=0.3": "nl-NL", "fa-AF": "fa-IR",
	} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			answers(t, tag, lang)
		})
	}
}

func TestColon(t *testing.T) {
	t.Parallel()
	short := violation(fieldSecret, codeTooShort, "min", "10")
	for lang, want := range map[string]string{
		"fr": "Clé\u00a0: valeur trop courte\u202f; longueur minimale\u00a0: 10",
		"ja": "キー：短すぎます。最小長：10", "zh-TW": "金鑰：過短；最小長度：10", "ko": "키: 너무 짧습니다. 최소 길이: 10",
		"fa": "کلید: بیش از حد کوتاه است؛ حداقل طول: 10", "ar": "المفتاح: أقصر من اللازم؛ الطول الأدنى: 10",
		"de": "Schlüssel: zu kurz; Mindestlänge: 10",
	} {
		require.Equal(t, want, Message(lang, short))
	}
}
