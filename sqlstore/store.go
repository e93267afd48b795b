package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/keycote/keycote"
)

// Store is a [keycote.Store] on an SQL database. It is safe for concurrent use; a view that [Store.Tx] returns is as
// safe as the transaction it stands in. The zero Store is not usable.
type Store struct {
	db   *sql.DB
	d    *dialect
	turn chan struct{} // held by the one writer of this Store, where there is room for one only

	tx     *sql.Tx // of a view
	broken bool    // of a view, under turn: half a Batch may stand in tx

	sweeps *atomic.Uint32 // counts commits, for commit.forget

	// The statements of the hot path, prepared; lookup by the number of digests less one.
	get    *sql.Stmt
	lookup [maxPrepared]*sql.Stmt
}

// maxPrepared digests have a prepared statement: a value of issued form has one, any other two for each index key.
const maxPrepared = 8

var _ keycote.Store = (*Store)(nil)

// New opens the store in db, whose schema must be the one that this package works with: see [Migrate], which New never
// calls. db stays the caller's, who closes it after [Store.Close].
func New(ctx context.Context, db *sql.DB, d Dialect) (*Store, error) {
	dia, err := dialectOf(d)
	if err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, session{d: dia, q: db}); err != nil {
		return nil, contextual(ctx, err)
	}
	s := &Store{db: db, d: dia, turn: make(chan struct{}, 1), sweeps: new(atomic.Uint32)}
	if err := s.prepare(ctx); err != nil {
		return nil, contextual(ctx, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) prepare(ctx context.Context) (err error) {
	if s.get, err = s.db.PrepareContext(ctx, s.d.text(getStatement(s.d))); err != nil {
		return err
	}
	for i := range s.lookup {
		if s.lookup[i], err = s.db.PrepareContext(ctx, s.d.text(lookupStatement(i+1))); err != nil {
			return err
		}
	}
	return nil
}

// Close gives back what the Store has prepared; the database stays open. On a view it does nothing.
func (s *Store) Close() error {
	if s.tx != nil {
		return nil
	}
	var errs []error
	for _, stmt := range append(s.lookup[:], s.get) {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// Tx returns the store as it is inside tx, a transaction of the database that s was opened on: it sees what tx has
// written, and its every Commit is a savepoint of tx. The view ends with tx.
//
// When taking a savepoint back fails, the view refuses every further Commit, and the host must roll tx back.
func (s *Store) Tx(tx *sql.Tx) *Store {
	return &Store{db: s.db, d: s.d, tx: tx, turn: make(chan struct{}, 1), sweeps: s.sweeps}
}

// reader is where reads go.
func (s *Store) reader() session {
	if s.tx != nil {
		return session{d: s.d, q: s.tx, whole: s.d.uncancelled}
	}
	return session{d: s.d, q: s.db}
}

// write runs fn whole or not at all.
func (s *Store) write(ctx context.Context, fn func(session) error) error {
	if s.tx != nil {
		return s.savepoint(ctx, fn)
	}
	return s.d.atomic(ctx, s, fn)
}

const savepoint = "keycote_commit"

// savepoint makes fn a part of the host's transaction that can be taken back by itself. Where that fails half a Batch may
// stand in tx, and the view refuses whatever would make it look whole.
func (s *Store) savepoint(ctx context.Context, fn func(session) error) (err error) {
	// Savepoints are a stack: one Commit of the view at a time.
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.broken {
		return errors.New("sqlstore: a commit in this transaction could not be taken back: roll the transaction back")
	}
	x := session{d: s.d, q: s.tx, whole: s.d.uncancelled}
	if _, err := x.exec(ctx, "SAVEPOINT "+savepoint); err != nil {
		return err
	}
	s.broken = true // until it is kept or taken back, a panic included
	if err := fn(x); err != nil {
		return s.takeBack(ctx, x, err)
	}
	if err := ctx.Err(); err != nil {
		return s.takeBack(ctx, x, err)
	}
	if _, err := x.exec(context.WithoutCancel(ctx), "RELEASE SAVEPOINT "+savepoint); err != nil {
		return s.takeBack(ctx, x, err)
	}
	s.broken = false
	return nil
}

// takeBack returns why, joined with what went wrong on the way back.
func (s *Store) takeBack(ctx context.Context, x session, why error) error {
	ctx = context.WithoutCancel(ctx)
	for _, statement := range []string{"ROLLBACK TO SAVEPOINT ", "RELEASE SAVEPOINT "} {
		if _, err := x.exec(ctx, statement+savepoint); err != nil {
			return errors.Join(why, err)
		}
	}
	s.broken = false
	return why
}

// contextual makes the error of a call whose context has ended match the context's: drivers answer an interrupt with
// errors of their own.
func contextual(ctx context.Context, err error) error {
	if ended := ctx.Err(); err != nil && ended != nil && !errors.Is(err, ended) {
		return errors.Join(ended, err)
	}
	return err
}
