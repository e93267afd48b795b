package keycote

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// Ids are ULIDs in lower-case Crockford base32 behind a word that says what they name: 48 bits of milliseconds and 80
// random bits, so that order by id is oldest first.
const (
	keyIDPrefix   = "key_"
	eventIDPrefix = "evt_"
	idChars       = 26
	crockford     = "0123456789abcdefghjkmnpqrstvwxyz"
)

// idSource makes ids that rise within a process, also when the clock stands still or goes back.
type idSource struct {
	mu   sync.Mutex
	last [16]byte
}

func (s *idSource) next(prefix string, now time.Time) string {
	var id [16]byte
	ms := uint64(max(now.UnixMilli(), 0))
	binary.BigEndian.PutUint16(id[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(ms))
	_, _ = rand.Read(id[6:]) // crypto/rand never fails: it ends the process first

	s.mu.Lock()
	if string(id[:6]) <= string(s.last[:6]) {
		id = s.last
		increment(id[:])
	}
	s.last = id
	s.mu.Unlock()

	b := make([]byte, 0, len(prefix)+idChars)
	return string(appendCrockford(append(b, prefix...), &id))
}

// increment adds one to a big-endian number. The 80 random bits overflow into the milliseconds, which is what rising
// asks for.
func increment(n []byte) {
	for i := len(n) - 1; i >= 0; i-- {
		n[i]++
		if n[i] != 0 {
			return
		}
	}
}

// appendCrockford writes 128 bits as 26 characters, the first of which holds the two bits that are left over.
func appendCrockford(dst []byte, id *[16]byte) []byte {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var out [idChars]byte
	for i := idChars - 1; i >= 0; i-- {
		out[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return append(dst, out[:]...)
}

// idOK reports whether id has the form of an id behind prefix. What has not cannot name anything, and is kept out of
// stores, logs and errors: people paste keys where ids belong.
func idOK(prefix, id string) bool {
	if len(id) != len(prefix)+idChars || id[:len(prefix)] != prefix {
		return false
	}
	for i := len(prefix); i < len(id); i++ {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') || c == 'i' || c == 'l' || c == 'o' || c == 'u' {
			return false
		}
	}
	return true
}

func keyIDOK(id string) bool { return idOK(keyIDPrefix, id) }

// newBatchID names a Batch, so that one whose outcome is unknown can be repeated.
func newBatchID() string { return rand.Text() }
