package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRestart shows that everything is kept, what was counted in memory included.
func TestRestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := launch(t, data)
	id, key := p.issue("shop", "orders:*")
	cred := p.admin(http.StatusCreated, "POST", "/admin/credentials",
		`{"name":"echo","endpoint":"`+p.endpoint()+`","secret":"`+p.upstreamKey()+`"}`).field("id")
	require.Equal(t, http.StatusCreated, p.send(key, "POST", "/orders", `{"item":"tea","quantity":3}`).status)
	for range 4 {
		require.Equal(t, http.StatusOK, p.send(key, "GET", "/orders", "").status)
	}
	admin, url, endpoint := p.adminKey(), p.url, p.endpoint()
	p.stop(syscall.SIGTERM)

	q := launch(t, data)
	require.Equal(t, admin, q.adminKey())
	require.Equal(t, endpoint, q.endpoint())
	require.NotEmpty(t, url)
	require.Contains(t, q.send(key, "GET", "/orders", "").body, `"quantity": 3`)
	require.Contains(t, q.admin(http.StatusOK, "POST", "/admin/credentials/"+cred+"/use", "").body, `"authorized": true`)
	require.Contains(t, q.admin(http.StatusOK, "GET", "/admin/keys/"+id, "").body, `"uses": 5`)
	q.secrets = append(q.secrets, key)
	q.stop(os.Interrupt)
}

func TestWrongKEK(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	p := launch(t, other)
	p.stop(os.Interrupt)
	foreign, err := os.ReadFile(filepath.Join(other, "kek", "kek.json"))
	require.NoError(t, err)

	for _, tt := range []struct {
		name  string
		put   []byte // nil: nothing
		found string
	}{
		{name: "missing", found: "is missing"},
		{name: "another", put: foreign, found: "holds another key"},
		{name: "no keyset", put: []byte("not a key"), found: "holds no Tink keyset"},
		{name: "empty", put: []byte{}, found: "holds no Tink keyset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			p := launch(t, data)
			_, key := p.issue("shop", "orders:read")
			p.stop(os.Interrupt)
			path := filepath.Join(data, "kek", "kek.json")
			right, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.Remove(path))
			if tt.put != nil {
				require.NoError(t, os.WriteFile(path, tt.put, 0o600))
			}

			code, stdout, stderr := fails(t, "-addr", "127.0.0.1:0", "-data", data)
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tt.found)
			require.Contains(t, stderr, "Restore "+path)
			require.Contains(t, stderr, "-data")
			if tt.put == nil {
				require.NoFileExists(t, path, "never a new key")
			} else {
				now, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, tt.put, now)
				require.NotContains(t, stderr, keyInFile(t, filepath.Join(other, "kek", "kek.json")))
			}

			require.NoError(t, os.WriteFile(path, right, 0o600))
			p = launch(t, data)
			require.Equal(t, http.StatusOK, p.send(key, "GET", "/orders", "").status, "restored, it goes on")
			p.stop(os.Interrupt)
		})
	}
}

// TestAdminKey shows the way back for somebody who has locked himself out: start again.
func TestAdminKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lose func(p *process, path string)
	}{
		{name: "file lost", lose: func(p *process, path string) {
			require.NoError(p.t, os.Remove(path))
		}},
		{name: "file overwritten", lose: func(p *process, path string) {
			require.NoError(p.t, os.WriteFile(path, []byte("Authorization: Bearer something else\n"), 0o600))
		}},
		{name: "key revoked", lose: func(p *process, _ string) {
			p.admin(http.StatusOK, "POST", "/admin/keys/"+p.adminID()+"/revoke", `{"reason":"a mistake"}`)
		}},
		{name: "key disabled", lose: func(p *process, _ string) {
			p.admin(http.StatusOK, "POST", "/admin/keys/"+p.adminID()+"/disable", "")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			p := launch(t, data)
			path := filepath.Join(data, "admin.header")
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			old := p.adminKey()
			tt.lose(p, path)
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			require.NoError(t, <-p.ended)

			p = launch(t, data)
			require.NotEqual(t, old, p.adminKey())
			require.Equal(t, http.StatusUnauthorized, p.send(old, "GET", "/admin/keys", "").status)
			p.admin(http.StatusOK, "GET", "/admin/keys", "")
			p.secrets = append(p.secrets, old)
			p.stop(os.Interrupt)
		})
	}
}

