package keycote

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"github.com/ccojocar/zxcvbn-go/match"
	"github.com/ccojocar/zxcvbn-go/matching"
)

const (
	maxSecret        = 4096 // code points
	leastSecret      = 5    // code points
	defaultMinChosen = 10
	defaultStrength  = 2
	mostStrength     = 4
)

// checkSecret judges the value by the rules for its kind. Its violations never show a part of it.
func (v *Validator) checkSecret(vs []Violation, d *Draft) []Violation {
	if d.Secret.IsZero() {
		if d.Kind == KindCredential && d.ID == "" {
			vs = append(vs, violation(fieldSecret, codeRequired))
		}
		return vs
	}
	value := d.Secret.Reveal()
	least := bounded(v.opts.MinLength, leastSecret, leastSecret, maxSecret)
	if d.Kind == KindAccess {
		least = bounded(v.opts.MinChosen, defaultMinChosen, leastSecret, maxSecret)
	}
	before := len(vs)
	vs = checkSecretText(vs, value, least)
	if d.Kind == KindAccess && issuedForm(value) {
		vs = append(vs, violation(fieldSecret, codeReservedForm))
	}
	if len(vs) > before || v.skipStrength { // a value that is refused anyway has no strength
		return vs
	}
	floor := bounded(v.opts.MinStrength, defaultStrength, 1, mostStrength)
	if score := strength(value, floor); score < floor {
		weak := violation(fieldSecret, ErrWeak, "score", strconv.Itoa(score), "min", strconv.Itoa(floor))
		weak.Warning = true
		vs = append(vs, weak)
	}
	return vs
}

// checkSecretText judges length and characters. Nothing but visible ASCII travels through every header, shell and form
// unchanged; it also keeps out every mask and hint, so that what a page shows is never taken in as a value. A character
// is reported once: as control, as a blank edge, or else as outside the set.
func checkSecretText(vs []Violation, value string, least int) []Violation {
	if len(value) > maxSecret*utf8.UTFMax {
		return append(vs, tooLong(fieldSecret, maxSecret, nil))
	}
	plain := isVisibleASCII(value)
	faults := textFault(0)
	if !plain {
		faults = textFaults(value)
	}
	if faults&textEncoding != 0 {
		return append(vs, violation(fieldSecret, codeEncoding))
	}
	switch n := utf8.RuneCountInString(value); {
	case n < least:
		vs = append(vs, violation(fieldSecret, codeTooShort, "min", strconv.Itoa(least)))
	case n > maxSecret:
		vs = append(vs, tooLong(fieldSecret, maxSecret, nil))
	}
	if faults&textControl != 0 {
		vs = append(vs, violation(fieldSecret, codeControl))
	}
	if faults&textBlankEdge != 0 {
		vs = append(vs, violation(fieldSecret, codeBlankEdge))
	}
	foreign := func(r rune) bool { return (r <= ' ' || r > '~') && !isControl(r) }
	if !plain && strings.ContainsFunc(strings.TrimFunc(value, isBlank), foreign) {
		vs = append(vs, violation(fieldSecret, codeCharset))
	}
	return vs
}

// strengthWindow is how much of a value the estimator sees at once: its time grows faster than the square of the length
// (1 s on 64 hostile code points, 8 s on 512).
const strengthWindow = 14

// strength estimates value, which is visible ASCII, from 0 to 4. Of a longer value than the window its first and its last
// part are judged and the better estimate counts: whoever guesses it has to guess both. The last is not looked at when
// the first is enough already.
func strength(value string, enough int) int {
	if len(value) <= strengthWindow {
		return estimate(value)
	}
	score := estimate(value[:strengthWindow])
	if score < enough {
		score = max(score, estimate(value[len(value)-strengthWindow:]))
	}
	return score
}

func estimate(window string) int {
	if leetReadings(window) > maxLeetReadings {
		return zxcvbn.PasswordStrength(window, nil, matching.FilterL33tMatcher).Score
	}
	return zxcvbn.PasswordStrength(window, nil, noFilter).Score
}

func noFilter(match.Matcher) bool { return false }

// maxLeetReadings bounds the one matcher whose time explodes within the window too: it looks every combination of
// substitutions up in all dictionaries, and "@14$5+|[9(!{76" has 768 of them, 24 ms of a core. Common passwords with
// substitutions have fewer than 20; text that stands for words in a hundred ways is not a disguised word.
const maxLeetReadings = 100

// leetLetters are the characters that the estimator reads as a letter each, its table L33t.json letter by letter.
var leetLetters = [...]string{"4@", "8", "({[<", "3", "69", "1!|", "1|7", "0", "$5", "+7", "%", "2"}

// leetReadings is an upper bound on the combinations that the estimator tries: for each letter one of the characters
// that stand for it, and one of two letters for each character that stands for both.
func leetReadings(s string) int {
	n := 1
	for _, chars := range leetLetters {
		present := 0
		for i := range len(chars) {
			if strings.IndexByte(s, chars[i]) >= 0 {
				present++
			}
		}
		n *= max(present, 1)
	}
	for _, c := range []byte("1|7") {
		if strings.IndexByte(s, c) >= 0 {
			n *= 2
		}
	}
	return n
}
