package keycote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// part is somebody whom a diagnosis asks and who may hang, or panic: each is given a time of its own.
type part string

const (
	partStore     part = "the store"
	partKEK       part = "the KEK"
	partRules     part = "the validator"
	partAuthorize part = "Options.Authorize"
	partInspect   part = "Options.Inspect"
	partProber    part = "Options.Prober"
)

const (
	askPatience     = 5 * time.Second        // for the store, the KEK and the host's rules
	networkPatience = 10 * time.Second       // for Options.Inspect and Options.Prober
	latePatience    = 250 * time.Millisecond // at most, for an answer to arrive once its context has ended
)

// patience is how long p may take: no more than a third of what ctx has left, so that something is left for the others.
func patience(ctx context.Context, p part) time.Duration {
	most := askPatience
	if p == partInspect || p == partProber {
		most = networkPatience
	}
	if end, ok := ctx.Deadline(); ok {
		most = min(most, -sinceStart(end)/3)
	}
	return most
}

var (
	errLate     = errors.New("it did not answer in time")
	errPanicked = errors.New("it panicked")
)

// answer is what a call of within came to.
type answer[T any] struct {
	value T
	err   error
}

// within asks p, for no longer than its patience, and not at all when p has been late before. f runs in a goroutine of
// its own, which it may keep for as long as it ignores its context: it must touch nothing of d that changes.
func within[T any](d *diagnosis, p part, f func(ctx context.Context) (T, error)) (T, error) {
	var none T
	if err := d.ctx.Err(); err != nil {
		return none, err
	}
	if d.late[p] {
		return none, errLate
	}
	limit := patience(d.ctx, p)
	ctx, cancel := context.WithTimeout(d.ctx, limit)
	defer cancel()
	done := make(chan answer[T], 1)
	value := d.value
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				d.tellPanic(p, cause, value)
				done <- answer[T]{err: errPanicked}
			}
		}()
		v, err := f(ctx)
		done <- answer[T]{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
	}
	d.late[p] = true
	timer := newTimer(min(limit/4, latePatience)) // who heeds the context may still say what was found before
	defer timer.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-timer.C:
	}
	return none, errLate
}

// tellPanic logs what p panicked with, unless that tells the value.
func (d *diagnosis) tellPanic(p part, cause any, value Secret) {
	d.log.LogAttrs(d.ctx, slog.LevelError, "keycote: a part of a diagnosis panicked",
		slog.String("key", idOrNone(d.id)), slog.String("what", string(p)),
		slog.Any("error", withheld(fmt.Errorf("%v", cause), value)))
}
