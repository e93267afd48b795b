package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFigures produces every figure, with one round of next to nothing: what they say is not looked at.
func TestFigures(t *testing.T) {
	t.Parallel()
	l := tiny()
	require.NoError(t, l.openDatabases(t.Context()))
	t.Cleanup(func() { require.NoError(t, l.closeDatabases(t.Context())) })
	require.NotEmpty(t, l.databases, "SQLite needs no server")
	lines, err := l.measure(t.Context(), nil)
	require.NoError(t, err)
	produced := map[string]bool{}
	for _, ln := range lines {
		require.Len(t, ln.cells(), len(columns), ln.key())
		produced[ln.figure] = true
		if ln.goal.kind == counted {
			require.False(t, ln.missing == "" && !ln.goal.met(ln.got.median), "%s: %v", ln.key(), ln.got.median)
		}
	}
	for _, f := range figures() {
		require.True(t, produced[f.id], f.id)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	require.Equal(t, spread{median: 3, low: 2, high: 4}, spreadOf([]float64{5, 1, 4, 2, 3}))
	require.Equal(t, spread{median: 7, low: 7, high: 7}, spreadOf([]float64{7}))
}

func TestTable(t *testing.T) {
	t.Parallel()
	lines := []line{
		{figure: "F1", what: "a", goal: goal{atMost, 1}, got: exactly(1.25), unit: unitTimes},
		{figure: "F2", what: "b", goal: goal{atLeast, 5_000}, got: exactly(12_345.0), unit: unitTimes},
		{figure: "F3", what: "c", missing: "not built"},
	}
	doc := "before\n" + tableBegins + "\nold\n" + tableEnds + "\nafter\n"
	once, err := replaceTable(doc, "here", lines)
	require.NoError(t, err)
	twice, err := replaceTable(once, "here", lines)
	require.NoError(t, err)
	require.Equal(t, once, twice)
	require.Contains(t, once, "| F3 | c |  | – | not measured |  |  | not built |")
	medians, err := recorded(once)
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"F1 a": 1.25, "F2 b": 12_345}, medians)

	_, err = replaceTable("no markers", "here", lines)
	require.ErrorIs(t, err, errNoMarkers)
}

func TestTooSlow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		goal     goal
		recorded float64 // 0: nothing
		got      float64
		want     bool
	}{
		{"within twice the goal", goal{atMost, 1}, 0.5, 2, false},
		{"beyond it", goal{atMost, 1}, 0.5, 2.1, true},
		{"a goal that is missed already", goal{atMost, 1}, 3, 6, false},
		{"missed by more than before", goal{atMost, 1}, 3, 6.1, true},
		{"nothing recorded", goal{atMost, 1}, 0, 2.1, true},
		{"half of a least", goal{atLeast, 10}, 20, 5, false},
		{"less than half", goal{atLeast, 10}, 20, 4.9, true},
		{"a count knows no noise", goal{counted, 1}, 1, 2, true},
		{"no goal", goal{}, 1, 100, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			medians := map[string]float64{}
			if tc.recorded != 0 {
				medians["F1 a"] = tc.recorded
			}
			require.Equal(t, tc.want, line{figure: "F1", what: "a", goal: tc.goal, got: exactly(tc.got)}.tooSlow(medians))
		})
	}
	require.False(t, line{missing: "not there", goal: goal{atLeast, 1}}.tooSlow(nil))
}

func TestOnly(t *testing.T) {
	t.Parallel()
	ids, err := idsOf("f1,F12")
	require.NoError(t, err)
	require.Equal(t, []string{"F1", "F12"}, ids)
	_, err = idsOf("F13")
	require.Error(t, err)
}
