package interop_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/interop/newtink"
	"github.com/keycote/keycote/interop/wire"
)

// vector is a keyring that was written once, and something made under it. It is kept for ever.
type vector struct {
	Comment  string        `json:"comment"`
	Tenant   string        `json:"tenant"`
	Purpose  string        `json:"purpose"`
	Revision uint64        `json:"revision"`
	Template wire.Template `json:"template"`
	KEK      []byte        `json:"kek"`     // a raw AES-256-GCM key
	Keyring  []byte        `json:"keyring"` // the wrap of one KEK, as an Item of Space keyring holds it
	Input    []byte        `json:"input"`
	InputAD  []byte        `json:"inputAd,omitempty"`
	Output   []byte        `json:"output"` // PRF output, tag, or ciphertext of Input
}

func (v vector) keyring() keyring {
	return keyring{v.KEK, v.Keyring, keyringAD(v.Tenant, v.Purpose, v.Revision), v.Template}
}

var newVectors = flag.Bool("new-vectors", false, "write the vectors that are not there yet; never changes one that is")

// TestVectors opens every keyring in testdata/keyrings with both modules. A case is added by adding a file.
func TestVectors(t *testing.T) {
	t.Parallel()
	if *newVectors {
		writeVectors(t)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "keyrings", "*.json"))
	require.NoError(t, err)
	covered := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var v vector
		require.NoError(t, json.Unmarshal(text, &v), file)
		covered[v.Purpose] = true

		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			ours, theirs := parties(t)
			for _, p := range []party{ours, theirs} {
				v.check(t, p)
			}
		})
	}
	for _, p := range purposes {
		require.True(t, covered[p.name], "no vector of a keyring for %s", p.name)
	}
}

func (v vector) check(t *testing.T, p party) {
	t.Helper()
	k := v.keyring()
	switch v.Template {
	case wire.HMACPRF:
		require.Equal(t, v.Output, p.must(t, k.prf(v.Input, uint32(len(v.Output)))), p.name)
	case wire.HMACTag:
		require.Equal(t, v.Output, p.must(t, k.mac(v.Input)), p.name)
		p.must(t, k.verify(v.Output, v.Input))
		p.refuses(t, k.verify(flipLast(v.Output), v.Input), "invalid mac")
	case wire.AES256GCM:
		require.Equal(t, v.Input, p.must(t, k.open(v.Output, v.InputAD)), p.name)
		p.refuses(t, k.open(v.Output, flipLast(v.InputAD)), "decryption failed")
	default:
		require.Fail(t, "unknown template", v.Template)
	}
	k.ad = keyringAD(v.Tenant, v.Purpose, v.Revision+1)
	p.refuses(t, k.probe(), "decryption failed")
}

// writeVectors makes one keyring per purpose by the calls that Keycote makes.
func writeVectors(t *testing.T) {
	t.Helper()
	p := party{"tink-go v2", newtink.Serve}
	for _, purpose := range purposes {
		v := vector{
			Comment: "written by tink-go v2.9.0, by the calls that Keycote makes",
			Tenant:  purpose.tenant, Purpose: purpose.name, Revision: 1, Template: purpose.template,
		}
		k := makeKeyring(t, p, v.Tenant, v.Purpose, v.Template)
		v.KEK, v.Keyring = k.kek, k.blob
		switch v.Template {
		case wire.HMACPRF:
			v.Input = prefixed([]byte("keycote/custom/v1"), "acme")
			v.Output = p.must(t, k.prf(v.Input, 32))
		case wire.HMACTag:
			v.Input = prefixed([]byte("keycote/record/v1"), "\x01body")
			v.Output = p.must(t, k.mac(v.Input))
		case wire.AES256GCM:
			v.Input = []byte("sk-live-1234567890")
			v.InputAD = valueAD("acme", "key_01arz3ndektsv4rrffq69g5fav", 1, "https://api.example.com:443")
			v.Output = p.must(t, k.seal(v.Input, v.InputAD))
		}
		text, err := json.MarshalIndent(v, "", "  ")
		require.NoError(t, err)
		f, err := os.OpenFile(filepath.Join("testdata", "keyrings", "tink-v2.9.0-"+v.Purpose+".json"),
			os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if os.IsExist(err) {
			continue
		}
		require.NoError(t, err)
		_, err = f.Write(append(text, '\n'))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}
