package keycote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KEK is a key-encryption key held outside the store: in a KMS, in Vault's transit engine, in an HSM, in a file. Any
// tink.AEADWithContext with an id is one. The id stands in clear beside what it wraps; it MUST NOT be empty, and MUST
// name the same key for as long as anything is wrapped by it. A KEK MUST authenticate the associated data and be safe for
// concurrent use. It is asked once per keyring and process, never per key.
type KEK interface {
	ID() string
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// NewKEK makes a KEK of any Tink AEAD: of a cloud KMS, of Vault transit, of an HSM. If a takes a context itself, it gets
// the caller's; else a call that was begun runs to its end, and its answer is thrown away once the context has ended. A
// nil a gives a nil KEK, which [New] refuses.
func NewKEK(id string, a tink.AEAD) KEK {
	if a == nil {
		return nil
	}
	if withContext, ok := a.(tink.AEADWithContext); ok {
		return contextKEK{withContext, id}
	}
	return plainKEK{a, id}
}

type contextKEK struct {
	tink.AEADWithContext
	id string
}

func (k contextKEK) ID() string { return k.id }

type plainKEK struct {
	aead tink.AEAD
	id   string
}

func (k plainKEK) ID() string { return k.id }

func (k plainKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return underContext(ctx, func() ([]byte, error) { return k.aead.Encrypt(plaintext, associatedData) })
}

func (k plainKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return underContext(ctx, func() ([]byte, error) { return k.aead.Decrypt(ciphertext, associatedData) })
}

func underContext(ctx context.Context, call func() ([]byte, error)) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := call()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return b, err
}

// LocalKEK is a KEK in a file: a Tink keyset in JSON, of mode 0600, whose primary key is AES-256-GCM. Whoever reads the
// file can open everything, so it belongs neither beside the database nor into its backups.
//
// Where there is no file a key is drawn in memory, and written at the first Encrypt, which is when [New] finds an empty
// store. A file that went missing beside a full store is therefore an error of New, and never a new key. Of two
// processes that write at once one wins, and the other reads what it wrote.
//
// It fails when the file is there and cannot be read, can be read by others, or holds anything else. The KEK's id is
// "local:" and the first 16 hex digits of the SHA-256 of its key.
func LocalKEK(path string) (KEK, error) {
	if path == "" {
		return nil, errors.New("keycote: local KEK: the path is empty")
	}
	k := &localKEK{path: path}
	switch err := k.read(); {
	case err == nil:
		return k, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("keycote: local KEK: %w", err)
	}
	return k, k.take(handle)
}

type localKEK struct {
	path string

	mu      sync.Mutex
	written bool           // the file holds handle
	handle  *keyset.Handle // until it is written
	id      string
	aead    tink.AEAD
}

// ID may change until the file is there, when another process has written its key first.
func (k *localKEK) ID() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.adopt()
	return k.id
}

// adopt takes the key that another process has written meanwhile: one that begins with ours would refuse the keyrings
// that the other has made with it. While there is no file ours counts; what is wrong with a file, write says.
func (k *localKEK) adopt() {
	if !k.written {
		_ = k.read()
	}
}

// missing reports whether the key is one that was drawn in memory, for want of a file.
func (k *localKEK) missing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.written
}

func (k *localKEK) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := k.write(); err != nil {
		return nil, err
	}
	return underContext(ctx, func() ([]byte, error) { return k.aead.Encrypt(plaintext, associatedData) })
}

func (k *localKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	k.mu.Lock()
	k.adopt()
	a := k.aead
	k.mu.Unlock()
	return underContext(ctx, func() ([]byte, error) { return a.Decrypt(ciphertext, associatedData) })
}

func (k *localKEK) take(handle *keyset.Handle) error {
	primary, err := handle.Primary()
	if err != nil {
		return fmt.Errorf("keycote: local KEK: %w", err)
	}
	key, ok := primary.Key().(*aesgcm.Key)
	if !ok || key.KeyBytes().Len() != 32 {
		return errors.New("keycote: local KEK: the primary key is not AES-256-GCM")
	}
	a, err := aead.New(handle)
	if err != nil {
		return fmt.Errorf("keycote: local KEK: %w", err)
	}
	sum := sha256.Sum256(key.KeyBytes().Data(insecuresecretdataaccess.Token{}))
	k.handle, k.aead, k.id = handle, a, "local:"+hex.EncodeToString(sum[:8])
	return nil
}

func (k *localKEK) read() error {
	f, err := os.Open(k.path)
	if err != nil {
		return fmt.Errorf("keycote: local KEK: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("keycote: local KEK: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("keycote: local KEK: %s is not a file", k.path)
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		return fmt.Errorf("keycote: local KEK: %s is open to others (%v): chmod 600 it", k.path, info.Mode().Perm())
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(f))
	if err != nil {
		// Tink's error would quote the text it stumbled over, and the text is the key.
		return fmt.Errorf("keycote: local KEK: %s holds no Tink keyset", k.path)
	}
	if err := k.take(handle); err != nil {
		return err
	}
	k.written, k.handle = true, nil
	return nil
}

// write puts the key into its file, whole or not at all: it is written and synced under another name, and then linked,
// which fails if somebody else was faster.
func (k *localKEK) write() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.written {
		return nil
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&buf)); err != nil {
		return fmt.Errorf("keycote: local KEK: %w", err)
	}
	dir := filepath.Dir(k.path)
	tmp, err := os.CreateTemp(dir, ".keycote-kek-*") // mode 0600
	if err != nil {
		var broken *fs.PathError
		if errors.As(err, &broken) {
			err = broken.Err // whose path is of the temporary file
		}
		return fmt.Errorf("keycote: local KEK: %s cannot be written: %w", k.path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(buf.Bytes())
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("keycote: local KEK: %w", err)
	}
	switch err := os.Link(tmp.Name(), k.path); {
	case errors.Is(err, fs.ErrExist):
		return k.read()
	case err != nil:
		return fmt.Errorf("keycote: local KEK: %w", err)
	}
	if d, err := os.Open(dir); err == nil { // not every system can sync a directory
		_ = d.Sync()
		_ = d.Close()
	}
	k.written, k.handle = true, nil
	return nil
}
