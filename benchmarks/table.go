package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// The generated table stands between these in docs/performance.md.
const (
	tableBegins = "<!-- figures: written by go run ./benchmarks -write -->"
	tableEnds   = "<!-- end of figures -->"
)

var errNoMarkers = errors.New("the markers of the table are not there, or not in order")

// writeTable writes Markdown.
func writeTable(w io.Writer, lines []line) error {
	rows := [][]string{columns, slicesOf("---", len(columns))}
	for _, l := range lines {
		rows = append(rows, l.cells())
	}
	for _, cells := range rows {
		if _, err := fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |"); err != nil {
			return err
		}
	}
	return nil
}

func slicesOf(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// split finds what is before the table, the table, and what is after it.
func split(doc string) (before, table, after string, err error) {
	before, rest, ok := strings.Cut(doc, tableBegins+"\n")
	if !ok {
		return "", "", "", errNoMarkers
	}
	table, after, ok = strings.Cut(rest, tableEnds+"\n")
	if !ok {
		return "", "", "", errNoMarkers
	}
	return before, table, after, nil
}

// replaceTable puts lines in the place of the table that is there.
func replaceTable(doc, about string, lines []line) (string, error) {
	before, _, after, err := split(doc)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(before + tableBegins + "\n" + about + "\n\n")
	if err := writeTable(&b, lines); err != nil {
		return "", err
	}
	b.WriteString(tableEnds + "\n" + after)
	return b.String(), nil
}

// recorded reads the medians out of the table, by [line.key]. A row that was not measured has none.
func recorded(doc string) (map[string]float64, error) {
	_, table, _, err := split(doc)
	if err != nil {
		return nil, err
	}
	medians := map[string]float64{}
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if len(cells) != len(columns) {
			continue
		}
		const what, median = 1, 4
		text, _, _ := strings.Cut(strings.TrimSpace(cells[median]), " ")
		value, err := parseNumber(text)
		if err != nil {
			continue // the head, or not measured
		}
		medians[strings.TrimSpace(cells[0])+" "+strings.TrimSpace(cells[what])] = value
	}
	return medians, nil
}

// tolerance is how far a short run on a busy machine may be off.
const tolerance = 2

// tooSlow says whether a line is worse than both its goal and what was recorded of it, by more than the tolerance.
func (l line) tooSlow(medians map[string]float64) bool {
	if l.missing != "" {
		return false
	}
	was, ok := medians[l.key()]
	if !ok {
		was = l.goal.bound
	}
	switch l.goal.kind {
	case noGoal:
		return false
	case counted:
		return l.got.median > l.goal.bound
	case atLeast:
		return l.got.median < min(l.goal.bound, was)/tolerance
	default:
		return l.got.median > max(l.goal.bound, was)*tolerance
	}
}
