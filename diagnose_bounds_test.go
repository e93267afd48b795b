package keycote

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPatience: nobody has for ever, and of a caller who is in a hurry nobody takes all.
func TestPatience(t *testing.T) {
	t.Parallel()
	for _, p := range []part{partStore, partKEK, partRules, partAuthorize, partInspect, partProber} {
		most := askPatience
		if p == partInspect || p == partProber {
			most = networkPatience
		}
		require.Equal(t, most, patience(t.Context(), p), p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		require.Equal(t, most, patience(ctx, p), p)
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), 6*time.Second)
		require.LessOrEqual(t, patience(ctx, p), 2*time.Second, p)
		cancel()
		ctx, cancel = context.WithTimeout(t.Context(), -time.Second)
		require.LessOrEqual(t, patience(ctx, p), time.Duration(0), p)
		cancel()
	}
}
