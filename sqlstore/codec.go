package sqlstore

import (
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// micros is t as it is stored. The zero Time is a number too, the least that occurs, so that comparisons hold for it. A
// time beyond what the number holds, which is none of a key's but may be asked for, is the last that it does: UnixMicro
// answers anything there.
func micros(t time.Time) int64 {
	switch {
	case t.After(time.UnixMicro(math.MaxInt64)):
		return math.MaxInt64
	case t.Before(time.UnixMicro(math.MinInt64)):
		return math.MinInt64
	}
	return t.UnixMicro()
}

// ceil is the number to compare with when a stored time must lie before t, or not: stored times have no nanoseconds,
// the asked-for one may have.
func ceil(t time.Time) int64 {
	n := micros(t)
	if t.Nanosecond()%1000 != 0 && n < math.MaxInt64 {
		n++
	}
	return n
}

func timeOf(n int64) time.Time { return time.UnixMicro(n).UTC() }

// never is the zero time as NULL.
func never(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: micros(t), Valid: !t.IsZero()}
}

// named is a name as NULL when it is empty: the unique index holds names against each other, not their absence.
func named(name string) sql.NullString {
	return sql.NullString{String: name, Valid: name != ""}
}

var errPacked = errors.New("sqlstore: a row of the database cannot be read")

// unpack reads what dialect.pack wrote: rows of n fields.
func unpack(packed sql.NullString, n int) ([][]string, error) {
	if !packed.Valid {
		return nil, nil
	}
	rows := strings.Split(packed.String, ",")
	out := make([][]string, len(rows))
	for i, row := range rows {
		if out[i] = strings.Split(row, " "); len(out[i]) != n {
			return nil, errPacked
		}
	}
	return out, nil
}

// numbers reads fields that are all integers.
func numbers(fields []string) ([]int64, error) {
	out := make([]int64, len(fields))
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, errPacked
		}
		out[i] = n
	}
	return out, nil
}

func unhex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errPacked
	}
	return b, nil
}

// joinDigests writes digests into one value, each after its length; nil when there is none.
func joinDigests(digests [][]byte) []byte {
	var b []byte
	for _, d := range digests {
		b = binary.AppendUvarint(b, uint64(len(d)))
		b = append(b, d...)
	}
	return b
}

func splitDigests(b []byte) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return nil, errPacked
		}
		end := used + int(n)
		out = append(out, b[used:end:end])
		b = b[end:]
	}
	return out, nil
}
