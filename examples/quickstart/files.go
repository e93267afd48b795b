package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// files says where everything is. The key-encryption key lies in a directory of its own, so that a backup of the
// database does not take along what opens it.
type files struct {
	data     string
	db       string // SQLite, in WAL mode: two more files appear beside it
	kek      string
	admin    string // the administrator's key, as a header line for curl -H @file
	echoAddr string // where the echo endpoint listens: credentials are bound to it, so it stays the same
	upstream string // the key that the echo endpoint's owner gave us
}

// newFiles makes the directories. It fails when they cannot be made, or are open to others.
func newFiles(data string) (files, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return files{}, err
	}
	f := files{
		data:     data,
		db:       filepath.Join(data, "db", "keys.db"),
		kek:      filepath.Join(data, "kek", "kek.json"),
		admin:    filepath.Join(data, "admin.header"),
		echoAddr: filepath.Join(data, "echo", "address"),
		upstream: filepath.Join(data, "echo", "upstream.key"),
	}
	for _, path := range []string{f.db, f.kek, f.upstream} {
		if err := privateDir(filepath.Dir(path)); err != nil {
			return files{}, fmt.Errorf("the directory for its data cannot be used; name another with -data: %w", err)
		}
	}
	return f, nil
}

func privateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		return fmt.Errorf("%s is open to others (%v): chmod 700 it", path, info.Mode().Perm())
	}
	// Whether a directory can be written to is best found out before a database or a key is half made.
	probe, err := os.CreateTemp(path, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// readLine returns what writeLine wrote, or an error that is fs.ErrNotExist.
func readLine(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// writeLine writes a file of mode 0600, whole or not at all.
func writeLine(path, line string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(line + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
