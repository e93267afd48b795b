package keycote

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// keysetOf makes a keyset of one key for each template, the last of which is primary.
func keysetOf(t *testing.T, templates ...*tinkpb.KeyTemplate) *keyset.Handle {
	t.Helper()
	m := keyset.NewManager()
	for _, template := range templates {
		id, err := m.Add(template)
		require.NoError(t, err)
		require.NoError(t, m.SetPrimary(id))
	}
	handle, err := m.Handle()
	require.NoError(t, err)
	return handle
}

func randomMessage(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TestPRFIsTinks holds the kept HMAC against Tink's own, for each key of keysets of every kind of key.
func TestPRFIsTinks(t *testing.T) {
	t.Parallel()
	ours, sha512, cmac := prf.HMACSHA256PRFKeyTemplate(), prf.HMACSHA512PRFKeyTemplate(), prf.AESCMACPRFKeyTemplate()
	for _, c := range []struct {
		name      string
		templates []*tinkpb.KeyTemplate
		kept      int
	}{
		{"ours", []*tinkpb.KeyTemplate{ours}, 1},
		{"rotated", []*tinkpb.KeyTemplate{ours, ours, ours}, 3},
		{"another hash", []*tinkpb.KeyTemplate{sha512, ours}, 1},
		{"another kind", []*tinkpb.KeyTemplate{cmac}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			handle := keysetOf(t, c.templates...)
			want, err := prf.NewPRFSet(handle)
			require.NoError(t, err)
			got, err := indexPRFs(handle)
			require.NoError(t, err)
			require.Len(t, got, len(c.templates))
			kept := 0
			for id, p := range got {
				if _, ok := p.(*hmacKey); ok {
					kept++
				}
				for n := range 300 {
					message := randomMessage(n)
					length := uint32(1 + n%16)
					a, err := want.PRFs[id].ComputePRF(message, length)
					require.NoError(t, err)
					b, err := p.ComputePRF(message, length)
					require.NoError(t, err)
					require.Equal(t, a, b)
				}
				_, err = p.ComputePRF(nil, 65)
				require.Error(t, err)
			}
			require.Equal(t, c.kept, kept)
		})
	}
}

func TestCommitmentIsHMAC(t *testing.T) {
	t.Parallel()
	for n := range 1100 { // beyond what has room on the stack
		salt, value := randomMessage(saltLen), randomMessage(n)
		h := hmac.New(sha256.New, salt)
		h.Write(append([]byte("field\x00"), value...))
		sum := commitment(salt, "field", string(value))
		require.Equal(t, h.Sum(nil), sum[:])
	}
}

// TestSealIsTinks holds the kept HMAC against Tink's own: what the one makes, the other verifies, and what the one
// refuses, the other does.
func TestSealIsTinks(t *testing.T) {
	t.Parallel()
	ours, short, sha512 := mac.HMACSHA256Tag256KeyTemplate(), mac.HMACSHA256Tag128KeyTemplate(), mac.HMACSHA512Tag256KeyTemplate()
	raw, legacy := mac.HMACSHA256Tag256KeyTemplate(), mac.HMACSHA256Tag256KeyTemplate()
	raw.OutputPrefixType, legacy.OutputPrefixType = tinkpb.OutputPrefixType_RAW, tinkpb.OutputPrefixType_LEGACY
	for _, c := range []struct {
		name      string
		templates []*tinkpb.KeyTemplate
		kept      int
	}{
		{"ours", []*tinkpb.KeyTemplate{ours}, 1},
		{"rotated", []*tinkpb.KeyTemplate{ours, ours, ours}, 3},
		{"a shorter tag", []*tinkpb.KeyTemplate{ours, short}, 1},
		{"another hash", []*tinkpb.KeyTemplate{ours, sha512}, 1},
		{"another kind", []*tinkpb.KeyTemplate{mac.AESCMACTag128KeyTemplate(), ours}, 1},
		{"without a prefix", []*tinkpb.KeyTemplate{ours, raw}, 1},
		{"with another prefix", []*tinkpb.KeyTemplate{legacy}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			handle := keysetOf(t, c.templates...)
			tinks, err := mac.New(handle)
			require.NoError(t, err)
			kept, err := newSealMAC(handle)
			require.NoError(t, err)
			require.Len(t, kept.(*sealMAC).keys, c.kept)
			for n := range 300 {
				message := randomMessage(n)
				a, err := tinks.ComputeMAC(message)
				require.NoError(t, err)
				b, err := kept.ComputeMAC(message)
				require.NoError(t, err)
				require.Equal(t, a, b)
				require.NoError(t, kept.VerifyMAC(a, message))
				require.Error(t, kept.VerifyMAC(a, append(message, 0)))
				require.Error(t, kept.VerifyMAC(a[:len(a)-1], message))
				for _, flipped := range flips(a) {
					require.Error(t, kept.VerifyMAC(flipped, message))
				}
			}
			require.Error(t, kept.VerifyMAC(nil, nil))
		})
	}
}

// TestADisabledKeySealsNothing: what Tink would not verify any more, is not verified.
func TestADisabledKeySealsNothing(t *testing.T) {
	t.Parallel()
	m := keyset.NewManagerFromHandle(keysetOf(t, mac.HMACSHA256Tag256KeyTemplate(), mac.HMACSHA256Tag256KeyTemplate()))
	handle, err := m.Handle()
	require.NoError(t, err)
	first, err := handle.Entry(0)
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(first.KeyID()))
	before, err := m.Handle()
	require.NoError(t, err)
	had, err := newSealMAC(before)
	require.NoError(t, err)
	seal, err := had.ComputeMAC([]byte("message"))
	require.NoError(t, err)
	require.NoError(t, had.VerifyMAC(seal, []byte("message")))

	second, err := handle.Entry(1)
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(second.KeyID()))
	require.NoError(t, m.Disable(first.KeyID()))
	after, err := m.Handle()
	require.NoError(t, err)
	has, err := newSealMAC(after)
	require.NoError(t, err)
	require.Error(t, has.VerifyMAC(seal, []byte("message")))
}

func TestHMACKeyIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	prfs, err := indexPRFs(keysetOf(t, prf.HMACSHA256PRFKeyTemplate()))
	require.NoError(t, err)
	for _, p := range prfs {
		k := p.(*hmacKey)
		a, b := k.compute([]byte("a")), k.compute([]byte("b"))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 1000 {
					if k.compute([]byte("a")) != a || k.compute([]byte("b")) != b {
						t.Error("one caller's state was another's")
						return
					}
				}
			})
		}
		wg.Wait()
	}
}
