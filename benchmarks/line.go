package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// line is one row of the table.
type line struct {
	figure  string // F1 to F12
	what    string
	limit   string // what it stands beside, measured in the same run
	goal    goal
	got     spread
	unit    string
	note    string
	missing string // why it was not measured; empty: it was
}

// goal is what a line is held against. The zero goal is none: a line for comparison.
type goal struct {
	kind  goalKind
	bound float64
}

type goalKind int

const (
	noGoal goalKind = iota
	atMost
	atLeast
	counted // at most, and without a tolerance for noise: what is counted has none
)

func (g goal) met(value float64) bool {
	switch g.kind {
	case noGoal:
		return true
	case atLeast:
		return value >= g.bound
	default:
		return value <= g.bound
	}
}

const unitTimes = "×"

func (l line) key() string { return l.figure + " " + l.what }

// cells are the table's columns: figure, what, beside, goal, median, quartiles, met, note.
func (l line) cells() []string {
	if l.missing != "" {
		return []string{l.figure, l.what, l.limit, l.goalText(), "not measured", "", "", l.missing}
	}
	met := "–"
	if l.goal.kind != noGoal {
		met = map[bool]string{true: "yes", false: "**no**"}[l.goal.met(l.got.median)]
	}
	around := ""
	if l.got.low != l.got.high {
		around = number(l.got.low) + " – " + number(l.got.high)
	}
	return []string{l.figure, l.what, l.limit, l.goalText(), number(l.got.median) + " " + l.unit, around, met, l.note}
}

func (l line) goalText() string {
	switch l.goal.kind {
	case noGoal:
		return "–"
	case atLeast:
		return "≥ " + number(l.goal.bound) + " " + l.unit
	default:
		return "≤ " + number(l.goal.bound) + " " + l.unit
	}
}

// columns are the heads of cells.
var columns = []string{"#", "what", "beside", "goal", "median", "quartiles", "met", "note"}

// number writes three figures, and thousands with a comma.
func number(x float64) string {
	switch {
	case x != 0 && x < 10 && x > -10:
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(x, 'f', 2, 64), "0"), ".")
	case x < 100:
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
	}
	s := strconv.FormatFloat(x, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// number's inverse.
func parseNumber(s string) (float64, error) {
	return strconv.ParseFloat(strings.ReplaceAll(s, ",", ""), 64)
}

func took(t timing) string { return short(t.median()) }

func short(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

func allocs(t timing) string {
	if n := int(t.allocs + 0.5); n != 1 {
		return fmt.Sprintf("%d allocations", n)
	}
	return "1 allocation"
}
