package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests run the program as a newcomer does. Started under the name "curl", the test's own binary is a small curl:
// so they need nothing but Go and a shell.

// built is where TestMain has put the program, and beside it, in a directory for PATH, the small curl.
var built struct{ program, path string }

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "curl" {
		os.Exit(curl(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(build(m.Run))
}

func build(run func() int) int {
	dir, err := os.MkdirTemp("", "quickstart-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	built.program, built.path = filepath.Join(dir, "quickstart"), filepath.Join(dir, "path")
	if out, err := exec.Command("go", "build", "-o", built.program, ".").CombinedOutput(); err != nil {
		panic(string(out))
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Mkdir(built.path, 0o700)
	}
	if err == nil {
		err = os.Symlink(self, filepath.Join(built.path, "curl"))
	}
	if err != nil {
		panic(err)
	}
	return run()
}

// process is a running quickstart.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan error
	data, url      string
	secrets        []string
}

// output collects what a process writes, and says when the last line of a start is there.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	ready chan struct{}
}

const lastLine = "# End of the commands.\n"

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := strings.Contains(o.buf.String(), lastLine)
	o.buf.Write(p)
	if !before && strings.Contains(o.buf.String(), lastLine) {
		close(o.ready)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// launch starts the program on a free port and waits until it has printed its commands. After a restart the echo
// endpoint wants its old port again, which another program on this machine may hold for a moment by chance.
func launch(t *testing.T, data string) *process {
	t.Helper()
	for try := 1; ; try++ {
		p := &process{t: t, data: data, ended: make(chan error, 1)}
		p.stdout.ready, p.stderr.ready = make(chan struct{}), make(chan struct{})
		p.cmd = exec.Command(built.program, "-addr", "127.0.0.1:0", "-data", data)
		p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
		require.NoError(t, p.cmd.Start())
		go func() { p.ended <- p.cmd.Wait() }()
		t.Cleanup(func() { _ = p.cmd.Process.Kill() })
		select {
		case <-p.stdout.ready:
		case err := <-p.ended:
			if try < 20 && strings.Contains(p.stderr.String(), "the echo endpoint's address is taken") {
				continue
			}
			require.FailNow(t, "it ended at once", "%v\n%s", err, p.stderr.String())
		}
		_, after, ok := strings.Cut(p.stdout.String(), "\nAPI='")
		require.True(t, ok)
		p.url, _, _ = strings.Cut(after, "'\n")
		return p
	}
}

// stop ends the program by a signal, and holds it to a clean end: exit code 0, and no secret in what it wrote.
func (p *process) stop(signal os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal))
	require.NoError(p.t, <-p.ended, "exit code")
	p.secrets = append(p.secrets, p.adminKey(), p.upstreamKey(), keyInFile(p.t, filepath.Join(p.data, "kek", "kek.json")))
	for _, s := range p.secrets {
		require.GreaterOrEqual(p.t, len(s), 10)
		require.NotContains(p.t, p.stdout.String(), s)
		require.NotContains(p.t, p.stderr.String(), s)
	}
}

func (p *process) adminKey() string {
	p.t.Helper()
	return strings.TrimPrefix(line(p.t, filepath.Join(p.data, "admin.header")), "Authorization: Bearer ")
}

func (p *process) upstreamKey() string {
	p.t.Helper()
	return line(p.t, filepath.Join(p.data, "echo", "upstream.key"))
}

func (p *process) endpoint() string {
	p.t.Helper()
	return "https://" + line(p.t, filepath.Join(p.data, "echo", "address")) + "/v1/echo"
}

func line(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}

// keyInFile is the key material in a Tink keyset in JSON, as it stands there.
func keyInFile(t *testing.T, path string) string {
	t.Helper()
	_, after, ok := strings.Cut(line(t, path), `"value":"`)
	require.True(t, ok)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// reply is an answer of the program.
type reply struct {
	status int
	header http.Header
	body   string
}

// send asks the program as the holder of key; more may change the request.
func (p *process) send(key, method, path, body string, more ...func(*http.Request)) reply {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for _, f := range more {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return reply{resp.StatusCode, resp.Header, string(b)}
}

// admin asks as the administrator, and wants the status.
func (p *process) admin(status int, method, path, body string) reply {
	p.t.Helper()
	r := p.send(p.adminKey(), method, path, body)
	require.Equal(p.t, status, r.status, r.body)
	return r
}

// issue makes a key and returns its id and value.
func (p *process) issue(name string, scopes ...string) (id, key string) {
	p.t.Helper()
	r := p.admin(http.StatusCreated, "POST", "/admin/keys",
		fmt.Sprintf(`{"name":%q,"app":"shop","scopes":["%s"]}`, name, strings.Join(scopes, `","`)))
	p.secrets = append(p.secrets, r.field("secret"))
	return r.field("id"), r.field("secret")
}

func (r reply) field(name string) string {
	_, after, _ := strings.Cut(r.body, `"`+name+`": "`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// fails runs the program with args that it must refuse, and returns its exit code and what it says.
func fails(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), built.program, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Minute
	err := cmd.Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	return exit.ExitCode(), out.String(), errs.String()
}
