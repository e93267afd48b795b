package keycote_test

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// scene is a database with keys of both kinds, two of which somebody is going to change.
type scene struct {
	*rig
	t        testing.TB
	m        *keycote.Manager // the tenant's view
	clean    rows
	access   *keycote.Key // a victim with everything set, and two versions alive
	token    string
	older    string
	cred     *keycote.Key // a victim with everything set
	value    string
	other    string // a bystander's token
	otherKey *keycote.Key
	otherID  string // a bystander's credential
	otherVal string
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{rig: newRig(t, nil), t: t}
	s.m = s.rig.m.Tenant("acme")
	ctx := keycote.WithActor(t.Context(), keycote.Actor{ID: "ada", MaxScopes: []string{"**"}})

	access, secret, err := s.m.Issue(ctx, keycote.IssueParams{
		Name: "Build", App: "ci", Scopes: []string{"orders:read", "orders:write"},
		Networks:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		ExpiresAt: s.clock.Now().Add(90 * 24 * time.Hour), RequestID: "request-1",
		Limit:  keycote.Limit{Rate: 1e6, Per: time.Second, Burst: 2e6, Quota: 1e9, Period: time.Hour},
		Labels: map[string]string{"env": "prod", "team": "core"},
	})
	require.NoError(t, err)
	s.older = canary(secret.Reveal())
	s.clock.advance(time.Minute)
	s.access, secret, err = s.m.Rotate(ctx, access.ID, keycote.RotateParams{Overlap: time.Hour, RequestID: "request-2"})
	require.NoError(t, err)
	s.token = canary(secret.Reveal())

	s.value = canary("given-Value-44-of-the-victim")
	s.cred, err = s.m.Add(ctx, keycote.AddParams{
		Name: "Upstream", App: "ci", Endpoint: attackEndpoint, Secret: keycote.NewSecret(s.value),
		ExpiresAt: s.clock.Now().Add(90 * 24 * time.Hour), Labels: map[string]string{"env": "prod"}, RequestID: "request-3",
	})
	require.NoError(t, err)
	s.otherKey, s.other = issue(t, s.m, keycote.IssueParams{Name: "Bystander", Scopes: []string{"orders:read"}})
	var otherCred *keycote.Key
	otherCred, s.otherVal = add(t, s.m, "Bystander's")
	s.otherID = otherCred.ID
	require.NoError(t, s.m.Flush(ctx))
	_, err = s.m.Verify(ctx, s.token, inside)
	require.NoError(t, err)
	_, err = s.m.Verify(ctx, s.older, inside)
	require.NoError(t, err)
	s.clean = s.store.rows(t)
	return s
}

var inside = keycote.Request{Addr: netip.MustParseAddr("192.0.2.7")}

// with is the clean database with one row changed.
func (s *scene) with(id string, change func(*keycote.Record)) {
	dirty := s.clean.clone()
	change(dirty.record(s.t, id))
	s.store.put(s.t, dirty)
}

// calls are all verbs that read a key by its id, and how each fails.
func (s *scene) calls(id string) map[string]error {
	ctx, m := s.t.Context(), s.m
	failures := map[string]error{}
	_, failures["Get"] = m.Get(ctx, id)
	_, _, failures["Rotate"] = m.Rotate(ctx, id, keycote.RotateParams{Secret: keycote.NewSecret(canary("next-Value-71-of-it"))})
	name := "Renamed"
	_, failures["Update"] = m.Update(ctx, id, keycote.Patch{Name: &name})
	_, failures["Disable"] = m.Disable(ctx, id, "")
	_, failures["Enable"] = m.Enable(ctx, id, "")
	_, failures["Revoke"] = m.Revoke(ctx, id, "")
	_, _, failures["Use"] = m.Use(ctx, id, keycote.Request{})
	_, failures["Reveal"] = m.Reveal(ctx, id, "to see")
	for verb, err := range failures {
		_ = heard(err)
		require.Error(s.t, err, verb)
	}
	return failures
}

// requireUnreadable holds the promise about a record that was changed: it alone fails, by every verb, it is listed as
// unreadable, and it can be deleted. id is the one that its row has now.
func (s *scene) requireUnreadable(id string) {
	s.t.Helper()
	for verb, err := range s.calls(id) {
		if !isCode(err, keycote.ErrTampered) {
			require.ErrorIs(s.t, err, keycote.ErrTampered, verb)
		}
	}
	all := listed(s.t, s.m)
	require.Len(s.t, all, 4)
	require.Contains(s.t, all, id)
	require.Equal(s.t, keycote.StateUnreadable, all[id].State)
	s.requireOthers()
	require.NoError(s.t, heard(s.m.Delete(s.t.Context(), id, "unreadable")))
	all = listed(s.t, s.m)
	require.Len(s.t, all, 3)
	require.NotContains(s.t, all, id)
	for _, key := range all {
		require.Equal(s.t, keycote.StateActive, key.State)
	}
}

