package keycote

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fullRecord has something in every field of a body.
func fullRecord() *record {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	sum := func(c byte) (s [digestLen]byte) { copy(s[:], strings.Repeat(string(c), digestLen)); return s }
	q := func(c byte) *request {
		return &request{digests: []digest{{digestRequest, 7, sum(c)}, {digestRequest, 8, sum(c + 1)}}, params: "the parameters"}
	}
	return &record{
		tenant: "acme", id: "key_01jd8q2v7nx5m0c3r9t4bke6wz", kind: KindAccess, name: "ci", app: "shop", owner: "ann",
		endpoint: "https://api.example.com", scopes: []string{"orders:read", "orders:**"},
		networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		labels:   map[string]string{"env": "prod", "": "an empty key", "team": "", "z": "é"},
		limit:    Limit{Rate: 1, Per: time.Second, Burst: 2, Quota: 3, Period: 24 * time.Hour}, state: StateActive,
		versions: []version{
			{number: 1, state: StateEnded, hint: "kc_…abcd", createdAt: at, source: sourceIssued, prefix: "kc",
				digests: []digest{{digestToken, 7, sum('a')}}, used: true},
			{number: 2, state: StateActive, hint: "…wxyz", createdAt: at.Add(time.Hour), expiresAt: at.Add(48 * time.Hour),
				source: sourceChosen, prefix: "acme", digests: []digest{{digestChosen, 7, sum('b')}, {digestImport, 8, sum('c')}},
				sealed: "sealed", used: true, untilUsed: true, request: q('d')},
		},
		createdAt: time.UnixMicro(0).UTC(), createdBy: "bob", updatedAt: at.Add(time.Hour), revision: 9, request: q('f'),
	}
}

func fullEvent() *Event {
	return &Event{
		ID: "evt_01jd8q2v7nx5m0c3r9t4bke6wz", Tenant: "acme", KeyID: "key_01jd8q2v7nx5m0c3r9t4bke6wz", Name: "ci", Version: 2,
		Action: ActionUpdate, Outcome: ErrConflict, Actor: "ann", Addr: netip.MustParseAddr("192.0.2.1"), Reason: "why not",
		At: time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC), Count: 3, Revision: 9, BodyHash: bytes.Repeat([]byte{7}, 32),
		Changes: []FieldChange{{"name", "", "ci"}, {"app", "shop", "mill"}, {"owner", "x", ""}},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	want := fullRecord()
	body := want.encode()
	got, err := decodeRecord(body)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, body, got.encode())

	numbers := map[uint64]bool{}
	for _, f := range SplitBody(body[1:]) {
		numbers[f.Key>>1] = true
	}
	require.Len(t, numbers, recTop, "every field of the format is in the test")
}

func TestEventRoundTrip(t *testing.T) {
	t.Parallel()
	want := fullEvent()
	row := encodeEvent(want)
	got, err := decodeEvent(row)
	require.NoError(t, err)
	require.Equal(t, want, got)
	numbers := map[uint64]bool{}
	for _, f := range SplitBody(row.Body[1:]) {
		numbers[f.Key>>1] = true
	}
	require.Len(t, numbers, evtTop)
	for _, personal := range []string{"ann", "192.0.2.1", "why not", "shop", "mill"} {
		require.NotContains(t, string(row.Body), personal)
	}

	row.Personal, row.Actor = nil, ""
	got, err = decodeEvent(row)
	require.NoError(t, err, "what is personal may be erased")
	require.Empty(t, got.Actor+got.Reason)
	require.False(t, got.Addr.IsValid())
	require.Equal(t, []FieldChange{{Field: "name"}, {Field: "app"}, {Field: "owner"}}, got.Changes)

	empty := encodeEvent(&Event{ID: "evt_01jd8q2v7nx5m0c3r9t4bke6wz", Action: ActionRead, At: want.At})
	require.Nil(t, empty.Personal)
}

// edit is what a test does to the fields of a body.
type edit func(fields []BodyField) []BodyField

