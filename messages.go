package keycote

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/text/language"
)

// Message says err in words for a person: a Violation, a Code, or an error that holds one. lang is a BCP 47 tag or the
// value of an Accept-Language header, of which the first 16 entries count; English when nothing fits.
//
// A Violation begins with the name of its field, and with its place in a list, counted from 1. A [*ValidationError] is
// all of its violations, one on each line. A code that the catalogue does not know is said by the Violation's Text. Any
// other error, one that holds no code included, gives a general sentence: what err.Error() says is for logs, and is never
// part of a message. A nil err gives "".
func Message(lang string, err error) string {
	if err == nil {
		return ""
	}
	c := catalogueFor(lang)
	var all *ValidationError
	if errors.As(err, &all) && all != nil && len(all.Violations) > 0 {
		lines := make([]string, len(all.Violations))
		for i, v := range all.Violations {
			lines[i] = c.violation(v)
		}
		return strings.Join(lines, "\n")
	}
	var v Violation
	if errors.As(err, &v) {
		return c.violation(v)
	}
	return c.sentence(CodeOf(err))
}

// Language returns the BCP 47 tag of the language in which [Message] answers lang: what Content-Language says of it.
// Who has several messages for one reader asks once, and hands Message the tag.
func Language(lang string) string { return catalogueFor(lang).locale }

// unknownCode is the catalogue's entry for all that has no message of its own. It is no Code of this module.
const unknownCode Code = "unknown"

// catalogue is one file of messages/: one flat JSON object with keys "code.<code>" and "field.<field>", and for a
// diagnosis "area.", "check.", "status.", "finding." and "advice.", and "state.", "action." and "reason." for what
// stands in their placeholders. A message holds placeholders such as {min}, named like the Params of its code.
type catalogue struct {
	locale string
	text   map[string]string
	colon  string // between a field's name and what is wrong with it
}

func (c *catalogue) sentence(code Code) string {
	if m, ok := c.text["code."+string(code)]; ok {
		return fill(m, nil)
	}
	return c.text["code."+string(unknownCode)]
}

func (c *catalogue) violation(v Violation) string {
	m, ok := c.text["code."+string(v.Code)]
	switch {
	case ok && v.Code != unknownCode:
		m = fill(m, v.Params)
	case v.Text != "":
		m = v.Text
	default:
		m = c.text["code."+string(ErrInvalid)]
	}
	if v.Field == "" {
		return m
	}
	return c.field(v) + c.colon + m
}

// field names the field of v; a host's own is named as the host does.
func (c *catalogue) field(v Violation) string {
	name, ok := c.text["field."+v.Field+"."+v.Params["part"]]
	if !ok {
		name, ok = c.text["field."+v.Field]
	}
	if !ok {
		name = v.Field
	}
	if i := listIndex(v); i >= 0 {
		name += " #" + strconv.Itoa(i+1)
	}
	return name
}

// fill puts params into the placeholders of template, in one pass: what a param holds is never taken for a placeholder.
// One that is missing leaves an ellipsis.
func fill(template string, params map[string]string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(template, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, ok := strings.Cut(rest, "}")
		switch value, known := params[name]; {
		case !ok || !placeholderOK(name): // a brace like any other
			b.WriteByte('{')
			template = rest
			continue
		case known:
			b.WriteString(value)
		default:
			b.WriteString("…")
		}
		template = after
	}
}

// placeholderOK reports whether name is letters alone, as the names of Params are.
func placeholderOK(name string) bool {
	for i := range len(name) {
		if c := name[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return name != ""
}

//go:embed messages/*.json
var messageFiles embed.FS

const defaultLocale = "en-US"

// catalogues reads the files at the first message, so that a program that never asks for one pays nothing.
var catalogues = sync.OnceValue(func() (all struct {
	list    []*catalogue
	named   map[string]*catalogue
	matcher language.Matcher
}) {
	names := []string{"messages/" + defaultLocale + ".json"} // first, because that is what the matcher falls back on
	files, err := fs.Glob(messageFiles, "messages/*.json")
	for _, f := range files {
		if f != names[0] {
			names = append(names, f)
		}
	}
	all.named = map[string]*catalogue{}
	var tags []language.Tag
	for _, name := range names {
		c := &catalogue{locale: localeOf(name)}
		data, readErr := messageFiles.ReadFile(name)
		err = errors.Join(err, readErr, json.Unmarshal(data, &c.text))
		tag, tagErr := language.Parse(localeOf(name))
		err = errors.Join(err, tagErr)
		c.colon = colonOf(tag)
		all.list, tags = append(all.list, c), append(tags, tag)
		all.named[c.locale] = c
	}
	if err != nil {
		//house:allow panic the catalogues are compiled in, and a test reads every one of them
		panic(fmt.Sprintf("keycote: a message catalogue was built in that cannot be read: %v", err))
	}
	all.matcher = language.NewMatcher(tags)
	return all
})

func localeOf(file string) string {
	return strings.TrimSuffix(strings.TrimPrefix(file, "messages/"), ".json")
}

// colonOf is the punctuation between a name and what is said of it.
func colonOf(tag language.Tag) string {
	switch base, _ := tag.Base(); base.String() {
	case "zh", "ja":
		return "："
	case "fr":
		return "\u00a0: " // no line begins with a colon
	}
	return ": "
}

// What is looked at of an Accept-Language header: anybody may send one, and matching costs by the entry. Browsers send
// less than a hundred bytes, and as many entries as their user reads languages.
const (
	maxLanguages     = 16
	maxLanguageBytes = 512
)

// catalogueFor returns the catalogue that lang asks for. The tag of a catalogue, such as Language returns, is looked up
// at once.
func catalogueFor(lang string) *catalogue {
	all := catalogues()
	if lang == "" {
		return all.list[0]
	}
	if c := all.named[lang]; c != nil {
		return c
	}
	_, i, confidence := all.matcher.Match(languagesIn(lang)...)
	if confidence == language.No {
		return all.list[0]
	}
	return all.list[i]
}

// languagesIn returns the tags of an Accept-Language header, the most wanted first. An entry that is malformed, or names
// a language or a variant that is not registered, says nothing of the others; one that the bound cuts is left out.
func languagesIn(list string) []language.Tag {
	if len(list) > maxLanguageBytes {
		list = list[:strings.LastIndexByte(list[:maxLanguageBytes+1], ',')+1]
	}
	type wanted struct {
		tag    language.Tag
		weight float32
	}
	var found []wanted
	for n, more := 0, true; more && n < maxLanguages; n++ {
		var entry string
		entry, list, more = strings.Cut(list, ",")
		if tags, weights, err := language.ParseAcceptLanguage(entry); err == nil && len(tags) == 1 {
			found = append(found, wanted{tags[0], weights[0]})
		}
	}
	slices.SortStableFunc(found, func(a, b wanted) int { return cmp.Compare(b.weight, a.weight) })
	tags := make([]language.Tag, len(found))
	for i := range found {
		tags[i] = found[i].tag
	}
	return tags
}
