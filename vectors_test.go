package keycote

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// testdata/vectors holds examples of what every release has written. They must go on verifying and opening for ever: a
// file is added, never changed and never removed. A case is added by adding a file whose name begins with its kind, by
// hand or by a line in vectors_make_test.go and go test -run Vectors -update.
//
// The keys in them are for tests alone.

const vectorDir = "testdata/vectors"

// hexBytes stand in a vector in hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vectorKinds are the tests of this file by what the names of their files begin with.
var vectorKinds = map[string]func(*testing.T, string){
	"token":    eachVector((*tokenVector).check),
	"refused":  eachVector((*refusedVector).check),
	"checksum": eachVector((*checksumVector).check),
	"digest":   eachVector((*digestVector).check),
	"seal":     eachVector((*sealVector).check),
	"record":   eachVector((*recordVector).check),
	"event":    eachVector((*eventVector).check),
	"value":    eachVector((*valueVector).check),
	"keyring":  eachVector((*keyringVector).check),
	"kek":      eachVector((*kekVector).check),
}

func eachVector[V any](check func(*V, *testing.T)) func(*testing.T, string) {
	return func(t *testing.T, file string) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields() // what the test does not look at must not look as if it were tested
		var v V
		require.NoError(t, d.Decode(&v))
		check(&v, t)
	}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	if *updateVectors {
		makeVectors(t)
	}
	entries, err := os.ReadDir(vectorDir)
	require.NoError(t, err)
	missing := maps.Clone(vectorKinds)
	for _, entry := range entries {
		name, isJSON := strings.CutSuffix(entry.Name(), ".json")
		kind, _, _ := strings.Cut(name, "-")
		check := vectorKinds[kind]
		require.True(t, isJSON && check != nil, "%s is of no kind", entry.Name())
		delete(missing, kind)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, filepath.Join(vectorDir, entry.Name()))
		})
	}
	require.Empty(t, slices.Collect(maps.Keys(missing)), "kinds without a vector")
}

// openKeyset reads a keyset in Tink's JSON, in clear.
func openKeyset(t *testing.T, name string, text json.RawMessage) *keyring {
	t.Helper()
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	require.NoError(t, err)
	ring, err := newKeyring(ItemRef{Name: name}, handle)
	require.NoError(t, err)
	return ring
}

// managerOf opens what is sealed under the keyrings given, and has no store.
func managerOf(tenant string, roots *rootRings) *Manager {
	r := &rings{}
	r.roots.Store(roots)
	return &Manager{shared: &shared{rings: r, log: slog.New(slog.DiscardHandler)}, tenant: tenant}
}

// flips are b with one bit changed, at every byte.
func flips(b []byte) (list [][]byte) {
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		list = append(list, c)
	}
	return list
}

// tokenVector: prefix, index key and random bytes give the text and the digest of an issued key.
type tokenVector struct {
	Comment string          `json:"comment"`
	Keyset  json.RawMessage `json:"keyset"`
	Prefix  string          `json:"prefix"`
	KeyID   uint32          `json:"keyId"`
	Random  hexBytes        `json:"random"`
	Token   string          `json:"token"`
	Digest  hexBytes        `json:"digest"`
	Hint    string          `json:"hint"`
}

func (v *tokenVector) check(t *testing.T) {
	ring := openKeyset(t, ringIndex, v.Keyset)
	tok := issued{prefix: v.Prefix}
	binary.BigEndian.PutUint32(tok.number[:4], v.KeyID)
	require.Equal(t, randomLen, copy(tok.number[4:], v.Random))
	o, ok := ring.compute(v.KeyID, tokenMessage(&tok))
	require.True(t, ok)
	copy(tok.tag(), o.tag())
	require.Equal(t, v.Token, tok.String())
	sum := o.sum()
	require.Equal(t, []byte(v.Digest), sum[:])
	require.Equal(t, v.Hint, hintOf(v.Token, v.Prefix))

	back, ok := parseToken(v.Token)
	require.True(t, ok)
	require.Equal(t, tok, back)
	require.True(t, back.proves(&o))
}

// refusedVector: values that were never issued by anybody.
type refusedVector struct {
	Comment string   `json:"comment"`
	Form    bool     `json:"form"` // they are of issued form all the same
	Values  []string `json:"values"`
}

