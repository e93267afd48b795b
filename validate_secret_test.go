package keycote

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccojocar/zxcvbn-go/adjacency"
	"github.com/stretchr/testify/require"
)

// good is a value that breaks no rule of either kind.
const good = "kX9#mQ2$vL7p"

func secretViolations(t *testing.T, v *Validator, kind Kind, value string) []Violation {
	t.Helper()
	d := &Draft{Kind: kind, Name: "n", Secret: NewSecret(value)}
	if kind == KindCredential {
		d.Endpoint = "https://api.example.com/"
	}
	vs, err := v.Validate(t.Context(), d)
	require.NoError(t, err)
	return vs
}

func TestSecretRules(t *testing.T) {
	t.Parallel()
	issued := "kc_" + strings.Repeat("0", 49)
	tests := []struct {
		name, value string
		credential  []Code
		access      []Code
	}{
		{"good", good, nil, nil},
		{"4 code points", "x#9Q", []Code{codeTooShort}, []Code{codeTooShort}},
		{"5 code points", "Zx9#k", nil, []Code{codeTooShort}},
		{"9 code points", "Zx9#kmQ2$", nil, []Code{codeTooShort}},
		{"10 code points", "Zx9#kmQ2$v", nil, nil},
		{"4,096 code points", strings.Repeat(good, 342)[:4096], nil, nil},
		{"4,097 code points", strings.Repeat(good, 342)[:4097], []Code{codeTooLong}, []Code{codeTooLong}},
		{"1 MiB", strings.Repeat("x", 1<<20), []Code{codeTooLong}, []Code{codeTooLong}},
		{"1 MiB of NUL", strings.Repeat("\x00", 1<<20), []Code{codeTooLong}, []Code{codeTooLong}},
		{"length is in code points", strings.Repeat("é", 4), []Code{codeTooShort, codeCharset}, []Code{codeTooShort, codeCharset}},
		{"not UTF-8", good + "\xff", []Code{codeEncoding}, []Code{codeEncoding}},
		{"NUL", good + "\x00", []Code{codeControl}, []Code{codeControl}},
		{"newline at the end", good + "\n", []Code{codeControl}, []Code{codeControl}},
		{"CRLF within", good + "\r\n" + good, []Code{codeControl}, []Code{codeControl}},
		{"DEL", good + "\x7f", []Code{codeControl}, []Code{codeControl}},
		{"a control character beyond ASCII", good + "\u0085x", []Code{codeControl}, []Code{codeControl}},
		{"right-to-left override", "\u202e" + good, []Code{codeControl}, []Code{codeControl}},
		{"blank before", " " + good, []Code{codeBlankEdge}, []Code{codeBlankEdge}},
		{"blanks after", good + "  ", []Code{codeBlankEdge}, []Code{codeBlankEdge}},
		{"no-break space after", good + "\u00a0", []Code{codeBlankEdge}, []Code{codeBlankEdge}},
		{"blank within", good + " x", []Code{codeCharset}, []Code{codeCharset}},
		{"not ASCII", good + "é", []Code{codeCharset}, []Code{codeCharset}},
		{"zero-width space", good + "\u200b", []Code{codeCharset}, []Code{codeCharset}},
		{"everything", " é\x00" + good, []Code{codeControl, codeBlankEdge, codeCharset}, []Code{codeControl, codeBlankEdge, codeCharset}},
		{"the short mask", "••••", []Code{codeTooShort, codeCharset}, []Code{codeTooShort, codeCharset}},
		{"a longer mask", "••••••••••", []Code{codeCharset}, []Code{codeCharset}},
		{"the hint of a long value", "…abcdefghi", []Code{codeCharset}, []Code{codeCharset}},
		{"the hint of an issued key", "kc_…abcdef", []Code{codeCharset}, []Code{codeCharset}},
		{"issued form", issued, []Code{ErrWeak}, []Code{codeReservedForm}},
		{"weak", "password12", []Code{ErrWeak}, []Code{ErrWeak}},
		{"weak and short", "password", []Code{ErrWeak}, []Code{codeTooShort}},
		{"placeholder braces", "{min}{max}#Q9", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for kind, want := range map[Kind][]Code{KindCredential: tt.credential, KindAccess: tt.access} {
				var got []Code
				for _, v := range secretViolations(t, NewValidator(nil), kind, tt.value) {
					require.Equal(t, fieldSecret, v.Field)
					require.Equal(t, v.Code == ErrWeak, v.Warning, "weak_secret is the only warning")
					require.NotContains(t, fmt.Sprintf("%v %+v %s", v, v, Message("en", v)), tt.value)
					got = append(got, v.Code)
				}
				require.Equal(t, want, got, kind)
			}
		})
	}
}

