package keycote

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// That a version was used is a fact of its record, not of the use log: the log is written late, and by each process for
// itself. The first Verify that succeeds with a version made by Rotate, or by an Issue that may be repeated, commits a
// mark; if an older version goes on only until then, the same commit ends it. An ordinary key never pays this.

// marks are those that could not be committed. What one of them should have ended is refused by this process from then
// on, and the commit is tried again at each flush.
type marks struct {
	n       atomic.Int32 // so that the hot path needs no lock
	mu      sync.Mutex
	pending map[markKey]pendingMark
}

type pendingMark struct {
	digests []digest // of the value that was used: a retry by RequestID may replace it
	ended   []int    // numbers of the versions that should have ended
}

type markKey struct {
	tenant, id string
	version    int // the one that was used
}

// maxMarks bounds them. A store that is away for so long refuses every verification anyway.
const maxMarks = 4096

func (k *marks) add(key markKey, p pendingMark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending == nil {
		k.pending = map[markKey]pendingMark{}
	}
	if _, there := k.pending[key]; there || len(k.pending) < maxMarks {
		k.pending[key] = p
	}
	k.n.Store(int32(len(k.pending)))
}

// has reports whether the first use of this very value waits to be written down.
func (k *marks) has(key markKey, digests []digest) bool {
	if k.n.Load() == 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p, there := k.pending[key]
	return there && holdsAny(p.digests, digests)
}

func (k *marks) done(key markKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pending, key)
	k.n.Store(int32(len(k.pending)))
}

// ended reports whether a version should have ended, although its record could not be told.
func (k *marks) ended(s *standing) bool {
	if k.n.Load() == 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, p := range k.pending {
		if key.tenant == s.tenant && key.id == s.id && slices.Contains(p.ended, s.number) {
			return true
		}
	}
	return false
}

func (k *marks) list() map[markKey]pendingMark {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.pending)
}

// needsMark reports whether the version's first use must be written down.
func needsMark(rec *record, v *version) bool {
	return !v.used && (v.number > 1 || rec.request != nil)
}

// markUsed commits the mark that what was found was used. Of several at once one writes; who is beaten reads the key
// again, judges it again, and tries once more: what was found is then the key as it was read again. If the mark cannot
// be written the answer stands.
func (m *Manager) markUsed(ctx context.Context, f *found, now time.Time, r Request) error {
	v := &f.rec.versions[f.at]
	key := markKey{f.tenant, f.id, v.number}
	if !needsMark(f.rec, v) || m.marks.has(key, v.digests) { // the next flush tries it again
		return nil
	}
	if m.tx == nil {
		limited, cancel := context.WithTimeout(ctx, inlineWait)
		defer cancel()
		ctx = limited
	}
	ended, err := m.commitMark(ctx, f.rec, f.at, now)
	if errors.Is(err, errLost) && m.tx == nil {
		fresh, refusal := m.reread(ctx, f.tenant, f.id)
		switch {
		case refusal == nil:
			i := fresh.find(v.number)
			if i < 0 || !holdsAny(fresh.versions[i].digests, v.digests) {
				return ErrUnknownKey // let go of, or replaced by a retry that never saw the answer
			}
			again := fresh.found(i)
			if err := m.judge(again.standing, now, r); err != nil {
				return err
			}
			*f, err = again, nil
			if needsMark(fresh, &fresh.versions[i]) {
				ended, err = m.commitMark(ctx, fresh, i, now)
			}
		case errors.Is(refusal, ErrNotFound), CodeOf(refusal) == ErrTampered:
			err = refusal
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound):
		return ErrUnknownKey // deleted since it was read
	case CodeOf(err) == ErrTampered:
		return err
	default:
		m.marks.add(key, pendingMark{v.digests, ended})
		m.logFailure(ctx, "a first use could not be written down, and will be tried again", err)
	}
	return nil
}

// reread reads a key of any tenant, after its keyrings.
func (m *Manager) reread(ctx context.Context, tenant, id string) (*record, error) {
	if err := m.rings.reload(ctx, m.store); err != nil {
		return nil, err
	}
	raw, err := m.store.Get(ctx, tenant, id)
	if err != nil {
		return nil, storeAnswer(err)
	}
	return m.openRecord(ctx, &raw, tenant, id, true)
}

// find returns the index of a version by its number, or -1.
func (r *record) find(number int) int {
	for i := range r.versions {
		if r.versions[i].number == number {
			return i
		}
	}
	return -1
}

// commitMark writes the mark, and returns the numbers of the older versions that end with it.
func (m *Manager) commitMark(ctx context.Context, rec *record, at int, now time.Time) (ended []int, err error) {
	c := m.newChange(ctx, actionVerify, false)
	c.now = micros(now)
	c.had, c.rec = rec, rec.clone()
	c.rec.versions[at].used = true
	for i := range c.rec.versions[:at] {
		if v := &c.rec.versions[i]; v.untilUsed && v.state == StateActive {
			v.end()
			ended = append(ended, v.number)
		}
	}
	c.rec.trim()
	c.ctx = WithActor(ctx, Actor{}) // nobody asked for this change: a client's use did
	c.event("")
	c.events[0].Version = rec.versions[at].number
	return ended, c.commit()
}

// retryMarks tries to commit what is pending.
func (m *Manager) retryMarks(ctx context.Context) error {
	var failed error
	for key, p := range m.marks.list() {
		rec, err := m.reread(ctx, key.tenant, key.id)
		if err == nil {
			at := rec.find(key.version)
			if at >= 0 && needsMark(rec, &rec.versions[at]) && rec.state != StateRevoked &&
				holdsAny(rec.versions[at].digests, p.digests) {
				_, err = m.commitMark(ctx, rec, at, m.now())
			}
		}
		switch {
		case err == nil, errors.Is(err, ErrNotFound), CodeOf(err) == ErrTampered: // of no use any more
			m.marks.done(key)
		case errors.Is(err, errLost): // somebody else changes the key: next time
		default:
			failed = err
		}
	}
	return failed
}
