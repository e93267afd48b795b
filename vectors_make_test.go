package keycote

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

var updateVectors = flag.Bool("update", false, "write the vectors that are not there yet; never changes one that is")

// makeVectors writes the vectors below whose files are not there.
func makeVectors(t *testing.T) {
	t.Helper()
	require.NoError(t, os.MkdirAll(vectorDir, 0o755))
	for name, make := range newVectors {
		path := filepath.Join(vectorDir, name+".json")
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
			continue
		}
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		require.NoError(t, e.Encode(make(t)), name)
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		require.NoError(t, err)
		_, err = f.Write(text.Bytes())
		require.NoError(t, errors.Join(err, f.Close()))
	}
}

const (
	vectorKeyID   = "key_01jd8q2v7nx5m0c3r9t4bke6wz"
	vectorEventID = "evt_01jd8q2v7nx5m0c3r9t4bke6x0"
)

var vectorTime = time.Date(2026, 3, 4, 5, 6, 7, 89_012_000, time.UTC)

var newVectors = map[string]func(*testing.T) any{
	"token-kc":          func(t *testing.T) any { return newToken(t, "the default prefix", "kc") },
	"token-underscores": func(t *testing.T) any { return newToken(t, "a prefix with underscores", "acme_live__2") },
	"token-longest-prefix": func(t *testing.T) any {
		return newToken(t, "the longest prefix", "k"+strings.Repeat("9_", 15)+"k")
	},
	"refused-checksum": newRefusedChecksums,
	"refused-overflow": newRefusedOverflows,
	"refused-form":     newRefusedForms,
	"checksum-github": func(*testing.T) any {
		return newChecksum("GitHub's own example", "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")
	},
	"checksum-empty": func(*testing.T) any { return newChecksum("padded on the left", "") },
	"digest-chosen": func(t *testing.T) any {
		return newDigest(t, digestVector{
			Comment: "in a tenant", Of: "chosen", Tenant: "acme", Value: "tulip-Quartz-91-lantern",
		})
	},
	"digest-chosen-unnamed": func(t *testing.T) any {
		return newDigest(t, digestVector{
			Comment: "in the unnamed tenant", Of: "chosen", Value: "tulip-Quartz-91-lantern",
		})
	},
	"digest-import": func(t *testing.T) any {
		return newDigest(t, digestVector{
			Comment: "known to all tenants", Of: "import", Value: "sk-0123456789abcdef",
		})
	},
	"digest-request-issue": func(t *testing.T) any {
		return newDigest(t, digestVector{
			Comment: "of Issue", Of: "request", Tenant: "acme", Action: ActionIssue, Scope: "ann", RequestID: "form 17",
		})
	},
	"digest-request-rotate": func(t *testing.T) any {
		return newDigest(t, digestVector{
			Comment: "of Rotate", Of: "request", Action: ActionRotate, Scope: vectorKeyID, RequestID: "form 17",
		})
	},
	"digest-params": func(t *testing.T) any {
		return newDigest(t, digestVector{
			Comment: "what a retry must repeat", Of: "params", Params: []byte("whatever came with the RequestID"),
		})
	},
	"seal-record":       func(t *testing.T) any { return newSeal(t, "record", recordLabel) },
	"seal-event":        func(t *testing.T) any { return newSeal(t, "event", eventLabel) },
	"record-full":       func(t *testing.T) any { return newRecordVector(t, "something in every field", fullRecord()) },
	"record-least":      func(t *testing.T) any { return newRecordVector(t, "as little as there can be", leastRecord()) },
	"record-credential": newCredentialRecord,
	"record-later":      newLaterRecord,
	"event-update":      func(t *testing.T) any { return newEventVector(t, "something in every field", fullEvent()) },
	"event-refused":     newRefusedEvent,
	"value-credential": func(t *testing.T) any {
		return newValue(t, "in a tenant", "acme", "https://api.example.com/v1", "app-7Rk2mQx9TzLw4Bn8")
	},
	"value-credential-unnamed": func(t *testing.T) any {
		return newValue(t, "in the unnamed tenant", "", "http://[2001:DB8:0:0::1]:8080", "12345")
	},
	"keyring-index":    func(t *testing.T) any { return newRing(t, "", ringIndex) },
	"keyring-record":   func(t *testing.T) any { return newRing(t, "", ringRecord) },
	"keyring-trail":    func(t *testing.T) any { return newRing(t, "", ringTrail) },
	"keyring-data":     func(t *testing.T) any { return newRing(t, "acme", ringData) },
	"keyring-shredded": newTombstone,
	"kek-local":        newLocalKEK,
}

