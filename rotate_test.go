package keycote_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

const (
	active  = keycote.StateActive
	ended   = keycote.StateEnded
	expired = keycote.StateExpired
)

// TestOverlap tries every combination of what may end the older version.
func TestOverlap(t *testing.T) {
	t.Parallel()
	hour := func(n int) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return worldStart.Add(time.Duration(n) * time.Hour)
	}
	for _, own := range []int{0, 2, 6} {
		for _, overlap := range []int{0, 1, 4, 8} {
			for _, next := range []int{0, 3, 5, 9} { // 0: as the old one's
				w := newWorld(t, nil)
				key, old := w.issue(keycote.IssueParams{ExpiresAt: hour(own)})
				key, fresh := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Duration(overlap) * time.Hour, ExpiresAt: hour(next)})
				current := hour(next)
				if next == 0 {
					current = hour(own)
				}
				require.Equal(t, current, key.ExpiresAt)
				require.Equal(t, current, key.Versions[1].ExpiresAt)
				require.Equal(t, key.Versions[1].Hint, key.Hint)
				require.Empty(t, w.verdict(fresh))
				if overlap == 0 {
					require.Equal(t, []keycote.State{ended, active}, states(key))
					require.Equal(t, keycote.ErrExpired, w.verdict(old))
					continue
				}
				end := hour(overlap)
				for _, other := range []time.Time{hour(own), current} {
					if !other.IsZero() && other.Before(end) {
						end = other
					}
				}
				require.Equal(t, end, key.Versions[0].ExpiresAt, "own %d, overlap %d, next %d", own, overlap, next)
				g, err := w.Verify(t.Context(), old, keycote.Request{})
				require.NoError(t, err)
				require.True(t, g.Superseded)
				require.Equal(t, 1, g.Version)
				require.Equal(t, end, g.ExpiresAt)
				w.clock.Set(end.Add(-time.Microsecond))
				require.Empty(t, w.verdict(old))
				w.clock.Set(end)
				require.Equal(t, keycote.ErrExpired, w.verdict(old))
			}
		}
	}
}

func TestUpdateOfExpiryCutsTheOlderVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		to, want time.Duration // 0: never
	}{
		{"cut", time.Hour, time.Hour},
		{"later than the overlap", 3 * time.Hour, 2 * time.Hour},
		{"never", 0, 2 * time.Hour},
		{"later than all", 900 * time.Hour, 2 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			key, old := w.issue(keycote.IssueParams{ExpiresAt: worldStart.Add(6 * time.Hour)})
			w.rotate(key.ID, keycote.RotateParams{Overlap: 2 * time.Hour})
			at := time.Time{}
			if c.to != 0 {
				at = worldStart.Add(c.to)
			}
			key, err := w.Update(t.Context(), key.ID, keycote.Patch{ExpiresAt: &at})
			require.NoError(t, err)
			require.Equal(t, at, key.ExpiresAt)
			require.Equal(t, worldStart.Add(c.want), key.Versions[0].ExpiresAt)
			// A later Update does not give back what an earlier one has taken.
			key, err = w.Update(t.Context(), key.ID, keycote.Patch{ExpiresAt: new(time.Time)})
			require.NoError(t, err)
			require.True(t, key.ExpiresAt.IsZero())
			require.Equal(t, worldStart.Add(c.want), key.Versions[0].ExpiresAt)
			w.clock.Set(worldStart.Add(c.want))
			require.Equal(t, keycote.ErrExpired, w.verdict(old))
		})
	}
}