func (p *process) adminID() string {
	p.t.Helper()
	return p.admin(http.StatusOK, "GET", "/admin/keys?search=administrator", "").field("id")
}

func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	running := launch(t, t.TempDir())
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	open := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(open, "kek"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(open, "kek"), 0o755))
	noDatabase := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(noDatabase, "db"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(noDatabase, "db", "keys.db"), []byte(strings.Repeat("no database ", 99)), 0o600))

	for _, tt := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"port in use", []string{"-addr", strings.TrimPrefix(running.url, "http://"), "-data", t.TempDir()}, 1,
			[]string{running.url[len("http://"):], "in use", "-addr 127.0.0.1:0"}},
		{"same data", []string{"-addr", "127.0.0.1:0", "-data", running.data}, 1, []string{"another", "quickstart on the same data"}},
		{"data is a file", []string{"-addr", "127.0.0.1:0", "-data", file}, 1, []string{file, "-data"}},
		{"data below a file", []string{"-addr", "127.0.0.1:0", "-data", filepath.Join(file, "x")}, 1, []string{file, "-data"}},
		{"open directory", []string{"-addr", "127.0.0.1:0", "-data", open}, 1, []string{filepath.Join(open, "kek"), "chmod 700"}},
		{"no database", []string{"-addr", "127.0.0.1:0", "-data", noDatabase}, 1, []string{"keys.db", "cannot be opened"}},
		{"all addresses", []string{"-addr", ":0", "-data", t.TempDir()}, 1, []string{"in clear", "127.0.0.1"}},
		{"all addresses in figures", []string{"-addr", "0.0.0.0:0", "-data", t.TempDir()}, 1, []string{"in clear"}},
		{"a name", []string{"-addr", "example.org:80", "-data", t.TempDir()}, 1, []string{"in clear"}},
		{"no port", []string{"-addr", "127.0.0.1", "-data", t.TempDir()}, 1, []string{"-addr 127.0.0.1 is no address"}},
		{"unknown flag", []string{"-colour"}, 2, []string{"-addr", "-data"}},
		{"argument", []string{"serve"}, 2, []string{"flags only"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := fails(t, tt.args...)
			require.Equal(t, tt.code, code, stderr)
			require.Empty(t, stdout)
			for _, s := range tt.says {
				require.Contains(t, stderr, s)
			}
			require.NotContains(t, stderr, "panic")
		})
	}
}

func TestDefaultData(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, system, variable, value, want string
	}{
		{"linux", "linux", "XDG_DATA_HOME", "", "/home/ann/.local/share/keycote-quickstart"},
		{"linux with XDG", "linux", "XDG_DATA_HOME", "/data", "/data/keycote-quickstart"},
		{"linux with a relative XDG", "linux", "XDG_DATA_HOME", "data", "/home/ann/.local/share/keycote-quickstart"},
		{"macOS", "darwin", "XDG_DATA_HOME", "/data", "/home/ann/Library/Application Support/keycote-quickstart"},
		{"windows", "windows", "LocalAppData", "/users/ann/local", "/users/ann/local/keycote-quickstart"},
		{"windows without", "windows", "LocalAppData", "", "/home/ann/AppData/Local/keycote-quickstart"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := defaultData(tt.system, "/home/ann", func(name string) string {
				require.Equal(t, tt.variable, name)
				return tt.value
			})
			require.Equal(t, tt.want, filepath.ToSlash(got))
		})
	}
}
