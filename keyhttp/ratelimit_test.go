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
		{"a burst above the rate", []keycote.LimitState{
			{Policy: "rate", Limit: 1, Window: time.Second, Burst: 100, Remaining: 99, Reset: time.Second},
		}, `"rate";q=100;w=100`, `"rate";r=99;t=1`},
		{"a burst below the rate", []keycote.LimitState{
			{Policy: "rate", Limit: 100, Window: time.Minute, Burst: 9, Remaining: 9},
		}, `"rate";q=9;w=6`, `"rate";r=9;t=0`},
		{"a burst that is the rate", []keycote.LimitState{
			{Policy: "rate", Limit: 7, Window: time.Minute, Burst: 7, Remaining: 6, Reset: time.Minute},
		}, `"rate";q=7;w=60`, `"rate";r=6;t=60`},
		{"the largest burst", []keycote.LimitState{
			{Policy: "rate", Limit: 1, Window: math.MaxInt64, Burst: math.MaxInt64, Remaining: 1},
			{Policy: "rate", Limit: math.MaxInt64, Window: math.MaxInt64, Burst: math.MaxInt64, Remaining: 1},
		}, `"rate";q=999999999999999;w=999999999999999, "rate";q=999999999999999;w=9223372037`, `"rate";r=1;t=0, "rate";r=1;t=0`},
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
