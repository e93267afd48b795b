package keycote

// issuedForm reports whether value is of issued form, whatever its checksum:
// ^[a-z][a-z0-9_]{0,30}[a-z0-9]_[0-9A-Za-z]{49}$. The prefix may hold underscores, so it is read from the right.
func issuedForm(value string) bool {
	cut := len(value) - tokenTail
	if cut < 3 || value[cut-1] != '_' || !prefixOK(value[:cut-1]) {
		return false
	}
	for i := cut; i < len(value); i++ {
		if c := value[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// tokenTail is the length of what follows prefix and underscore: 43 characters of payload, 6 of checksum.
const tokenTail = 49

// prefixOK reports whether p can be the prefix of issued keys: ^[a-z][a-z0-9_]{0,30}[a-z0-9]$.
func prefixOK(p string) bool {
	if len(p) < 2 || len(p) > 32 || p[0] < 'a' || p[0] > 'z' || p[len(p)-1] == '_' {
		return false
	}
	for i := 1; i < len(p); i++ {
		if c := p[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
