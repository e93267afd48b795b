package keycote

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"sync"

	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	machmac "github.com/tink-crypto/tink-go/v2/mac/hmac"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Tink makes a new HMAC for each call, and so hashes the key anew each time: three quarters of a short call, and more
// than half of an uncached Verify. Where a key of a root keyring is plain HMAC-SHA-256, crypto/hmac is used for it with
// its state kept; whatever else a keyset may hold stays with Tink. The outputs are the same to the byte, and a test
// holds them together. Only crypto.go and this file see key material.

// hmacKey is HMAC-SHA-256 under one key. It is safe for concurrent use.
type hmacKey struct{ idle sync.Pool }

// hmacState belongs to one caller at a time. What is hashed and what comes of it pass through it: a caller's own bytes
// would be moved to the heap, because nothing is known of what a hash.Hash does with them.
type hmacState struct {
	hash.Hash
	part [512]byte
	sum  [sha256.Size]byte
}

func newHMACKey(b secretdata.Bytes) *hmacKey {
	key := b.Data(insecuresecretdataaccess.Token{})
	return &hmacKey{sync.Pool{New: func() any { return &hmacState{Hash: hmac.New(sha256.New, key)} }}}
}

func (k *hmacKey) compute(message []byte) (sum [sha256.Size]byte) {
	s := k.idle.Get().(*hmacState)
	s.Reset()
	for len(message) > 0 {
		n := copy(s.part[:], message)
		s.Write(s.part[:n])
		message = message[n:]
	}
	s.Sum(s.sum[:0])
	sum = s.sum
	k.idle.Put(s)
	return sum
}

// ComputePRF makes hmacKey a prf.PRF.
func (k *hmacKey) ComputePRF(message []byte, length uint32) ([]byte, error) {
	if length > sha256.Size {
		return nil, errors.New("the output is too long")
	}
	sum := k.compute(message)
	return sum[:length], nil
}

// indexPRFs are the PRFs of a keyset, those of plain HMAC-SHA-256 by hmacKey.
func indexPRFs(handle *keyset.Handle) (map[uint32]prf.PRF, error) {
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		return nil, err
	}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, err
		}
		k, ok := entry.Key().(*hmacprf.Key)
		if !ok || set.PRFs[entry.KeyID()] == nil {
			continue
		}
		if p, ok := k.Parameters().(*hmacprf.Parameters); ok && p.HashType() == hmacprf.SHA256 {
			set.PRFs[entry.KeyID()] = newHMACKey(k.KeyBytes())
		}
	}
	return set.PRFs, nil
}

// tinkPrefix is what the output of a key begins with: a version byte and the key's id.
type tinkPrefix [5]byte

func newTinkPrefix(id uint32) (p tinkPrefix) {
	p[0] = 0x01
	binary.BigEndian.PutUint32(p[1:], id)
	return p
}

// sealMAC is the MAC of a keyset. What a kept key does not vouch for is Tink's to judge.
type sealMAC struct {
	tink.MAC
	primary tinkPrefix // zero: Tink's
	keys    map[tinkPrefix]*hmacKey
}

func newSealMAC(handle *keyset.Handle) (tink.MAC, error) {
	all, err := mac.New(handle)
	if err != nil {
		return nil, err
	}
	m := &sealMAC{MAC: all, keys: map[tinkPrefix]*hmacKey{}}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, err
		}
		k, ok := entry.Key().(*machmac.Key)
		if !ok || entry.KeyStatus() != keyset.Enabled {
			continue
		}
		p, ok := k.Parameters().(*machmac.Parameters)
		if !ok || p.HashType() != machmac.SHA256 || p.CryptographicTagSizeInBytes() != sha256.Size ||
			p.Variant() != machmac.VariantTink {
			continue
		}
		prefix := newTinkPrefix(entry.KeyID())
		if m.keys[prefix] = newHMACKey(k.KeyBytes()); entry.IsPrimary() {
			m.primary = prefix
		}
	}
	return m, nil
}

func (m *sealMAC) ComputeMAC(data []byte) ([]byte, error) {
	k := m.keys[m.primary]
	if k == nil {
		return m.MAC.ComputeMAC(data)
	}
	sum := k.compute(data)
	return append(append(make([]byte, 0, len(m.primary)+len(sum)), m.primary[:]...), sum[:]...), nil
}

func (m *sealMAC) VerifyMAC(mac, data []byte) error {
	if n := len(tinkPrefix{}); len(mac) == n+sha256.Size {
		if k := m.keys[tinkPrefix(mac[:n])]; k != nil {
			if sum := k.compute(data); hmac.Equal(sum[:], mac[n:]) {
				return nil
			}
		}
	}
	return m.MAC.VerifyMAC(mac, data)
}
