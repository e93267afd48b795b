package keycote

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"
)

// Bodies (of records, events and keyring items) are one byte of format and then fields in rising order of their number:
// uvarint(number<<1 | may-be-ignored), uvarint(length), bytes. Zero values are left out, a list repeats its field. The
// numbers stand in docs/formats.md and are never used again.
const bodyFormat = 0x01

var (
	// errMalformed is a body that this format cannot have produced.
	errMalformed = errors.New("the body is malformed")
	// errNewer is a body that holds what this version must not pass over.
	errNewer = errors.New("made by a newer Keycote")
)

type encoder []byte

func (e *encoder) head(number, length int) {
	*e = binary.AppendUvarint(*e, uint64(number)<<1)
	*e = binary.AppendUvarint(*e, uint64(length))
}

// always writes the field even when s is empty: an entry of a list.
func (e *encoder) always(number int, s string) {
	e.head(number, len(s))
	*e = append(*e, s...)
}

func (e *encoder) text(number int, s string) {
	if s != "" {
		e.always(number, s)
	}
}

func (e *encoder) bytes(number int, b []byte) {
	if len(b) > 0 {
		e.head(number, len(b))
		*e = append(*e, b...)
	}
}

func (e *encoder) integer(number int, n int64) {
	if n != 0 {
		e.fixed(number, n)
	}
}

func (e *encoder) fixed(number int, n int64) {
	e.head(number, 8)
	*e = binary.BigEndian.AppendUint64(*e, uint64(n))
}

func (e *encoder) flag(number int, b bool) {
	if b {
		e.fixed(number, 1)
	}
}

// time writes microseconds since 1970 UTC. The zero Time is left out; 1970 itself is not.
func (e *encoder) time(number int, t time.Time) {
	if !t.IsZero() {
		e.fixed(number, t.UnixMicro())
	}
}

func (e *encoder) labels(number int, m map[string]string) {
	if len(m) == 0 {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e.head(number, 8+len(k)+len(m[k]))
		*e = appendL(appendL(*e, k), m[k])
	}
}

// nested writes a body without its first byte.
func (e *encoder) nested(number int, write func(*encoder)) {
	start := len(*e)
	write(e)
	var head encoder = make([]byte, 0, 2*binary.MaxVarintLen64)
	head.head(number, len(*e)-start)
	*e = slices.Insert(*e, start, head...)
}

// unknown writes back the fields that an older reader kept. Their numbers are above all that it knows.
func (e *encoder) unknown(fields []rawField) {
	for _, f := range fields {
		*e = binary.AppendUvarint(*e, uint64(f.number)<<1|1)
		*e = binary.AppendUvarint(*e, uint64(len(f.data)))
		*e = append(*e, f.data...)
	}
}

