package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCommands pastes what the program prints into a shell, twice, as somebody does who begins again. It always does so
// with the small curl, and once more with the machine's own where there is one.
func TestCommands(t *testing.T) {
	t.Parallel()
	curls := []struct{ name, path string }{{"small curl", built.path}}
	if own, err := exec.LookPath("curl"); err == nil {
		curls = append(curls, struct{ name, path string }{"own curl", filepath.Dir(own)})
	}
	for _, tt := range curls {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, filepath.Join(t.TempDir(), "it's a $HOME of its own"))
			for range 2 {
				p.paste(tt.path)
			}
			p.stop(os.Interrupt)
		})
	}
}

// paste runs the printed commands and holds each step to what it says.
func (p *process) paste(path string) {
	t := p.t
	t.Helper()
	var script strings.Builder
	for line := range strings.Lines(p.stdout.String()) {
		if n, _, ok := strings.Cut(strings.TrimPrefix(line, "# "), ". "); ok && len(n) == 1 && strings.HasPrefix(line, "# ") {
			fmt.Fprintf(&script, "echo '== %s'\n", n)
		}
		script.WriteString(line)
	}
	script.WriteString("printf '== end\n%s\n' \"$ID\" \"$CRED\" \"$KEY\" \"$NEW\"\n")
	cmd := exec.CommandContext(t.Context(), "sh", "-eu")
	cmd.Stdin = strings.NewReader(script.String())
	// A proxy in the environment must not see a key; this one would answer nothing.
	cmd.Env = append(os.Environ(), "PATH="+path+string(os.PathListSeparator)+os.Getenv("PATH"),
		"http_proxy=http://127.0.0.1:1", "no_proxy=", "NO_PROXY=",
		"GORACE=atexit_sleep_ms=0") // the small curl, under the race detector, would wait for a second at each end
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", out, stderr.String())
	require.Empty(t, stderr.String())

	shown, values, ok := strings.Cut(string(out), "== end\n")
	require.True(t, ok)
	v := strings.Fields(strings.ReplaceAll(values, "== end", ""))
	require.Len(t, v, 4)
	id, cred, key, next := v[0], v[1], v[2], v[3]
	p.secrets = append(p.secrets, key, next)
	require.NotEqual(t, key, next)
	for _, s := range []string{key, next, p.adminKey(), p.upstreamKey()} {
		require.NotContains(t, shown, s, "no command shows a key")
	}

	steps := strings.Split(shown, "== ")[1:]
	require.Len(t, steps, 9)
	for i := range steps {
		require.True(t, strings.HasPrefix(steps[i], fmt.Sprintf("%d\n", i+1)), steps[i])
	}
	const refused = `"status":401`
	require.Equal(t, "1\n"+id+"\n", steps[0])
	require.True(t, strings.HasPrefix(id, "key_"))
	require.Contains(t, steps[1], `"item": "tea"`)
	require.Contains(t, steps[1], `"orders": [`)
	require.Contains(t, steps[1], `"keyId": "`+id+`"`)
	require.Equal(t, 1, strings.Count(steps[2], refused))
	require.NotContains(t, steps[2], "orders")
	require.Equal(t, "4\n"+cred+"\n", steps[3])
	require.Contains(t, steps[4], `"authorized": true`)
	require.Contains(t, steps[4], cred)
	require.Equal(t, 2, strings.Count(steps[5], `"orders": [`), "both values work in the overlap")
	require.NotContains(t, steps[5], refused)
	require.Contains(t, steps[6], `"state": "revoked"`)
	require.Equal(t, 2, strings.Count(steps[6], refused), "and neither after the revocation")
	require.NotContains(t, steps[6], `"orders"`)
	require.Contains(t, steps[7], id)
	require.Contains(t, steps[7], cred)
	require.Contains(t, steps[7], adminName)
	for _, action := range []string{"issue", "add", "rotate", "revoke"} {
		require.Contains(t, steps[8], `"action": "`+action+`"`)
	}
	require.Contains(t, steps[8], id)
}

// TestPlainComments keeps the comments free of what zsh, which takes a pasted comment for a command, would trip over.
func TestPlainComments(t *testing.T) {
	t.Parallel()
	n := 0
	for line := range strings.Lines(commands) {
		if strings.HasPrefix(line, "#") {
			n++
			require.NotContains(t, line, "'")
			require.False(t, strings.ContainsAny(line, "\"`$()[]*?<>|&!\\"), line)
		}
	}
	require.GreaterOrEqual(t, n, 10)
}