func isCode(err error, code keycote.Code) bool { return keycote.CodeOf(err) == code }

// requireOthers holds that the bystanders notice nothing.
func (s *scene) requireOthers() {
	s.t.Helper()
	grant, err := s.m.Verify(s.t.Context(), s.other, keycote.Request{Scopes: []string{"orders:read"}})
	require.NoError(s.t, heard(err))
	require.Equal(s.t, s.otherKey.ID, grant.KeyID)
	_, secret, err := s.m.Use(s.t.Context(), s.otherID, keycote.Request{Endpoint: attackEndpoint})
	require.NoError(s.t, heard(err))
	require.Equal(s.t, s.otherVal, secret.Reveal())
}

func TestSceneIsSound(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.store.put(t, s.clean)
	require.Equal(t, s.clean, s.store.rows(t), "putting rows back changes nothing")
	s.requireOthers()
	_, secret, err := s.m.Use(t.Context(), s.cred.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, s.value, secret.Reveal())
	for _, key := range listed(t, s.m) {
		require.Equal(t, keycote.StateActive, key.State)
	}
}

func TestEveryByteOfARecordIsHeld(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"body", "seal"} {
		for _, kind := range []keycote.Kind{keycote.KindAccess, keycote.KindCredential} {
			t.Run(part+" of "+string(kind), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				id := s.access.ID
				if kind == keycote.KindCredential {
					id = s.cred.ID
				}
				bytesOf := func(r *keycote.Record) []byte {
					if part == "body" {
						return r.Body
					}
					return r.Seal
				}
				n := len(bytesOf(s.clean.record(t, id)))
				require.Greater(t, n, 30)
				for i := range n {
					s.with(id, func(r *keycote.Record) { bytesOf(r)[i] ^= 1 << (i % 8) })
					for _, token := range []string{s.token, s.older} {
						grant, err := s.m.Verify(t.Context(), token, inside)
						if kind == keycote.KindCredential {
							require.NoError(t, err)
							continue
						}
						if !isCode(heard(err), keycote.ErrTampered) {
							require.ErrorIs(t, err, keycote.ErrTampered, "byte %d", i)
						}
						require.Zero(t, grant)
						require.ErrorIs(t, err, keycote.ErrUnauthenticated)
					}
					s.requireUnreadable(id)
				}
			})
		}
	}
}

