package keycote

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// numbers are 32-byte numbers: the ends of the range, and n that look random and are the same in every run.
func numbers(n int) [][32]byte {
	list := [][32]byte{{}, {31: 1}, {31: 61}, {31: 62}, {0: 0x80}}
	var all [32]byte
	for i := range all {
		all[i] = 0xff
	}
	list = append(list, all)
	for i := range n {
		list = append(list, sha256.Sum256(binary.BigEndian.AppendUint32([]byte("a number"), uint32(i))))
	}
	return list
}

// slowBase62 is base62 as math/big works it out, in the alphabet of this package and to the same width.
func slowBase62(n *big.Int, width int) string {
	var out []byte
	digit, rest, base := new(big.Int), new(big.Int).Set(n), big.NewInt(62)
	for rest.Sign() > 0 {
		rest.DivMod(rest, base, digit)
		out = append(out, base62[digit.Int64()])
	}
	for len(out) < width {
		out = append(out, '0')
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return string(out)
}

func TestBase62(t *testing.T) {
	t.Parallel()
	for _, n := range numbers(500) {
		text := string(appendBase62(nil, &n))
		require.Equal(t, slowBase62(new(big.Int).SetBytes(n[:]), payloadLen), text)
		var back [32]byte
		require.True(t, parseBase62(&back, text))
		require.Equal(t, n, back)
	}
	require.Equal(t, "keep", string(appendBase62([]byte("keep"), &[32]byte{})[:4]), "it appends")
}

func TestBase62Refuses(t *testing.T) {
	t.Parallel()
	limit := new(big.Int).Lsh(big.NewInt(1), 256)
	least := slowBase62(new(big.Int).Sub(limit, big.NewInt(1)), payloadLen)
	require.True(t, parseBase62(new([32]byte), least), "2^256-1 is the greatest")
	for _, c := range []struct {
		name string
		text string
	}{
		{"2^256", slowBase62(limit, payloadLen)},
		{"2^256 and a bit", slowBase62(new(big.Int).Add(limit, big.NewInt(62*62)), payloadLen)},
		{"the last of 43 characters", strings.Repeat("z", payloadLen)},
		{"a carry out of the last group alone", least[:payloadLen-1] + "z"},
		{"empty", ""},
		{"short", least[1:]},
		{"long", "0" + least},
		{"another alphabet", "-" + least[1:]},
		{"a blank at the end", least[:payloadLen-1] + " "},
		{"not ASCII", "é" + least[2:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.False(t, parseBase62(new([32]byte), c.text))
		})
	}
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	for _, sum := range []uint32{0, 1, 61, 62, 1 << 31, 1<<32 - 1} {
		require.Equal(t, slowBase62(new(big.Int).SetUint64(uint64(sum)), checksumLen), string(appendChecksum(nil, sum)))
	}
}

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	prefixes := []string{"kc", "k8", "acme_live", "a__b", "a_1", "x" + strings.Repeat("_", 30) + "x"}
	for _, prefix := range prefixes {
		for _, n := range numbers(20) {
			made := issued{prefix, n}
			text := made.String()
			require.True(t, issuedForm(text), text)
			require.Len(t, text, len(prefix)+1+tokenTail)
			back, ok := parseToken(text)
			require.True(t, ok, text)
			require.Equal(t, made, back)
			require.Equal(t, n[:4], binary.BigEndian.AppendUint32(nil, back.indexKey()))
			require.Equal(t, n[:24], back.seed())
			require.Equal(t, n[24:], back.tag())
		}
	}
}

// TestTokenReadFromTheRight: Unkey and Seam cut at the first underscore, and took part of a prefix for the key.
func TestTokenReadFromTheRight(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", tokenTail)
	tok := issued{prefix: "my_app_" + long[:20]}
	back, ok := parseToken(tok.String())
	require.True(t, ok)
	require.Equal(t, tok.prefix, back.prefix)
}

func TestIssuedForm(t *testing.T) {
	t.Parallel()
	tail := strings.Repeat("0", tokenTail)
	for _, c := range []struct {
		name  string
		value string
		want  bool
	}{
		{"least prefix", "kc_" + tail, true},
		{"longest prefix", strings.Repeat("k", 32) + "_" + tail, true},
		{"underscores inside", "a__b_" + tail, true},
		{"whatever the checksum", "kc_" + tail[1:] + "z", true},
		{"empty", "", false},
		{"no prefix", "_" + tail, false},
		{"prefix of one", "k_" + tail, false},
		{"prefix of 33", strings.Repeat("k", 33) + "_" + tail, false},
		{"prefix that begins with a digit", "1k_" + tail, false},
		{"prefix that begins with an underscore", "_k_" + tail, false},
		{"prefix that ends with an underscore", "k__" + tail, false},
		{"upper case in the prefix", "kC_" + tail, false},
		{"no underscore", "kcx" + tail, false},
		{"a character less", "kc_" + tail[1:], false},
		{"a character more", "kc_" + tail + "0", false},
		{"blank before", " kc_" + tail, false},
		{"blank behind", "kc_" + tail[1:] + " ", false},
		{"newline behind", "kc_" + tail + "\n", false},
		{"underscore in the number", "kc_" + tail[:9] + "_" + tail[10:], false},
		{"not ASCII", "kc_" + tail[2:] + "é", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, issuedForm(c.value))
			require.False(t, issuedForm(c.value) && len(c.value) > maxToken)
		})
	}
}

