package keycote

import (
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
	"unicode/utf8"
)

// An issued key reads <prefix>_<payload><checksum>. The payload is a number of 32 bytes in base62: the id of the index
// key that made it, 20 random bytes, and an 8-byte tag. The checksum is a CRC-32 of all that stands before it, so that a
// secret scanner can tell a find from noise offline; the tag is cryptographic, so that this library can tell a key that
// was made here from any other text without asking the store.
const (
	payloadLen  = 43
	checksumLen = 6
	tokenTail   = payloadLen + checksumLen
	randomLen   = 20
	tagLen      = 8
	digestLen   = 24

	maxPrefix = 32
	maxToken  = maxPrefix + 1 + tokenTail
)

// issuedForm reports whether value is of issued form, whatever its checksum:
// ^[a-z][a-z0-9_]{0,30}[a-z0-9]_[0-9A-Za-z]{49}$. The prefix may hold underscores, so it is read from the right.
func issuedForm(value string) bool {
	cut := len(value) - tokenTail
	if cut < 3 || value[cut-1] != '_' || !prefixOK(value[:cut-1]) {
		return false
	}
	for i := cut; i < len(value); i++ {
		if base62Value[value[i]] == 0xff {
			return false
		}
	}
	return true
}

// prefixOK reports whether p can be the prefix of issued keys: ^[a-z][a-z0-9_]{0,30}[a-z0-9]$.
func prefixOK(p string) bool {
	if len(p) < 2 || len(p) > maxPrefix || p[0] < 'a' || p[0] > 'z' || p[len(p)-1] == '_' {
		return false
	}
	for i := 1; i < len(p); i++ {
		if c := p[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// issued is an issued key taken apart.
type issued struct {
	prefix string
	number [32]byte // index key id, random bytes, tag
}

func (t *issued) indexKey() uint32   { return binary.BigEndian.Uint32(t.number[:4]) }
func (t *issued) seed() []byte       { return t.number[:4+randomLen] } // index key id and random bytes
func (t *issued) tag() []byte        { return t.number[4+randomLen:] }
func (t *issued) proves(o *out) bool { return subtle.ConstantTimeCompare(t.tag(), o.tag()) == 1 }

// parseToken takes a value of issued form apart and holds its checksum against it. A value that fails here was never
// issued by anybody: it is mistyped or made up.
func parseToken(value string) (issued, bool) {
	if !issuedForm(value) {
		return issued{}, false
	}
	return takeApart(value)
}

// takeApart is parseToken for a value that is known to be of issued form.
func takeApart(value string) (issued, bool) {
	cut := len(value) - tokenTail
	var sum [checksumLen]byte
	appendChecksum(sum[:0], checksum(value[:len(value)-checksumLen]))
	if string(sum[:]) != value[len(value)-checksumLen:] {
		return issued{}, false
	}
	t := issued{prefix: value[:cut-1]}
	return t, parseBase62(&t.number, value[cut:cut+payloadLen])
}

// String writes the token as its holder presents it.
func (t *issued) String() string {
	b := make([]byte, 0, maxToken)
	b = append(b, t.prefix...)
	b = append(b, '_')
	b = appendBase62(b, &t.number)
	b = appendChecksum(b, checksum(string(b)))
	return string(b)
}

// checksumTables say what a byte does to a sum with none to three more behind it, so that four are taken at a time.
var checksumTables = func() (t [4][256]uint32) {
	t[0] = *crc32.IEEETable
	for n := 1; n < len(t); n++ {
		for i, sum := range t[n-1] {
			t[n][i] = crc32.IEEETable[byte(sum)] ^ sum>>8
		}
	}
	return t
}()

// checksum is crc32.ChecksumIEEE over a string, which that would have to copy.
func checksum(s string) uint32 {
	sum := ^uint32(0)
	for t := &checksumTables; len(s) >= 4; s = s[4:] {
		sum ^= uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		sum = t[3][byte(sum)] ^ t[2][byte(sum>>8)] ^ t[1][byte(sum>>16)] ^ t[0][sum>>24]
	}
	for i := range len(s) {
		sum = crc32.IEEETable[byte(sum)^s[i]] ^ sum>>8
	}
	return ^sum
}

// hintOf is what may be shown of a value. It always holds a character that is not ASCII, so that no hint can be taken
// for a value, by a person or by the validator.
func hintOf(value string, issuedPrefix string) string {
	const shown, least = 4, 20
	switch {
	case issuedPrefix != "":
		return issuedPrefix + "_…" + value[len(value)-shown:]
	case utf8.RuneCountInString(value) < least:
		return "••••"
	}
	start := len(value)
	for range shown {
		_, n := utf8.DecodeLastRuneInString(value[:start])
		start -= n
	}
	return "…" + value[start:]
}