// newKeyset makes a keyset of a keyring's kind, in Tink's JSON and in clear.
func newKeyset(t *testing.T, name string) (json.RawMessage, *keyring) {
	t.Helper()
	handle, err := keyset.NewHandle(ringTemplates[name]())
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)))
	return text.Bytes(), openKeyset(t, name, text.Bytes())
}

func newToken(t *testing.T, comment, prefix string) tokenVector {
	text, ring := newKeyset(t, ringIndex)
	v := tokenVector{Comment: comment, Keyset: text, Prefix: prefix, KeyID: ring.primary}
	seed := sha256.Sum256([]byte(prefix))
	v.Random = seed[:randomLen]
	tok := issued{prefix: prefix}
	binary.BigEndian.PutUint32(tok.number[:4], v.KeyID)
	copy(tok.number[4:], v.Random)
	o, ok := ring.compute(v.KeyID, tokenMessage(&tok))
	require.True(t, ok)
	copy(tok.tag(), o.tag())
	sum := o.sum()
	v.Token, v.Digest, v.Hint = tok.String(), sum[:], hintOf(tok.String(), prefix)
	return v
}

func newRefusedChecksums(*testing.T) any {
	tok := issued{"kc", sha256.Sum256([]byte("refused"))}
	good := tok.String()
	return refusedVector{Comment: "the checksum is of another text", Form: true, Values: []string{
		good[:len(good)-1] + "0", "kd" + good[2:], good[:10] + "0" + good[11:], "kc_" + strings.Repeat("0", tokenTail),
	}}
}

func newRefusedOverflows(*testing.T) any {
	var values []string
	limit := slowBase62(new(big.Int).Lsh(big.NewInt(1), 256), payloadLen)
	for _, number := range []string{limit, strings.Repeat("z", payloadLen)} {
		text := "kc_" + number
		values = append(values, string(appendChecksum([]byte(text), checksum(text))))
	}
	return refusedVector{Comment: "the checksum is right, and the number is 2^256 or more", Form: true, Values: values}
}

func newRefusedForms(*testing.T) any {
	tail := strings.Repeat("0", tokenTail)
	return refusedVector{Comment: "not of issued form", Values: []string{
		"", "_" + tail, "k_" + tail, "Kc_" + tail, "kc__" + tail, "k-c_" + tail, "kc-" + tail, "kc_" + tail[1:], "kc_0" + tail,
		" kc_" + tail, "kc_" + tail + "\n",
	}}
}

func newChecksum(comment, text string) any {
	return checksumVector{comment, text, string(appendChecksum(nil, checksum(text)))}
}

func newDigest(t *testing.T, v digestVector) any {
	var ring *keyring
	v.Keyset, ring = newKeyset(t, ringIndex)
	v.KeyID = ring.primary
	v.Digest = v.compute(t, ring)
	return v
}

func newSeal(t *testing.T, of, label string) any {
	text, ring := newKeyset(t, ringRecord)
	v := sealVector{Comment: "any bytes can be sealed", Of: of, Keyset: text, Body: []byte("\x01 a body")}
	mac, err := seal(ring.mac, label, v.Body)
	require.NoError(t, err)
	v.Seal = mac
	return v
}

func leastRecord() *record {
	return &record{id: vectorKeyID, versions: []version{{}}, revision: 1}
}

func newRecordVector(t *testing.T, comment string, rec *record) any {
	text, ring := newKeyset(t, ringRecord)
	row, _, err := sealRecord(&rootRings{record: ring}, rec)
	require.NoError(t, err)
	return recordVector{Comment: comment, Keyset: text, Body: row.Body, Seal: row.Seal, Fields: fieldsOf(rec)}
}

func newCredentialRecord(t *testing.T) any {
	return newRecordVector(t, "a credential, rotated once", &record{
		id: vectorKeyID, kind: KindCredential, name: "dify", endpoint: "https://api.example.com/v1", owner: "ann",
		state: StateActive, createdAt: vectorTime, createdBy: "ann", updatedAt: vectorTime.Add(time.Hour), revision: 2,
		versions: []version{
			{number: 1, state: StateEnded, hint: "••••", createdAt: vectorTime, source: sourceGiven},
			{number: 2, state: StateActive, hint: "…4Bn8", createdAt: vectorTime.Add(time.Hour), source: sourceGiven,
				sealed: "\x01\x00\x01\x02\x03 what Tink has sealed"},
		},
	})
}

