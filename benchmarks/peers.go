package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/tailscale/setec/acl"
	"github.com/tailscale/setec/audit"
	"github.com/tailscale/setec/db"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// peer is how others keep or check a key.
type peer struct {
	side
	what string
	goal goal
	ours bool // the ratio is ours to theirs, not theirs to ours
}

// peers is F12: a cached Verify beside what others do for the same.
func peers(ctx context.Context, l *lab) ([]line, error) {
	m, tokens, err := warm(ctx, 1_000)
	if err != nil {
		return nil, err
	}
	next, r := inTurn(len(tokens)), request()
	all, closePeers, err := newPeers(tokens[0])
	if err != nil {
		return nil, err
	}
	defer closePeers()
	sides := []side{{name: "verify", run: func() error {
		_, err := m.Verify(ctx, tokens[next()], r)
		return err
	}}}
	for _, p := range all {
		sides = append(sides, p.side)
	}
	timings, err := interleave(l.rounds, l.slice, sides...)
	if err != nil {
		return nil, err
	}
	var lines []line
	for i, p := range all {
		theirs := timings[i+1]
		ln := line{
			what: p.what + " takes, of a cached `Verify`", limit: p.name, goal: p.goal, got: times(theirs, timings[0]), unit: unitTimes,
			note: took(theirs) + " to " + took(timings[0]),
		}
		if p.ours {
			ln.what, ln.got = "a cached `Verify` takes, of "+p.what, times(timings[0], theirs)
			ln.note = took(timings[0]) + " to " + took(theirs)
		}
		lines = append(lines, ln)
	}
	return lines, nil
}

var errDiffers = errors.New("a right value was refused")

func newPeers(token string) (all []peer, done func(), err error) {
	salt := []byte("0123456789abcdef")
	stretched, err := pbkdf2.Key(sha256.New, token, salt, 10_000, 50)
	if err != nil {
		return nil, nil, err
	}
	hashed, err := bcrypt.GenerateFromPassword([]byte(token), 10)
	if err != nil {
		return nil, nil, err
	}
	secrets, done, err := openSetec()
	if err != nil {
		return nil, nil, err
	}
	const lanes, kib = 4, 64 * 1024 // as the package's own example has it
	remembered := argon2.IDKey([]byte(token), salt, 1, kib, lanes, 32)
	plain := sha256.Sum256([]byte(token))
	stored := hex.EncodeToString(plain[:])
	const written = " (written here)"
	return []peer{
		{what: "PBKDF2-SHA-256 of 10,000 rounds", goal: goal{atLeast, 5_000}, side: side{
			name: "the scheme of Gitea's and Grafana's tokens" + written, run: func() error {
				got, err := pbkdf2.Key(sha256.New, token, salt, 10_000, 50)
				return errors.Join(err, same(got, stretched))
			}}},
		{what: "bcrypt of cost 10", goal: goal{atLeast, 5_000}, side: side{
			name: "golang.org/x/crypto/bcrypt", run: func() error { return bcrypt.CompareHashAndPassword(hashed, []byte(token)) }}},
		{what: "Argon2id of 64 MiB", goal: goal{atLeast, 5_000}, side: side{
			name: "golang.org/x/crypto/argon2", run: func() error {
				return same(argon2.IDKey([]byte(token), salt, 1, kib, lanes, 32), remembered)
			}}},
		{what: "`Get` of setec, its audit discarded,", goal: goal{atLeast, 2}, side: side{
			name: "github.com/tailscale/setec/db", run: secrets}},
		{what: "Sanctum's hash alone", goal: goal{atMost, 2}, ours: true, side: side{
			name: "SHA-256 in hexadecimal and a comparison in constant time" + written, run: func() error {
				sum := sha256.Sum256([]byte(token))
				return same([]byte(hex.EncodeToString(sum[:])), []byte(stored))
			}}},
	}, done, nil
}

func same(got, want []byte) error {
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return errDiffers
	}
	return nil
}

// openSetec is a setec database with one secret, and how it is got.
func openSetec() (get func() error, done func(), err error) {
	dir, err := os.MkdirTemp("", "keycote-bench-")
	if err != nil {
		return nil, nil, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			done()
		}
	}()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, nil, err
	}
	secrets, err := db.Open(filepath.Join(dir, "secrets"), primitive, audit.New(io.Discard))
	if err != nil {
		return nil, nil, err
	}
	caller := db.Caller{
		Principal:   audit.Principal{User: "bench"},
		Permissions: acl.Rules{{Action: []acl.Action{acl.ActionGet, acl.ActionPut}, Secret: []acl.Secret{"*"}}},
	}
	if _, err = secrets.Put(caller, "orders/key", []byte(rand.Text())); err != nil {
		return nil, nil, err
	}
	return func() error {
		_, err := secrets.Get(caller, "orders/key")
		return err
	}, done, nil
}
