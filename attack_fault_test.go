package keycote_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// faultScene is a database on which every verb can be called, and each of them needs the store.
type faultScene struct {
	*rig
	clean                     rows
	access, cred, disabled    string
	token, marked, value, old string
}

func newFaultScene(t testing.TB) *faultScene {
	t.Helper()
	s := &faultScene{rig: newRig(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})}
	key, token := issue(t, s.m, keycote.IssueParams{Name: "access", Scopes: []string{"a:read"}})
	s.access, s.token = key.ID, token
	s.cred, s.value = func() (string, string) { k, v := add(t, s.m, "credential"); return k.ID, v }()
	off, _ := issue(t, s.m, keycote.IssueParams{Name: "disabled"})
	_, err := s.m.Disable(t.Context(), off.ID, "")
	require.NoError(t, err)
	s.disabled = off.ID
	until, old := issue(t, s.m, keycote.IssueParams{Name: "rotated"})
	_, secret, err := s.m.Rotate(t.Context(), until.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
	require.NoError(t, err)
	s.old, s.marked = old, canary(secret.Reveal())
	require.NoError(t, s.m.Flush(t.Context()))
	s.clean = s.store.rows(t)
	return s
}

// verbs are all calls that a Manager has. What a call answered is checked where it answered something.
func (s *faultScene) verbs(t testing.TB) map[string]func(context.Context, *keycote.Manager) error {
	secret := keycote.NewSecret(canary("another-Value-of-a-verb-8"))
	ids := map[string]string{"access": s.access, "credential": s.cred}
	name, moved := "renamed", "https://other.example.com/"
	verbs := map[string]func(context.Context, *keycote.Manager) error{
		"New": func(ctx context.Context, _ *keycote.Manager) error {
			_, err := keycote.New(ctx, s.store, s.kek, s.options(t, nil))
			return err
		},
		"Issue": func(ctx context.Context, m *keycote.Manager) error {
			key, value, err := m.Issue(ctx, keycote.IssueParams{Name: "issued"})
			canary(value.Reveal())
			require.Equal(t, err == nil, key != nil && !value.IsZero())
			return err
		},
		"Issue chosen": func(ctx context.Context, m *keycote.Manager) error {
			_, _, err := m.Issue(ctx, keycote.IssueParams{Name: "issued", Secret: secret, RequestID: "r1"})
			return err
		},
		"Issue a taken name": func(ctx context.Context, m *keycote.Manager) error {
			_, _, err := m.Issue(ctx, keycote.IssueParams{Name: "access"})
			if errors.Is(err, keycote.ErrExists) {
				return nil
			}
			return err
		},
		"Issue, a dry run": func(ctx context.Context, m *keycote.Manager) error {
			_, _, err := m.Issue(ctx, keycote.IssueParams{Name: "issued", DryRun: true, Secret: secret})
			return err
		},
		"Add": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Add(ctx, keycote.AddParams{Name: "added", Endpoint: attackEndpoint, Secret: secret, RequestID: "r2"})
			return err
		},
		"Add, first of a tenant": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Tenant("new").Add(ctx, keycote.AddParams{Name: "added", Endpoint: attackEndpoint, Secret: secret})
			return err
		},
		"Rotate a credential": func(ctx context.Context, m *keycote.Manager) error {
			_, _, err := m.Rotate(ctx, s.cred, keycote.RotateParams{Secret: secret})
			return err
		},
		"Rotate": func(ctx context.Context, m *keycote.Manager) error {
			key, value, err := m.Rotate(ctx, s.access, keycote.RotateParams{Overlap: time.Hour, RequestID: "r3"})
			canary(value.Reveal())
			require.Equal(t, err == nil, key != nil && !value.IsZero())
			return err
		},
		"Update": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Update(ctx, s.access, keycote.Patch{Name: &name})
			return err
		},
		"Update an endpoint": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Update(ctx, s.cred, keycote.Patch{Endpoint: &moved, Secret: secret})
			return err
		},
		"Enable": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Enable(ctx, s.disabled, "")
			return err
		},
		"Use": func(ctx context.Context, m *keycote.Manager) error {
			_, value, err := m.Use(ctx, s.cred, keycote.Request{})
			if err == nil {
				require.Equal(t, s.value, value.Reveal())
			} else {
				require.True(t, value.IsZero())
			}
			return err
		},
		"Reveal": func(ctx context.Context, m *keycote.Manager) error {
			value, err := m.Reveal(ctx, s.cred, "to see")
			if err == nil {
				require.Equal(t, s.value, value.Reveal())
			} else {
				require.True(t, value.IsZero())
			}
			return err
		},
		"Verify": func(ctx context.Context, m *keycote.Manager) error {
			grant, err := m.Verify(ctx, s.token, keycote.Request{Scopes: []string{"a:read"}})
			require.Equal(t, err == nil, grant.KeyID == s.access)
			return err
		},
		"Verify, first use": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Verify(ctx, s.marked, keycote.Request{})
			return err
		},
		"List": func(ctx context.Context, m *keycote.Manager) error {
			n := 0
			for key, err := range m.List(ctx, keycote.Filter{}) {
				if err != nil {
					return err
				}
				require.NotEqual(t, keycote.StateUnreadable, key.State)
				n++
			}
			require.Equal(t, 4, n, "never an empty list")
			return nil
		},
		"Page": func(ctx context.Context, m *keycote.Manager) error {
			page, err := m.Page(ctx, keycote.Filter{}, "", 0)
			require.Equal(t, err == nil, len(page.Keys) == 4)
			return err
		},
		"Events": func(ctx context.Context, m *keycote.Manager) error {
			n := 0
			for _, err := range m.Events(ctx, keycote.EventFilter{}) {
				if err != nil {
					return err
				}
				n++
			}
			require.Equal(t, 6, n)
			return nil
		},
		"Tenants": func(ctx context.Context, m *keycote.Manager) error {
			for _, err := range m.Tenants(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Flush": func(ctx context.Context, m *keycote.Manager) error {
			_, err := m.Verify(context.WithoutCancel(ctx), "nobody's value", keycote.Request{}) // refused without a read
			require.ErrorIs(t, err, keycote.ErrUnknownKey)
			return m.Flush(ctx)
		},
	}
	for what, id := range ids {
		verbs["Get "+what] = func(ctx context.Context, m *keycote.Manager) error { _, err := m.Get(ctx, id); return err }
		verbs["Disable "+what] = func(ctx context.Context, m *keycote.Manager) error { _, err := m.Disable(ctx, id, ""); return err }
		verbs["Revoke "+what] = func(ctx context.Context, m *keycote.Manager) error { _, err := m.Revoke(ctx, id, ""); return err }
		verbs["Delete "+what] = func(ctx context.Context, m *keycote.Manager) error { return m.Delete(ctx, id, "") }
	}
	return verbs
}