func (v *refusedVector) check(t *testing.T) {
	require.NotEmpty(t, v.Values)
	for _, value := range v.Values {
		_, ok := parseToken(value)
		require.False(t, ok, value)
		require.Equal(t, v.Form, issuedForm(value), value)
	}
}

type checksumVector struct {
	Comment  string `json:"comment"`
	Text     string `json:"text"`
	Checksum string `json:"checksum"`
}

func (v *checksumVector) check(t *testing.T) {
	require.Equal(t, v.Checksum, string(appendChecksum(nil, checksum(v.Text))))
}

// digestVector: what a chosen or imported value, a RequestID, or its parameters are found by.
type digestVector struct {
	Comment   string          `json:"comment"`
	Of        string          `json:"of"` // chosen, import, request, params
	Keyset    json.RawMessage `json:"keyset"`
	KeyID     uint32          `json:"keyId"`
	Tenant    string          `json:"tenant,omitempty"`
	Value     string          `json:"value,omitempty"`
	Action    Action          `json:"action,omitempty"`
	Scope     string          `json:"scope,omitempty"` // the actor, or of Rotate the key
	RequestID string          `json:"requestId,omitempty"`
	Params    hexBytes        `json:"params,omitempty"`
	Digest    hexBytes        `json:"digest"` // of params: key id and all 32 bytes
}

func (v *digestVector) compute(t *testing.T, ring *keyring) []byte {
	messages := map[string]func() []byte{
		"chosen":  func() []byte { return chosenMessage(v.Tenant, v.Value) },
		"import":  func() []byte { return importMessage(sha256.Sum256([]byte(v.Value))) },
		"request": func() []byte { return requestMessage(v.Tenant, v.Action, v.Scope, v.RequestID) },
		"params":  func() []byte { return paramsMessage(v.Params) },
	}
	require.Contains(t, messages, v.Of)
	o, ok := ring.compute(v.KeyID, messages[v.Of]())
	require.True(t, ok)
	if v.Of == "params" {
		return append(binary.BigEndian.AppendUint32(nil, v.KeyID), o[:]...)
	}
	sum := o.sum()
	return sum[:]
}

func (v *digestVector) check(t *testing.T) {
	ring := openKeyset(t, ringIndex, v.Keyset)
	require.Equal(t, []byte(v.Digest), v.compute(t, ring))
	if v.Of == "params" {
		c := &change{roots: &rootRings{index: ring}}
		require.True(t, c.sameParams(&request{params: string(v.Digest)}, v.Params))
		require.False(t, c.sameParams(&request{params: string(v.Digest)}, append(v.Params, 0)))
	}
}

// sealVector: a body and its MAC.
type sealVector struct {
	Comment string          `json:"comment"`
	Of      string          `json:"of"` // record, event
	Keyset  json.RawMessage `json:"keyset"`
	Body    hexBytes        `json:"body"`
	Seal    hexBytes        `json:"seal"`
}

func (v *sealVector) check(t *testing.T) {
	labels := map[string]string{"record": recordLabel, "event": eventLabel}
	require.Contains(t, labels, v.Of)
	mac := openKeyset(t, ringRecord, v.Keyset).mac
	made, err := seal(mac, labels[v.Of], v.Body)
	require.NoError(t, err)
	require.Equal(t, []byte(v.Seal), made)
	require.True(t, sealHolds(mac, v.Seal, labels[v.Of], v.Body))
	delete(labels, v.Of)
	for _, other := range labels {
		require.False(t, sealHolds(mac, v.Seal, other, v.Body), "a seal of one kind is none of the other")
	}
}

// recordVector: a record's body, its seal, and what stands in it.
type recordVector struct {
	Comment string          `json:"comment"`
	Keyset  json.RawMessage `json:"keyset"`
	Body    hexBytes        `json:"body"`
	Seal    hexBytes        `json:"seal"`
	Fields  recordFields    `json:"fields"`
}

