package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"sync/atomic"
)

// counting opens the database through a driver that counts the statements on their way.
func (d *database) counting() (*sql.DB, *atomic.Int64) {
	n := &atomic.Int64{}
	return sql.OpenDB(connector{driver: d.db.Driver(), dsn: d.dsn, n: n}), n
}

type connector struct {
	driver driver.Driver
	dsn    string
	n      *atomic.Int64
}

func (c connector) Driver() driver.Driver { return c.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	able, ok := conn.(ableConn)
	if !ok {
		return nil, fmt.Errorf("%T cannot do what its statements are counted by", conn)
	}
	return countedConn{able, c.n}, nil
}

// ableConn is what the connections of all three drivers can do.
type ableConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type countedConn struct {
	ableConn
	n *atomic.Int64
}

func (c countedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.n.Add(1)
	return c.ableConn.ExecContext(ctx, query, args)
}

func (c countedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.n.Add(1)
	return c.ableConn.QueryContext(ctx, query, args)
}

func (c countedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.ableConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	able, ok := stmt.(ableStmt)
	if !ok {
		return nil, fmt.Errorf("%T cannot do what it is counted by", stmt)
	}
	return countedStmt{able, c.n}, nil
}

type ableStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type countedStmt struct {
	ableStmt
	n *atomic.Int64
}

func (s countedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.n.Add(1)
	return s.ableStmt.ExecContext(ctx, args)
}

func (s countedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.n.Add(1)
	return s.ableStmt.QueryContext(ctx, args)
}
