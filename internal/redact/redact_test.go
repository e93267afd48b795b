package redact_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote/internal/redact"
)

func TestError(t *testing.T) {
	t.Parallel()
	const value, other = "Sn0w-on-the-line-88", "another value"
	plain := errors.New("connection refused")
	for _, tt := range []struct {
		name   string
		err    error
		values []string
		same   bool
	}{
		{name: "nothing to hide", err: plain, values: []string{value}, same: true},
		{name: "no value", err: plain, same: true},
		{name: "an empty value is in every text", err: plain, values: []string{""}, same: true},
		{name: "the value", err: fmt.Errorf("sent %s", value), values: []string{value}},
		{name: "the second value", err: fmt.Errorf("sent %s", other), values: []string{value, other}},
		{name: "in hex, deep down", err: fmt.Errorf("a: %w", fmt.Errorf("sent %x", value)), values: []string{value}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := redact.Error(tt.err, tt.values...)
			if tt.same {
				require.Same(t, tt.err, got)
				return
			}
			require.ErrorContains(t, got, "withheld")
			require.NotErrorIs(t, got, tt.err)
			for _, v := range tt.values {
				require.False(t, redact.Tells(fmt.Sprintf("%+v", got), v))
			}
		})
	}
	require.NoError(t, redact.Error(nil, value))
	got := redact.Error(fmt.Errorf("%s: %w", value, context.DeadlineExceeded), value)
	require.ErrorIs(t, got, context.DeadlineExceeded)
	require.NotContains(t, got.Error(), value)
}