func at(number uint64, f func(data []byte) []byte) edit {
	return func(fields []BodyField) []BodyField {
		i := slices.IndexFunc(fields, func(f BodyField) bool { return f.Key == number<<1 })
		fields[i].Data = f(slices.Clone(fields[i].Data))
		return fields
	}
}

func set(number uint64, data ...byte) edit { return at(number, func([]byte) []byte { return data }) }

// nestedIn does e to the fields of a nested body.
func nestedIn(number uint64, e edit) edit {
	return at(number, func(data []byte) []byte { return JoinBody(e(SplitBody(data))...) })
}

func add(key uint64, data string) edit {
	return func(fields []BodyField) []BodyField { return append(fields, BodyField{key, []byte(data)}) }
}

func twice(number uint64) edit {
	return func(fields []BodyField) []BodyField {
		i := slices.IndexFunc(fields, func(f BodyField) bool { return f.Key == number<<1 })
		return slices.Insert(fields, i, fields[i])
	}
}

func swap(i, j int) edit {
	return func(fields []BodyField) []BodyField {
		fields[i], fields[j] = fields[j], fields[i]
		return fields
	}
}

func without(number uint64) edit {
	return func(fields []BodyField) []BodyField {
		return slices.DeleteFunc(fields, func(f BodyField) bool { return f.Key == number<<1 })
	}
}

func ignorable(number uint64) edit {
	return func(fields []BodyField) []BodyField {
		for i := range fields {
			if fields[i].Key == number<<1 {
				fields[i].Key |= 1
			}
		}
		return fields
	}
}

