package keycote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyrings are Tink keysets, encrypted by the KEK and kept as Items of this space. The three root keyrings belong to
// nobody; a tenant's data keyring is made with its first credential.
const (
	spaceKeyring = "keyring"

	ringIndex  = "index"
	ringRecord = "record"
	ringTrail  = "trail"
	ringData   = "data"
)

var ringTemplates = map[string]func() *tinkpb.KeyTemplate{
	ringIndex:  prf.HMACSHA256PRFKeyTemplate,
	ringRecord: mac.HMACSHA256Tag256KeyTemplate,
	ringTrail:  mac.HMACSHA256Tag256KeyTemplate,
	ringData:   aead.AES256GCMKeyTemplate,
}

// keyring is an opened keyring of one revision. It is immutable.
type keyring struct {
	ref      ItemRef
	shredded bool
	known    map[uint32]bool // ids of its keys, disabled ones too
	enabled  []uint32        // ids of the enabled ones, in the keyset's order
	primary  uint32

	prfs map[uint32]prf.PRF // of index
	mac  tink.MAC           // of record and trail
	aead tink.AEAD          // of data

	proof *wrap // opened before by the KEK: tells a KEK that is away from a keyring that was tampered with
}

// wrap is a keyring as one KEK keeps it.
type wrap struct{ kek, blob string }

// Field numbers of a keyring's Item; docs/formats.md.
const (
	ringWrap     = 1 // list: 1 KEK id, 2 encrypted keyset
	ringShredded = 2 // time
	ringTop      = ringShredded
)

// maxWraps bounds the KEKs of one keyring.
const maxWraps = 64

func decodeRing(body []byte) (wraps []wrap, shredded time.Time, err error) {
	d := openBody(string(body), ringTop)
	for d.next() {
		switch d.field(1 << ringWrap) {
		case ringWrap:
			var w wrap
			in := decoder{body: d.data, top: 2}
			for in.next() {
				switch in.field(0) {
				case 1:
					w.kek = in.data
				case 2:
					w.blob = in.data
				}
			}
			if d.err == nil {
				d.err = in.err
			}
			if len(wraps) == maxWraps || slices.ContainsFunc(wraps, func(o wrap) bool { return o.kek == w.kek }) {
				d.err = errMalformed // each of them would cost a call to the KMS
			}
			wraps = append(wraps, w)
		case ringShredded:
			shredded = d.time()
			if len(wraps) > 0 {
				d.err = errMalformed // it stands alone
			}
		}
	}
	return wraps, shredded, d.err
}

func encodeRing(wraps []wrap, shredded time.Time) []byte {
	e := encoder{bodyFormat}
	for _, w := range wraps {
		e.nested(ringWrap, func(e *encoder) {
			e.text(1, w.kek)
			e.text(2, w.blob)
		})
	}
	e.time(ringShredded, shredded)
	return e
}

// keks are the key-encryption keys of a Manager.
type keks struct {
	primary  KEK
	retired  []KEK
	recovery []KEK
}

// create makes a keyring of revision 1 and wraps it.
func (k *keks) create(ctx context.Context, tenant, name string) (*keyring, Item, error) {
	handle, err := keyset.NewHandle(ringTemplates[name]())
	if err != nil {
		return nil, Item{}, err
	}
	ref := ItemRef{Tenant: tenant, Space: spaceKeyring, Name: name, Revision: 1}
	ad := keyringAD(tenant, name, ref.Revision)
	var wraps []wrap
	for _, kek := range append([]KEK{k.primary}, k.recovery...) {
		var buf bytes.Buffer
		told := tellingKEK{KEK: kek}
		if err := handle.WriteWithContext(ctx, keyset.NewBinaryWriter(&buf), &told, ad); err != nil {
			return nil, Item{}, fmt.Errorf("the KEK %s does not encrypt: %w", kekName(kek.ID()), cmp.Or(told.err, err))
		}
		// The id is asked for after the call: a LocalKEK that lost the race for its file has become the winner's.
		wraps = append(wraps, wrap{kek.ID(), buf.String()})
	}
	ring, err := newKeyring(ref, handle)
	if err != nil {
		return nil, Item{}, err
	}
	ring.proof = &wraps[0]
	return ring, Item{tenant, spaceKeyring, name, ref.Revision, encodeRing(wraps, time.Time{})}, nil
}

// errNoKEK says that a keyring is wrapped for other KEKs than those given.
type errNoKEK struct{ ring, found, given string }

func (e *errNoKEK) Error() string {
	return fmt.Sprintf("the %s keyring is wrapped for %s; given: %s", e.ring, e.found, e.given)
}

// open unwraps a keyring with the KEK or a retired one. It answers errNewer, errMalformed, an *errNoKEK, or what the
// KEK said.
func (k *keks) open(ctx context.Context, item Item) (*keyring, error) {
	ref := ItemRef{item.Tenant, item.Space, item.Name, item.Revision}
	wraps, shredded, err := decodeRing(item.Body)
	if err != nil {
		return nil, err
	}
	if !shredded.IsZero() {
		return &keyring{ref: ref, shredded: true}, nil
	}
	if len(wraps) == 0 {
		return nil, errMalformed // for nobody, and not shredded
	}
	failure := error(&errNoKEK{item.Name, kekNames(wraps, func(w wrap) string { return w.kek }), k.names()})
	for _, kek := range append([]KEK{k.primary}, k.retired...) {
		for i, w := range wraps {
			if w.kek != kek.ID() {
				continue
			}
			handle, err := unwrap(ctx, kek, w, ref)
			if err == nil {
				ring, err := newKeyring(ref, handle)
				if err != nil {
					return nil, errors.Join(errMalformed, err)
				}
				ring.proof = &wraps[i]
				return ring, nil
			}
			failure = fmt.Errorf("the KEK %s does not open the %s keyring: %w", kekName(kek.ID()), item.Name, err)
		}
	}
	return nil, failure
}