func (v *recordVector) check(t *testing.T) {
	roots := &rootRings{record: openKeyset(t, ringRecord, v.Keyset)}
	m := managerOf(v.Fields.Tenant, roots)
	row := Record{Body: v.Body, Seal: v.Seal}
	rec, err := m.openRecord(t.Context(), &row, v.Fields.Tenant, v.Fields.ID, false)
	require.NoError(t, err)
	got, err := json.Marshal(fieldsOf(rec))
	require.NoError(t, err)
	want, err := json.Marshal(v.Fields)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))

	again, hash, err := sealRecord(roots, rec)
	require.NoError(t, err)
	require.Equal(t, []byte(v.Body), again.Body, "it is written back byte by byte")
	require.Equal(t, []byte(v.Seal), again.Seal)
	require.Equal(t, BodyHash(v.Body), hash)

	for _, body := range flips(v.Body) {
		_, err := m.openRecord(t.Context(), &Record{Body: body, Seal: v.Seal}, v.Fields.Tenant, v.Fields.ID, false)
		require.ErrorIs(t, err, ErrTampered)
	}
}

// eventVector: an event's body, its seal, the personal part, and what stands in them.
type eventVector struct {
	Comment     string             `json:"comment"`
	Keyset      json.RawMessage    `json:"keyset"`
	Body        hexBytes           `json:"body"`
	Seal        hexBytes           `json:"seal"`
	Personal    hexBytes           `json:"personal"`
	Commitments []commitmentVector `json:"commitments"`
	Event       Event              `json:"event"`
}

type commitmentVector struct {
	Field      string   `json:"field"`
	Salt       hexBytes `json:"salt"`
	Value      string   `json:"value"`
	Commitment hexBytes `json:"commitment"`
}

func (v *eventVector) row() EventRecord {
	e := &v.Event
	return EventRecord{
		ID: e.ID, Tenant: e.Tenant, KeyID: e.KeyID, Actor: e.Actor, Action: e.Action, Outcome: e.Outcome, At: e.At,
		Body: v.Body, Seal: v.Seal, Personal: v.Personal,
	}
}

func (v *eventVector) check(t *testing.T) {
	m := managerOf(v.Event.Tenant, &rootRings{trail: openKeyset(t, ringTrail, v.Keyset)})
	row := v.row()
	got, err := m.openEvent(t.Context(), &row)
	require.NoError(t, err)
	require.Equal(t, v.Event, got)

	for _, c := range v.Commitments {
		sum := commitment([]byte(c.Salt), c.Field, c.Value)
		require.Equal(t, []byte(c.Commitment), sum[:], c.Field)
		require.Contains(t, string(v.Body), string(c.Commitment), c.Field)
		require.Contains(t, string(v.Personal), string(c.Salt)+c.Value, c.Field)
	}
	row.Personal, row.Actor = nil, ""
	_, err = m.openEvent(t.Context(), &row)
	require.NoError(t, err, "what is personal may be erased, and the seal holds")

	for _, body := range flips(v.Body) {
		row := v.row()
		row.Body = body
		_, err := m.openEvent(t.Context(), &row)
		require.ErrorIs(t, err, ErrTampered)
	}
	for i, personal := range flips(v.Personal) {
		row := v.row()
		row.Personal = personal
		_, err := m.openEvent(t.Context(), &row)
		require.Error(t, err, "byte %d of the personal part", i)
	}
}

// valueVector: a credential's sealed value.
type valueVector struct {
	Comment    string          `json:"comment"`
	Keyset     json.RawMessage `json:"keyset"`
	Tenant     string          `json:"tenant"`
	KeyID      string          `json:"keyId"`
	Version    int             `json:"version"`
	Endpoint   string          `json:"endpoint"`
	Origin     string          `json:"origin"`
	Ciphertext hexBytes        `json:"ciphertext"`
	Plaintext  string          `json:"plaintext"`
}

func (v *valueVector) check(t *testing.T) {
	ring := openKeyset(t, ringData, v.Keyset)
	origin, ok := endpointOrigin(v.Endpoint)
	require.True(t, ok)
	require.Equal(t, v.Origin, origin)
	value, err := ring.aead.Decrypt(v.Ciphertext, valueAD(v.Tenant, v.KeyID, v.Version, v.Origin))
	require.NoError(t, err)
	require.Equal(t, v.Plaintext, string(value))
	for name, ad := range map[string][]byte{
		"tenant":   valueAD(v.Tenant+"x", v.KeyID, v.Version, v.Origin),
		"key":      valueAD(v.Tenant, v.KeyID+"x", v.Version, v.Origin),
		"version":  valueAD(v.Tenant, v.KeyID, v.Version+1, v.Origin),
		"origin":   valueAD(v.Tenant, v.KeyID, v.Version, v.Origin+"1"),
		"boundary": valueAD(v.Tenant+v.KeyID, "", v.Version, v.Origin),
	} {
		_, err := ring.aead.Decrypt(v.Ciphertext, ad)
		require.Error(t, err, name)
	}
}

