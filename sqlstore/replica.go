package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/keycote/keycote"
)

// replica is a read-only copy of the database that the host has promised something about.
type replica struct {
	store *Store
	lag   time.Duration
}

var _ keycote.Replicated = (*Store)(nil)

// WithReplica returns s with a copy of its database that a Manager with MaxStale may ask in its place: see
// [keycote.Replicated]. db is opened like the database of s, with the same prefix and schema, and stays the caller's.
// lag is the host's promise: whatever was committed longer ago is to be read in db. It has to be positive, and less
// than MaxStale. The package's documentation says how to watch over it.
//
// WithReplica fails where [New] fails on db, on a view of a transaction, on a closed Store, and with a copy already there.
// The Store that it returns goes on with all that s has, and closes it.
func (s *Store) WithReplica(ctx context.Context, db *sql.DB, lag time.Duration) (*Store, error) {
	switch {
	case s.closed.Load():
		return nil, errClosed
	case s.tx != nil:
		return nil, errors.New("sqlstore: a view of a transaction has no replica")
	case s.replica.store != nil:
		return nil, errors.New("sqlstore: the store has a replica already")
	case db == nil:
		return nil, errors.New("sqlstore: the replica's database is nil")
	case lag <= 0:
		return nil, errors.New("sqlstore: the replica's lag is not positive")
	}
	r := &Store{db: db, d: s.d, closed: new(atomic.Bool)} // which is asked for Lookup, and nothing else
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	whole := *s
	whole.replica = replica{r, lag}
	return &whole, nil
}

// WithReplica is [Store.WithReplica], and goes on listening.
func (l *Listening) WithReplica(ctx context.Context, db *sql.DB, lag time.Duration) (*Listening, error) {
	s, err := l.Store.WithReplica(ctx, db, lag)
	if err != nil {
		return nil, err
	}
	return &Listening{s, l.listen}, nil
}

// Replica returns how the copy is asked, and what it may lag behind; nil without [Store.WithReplica].
func (s *Store) Replica() (lookup func(context.Context, [][]byte) (keycote.Record, error), lag time.Duration) {
	if s.replica.store == nil {
		return nil, 0
	}
	return s.replica.store.Lookup, s.replica.lag
}
