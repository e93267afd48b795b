package keycote_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

func TestLocalKEKFile(t *testing.T) {
	t.Parallel()
	keysetJSON := func(t *testing.T, template *tinkpb.KeyTemplate) []byte {
		handle, err := keyset.NewHandle(template)
		require.NoError(t, err)
		var buf bytes.Buffer
		require.NoError(t, insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)))
		return buf.Bytes()
	}
	good := keysetJSON(t, aead.AES256GCMKeyTemplate())
	var buf bytes.Buffer
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(good)))
	require.NoError(t, err)
	require.NoError(t, insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&buf)))
	material := string(good[bytes.Index(good, []byte(`"value"`)):][8:40])
	suite.fear(material)

	tests := []struct {
		name    string
		content []byte
		mode    os.FileMode
		ok      bool
	}{
		{"good", good, 0o600, true},
		{"read-only", good, 0o400, true},
		{"readable by the group", good, 0o640, false},
		{"readable by all", good, 0o604, false},
		{"writable by all", good, 0o602, false},
		{"empty", nil, 0o600, false},
		{"blank", []byte("\n"), 0o600, false},
		{"an empty object", []byte("{}"), 0o600, false},
		{"an empty keyset", []byte(`{"primaryKeyId":1,"key":[]}`), 0o600, false},
		{"garbage", []byte("\x00\x01\x02garbage"), 0o600, false},
		{"cut", good[:len(good)/2], 0o600, false},
		{"a letter of the key changed", bytes.Replace(good, []byte(`"value":"`), []byte(`"value":"!`), 1), 0o600, false},
		{"disabled", bytes.Replace(good, []byte("ENABLED"), []byte("DISABLED"), 1), 0o600, false},
		{"binary", buf.Bytes(), 0o600, false},
		{"AES-128", keysetJSON(t, aead.AES128GCMKeyTemplate()), 0o600, false},
		{"another AEAD", keysetJSON(t, aead.XChaCha20Poly1305KeyTemplate()), 0o600, false},
		{"a MAC", keysetJSON(t, mac.HMACSHA256Tag256KeyTemplate()), 0o600, false},
		{"a bare password", []byte("correct horse battery staple"), 0o600, false},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "kek.json")
		require.NoError(t, os.WriteFile(path, tt.content, 0o600), tt.name)
		require.NoError(t, os.Chmod(path, tt.mode), tt.name)
		if tt.name != "good" && tt.ok == false && tt.mode != 0o600 && runtime.GOOS == "windows" {
			continue
		}
		kek, err := keycote.LocalKEK(path)
		if !tt.ok {
			require.Error(t, overheard(err), tt.name)
			require.Nil(t, kek, tt.name)
			require.ErrorContains(t, err, "keycote: local KEK: ", tt.name)
		} else {
			require.NoError(t, err, tt.name)
			require.Regexp(t, `^local:[0-9a-f]{16}$`, kek.ID(), tt.name)
		}
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(tt.content), string(after), "%s: the file is left as it is", tt.name)
	}
	_, err = keycote.LocalKEK(t.TempDir())
	require.Error(t, overheard(err), "a directory")

	path := filepath.Join(t.TempDir(), "no such directory", "kek.json")
	kek, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	_, err = kek.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.Error(t, overheard(err), "it cannot be written, so nothing is encrypted under it")
}

func TestLocalKEKIsWrittenOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek.json")
	kek, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	wrapped, err := kek.EncryptWithContext(t.Context(), []byte("keyset"), []byte("ad"))
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = kek.EncryptWithContext(t.Context(), []byte("more"), nil)
	require.NoError(t, err)
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, content, again)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left beside it")

	read, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	require.Equal(t, kek.ID(), read.ID())
	plain, err := read.DecryptWithContext(t.Context(), wrapped, []byte("ad"))
	require.NoError(t, err)
	require.Equal(t, "keyset", string(plain))
	_, err = read.DecryptWithContext(t.Context(), wrapped, []byte("other"))
	require.Error(t, err, "it holds the associated data")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = read.DecryptWithContext(ended, wrapped, []byte("ad"))
	require.ErrorIs(t, err, context.Canceled)
	_, err = read.EncryptWithContext(ended, []byte("x"), nil)
	require.ErrorIs(t, err, context.Canceled)
}

// A process that found no file goes by the key that another has written since, also when it has nothing to encrypt: the
// keyrings are there already. Found with four processes that started at once on MariaDB.
func TestLocalKEKThatAnotherHasWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek.json")
	late, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	early, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	require.NotEqual(t, early.ID(), late.ID())
	store := memstore.New()
	_, err = keycote.New(t.Context(), store, early, nil)
	require.NoError(t, err)
	_, err = keycote.New(t.Context(), store, late, nil)
	require.NoError(t, err)
	require.Equal(t, early.ID(), late.ID())
}

// Processes that all find no file and all write at once end up with one key.
func TestLocalKEKRace(t *testing.T) {
	t.Parallel()
	const processes = 6
	self, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kek.json")
	type process struct {
		cmd  *exec.Cmd
		in   io.WriteCloser
		out  *bufio.Scanner
		errs bytes.Buffer
	}
	var children []*process
	for range processes {
		p := &process{cmd: exec.CommandContext(t.Context(), self)}
		p.cmd.Env = append(os.Environ(), roleEnv+"=local-kek", "KEYCOTE_TEST_FILE="+path)
		p.cmd.Stderr = &p.errs
		p.in, err = p.cmd.StdinPipe()
		require.NoError(t, err)
		out, err := p.cmd.StdoutPipe()
		require.NoError(t, err)
		p.out = bufio.NewScanner(out)
		require.NoError(t, p.cmd.Start())
		children = append(children, p)
	}
	read := func(p *process) string {
		if !p.out.Scan() {
			_ = p.cmd.Wait() // until then errs is being written
			t.Fatal(p.errs.String())
		}
		return p.out.Text()
	}
	for _, p := range children {
		require.Equal(t, "ready", read(p))
	}
	require.NoFileExists(t, path)
	for _, p := range children {
		require.NoError(t, p.in.Close())
	}
	ids, wraps := map[string]bool{}, []string{}
	for _, p := range children {
		id, wrapped, _ := strings.Cut(read(p), " ")
		ids[id], wraps = true, append(wraps, wrapped)
		require.NoError(t, p.cmd.Wait(), p.errs.String())
	}
	require.Len(t, ids, 1)
	kek, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	require.Contains(t, ids, kek.ID())
	for _, w := range wraps {
		b, err := hex.DecodeString(w)
		require.NoError(t, err)
		plain, err := kek.DecryptWithContext(t.Context(), b, []byte("ad"))
		require.NoError(t, err, "what a loser has wrapped opens under the winner's key")
		require.Equal(t, "keyset", string(plain))
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestLocalKEKThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	_, err := keycote.LocalKEK("")
	require.ErrorContains(t, err, "the path is empty")
	path := filepath.Join(t.TempDir(), "none", "kek.json")
	kek, err := keycote.LocalKEK(path)
	require.NoError(t, err)
	_, err = kek.EncryptWithContext(t.Context(), []byte("x"), nil)
	require.ErrorContains(t, err, path+" cannot be written")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotContains(t, err.Error(), "/.keycote-kek", "nobody has asked for that file")
}