func newLaterRecord(t *testing.T) any {
	rec := fullRecord()
	rec.unknown = []rawField{{recTop + 1, "of a later release"}, {recTop + 1, ""}, {1 << 19, "far off"}}
	rec.versions[0].unknown = []rawField{{verTop + 1, "of a later release"}}
	rec.request.unknown = []rawField{{reqTop + 1, "of a later release"}}
	return newRecordVector(t, "fields of a later release that may be ignored, and are kept", rec)
}

func newEventVector(t *testing.T, comment string, e *Event) any {
	text, ring := newKeyset(t, ringTrail)
	rows, err := sealEvents(&rootRings{trail: ring}, *e)
	require.NoError(t, err)
	v := eventVector{
		Comment: comment, Keyset: text, Body: rows[0].Body, Seal: rows[0].Seal, Personal: rows[0].Personal, Event: *e,
	}
	commit := func(field string, data []byte) {
		salt, value := string(data[:saltLen]), string(data[saltLen:])
		sum := commitment(salt, field, value)
		v.Commitments = append(v.Commitments, commitmentVector{
			Field: field, Salt: hexBytes(salt), Value: value, Commitment: hexBytes(sum[:]),
		})
	}
	changes := e.Changes
	for _, f := range SplitBody(v.Personal[1:]) {
		if f.Key>>1 != perChange {
			commit(map[uint64]string{perActor: "actor", perAddr: "addr", perReason: "reason"}[f.Key>>1], f.Data)
			continue
		}
		for _, side := range SplitBody(f.Data) {
			commit(changes[0].Field, side.Data)
		}
		changes = changes[1:]
	}
	return v
}

func newRefusedEvent(t *testing.T) any {
	return newEventVector(t, "a refused call, counted", &Event{
		ID: vectorEventID, Action: ActionReveal, Outcome: ErrForbidden, Actor: "vic", At: vectorTime, Count: 12,
	})
}

func newValue(t *testing.T, comment, tenant, endpoint, value string) any {
	text, ring := newKeyset(t, ringData)
	origin, ok := endpointOrigin(endpoint)
	require.True(t, ok)
	sealed, err := ring.aead.Encrypt([]byte(value), valueAD(tenant, vectorKeyID, 3, origin))
	require.NoError(t, err)
	return valueVector{
		Comment: comment, Keyset: text, Tenant: tenant, KeyID: vectorKeyID, Version: 3, Endpoint: endpoint, Origin: origin,
		Ciphertext: sealed, Plaintext: value,
	}
}

// vectorKEK is the KEK of all keyrings, and recoveryKEK that of a second wrap.
func vectorKEK() rawKEK {
	key := sha256.Sum256([]byte("the KEK of the vectors"))
	return rawKEK{"kms:keys/keycote/1", key[:]}
}

func recoveryKEK() rawKEK {
	key := sha256.Sum256([]byte("the recovery KEK of the vectors"))
	return rawKEK{"recovery", key[:]}
}

func newRing(t *testing.T, tenant, name string) any {
	v := keyringVector{
		Comment: "wrapped for a KEK and for a recovery KEK", KEK: vectorKEK(), Tenant: tenant, Name: name,
		Message: "made under the " + name + " keyring",
	}
	k := &keks{primary: v.KEK.open(t), recovery: []KEK{recoveryKEK().open(t)}}
	ring, item, err := k.create(t.Context(), tenant, name)
	require.NoError(t, err)
	v.Revision, v.Body, v.Primary = item.Revision, item.Body, ring.primary
	switch name {
	case ringIndex:
		o, ok := ring.compute(ring.primary, []byte(v.Message))
		require.True(t, ok)
		v.Output = o[:]
	case ringData:
		v.Output, err = ring.aead.Encrypt([]byte(v.Message), nil)
	default:
		v.Output, err = ring.mac.ComputeMAC([]byte(v.Message))
	}
	require.NoError(t, err)
	return v
}

func newTombstone(*testing.T) any {
	return keyringVector{
		Comment: "what stays of a keyring that was shredded", KEK: vectorKEK(), Tenant: "acme", Name: ringData, Revision: 2,
		Body: encodeRing(nil, vectorTime), Shredded: vectorTime,
	}
}

func newLocalKEK(t *testing.T) any {
	path := filepath.Join(t.TempDir(), "kek.json")
	kek, err := LocalKEK(path)
	require.NoError(t, err)
	v := kekVector{Comment: "the file of a LocalKEK", AD: "bound to this", Plaintext: "a keyset"}
	v.Ciphertext, err = kek.EncryptWithContext(t.Context(), []byte(v.Plaintext), []byte(v.AD))
	require.NoError(t, err)
	v.File, err = os.ReadFile(path)
	require.NoError(t, err)
	v.ID = kek.ID()
	return v
}
