// Command quickstart is a small real application that manages its API keys with Keycote: an HTTP API that issued keys
// open, an administrator's API to manage them with, and an outbound call that presents a stored credential to somebody
// else's endpoint (which it plays too, on a listener of its own).
//
//	go run ./examples/quickstart
//
// It listens on this machine alone, keeps everything in one directory, and prints commands to paste into a second
// terminal. It exits with 0 after Ctrl-C, 1 when it cannot start or serve, and 2 on flags it does not know.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for a clean end
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as parameters.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	home, _ := os.UserHomeDir()
	standard := defaultData(runtime.GOOS, home, os.Getenv)
	addr := flags.String("addr", "127.0.0.1:8321", "`address` to listen on; of this machine alone, since keys travel in clear")
	data := flags.String("data", standard,
		"`directory` for the database, the key-encryption key and the administrator's key")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintln(stderr, "quickstart: it takes flags only; see -help")
		return 2
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := start(ctx, *addr, *data, log, stdout, time.Now); err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return 1
	}
	return 0
}

// defaultData is a directory under the place where the user's programs keep their data.
func defaultData(system, home string, getenv func(string) string) string {
	const name = "keycote-quickstart"
	switch system {
	case "windows":
		if dir := getenv("LocalAppData"); dir != "" {
			return filepath.Join(dir, name)
		}
		return filepath.Join(home, "AppData", "Local", name)
	case "darwin", "ios":
		return filepath.Join(home, "Library", "Application Support", name)
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) { // a relative one is to be ignored, says XDG
		return filepath.Join(dir, name)
	}
	return filepath.Join(home, ".local", "share", name)
}