func TestThirdRotation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		used    bool
		overlap time.Duration
		want    []keycote.State
		end     time.Duration // of the version that goes on
	}{
		{"the newer was never used", false, 3 * time.Hour, []keycote.State{active, ended, active}, time.Hour},
		{"the newer was never used, and less overlap", false, time.Minute, []keycote.State{active, ended, active}, time.Minute},
		{"the newer was used", true, 3 * time.Hour, []keycote.State{ended, active, active}, 3 * time.Hour},
		{"no overlap ends them all", false, 0, []keycote.State{ended, ended, active}, 0},
		{"no overlap ends them all, used or not", true, 0, []keycote.State{ended, ended, active}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			key, one := w.issue(keycote.IssueParams{})
			_, two := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour})
			if c.used {
				require.Empty(t, w.verdict(two))
			}
			other := w.another(nil) // used is a fact of the record, for all processes
			key, secret, err := other.Rotate(t.Context(), key.ID, keycote.RotateParams{Overlap: c.overlap})
			require.NoError(t, err)
			require.Equal(t, c.want, states(key))
			values := []string{one, two, secret.Reveal()}
			for i, s := range c.want {
				code := keycote.Code("")
				if s == ended {
					code = keycote.ErrExpired
				}
				require.Equal(t, code, w.verdict(values[i]))
				if s == active && i < 2 {
					require.Equal(t, worldStart.Add(c.end), key.Versions[i].ExpiresAt)
				}
			}
		})
	}
}

func TestUntilUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, old := w.issue(keycote.IssueParams{})
	_, fresh := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
	other := w.another(nil)
	require.Empty(t, w.verdict(old), "until the new one is used the old one works")
	_, err := w.Verify(t.Context(), fresh, keycote.Request{Scopes: []string{"x:y"}})
	require.ErrorIs(t, err, keycote.ErrScope)
	require.Empty(t, w.verdict(old), "a refused use is none")
	_, before := w.store.written()
	require.Empty(t, w.verdict(fresh))
	_, after := w.store.written()
	require.Equal(t, before+1, after)
	for _, m := range []*keycote.Manager{w.Manager, other} {
		_, err := m.Verify(t.Context(), old, keycote.Request{})
		refusalOf(t, err, keycote.ErrExpired, key.ID)
	}
	got, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, []keycote.State{ended, active}, states(got))
	require.EqualValues(t, 3, got.Revision)

	events := eventsOf(t, w.Manager, keycote.EventFilter{})
	last := events[len(events)-1]
	require.Equal(t, keycote.Action("verify"), last.Action)
	require.Empty(t, last.Actor)
	require.Equal(t, key.ID, last.KeyID)
	require.EqualValues(t, 3, last.Revision)
	require.NotEmpty(t, last.BodyHash)
	w.verdict(fresh)
	_, again := w.store.written()
	require.Equal(t, after, again)
	w.clock.Set(worldStart.Add(-48 * time.Hour))
	require.Equal(t, keycote.ErrExpired, w.verdict(old), "a wrong clock does not bring it back")
}

func TestAWrongClockDoesNotBringBackWhatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, old := w.issue(keycote.IssueParams{ExpiresAt: worldStart.Add(time.Hour)})
	_, second := w.rotate(key.ID, keycote.RotateParams{Overlap: time.Minute})
	w.clock.Advance(2 * time.Minute)
	w.rotate(key.ID, keycote.RotateParams{Overlap: time.Minute}) // ends the first, whose time was over
	w.rotate(key.ID, keycote.RotateParams{})
	w.clock.Set(worldStart)
	require.Equal(t, keycote.ErrExpired, w.verdict(old))
	require.Equal(t, keycote.ErrExpired, w.verdict(second))
}

func TestRotateAnExpiredKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, old := w.issue(keycote.IssueParams{ExpiresAt: worldStart.Add(time.Hour)})
	credential := w.add(keycote.AddParams{ExpiresAt: worldStart.Add(time.Hour)})
	w.clock.Set(worldStart.Add(time.Hour))
	_, _, err := w.Rotate(t.Context(), key.ID, keycote.RotateParams{Overlap: time.Hour})
	require.Equal(t, []string{"expiresAt: required"}, broken(t, err))
	_, _, err = w.Rotate(t.Context(), credential.ID, keycote.RotateParams{Secret: keycote.NewSecret(otherValue)})
	require.Equal(t, []string{"expiresAt: required"}, broken(t, err))
	_, _, err = w.Rotate(t.Context(), key.ID, keycote.RotateParams{ExpiresAt: worldStart})
	require.Equal(t, []string{"expiresAt: past"}, broken(t, err))
	got, fresh := w.rotate(key.ID, keycote.RotateParams{ExpiresAt: worldStart.Add(3 * time.Hour), Overlap: time.Hour})
	require.Equal(t, []keycote.State{ended, active}, states(got))
	require.Equal(t, active, got.State)
	require.Empty(t, w.verdict(fresh))
	require.Equal(t, keycote.ErrExpired, w.verdict(old))
}

func TestRotateADisabledKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	_, err := w.Disable(t.Context(), key.ID, "")
	require.NoError(t, err)
	got, fresh := w.rotate(key.ID, keycote.RotateParams{})
	require.Equal(t, keycote.StateDisabled, got.State)
	require.Equal(t, keycote.ErrDisabled, w.verdict(fresh))
	_, err = w.Enable(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Empty(t, w.verdict(fresh))
	_, err = w.Revoke(t.Context(), key.ID, "")
	require.NoError(t, err)
	_, _, err = w.Rotate(t.Context(), key.ID, keycote.RotateParams{})
	require.ErrorIs(t, err, keycote.ErrRevoked)
	require.NotErrorIs(t, err, keycote.ErrUnauthenticated)
}

func TestRotateACredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	key := w.add(keycote.AddParams{})
	first := w.raw(key.ID)
	for name, c := range map[string]struct {
		p    keycote.RotateParams
		want []string
	}{
		"no value":   {keycote.RotateParams{}, []string{"secret: required"}},
		"overlap":    {keycote.RotateParams{Secret: keycote.NewSecret(otherValue), Overlap: 1}, []string{"overlap: not_allowed"}},
		"until used": {keycote.RotateParams{Secret: keycote.NewSecret(otherValue), UntilUsed: true}, []string{"untilUsed: not_allowed"}},
	} {
		_, _, err := w.Rotate(ctx, key.ID, c.p)
		require.Equal(t, c.want, broken(t, err), name)
	}
	got, value := w.rotate(key.ID, keycote.RotateParams{Secret: keycote.NewSecret(otherValue)})
	require.Empty(t, value, "a value that was given is not handed back")
	require.Equal(t, []keycote.State{ended, active}, states(got))
	_, secret, err := w.Use(ctx, key.ID, keycote.Request{})
	require.NoError(t, err)
	require.Equal(t, otherValue, secret.Reveal())
	second := w.raw(key.ID)
	require.InDelta(t, len(first.Body), len(second.Body), 90, "one sealed value stays, the old one is erased")
	_, err = w.Revoke(ctx, key.ID, "")
	require.NoError(t, err)
	require.Less(t, len(w.raw(key.ID).Body), len(second.Body)-len(otherValue)-12-16, "nothing sealed is left")
}

func TestRotateRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	before := w.dump()
	for name, c := range map[string]struct {
		p    keycote.RotateParams
		want []string
	}{
		"negative overlap":           {keycote.RotateParams{Overlap: -1}, []string{"overlap: out_of_range"}},
		"more than a year":           {keycote.RotateParams{Overlap: 366 * 24 * time.Hour}, []string{"overlap: out_of_range"}},
		"until used without overlap": {keycote.RotateParams{UntilUsed: true}, []string{"untilUsed: not_allowed"}},
		"all at once, in order": {
			keycote.RotateParams{Secret: keycote.NewSecret("a b"), ExpiresAt: worldStart, Overlap: -1, UntilUsed: true, Reason: "\x00"},
			[]string{"secret: too_short", "secret: charset", "expiresAt: past", "overlap: out_of_range", "reason: control"},
		},
	} {
		_, _, err := w.Rotate(t.Context(), key.ID, c.p)
		require.Equal(t, c.want, broken(t, err), name)
	}
	require.Equal(t, before, w.dump())
}

func TestTheLastFourEndedVersionsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, value := w.issue(keycote.IssueParams{})
	values := []string{value}
	for range 6 {
		key, value = w.rotate(key.ID, keycote.RotateParams{})
		values = append(values, value)
	}
	numbers := func() (list []int) {
		for _, v := range key.Versions {
			list = append(list, v.Number)
		}
		return list
	}
	require.Equal(t, []int{3, 4, 5, 6, 7}, numbers())
	for i, v := range values {
		want := keycote.ErrExpired
		switch {
		case i < 2:
			want = keycote.ErrUnknownKey
		case i == 6:
			want = ""
		}
		require.Equal(t, want, w.verdict(v))
	}
	// One that ends by UntilUsed, and one by a revoke, push others out just as well.
	key, value = w.rotate(key.ID, keycote.RotateParams{Overlap: time.Hour, UntilUsed: true})
	require.Equal(t, []int{3, 4, 5, 6, 7, 8}, numbers())
	require.Empty(t, w.verdict(value))
	key, err := w.Get(t.Context(), key.ID)
	require.NoError(t, err)
	require.Equal(t, []int{4, 5, 6, 7, 8}, numbers())
	key, err = w.Revoke(t.Context(), key.ID, "")
	require.NoError(t, err)
	require.Equal(t, []int{5, 6, 7, 8}, numbers())
	require.Equal(t, keycote.ErrRevoked, w.verdict(values[5]))
}

func TestChosenValuesOfARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{Name: "a", Secret: keycote.NewSecret(goodValue)})
	w.issue(keycote.IssueParams{Name: "b", Secret: keycote.NewSecret(otherValue)})
	rotate := func(value string) error {
		_, _, err := w.Rotate(t.Context(), key.ID, keycote.RotateParams{Secret: keycote.NewSecret(value)})
		return err
	}
	require.Equal(t, []string{"secret: exists"}, broken(t, rotate(goodValue)), "its own")
	require.Empty(t, eventsOf(t, w.Manager, keycote.EventFilter{Action: keycote.ActionRotate}))
	require.Equal(t, []string{"secret: exists"}, broken(t, rotate(otherValue)), "another key's")
	told := eventsOf(t, w.Manager, keycote.EventFilter{Action: keycote.ActionRotate})
	require.Len(t, told, 1)
	require.Equal(t, keycote.ErrExists, told[0].Outcome)
	require.NoError(t, rotate(thirdValue))
	require.Equal(t, keycote.ErrExpired, w.verdict(goodValue))
	require.Equal(t, []string{"secret: exists"}, broken(t, rotate(goodValue)), "its own of before")
	got, fresh := w.rotate(key.ID, keycote.RotateParams{})
	require.NotEmpty(t, fresh, "back to a value that Keycote makes")
	require.Equal(t, "kc_…"+fresh[len(fresh)-4:], got.Hint)
}

func TestTenRotationsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key, _ := w.issue(keycote.IssueParams{})
	for round := range 5 {
		// All ten have read the same revision before the first of them writes.
		var gate, wg sync.WaitGroup
		gate.Add(10)
		w.store.hook(func(b keycote.Batch) error {
			if len(b.Update) == 1 && b.Update[0].Revision == key.Revision+1 {
				gate.Done()
				gate.Wait()
			}
			return nil
		}, nil)
		errs, values := make([]error, 10), make([]string, 10)
		for i := range 10 {
			wg.Go(func() {
				_, s, err := w.Rotate(t.Context(), key.ID, keycote.RotateParams{})
				errs[i], values[i] = err, s.Reveal()
			})
		}
		wg.Wait()
		w.store.back()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				require.Empty(t, w.verdict(values[i]))
				continue
			}
			require.ErrorIs(t, err, keycote.ErrConflict)
			require.Empty(t, values[i])
		}
		require.Equal(t, 1, won)
		var err error
		key, err = w.Get(t.Context(), key.ID)
		require.NoError(t, err)
		require.Equal(t, round+2, key.Versions[len(key.Versions)-1].Number)
	}
}
