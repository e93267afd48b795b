package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/keycote/keycote"
)

// Store is a [keycote.Store] on an SQL database. It is safe for concurrent use, and so is a view that [Store.Tx]
// returns: its calls wait for each other. The zero Store is not usable.
type Store struct {
	db   *sql.DB
	d    *dialect
	turn chan struct{} // held by the one writer of this Store, where there is room for one only

	closed *atomic.Bool // shared with views, and with what WithReplica returns

	replica replica // of WithReplica

	tx     *sql.Tx // of a view
	broken bool    // of a view, under turn: half a Batch may stand in tx

	sweeps  *atomic.Uint32 // counts commits, for commit.forget
	channel string         // that commits tell of themselves on, where the database can

	// The statements of the hot path, prepared; lookup by the number of digests less one.
	get     *sql.Stmt
	getText string
	lookup  [maxPrepared]*sql.Stmt
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
	if db == nil {
		return nil, errNoDatabase
	}
	s := &Store{
		db: db, d: dia, turn: make(chan struct{}, 1), closed: new(atomic.Bool), sweeps: new(atomic.Uint32),
		getText: getStatement(dia),
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

var (
	errNoDatabase = errors.New("sqlstore: the database is nil")
	errClosed     = errors.New("sqlstore: the Store is closed")
)

// open looks at the database, and prepares what the Store will ask it. A file that another one holds is waited for.
func (s *Store) open(ctx context.Context) error {
	err := s.opening(ctx, func() error {
		if err := checkSchema(ctx, session{d: s.d, q: s.db}); err != nil {
			return err
		}
		if err := s.nameChannel(ctx); err != nil {
			return err
		}
		return s.prepare(ctx)
	})
	if err != nil {
		return contextual(ctx, errors.Join(err, s.Close()))
	}
	return nil
}

// prepare prepares the hot path: Lookup, and Get where the Store has a text for it, as a replica has not. Called again
// it goes on where it has failed.
func (s *Store) prepare(ctx context.Context) (err error) {
	if !s.d.prepared {
		return nil
	}
	if s.getText != "" && s.get == nil {
		if s.get, err = s.db.PrepareContext(ctx, s.d.text(s.getText)); err != nil {
			return err
		}
	}
	for i := range s.lookup {
		if s.lookup[i] != nil {
			continue
		}
		if s.lookup[i], err = s.db.PrepareContext(ctx, s.d.text(lookupStatement(s.d, i+1))); err != nil {
			return err
		}
	}
	return nil
}

// Close gives back what the Store has prepared; the database stays open. Every call that begins afterwards fails, those
// of views too; a Commit that has begun goes on. Closing again, and closing a view, does nothing.
func (s *Store) Close() error {
	if s.tx != nil {
		return nil
	}
	s.closed.Store(true)
	var errs []error
	for _, stmt := range append(s.lookup[:], s.get) {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if s.replica.store != nil {
		errs = append(errs, s.replica.store.Close())
	}
	return errors.Join(errs...)
}

// Tx returns the store as it is inside tx, a transaction of the database that s was opened on: it sees what tx has
// written, and its every Commit is a savepoint of tx. The view ends with tx. Take one view of a transaction, not several.
//
// When taking a savepoint back fails, the view refuses every further call, and the host must roll tx back.
func (s *Store) Tx(tx *sql.Tx) *Store {
	return &Store{
		db: s.db, d: s.d, tx: tx, turn: make(chan struct{}, 1), closed: s.closed, sweeps: s.sweeps, channel: s.channel,
		getText: s.getText,
	}
}

// read runs a statement and hands every row to each. Outside a view prepared is run when it is there; it is made from
// the same statement. A read of a view waits for a Commit of the view: inside a transaction nothing else keeps half a
// Batch from being seen.
func (s *Store) read(
	ctx context.Context, each func(*sql.Rows) error, prepared *sql.Stmt, statement string, args ...any,
) error {
	if s.closed.Load() {
		return errClosed
	}
	if s.tx != nil {
		err := s.takeTurn(ctx)
		if err == nil {
			err = session{d: s.d, q: s.tx, whole: s.d.embedded}.query(ctx, each, statement, args...)
			<-s.turn
		}
		return contextual(ctx, err)
	}
	err := s.readOnce(ctx, each, prepared, statement, args)
	if err != nil && s.d.embedded && sqliteBusy(err) {
		err = s.readAgain(ctx, err, func() error { return s.readOnce(ctx, each, prepared, statement, args) })
	}
	return contextual(ctx, err)
}

func (s *Store) readOnce(
	ctx context.Context, each func(*sql.Rows) error, prepared *sql.Stmt, statement string, args []any,
) error {
	if prepared == nil {
		return session{d: s.d, q: s.db}.query(ctx, each, statement, args...)
	}
	rows, err := prepared.QueryContext(ctx, args...)
	switch {
	case err != nil && s.closed.Load(): // since read has looked
		return errClosed
	case err != nil:
		return err
	}
	return drain(rows, each)
}

// takeTurn waits until nobody else is in the view.
func (s *Store) takeTurn(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.broken {
		<-s.turn
		return errBrokenView
	}
	return nil
}

var errBrokenView = errors.New("sqlstore: a commit could not be taken back: roll the transaction back")

// write runs fn whole or not at all, and again when the database has ended it for the sake of another. In a view that
// is for the host to do, whose transaction has ended with it.
func (s *Store) write(ctx context.Context, fn func(session) error) error {
	if s.closed.Load() {
		return errClosed
	}
	if s.tx != nil {
		return s.savepoint(ctx, fn)
	}
	return s.retried(ctx, func() error { return s.d.atomic(ctx, s, fn) })
}

const savepoint = "keycote_commit"

// savepoint makes fn a part of the host's transaction that can be taken back by itself. Where that fails half a Batch
// may stand in tx, and the view refuses whatever would make it look whole.
func (s *Store) savepoint(ctx context.Context, fn func(session) error) (err error) {
	// Savepoints are a stack: one Commit of the view at a time.
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	x := session{d: s.d, q: s.tx, whole: s.d.embedded}
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
