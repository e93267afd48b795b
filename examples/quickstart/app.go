package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // a driver in pure Go: no C compiler is needed

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/sqlstore"
)

// app is what the handlers share.
type app struct {
	db    *sql.DB
	keys  *keycote.Manager
	guard *keyhttp.Guard // for outbound calls
	log   *slog.Logger
}

// start opens everything, prints the commands and serves until ctx ends.
func start(
	ctx context.Context, addr, data string, log *slog.Logger, stdout io.Writer, now func() time.Time,
) (err error) {
	listener, err := listen(ctx, addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	f, err := newFiles(data)
	if err != nil {
		return err
	}
	echo, err := newEcho(ctx, f, listener.Addr(), now())
	if err != nil {
		return err
	}
	defer echo.listener.Close()
	db, err := openDatabase(ctx, f.db)
	if err != nil {
		return fmt.Errorf("the database %s cannot be opened: %w", f.db, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	keys, err := openKeys(ctx, db, f, log)
	if err != nil {
		return err
	}
	if err := ensureAdmin(ctx, keys, f.admin); err != nil {
		return fmt.Errorf("the administrator's key cannot be made: %w", err)
	}
	a := &app{db: db, keys: keys, guard: newGuard(echo.cert.Leaf, echo.listener.Addr()), log: log}
	if err := printCommands(stdout, listener.Addr().String(), echo.url(), f); err != nil {
		return err
	}
	return serve(ctx, log, keys, map[*http.Server]net.Listener{
		newServer(a.routes(listener.Addr().String()), log): listener,
		newServer(echo.routes(), log):                      echo.tls(),
	})
}

// listen refuses every address but this machine's own: this server speaks plain HTTP, and keys would travel in clear.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("-addr %s is no address such as 127.0.0.1:8321", addr)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("-addr %s would send keys in clear over a network; use 127.0.0.1", addr)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w\nIf it is in use, choose another: -addr 127.0.0.1:0 takes any that is free", addr, err)
	}
	return listener, nil
}

// openDatabase opens one SQLite file for the application's own table and for Keycote's. WAL lets readers, and so every
// check of a key, go on beside a writer; synchronous FULL keeps what was acknowledged through a power failure.
func openDatabase(ctx context.Context, path string) (*sql.DB, error) {
	slashed := filepath.ToSlash(path)
	if slashed[0] != '/' {
		slashed = "/" + slashed // C:/...
	}
	dsn := url.URL{Scheme: "file", Path: slashed, RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	if _, err = db.ExecContext(ctx, ordersSchema); err == nil {
		err = sqlstore.Migrate(ctx, db, sqlstore.SQLite)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openKeys opens the Manager: a store, a key-encryption key, and what this application wants otherwise.
func openKeys(ctx context.Context, db *sql.DB, f files, log *slog.Logger) (*keycote.Manager, error) {
	store, err := sqlstore.New(ctx, db, sqlstore.SQLite)
	if err != nil {
		return nil, err
	}
	kek, err := keycote.LocalKEK(f.kek)
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key cannot be read: %w\n%s", err, f.wayOut())
	}
	found := "holds another key than the one in use when the database was made"
	if !exists(f.kek) {
		found = "is missing"
	}
	keys, err := keycote.New(ctx, store, kek, &keycote.Options{
		Logger:    log,
		Authorize: keycote.ByRole,
		Validator: keycote.NewValidator(&keycote.ValidatorOptions{
			AllowNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, // the echo endpoint's; private ones are refused otherwise
		}),
	})
	if errors.Is(err, keycote.ErrKEK) {
		return nil, fmt.Errorf("the key-encryption key does not open the database: %s %s.\n%s\n(%w)", f.kek, found, f.wayOut(), err)
	}
	return keys, err
}

func (f files) wayOut() string {
	return "Nothing was changed, and no new key was made: what is in " + f.db + " can only be opened with its own key.\n" +
		"Restore " + f.kek + " from your backup, or begin anew in another directory with -data."
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    1 << 16,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// serve runs the servers and the Manager's background work until ctx ends or a server fails. It lets requests end
// first, and then has the Manager write what it still counts.
func serve(ctx context.Context, log *slog.Logger, keys *keycote.Manager, servers map[*http.Server]net.Listener) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if err := keys.Run(background); err != nil {
			log.Error("the keys' background work ended", "error", err)
		}
	})
	defer running.Wait()
	defer stop()

	failed := make(chan error, len(servers))
	for server, listener := range servers {
		go func() { failed <- server.Serve(listener) }()
	}
	var err error
	select {
	case <-ctx.Done():
		log.Info("shutting down")
	case err = <-failed:
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for server := range servers {
		err = errors.Join(err, server.Shutdown(patience))
	}
	return err
}
