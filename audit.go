package keycote

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"time"
)

// Event says who did what to which key, when and why. It is committed with the change that it tells of, and sealed.
//
// Address, actor, reason and changed values are personal: the seal covers commitments to them, so that they can be
// erased later and the seal still holds. An erased value reads as empty.
type Event struct {
	ID      string        `json:"id"`
	Tenant  string        `json:"tenant,omitempty"`
	KeyID   string        `json:"keyId"`
	Name    string        `json:"name"` // of the key, then
	Version int           `json:"version,omitempty"`
	Action  Action        `json:"action"`
	Outcome Code          `json:"outcome,omitempty"` // empty: success
	Actor   string        `json:"actor"`
	Addr    netip.Addr    `json:"addr,omitzero"`
	Reason  string        `json:"reason,omitempty"`
	At      time.Time     `json:"at"`
	Changes []FieldChange `json:"changes,omitempty"`
	Count   int64         `json:"count,omitempty"` // of refused calls that are alike within a window; 0 is one

	Revision int64  `json:"revision,omitempty"` // of the key after a change: its order in the trail
	BodyHash []byte `json:"bodyHash,omitempty"` // SHA-256 of the record's body after the change
}

// FieldChange is a field before and after a change. It never holds a secret.
type FieldChange struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// EventFilter chooses events: all that is set must hold. To page: break, and go on with After.
type EventFilter struct {
	KeyID, Actor string
	Action       Action
	Since, Until time.Time // At in [Since, Until)
	After        string    // an Event's ID
	Newest       bool      // newest first
}

const saltLen = 16

// Field numbers of an event's body and of its personal part; docs/formats.md.
const (
	evtID = iota + 1
	evtTenant
	evtKeyID
	evtName
	evtVersion
	evtAction
	evtOutcome
	evtActor
	evtAddr
	evtReason
	evtAt
	evtChange // list: 1 field, 2 commitment to From, 3 to To
	evtCount
	evtRevision
	evtBodyHash
	evtTop = evtBodyHash
)

const (
	perActor = iota + 1
	perAddr
	perReason
	perChange // list, as many as the body has: 1 From, 2 To
	perTop    = perChange
)

// commitment is HMAC-SHA-256(salt, field ‖ 0x00 ‖ value). A salt of its own for each keeps equal values from showing. As a
// salt is a key that is used once, the two hashes of RFC 2104 are taken as they stand: no state is worth making.
func commitment[T string | []byte](salt T, field, value string) [sha256.Size]byte {
	var room [512]byte
	b := append(append(append(appendPad(room[:0], salt, 0x36), field...), 0), value...)
	inner := sha256.Sum256(b)
	return sha256.Sum256(append(appendPad(room[:0], salt, 0x5c), inner[:]...))
}

// appendPad appends a block of pad with a key of at most a block in it.
func appendPad[T string | []byte](dst []byte, key T, pad byte) []byte {
	for i := range sha256.BlockSize {
		c := pad
		if i < len(key) {
			c ^= key[i]
		}
		dst = append(dst, c)
	}
	return dst
}

// salts hands out random salts, drawn at once.
type salts []byte

func newSalts(n int) salts {
	s := make(salts, n*saltLen)
	_, _ = rand.Read(s)
	return s
}

func (s *salts) next() []byte {
	salt := (*s)[:saltLen]
	*s = (*s)[saltLen:]
	return salt
}

// commit writes a commitment to value into the body and the value itself, behind its salt, into the personal part.
// An empty value leaves no trace in either.
func (s *salts) commit(body *encoder, number int, personal *encoder, personalNumber int, field, value string) {
	if value == "" {
		return
	}
	salt := s.next()
	sum := commitment(salt, field, value)
	body.bytes(number, sum[:])
	personal.head(personalNumber, len(salt)+len(value))
	*personal = append(append(*personal, salt...), value...)
}

// encodeEvent makes what a Store keeps of e, but for the seal.
func encodeEvent(e *Event) EventRecord {
	var addr string
	if e.Addr.IsValid() {
		addr = e.Addr.String()
	}
	values := 0
	for _, v := range []string{e.Actor, addr, e.Reason} {
		if v != "" {
			values++
		}
	}
	s := newSalts(values + 2*len(e.Changes))
	var body, personal encoder = make([]byte, 1, 384), make([]byte, 1, 128)
	body[0], personal[0] = bodyFormat, bodyFormat
	body.text(evtID, e.ID)
	body.text(evtTenant, e.Tenant)
	body.text(evtKeyID, e.KeyID)
	body.text(evtName, e.Name)
	body.integer(evtVersion, int64(e.Version))
	body.text(evtAction, string(e.Action))
	body.text(evtOutcome, string(e.Outcome))
	s.commit(&body, evtActor, &personal, perActor, "actor", e.Actor)
	s.commit(&body, evtAddr, &personal, perAddr, "addr", addr)
	s.commit(&body, evtReason, &personal, perReason, "reason", e.Reason)
	body.time(evtAt, e.At)
	for _, c := range e.Changes {
		body.nested(evtChange, func(body *encoder) {
			body.text(1, c.Field)
			personal.nested(perChange, func(personal *encoder) {
				s.commit(body, 2, personal, 1, c.Field, c.From)
				s.commit(body, 3, personal, 2, c.Field, c.To)
			})
		})
	}
	body.integer(evtCount, e.Count)
	body.integer(evtRevision, e.Revision)
	body.bytes(evtBodyHash, e.BodyHash)
	if len(personal) == 1 {
		personal = nil
	}
	return EventRecord{
		ID: e.ID, Tenant: e.Tenant, KeyID: e.KeyID, Actor: e.Actor, Action: e.Action, Outcome: e.Outcome, At: e.At,
		Body: body, Personal: personal,
	}
}