func TestSecretPresence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		draft Draft
		want  []Violation
	}{
		{"a new credential needs one", Draft{Kind: KindCredential}, []Violation{violation(fieldSecret, codeRequired)}},
		{"a kept credential has one", Draft{Kind: KindCredential, ID: "key_x"}, nil},
		{"an access key's is made", Draft{Kind: KindAccess}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.draft.Name = "n"
			if tt.draft.Kind == KindCredential {
				tt.draft.Endpoint = "https://api.example.com/"
			}
			got, err := NewValidator(nil).Validate(t.Context(), &tt.draft)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestSecretOptions(t *testing.T) {
	t.Parallel()
	short := func(min string) []Violation { return []Violation{violation(fieldSecret, codeTooShort, "min", min)} }
	weak := func(score, min string) []Violation {
		v := violation(fieldSecret, ErrWeak, "score", score, "min", min)
		v.Warning = true
		return []Violation{v}
	}
	tests := []struct {
		name  string
		opts  ValidatorOptions
		kind  Kind
		value string
		want  []Violation
	}{
		{"longer credentials", ValidatorOptions{MinLength: 13}, KindCredential, good, short("13")},
		{"of credentials only", ValidatorOptions{MinLength: 13}, KindAccess, good, nil},
		{"longer chosen values", ValidatorOptions{MinChosen: 13}, KindAccess, good, short("13")},
		{"of chosen values only", ValidatorOptions{MinChosen: 13}, KindCredential, good, nil},
		{"credentials never below 5", ValidatorOptions{MinLength: 1}, KindCredential, "x#9Q", short("5")},
		{"chosen values never below 5", ValidatorOptions{MinChosen: 1}, KindAccess, "x#9Q", short("5")},
		{"chosen values of 5", ValidatorOptions{MinChosen: 5}, KindAccess, "Zx9#k", nil},
		{"a negative minimum is the usual one", ValidatorOptions{MinLength: -1}, KindCredential, "x#9Q", short("5")},
		{"a negative chosen minimum is the usual one", ValidatorOptions{MinChosen: -1}, KindAccess, "Zx9#k", short("10")},
		{"no minimum beyond the maximum", ValidatorOptions{MinLength: 1 << 30}, KindCredential, good, short("4096")},
		{"usual strength", ValidatorOptions{}, KindCredential, "password12", weak("0", "2")},
		{"little strength", ValidatorOptions{MinStrength: 1}, KindCredential, "password12", weak("0", "1")},
		{"little strength is enough", ValidatorOptions{MinStrength: 1}, KindCredential, "sk-abc123", nil},
		{"most strength", ValidatorOptions{MinStrength: 4}, KindCredential, "Tr0ub4dour&3", weak("2", "4")},
		{"beyond the most", ValidatorOptions{MinStrength: 9}, KindCredential, "Tr0ub4dour&3", weak("2", "4")},
		{"a negative strength is the usual one", ValidatorOptions{MinStrength: -1}, KindCredential, "password12", weak("0", "2")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, secretViolations(t, NewValidator(&tt.opts), tt.kind, tt.value))
		})
	}
}

func TestStrengthWindows(t *testing.T) {
	t.Parallel()
	const strong = "kX9#mQ2$vL7pR4"
	require.Len(t, strong, strengthWindow)
	dull := strings.Repeat("a", strengthWindow)
	require.Equal(t, 4, strength(strong, 4))
	require.Equal(t, 0, strength(dull, 4))
	require.Equal(t, 4, strength(strong+dull, 4), "the first window")
	require.Equal(t, 4, strength(dull+strong, 4), "the last window")
	require.Equal(t, 4, strength("a"+strong, 4), "windows that overlap")
	require.Equal(t, 0, strength(dull+strong+dull, 4), "what lies between is not seen")
	require.Equal(t, 0, strength(strings.Repeat("a", 4096), 4))
	require.Equal(t, 0, strength("P@ssw0rd!", 4), "substitutions are seen through")
}

