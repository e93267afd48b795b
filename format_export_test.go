package keycote

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// BodyField is one field of a body as it stands there: Key is its number, doubled, and 1 more if it may be ignored.
type BodyField struct {
	Key  uint64
	Data []byte
}

// SplitBody takes the fields of a body apart, or, without the format byte, of a nested one. It is written from
// docs/formats.md and shares nothing with the code that it judges.
func SplitBody(b []byte) (fields []BodyField) {
	for len(b) > 0 {
		var f BodyField
		var length uint64
		for _, n := range []*uint64{&f.Key, &length} {
			var used int
			if *n, used = binary.Uvarint(b); used <= 0 {
				panic(fmt.Sprintf("not a body: %x", b))
			}
			b = b[used:]
		}
		f.Data, b = b[:length:length], b[length:]
		fields = append(fields, f)
	}
	return fields
}

// JoinBody puts fields together again, in the order given.
func JoinBody(fields ...BodyField) (b []byte) {
	for _, f := range fields {
		b = binary.AppendUvarint(b, f.Key)
		b = binary.AppendUvarint(b, uint64(len(f.Data)))
		b = append(b, f.Data...)
	}
	return b
}

// SealedAgain is row with another body, under a seal that holds: what a later Keycote would have written.
func SealedAgain(m *Manager, row Record, body []byte) Record {
	mac, err := seal(m.rings.roots.Load().record.mac, recordLabel, body)
	if err != nil {
		panic(err)
	}
	row.Body, row.Seal = body, mac
	return row
}

// EventSealedAgain is the same for an event.
func EventSealedAgain(m *Manager, row EventRecord, body []byte) EventRecord {
	mac, err := seal(m.rings.roots.Load().trail.mac, eventLabel, body)
	if err != nil {
		panic(err)
	}
	row.Body, row.Seal = body, mac
	return row
}

// CursorTo is the cursor that m gives for f behind last, whatever last is.
func CursorTo(m *Manager, f Filter, last string) string { return newCursor(m.tenant, f, last) }

// BodyHash is what an event says of a body.
func BodyHash(body []byte) []byte {
	sum := sha256.Sum256(body)
	return sum[:]
}
