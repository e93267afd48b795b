package sqlstore

import (
	"math"
	"strconv"
)

// loose reads an integer of a row that somebody else may have written to: SQLite keeps "x" in an integer's column without
// a word. What is no integer becomes a number that no row of ours has, so that this row alone fails by its seal and can
// be deleted; an error of the scan would hide every row beside it (one undecryptable row broke Dify's whole list).
type loose int64

const unreadable = loose(math.MinInt64 / 2)

// Scan takes whatever a driver has; some bring integers as text.
func (l *loose) Scan(v any) error {
	switch v := v.(type) {
	case int64:
		*l = loose(v)
	case []byte:
		*l = parseLoose(string(v))
	case string:
		*l = parseLoose(v)
	default:
		*l = unreadable
	}
	return nil
}

func parseLoose(s string) loose {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return unreadable
	}
	return loose(n)
}

// looseOrNull is loose in a column that may be NULL.
type looseOrNull struct {
	n     loose
	valid bool
}

func (l *looseOrNull) Scan(v any) error {
	l.valid = v != nil
	return l.n.Scan(v)
}
