package interop_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/interop/wire"
)

// The tests speak of keyrings as docs/formats.md defines them: which template each purpose has, and the associated data
// that binds one to its place. They spell it out once more on purpose: this is what another program would have to do.

var purposes = []struct {
	name     string
	tenant   string
	template wire.Template
}{
	{"index", "", wire.HMACPRF},
	{"record", "", wire.HMACTag},
	{"trail", "", wire.HMACTag},
	{"data", "acme", wire.AES256GCM},
}

// keyringAD is the associated data of a keyring.
func keyringAD(tenant, purpose string, revision uint64) []byte {
	ad := prefixed(nil, "keycote/keyring/v1")
	ad = prefixed(ad, tenant)
	ad = prefixed(ad, purpose)
	return binary.BigEndian.AppendUint64(ad, revision)
}

// valueAD is the associated data of a credential's sealed value.
func valueAD(tenant, id string, version uint64, origin string) []byte {
	ad := prefixed(nil, "keycote/value/v1")
	ad = prefixed(ad, tenant)
	ad = prefixed(ad, id)
	ad = binary.BigEndian.AppendUint64(ad, version)
	return prefixed(ad, origin)
}

// prefixed appends the length of s as four bytes, and s.
func prefixed(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func newKEK(t *testing.T) []byte {
	t.Helper()
	kek := make([]byte, 32)
	_, err := rand.Read(kek)
	require.NoError(t, err)
	return kek
}

// keyring is a keyset as it travels, with what opens it.
type keyring struct {
	kek, blob, ad []byte
	template      wire.Template
}

// makeKeyring has p make a keyring.
func makeKeyring(t *testing.T, p party, tenant, purpose string, template wire.Template) keyring {
	t.Helper()
	k := keyring{kek: newKEK(t), ad: keyringAD(tenant, purpose, 1), template: template}
	k.blob = p.must(t, k.ask(wire.Make))
	return k
}

// grow has p add a key that becomes the primary one.
func (k keyring) grow(t *testing.T, p party) keyring {
	t.Helper()
	k.blob = p.must(t, k.ask(wire.Grow))
	return k
}

// ask is a request for op under k.
func (k keyring) ask(op wire.Op) wire.Request {
	return wire.Request{Op: op, Template: k.template, KEK: k.kek, Keyset: k.blob, KeysetAD: k.ad}
}

func (k keyring) seal(input, ad []byte) wire.Request {
	r := k.ask(wire.Seal)
	r.Input, r.InputAD = input, ad
	return r
}

func (k keyring) open(sealed, ad []byte) wire.Request {
	r := k.ask(wire.Open)
	r.Input, r.InputAD = sealed, ad
	return r
}

func (k keyring) mac(input []byte) wire.Request {
	r := k.ask(wire.MAC)
	r.Input = input
	return r
}

func (k keyring) verify(tag, input []byte) wire.Request {
	r := k.ask(wire.Verify)
	r.Tag, r.Input = tag, input
	return r
}

func (k keyring) prf(input []byte, length uint32) wire.Request {
	r := k.ask(wire.PRF)
	r.Input, r.Length = input, length
	return r
}

// probe is a request that any keyring of k's template can answer: what it gives is not of interest, that it opens is.
func (k keyring) probe() wire.Request {
	switch k.template {
	case wire.HMACPRF:
		return k.prf([]byte("probe"), 32)
	case wire.HMACTag:
		return k.mac([]byte("probe"))
	}
	return k.seal([]byte("probe"), nil)
}

func TestKeyrings(t *testing.T) {
	t.Parallel()
	for _, p := range purposes {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			bothWays(t, func(t *testing.T, maker, reader party) {
				k := makeKeyring(t, maker, p.tenant, p.name, p.template)
				for _, party := range []party{maker, reader} {
					party.must(t, k.probe())
				}

				// A blob starts with three bytes of protobuf and the nonce. The old Tink puts its KeysetInfo last, in
				// clear and covered by nothing, so its last byte may be anything.
				wrong := []struct {
					name string
					k    keyring
				}{
					{"no associated data", keyring{k.kek, k.blob, nil, k.template}},
					{"another tenant", keyring{k.kek, k.blob, keyringAD("acmex", p.name, 1), k.template}},
					{"another purpose", keyring{k.kek, k.blob, keyringAD(p.tenant, p.name+"x", 1), k.template}},
					{"another revision", keyring{k.kek, k.blob, keyringAD(p.tenant, p.name, 2), k.template}},
					{"another KEK", keyring{newKEK(t), k.blob, k.ad, k.template}},
					{"a byte wrong", keyring{k.kek, flip(k.blob, 20), k.ad, k.template}},
				}
				for _, w := range wrong {
					for _, party := range []party{maker, reader} {
						party.refuses(t, w.k.probe(), "decryption failed", w.name)
					}
				}
			})
		})
	}
}