func u64(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// TestRecordRules: what this version would not have written itself is refused, and what a newer one has written is told
// from what was tampered with.
func TestRecordRules(t *testing.T) {
	t.Parallel()
	zeroTime := u64(time.Time{}.UnixMicro())
	for _, c := range []struct {
		name string
		do   edit
		want error
	}{
		{"as it is", func(f []BodyField) []BodyField { return f }, nil},
		{"out of order", swap(0, 1), errMalformed},
		{"a text twice", twice(recName), errMalformed},
		{"a number twice", twice(recRevision), errMalformed},
		{"a RequestID twice", twice(recRequest), errMalformed},
		{"a list's entry twice", twice(recScope), nil},
		{"a map's entry twice", twice(recLabel), errMalformed},
		{"a map out of order", func(f []BodyField) []BodyField {
			i := slices.IndexFunc(f, func(f BodyField) bool { return f.Key == recLabel<<1 })
			return swap(i, i+1)(f)
		}, errMalformed},
		{"a map's entry cut", at(recLabel, func(b []byte) []byte { return b[:len(b)-1] }), errMalformed},
		{"a map's entry of three bytes", set(recLabel, 0, 0, 0), errMalformed},
		{"a map's entry with more", at(recLabel, func(b []byte) []byte { return append(b, 0) }), errMalformed},
		{"number 0", func(f []BodyField) []BodyField { return slices.Insert(f, 0, BodyField{0, nil}) }, errMalformed},
		{"a known field that says it may be ignored", ignorable(recName), errMalformed},
		{"an empty text", set(recName), errMalformed},
		{"an empty number", set(recRevision), errMalformed},
		{"a zero", set(recRevision, u64(0)...), errMalformed},
		{"a number of seven bytes", set(recRate, 0, 0, 0, 0, 0, 0, 1), errMalformed},
		{"a number of nine bytes", set(recQuota, 0, 0, 0, 0, 0, 0, 0, 0, 1), errMalformed},
		{"seconds that are no duration", set(recPer, u64(math.MaxInt64/int64(time.Second)+1)...), errMalformed},
		{"seconds before all durations", set(recPeriod, u64(math.MinInt64)...), errMalformed},
		{"a time that stands for none", set(recUpdatedAt, zeroTime...), errMalformed},
		{"no network", set(recNetwork, []byte("10.0.0.0")...), errMalformed},
		{"a network in other words", set(recNetwork, []byte("2001:0db8::/32")...), errMalformed},
		{"no id", without(recID), errMalformed},
		{"no version", without(recVersion), errMalformed},
		{"no revision", without(recRevision), errMalformed},
		{"a negative revision", set(recRevision, u64(-1)...), errMalformed},

		{"a field that may be ignored", add(99<<1|1, "new"), nil},
		{"two of one number", func(f []BodyField) []BodyField { return add(99<<1|1, "b")(add(99<<1|1, "a")(f)) }, nil},
		{"an empty one", add(99<<1|1, ""), nil},
		{"one that may not", add(99<<1, "new"), errNewer},
		{"both", func(f []BodyField) []BodyField { return add(100<<1, "b")(add(99<<1|1, "a")(f)) }, errNewer},
		{"new fields out of order", func(f []BodyField) []BodyField {
			return add(98<<1|1, "b")(add(99<<1|1, "a")(f))
		}, errMalformed},

		{"a version out of order", nestedIn(recVersion, swap(0, 1)), errMalformed},
		{"a version's text twice", nestedIn(recVersion, twice(verHint)), errMalformed},
		{"a version's zero", nestedIn(recVersion, set(verNumber, u64(0)...)), errMalformed},
		{"a version's flag of 2", nestedIn(recVersion, set(verUsed, u64(2)...)), errMalformed},
		{"a version's empty hint", nestedIn(recVersion, set(verHint)), errMalformed},
		{"a digest of another kind", nestedIn(recVersion, at(verDigest, func(b []byte) []byte {
			b[0] = 'x'
			return b
		})), errMalformed},
		{"a digest cut", nestedIn(recVersion, at(verDigest, func(b []byte) []byte { return b[1:] })), errMalformed},
		{"bytes left over in a version", at(recVersion, func(b []byte) []byte { return append(b, 2) }), errMalformed},
		{"a version's field that may be ignored", nestedIn(recVersion, add(99<<1|1, "new")), nil},
		{"one that may not, in a version", nestedIn(recVersion, add(99<<1, "new")), errNewer},

		{"a RequestID's field that may be ignored", nestedIn(recRequest, add(99<<1|1, "new")), nil},
		{"one that may not, in a RequestID", nestedIn(recRequest, add(99<<1, "new")), errNewer},
		{"a RequestID's parameters twice", nestedIn(recRequest, twice(reqParams)), errMalformed},
		{"an empty RequestID", set(recRequest), errMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body := fullRecord().encode()
			body = append(body[:1:1], JoinBody(c.do(SplitBody(body[1:]))...)...)
			rec, err := decodeRecord(body)
			require.ErrorIs(t, err, c.want)
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, body, rec.encode(), "it is written back as it was")
			}
		})
	}
}

// TestVersionRequestTwice: the second RequestID of a version is nested two deep, where an error is easily lost.
func TestVersionRequestTwice(t *testing.T) {
	t.Parallel()
	rec := fullRecord()
	rec.versions = rec.versions[1:]
	body := rec.encode()
	body = append(body[:1:1], JoinBody(nestedIn(recVersion, twice(verRequest))(SplitBody(body[1:]))...)...)
	_, err := decodeRecord(body)
	require.ErrorIs(t, err, errMalformed)
}

