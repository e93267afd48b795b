package keycote_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// Whatever writes a Secret out writes "[redacted]". Taken in again that would be a key, and a short one that others know.

func TestSecretIsNeverDecoded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		into func(*keycote.Secret) error
	}{
		{"text", func(s *keycote.Secret) error { return s.UnmarshalText([]byte("[redacted]")) }},
		{"empty text", func(s *keycote.Secret) error { return s.UnmarshalText(nil) }},
		{"json string", func(s *keycote.Secret) error { return json.Unmarshal([]byte(`"[redacted]"`), s) }},
		{"json empty string", func(s *keycote.Secret) error { return json.Unmarshal([]byte(`""`), s) }},
		{"json null", func(s *keycote.Secret) error { return json.Unmarshal([]byte(`null`), s) }},
		{"json number", func(s *keycote.Secret) error { return json.Unmarshal([]byte(`12345678`), s) }},
		{"json object", func(s *keycote.Secret) error { return json.Unmarshal([]byte(`{"reveal":"x"}`), s) }},
		{"xml element", func(s *keycote.Secret) error { return xml.Unmarshal([]byte(`<Secret>[redacted]</Secret>`), s) }},
		{"xml attribute", func(s *keycote.Secret) error {
			var v struct {
				S *keycote.Secret `xml:"s,attr"`
			}
			v.S = s
			return xml.Unmarshal([]byte(`<v s="[redacted]"/>`), &v)
		}},
		{"gob", func(s *keycote.Secret) error {
			var buf bytes.Buffer
			if err := gob.NewEncoder(&buf).Encode("[redacted]"); err != nil {
				return nil
			}
			return gob.NewDecoder(&buf).Decode(s)
		}},
		{"fmt.Sscan", func(s *keycote.Secret) error { _, err := fmt.Sscan("[redacted]", s); return err }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, before := range []string{"", "kept as it is"} {
				s := keycote.NewSecret(before)
				require.Error(t, test.into(&s))
				require.Equal(t, before, s.Reveal())
			}
		})
	}
}

// TestStructsNeverDecodeASecret writes each type out and reads it back, by every codec that can.
func TestStructsNeverDecodeASecret(t *testing.T) {
	t.Parallel()
	codecs := []struct {
		name   string
		encode func(any) ([]byte, error)
		decode func([]byte, any) error
	}{
		{"json", json.Marshal, json.Unmarshal},
		{"xml", xml.Marshal, xml.Unmarshal},
		{"gob", func(v any) ([]byte, error) {
			var buf bytes.Buffer
			err := gob.NewEncoder(&buf).Encode(v)
			return buf.Bytes(), err
		}, func(text []byte, v any) error { return gob.NewDecoder(bytes.NewReader(text)).Decode(v) }},
	}
	read := 0
	for _, v := range printed {
		full, secrets := filled(v)
		if secrets == 0 {
			continue
		}
		for _, c := range codecs {
			text, err := c.encode(full)
			if err != nil {
				continue // xml knows no maps, gob no functions: nothing to read back
			}
			into := reflect.New(reflect.TypeOf(v))
			require.Error(t, c.decode(text, into.Interface()), "%T by %s", v, c.name)
			require.Empty(t, revealed(into.Elem()), "%T by %s", v, c.name)
			read++
		}
	}
	require.GreaterOrEqual(t, read, 5, "hardly anything was written")
}

// revealed returns the values of all Secrets in v's exported fields.
func revealed(v reflect.Value) (values []string) {
	if s, ok := v.Interface().(keycote.Secret); ok {
		if !s.IsZero() {
			values = append(values, s.Reveal())
		}
		return values
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				values = append(values, revealed(v.Field(i))...)
			}
		}
	}
	return values
}

func TestSecretText(t *testing.T) {
	t.Parallel()
	s := keycote.NewSecret(planted)
	require.Equal(t, planted, s.Reveal())
	require.False(t, s.IsZero())
	require.True(t, keycote.Secret{}.IsZero())
	require.True(t, keycote.NewSecret("").IsZero())
	require.Empty(t, keycote.Secret{}.Reveal())
	require.Equal(t, " x ", keycote.NewSecret(" x ").Reveal(), "nothing is trimmed")

	// The zero Secret prints alike, so that a log does not say whether there is one.
	for _, s := range []keycote.Secret{s, {}} {
		require.Equal(t, "[redacted]", fmt.Sprint(s))
		require.Equal(t, "[redacted]", fmt.Sprintf("%x", s))
		text, err := json.Marshal(map[string]any{"s": s})
		require.NoError(t, err)
		require.JSONEq(t, `{"s":"[redacted]"}`, string(text))
	}
}

// panicVar names the way in which a copy of this test binary is to die.
const panicVar = "KEYCOTE_TEST_PANIC"

var panics = map[string]func(){
	"value":   func() { panic(keycote.NewSecret(planted)) },
	"pointer": func() { s := keycote.NewSecret(planted); panic(&s) },
	"params":  func() { panic(keycote.AddParams{Name: "x", Secret: keycote.NewSecret(planted)}) },
	"error":   func() { panic(fmt.Errorf("x: %v", keycote.NewSecret(planted))) },
	"text":    func() { panic(fmt.Sprintf("%+v", keycote.RotateParams{Secret: keycote.NewSecret(planted)})) },
	"control": func() { panic(planted) },
}

// TestPanicsPrintNoSecret lets the runtime print: a copy of the test binary dies of each panic.
func TestPanicsPrintNoSecret(t *testing.T) {
	if name := os.Getenv(panicVar); name != "" {
		panics[name]()
	}
	t.Parallel()
	search := newSearch([]byte(canaryCore))
	for name := range panics {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPanicsPrintNoSecret$")
			cmd.Env = append(os.Environ(), panicVar+"="+name, "GOTRACEBACK=all")
			out, err := cmd.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "panic: ")
			if name == "control" {
				require.NotEmpty(t, search.in(string(out)), "the search sees what a panic prints")
				return
			}
			require.Empty(t, search.in(string(out)))
		})
	}
}
