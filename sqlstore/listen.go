package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/keycote/keycote"
)

// Listener waits for notifications on a channel of PostgreSQL, as database/sql cannot: on a connection of its own, by a
// driver of the host's choice. It sends LISTEN with channel, which is of a-z, 0-9 and "_" and needs no quotes; it calls
// wake then, and at every notification, whatever it says; and it returns when ctx ends or the connection is lost. Who
// connects again by himself calls wake again as well. The package's documentation has one for pgx and one for lib/pq.
type Listener func(ctx context.Context, channel string, wake func()) error

// Listening is a [Store] that hears of commits, those of other processes too: a [keycote.Notifier]. [Store.Tx] of it
// is a plain Store. The zero Listening is not usable; [Store.WithListener] makes one.
type Listening struct {
	*Store
	listen Listener
}

var _ keycote.Notifier = (*Listening)(nil)

// WithListener returns s with a way to hear of commits, for [keycote.New]. It fails on any database but PostgreSQL, on a
// view of a transaction, on a closed Store, and without a listener.
func (s *Store) WithListener(listen Listener) (*Listening, error) {
	switch {
	case s.closed.Load():
		return nil, errClosed
	case s.tx != nil:
		return nil, errors.New("sqlstore: a view of a transaction does not listen")
	case s.channel == "":
		return nil, errors.New("sqlstore: the database has no notifications")
	case listen == nil:
		return nil, errors.New("sqlstore: the listener is nil")
	}
	return &Listening{s, listen}, nil
}

// Notify listens by the host's [Listener] until ctx ends or the connection is lost.
func (l *Listening) Notify(ctx context.Context, wake func()) error {
	return l.listen(ctx, l.channel, wake)
}

// nameChannel names the channel by schema and prefix, so that stores in one database do not wake each other. It is a
// hash, for the two together may be longer than a name can be, and a schema's may need quotes. Channels of two
// databases have nothing to do with each other. A server that speaks PostgreSQL's protocol and has no such function is
// left in peace.
func (s *Store) nameChannel(ctx context.Context) error {
	if s.d.notifies == "" {
		return nil
	}
	var schema string
	found, err := session{d: s.d, q: s.db}.one(ctx, []any{&schema}, s.d.schema)
	if err != nil || !found {
		return err
	}
	sum := sha256.Sum256([]byte(s.d.prefix + "\x00" + schema))
	s.channel = "keycote_" + hex.EncodeToString(sum[:16])
	return nil
}
