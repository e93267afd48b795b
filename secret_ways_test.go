package keycote_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	htmltemplate "html/template"
	"iter"
	"log"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	texttemplate "text/template"

	"github.com/stretchr/testify/assert"
)

// search finds a secret in what was printed, in any encoding that printing is known to produce. Eight bytes of it in a
// row are enough: a hex dump breaks a value wherever its line ends.
type search struct {
	plain   []string // as they stand
	hex     []string // once all separators are gone, in lower case
	decimal []string // once every separator is one blank
}

const enough = 8

func newSearch(core []byte) (s search) {
	for i := range len(core) - enough + 1 {
		piece := core[i : i+enough]
		reversed := bytes.Clone(piece)
		slices.Reverse(reversed)
		s.plain = append(s.plain, string(piece), string(reversed))
		s.hex = append(s.hex, hex.EncodeToString(piece))
		s.decimal = append(s.decimal, strings.Trim(fmt.Sprint(piece), "[]"))
	}
	for offset := range 3 {
		// Of base64 only the characters between the neighbours' bits are the same wherever the secret stands.
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(append(make([]byte, offset), core...))
			s.plain = append(s.plain, text[(offset*8+5)/6:len(core)*8/6])
		}
	}
	return s
}

var (
	noHexMarks = strings.NewReplacer("0x", "", `\x`, "", "u+00", "", " ", "", ",", "", "\n", "", "\t", "", "(uint8)", "")
	noMarks    = strings.NewReplacer(",", " ", "\n", " ", "[", " ", "]", " ")
)

// in returns the pieces of the secret that text holds.
func (s search) in(text string) []string { return s.within(spread(text)) }

// spread prepares text for any number of searches: as it is, without separators, and with blanks alone.
func spread(text string) [3]string {
	return [3]string{
		text, noHexMarks.Replace(strings.ToLower(text)), strings.Join(strings.Fields(noMarks.Replace(text)), " "),
	}
}

func (s search) within(texts [3]string) (found []string) {
	for i, pieces := range [][]string{s.plain, s.hex, s.decimal} {
		for _, p := range pieces {
			if strings.Contains(texts[i], p) {
				found = append(found, p)
			}
		}
	}
	return found
}

// carriers puts v where a program might have it: fmt and the test libraries reach into fields that no method guards.
func carriers(v any) map[string]any {
	pointer := reflect.New(reflect.TypeOf(v))
	pointer.Elem().Set(reflect.ValueOf(v))
	slice := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(v)), 0, 1)
	named := reflect.MakeMap(reflect.MapOf(reflect.TypeFor[string](), reflect.TypeOf(v)))
	named.SetMapIndex(reflect.ValueOf("k"), reflect.ValueOf(v))
	return map[string]any{
		"value":                          v,
		"pointer":                        pointer.Interface(),
		"exported field":                 struct{ V any }{v},
		"unexported field":               struct{ v any }{v},
		"pointer in an unexported field": struct{ v any }{pointer.Interface()},
		"deep in unexported fields":      struct{ a struct{ b []any } }{struct{ b []any }{[]any{v}}},
		"pointer to a struct":            &struct{ v any }{v},
		"slice of any":                   []any{v},
		"slice":                          reflect.Append(slice, reflect.ValueOf(v)).Interface(),
		"array":                          [1]any{v},
		"map of any":                     map[string]any{"k": v},
		"map":                            named.Interface(),
		"error":                          fmt.Errorf("wrapped: %v", v),
		"error in a struct":              struct{ err error }{fmt.Errorf("wrapped: %v", v)},
	}
}

// ways yields the ways of printing, by name.
func ways() iter.Seq2[string, func(any) string] { return waysWith(formats) }

func waysWith(formats []string) iter.Seq2[string, func(any) string] {
	return func(yield func(string, func(any) string) bool) {
		for _, format := range formats {
			if !yield("fmt "+format, func(v any) string { return fmt.Sprintf(format, v) }) {
				return
			}
		}
		for _, w := range others {
			if !yield(w.name, w.print) {
				return
			}
		}
	}
}

// formats is every verb with every flag that fmt knows, and widths.
var formats = func() (all []string) {
	for _, flags := range []string{"", "+", "-", "#", " ", "0", "+#", "# ", "#+ -0", "40", "-40", ".3", "40.3", "#40"} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
			all = append(all, "%"+flags+string(verb))
		}
	}
	return append(all, "%!", "%z", "%[2]v", "%[1]*[1]v")
}()

