package keyhttp

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

func TestRateLimitFields(t *testing.T) {
	t.Parallel()
	rate := keycote.LimitState{Policy: "rate", Limit: 10, Window: time.Second, Remaining: 3, Reset: 700 * time.Millisecond}
	quota := keycote.LimitState{Policy: "quota", Limit: 5000, Window: 24 * time.Hour, Remaining: 0, Reset: 90 * time.Minute}
	for _, tt := range []struct {
		name          string
		states        []keycote.LimitState
		policy, state string
	}{
		{"none", nil, "", ""},
		{"a rate", []keycote.LimitState{rate}, `"rate";q=10;w=1`, `"rate";r=3;t=1`},
		{"both", []keycote.LimitState{rate, quota}, `"rate";q=10;w=1, "quota";q=5000;w=86400`, `"rate";r=3;t=1, "quota";r=0;t=5400`},
		{
			"out of range", []keycote.LimitState{{Policy: "quota", Limit: math.MaxInt64, Remaining: -1, Window: time.Hour, Reset: -time.Hour}},
			`"quota";q=999999999999999;w=3600`, `"quota";r=0;t=0`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			setLimits(h, tt.states)
			require.Equal(t, tt.policy, h.Get("RateLimit-Policy"))
			require.Equal(t, tt.state, h.Get("RateLimit"))
		})
	}
}
