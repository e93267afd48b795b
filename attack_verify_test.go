package keycote_test

import (
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// spellings are the ways in which bytes that stand in a database may be presented as a key.
func spellings(b []byte) []string {
	h := hex.EncodeToString(b)
	return []string{
		string(b), h, strings.ToUpper(h), base64.StdEncoding.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b),
		base64.URLEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), "kc_" + h,
	}
}

// vAudience/go-apikeys took a header that did not look like a key for the stored hash. Nothing that stands in the
// database is a key.
func TestNothingStoredVerifies(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	chosen, value := issue(t, s.m, keycote.IssueParams{Name: "Chosen", Secret: keycote.NewSecret("chosen-Value-of-12-blue")})
	all := s.store.rows(t)
	var stored []string
	put := func(texts ...string) { stored = append(stored, texts...) }
	raw := func(b []byte) { put(spellings(b)...) }
	for _, r := range all.records {
		put(r.ID, r.Tenant, r.Name, r.Owner, r.App, r.Search)
		raw(r.Body)
		raw(r.Seal)
		raw(r.Seal[5:])
		for _, d := range r.Digests {
			raw(d)
		}
		if sealed := keycote.SealedValue(r); sealed != "" {
			raw([]byte(sealed))
		}
	}
	for _, e := range all.events {
		put(e.ID, e.Actor)
		raw(e.Body)
		raw(e.Seal)
		raw(e.Personal)
	}
	for _, i := range all.items {
		raw(i.Body)
	}
	for _, id := range []string{s.access.ID, s.cred.ID, chosen.ID} {
		key, err := s.m.Get(t.Context(), id)
		require.NoError(t, err)
		for _, v := range key.Versions {
			put(v.Hint, strings.TrimPrefix(v.Hint, "…"), strings.Replace(v.Hint, "…", "", 1))
		}
	}
	put(s.value, "[redacted]", "[__HIDDEN__]", "••••", "null", "undefined")
	require.Greater(t, len(stored), 200)
	for _, m := range []*keycote.Manager{s.m, s.rig.m} {
		for _, v := range stored {
			grant, err := m.Verify(t.Context(), v, inside)
			require.ErrorIs(t, heard(err), keycote.ErrUnknownKey)
			require.Zero(t, grant)
		}
	}
	_, err := s.m.Verify(t.Context(), value, inside)
	require.NoError(t, err)
}

func TestValuesThatNearlyMeet(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	// Okta 2024: bcrypt cut a cache key at 72 bytes.
	for _, n := range []int{72, 255, 256, 1024, 4090} {
		head := strings.Repeat("qW3$r", n/5+1)[:n]
		a, value := issue(t, r.m, keycote.IssueParams{Name: "a" + string(rune('0'+n%7)) + head[:3], Secret: keycote.NewSecret(head + "a-Tail")})
		grant, err := r.m.Verify(t.Context(), value, keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, a.ID, grant.KeyID)
		for _, near := range []string{
			head, head + "b-Tail", head + "a-Tai", head + "a-Tail.", head + "a-tail", " " + value, value + " ", value + "\n",
			value + "\x00", "\ufeff" + value, strings.ToUpper(value),
		} {
			grant, err := r.m.Verify(t.Context(), near, keycote.Request{})
			require.ErrorIs(t, heard(err), keycote.ErrUnknownKey)
			require.Zero(t, grant)
		}
		require.NoError(t, r.m.Delete(t.Context(), a.ID, ""))
	}
	longest := strings.Repeat("qW3$r", 1000)[:4096]
	_, value := issue(t, r.m, keycote.IssueParams{Name: "longest", Secret: keycote.NewSecret(longest)})
	_, err := r.m.Verify(t.Context(), value, keycote.Request{})
	require.NoError(t, err)
	_, _, err = r.m.Issue(t.Context(), keycote.IssueParams{Name: "longer", Secret: keycote.NewSecret(longest + "x")})
	require.ErrorIs(t, heard(err), keycote.ErrInvalid)
	r.store.reads()
	for _, long := range []string{longest + "x", longest + "\n", strings.Repeat(longest, 256)} {
		_, err = r.m.Verify(t.Context(), long, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrUnknownKey)
	}
	require.Empty(t, r.store.reads(), "what is too long is refused, not cut")
}

