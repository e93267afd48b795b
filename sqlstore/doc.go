// Package sqlstore keeps keys in an SQL database, through database/sql and whatever driver the host has chosen: the
// package itself imports none. It is a [keycote.Store].
//
// # Opening
//
// SQLite, here by modernc.org/sqlite; any driver will do, but one driver only for one file:
//
//	db, err := sql.Open("sqlite", "file:"+path+
//		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
//	...
//	if err := sqlstore.Migrate(ctx, db, sqlstore.SQLite); err != nil { ... }
//	store, err := sqlstore.New(ctx, db, sqlstore.SQLite)
//
// How connections behave is the opener's business, since a pool opens them when it likes. Three settings matter:
//
//   - busy_timeout: how long a write waits for another process. Without it the first collision fails.
//   - journal_mode WAL: readers, and so every Verify, do not wait for a writer.
//   - synchronous FULL: what was acknowledged survives a power failure. NORMAL keeps the file whole, but may lose the
//     last commits, and with them a revocation.
//
// A database in memory is one connection's own: db.SetMaxOpenConns(1). Where a pool has one connection, a host that
// holds it in a transaction reaches the store through [Store.Tx] alone; any other call waits for it.
//
// # Migrating
//
// [Migrate] brings the schema up to date: tables whose names begin with "keycote_", in the connection's default schema.
// It goes forward only, may be repeated, and may be run by several processes at once. [New] never migrates: it compares
// the schema's version with its own and fails on any other, so that a program may run without the right to change tables.
//
// # In the host's own transaction
//
// [Store.Tx] gives the same store inside a transaction of the host, so that a key and the row it belongs to come into
// being together:
//
//	tx, err := db.BeginTx(ctx, nil)
//	...
//	defer tx.Rollback()
//	view, committed := manager.In(store.Tx(tx))
//	key, secret, err := view.Issue(ctx, params)
//	...
//	if err := tx.Commit(); err != nil { ... }
//	committed()
//
// Each Commit of the store is a savepoint there: one that fails leaves the host's own work as it was. From the first
// Commit that changes a key until the transaction ends, no other such change goes on in the whole database: keep it
// short. On SQLite begin it as a writer (modernc: "_txlock=immediate"); a transaction that has read before it writes
// fails with SQLITE_BUSY whenever another has written in between, and no timeout helps.
//
// # What it promises
//
// A Batch is one transaction. Changes of records and items are put into one order by a row that is locked until commit;
// inside that lock names, digests and revisions are looked up and compared, so that the answer does not depend on how a
// driver reports a violation. Errors of the driver are passed on as they are and mean that the store is unavailable;
// texts of this package hold no values. The database's clock, and no other, decides when the ID of a Batch (a day) and
// an entry of the feed (ten minutes, and never one of the last 10,000) may go.
package sqlstore