// TestTokenChanges: a key with a character mistyped, or two swapped, is told from a key without asking anybody.
func TestTokenChanges(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"kc", "acme_live2"} {
		tok := issued{prefix, sha256.Sum256([]byte(prefix))}
		text := tok.String()
		for i := range len(text) {
			for c := range 256 {
				if byte(c) == text[i] {
					continue
				}
				changed := text[:i] + string([]byte{byte(c)}) + text[i+1:]
				_, ok := parseToken(changed)
				require.False(t, ok, "%q", changed)
			}
			dropped := text[:i] + text[i+1:]
			_, ok := parseToken(dropped)
			require.False(t, ok, "%q", dropped)
			if i > 0 && text[i] != text[i-1] {
				swapped := text[:i-1] + text[i:i+1] + text[i-1:i] + text[i+1:]
				_, ok = parseToken(swapped)
				require.False(t, ok, "%q", swapped)
			}
		}
	}
}

// TestTokenOverflow: a number of 2^256 or more is refused though its checksum is right, so that no key has two texts.
func TestTokenOverflow(t *testing.T) {
	t.Parallel()
	over := new(big.Int).Lsh(big.NewInt(1), 256)
	text := "kc_" + slowBase62(over, payloadLen)
	text = string(appendChecksum([]byte(text), checksum(text)))
	require.True(t, issuedForm(text))
	_, ok := parseToken(text)
	require.False(t, ok)

	over.Sub(over, big.NewInt(1))
	text = "kc_" + slowBase62(over, payloadLen)
	_, ok = parseToken(string(appendChecksum([]byte(text), checksum(text))))
	require.True(t, ok)
}

// TestParseTokenAllocatesNothing is not parallel, because it counts what the whole process allocates.
func TestParseTokenAllocatesNothing(t *testing.T) {
	tok := issued{"acme_live", sha256.Sum256([]byte("a token"))}
	good := tok.String()
	for _, c := range []struct {
		name  string
		value string
		want  bool
	}{
		{"good", good, true},
		{"mistyped", good[:len(good)-1] + "!", false},
		{"wrong checksum", good[:len(good)-6] + "000000", false},
		{"long", strings.Repeat(good, 1000), false},
	} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, ok := parseToken(c.value); ok != c.want {
				panic(c.name)
			}
		}), c.name)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	tok := issued{"acme_live", sha256.Sum256([]byte("a token"))}
	text := tok.String()
	for _, c := range []struct {
		name, value, prefix, want string
	}{
		{"issued", text, "acme_live", "acme_live_…" + text[len(text)-4:]},
		{"20 characters", "abcdefghijklmnopqrst", "", "…qrst"},
		{"19 characters", "abcdefghijklmnopqrs", "", "••••"},
		{"5 characters", "12345", "", "••••"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := hintOf(c.value, c.prefix)
			require.Equal(t, c.want, got)
			require.False(t, presentable(got), "a hint can never be presented as a value")
		})
	}
}

// FuzzToken: whatever is presented, the parser neither panics nor takes two texts for one key.
func FuzzToken(f *testing.F) {
	for _, n := range numbers(2) {
		for _, prefix := range []string{"kc", "acme_live", strings.Repeat("k", maxPrefix)} {
			tok := issued{prefix, n}
			text := tok.String()
			f.Add(text, prefix, n[:])
			f.Add(text[:len(text)-1]+"0", prefix, n[:4])
		}
	}
	f.Add("", "", []byte{})
	f.Add("kc_"+strings.Repeat("z", tokenTail), "k_", []byte("much more than the thirty-two bytes of a number"))
	f.Fuzz(func(t *testing.T, value, prefix string, number []byte) {
		if tok, ok := parseToken(value); ok {
			require.True(t, issuedForm(value))
			require.Equal(t, value, tok.String())
			require.Equal(t, len(value)-1-tokenTail, len(tok.prefix))
		}
		tok := issued{prefix: prefix}
		copy(tok.number[:], number)
		if !prefixOK(prefix) {
			return
		}
		back, ok := parseToken(tok.String())
		require.True(t, ok)
		require.Equal(t, tok, back)
	})
}

func TestChecksumIsIEEEs(t *testing.T) {
	t.Parallel()
	for n := range 100 {
		b := randomMessage(n)
		require.Equal(t, crc32.ChecksumIEEE(b), checksum(string(b)))
	}
}
