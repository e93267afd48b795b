// Package demo is what the small examples share: keys in memory, and a server on this machine that ends with Ctrl-C. A
// program that is to remember its keys opens them as the quickstart does.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// Curl says how to call an example: it takes the key and the address.
const Curl = "curl -H 'Authorization: Bearer %s' http://%s/orders/7\n"

// Main serves what routes returns on 127.0.0.1:8322 until Ctrl-C. usage is printed as Curl is.
func Main(usage string, routes func(*keycote.Manager) http.Handler) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, "127.0.0.1:8322", os.Stdout, usage, routes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Serve makes a Manager, issues a key with the scope "orders:read", prints how to call with it, and serves until ctx
// ends.
func Serve(
	ctx context.Context, addr string, out io.Writer, usage string, routes func(*keycote.Manager) http.Handler,
) error {
	return With(ctx, addr, out, usage, func(keys *keycote.Manager, listener net.Listener) error {
		server := &http.Server{Handler: routes(keys), ReadHeaderTimeout: 5 * time.Second}
		stopped := context.AfterFunc(ctx, func() {
			patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = server.Shutdown(patience) // what is under way after that is cut off
		})
		defer stopped()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// With is Serve for a server of another kind. usage takes the key and the address.
func With(
	ctx context.Context, addr string, out io.Writer, usage string, serve func(*keycote.Manager, net.Listener) error,
) (err error) {
	dir, err := os.MkdirTemp("", "keycote-example")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	kek, err := keycote.LocalKEK(filepath.Join(dir, "kek.json"))
	if err != nil {
		return err
	}
	keys, err := keycote.New(ctx, memstore.New(), kek, nil)
	if err != nil {
		return err
	}
	_, secret, err := keys.Issue(ctx, keycote.IssueParams{Name: "demo", Scopes: []string{"orders:read"}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { err = errors.Join(err, keys.Run(background)) })
	defer running.Wait()
	defer stop()
	fmt.Fprintf(out, usage, secret.Reveal(), listener.Addr())
	return serve(keys, listener)
}
