package keycote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/keycote/keycote"
)

// Parts of good rows, put together otherwise.
func TestPartsOfRowsExchanged(t *testing.T) {
	t.Parallel()
	type R = *keycote.Record
	tests := []struct {
		name     string
		exchange func(a, b R) // a is the victim
	}{
		{"body", func(a, b R) { a.Body, b.Body = b.Body, a.Body }},
		{"seal", func(a, b R) { a.Seal, b.Seal = b.Seal, a.Seal }},
		{"body and seal", func(a, b R) { a.Body, a.Seal, b.Body, b.Seal = b.Body, b.Seal, a.Body, a.Seal }},
		{"all but id and digests", func(a, b R) {
			x, y := *a, *b
			*a, *b = y, x
			a.ID, b.ID, a.Digests, b.Digests = x.ID, y.ID, x.Digests, y.Digests
		}},
		{"ids", func(a, b R) { a.ID, b.ID = b.ID, a.ID }},
		{"sealed values inside the bodies", func(a, b R) {
			x, y := []byte(keycote.SealedValue(*a)), []byte(keycote.SealedValue(*b))
			a.Body, b.Body = bytes.Replace(a.Body, x, y, 1), bytes.Replace(b.Body, y, x, 1)
		}},
		{"endpoint inside the body", func(a, _ R) {
			a.Body = bytes.Replace(a.Body, []byte("api.example.com"), []byte("api.examp1e.com"), 1)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			a, _ := add(t, r.m, "first name")
			b, _ := add(t, r.m, "other name")
			c, value := add(t, r.m, "third name")
			dirty := r.store.rows(t)
			before := dirty.clone()
			tt.exchange(dirty.record(t, a.ID), dirty.record(t, b.ID))
			require.NotEqual(t, before, dirty)
			r.store.put(t, dirty)

			_, _, err := r.m.Use(t.Context(), a.ID, keycote.Request{})
			require.ErrorIs(t, heard(err), keycote.ErrTampered)
			_, err = r.m.Reveal(t.Context(), a.ID, "to see")
			require.ErrorIs(t, heard(err), keycote.ErrTampered)
			require.Equal(t, keycote.StateUnreadable, listed(t, r.m)[a.ID].State)
			require.NoError(t, r.m.Delete(t.Context(), a.ID, ""))
			_, secret, err := r.m.Use(t.Context(), c.ID, keycote.Request{})
			require.NoError(t, err)
			require.Equal(t, value, secret.Reveal())
		})
	}
}

// Even with a good seal a sealed value opens at its own place alone: tenant, key, version and origin are bound to it.
func TestSealedValuesOpenAtTheirPlaceAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	acme, evil := r.m.Tenant("acme"), r.m.Tenant("evil")
	victim, value := add(t, acme, "victim")
	sibling, _ := add(t, acme, "sibling")
	thief, thiefs := add(t, evil, "thief")
	clean := r.store.rows(t)
	old := *clean.record(t, victim.ID)
	next := canary("the-next-Value-of-the-victim-3")
	_, _, err := acme.Rotate(ctx, victim.ID, keycote.RotateParams{Secret: keycote.NewSecret(next)})
	require.NoError(t, err)
	rotated := r.store.rows(t)

	open := func(m *keycote.Manager, id string) (string, error) {
		_, secret, err := m.Use(ctx, id, keycote.Request{})
		return secret.Reveal(), heard(err)
	}
	got, err := open(acme, victim.ID)
	require.NoError(t, err)
	require.Equal(t, next, got)

	tests := []struct {
		name   string
		from   rows
		m      *keycote.Manager
		id     string
		change func(rows, keycote.Record) keycote.Record
		want   string // "": it must not open
	}{
		{"sealed again as it was", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "", "")
		}, value},
		{"another path of the origin", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "", "https://API.example.com:443/v2")
		}, value},
		{"another key's", clean, acme, sibling.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, keycote.SealedValue(old), "")
		}, ""},
		{"another tenant's", clean, evil, thief.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, keycote.SealedValue(old), "")
		}, ""},
		{"an older version's", rotated, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, keycote.SealedValue(old), "")
		}, ""},
		{"another host", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "", "https://evil.example.com/v1")
		}, ""},
		{"another port", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "", "https://api.example.com:8443/v1")
		}, ""},
		{"another scheme", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "", "http://api.example.com:443/v1")
		}, ""},
		{"no endpoint that could be told", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "", "api.example.com")
		}, ""},
		{"cut", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			sealed := keycote.SealedValue(r0)
			return keycote.Forge(r.m, r0, sealed[:len(sealed)-1], "")
		}, ""},
		{"in clear", clean, acme, victim.ID, func(all rows, r0 keycote.Record) keycote.Record {
			return keycote.Forge(r.m, r0, "an-attacker's-Value-88", "")
		}, ""},
	}
	for _, tt := range tests {
		all := tt.from.clone()
		row := all.record(t, tt.id)
		*row = tt.change(all, *row)
		r.store.put(t, all)
		got, err := open(tt.m, tt.id)
		if tt.want != "" {
			require.NoError(t, err, tt.name)
			require.Equal(t, tt.want, got, tt.name)
			continue
		}
		require.ErrorIs(t, err, keycote.ErrTampered, tt.name)
		require.Empty(t, got, tt.name)
		for verb, m := range map[string]*keycote.Manager{"Reveal": tt.m} {
			secret, err := m.Reveal(ctx, tt.id, "to see")
			require.ErrorIs(t, heard(err), keycote.ErrTampered, "%s %s", tt.name, verb)
			require.True(t, secret.IsZero())
		}
		if tt.m != evil {
			got, err = open(evil, thief.ID)
			require.NoError(t, err, tt.name)
			require.Equal(t, thiefs, got)
		}
	}
}