// changes are the verbs that, when they succeed, leave something else behind.
var readOnly = []string{
	"New", "Issue a taken name", "Issue, a dry run", "Use", "Verify", "Verify, first use", "List", "Page", "Events", "Tenants",
	"Flush", "Get access", "Get credential",
}

// requireWhole holds that a change and its event are both there, or neither.
func (s *faultScene) requireWhole(t testing.TB, verb string, err error) {
	t.Helper()
	s.store.between(nil)
	after := s.store.rows(t)
	m := s.open(t, nil)
	require.Empty(t, lastEvents(t, m, after), verb)
	if slices.ContainsFunc(after.records, func(r keycote.Record) bool { return r.Tenant == "new" }) {
		require.Empty(t, lastEvents(t, m.Tenant("new"), after), verb)
		require.NotNil(t, after.item(t, "new", "data"))
	}
	if slices.Contains(readOnly, verb) {
		return
	}
	changed := !reflect.DeepEqual(s.clean.records, after.records) || !reflect.DeepEqual(s.clean.items, after.items)
	told := len(after.events) > len(s.clean.events)
	if verb == "Reveal" {
		changed = told
	}
	require.Equal(t, changed, told, "%s: a change without its event, or an event without its change", verb)
	if err == nil {
		require.True(t, changed, "%s answered nil and did nothing", verb)
	}
}