// What each value costs: nothing when it was not made here, one Lookup otherwise.
func TestReadsOfAVerification(t *testing.T) {
	t.Parallel()
	const none, one = "", "lookup"
	tests := []struct {
		name, value string
		want        string // with chosen values
		wantIssued  string // with IssuedOnly
		code        keycote.Code
	}{
		{"genuine", "<token>", one, one, ""},
		{"genuine, of a deleted key", "<deleted>", one, one, keycote.ErrUnknownKey},
		{"genuine, of another tenant", "<tenant>", one, one, ""},
		{"made by another Keycote", "<foreign>", "items", "items", keycote.ErrUnknownKey},
		{"right checksum, wrong tag", "<forged>", none, none, keycote.ErrUnknownKey},
		{"wrong checksum", "<typo>", none, none, keycote.ErrUnknownKey},
		{"one letter changed, checksum right", "<resummed>", none, none, keycote.ErrUnknownKey},
		{"another prefix", "xx_<payload>", none, none, keycote.ErrUnknownKey},
		{"a number beyond 2^256", "kc_" + strings.Repeat("z", 49), none, none, keycote.ErrUnknownKey},
		{"zeros", "kc_" + strings.Repeat("0", 49), none, none, keycote.ErrUnknownKey},
		{"empty", "", none, none, keycote.ErrUnknownKey},
		{"a space at the end", "<token> ", none, none, keycote.ErrUnknownKey},
		{"a newline at the end", "<token>\n", none, none, keycote.ErrUnknownKey},
		{"a NUL at the end", "<token>\x00", none, none, keycote.ErrUnknownKey},
		{"a NUL alone", "\x00", none, none, keycote.ErrUnknownKey},
		{"invalid UTF-8", "<token>\xff", none, none, keycote.ErrUnknownKey},
		{"a byte of 0x80", "\x80", none, none, keycote.ErrUnknownKey},
		{"not ASCII", "пароль-пароль", none, none, keycote.ErrUnknownKey},
		{"a letter too few", "<short>", one, none, keycote.ErrUnknownKey},
		{"a letter too many", "<token>x", one, none, keycote.ErrUnknownKey},
		{"any other text", "correct-horse-battery", one, none, keycote.ErrUnknownKey},
		{"one letter", "x", one, none, keycote.ErrUnknownKey},
		{"Bearer left on", "Bearer-<token>", one, none, keycote.ErrUnknownKey},
	}
	for _, issuedOnly := range []bool{false, true} {
		r := newRig(t, &keycote.Options{IssuedOnly: issuedOnly})
		_, token := issue(t, r.m, keycote.IssueParams{Name: "a"})
		_, tenant := issue(t, r.m.Tenant("acme"), keycote.IssueParams{Name: "a"})
		gone, deleted := issue(t, r.m, keycote.IssueParams{Name: "b"})
		require.NoError(t, r.m.Delete(t.Context(), gone.ID, ""))
		_, foreign := issue(t, newRig(t, nil).m, keycote.IssueParams{Name: "a"})
		other := "0"
		if token[10] == '0' {
			other = "1"
		}
		resummed := keycote.MadeUpToken("kc", keycote.PrimaryIndexKey(r.m), 7)
		fill := strings.NewReplacer(
			"<token>", token, "<tenant>", tenant, "<deleted>", deleted, "<foreign>", foreign, "<short>", token[:len(token)-1],
			"<forged>", keycote.MadeUpToken("kc", keycote.PrimaryIndexKey(r.m), 99), "<resummed>", resummed,
			"<typo>", token[:10]+other+token[11:], "<payload>", token[3:],
		)
		for _, tt := range tests {
			r.store.reads()
			want := tt.want
			if issuedOnly {
				want = tt.wantIssued
			}
			_, err := r.m.Verify(t.Context(), fill.Replace(tt.value), keycote.Request{Addr: netip.MustParseAddr("192.0.2.1")})
			require.Equal(t, tt.code, keycote.CodeOf(heard(err)), tt.name)
			if err != nil {
				require.ErrorIs(t, err, keycote.ErrUnauthenticated, tt.name)
			}
			got := r.store.reads()
			switch want {
			case none:
				require.Empty(t, got, tt.name)
			default:
				require.Equal(t, map[string]int{want: 1}, got, tt.name)
			}
		}
	}
}