func TestADigestRowPointedAtAnotherRecord(t *testing.T) {
	t.Parallel()
	for _, chosen := range []bool{false, true} {
		t.Run(map[bool]string{false: "issued", true: "chosen"}[chosen], func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			p, q := keycote.IssueParams{Name: "narrow"}, keycote.IssueParams{Name: "wide", Scopes: []string{"**"}}
			if chosen {
				p.Secret, q.Secret = keycote.NewSecret("narrow-Value-13-x7"), keycote.NewSecret("wide-Value-99-q2z")
			}
			narrow, narrowToken := issue(t, r.m, p)
			wide, wideToken := issue(t, r.m, q)
			clean := r.store.rows(t)

			// The narrow key's value leads to the wide record, its own digest gone.
			dirty := clean.clone()
			a, b := dirty.record(t, narrow.ID), dirty.record(t, wide.ID)
			a.Digests, b.Digests = nil, slices.Concat(b.Digests, a.Digests)
			r.store.put(t, dirty)
			grant, err := r.m.Verify(t.Context(), narrowToken, keycote.Request{})
			require.ErrorIs(t, heard(err), keycote.ErrTampered)
			require.Zero(t, grant)
			grant, err = r.m.Verify(t.Context(), wideToken, keycote.Request{})
			require.NoError(t, err, "its own value still finds it, and its body is whole")
			require.Equal(t, wide.ID, grant.KeyID)

			// The two exchanged.
			dirty = clean.clone()
			a, b = dirty.record(t, narrow.ID), dirty.record(t, wide.ID)
			a.Digests, b.Digests = b.Digests, a.Digests
			r.store.put(t, dirty)
			for _, token := range []string{narrowToken, wideToken} {
				_, err = r.m.Verify(t.Context(), token, keycote.Request{})
				require.ErrorIs(t, heard(err), keycote.ErrTampered)
			}
			for _, id := range []string{narrow.ID, wide.ID} {
				_, err = r.m.Get(t.Context(), id)
				require.ErrorIs(t, heard(err), keycote.ErrTampered)
				require.NoError(t, r.m.Delete(t.Context(), id, ""))
			}
		})
	}
}

// A chosen value stands under every index key. Somebody who points one of its digests at another record makes it lead to
// two, and no record may be picked.
func TestOneValueThatLeadsToTwoRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	all := r.store.rows(t)
	index := all.item(t, "", "index")
	next, err := keycote.NextKeyring(t.Context(), *index, r.kek, func(keys *keyset.Manager) error {
		_, err := keys.Add(prf.HMACSHA256PRFKeyTemplate())
		return err
	}, r.kek)
	require.NoError(t, err)
	*index = next
	r.store.put(t, all)
	m := r.open(t, nil)

	victim, token := issue(t, m, keycote.IssueParams{Name: "victim", Secret: keycote.NewSecret("the-Victim's-Value-5")})
	other, otherToken := issue(t, m, keycote.IssueParams{Name: "other", Scopes: []string{"**"}})
	dirty := r.store.rows(t)
	a, b := dirty.record(t, victim.ID), dirty.record(t, other.ID)
	require.Len(t, a.Digests, 2)
	a.Digests, b.Digests = a.Digests[:1], append(b.Digests, a.Digests[1])
	r.store.put(t, dirty)
	grant, err := m.Verify(t.Context(), token, keycote.Request{})
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	require.ErrorIs(t, err, keycote.ErrUnauthenticated)
	require.Zero(t, grant)
	_, err = m.Verify(t.Context(), otherToken, keycote.Request{})
	require.NoError(t, err)
}