// columnChanges are what is done to each column, one at a time. A column that a Record gets later must be added here.
func columnChanges() map[string][]func(*keycote.Record) {
	type R = keycote.Record
	text := func(field func(*R) *string) []func(*R) {
		return []func(*R){
			func(r *R) { *field(r) += "x" },
			func(r *R) { *field(r) += " " },
			func(r *R) { *field(r) = "" },
			func(r *R) { b := []byte(*field(r)); b[0] ^= 0x20; *field(r) = string(b) },
		}
	}
	instant := func(field func(*R) *time.Time) []func(*R) {
		return []func(*R){
			func(r *R) { *field(r) = field(r).Add(time.Microsecond) },
			func(r *R) { *field(r) = field(r).Add(-time.Microsecond) },
			func(r *R) { *field(r) = field(r).AddDate(50, 0, 0) },
			func(r *R) { *field(r) = time.UnixMicro(0).UTC() },
		}
	}
	raw := func(field func(*R) *[]byte) []func(*R) {
		return []func(*R){
			func(r *R) { *field(r) = nil },
			func(r *R) { *field(r) = (*field(r))[1:] },
			func(r *R) { *field(r) = (*field(r))[:len(*field(r))-1] },
			func(r *R) { *field(r) = append(*field(r), 0) },
			func(r *R) { *field(r) = slices.Concat(*field(r), *field(r)) },
		}
	}
	state := func(to keycote.State) func(*R) { return func(r *R) { r.State = to } }
	kind := func(to keycote.Kind) func(*R) { return func(r *R) { r.Kind = to } }
	revision := func(f func(int64) int64) func(*R) { return func(r *R) { r.Revision = f(r.Revision) } }
	return map[string][]func(*R){
		"Name": text(func(r *R) *string { return &r.Name }),
		"App":  text(func(r *R) *string { return &r.App }),
		"Owner": append(text(func(r *R) *string { return &r.Owner }),
			func(r *R) { r.Owner, r.App = r.App, r.Owner }),
		"Search": text(func(r *R) *string { return &r.Search }),
		"Kind": {
			func(r *R) {
				r.Kind = map[keycote.Kind]keycote.Kind{"access": "credential", "credential": "access"}[r.Kind]
			},
			kind(""), kind("Access"), kind("root"),
		},
		"State": {
			state(keycote.StateDisabled), state(keycote.StateRevoked), state(keycote.StateExpired), state(""), state("ACTIVE"),
			state(keycote.StateUnreadable), state(keycote.StateEnded),
		},
		"Labels": {
			func(r *R) { r.Labels = nil },
			func(r *R) { r.Labels["env"] = "test" },
			func(r *R) { r.Labels["more"] = "" },
			func(r *R) { delete(r.Labels, "env"); r.Labels["ENV"] = "prod" },
		},
		"Digests": {
			func(r *R) { r.Digests = nil },
			func(r *R) { r.Digests = r.Digests[1:] },
			func(r *R) { r.Digests[0][0] ^= 1 },
			func(r *R) { r.Digests[len(r.Digests)-1][23] ^= 0x80 },
			func(r *R) { r.Digests = append(r.Digests, make([]byte, 24)) },
		},
		"CreatedAt": instant(func(r *R) *time.Time { return &r.CreatedAt }),
		"RotatedAt": instant(func(r *R) *time.Time { return &r.RotatedAt }),
		"ExpiresAt": append(instant(func(r *R) *time.Time { return &r.ExpiresAt }),
			func(r *R) { r.ExpiresAt = time.Time{} }),
		"Revision": {
			revision(func(n int64) int64 { return n + 1 }), revision(func(n int64) int64 { return n - 1 }),
			revision(func(int64) int64 { return 0 }), revision(func(n int64) int64 { return -n }),
			revision(func(int64) int64 { return math.MaxInt64 }),
		},
		"Body": raw(func(r *R) *[]byte { return &r.Body }),
		"Seal": raw(func(r *R) *[]byte { return &r.Seal }),
		// Whoever changes these moves the row to another address: TestARecordAtAnotherAddress.
		"Tenant": nil, "ID": nil,
		// Counters; they are the store's, and decide nothing.
		"Uses": nil,
	}
}

func TestEveryColumnOfARecordIsHeld(t *testing.T) {
	t.Parallel()
	changes := columnChanges()
	columns := reflect.TypeFor[keycote.Record]()
	require.Len(t, changes, columns.NumField())
	for i := range columns.NumField() {
		column := columns.Field(i).Name
		list, known := changes[column]
		require.True(t, known, "no test changes the column %s", column)
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			for _, id := range []string{s.access.ID, s.cred.ID} {
				for n, change := range list {
					dirty := s.clean.clone()
					change(dirty.record(t, id))
					require.NotEqual(t, s.clean, dirty, "change %d of %s changes nothing", n, column)
					s.with(id, change)
					s.requireUnreadable(id)
				}
			}
		})
	}
}

// A Verify reads body and seal and nothing else: a column that lies changes no decision.
func TestColumnsDecideNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	want, err := s.m.Verify(t.Context(), s.token, inside)
	require.NoError(t, err)
	changes := columnChanges()
	for _, column := range slices.Sorted(maps.Keys(changes)) {
		if column == "Body" || column == "Seal" || column == "Digests" {
			continue
		}
		for n, change := range changes[column] {
			s.with(s.access.ID, change)
			got, err := s.m.Verify(t.Context(), s.token, inside)
			require.NoError(t, err, "%s %d", column, n)
			require.Equal(t, want.Key(), got.Key(), "%s %d", column, n)
			_, err = s.m.Verify(t.Context(), s.token, keycote.Request{Addr: inside.Addr, Scopes: []string{"admin"}})
			require.ErrorIs(t, err, keycote.ErrScope)
		}
	}
}