// A value that names an index key which this process does not know makes it look, once a second and not more often.
func TestUnknownIndexKeysCostOneReadASecond(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, token := issue(t, r.m, keycote.IssueParams{Name: "a"})
	r.clock.advance(time.Minute + time.Second)
	_, err := r.m.Verify(t.Context(), token, keycote.Request{})
	require.NoError(t, err, "and the refresh of the minute is over")
	r.store.reads()
	unknown := keycote.PrimaryIndexKey(r.m)
	for second := range 5 {
		for i := range 200 {
			unknown++
			_, err := r.m.Verify(t.Context(), keycote.MadeUpToken("kc", unknown, byte(i)), keycote.Request{})
			require.ErrorIs(t, err, keycote.ErrUnknownKey)
			r.clock.advance(4 * time.Millisecond)
		}
		require.Equal(t, map[string]int{"items": 1}, r.store.reads(), "second %d", second)
		r.clock.advance(200 * time.Millisecond)
	}
	// A clock that goes back does not shut it for as long as it went.
	r.clock.advance(-time.Hour)
	_, err = r.m.Verify(t.Context(), keycote.MadeUpToken("kc", unknown+1, 1), keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrUnknownKey)
	require.Positive(t, r.store.reads()["items"])
}

// Values chosen in one tenant say nothing in another, and nobody learns from a refusal whose they are.
func TestATenantCannotProbeAnothers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	secret := keycote.NewSecret(canary("shared-Value-77-between-2"))
	acme, evil := r.m.Tenant("acme"), r.m.Tenant("evil")
	a, _ := issue(t, acme, keycote.IssueParams{Name: "a", Secret: secret})
	e, _ := issue(t, evil, keycote.IssueParams{Name: "a", Secret: secret})
	for m, want := range map[*keycote.Manager]string{acme: a.ID, evil: e.ID} {
		grant, err := m.Verify(t.Context(), secret.Reveal(), keycote.Request{})
		require.NoError(t, err)
		require.Equal(t, want, grant.KeyID)
	}
	for _, m := range []*keycote.Manager{r.m, r.m.Tenant("acm"), r.m.Tenant("acmex")} {
		_, err := m.Verify(t.Context(), secret.Reveal(), keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrUnknownKey)
	}
	_, token := issue(t, acme, keycote.IssueParams{Name: "b"})
	for _, m := range []*keycote.Manager{evil, r.m.Tenant("Acme"), r.m.Tenant("acme\u0301")} {
		_, err := m.Verify(t.Context(), token, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrUnknownKey)
		var e *keycote.Error
		require.ErrorAs(t, err, &e)
		require.Empty(t, e.ID, "another tenant's key is not named")
	}
	// By id, too.
	cred, _ := add(t, acme, "cred")
	for _, id := range []string{a.ID, cred.ID} {
		_, err := evil.Get(t.Context(), id)
		require.ErrorIs(t, heard(err), keycote.ErrNotFound)
		_, _, err = evil.Use(t.Context(), id, keycote.Request{})
		require.ErrorIs(t, heard(err), keycote.ErrNotFound)
		_, err = r.m.Reveal(t.Context(), id, "to see")
		require.ErrorIs(t, heard(err), keycote.ErrNotFound)
		require.ErrorIs(t, heard(evil.Delete(t.Context(), id, "")), keycote.ErrNotFound)
		_, _, err = evil.Rotate(t.Context(), id, keycote.RotateParams{})
		require.ErrorIs(t, heard(err), keycote.ErrNotFound)
	}
}
