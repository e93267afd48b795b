//go:build race

package keycote

const raceFactor = 15
