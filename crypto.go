package keycote

import "context"

// KEK is a key-encryption key held outside the store. Any tink.AEADWithContext with an id is one.
type KEK interface {
	ID() string
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}
