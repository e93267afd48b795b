package keycote

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"
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
	return chosenSumMessage(tenant, sha256.Sum256([]byte(value)))
}

func chosenSumMessage(tenant string, sum [sha256.Size]byte) []byte {
	b := make([]byte, 0, 17+4+len(tenant)+len(sum))
	b = appendL(append(b, "keycote/custom/v1"...), tenant)
	return append(b, sum[:]...)
}

// importMessage is of a value that another system made: an operator who brings it need know only its SHA-256.
func importMessage(sum [sha256.Size]byte) []byte {
	b := make([]byte, 0, 17+len(sum))
	return append(append(b, "keycote/import/v1"...), sum[:]...)
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

const (
	recordLabel = "keycote/record/v1"
	eventLabel  = "keycote/event/v1"
)

// sealBuffers spare each seal a copy of the body.
var sealBuffers = sync.Pool{New: func() any { return new([]byte) }}

// seal is a MAC of label ‖ L(body).
func seal(m tink.MAC, label string, body []byte) ([]byte, error) {
	buf := sealBuffers.Get().(*[]byte)
	defer sealBuffers.Put(buf)
	*buf = appendL(append((*buf)[:0], label...), body)
	return m.ComputeMAC(*buf)
}

// sealHolds reports whether mac is what seal makes.
func sealHolds(m tink.MAC, mac []byte, label string, body []byte) bool {
	buf := sealBuffers.Get().(*[]byte)
	defer sealBuffers.Put(buf)
	*buf = appendL(append((*buf)[:0], label...), body)
	return m.VerifyMAC(mac, *buf) == nil
}

func valueAD(tenant, id string, version int, origin string) []byte {
	const label = "keycote/value/v1"
	b := make([]byte, 0, 4+len(label)+4+len(tenant)+4+len(id)+8+4+len(origin))
	b = appendL(b, label)
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