// TestLeetTable holds the copy of the estimator's table, and the bound that rests on it, against the original.
func TestLeetTable(t *testing.T) {
	t.Parallel()
	var theirs []string
	letters := map[string]int{}
	for _, chars := range adjacency.GraphMap["l33t"].Graph {
		theirs = append(theirs, strings.Join(chars, ""))
		for _, c := range chars {
			letters[c]++
		}
	}
	ours := slices.Clone(leetLetters[:])
	slices.Sort(ours)
	slices.Sort(theirs)
	require.Equal(t, theirs, ours)
	for c, n := range letters {
		want := 1
		if strings.Contains("1|7", c) {
			want = 2
		}
		require.Equal(t, want, n, c)
	}

	require.Equal(t, 1, leetReadings("correct horse"))
	require.Equal(t, 4, leetReadings("P@ssw0rd!1$"), "! or 1 for i, and 1 for i or l")
	require.Greater(t, leetReadings("@14$5+|[9(!{76"), maxLeetReadings)
}

// hostileValues are n values of 5 to 4,096 code points that make an estimator work: what repeats, what stands for words,
// what looks like dates and keyboard walks, what is random, and all of it mixed.
func hostileValues(n int) []string {
	rnd := rand.New(rand.NewPCG(1, 2))
	const leet, date = "4@8({[<3691!|70$5+%2", "0123456789/-._"
	walks := []string{"qwertyuiop", "asdfghjkl;", "zxcvbnm,./", "1qaz2wsx3edc", "!QAZ@WSX#EDC", "789456123", "aoeuidhtns"}
	words := []string{"password", "monkey", "dragon", "letmein", "correct", "horse", "jennifer", "smith", "1990", "12/12/1990"}
	letters := func(alphabet string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	var ascii strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		ascii.WriteByte(c)
	}
	pieces := []func() string{
		func() string { return strings.Repeat(letters(ascii.String(), 1), 1+rnd.IntN(14)) },
		func() string { return letters(leet, 14) },
		func() string { // no character twice: the most readings
			b := []byte(leet)
			rnd.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
			return string(b)
		},
		func() string { return letters(date, 14) },
		func() string { w := walks[rnd.IntN(len(walks))]; return w[:3+rnd.IntN(len(w)-2)] },
		func() string { return words[rnd.IntN(len(words))] },
		func() string { return letters(ascii.String(), 14) },
		func() string { return "aAaAaAaAaAaAaA" },
	}
	values := []string{"@14$5+|[9(!{76@14$5+|[9(!{76", "9{6+|51$7!4[(@", "14$5@<6![(9{7|", "76954|1(+$!@{["}
	for len(values) < n {
		length := 5 + rnd.IntN(60)
		if rnd.IntN(10) == 0 {
			length = 5 + rnd.IntN(4092)
		}
		kind := rnd.IntN(len(pieces) + 2)
		var b strings.Builder
		for b.Len() < length {
			if kind < len(pieces) {
				b.WriteString(pieces[kind]())
			} else {
				b.WriteString(pieces[rnd.IntN(len(pieces))]())
			}
		}
		values = append(values, b.String()[:length])
	}
	return values
}

// TestHostileValues holds the whole validation of each to 20 ms. It runs alone, and a value is tried again before it
// fails, because what is bounded is the work and not the machine.
func TestHostileValues(t *testing.T) {
	const bound = 20 * time.Millisecond * raceFactor
	v := NewValidator(&ValidatorOptions{MinStrength: 4}) // both windows are judged
	slowest, which := time.Duration(0), ""
	for _, value := range hostileValues(1000) {
		d := &Draft{Kind: KindAccess, Name: "n", Secret: NewSecret(value)}
		took := time.Hour
		for try := 0; try < 5 && took > bound; try++ {
			var err error
			took = min(took, onCPU(func() { _, err = v.Validate(t.Context(), d) }))
			require.NoError(t, err)
		}
		require.LessOrEqual(t, took, bound, "%q", value)
		if took > slowest {
			slowest, which = took, value
		}
	}
	t.Logf("slowest: %v for %.40q, of %d", slowest, which, len(which))
}

// TestStrengthIsConcurrent is for the race detector: the estimator keeps tables in package variables.
func TestStrengthIsConcurrent(t *testing.T) {
	t.Parallel()
	values := hostileValues(40)
	want := make([]int, len(values))
	for i, value := range values {
		want[i] = strength(value, 4)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, value := range values {
				if got := strength(value, 4); got != want[i] {
					t.Errorf("strength of %q: %d, and %d before", value, got, want[i])
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkStrength(b *testing.B) {
	for _, value := range []string{good, strings.Repeat(good, 4), "P@ssw0rd!", "9{6+|51$7!4[(@", "asdfgqweqwer!QAZ@WSX#789456zxcvbnm,.aoeu"} {
		b.Run(value[:min(len(value), 14)], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				strength(value, 4)
			}
		})
	}
}
