package keycote

import (
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// textFault is what is wrong with a text as such, whatever it is for.
type textFault uint8

const (
	textEncoding textFault = 1 << iota // not UTF-8; nothing else is looked at
	textControl
	textBlankEdge
)

// textFaults judges s. A line feed at an edge is a control character only.
func textFaults(s string) (f textFault) {
	i := 0
	for i < len(s) && s[i] >= ' ' && s[i] <= '~' { // most text is no more than this
		i++
	}
	for j, r := range s[i:] {
		switch {
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i+j:]); size == 1 {
				return textEncoding
			}
		case isControl(r):
			f |= textControl
		}
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	if isBlank(first) || isBlank(last) {
		f |= textBlankEdge
	}
	return f
}

// first returns the code that is reported first, or "".
func (f textFault) first() Code {
	switch {
	case f&textEncoding != 0:
		return codeEncoding
	case f&textControl != 0:
		return codeControl
	case f&textBlankEdge != 0:
		return codeBlankEdge
	}
	return ""
}

// isControl reports whether r is of category Cc, ends a line, or turns the direction of what follows: text with such a
// character does not say what it shows.
func isControl(r rune) bool {
	if r < 0x2028 {
		return r < ' ' || r >= 0x7f && r < 0xa0
	}
	return r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// isBlank reports whether r is white space that is not a control character already.
func isBlank(r rune) bool { return r == ' ' || r >= 0xa0 && unicode.IsSpace(r) && !isControl(r) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isVisibleASCII reports whether s is made of 0x21 to 0x7e alone, so that it has no fault as a text either.
func isVisibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// checkText judges s for field; params are added to every violation. A text that must be too long whatever it holds is
// not read: its other faults do not matter, and a megabyte costs nothing.
func checkText(vs []Violation, field, s string, most int, params ...string) []Violation {
	if len(s) > most*utf8.UTFMax {
		return append(vs, tooLong(field, most, params))
	}
	faults := textFaults(s)
	if faults&textEncoding != 0 {
		return append(vs, violation(field, codeEncoding, params...))
	}
	if len(s) > most && utf8.RuneCountInString(s) > most {
		vs = append(vs, tooLong(field, most, params))
	}
	if faults&textControl != 0 {
		vs = append(vs, violation(field, codeControl, params...))
	}
	if faults&textBlankEdge != 0 {
		vs = append(vs, violation(field, codeBlankEdge, params...))
	}
	return vs
}

func tooLong(field string, most int, params []string) Violation {
	return violation(field, codeTooLong, append(slices.Clip(params), "max", strconv.Itoa(most))...)
}

// maxTenant is the most bytes of a tenant's name.
const maxTenant = 255

// tenantOK reports whether name can name a tenant: 1 to 255 bytes of UTF-8, no control characters, no blank edges.
func tenantOK(name string) bool {
	return name != "" && len(name) <= maxTenant && textFaults(name) == 0
}

const (
	maxLabels   = 64
	maxLabelKey = 63 // bytes
)

// checkLabels judges labels. Params["index"] is the label's place in the byte order of the keys, because a map has none
// and a violation shows no part of what was given.
func checkLabels(vs []Violation, labels map[string]string) []Violation {
	switch {
	case len(labels) == 0:
		return vs
	case len(labels) > maxLabels:
		return append(vs, violation(fieldLabels, codeTooMany, "max", strconv.Itoa(maxLabels)))
	}
	keys := make([]string, 0, maxLabels)
	for key := range labels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for i, key := range keys {
		index := strconv.Itoa(i)
		switch {
		case len(key) > maxLabelKey:
			vs = append(vs, violation(fieldLabels, codeTooLong, "index", index, "max", strconv.Itoa(maxLabelKey)))
		case !labelKeyOK(key):
			vs = append(vs, violation(fieldLabels, codeSyntax, "index", index))
		}
		vs = checkText(vs, fieldLabels, labels[key], maxText, "index", index)
	}
	return vs
}

// labelKeyOK reports whether key is one or more of [a-z0-9._/-].
func labelKeyOK(key string) bool {
	for i := range len(key) {
		if c := key[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '/' && c != '-' {
			return false
		}
	}
	return key != ""
}