func unwrap(ctx context.Context, kek KEK, w wrap, ref ItemRef) (*keyset.Handle, error) {
	ad := keyringAD(ref.Tenant, ref.Name, ref.Revision)
	told := tellingKEK{KEK: kek}
	handle, err := keyset.ReadWithContext(ctx, keyset.NewBinaryReader(strings.NewReader(w.blob)), &told, ad)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return handle, cmp.Or(told.err, err)
}

// tellingKEK remembers what a KEK failed with: Tink puts the words of it into an error of its own, and a host could not
// ask errors.As what its KMS said.
type tellingKEK struct {
	KEK
	err error
}

func (k *tellingKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) (b []byte, err error) {
	b, k.err = k.KEK.EncryptWithContext(ctx, plaintext, associatedData)
	return b, k.err
}

func (k *tellingKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) (b []byte, err error) {
	b, k.err = k.KEK.DecryptWithContext(ctx, ciphertext, associatedData)
	return b, k.err
}

// blame decides what a keyring that did not open means. proof is one that opened before: when no keyring ever opened it is
// the wrong KEK, and when the KEKs do not answer they are away. When they do, the keyring gets a second try, so that one
// lost call to a KMS does not read as tampering.
func (k *keks) blame(ctx context.Context, item Item, failure error, proof *keyring) (*keyring, error) {
	var noKEK *errNoKEK
	code := ErrUnavailable
	switch {
	case ctx.Err() != nil:
		failure = ctx.Err()
	case errors.Is(failure, errNewer):
	case errors.Is(failure, errMalformed):
		code = ErrTampered
	case errors.As(failure, &noKEK), proof == nil:
		code = ErrKEK
	case k.answer(ctx, item, proof):
		ring, err := k.open(ctx, item)
		if err == nil {
			return ring, nil
		}
		if code, failure = ErrTampered, err; ctx.Err() != nil {
			code, failure = ErrUnavailable, ctx.Err()
		}
	}
	return nil, &Error{Code: code, Err: causeOf(failure)}
}

// answer reports whether all KEKs of ours that item is wrapped for answer: what they do not open was tampered with then.
// The one that has opened proof is asked to open that again. Any other has opened nothing, so it is asked to open what it
// seals; one that may only decrypt counts as away.
func (k *keks) answer(ctx context.Context, item Item, proof *keyring) bool {
	wraps, _, err := decodeRing(item.Body)
	if err != nil {
		return false
	}
	for _, kek := range append([]KEK{k.primary}, k.retired...) {
		id := kek.ID()
		switch {
		case !slices.ContainsFunc(wraps, func(w wrap) bool { return w.kek == id }):
			continue
		case id == proof.proof.kek:
			_, err = unwrap(ctx, kek, *proof.proof, proof.ref)
		default:
			var sealed []byte
			ad := []byte("keycote/answer/v1")
			if sealed, err = kek.EncryptWithContext(ctx, ad, ad); err == nil {
				_, err = kek.DecryptWithContext(ctx, sealed, ad)
			}
		}
		if err != nil {
			return false
		}
	}
	return true
}

func (k *keks) names() string {
	names := kekNames(append([]KEK{k.primary}, k.retired...), KEK.ID)
	if local, ok := k.primary.(*localKEK); ok && local.missing() {
		names += fmt.Sprintf(" (there is no file %s: put back the one that was there)", kekName(local.path))
	}
	return names
}

func kekNames[T any](list []T, id func(T) string) string {
	if len(list) == 0 {
		return "no KEK"
	}
	var names []string
	for i, x := range list {
		if i == 8 {
			names = append(names, "…")
			break
		}
		names = append(names, kekName(id(x)))
	}
	return strings.Join(names, ", ")
}

// kekName quotes an id: what stands in the store is not to be trusted in a log.
func kekName(id string) string {
	const most = 128
	if len(id) > most {
		id = id[:most] + "…"
	}
	return fmt.Sprintf("%q", id)
}

func newKeyring(ref ItemRef, handle *keyset.Handle) (*keyring, error) {
	ring := &keyring{ref: ref, known: map[uint32]bool{}}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, err
		}
		ring.known[entry.KeyID()] = true
		if entry.KeyStatus() == keyset.Enabled {
			ring.enabled = append(ring.enabled, entry.KeyID())
		}
		if entry.IsPrimary() {
			ring.primary = entry.KeyID()
		}
	}
	var err error
	switch ref.Name {
	case ringIndex:
		ring.prfs, err = indexPRFs(handle)
	case ringData:
		ring.aead, err = aead.New(handle)
	default:
		ring.mac, err = newSealMAC(handle)
	}
	return ring, err
}

// compute runs the PRF of one key over message. It reports false for a key that is not there or not enabled.
func (r *keyring) compute(id uint32, message []byte) (o out, ok bool) {
	switch p := r.prfs[id].(type) {
	case nil:
		return o, false
	case *hmacKey: // nothing is allocated
		return p.compute(message), true
	default:
		b, err := p.ComputePRF(bytes.Clone(message), uint32(len(o))) // a clone, so that message can stay on the stack
		return o, err == nil && copy(o[:], b) == len(o)
	}
}

// made reports whether b, a MAC or a ciphertext, was made with a key of this keyring: it begins with Tink's prefix, a
// version byte and the key's id.
func (r *keyring) made(b []byte) bool {
	if len(b) < 5 || b[0] != 0x01 {
		return false
	}
	return r.known[binary.BigEndian.Uint32(b[1:5])]
}
