package keycote_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// refusalOf holds a refusal of Verify against the shape that the contract gives it.
func refusalOf(t testing.TB, err error, code keycote.Code, id string) {
	t.Helper()
	var e *keycote.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code)
	require.Equal(t, "verify", e.Op)
	require.Equal(t, id, e.ID)
	require.ErrorIs(t, err, code)
	require.Equal(t, code, keycote.CodeOf(err))
	identity := true
	switch code {
	case keycote.ErrScope, keycote.ErrLimited, keycote.ErrUnavailable, keycote.ErrInvalid:
		identity = false
	}
	require.Equal(t, identity, errors.Is(err, keycote.ErrUnauthenticated))
}

func TestExpiryIsExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ends := worldStart.Add(time.Hour)
	key, token := w.issue(keycote.IssueParams{ExpiresAt: ends})
	credential := w.add(keycote.AddParams{ExpiresAt: ends})
	for _, c := range []struct {
		name  string
		at    time.Time
		code  keycote.Code
		state keycote.State
	}{
		{"1 µs before", ends.Add(-time.Microsecond), "", keycote.StateActive},
		{"1 ns before", ends.Add(-1), "", keycote.StateActive},
		{"at the deadline", ends, keycote.ErrExpired, keycote.StateExpired},
		{"1 µs after", ends.Add(time.Microsecond), keycote.ErrExpired, keycote.StateExpired},
	} {
		w.clock.Set(c.at)
		_, err := w.Verify(t.Context(), token, keycote.Request{})
		_, _, useErr := w.Use(t.Context(), credential.ID, keycote.Request{})
		if c.code == "" {
			require.NoError(t, err, c.name)
			require.NoError(t, useErr, c.name)
		} else {
			refusalOf(t, err, c.code, key.ID)
			require.ErrorIs(t, useErr, c.code, c.name)
			require.NotErrorIs(t, useErr, keycote.ErrUnauthenticated, "a credential is not the caller's identity")
		}
		for _, id := range []string{key.ID, credential.ID} {
			got, err := w.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, c.state, got.State, c.name)
			require.Equal(t, []keycote.State{c.state}, states(got), c.name)
		}
		active := ids(collect(t, w.List(t.Context(), keycote.Filter{State: c.state})))
		require.Equal(t, []string{key.ID, credential.ID}, active, c.name)
	}
}

// TestOrderOfRefusals takes a key that is wrong in every way, and puts right one after the other from the front.
func TestOrderOfRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	net := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	p := keycote.IssueParams{Name: "k", Networks: net, Scopes: []string{"a:b"}, ExpiresAt: worldStart.Add(time.Hour)}
	wrong := keycote.Request{Addr: netip.MustParseAddr("192.0.2.1"), Scopes: []string{"x:y"}}
	key, token := w.issue(p)
	try := func(code keycote.Code, r keycote.Request) {
		t.Helper()
		_, err := w.Verify(ctx, token, r)
		refusalOf(t, err, code, key.ID)
	}
	try(keycote.ErrAddress, wrong)
	wrong.Addr = netip.Addr{}
	try(keycote.ErrAddress, wrong)
	try(keycote.ErrScope, keycote.Request{Addr: netip.MustParseAddr("::ffff:10.0.0.1"), Scopes: []string{"a:b", "x:y"}})
	w.clock.Set(p.ExpiresAt)
	try(keycote.ErrExpired, wrong)
	_, err := w.Disable(ctx, key.ID, "")
	require.NoError(t, err)
	try(keycote.ErrDisabled, wrong)
	_, err = w.Revoke(ctx, key.ID, "")
	require.NoError(t, err)
	try(keycote.ErrRevoked, wrong)

	r := w.raw(key.ID)
	r.Seal, r.Revision = append([]byte(nil), r.Seal...), r.Revision+1
	r.Seal[20] ^= 1
	require.NoError(t, w.store.Store.Commit(ctx, keycote.Batch{ID: "tamper", Update: []keycote.Record{r}}))
	try(keycote.ErrTampered, wrong)
	require.NoError(t, w.Delete(ctx, key.ID, ""))
	_, err = w.Verify(ctx, token, wrong)
	refusalOf(t, err, keycote.ErrUnknownKey, "")
}

func TestAnEndedVersionIsExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	key, old := w.issue(keycote.IssueParams{})
	w.rotate(key.ID, keycote.RotateParams{})
	_, err := w.Verify(ctx, old, keycote.Request{Route: "GET /"})
	refusalOf(t, err, keycote.ErrExpired, key.ID)
	require.NoError(t, w.Flush(ctx))
	rows, err := w.store.Usage(ctx, keycote.UsageQuery{KeyID: key.ID})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, 1, rows[0].Version, "the ended version's number")
	require.Equal(t, keycote.ErrExpired, rows[0].Outcome)
	require.Equal(t, "GET /", rows[0].Route)
}

func TestUnknownValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, token := w.issue(keycote.IssueParams{})
	flipped := []byte(token)
	if flipped[10]++; !strings.Contains("123456789BCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz", string(flipped[10])) {
		flipped[10] -= 2 // still of issued form
	}
	stored := w.raw(key.ID)
	lookups := w.store.readsOf("lookup")
	for name, value := range map[string]string{
		"mistyped": string(flipped), "cut": token[:len(token)-1], "empty": "", "key id": key.ID, "hint": key.Hint,
		"blank edge": token + " ", "another prefix": "x" + token, "over-long": strings.Repeat("a", 5000),
		"longer by one": token + "0", "digest": string(stored.Digests[0]), "seal": string(stored.Seal),
		"upper case": strings.ToUpper(token), "line break": "abcdefghijkl\nmnop",
	} {
		_, err := w.Verify(t.Context(), value, keycote.Request{})
		refusalOf(t, err, keycote.ErrUnknownKey, "")
		require.NotContains(t, err.Error(), token[len(token)-6:], name)
	}
	require.Equal(t, "", string(w.verdict(token)))
	after := w.store.readsOf("lookup")
	w.verdict(string(flipped))
	w.verdict("x" + token)
	require.Equal(t, after, w.store.readsOf("lookup"), "a mistyped value of issued form costs no read")
	require.Positive(t, after-lookups)

	only := w.another(&keycote.Options{IssuedOnly: true})
	_, err := only.Verify(t.Context(), goodValue, keycote.Request{})
	refusalOf(t, err, keycote.ErrUnknownKey, "")
	require.Equal(t, after, w.store.readsOf("lookup"))
	_, _, err = only.Issue(t.Context(), keycote.IssueParams{Name: "chosen", Secret: keycote.NewSecret(goodValue)})
	require.Equal(t, []string{"secret: not_allowed"}, broken(t, err))
}

func TestVerifyReadsTheStoreOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, token := w.issue(keycote.IssueParams{})
	chosen := "my-own-Value-42-%x"
	w.issue(keycote.IssueParams{Secret: keycote.NewSecret(chosen)})
	for _, value := range []string{token, chosen, "nobody's-value-at-all"} {
		all := func() int {
			return w.store.readsOf("lookup") + w.store.readsOf("get") + w.store.readsOf("list") + w.store.readsOf("items")
		}
		before := all()
		w.verdict(value)
		require.Equal(t, before+1, all())
	}
	_, written := w.store.written()
	require.Equal(t, 2, written, "an ordinary key's Verify writes nothing")
}

func TestStoreAwayIsNoIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, token := w.issue(keycote.IssueParams{})
	m, err := keycote.New(t.Context(), w.store, w.kek, &keycote.Options{Now: w.clock.Now})
	require.NoError(t, err)
	ctx := cancelled(t)
	for name, call := range map[string]func() error{
		"verify": func() error { _, err := m.Verify(ctx, token, keycote.Request{}); return err },
		"use":    func() error { _, _, err := m.Use(ctx, key.ID, keycote.Request{}); return err },
		"get":    func() error { _, err := m.Get(ctx, key.ID); return err },
		"rotate": func() error { _, _, err := m.Rotate(ctx, key.ID, keycote.RotateParams{}); return err },
		"issue":  func() error { _, _, err := m.Issue(ctx, keycote.IssueParams{Name: "x"}); return err },
		"delete": func() error { return m.Delete(ctx, key.ID, "") },
	} {
		t.Run(name, func(t *testing.T) {
			before := w.dump()
			err := call()
			require.ErrorIs(t, err, keycote.ErrUnavailable)
			require.ErrorIs(t, err, ctx.Err())
			require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
			require.Equal(t, before, w.dump())
		})
	}
}

func TestUseRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	access, _ := w.issue(keycote.IssueParams{})
	key := w.add(keycote.AddParams{ExpiresAt: worldStart.Add(time.Hour)})
	try := func(code keycote.Code, id string, r keycote.Request) {
		t.Helper()
		_, secret, err := w.Use(ctx, id, r)
		require.Equal(t, code, keycote.CodeOf(err))
		require.Equal(t, code != "", secret.IsZero())
		require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
		if code != "" {
			var e *keycote.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, id, e.ID)
			require.Equal(t, "use", e.Op)
		}
	}
	try(keycote.ErrInvalid, access.ID, keycote.Request{})
	try(keycote.ErrNotFound, "key_00000000000000000000000000", keycote.Request{})
	for _, endpoint := range []string{
		"http://api.example.com/v1", "https://api.example.com:444/v1", "https://api.example.com.evil.org/", "https://evil.org/",
		"api.example.com", "https://api.example.com@evil.org/", "//api.example.com/v1", "https://",
	} {
		try(keycote.ErrAddress, key.ID, keycote.Request{Endpoint: endpoint})
	}
	try("", key.ID, keycote.Request{Endpoint: "HTTPS://API.example.com.:443/else?q"})
	try("", key.ID, keycote.Request{})
	w.clock.Set(worldStart.Add(time.Hour))
	try(keycote.ErrExpired, key.ID, keycote.Request{})
	_, err := w.Disable(ctx, key.ID, "")
	require.NoError(t, err)
	try(keycote.ErrDisabled, key.ID, keycote.Request{})
	secret, err := w.Reveal(ctx, key.ID, "on a disabled and expired one")
	require.NoError(t, err)
	require.Equal(t, goodValue, secret.Reveal())
	_, err = w.Reveal(ctx, key.ID, " ")
	require.Equal(t, []string{"reason: required"}, broken(t, err))
	_, err = w.Reveal(ctx, access.ID, "look")
	require.ErrorIs(t, err, keycote.ErrInvalid)
	_, err = w.Revoke(ctx, key.ID, "")
	require.NoError(t, err)
	try(keycote.ErrRevoked, key.ID, keycote.Request{})
	_, err = w.Reveal(ctx, key.ID, "look")
	require.ErrorIs(t, err, keycote.ErrRevoked)
}

func TestNothingIsRevealedWithoutItsEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.add(keycote.AddParams{})
	w.store.away()
	secret, err := w.Reveal(t.Context(), key.ID, "look")
	require.ErrorIs(t, err, keycote.ErrUnavailable)
	require.True(t, secret.IsZero())
	w.store.back()
	_, err = w.Reveal(as(t, keycote.Actor{ID: "alice"}), key.ID, "look")
	require.NoError(t, err)
	events := eventsOf(t, w.Manager, keycote.EventFilter{Action: keycote.ActionReveal})
	require.Len(t, events, 1)
	require.Equal(t, "alice look", events[0].Actor+" "+events[0].Reason)
	require.Equal(t, key.ID, events[0].KeyID)
}
