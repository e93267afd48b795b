package main

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	req "github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/keytest"
)

// TestREADME holds that every Go block of README.md stands in a file of this directory, and that none is left out.
func TestREADME(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.FromSlash("../../README.md"))
	req.NoError(t, err)
	paths, err := filepath.Glob("*.go")
	req.NoError(t, err)
	missing := map[string]string{}
	for _, path := range paths {
		if path != "doc.go" && path != "readme_test.go" {
			b, err := os.ReadFile(path)
			req.NoError(t, err)
			missing[path] = string(b)
		}
	}
	req.Len(t, missing, 4)
	blocks := regexp.MustCompile("(?s)\n```go\n(.*?)```\n").FindAllStringSubmatch(string(text), -1)
	req.Len(t, blocks, strings.Count(string(text), "```go"), "a block that is not found is not compared")
	for _, block := range blocks {
		found := ""
		for path, source := range missing {
			if strings.HasSuffix(source, block[1]) {
				found = path
			}
		}
		req.NotEmpty(t, found, "in no file of examples/readme:\n%s", block[1])
		delete(missing, found)
	}
	req.Empty(t, missing, "README.md does not show these")
}

// TestREADMELinks holds that what README.md links to is there.
func TestREADMELinks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.FromSlash("../../README.md"))
	req.NoError(t, err)
	links := regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(text), -1)
	req.NotEmpty(t, links)
	for _, link := range links {
		if !strings.Contains(link[1], "://") {
			_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(link[1])))
			req.NoError(t, err)
		}
	}
}

// TestProgram issues keys as README.md says to.
func TestProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "readme")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	req.NoError(t, err, "%s", out)
	dir, kek := t.TempDir(), filepath.Join(t.TempDir(), "kek.json")
	issue := func(name, kek string) (string, error) {
		var stdout bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, name)
		cmd.Dir, cmd.Env, cmd.Stdout = dir, append(os.Environ(), "KEK_FILE="+kek), &stdout
		err := cmd.Run()
		return stdout.String(), err
	}
	for _, name := range []string{"shop", "till"} {
		key, err := issue(name, kek)
		req.NoError(t, err)
		req.Regexp(t, `^kc_[0-9A-Za-z]{49}\n$`, key)
	}
	key, err := issue("shop", kek)
	req.Error(t, err, "the name is taken")
	req.Empty(t, key)
	other := filepath.Join(t.TempDir(), "kek.json")
	_, err = issue("safe", other)
	req.Error(t, err, "another KEK")
	req.NoFileExists(t, other)
}

// TestCredential calls an endpoint with what README.md keeps for it.
func TestCredential(t *testing.T) {
	t.Parallel()
	const key = "Sn0w-on-the-line-88"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+key {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	env := keytest.New(t, &keycote.Options{Validator: keycote.NewValidator(&keycote.ValidatorOptions{
		AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})})
	id, err := keep(t.Context(), env.Manager, server.URL, key)
	req.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	nets := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c := client(env.Manager, id, &keyhttp.Guard{AllowNets: nets, RootCAs: roots})
	resp, err := c.Get(server.URL + "/v1/charges")
	req.NoError(t, err)
	req.NoError(t, resp.Body.Close())
	req.Equal(t, http.StatusOK, resp.StatusCode)
	_, err = c.Get("https://elsewhere.example/v1/charges")
	req.ErrorIs(t, err, keycote.ErrAddress)
	_, err = client(env.Manager, id, nil).Get(server.URL)
	req.ErrorIs(t, err, keycote.Code("private_address"))
	_, err = keep(t.Context(), env.Manager, "https://10.0.0.1", "no")
	req.ErrorIs(t, err, keycote.ErrInvalid)
}