func TestARecordAtAnotherAddress(t *testing.T) {
	t.Parallel()
	ids := []struct{ name, id string }{
		{"another good id", "key_01jtbqz4m0e8v3w2x1y0z9abcd"},
		{"an id of another length", "key_"},
		{"empty", "-"},
		{"one letter changed", ""},
		{"a control character", "key_01jtb\x10z4m0e8v3w2x1y0z9abcd"},
		{"behind all ids", "~~~"},
		{"not ASCII", "éé"},
	}
	for _, victim := range []keycote.Kind{keycote.KindAccess, keycote.KindCredential} {
		for _, tt := range ids {
			t.Run(fmt.Sprintf("%s: %s", victim, tt.name), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				old, id := s.access.ID, tt.id
				if victim == keycote.KindCredential {
					old = s.cred.ID
				}
				switch id {
				case "-":
					id = ""
				case "":
					id = old[:10] + string(rune('0'+(old[10]-'0'+1)%8)) + old[11:]
				}
				s.with(old, func(r *keycote.Record) { r.ID = id })
				for verb, err := range s.calls(old) {
					require.ErrorIs(t, err, keycote.ErrNotFound, verb)
				}
				if victim == keycote.KindAccess {
					_, err := s.m.Verify(t.Context(), s.token, inside)
					require.ErrorIs(t, heard(err), keycote.ErrTampered)
				}
				var tenants []string
				for name, err := range s.rig.m.Tenants(t.Context()) {
					require.NoError(t, heard(err), "one bad row must not hide the tenants")
					tenants = append(tenants, name)
				}
				require.Equal(t, []string{"acme"}, tenants)
				s.requireUnreadable(id)
			})
		}
		t.Run(string(victim)+": in another tenant", func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			id := s.access.ID
			if victim == keycote.KindCredential {
				id = s.cred.ID
			}
			evil := s.rig.m.Tenant("evil")
			evilCred, value := add(t, evil, "Evil's own")
			_, token := issue(t, evil, keycote.IssueParams{Name: "Evil's token"})
			s.clean = s.store.rows(t)
			s.with(id, func(r *keycote.Record) { r.Tenant = "evil" })
			for verb, err := range s.calls(id) {
				require.ErrorIs(t, err, keycote.ErrNotFound, verb)
			}
			require.Len(t, listed(t, s.m), 3)
			s.requireOthers()

			_, _, err := evil.Use(t.Context(), id, keycote.Request{})
			require.ErrorIs(t, heard(err), keycote.ErrTampered)
			_, err = evil.Reveal(t.Context(), id, "to see")
			require.ErrorIs(t, heard(err), keycote.ErrTampered)
			if victim == keycote.KindAccess {
				for name, m := range map[string]*keycote.Manager{"owner": s.m, "thief": evil, "all": s.rig.m} {
					_, err := m.Verify(t.Context(), s.token, inside)
					require.ErrorIs(t, heard(err), keycote.ErrTampered, name)
				}
			}
			all := listed(t, evil)
			require.Len(t, all, 3)
			require.Equal(t, keycote.StateUnreadable, all[id].State)
			_, secret, err := evil.Use(t.Context(), evilCred.ID, keycote.Request{})
			require.NoError(t, err)
			require.Equal(t, value, secret.Reveal())
			_, err = evil.Verify(t.Context(), token, keycote.Request{})
			require.NoError(t, err)
			require.NoError(t, evil.Delete(t.Context(), id, "not ours"))
			require.Len(t, listed(t, evil), 2)
		})
	}
}

// An emptied id sorts before all others: newest first it is the last of its page, and where a walk over the pages must
// not begin again.
func TestAnEmptiedIDEndsAWalk(t *testing.T) {
	t.Parallel()
	const pageOfList = 200
	r := newRig(t, nil)
	var first *keycote.Key
	for i := range pageOfList {
		key, _ := issue(t, r.m, keycote.IssueParams{Name: fmt.Sprint("key ", i)})
		if first == nil {
			first = key
		}
	}
	dirty := r.store.rows(t)
	dirty.record(t, first.ID).ID = ""
	r.store.put(t, dirty)
	for _, newest := range []bool{true, false} {
		seen := 0
		for _, err := range r.m.List(t.Context(), keycote.Filter{Newest: newest}) {
			require.NoError(t, err)
			seen++
			require.LessOrEqual(t, seen, pageOfList)
		}
		require.Equal(t, pageOfList, seen)
		page, err := r.m.Page(t.Context(), keycote.Filter{Newest: newest}, "", pageOfList)
		require.NoError(t, err)
		require.Len(t, page.Keys, pageOfList)
		require.Empty(t, page.Next)
	}
	require.NoError(t, r.m.Delete(t.Context(), "", "emptied"))
	require.Len(t, listed(t, r.m), pageOfList-1)
}