// committed is what an event's body says of a personal value: a commitment, or nothing.
type committed struct{ actor, addr, reason string }

// decodeEvent reads an event back and holds its columns and its personal part against its body. The seal has been
// checked before. Its errors are errMalformed and errNewer.
func decodeEvent(r EventRecord) (*Event, error) {
	e := &Event{}
	var kept committed
	var changes []FieldChange // From and To hold commitments
	d := openBody(string(r.Body), evtTop)
	for d.next() {
		switch d.field(1 << evtChange) {
		case evtID:
			e.ID = d.data
		case evtTenant:
			e.Tenant = d.data
		case evtKeyID:
			e.KeyID = d.data
		case evtName:
			e.Name = d.data
		case evtVersion:
			e.Version = d.count()
		case evtAction:
			e.Action = Action(d.data)
		case evtOutcome:
			e.Outcome = Code(d.data)
		case evtActor:
			kept.actor = d.data
		case evtAddr:
			kept.addr = d.data
		case evtReason:
			kept.reason = d.data
		case evtAt:
			e.At = d.time()
		case evtChange:
			changes = append(changes, d.change())
		case evtCount:
			e.Count = d.integer()
		case evtRevision:
			e.Revision = d.integer()
		case evtBodyHash:
			e.BodyHash = []byte(d.data)
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	if r.ID != e.ID || r.Tenant != e.Tenant || r.KeyID != e.KeyID || r.Action != e.Action || r.Outcome != e.Outcome ||
		!r.At.Equal(e.At) {
		return nil, errMalformed
	}
	if e.readPersonal(r, kept, changes) != nil {
		return nil, errMalformed // "newer" too: no seal covers this part, and a newer body would have said so itself
	}
	return e, nil
}

func (d *decoder) change() FieldChange {
	var c FieldChange
	in := decoder{body: d.data, top: 3}
	for in.next() {
		switch in.field(0) {
		case 1:
			c.Field = in.data
		case 2:
			c.From = in.data
		case 3:
			c.To = in.data
		}
	}
	if d.err == nil {
		d.err = in.err
	}
	return c
}

// readPersonal fills in the personal values that are still there. A value without a commitment, or one that does not
// match its own, was put there by somebody else.
func (e *Event) readPersonal(r EventRecord, kept committed, changes []FieldChange) error {
	for _, c := range changes {
		e.Changes = append(e.Changes, FieldChange{Field: c.Field})
	}
	if len(r.Personal) == 0 {
		if r.Actor != "" {
			return errMalformed
		}
		return nil
	}
	var addr string
	n := 0
	d := openBody(string(r.Personal), perTop)
	for d.next() {
		switch d.field(1 << perChange) {
		case perActor:
			e.Actor = d.opened(kept.actor, "actor")
		case perAddr:
			addr = d.opened(kept.addr, "addr")
		case perReason:
			e.Reason = d.opened(kept.reason, "reason")
		case perChange:
			if n == len(changes) {
				return errMalformed
			}
			in := decoder{body: d.data, top: 2}
			for in.next() {
				switch in.field(0) {
				case 1:
					e.Changes[n].From = in.opened(changes[n].From, changes[n].Field)
				case 2:
					e.Changes[n].To = in.opened(changes[n].To, changes[n].Field)
				}
			}
			if in.err != nil {
				return in.err
			}
			n++
		}
	}
	if d.err == nil && addr != "" {
		if e.Addr, d.err = netip.ParseAddr(addr); d.err != nil {
			d.err = errMalformed
		}
	}
	if d.err == nil && r.Actor != e.Actor {
		d.err = errMalformed // the column is compared while the value is there, and is empty with it
	}
	return d.err
}

// opened splits salt and value and holds them against the commitment.
func (d *decoder) opened(want, field string) string {
	if len(d.data) > saltLen {
		salt, value := d.data[:saltLen], d.data[saltLen:]
		if sum := commitment(salt, field, value); hmac.Equal(sum[:], []byte(want)) {
			return value
		}
	}
	d.err = errMalformed
	return ""
}
