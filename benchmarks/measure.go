package main

import (
	"runtime"
	"slices"
	"time"
)

// side is one of the things that are timed against each other.
type side struct {
	name   string
	run    func() error
	before func() error // run untimed before each run, which is then timed singly; nil: runs are timed in bulk
}

// timing is what rounds have shown of a side.
type timing struct {
	ns     []float64 // of one run, by round
	allocs float64   // of one run
}

// spread is a median and the quartiles around it.
type spread struct{ median, low, high float64 }

// interleave times the sides in turn, round after round (A B A B …): what disturbs the machine for a while disturbs all
// of them, and only what is said of both in the same round is kept. A slice of time holds as many runs as fit.
func interleave(rounds int, slice time.Duration, sides ...side) ([]timing, error) {
	timings, counts := make([]timing, len(sides)), make([]int, len(sides))
	for i, s := range sides {
		n, err := calibrate(s, slice)
		if err != nil {
			return nil, err
		}
		counts[i] = n
	}
	for range rounds {
		for i, s := range sides {
			runtime.GC() // so that nobody pays for another's garbage
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			elapsed, err := timed(s, counts[i])
			if err != nil {
				return nil, err
			}
			runtime.ReadMemStats(&after)
			timings[i].ns = append(timings[i].ns, float64(elapsed.Nanoseconds())/float64(counts[i]))
			timings[i].allocs = float64(after.Mallocs-before.Mallocs) / float64(counts[i])
		}
	}
	return timings, nil
}

// calibrate finds how many runs of s fill a slice.
func calibrate(s side, slice time.Duration) (int, error) {
	if s.before != nil {
		return 1, nil
	}
	for n := 1; ; n *= 2 {
		elapsed, err := timed(s, n)
		if err != nil {
			return 0, err
		}
		if elapsed >= slice/2 {
			return max(int(float64(n)*float64(slice)/float64(elapsed)), 1), nil
		}
	}
}

func timed(s side, n int) (time.Duration, error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return 0, err
		}
	}
	start := now()
	for range n {
		if err := s.run(); err != nil {
			return 0, err
		}
	}
	return now().Sub(start), nil
}

// now is the machine's own clock, which is what is measured here.
func now() time.Time {
	return time.Now() //house:allow clock a benchmark measures by the machine's own clock
}

// over is what is got from each round of two timings by f, at its median.
func over(a, b timing, f func(a, b float64) float64) spread {
	values := make([]float64, len(a.ns))
	for i := range values {
		values[i] = f(a.ns[i], b.ns[i])
	}
	return spreadOf(values)
}

// times is how many times as long a takes as b.
func times(a, b timing) spread { return over(a, b, func(a, b float64) float64 { return a / b }) }

// plus is the timing of one after the other.
func plus(a, b timing) timing {
	sum := timing{allocs: a.allocs + b.allocs}
	for i := range a.ns {
		sum.ns = append(sum.ns, a.ns[i]+b.ns[i])
	}
	return sum
}

// median is the time of one run.
func (t timing) median() time.Duration { return time.Duration(spreadOf(t.ns).median) }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	at := func(part float64) float64 { // between two values, in proportion
		place := part * float64(len(sorted)-1)
		i := int(place)
		if i+1 == len(sorted) {
			return sorted[i]
		}
		return sorted[i] + (place-float64(i))*(sorted[i+1]-sorted[i])
	}
	return spread{median: at(0.5), low: at(0.25), high: at(0.75)}
}

// exactly is a value that was counted, and has no spread.
func exactly[N int | int64 | float64](n N) spread {
	return spread{median: float64(n), low: float64(n), high: float64(n)}
}
