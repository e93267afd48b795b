package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// figure is one of F1 to F12.
type figure struct {
	id      string
	measure func(context.Context, *lab) ([]line, error)
}

func figures() []figure {
	return []figure{
		{"F1", cachedVerify},
		{"F2", uncachedVerify},
		{"F3", middlewares},
		{"F4", refusals},
		{"F5", verifyOnSQL},
		{"F6", addAndReveal},
		{"F7", useLog},
		{"F8", pages},
		{"F9", revocations},
		{"F10", memory},
		{"F11", rotations},
		{"F12", peers},
	}
}

// lab is how much of everything is measured. What a figure says does not depend on it, only how well.
type lab struct {
	rounds      int
	slice       time.Duration // of one side in one round
	keys        int           // in the larger cache of F1, and in that of F10
	sqlKeys     int           // in each database, in F5: a point look-up takes as long among a million
	useRows     int           // of one flush, in F7
	position    int           // of the later page, in F8
	revocations int           // on each database, in F9
	maxStale    time.Duration // of F9
	requests    int           // of one round on loopback, in F3

	databases []*database
	absent    []absence
}

// absence is a database that is not there.
type absence struct {
	name string
	why  error
}

// full is what the table in docs/performance.md is made with.
func full() *lab {
	return &lab{
		rounds: 9, slice: 40 * time.Millisecond, keys: 100_000, sqlKeys: 200, useRows: 10_000, position: 100_000,
		revocations: 50, maxStale: 3 * time.Second, requests: 8_000,
	}
}

// quick takes some seconds, for the tests.
func quick() *lab {
	return &lab{
		rounds: 7, slice: 4 * time.Millisecond, keys: 100_000, sqlKeys: 30, useRows: 2_000, position: 10_000, revocations: 8,
		maxStale: 3 * time.Second, requests: 1_000,
	}
}

// tiny shows that every figure can be produced, and nothing else.
func tiny() *lab {
	return &lab{
		rounds: 1, slice: time.Microsecond, keys: 2_000, sqlKeys: 3, useRows: 200, position: 2_000, revocations: 2,
		maxStale: 3 * time.Second, requests: 50,
	}
}

// measure measures the figures of those ids; none: all.
func (l *lab) measure(ctx context.Context, ids []string) ([]line, error) {
	var lines []line
	for _, f := range figures() {
		if len(ids) > 0 && !slices.Contains(ids, f.id) {
			continue
		}
		got, err := f.measure(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.id, err)
		}
		for i := range got {
			got[i].figure = f.id
		}
		lines = append(lines, got...)
	}
	return lines, nil
}

// eachDatabase collects the lines of all databases, and names those that are not there.
func (l *lab) eachDatabase(
	ctx context.Context, measure func(context.Context, *database) ([]line, error),
) ([]line, error) {
	var lines []line
	for _, db := range l.databases {
		got, err := measure(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", db.name, err)
		}
		lines = append(lines, got...)
	}
	for _, a := range l.absent {
		lines = append(lines, line{what: "on " + a.name, missing: "it is not there: " + oneLine(a.why)})
	}
	return lines, nil
}

func oneLine(err error) string {
	return strings.NewReplacer("\n", "; ", "|", "/").Replace(err.Error())
}