// keyringVector: an Item of space keyring, as it stands in a store, and something made under it.
type keyringVector struct {
	Comment  string    `json:"comment"`
	KEK      rawKEK    `json:"kek"`
	Tenant   string    `json:"tenant,omitempty"`
	Name     string    `json:"name"`
	Revision int64     `json:"revision"`
	Body     hexBytes  `json:"body"`
	Shredded time.Time `json:"shredded,omitzero"`
	Primary  uint32    `json:"primary,omitempty"`
	Message  string    `json:"message,omitempty"`
	Output   hexBytes  `json:"output,omitempty"` // PRF output, MAC, or ciphertext without associated data, of Message
}

// rawKEK is a raw AES-256-GCM key and its id.
type rawKEK struct {
	ID  string   `json:"id"`
	Key hexBytes `json:"key"`
}

func (k rawKEK) open(t *testing.T) KEK {
	t.Helper()
	a, err := subtle.NewAESGCM(k.Key)
	require.NoError(t, err)
	return NewKEK(k.ID, a)
}

func (v *keyringVector) check(t *testing.T) {
	k := &keks{primary: v.KEK.open(t)}
	item := Item{v.Tenant, spaceKeyring, v.Name, v.Revision, v.Body}
	ring, err := k.open(t.Context(), item)
	require.NoError(t, err)
	require.Equal(t, ItemRef{v.Tenant, spaceKeyring, v.Name, v.Revision}, ring.ref)
	if !v.Shredded.IsZero() {
		wraps, shredded, err := decodeRing(v.Body)
		require.NoError(t, err)
		require.True(t, ring.shredded)
		require.Empty(t, wraps)
		require.Equal(t, v.Shredded, shredded)
		return
	}
	require.Equal(t, v.Primary, ring.primary)
	require.Contains(t, ring.enabled, v.Primary)
	switch v.Name {
	case ringIndex:
		o, ok := ring.compute(v.Primary, []byte(v.Message))
		require.True(t, ok)
		require.Equal(t, []byte(v.Output), o[:])
	case ringData:
		value, err := ring.aead.Decrypt(v.Output, nil)
		require.NoError(t, err)
		require.Equal(t, v.Message, string(value))
	default:
		require.NoError(t, ring.mac.VerifyMAC(v.Output, []byte(v.Message)))
	}

	retired := &keks{primary: rawKEK{"another", bytes.Repeat([]byte{1}, 32)}.open(t), retired: []KEK{k.primary}}
	_, err = retired.open(t.Context(), item)
	require.NoError(t, err, "a retired KEK opens it too")
	for name, other := range map[string]Item{
		"tenant":   {v.Tenant + "x", spaceKeyring, v.Name, v.Revision, v.Body},
		"purpose":  {v.Tenant, spaceKeyring, v.Name + "x", v.Revision, v.Body},
		"revision": {v.Tenant, spaceKeyring, v.Name, v.Revision + 1, v.Body},
	} {
		_, err := k.open(t.Context(), other)
		require.Error(t, err, name)
	}
}

// kekVector: the file of a LocalKEK.
type kekVector struct {
	Comment    string          `json:"comment"`
	File       json.RawMessage `json:"file"`
	ID         string          `json:"id"`
	Ciphertext hexBytes        `json:"ciphertext"`
	AD         string          `json:"ad"`
	Plaintext  string          `json:"plaintext"`
}

func (v *kekVector) check(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek.json")
	require.NoError(t, os.WriteFile(path, v.File, 0o600))
	kek, err := LocalKEK(path)
	require.NoError(t, err)
	require.Equal(t, v.ID, kek.ID())
	value, err := kek.DecryptWithContext(t.Context(), v.Ciphertext, []byte(v.AD))
	require.NoError(t, err)
	require.Equal(t, v.Plaintext, string(value))
}