func TestSealedValues(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, maker, reader party) {
		k := makeKeyring(t, maker, "acme", "data", wire.AES256GCM)
		ad := valueAD("acme", "key_01arz3ndektsv4rrffq69g5fav", 3, "https://api.example.com:443")
		for _, value := range []string{"", "sk-live-1234567890", string(make([]byte, 4096))} {
			sealed := maker.must(t, k.seal([]byte(value), ad))
			require.Equal(t, byte(0x01), sealed[0], "TINK prefix")
			require.Len(t, sealed, 5+12+len(value)+16)
			require.Equal(t, value, string(reader.must(t, k.open(sealed, ad))))

			for _, other := range [][]byte{
				nil,
				valueAD("acmex", "key_01arz3ndektsv4rrffq69g5fav", 3, "https://api.example.com:443"),
				valueAD("acme", "key_01arz3ndektsv4rrffq69g5faw", 3, "https://api.example.com:443"),
				valueAD("acme", "key_01arz3ndektsv4rrffq69g5fav", 4, "https://api.example.com:443"),
				valueAD("acme", "key_01arz3ndektsv4rrffq69g5fav", 3, "https://api.example.com:8443"),
			} {
				maker.refuses(t, k.open(sealed, other), "decryption failed")
				reader.refuses(t, k.open(sealed, other), "decryption failed")
			}
			reader.refuses(t, k.open(flipLast(sealed), ad), "decryption failed")
		}
	})
}

func TestSeals(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, maker, reader party) {
		k := makeKeyring(t, maker, "", "record", wire.HMACTag)
		for _, body := range []string{"", "\x01body", string(make([]byte, 4096))} {
			input := prefixed([]byte("keycote/record/v1"), body)
			tag := maker.must(t, k.mac(input))
			require.Equal(t, byte(0x01), tag[0], "TINK prefix")
			require.Len(t, tag, 37)
			require.Equal(t, tag, reader.must(t, k.mac(input)))
			reader.must(t, k.verify(tag, input))

			event := prefixed([]byte("keycote/event/v1"), body)
			reader.refuses(t, k.verify(tag, event), "invalid mac")
			reader.refuses(t, k.verify(flipLast(tag), input), "invalid mac")
			maker.refuses(t, k.verify(flipLast(tag), input), "invalid mac")
		}
	})
}

func TestDigests(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, maker, reader party) {
		k := makeKeyring(t, maker, "", "index", wire.HMACPRF)
		seen := map[string]bool{}
		for _, input := range []string{"keycote/token/v1", "keycote/custom/v1", "keycote/import/v1"} {
			out := maker.must(t, k.prf([]byte(input), 32))
			require.Len(t, out, 32)
			require.Equal(t, out, reader.must(t, k.prf([]byte(input), 32)))
			require.Equal(t, out[:8], reader.must(t, k.prf([]byte(input), 8)), "shorter outputs are prefixes")
			seen[string(out)] = true
		}
		require.Len(t, seen, 3)
		maker.refuses(t, k.prf([]byte("x"), 33), "")
		reader.refuses(t, k.prf([]byte("x"), 33), "")
	})
}

// TestGrownKeyring: a key that either of them adds to the other's keyring becomes the primary one for both, and what was
// made under the key before still opens.
func TestGrownKeyring(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, maker, reader party) {
		data := makeKeyring(t, maker, "acme", "data", wire.AES256GCM)
		sealed := maker.must(t, data.seal([]byte("before"), nil))
		grown := data.grow(t, reader)
		require.Equal(t, "before", string(maker.must(t, grown.open(sealed, nil))))
		resealed := maker.must(t, grown.seal([]byte("after"), nil))
		require.NotEqual(t, sealed[:5], resealed[:5], "the key id says which key sealed it")
		require.Equal(t, "after", string(reader.must(t, grown.open(resealed, nil))))
		reader.refuses(t, data.open(resealed, nil), "decryption failed")

		record := makeKeyring(t, maker, "", "record", wire.HMACTag)
		tag := maker.must(t, record.mac([]byte("body")))
		grownRecord := record.grow(t, reader)
		maker.must(t, grownRecord.verify(tag, []byte("body")))
		require.NotEqual(t, tag, reader.must(t, grownRecord.mac([]byte("body"))))

		index := makeKeyring(t, maker, "", "index", wire.HMACPRF)
		out := maker.must(t, index.prf([]byte("value"), 32))
		grownIndex := index.grow(t, reader)
		require.NotEqual(t, out, maker.must(t, grownIndex.prf([]byte("value"), 32)))
		require.Equal(t, reader.must(t, grownIndex.prf([]byte("value"), 32)),
			maker.must(t, grownIndex.prf([]byte("value"), 32)))
	})
}

func flipLast(b []byte) []byte { return flip(b, len(b)-1) }

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}
