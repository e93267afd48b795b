// Package oldtink answers the requests of package wire with github.com/google/tink/go v1.7.0. Nothing that links
// tink-go/v2 can import it, but for cmd/clash; cmd/oldtink serves it to the tests from a process of its own.
package oldtink

import (
	"bytes"
	"fmt"

	"github.com/google/tink/go/aead"
	"github.com/google/tink/go/aead/subtle"
	"github.com/google/tink/go/keyset"
	"github.com/google/tink/go/mac"
	"github.com/google/tink/go/prf"
	tinkpb "github.com/google/tink/go/proto/tink_go_proto"

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
	kek, err := subtle.NewAESGCM(req.KEK)
	if err != nil {
		return nil, err
	}
	return keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(req.Keyset)), kek, req.KeysetAD)
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
	kek, err := subtle.NewAESGCM(req.KEK)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), kek, req.KeysetAD); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