// appendL appends L(s): four bytes big-endian length, then s.
func appendL[T string | []byte](dst []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

type rawField struct {
	number int
	data   string
}

// decoder reads the fields of one body. It works on a string so that what it hands out needs no further copies.
type decoder struct {
	body    string
	pos     int
	top     int // the highest number this version knows
	last    int // number of the field before
	number  int // of the current field
	again   bool
	data    string
	label   string // key of the label before
	err     error
	unknown []rawField
}

// openBody checks the format byte and returns a decoder for the rest.
func openBody(body string, top int) decoder {
	switch {
	case body == "":
		return decoder{err: errMalformed}
	case body[0] != bodyFormat:
		return decoder{err: errNewer}
	}
	return decoder{body: body, pos: 1, top: top}
}

// next steps to the next known field and reports whether there is one. Unknown fields that may be ignored are set
// aside; any other is an error.
func (d *decoder) next() bool {
	for d.err == nil && d.pos < len(d.body) {
		key, length := d.uvarint(), d.uvarint()
		if d.err != nil || length > uint64(len(d.body)-d.pos) {
			d.err = errMalformed
			return false
		}
		d.number = int(key >> 1)
		d.data = d.body[d.pos : d.pos+int(length)]
		d.pos += int(length)
		d.again = d.number == d.last
		if d.number < d.last || d.number == 0 {
			d.err = errMalformed
			return false
		}
		d.last = d.number
		ignorable := key&1 != 0
		switch {
		case d.number <= d.top && !ignorable:
			return true
		case d.number <= d.top:
			d.err = errMalformed
		case !ignorable:
			d.err = errNewer
		default:
			d.unknown = append(d.unknown, rawField{d.number, d.data})
		}
	}
	return false
}

// field is the current field's number. Seen before, or empty, it is an error unless the field is a list: one record has one
// body.
func (d *decoder) field(lists uint64) int {
	if (d.again || d.data == "") && lists>>uint(d.number)&1 == 0 {
		d.err = errMalformed
	}
	return d.number
}

// uvarint reads a number of at most 2^35 in its shortest form.
func (d *decoder) uvarint() uint64 {
	if d.pos < len(d.body) && d.body[d.pos] < 0x80 {
		d.pos++
		return uint64(d.body[d.pos-1])
	}
	var n uint64
	for i := 0; i < 5 && d.pos < len(d.body); i++ {
		c := d.body[d.pos]
		d.pos++
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 {
				break
			}
			return n
		}
	}
	d.err = errMalformed
	return 0
}

// integer reads a number. Zero is left out of a body.
func (d *decoder) integer() int64 {
	n := d.fixed()
	if n == 0 {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return n
}

// count reads a number that fits an int, which may be of 32 bits.
func (d *decoder) count() int {
	n := d.integer()
	if int64(int(n)) != n {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return int(n)
}

// seconds reads a duration.
func (d *decoder) seconds() time.Duration {
	n := d.integer()
	if n > int64(math.MaxInt64/time.Second) || n < int64(math.MinInt64/time.Second) {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return time.Duration(n) * time.Second
}

func (d *decoder) fixed() int64 {
	if len(d.data) != 8 {
		d.err = cmp.Or(d.err, errMalformed)
		return 0
	}
	b := d.data
	return int64(uint64(b[7]) | uint64(b[6])<<8 | uint64(b[5])<<16 | uint64(b[4])<<24 |
		uint64(b[3])<<32 | uint64(b[2])<<40 | uint64(b[1])<<48 | uint64(b[0])<<56)
}

func (d *decoder) flag() bool {
	n := d.integer()
	if n != 1 {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return n == 1
}

// time reads microseconds since 1970, which may be 0; the zero Time is left out of a body.
func (d *decoder) time() time.Time {
	t := time.UnixMicro(d.fixed()).UTC()
	if t.IsZero() {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return t
}

// network reads a prefix in the one form that netip prints.
func (d *decoder) network() netip.Prefix {
	p, err := netip.ParsePrefix(d.data)
	var text [64]byte
	if err != nil || string(p.AppendTo(text[:0])) != d.data {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return p
}

// addLabel reads one entry of a map, whose keys rise.
func (d *decoder) addLabel(m map[string]string) map[string]string {
	k, rest, ok := cutL(d.data)
	v, rest, ok2 := cutL(rest)
	if !ok || !ok2 || rest != "" || m != nil && k <= d.label {
		d.err = cmp.Or(d.err, errMalformed)
		return m
	}
	d.label = k
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

// cutL takes L(x) off the front of s.
func cutL(s string) (x, rest string, ok bool) {
	if len(s) < 4 {
		return "", "", false
	}
	n := uint64(s[0])<<24 | uint64(s[1])<<16 | uint64(s[2])<<8 | uint64(s[3])
	if n > uint64(len(s)-4) {
		return "", "", false
	}
	return s[4 : 4+n], s[4+n:], true
}

// micros cuts t to what a body keeps: microseconds, UTC. The zero Time stays zero, and no other becomes it: an expiry
// that lies in the far past must not turn into none.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	cut := t.UTC().Truncate(time.Microsecond)
	if cut.IsZero() {
		cut = cut.Add(time.Microsecond)
	}
	return cut
}
