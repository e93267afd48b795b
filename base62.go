package keycote

import (
	"encoding/binary"
	"math/bits"
)

// base62 is GitHub's alphabet, digits first. Numbers are written big-endian and padded on the left with '0'.
const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var base62Value = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(base62) {
		t[base62[i]] = byte(i)
	}
	return t
}()

// pow62x10 is the largest power of 62 that fits a word: ten digits are read or written per pass over the number.
const pow62x10 = 839299365868340224

// appendBase62 appends n as 43 characters: 62^43 is just over 2^256.
func appendBase62(dst []byte, n *[32]byte) []byte {
	var limbs [4]uint64
	for i := range limbs {
		limbs[i] = binary.BigEndian.Uint64(n[i*8:])
	}
	var out [50]byte
	for group := 4; group >= 0; group-- {
		var rem uint64
		for i := range limbs {
			limbs[i], rem = bits.Div64(rem, limbs[i], pow62x10)
		}
		for i := 9; i >= 0; i-- {
			out[group*10+i] = base62[rem%62]
			rem /= 62
		}
	}
	return append(dst, out[50-payloadLen:]...)
}

// parseBase62 reads the 43 characters of s into n. It refuses other characters and numbers of 2^256 or more.
func parseBase62(n *[32]byte, s string) bool {
	if len(s) != payloadLen {
		return false
	}
	var limbs [4]uint64 // most significant first
	for len(s) > 0 {
		digits := (len(s)-1)%10 + 1 // 3, then 10 at a time
		var chunk uint64
		scale := uint64(1)
		for i := range digits {
			v := base62Value[s[i]]
			if v == 0xff {
				return false
			}
			chunk = chunk*62 + uint64(v)
			scale *= 62
		}
		carry := chunk
		for i := 3; i >= 0; i-- {
			hi, lo := bits.Mul64(limbs[i], scale)
			sum, c := bits.Add64(lo, carry, 0)
			limbs[i], carry = sum, hi+c
		}
		if carry != 0 {
			return false
		}
		s = s[digits:]
	}
	for i, l := range limbs {
		binary.BigEndian.PutUint64(n[i*8:], l)
	}
	return true
}

// appendChecksum appends sum as 6 characters: 62^6 is over 2^32.
func appendChecksum(dst []byte, sum uint32) []byte {
	var out [checksumLen]byte
	for i := checksumLen - 1; i >= 0; i-- {
		out[i] = base62[sum%62]
		sum /= 62
	}
	return append(dst, out[:]...)
}