// TestBodyBytes holds the layers below fields: the format byte, and the two uvarints of a field.
func TestBodyBytes(t *testing.T) {
	t.Parallel()
	good := string(fullRecord().encode())
	for _, c := range []struct {
		name, body string
		want       error
	}{
		{"nothing", "", errMalformed},
		{"the format alone", "\x01", errMalformed},
		{"a later format", "\x02" + good[1:], errNewer},
		{"format 0", "\x00" + good[1:], errNewer},
		{"a later format of anything", "\x02", errNewer},
		{"a byte left over", good + "\x02", errMalformed},
		{"half a number", good + "\x80", errMalformed},
		{"a field without its bytes", good + "\xc7\x01\x05four", errMalformed},
		{"a number that is not the shortest", "\x01\x82\x00" + good[2:], errMalformed},
		{"a length that is not the shortest", "\x01\x02\x84\x00" + good[3:], errMalformed},
		{"a zero that is not the shortest", good + "\x80\x00\x00", errMalformed},
		{"a number without end", good + strings.Repeat("\x80", 20), errMalformed},
		{"a number of ten bytes", good + strings.Repeat("\xff", 9) + "\x01\x00", errMalformed},
		{"a length beyond all memory", good + "\xc7\x01\xff\xff\xff\xff\x7f", errMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeRecord([]byte(c.body))
			require.Equal(t, c.want, err)
		})
	}
	shorter := fullRecord()
	shorter.request = nil // the last field, and not one that every record has
	for cut := range good {
		if _, err := decodeRecord([]byte(good[:cut])); good[:cut] != string(shorter.encode()) {
			require.Error(t, err, "cut at %d", cut)
		}
	}
}

func TestEventRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		body, personal edit
		want           error
	}{
		{"a field that may be ignored", add(99<<1|1, "new"), nil, nil},
		{"one that may not", add(99<<1, "new"), nil, errNewer},
		{"out of order", swap(1, 2), nil, errMalformed},
		{"twice", twice(evtActor), nil, errMalformed},
		{"empty", set(evtReason), nil, errMalformed},
		{"a version that is zero", set(evtVersion, u64(0)...), nil, errMalformed},
		{"one that may not, in a change", nestedIn(evtChange, add(99<<1, "new")), nil, errNewer},
		{"a change twice", twice(evtChange), nil, errMalformed}, // the personal part is of other changes then
		{"another commitment", at(evtActor, func(b []byte) []byte { b[0] ^= 1; return b }), nil, errMalformed},
		{"no commitment", without(evtAddr), nil, errMalformed},

		{"personal: a field that may be ignored", nil, add(99<<1|1, "new"), nil},
		{"personal: one that may not", nil, add(99<<1, "new"), errMalformed}, // no seal covers it
		{"personal: another reason", nil, at(perReason, func(b []byte) []byte { b[saltLen] ^= 1; return b }), errMalformed},
		{"personal: another salt", nil, at(perReason, func(b []byte) []byte { b[0] ^= 1; return b }), errMalformed},
		{"personal: a salt and no value", nil, at(perReason, func(b []byte) []byte { return b[:saltLen] }), errMalformed},
		{"personal: an actor less", nil, without(perActor), errMalformed},
		{"personal: an address less", nil, without(perAddr), nil},
		{"personal: a change more", nil, twice(perChange), errMalformed},
		{"personal: twice", nil, twice(perReason), errMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			row := encodeEvent(fullEvent())
			if c.body != nil {
				row.Body = append([]byte{bodyFormat}, JoinBody(c.body(SplitBody(row.Body[1:]))...)...)
			}
			if c.personal != nil {
				row.Personal = append([]byte{bodyFormat}, JoinBody(c.personal(SplitBody(row.Personal[1:]))...)...)
			}
			_, err := decodeEvent(row)
			require.ErrorIs(t, err, c.want)
		})
	}
	for name, do := range map[string]func(*EventRecord){
		"id":                        func(r *EventRecord) { r.ID = "evt_01jd8q2v7nx5m0c3r9t4bke6w0" },
		"tenant":                    func(r *EventRecord) { r.Tenant = "other" },
		"key":                       func(r *EventRecord) { r.KeyID = "" },
		"actor":                     func(r *EventRecord) { r.Actor = "bob" },
		"action":                    func(r *EventRecord) { r.Action = ActionRead },
		"outcome":                   func(r *EventRecord) { r.Outcome = "" },
		"at":                        func(r *EventRecord) { r.At = r.At.Add(time.Microsecond) },
		"erased but for the column": func(r *EventRecord) { r.Personal = nil },
	} {
		row := encodeEvent(fullEvent())
		do(&row)
		_, err := decodeEvent(row)
		require.ErrorIs(t, err, errMalformed, name)
	}
}

