package keycote

import (
	"crypto/sha256"
	"encoding/binary"
)

// out is what the index PRF says of a message: the first 8 bytes prove an issued key, the other 24 find it.
type out [32]byte

func (o *out) tag() []byte { return o[:tagLen] }

func (o *out) sum() (d [digestLen]byte) {
	copy(d[:], o[tagLen:])
	return d
}

// The messages that go into the PRF. Each begins with a label of its own, so that no value of one kind can be found as
// another; every part but the last carries its length.

func tokenMessage(t *issued) []byte {
	b := make([]byte, 0, 16+4+maxPrefix+4+randomLen)
	b = append(b, "keycote/token/v1"...)
	b = appendL(b, t.prefix)
	return append(b, t.seed()...)
}

func chosenMessage(tenant, value string) []byte {
	h := sha256.Sum256([]byte(value))
	return append(appendL([]byte("keycote/custom/v1"), tenant), h[:]...)
}

func importMessage(value string) []byte {
	h := sha256.Sum256([]byte(value))
	return append([]byte("keycote/import/v1"), h[:]...)
}

// requestMessage is of a RequestID. The scope of one is what it names: for Add and Issue the actor who asks, for Rotate
// the key.
func requestMessage(tenant string, action Action, scope, requestID string) []byte {
	b := appendL([]byte("keycote/request/v1"), tenant)
	b = appendL(b, string(action))
	b = appendL(b, scope)
	return append(b, requestID...)
}

// paramsMessage is of what came with a RequestID.
func paramsMessage(params []byte) []byte {
	return appendL([]byte("keycote/params/v1"), params)
}

// What the seals and the AEAD are bound to.

func recordSealed(body []byte) []byte { return sealed("keycote/record/v1", body) }
func eventSealed(body []byte) []byte  { return sealed("keycote/event/v1", body) }

func sealed(label string, body []byte) []byte {
	b := make([]byte, 0, len(label)+4+len(body))
	return appendL(append(b, label...), body)
}

func valueAD(tenant, id string, version int, origin string) []byte {
	b := appendL([]byte(nil), "keycote/value/v1")
	b = appendL(b, tenant)
	b = appendL(b, id)
	b = binary.BigEndian.AppendUint64(b, uint64(version))
	return appendL(b, origin)
}

func keyringAD(tenant, purpose string, revision int64) []byte {
	b := appendL([]byte(nil), "keycote/keyring/v1")
	b = appendL(b, tenant)
	b = appendL(b, purpose)
	return binary.BigEndian.AppendUint64(b, uint64(revision))
}