// A context that ends at any of the moments at which it can.
func TestCancelledAtEveryCall(t *testing.T) {
	t.Parallel()
	s := newFaultScene(t)
	for verb, call := range s.verbs(t) {
		for _, after := range []bool{false, true} {
			for n := 0; ; n++ {
				require.Less(t, n, 50)
				s.store.put(t, s.clean)
				s.store.between(nil)
				m := s.open(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
				ctx, cancel := context.WithCancel(t.Context())
				hit := false
				s.store.between(func(ctx context.Context, op string, i int, do func(context.Context) error) error {
					if i != n {
						return do(ctx)
					}
					hit = true
					if !after {
						cancel()
						return do(ctx)
					}
					err := do(ctx)
					cancel()
					return err
				})
				err := heard(call(ctx, m))
				cancel()
				if err != nil {
					require.True(t, hit, "%s: %v", verb, err)
					require.ErrorIs(t, err, context.Canceled, "%s, call %d, after %v", verb, n, after)
					require.ErrorIs(t, err, keycote.ErrUnavailable, "%s, call %d, after %v", verb, n, after)
				}
				s.requireWhole(t, verb, err)
				if !hit {
					require.NoError(t, err)
					break
				}
			}
		}
	}
}

// faults are ways in which a database fails. None of them is an answer.
var faults = map[string]func(int, func() error) error{
	"down from then on": func(i int, do func() error) error { return errDriver },
	"one call lost": func(i int, do func() error) error {
		if i > 0 {
			return do()
		}
		return errDriver
	},
	"one answer lost": func(i int, do func() error) error {
		err := do()
		if i > 0 {
			return err
		}
		return errors.Join(errDriver, err)
	},
	"an error that talks like ours": func(i int, do func() error) error { return talkative{} },
	"an error that carries codes": func(i int, do func() error) error {
		return errors.Join(errDriver, keycote.ErrUnknownKey, keycote.ErrTampered, keycote.ErrKEK, keycote.ErrForbidden,
			&keycote.Error{Op: "verify", ID: "key_01jtbqz4m0e8v3w2x1y0z9abcd", Code: keycote.ErrRevoked})
	},
	"its own context ended": func(i int, do func() error) error { return context.DeadlineExceeded },
}

// talkative is an error of a driver whose words are those of codes.
type talkative struct{}

func (talkative) Error() string { return "unknown_key: not_found: tampered: unauthenticated" }

// An outage is ErrUnavailable and nothing else, by every verb, whenever it begins: it never reads as an unknown key, and
// never as a key that is not there.
func TestStoreFailsAtEveryCall(t *testing.T) {
	t.Parallel()
	s := newFaultScene(t)
	for verb, call := range s.verbs(t) {
		for name, fault := range faults {
			for n := 0; ; n++ {
				require.Less(t, n, 50)
				s.store.between(nil)
				s.store.put(t, s.clean)
				m := s.open(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
				hit := false
				s.store.between(func(ctx context.Context, op string, i int, do func(context.Context) error) error {
					if i < n {
						return do(ctx)
					}
					hit = true
					return fault(i-n, func() error { return do(ctx) })
				})
				err := heard(call(t.Context(), m))
				what := fmt.Sprintf("%s, %s, call %d", verb, name, n)
				if err != nil {
					require.True(t, hit, what)
					require.Equal(t, keycote.ErrUnavailable, keycote.CodeOf(err), what)
					require.NotErrorIs(t, err, keycote.ErrUnauthenticated, what)
				}
				s.requireWhole(t, verb, err)
				if !hit {
					require.NoError(t, err, what)
					break
				}
			}
		}
	}
}

// Random outages under a stream of calls: what is answered is true, and what is left behind is whole.
func TestRandomOutages(t *testing.T) {
	t.Parallel()
	s := newFaultScene(t)
	verbs := s.verbs(t)
	for seed := range uint64(40) {
		s.store.between(nil)
		s.store.put(t, s.clean)
		m := s.open(t, &keycote.Options{Validator: keycote.NewValidatorWithoutStrength()})
		dice := seed*2862933555777941757 + 3037000493
		roll := func(n uint64) uint64 {
			dice = dice*6364136223846793005 + 1442695040888963407
			return dice >> 33 % n
		}
		s.store.between(func(ctx context.Context, op string, i int, do func(context.Context) error) error {
			switch roll(6) {
			case 0:
				return errDriver
			case 1:
				return errors.Join(do(ctx), errDriver)
			}
			return do(ctx)
		})
		for range 30 {
			names := slices.Sorted(maps.Keys(verbs))
			verb := names[roll(uint64(len(names)))]
			if slices.Contains([]string{"List", "Page", "Events", "Use", "Reveal", "Rotate", "Flush"}, verb) {
				continue // these know what they should find, and the stream changes that
			}
			err := heard(verbs[verb](t.Context(), m))
			switch code := keycote.CodeOf(err); code {
			case "", keycote.ErrUnavailable:
			case keycote.ErrNotFound, keycote.ErrRevoked, keycote.ErrDisabled, keycote.ErrUnknownKey, keycote.ErrInvalid,
				keycote.ErrConflict:
				// What the stream itself may have brought about; asked again in peace it is the same.
				s.store.mu.Lock()
				disturb := s.store.disturb
				s.store.disturb = nil
				s.store.mu.Unlock()
				if code != keycote.ErrConflict {
					require.Equal(t, code, keycote.CodeOf(verbs[verb](t.Context(), m)), "seed %d, %s: %v", seed, verb, err)
				}
				s.store.mu.Lock()
				s.store.disturb = disturb
				s.store.mu.Unlock()
			default:
				require.NoError(t, err, "seed %d, %s", seed, verb)
			}
		}
		s.store.between(nil)
		after := s.store.rows(t)
		fresh := s.open(t, nil)
		require.Empty(t, lastEvents(t, fresh, after), "seed %d", seed)
		for _, key := range listed(t, fresh) {
			require.NotEqual(t, keycote.StateUnreadable, key.State)
			require.NotEmpty(t, key.Versions)
		}
	}
}
