package interop_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const conflictVar = "GOLANG_PROTOBUF_REGISTRATION_CONFLICT"

// TestOneProgramCannotLinkBoth keeps the README's warning true, and the way out that it names.
func TestOneProgramCannotLinkBoth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		setting string
		starts  bool
	}{
		{"nothing said", "", false},
		{"panic asked for", "panic", false},
		{"warn", "warn", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(program("clash"))
			for _, v := range os.Environ() {
				if !strings.HasPrefix(v, conflictVar+"=") {
					cmd.Env = append(cmd.Env, v)
				}
			}
			if test.setting != "" {
				cmd.Env = append(cmd.Env, conflictVar+"="+test.setting)
			}
			out, err := cmd.CombinedOutput()

			require.Contains(t, string(out), `has a name conflict over google.crypto.tink.`)
			require.Contains(t, string(out), `previously from: "github.com/google/tink/go/proto/`)
			require.Contains(t, string(out), `currently from:  "github.com/tink-crypto/tink-go/v2/proto/`)
			if test.starts {
				require.NoError(t, err, "%s", out)
				require.Contains(t, string(out), "started, and agreed both ways")
				return
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 2, exit.ExitCode(), "a panic")
			require.True(t, strings.HasPrefix(string(out), "panic: "), "%s", out)
			require.NotContains(t, string(out), "started")
		})
	}
}