func TestRingRules(t *testing.T) {
	t.Parallel()
	wraps := []wrap{{"kms:1", "one"}, {"local:2", "two"}}
	body := encodeRing(wraps, time.Time{})
	got, shredded, err := decodeRing(body)
	require.NoError(t, err)
	require.Equal(t, wraps, got)
	require.True(t, shredded.IsZero())

	when := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	got, shredded, err = decodeRing(encodeRing(nil, when))
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, when, shredded)

	for _, c := range []struct {
		name string
		do   edit
		want error
	}{
		{"a field that may be ignored", add(99<<1|1, "new"), nil},
		{"one that may not", add(99<<1, "new"), errNewer},
		{"one that may not, in a wrap", nestedIn(ringWrap, add(99<<1, "new")), errNewer},
		{"a wrap out of order", nestedIn(ringWrap, swap(0, 1)), errMalformed},
		{"a wrap without a KEK's name", nestedIn(ringWrap, set(1)), errMalformed},
		{"shredded, and still there", add(ringShredded<<1, string(u64(1))), errMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := append([]byte{bodyFormat}, JoinBody(c.do(SplitBody(bytes.Clone(body[1:])))...)...)
			_, _, err := decodeRing(b)
			require.ErrorIs(t, err, c.want)
		})
	}
}

// FuzzBody: no bytes make a decoder panic, and no two bodies are of one record.
func FuzzBody(f *testing.F) {
	full := fullRecord()
	full.unknown = []rawField{{recTop + 1, "new"}}
	full.versions[1].unknown = []rawField{{verTop + 1, ""}, {verTop + 1, "new"}}
	full.request.unknown = []rawField{{reqTop + 1, "new"}}
	f.Add(full.encode(), []byte{})
	f.Add((&record{id: "key_", versions: []version{{}}, revision: 1}).encode(), []byte{})
	row := encodeEvent(fullEvent())
	f.Add(row.Body, row.Personal)
	f.Add(row.Body, []byte{})
	f.Add(encodeRing([]wrap{{"kms:1", "one"}}, time.Time{}), []byte{})
	f.Add(encodeRing(nil, time.UnixMicro(1)), []byte{})
	f.Add([]byte{2}, []byte{2})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, body, personal []byte) {
		if rec, err := decodeRecord(body); err == nil {
			require.Equal(t, body, rec.encode())
			_ = rec.key(time.UnixMicro(1), nil)
			require.True(t, sameColumns(rec.columns(), rec.clone().columns()))
		} else {
			require.Contains(t, []error{errMalformed, errNewer}, err)
		}
		if e, err := decodeEvent(eventRow(body, personal)); err == nil {
			again := encodeEvent(e)
			back, err := decodeEvent(again)
			require.NoError(t, err)
			require.Equal(t, e, back)
		} else {
			require.Contains(t, []error{errMalformed, errNewer}, err)
		}
		if wraps, shredded, err := decodeRing(body); err == nil {
			w2, s2, err := decodeRing(encodeRing(wraps, shredded))
			require.NoError(t, err)
			require.Equal(t, wraps, w2)
			require.Equal(t, shredded, s2)
		} else {
			require.Contains(t, []error{errMalformed, errNewer}, err)
		}
	})
}

// eventRow fills the columns as the body has them, so that a fuzzer gets past their comparison.
func eventRow(body, personal []byte) EventRecord {
	row := EventRecord{Body: body, Personal: personal}
	d := openBody(string(body), evtTop)
	for d.next() {
		switch d.number {
		case evtID:
			row.ID = d.data
		case evtTenant:
			row.Tenant = d.data
		case evtKeyID:
			row.KeyID = d.data
		case evtAction:
			row.Action = Action(d.data)
		case evtOutcome:
			row.Outcome = Code(d.data)
		case evtAt:
			if len(d.data) == 8 {
				row.At = d.time()
			}
		}
	}
	p := openBody(string(personal), perTop)
	for p.next() {
		if p.number == perActor && len(p.data) > saltLen {
			row.Actor = p.data[saltLen:]
		}
	}
	return row
}
