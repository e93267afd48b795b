package main

import (
	"context"
	"runtime"
	"time"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// memory is F10: what the heap grows by when a process that knows no key has verified all, divided by their number. That
// is the cache with all it holds: entry, index by record, record, scopes, and the row of the last use.
func memory(ctx context.Context, l *lab) ([]line, error) {
	store := memstore.New()
	k, err := newKEK()
	if err != nil {
		return nil, err
	}
	maker, err := keycote.New(ctx, store, k, nil)
	if err != nil {
		return nil, err
	}
	tokens, err := issue(ctx, maker, l.keys)
	if err != nil {
		return nil, err
	}
	m, err := keycote.New(ctx, forgetful{store}, k, &keycote.Options{MaxStale: time.Hour, CacheSize: 2 * l.keys})
	if err != nil {
		return nil, err
	}
	if err := verifyAll(ctx, m, tokens[:1]); err != nil { // what is made at the first use is no key's
		return nil, err
	}
	before := heap()
	if err := verifyAll(ctx, m, tokens); err != nil {
		return nil, err
	}
	unflushed := heap()
	if err := m.Flush(ctx); err != nil {
		return nil, err
	}
	flushed := heap()
	runtime.KeepAlive(m)
	runtime.KeepAlive(tokens)
	runtime.KeepAlive(maker)
	each := func(after uint64) spread { return exactly(float64(int64(after-before)) / float64(l.keys)) }
	return []line{
		{
			what: "memory for each cached key with two scopes, all in", goal: goal{atMost, 500}, got: each(flushed), unit: "bytes",
			note: number(float64(l.keys)) + " keys",
		},
		{
			what: "the same with its row of the use log, until that is written", got: each(unflushed), unit: "bytes",
		},
	}, nil
}

// forgetful takes use counts and keeps none, so that the heap shows what the Manager keeps.
type forgetful struct{ keycote.Store }

func (f forgetful) Commit(ctx context.Context, b keycote.Batch) error {
	if len(b.Uses) > 0 {
		return nil
	}
	return f.Store.Commit(ctx, b)
}

// heap is what is reachable: twice, because what a first collection finalizes only a second one frees.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
