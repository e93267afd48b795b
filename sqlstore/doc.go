// Package sqlstore keeps keys in an SQL database, through database/sql and whatever driver the host has chosen: the
// package itself imports none. It is a [keycote.Store] on SQLite, PostgreSQL, MySQL and MariaDB.
//
// # Opening
//
// The same three lines on all of them:
//
//	db, err := sql.Open(driver, dsn)
//	...
//	if err := sqlstore.Migrate(ctx, db, sqlstore.Postgres); err != nil { ... }
//	store, err := sqlstore.New(ctx, db, sqlstore.Postgres)
//
// How connections behave is the opener's business, since a pool opens them when it likes.
//
// SQLite 3.24, here by modernc.org/sqlite; any driver will do, but one driver only for one file:
//
//	sql.Open("sqlite", "file:"+path+
//		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)")
//
// Three settings matter:
//
//   - busy_timeout: how long a call waits for another one's lock, in milliseconds. Without it the store's own writes
//     and reads are repeated for five seconds; whatever else the host does on that database, [Store.Tx] included, fails
//     at the first collision.
//   - journal_mode WAL: readers, and so every Verify, do not wait for a writer, nor its COMMIT for them.
//   - synchronous FULL: what was acknowledged survives a power failure. NORMAL keeps the file whole, but may lose the
//     last commits, and with them a revocation.
//
// A database in memory is one connection's own: db.SetMaxOpenConns(1). Where a pool has one connection, a host that
// holds it in a transaction reaches the store through [Store.Tx] alone; any other call waits for it.
//
// PostgreSQL 12, by pgx (driver "pgx") or lib/pq ("postgres"):
//
//	sql.Open("pgx", "postgres://app@db.example/app?sslmode=verify-full")
//
// What to know:
//
//   - The database's encoding must be UTF8; which locale it has does not matter.
//   - The tables stand in the first schema of search_path that there is; put it into the DSN if it is not the default
//     one. Tables of the same names in a later one are somebody else's.
//   - Nothing is prepared by this package, so that a pooler may stand between. pgx prepares by itself, which is best
//     where none does; lib/pq asks the server twice for each statement, unless its binary_parameters=yes is set.
//   - synchronous_commit must not be off: an acknowledged revocation could be lost with the server.
//
// MariaDB 10.5 or MySQL 8.0, by github.com/go-sql-driver/mysql. The tests run on MariaDB; on MySQL nothing has run yet,
// and what is said of it here is read from its manual: run storetest there first.
//
//	sql.Open("mysql", "app@tcp(db.example)/app?tls=true&interpolateParams=true")
//
// What to know:
//
//   - sql_mode must be strict, autocommit on, the isolation not READ UNCOMMITTED, and on MariaDB group_concat_max_len
//     1 MiB or more, all as they are by default. [New] looks, and refuses.
//   - interpolateParams saves a round trip for each statement. It, clientFoundRows, parseTime and loc may be as the
//     host likes: times are stored as numbers, and no answer rests on a count of rows that an UPDATE has found.
//   - The binary log's format must be ROW or MIXED: writes are READ COMMITTED.
//   - innodb_flush_log_at_trx_commit must be 1, as it is by default, for the reason above.
//   - A Commit that waits in vain for another's lock fails after innodb_lock_wait_timeout, 50 s by default: give it a
//     context that ends earlier.
//
// # Connections
//
// A pool of database/sql opens as many connections as there are calls at once, and keeps two of them. A burst of
// verifications would take all that a server has (100 on PostgreSQL by default), and the rest would fail as an outage;
// and each third call at once would connect anew. So set both, for all processes together below what the server has:
//
//	db.SetMaxOpenConns(16)
//	db.SetMaxIdleConns(16)
//
// Calls beyond that wait for their turn, as long as their contexts last; a lookup takes a connection for about a
// millisecond. The pool of a replica wants the same. A [Listener] has one connection of its own besides. A file of
// SQLite needs neither.
//
// # Hearing of changes
//
// A Manager with MaxStale learns of other processes' changes by polling the feed, each second. On PostgreSQL it can be
// told instead, in milliseconds: each commit that changes a key or a keyring notifies, within its transaction, a channel
// that is named by schema and prefix. Polling goes on, so that nothing rests on it. database/sql cannot listen; the
// host's driver can, on a connection of its own:
//
//	listening, err := store.WithListener(listenByPgx(dsn))
//	...
//	keys, err := keycote.New(ctx, listening, kek, &keycote.Options{MaxStale: 30 * time.Second})
//	...
//	go keys.Run(ctx)
//
// by pgx:
//
//	func listenByPgx(dsn string) sqlstore.Listener {
//		return func(ctx context.Context, channel string, wake func()) error {
//			conn, err := pgx.Connect(ctx, dsn)
//			if err != nil {
//				return err
//			}
//			defer func() {
//				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
//				defer cancel()
//				_ = conn.Close(ctx)
//			}()
//			if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
//				return err
//			}
//			for {
//				wake()
//				if _, err := conn.WaitForNotification(ctx); err != nil {
//					return err
//				}
//			}
//		}
//	}
//
// and by lib/pq:
//
//	func listenByPQ(dsn string) sqlstore.Listener {
//		return func(ctx context.Context, channel string, wake func()) error {
//			l := pq.NewListener(dsn, 100*time.Millisecond, 10*time.Second, nil)
//			defer context.AfterFunc(ctx, func() { _ = l.Close() })() // Listen waits for a connection, and knows no context
//			defer func() { _ = l.Close() }()
//			if err := l.Listen(channel); err != nil {
//				return err
//			}
//			for {
//				wake()
//				select {
//				case _, open := <-l.Notify: // nil when it has connected again by itself
//					if !open {
//						return errors.New("the listener was closed")
//					}
//				case <-ctx.Done():
//					return ctx.Err()
//				}
//			}
//		}
//	}
//
// The notification is empty, and costs no round trip. What to know:
//
//   - LISTEN needs a connection to the server itself, not to a pooler that hands connections out by the transaction.
//   - A transaction of the host's in which a key was changed cannot be prepared for a two-phase commit.
//   - Commits that notify wait for each other in one database, the host's own among them. Keycote's changes do that
//     anyway.
//
// # A replica
//
// A Manager with MaxStale may read what it has not cached from a read-only copy of the database:
//
//	store, err = store.WithReplica(ctx, replica, 10*time.Second)
//	...
//	keys, err := keycote.New(ctx, store, kek, &keycote.Options{MaxStale: 30*time.Second})
//
// MaxStale goes on bounding how long a revoked key may be honoured, the replica's lag included; what is asked of the
// primary all the same stands at [keycote.Replicated]. A listener can be given before or after. The lag is the host's
// promise, and nothing here measures it: a replica that lags more than that honours a revoked key that much longer, so
// watch it, and take the replica away, its connections included, before the promise is broken:
//
//   - PostgreSQL, on the replica: now() - pg_last_xact_replay_timestamp(), which grows on an idle primary as well unless
//     something is written there regularly; on the primary replay_lag in pg_stat_replication. Mind
//     max_standby_streaming_delay, which lets a long query on the replica hold replay up for 30 s by default.
//   - MySQL and MariaDB, on the replica: Seconds_Behind_Source (Seconds_Behind_Master) of SHOW REPLICA STATUS. It is
//     NULL when replication has stopped, and says little while the link to the primary is down: a row with the time,
//     written each second, tells the truth, and does so on every database.
//
// A schema is migrated on the primary alone; WithReplica fails until the replica has it. A host that wants to start
// while its replica is away goes on with the Store that it has.
//
// # Tables
//
// [Migrate] brings the schema up to date: tables whose names begin with "keycote_", or with what [Dialect.WithPrefix]
// says. It goes forward only, may be repeated, and may be run by several processes at once, beside others that work.
// [New] never migrates: it compares the schema's version with its own, so that a program may run without the right to
// change tables. A later version of the schema notes which earlier programs can go on with it: a deployment migrates
// first and replaces its processes then, one by one, and one of the old ones that starts again in between is let in.
// [Schema] returns the statements, for a migration tool of the host's own.
//
// Times are whole microseconds since 1970. On PostgreSQL text has COLLATE "C"; on MySQL it stands in columns of bytes,
// for want of a collation that keeps "acme" and "acme " apart. Who looks with psql or mysql finds the views
// keycote_show_keys and keycote_show_events: names and times to be read, labels as JSON.
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
// short. What a Commit compares is the present also in a transaction that stands on a moment of its own (REPEATABLE
// READ, MySQL's default); if that cannot be, it fails to serialize, and the host begins again. Reads of the view see
// that moment. Deadlocks and the like are the host's to try again.
//
// On SQLite begin the transaction as a writer (modernc: "_txlock=immediate"); one that has read before it writes fails
// with SQLITE_BUSY whenever another has written in between, and no timeout helps. On servers most drivers give up the
// connection of a call whose context ends, and so the whole transaction.
//
// # What it promises
//
// A Batch is one transaction. Changes of records and items are put into one order by a row that is locked until commit;
// inside that lock names, digests and revisions are looked up and compared, so that the answer does not depend on how a
// driver reports a violation, nor on the isolation: READ COMMITTED does, and is set. Events and use counts alone do
// without that lock, and wait for nobody but the writers of the same counts. A transaction that the database ends for
// the sake of another (a deadlock, a failure to serialize) is tried again, ten times at most; one that has waited for a
// lock as long as the server lets it is not.
//
// Errors of the driver are passed on as they are and mean that the store is unavailable; texts of this package hold no
// values. After an error of a Commit on a server its outcome may be unknown: repeated as it is, the Batch happens once.
// The database's clock, and no other, decides when the ID of a Batch (a day) and an entry of the feed (ten minutes, and
// never one of the last 10,000) may go.
package sqlstore