var others = []struct {
	name  string
	print func(any) string
}{
	{"fmt.Sprint", func(v any) string { return fmt.Sprint(v) }},
	{"fmt.Sprintln", func(v any) string { return fmt.Sprintln("x", v, v) }},
	{"fmt.Errorf", func(v any) string {
		err := fmt.Errorf("x: %w, %v", toError(v), v)
		return fmt.Sprintf("%v %+v %#v %q", err, err, err, errors.Join(err, err))
	}},
	{"slog text", func(v any) string { return logged(v, false) }},
	{"slog JSON", func(v any) string { return logged(v, true) }},
	{"log", func(v any) string {
		var buf bytes.Buffer
		l := log.New(&buf, "", 0)
		l.Print(v)
		l.Printf("%v %+v", v, v)
		return buf.String()
	}},
	{"json", func(v any) string {
		text, err := json.Marshal(v)
		indented, err2 := json.MarshalIndent(v, "", " ")
		return fmt.Sprint(string(text), err, string(indented), err2)
	}},
	{"xml", func(v any) string {
		text, err := xml.Marshal(v)
		attr, err2 := xml.Marshal(struct {
			V any `xml:"v,attr"`
			C any `xml:",chardata"`
		}{v, v})
		return fmt.Sprint(string(text), err, string(attr), err2)
	}},
	{"gob", func(v any) string {
		var buf bytes.Buffer
		err := gob.NewEncoder(&buf).Encode(v)
		return fmt.Sprint(buf.String(), err)
	}},
	{"text/template", func(v any) string {
		var buf bytes.Buffer
		err := texttemplate.Must(texttemplate.New("").Parse(
			`{{.}} {{printf "%s %q %x %#v" . . . .}} {{html .}} {{js .}} {{urlquery .}} {{print .}}`)).Execute(&buf, v)
		return fmt.Sprint(buf.String(), err)
	}},
	{"html/template", func(v any) string {
		var buf bytes.Buffer
		err := htmltemplate.Must(htmltemplate.New("").Parse(
			`<a href="/?q={{.}}" title="{{.}}" onclick="f({{.}})">{{.}}</a><script>var x = {{.}};</script>`)).Execute(&buf, v)
		return fmt.Sprint(buf.String(), err)
	}},
	{"tabwriter", func(v any) string {
		var buf bytes.Buffer
		w := tabwriter.NewWriter(&buf, 0, 8, 1, ' ', tabwriter.Debug)
		_, _ = fmt.Fprintf(w, "a\t%v\t%+v\n", v, v)
		_ = w.Flush()
		return buf.String()
	}},
	{"expvar", func(v any) string { return expvar.Func(func() any { return v }).String() }},
	{"database/sql", func(v any) string {
		value, err := driver.DefaultParameterConverter.ConvertValue(v)
		return fmt.Sprint(value, err)
	}},
	{"reflect", func(v any) string { return reflect.ValueOf(v).String() + fmt.Sprint(reflect.ValueOf(v)) }},
	{"testify", testified},
}

func toError(v any) error {
	if err, ok := v.(error); ok {
		return err
	}
	return fmt.Errorf("%v", v)
}

// logged writes v in every position that slog has.
func logged(v any, asJSON bool) string {
	var buf bytes.Buffer
	opts := &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug}
	var h slog.Handler = slog.NewTextHandler(&buf, opts)
	if asJSON {
		h = slog.NewJSONHandler(&buf, opts)
	}
	l := slog.New(h)
	l.Info("any", "k", v)
	l.Info("attr", slog.Any("k", v), slog.Group("g", slog.Any("k", v), slog.Group("h", "k", v)))
	l.With("k", v).WithGroup("g").With("k", []any{v}).ErrorContext(context.Background(), "with", "k", map[string]any{"k": v})
	l.Info("value", slog.Attr{Key: "k", Value: slog.AnyValue(v)}, slog.Any("attrs", []slog.Attr{slog.Any("k", v)}))
	return buf.String()
}

// recorder is a testing.T that keeps what it is told.
type recorder struct{ strings.Builder }

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(r, format, args...) }

// testified returns what testify's assertions say when they fail on v: they print by a library that reaches into
// unexported fields and follows pointers.
func testified(v any) string {
	var r recorder
	other := reflect.New(reflect.TypeOf(v)).Elem().Interface()
	assert.Equal(&r, other, v)
	assert.Equal(&r, v, "another type")
	assert.EqualValues(&r, v, 1)
	assert.Exactly(&r, v, 1)
	assert.NotEqual(&r, v, v)
	assert.Nil(&r, v)
	assert.Empty(&r, v)
	assert.Zero(&r, v)
	assert.Contains(&r, []any{v}, "x")
	assert.ElementsMatch(&r, []any{v}, []any{"x"})
	assert.Subset(&r, []any{v}, []any{"x"})
	assert.Len(&r, v, 99)
	assert.IsType(&r, 1, v)
	assert.Error(&r, nil, v)
	assert.NoError(&r, fmt.Errorf("%v", v))
	assert.ErrorIs(&r, toError(v), errors.New("x"))
	assert.Fail(&r, "x", "%v %+v", v, v)
	return r.String()
}
