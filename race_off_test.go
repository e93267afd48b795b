//go:build !race

package keycote

// raceFactor is how much slower the race detector makes a CPU-bound test.
const raceFactor = 1
