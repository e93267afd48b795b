package keyhttp

import (
	"net/netip"
	"strings"
)

// cutLastQuoted cuts the last element off the value of a Forwarded header, whose quoted strings may hold commas. It
// reads from the right: whatever a client has sent, an open quotation mark included, the element that a proxy put
// behind it comes out as the proxy wrote it. Outside of quotes there are no escapes, so the first quotation mark from
// the right closes a string; the one that opens it has no backslash before it, and those inside it have an odd number.
func cutLastQuoted(list string) (before, element string, found bool) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == '"' && (!quoted || backslashes(list[:i])%2 == 0):
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return list[:i], list[i+1:], true
		}
	}
	return list, "", false
}

// backslashes counts those at the end of s.
func backslashes(s string) int { return len(s) - len(strings.TrimRight(s, `\`)) }

// parseForwarded returns the address in the "for" parameter of one element, which must be there once.
func parseForwarded(element string) (netip.Addr, bool) {
	node, found := "", false
	for rest := element; rest != ""; {
		name, value, tail, ok := cutPair(rest)
		if !ok {
			return netip.Addr{}, false
		}
		if strings.EqualFold(name, "for") {
			if found {
				return netip.Addr{}, false
			}
			node, found = value, true
		}
		rest = tail
	}
	if !found {
		return netip.Addr{}, false
	}
	return parseNode(node)
}

// cutPair cuts the first name=value off an element; between two semicolons there may be nothing. The value is what
// stands between its quotation marks, with its escapes: no address needs any.
func cutPair(s string) (name, value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if tail, empty := strings.CutPrefix(s, ";"); empty || s == "" {
		return "", "", tail, true
	}
	name, s, ok = strings.Cut(s, "=")
	if !ok || !isToken(name) {
		return "", "", "", false
	}
	if inner, quoted := strings.CutPrefix(s, `"`); quoted {
		end := closing(inner)
		if end < 0 {
			return "", "", "", false
		}
		value, s = inner[:end], strings.TrimLeft(inner[end+1:], " \t")
		if s != "" && s[0] != ';' {
			return "", "", "", false
		}
		return name, value, strings.TrimPrefix(s, ";"), true
	}
	value, rest, _ = strings.Cut(s, ";")
	value = strings.TrimRight(value, " \t")
	return name, value, rest, strings.IndexByte(value, '"') < 0
}

// closing returns the place of the quotation mark that ends a string, or -1.
func closing(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}
