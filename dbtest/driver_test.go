package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// statement is what the store asked the driver for.
type statement struct {
	text string
	args []any
}

// watch sees every statement on its way to the driver, and may keep it from getting there.
type watch struct {
	mu     sync.Mutex
	seen   []statement
	opened int
	before func(text string) error // under mu; nil: nothing
}

func (w *watch) run(text string, args []driver.NamedValue) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := statement{text: text}
	for _, a := range args {
		s.args = append(s.args, a.Value)
	}
	w.seen = append(w.seen, s)
	if w.before != nil {
		return w.before(text)
	}
	return nil
}

// take returns what was seen since the last call.
func (w *watch) take() []statement {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

func (w *watch) intercept(before func(text string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = before
}

func (w *watch) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened
}

// openWatched opens a file through w.
func openWatched(t testing.TB, path string) (*sql.DB, *watch) {
	t.Helper()
	return place{driver: "sqlite", dsn: dsn(path)}.openWatched(t)
}

func (p place) openWatched(t testing.TB) (*sql.DB, *watch) {
	t.Helper()
	bare, err := sql.Open(p.driver, p.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bare.Close()) })
	w := &watch{}
	db := sql.OpenDB(watchedConnector{w: w, driver: bare.Driver(), dsn: p.dsn})
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db, w
}

type watchedConnector struct {
	w      *watch
	driver driver.Driver
	dsn    string
}

func (c watchedConnector) Driver() driver.Driver { return c.driver }

func (c watchedConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.opened++
	return &watchedConn{fullConn: conn.(fullConn), w: c.w}, nil
}

// fullConn is what the drivers' connections can do, and what this one therefore does.
type fullConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type watchedConn struct {
	fullConn
	w *watch
}

func (c *watchedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.w.run(query, args); err != nil {
		return nil, err
	}
	return c.fullConn.ExecContext(ctx, query, args)
}

func (c *watchedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.w.run(query, args); err != nil {
		return nil, err
	}
	return c.fullConn.QueryContext(ctx, query, args)
}

func (c *watchedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.fullConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &watchedStmt{fullStmt: stmt.(fullStmt), w: c.w, text: query}, nil
}

type fullStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type watchedStmt struct {
	fullStmt
	w    *watch
	text string
}

func (s *watchedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.w.run(s.text, args); err != nil {
		return nil, err
	}
	return s.fullStmt.QueryContext(ctx, args)
}

func (s *watchedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.w.run(s.text, args); err != nil {
		return nil, err
	}
	return s.fullStmt.ExecContext(ctx, args)
}
