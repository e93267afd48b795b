package keycote

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxBulkErrors is how many failures DisableAll and RevokeAll tell in full.
const maxBulkErrors = 100

// DisableAll refuses all keys of this tenant that f chooses, each as [Manager.Disable] does: with a change, an event and
// a question to Authorize of its own. Before the first one Authorize is asked for [ActionRead], as for a list. It returns
// how many keys it has changed. One that is refused already is passed over, and so is one that has ceased to match; what
// comes to match while it runs may be missed. It can be repeated.
//
// f has to narrow: [ErrInvalid] when nothing is set but State and Newest, so that a forgotten field does not stop the
// tenant. Who means all keys says so by Kind, twice. It also fails as [Manager.Page] does, and with a [*ValidationError]
// for a reason that is too long; then nothing is changed.
//
// With NeverUsed or UnusedSince it writes what this process has counted before it reads each page of the list, as
// [Manager.Flush] does, and stops where that fails. A view of [Manager.In] cannot, and answers [ErrInvalid]. What other
// processes have counted since their last flush is not seen, ten seconds' worth where [Manager.Run] goes on: a key that
// was first used there within that time counts as unused.
//
// A key that fails does not save the others: the error joins theirs, each an [*Error] with the key's id, a hundred of
// them and the number of the rest. It stops when the store is away or ctx ends; what has been changed stays so.
func (m *Manager) DisableAll(ctx context.Context, f Filter, reason string) (int, error) {
	return m.setAll(ctx, ActionDisable, f, reason, StateDisabled)
}

// RevokeAll ends all keys of this tenant that f chooses, each as [Manager.Revoke] does. All else is as for DisableAll.
func (m *Manager) RevokeAll(ctx context.Context, f Filter, reason string) (int, error) {
	return m.setAll(ctx, ActionRevoke, f, reason, StateRevoked)
}

func (m *Manager) setAll(ctx context.Context, action Action, f Filter, reason string, to State) (n int, err error) {
	f.Newest = false
	q, err := m.query(ctx, f)
	switch {
	case err != nil:
	case !q.Filter.narrows():
		err = &Error{Code: ErrInvalid, Err: errors.New("the filter chooses every key: a Kind means all of that kind")}
	case m.tx != nil && f.asksUses(): // whose database may be locked, and whose snapshot older than what is flushed
		err = &Error{Code: ErrInvalid, Err: errors.New("in a transaction no keys can be chosen by their uses")}
	default:
		if found := checkCall(callParams{Reason: reason}); len(found) > 0 {
			err = &ValidationError{found}
		}
	}
	if err != nil {
		err = m.fail(ctx, action, "", err)
		m.refused(ctx, action, "", "", err)
		return 0, err
	}
	still := q // use counts are not in the record that is about to be changed
	still.Filter.UnusedSince, still.Filter.NeverUsed = time.Time{}, false
	var failed []error
	more := 0
	for q.Limit = listPage; ; {
		var keys []*Key
		err := m.flushFor(ctx, f)
		if err == nil {
			keys, err = m.page(ctx, q)
		}
		if err != nil {
			return n, errors.Join(append(failed, m.fail(ctx, action, "", err))...)
		}
		for _, k := range keys {
			if k.State == to || k.State == StateRevoked || f.NeverUsed && !k.LastUsedAt.IsZero() {
				continue // the last by a Store that does not know that filter yet
			}
			changed, err := m.setIf(ctx, action, k.ID, reason, to, &still)
			code := CodeOf(err)
			switch {
			case err == nil:
				if changed {
					n++
				}
			case ctx.Err() != nil, code == ErrUnavailable && !errors.Is(err, errNewer):
				return n, errors.Join(append(failed, err)...)
			case code == ErrNotFound, code == ErrRevoked: // somebody else was faster
			case len(failed) < maxBulkErrors:
				failed = append(failed, err)
			default:
				more++
			}
		}
		if len(keys) < q.Limit || keys[len(keys)-1].ID == "" {
			break
		}
		q.After = keys[len(keys)-1].ID
	}
	if more > 0 {
		failed = append(failed, fmt.Errorf("keycote: %s: %d more keys failed", action, more))
	}
	return n, errors.Join(failed...)
}

// flushFor writes the counts that f asks about. In a host's own transaction they are left where they are.
func (m *Manager) flushFor(ctx context.Context, f Filter) error {
	if !f.asksUses() || m.tx != nil {
		return nil
	}
	return m.Flush(ctx)
}

// asksUses reports whether the filter goes by use counts, the last of which are in memory.
func (f *Filter) asksUses() bool { return f.NeverUsed || !f.UnusedSince.IsZero() }

// narrows reports whether the filter, as it is sent to a Store, leaves keys out by more than their state.
func (f *Filter) narrows() bool {
	return f.Kind != "" || f.Name != "" || f.App != "" || f.Owner != "" || f.Search != "" || len(f.Labels) > 0 ||
		!f.ExpiresBefore.IsZero() || !f.UnusedSince.IsZero() || f.NeverUsed || !f.RotatedBefore.IsZero()
}