// lastEvents is the check that an exported trail check will make: every row of m's tenant is held against its last event,
// and its events against each other, in the order of the key's revisions. It returns the ids of those that do not agree.
func lastEvents(t testing.TB, m *keycote.Manager, all rows) (wrong []string) {
	t.Helper()
	trail := map[string]map[int64][]byte{}
	tenant := ""
	for e, err := range m.Events(context.Background(), keycote.EventFilter{}) {
		require.NoError(t, err)
		tenant = e.Tenant
		if e.Revision == 0 { // no change
			continue
		}
		if trail[e.KeyID] == nil {
			trail[e.KeyID] = map[int64][]byte{}
		}
		require.NotContains(t, trail[e.KeyID], e.Revision, "two events of one revision of %s", e.KeyID)
		trail[e.KeyID][e.Revision] = e.BodyHash
	}
	for id, events := range trail {
		for n := range len(events) {
			require.Contains(t, events, int64(n+1), "a gap in the trail of %s", id)
		}
	}
	for _, row := range all.records {
		if row.Tenant != tenant {
			continue
		}
		events, sum := trail[row.ID], sha256.Sum256(row.Body)
		if row.Revision != int64(len(events)) || !bytes.Equal(events[row.Revision], sum[:]) {
			wrong = append(wrong, row.ID)
		}
		delete(trail, row.ID)
	}
	for id, events := range trail {
		if events[int64(len(events))] != nil { // a deletion has none
			wrong = append(wrong, id)
		}
	}
	return wrong
}

// An older copy of a row is genuine, and works as the state that it is; its last event tells.
func TestAnOlderCopyOfARow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx := t.Context()
	key, token := issue(t, r.m, keycote.IssueParams{Name: "revoked later", Scopes: []string{"a:read"}})
	cred, value := add(t, r.m, "revoked too")
	deleted, deletedToken := issue(t, r.m, keycote.IssueParams{Name: "deleted later"})
	before := r.store.rows(t)
	require.Empty(t, lastEvents(t, r.m, before))
	r.clock.advance(time.Minute)
	_, err := r.m.Revoke(ctx, key.ID, "")
	require.NoError(t, err)
	_, err = r.m.Revoke(ctx, cred.ID, "")
	require.NoError(t, err)
	require.NoError(t, r.m.Delete(ctx, deleted.ID, ""))
	after := r.store.rows(t)
	require.Empty(t, lastEvents(t, r.m, after))
	_, err = r.m.Verify(ctx, token, keycote.Request{})
	require.ErrorIs(t, err, keycote.ErrRevoked)

	dirty := after.clone()
	*dirty.record(t, key.ID) = *before.record(t, key.ID)
	*dirty.record(t, cred.ID) = *before.record(t, cred.ID)
	dirty.records = append(dirty.records, *before.record(t, deleted.ID))
	r.store.put(t, dirty)
	for _, v := range []string{token, deletedToken} {
		_, err = r.m.Verify(ctx, v, keycote.Request{})
		require.NoError(t, err, "the store alone cannot tell")
	}
	_, secret, err := r.m.Use(ctx, cred.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, value, secret.Reveal())
	require.ElementsMatch(t, []string{key.ID, cred.ID, deleted.ID}, lastEvents(t, r.m, dirty))

	// Raising the copy's revision to hide that is a change of a column.
	dirty.record(t, key.ID).Revision = after.record(t, key.ID).Revision
	r.store.put(t, dirty)
	_, err = r.m.Get(ctx, key.ID)
	require.ErrorIs(t, heard(err), keycote.ErrTampered)
	require.Contains(t, lastEvents(t, r.m, dirty), key.ID)
}
