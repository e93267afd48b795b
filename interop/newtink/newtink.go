// Package newtink answers the requests of package wire with the Tink that Keycote uses, by the calls that Keycote makes.
// It says what package oldtink says, over the other module's types.
package newtink

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/keycote/keycote/interop/wire"
)

// Serve answers one request.
func Serve(req wire.Request) ([]byte, error) {
	if req.Op == wire.Make {
		return grow(keyset.NewManager(), req)
	}
	h, err := open(req)
	if err != nil {
		return nil, err
	}
	switch req.Op {
	case wire.Grow:
		return grow(keyset.NewManagerFromHandle(h), req)
	case wire.Seal, wire.Open:
		a, err := aead.New(h)
		if err != nil {
			return nil, err
		}
		if req.Op == wire.Seal {
			return a.Encrypt(req.Input, req.InputAD)
		}
		return a.Decrypt(req.Input, req.InputAD)
	case wire.MAC, wire.Verify:
		m, err := mac.New(h)
		if err != nil {
			return nil, err
		}
		if req.Op == wire.MAC {
			return m.ComputeMAC(req.Input)
		}
		return nil, m.VerifyMAC(req.Tag, req.Input)
	case wire.PRF:
		set, err := prf.NewPRFSet(h)
		if err != nil {
			return nil, err
		}
		return set.ComputePrimaryPRF(req.Input, req.Length)
	}
	return nil, fmt.Errorf("unknown operation %q", req.Op)
}

func open(req wire.Request) (*keyset.Handle, error) {
	kek, err := newKEK(req.KEK)
	if err != nil {
		return nil, err
	}
	return keyset.ReadWithContext(context.Background(), keyset.NewBinaryReader(bytes.NewReader(req.Keyset)), kek, req.KeysetAD)
}

func grow(m *keyset.Manager, req wire.Request) ([]byte, error) {
	templates := map[wire.Template]func() *tinkpb.KeyTemplate{
		wire.HMACPRF:   prf.HMACSHA256PRFKeyTemplate,
		wire.HMACTag:   mac.HMACSHA256Tag256KeyTemplate,
		wire.AES256GCM: aead.AES256GCMKeyTemplate,
	}
	template, ok := templates[req.Template]
	if !ok {
		return nil, fmt.Errorf("unknown template %q", req.Template)
	}
	id, err := m.Add(template())
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	h, err := m.Handle()
	if err != nil {
		return nil, err
	}
	kek, err := newKEK(req.KEK)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := h.WriteWithContext(context.Background(), keyset.NewBinaryWriter(&buf), kek, req.KeysetAD); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// kek passes calls with a context on to an AEAD that knows none, as keycote.NewKEK does.
type kek struct{ *subtle.AESGCM }

func newKEK(key []byte) (kek, error) {
	a, err := subtle.NewAESGCM(key)
	return kek{a}, err
}

func (k kek) EncryptWithContext(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return k.Encrypt(plaintext, associatedData)
}

func (k kek) DecryptWithContext(_ context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return k.Decrypt(ciphertext, associatedData)
}
