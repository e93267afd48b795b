package keycote

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	// useWindow is the length of the windows that uses are counted in.
	useWindow = time.Minute
	// flushEvery is how often Run writes counts: what a crash may lose.
	flushEvery = 10 * time.Second

	// What is kept in memory between two writes. Beyond maxUseRows a row loses address, route and agent; beyond twice
	// that it loses its key. A refusal without a key has at most maxStrangers rows. The sum is always exact.
	maxUseRows   = 1 << 16
	maxStrangers = 4096
	maxRefusals  = 4096

	usesPerBatch = 500
	maxUseText   = 128 // bytes of Route and UserAgent
)

// useKey is what makes two uses one row.
type useKey struct {
	tenant, key  string
	version      int
	outcome      Code
	addr         netip.Addr
	route, agent string
	window       int64 // its start, microseconds
}

type useTally struct {
	n           int64
	first, last int64 // microseconds
}

// refusalKey is what makes two refused management calls one event.
type refusalKey struct {
	tenant, actor, key string
	action             Action
	code               Code
	window             int64
}

// refusal is what such an event tells: the name and the address are the first call's.
type refusal struct {
	useTally
	name string
	addr netip.Addr
}

// useLog counts in memory and is written in batches.
type useLog struct {
	mu       sync.Mutex
	rows     map[useKey]*useTally
	tallies  []*entry // whose counts are part of the log
	refusals map[refusalKey]*refusal

	// Rows of refusals without a key in the window since, flushed ones too: the bound is on what a window leaves behind.
	strangers map[useKey]struct{}
	since     int64

	next    atomic.Int64 // microseconds: when the present window ends
	running atomic.Int32 // how many Runs take care of flushing

	sending chan struct{} // holds a token while nobody flushes
	unsent  []Batch       // counts whose outcome is unknown: repeated as they are, so that none is counted twice
	untold  []Event       // refusals, likewise, under the id
	telling string
}

func (l *useLog) start(now time.Time) {
	l.next.Store(windowOf(now) + useWindow.Microseconds())
	l.sending = make(chan struct{}, 1)
	l.sending <- struct{}{}
}

func windowOf(t time.Time) int64 {
	us := t.UnixMicro()
	return us - us%useWindow.Microseconds()
}

// trim brings a key into the form that a row has.
func (k *useKey) trim() {
	k.addr = k.addr.Unmap().WithZone("")
	if k.key == "" {
		k.route, k.agent = "", ""
		if k.addr.Is6() {
			p, _ := k.addr.Prefix(64)
			k.addr = p.Addr()
		}
	}
	k.route, k.agent = cutText(k.route), cutText(k.agent)
}

// count adds a use. Where no Run does it, the first call after a window's end writes what was counted.
func (m *Manager) count(ctx context.Context, k useKey, now time.Time) {
	us := now.UnixMicro()
	k.window = windowOf(now)
	k.trim()
	l := &m.uses
	l.mu.Lock()
	t := l.rows[k]
	if t == nil {
		t = l.row(k)
	}
	t.add(us)
	l.mu.Unlock()
	m.flushAtWindowsEnd(ctx, us)
}

// flushAtWindowsEnd writes what was counted in a window that is over, where no Run does.
func (m *Manager) flushAtWindowsEnd(ctx context.Context, us int64) {
	if us >= m.uses.next.Load() && m.uses.running.Load() == 0 && m.tx == nil {
		m.flushDue(ctx, us)
	}
}

// countUse counts a success: in e, which the answer came from, if that can be.
func (m *Manager) countUse(ctx context.Context, s *standing, e *entry, r Request, now time.Time) {
	if us := now.UnixMicro(); e != nil && (e.tally.add(&r, us) || m.uses.enlist(e, &r, us)) {
		m.flushAtWindowsEnd(ctx, us)
		return
	}
	m.count(ctx, useKey{
		tenant: s.tenant, key: s.id, version: s.number, addr: r.Addr, route: r.Route, agent: r.UserAgent,
	}, now)
}

func (t *useTally) add(us int64) {
	if t.n == 0 {
		t.first, t.last = us, us
	}
	t.n++
	t.first, t.last = min(t.first, us), max(t.last, us)
}

// row makes the row for k, with less detail when there are too many.
func (l *useLog) row(k useKey) *useTally {
	if l.rows == nil {
		l.rows = map[useKey]*useTally{}
	}
	size := len(l.rows) + len(l.tallies)
	switch {
	case size >= 2*maxUseRows:
		k = useKey{outcome: k.outcome, window: k.window}
	case k.key == "":
		if l.since != k.window || l.strangers == nil {
			l.since, l.strangers = k.window, map[useKey]struct{}{}
		}
		if _, known := l.strangers[k]; !known {
			if len(l.strangers) < maxStrangers {
				l.strangers[k] = struct{}{}
			} else {
				k = useKey{outcome: k.outcome, window: k.window} // the tenant, too, may be of a stranger's choosing
			}
		}
	case size >= maxUseRows:
		k.addr, k.route, k.agent = netip.Addr{}, "", ""
	}
	t := l.rows[k]
	if t == nil {
		t = &useTally{}
		l.rows[k] = t
	}
	return t
}

// cutText bounds what a client may write into the use log, and leaves out what no log should hold.
func cutText(s string) string {
	s = cutBytes(s)
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return cutBytes(strings.Map(func(r rune) rune {
				if isControl(r) {
					return -1
				}
				return r
			}, strings.ToValidUTF8(s, "\uFFFD"))) // which may have grown: a bad byte has become three
		}
	}
	return s
}

// cutBytes cuts s to maxUseText bytes, between two characters.
func cutBytes(s string) string {
	if len(s) <= maxUseText {
		return s
	}
	cut := maxUseText
	for cut > maxUseText-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// refused counts a management call that was refused, for an event that tells of all that are alike.
func (m *Manager) refused(ctx context.Context, action Action, id, name string, err error) {
	code := CodeOf(err)
	switch code {
	case ErrForbidden, ErrNotFound, ErrTampered, ErrRevoked, ErrShredded, ErrDisabled, ErrExpired, ErrAddress:
	default:
		return
	}
	actor, _ := ActorFrom(ctx)
	now := m.now()
	k := refusalKey{
		tenant: m.tenant, actor: actor.ID, key: idOrNone(id), action: action, code: code, window: windowOf(now),
	}
	first := &refusal{addr: actor.Addr.Unmap().WithZone("")}
	if len(name) <= 4*255 && utf8.ValidString(name) && !strings.ContainsFunc(name, isControl) {
		first.name = name
	}
	l := &m.uses
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusals == nil {
		l.refusals = map[refusalKey]*refusal{}
	}
	if l.refusals[k] == nil && len(l.refusals) >= maxRefusals {
		k, first = refusalKey{action: action, code: code, window: k.window}, &refusal{}
	}
	if l.refusals[k] == nil {
		l.refusals[k] = first
	}
	l.refusals[k].add(now.UnixMicro())
}

// Flush writes the counts, the refusals and the marks that are still in memory. It fails with [ErrUnavailable], and
// keeps what it could not write: a later Flush tries again, and nothing is counted twice.
func (m *Manager) Flush(ctx context.Context) error {
	if m.broken != nil {
		return &Error{Op: opFlush, Code: ErrInvalid, Err: m.broken}
	}
	select {
	case <-m.uses.sending:
	case <-ctx.Done():
		return wrapError(ctx, opFlush, "", ctx.Err())
	}
	defer func() { m.uses.sending <- struct{}{} }()
	return wrapError(ctx, opFlush, "", causeOf(m.flush(ctx)))
}

// flushDue is Flush for the one call that finds a window over.
func (m *Manager) flushDue(ctx context.Context, us int64) {
	select {
	case <-m.uses.sending:
		defer func() { m.uses.sending <- struct{}{} }()
		if us < m.uses.next.Load() {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, inlineWait)
		defer cancel()
		if err := m.flush(ctx); err != nil {
			m.logFailure(ctx, "the use log could not be written, and will be tried again", err)
		}
	default:
	}
}

// flush writes what is in memory. The counts come last, since they may be many: what the time does not suffice for is
// written by the next one.
func (m *Manager) flush(ctx context.Context) error {
	m.uses.next.Store(windowOf(m.now()) + useWindow.Microseconds())
	main := &Manager{shared: m.shared, store: m.main} // also when a view of a transaction is asked
	return errors.Join(main.sendRefusals(ctx), main.retryMarks(ctx), main.sendCounts(ctx))
}

func (m *Manager) sendCounts(ctx context.Context) error {
	if err := m.sendUnsent(ctx); err != nil {
		return err
	}
	l := &m.uses
	l.mu.Lock()
	rows, tallies := l.rows, l.tallies
	l.rows, l.tallies = nil, nil
	l.mu.Unlock()
	l.unsent = batchesOf(collect(rows, tallies))
	return m.sendUnsent(ctx)
}

func (m *Manager) sendUnsent(ctx context.Context) error {
	l := &m.uses
	for len(l.unsent) > 0 {
		if err := commitBatch(ctx, m.store, l.unsent[0]); err != nil {
			return err
		}
		l.unsent[0] = Batch{} // or it would be kept until the next flush
		l.unsent = l.unsent[1:]
	}
	l.unsent = nil
	return nil
}

func batchesOf(rows map[useKey]*useTally) []Batch {
	var batches []Batch
	for k, t := range rows {
		if len(batches) == 0 || len(batches[len(batches)-1].Uses) == usesPerBatch {
			batches = append(batches, Batch{ID: newBatchID()})
		}
		b := &batches[len(batches)-1]
		b.Uses = append(b.Uses, UseCount{
			Tenant: k.tenant, KeyID: k.key, Version: k.version, Outcome: k.outcome, Addr: k.where(), Route: k.route,
			Agent: k.agent, Window: time.UnixMicro(k.window).UTC(), N: t.n,
			First: time.UnixMicro(t.first).UTC(), Last: time.UnixMicro(t.last).UTC(),
		})
	}
	return batches
}

// where is the address as the use log has it: of a stranger with an IPv6 address, the /64.
func (k *useKey) where() string {
	switch {
	case !k.addr.IsValid():
		return ""
	case k.key == "" && k.addr.Is6():
		return netip.PrefixFrom(k.addr, 64).String()
	}
	return k.addr.String()
}

// sendRefusals writes the refused calls as events. What could not be written is tried again under the same id, so that
// a Batch whose answer got lost does not tell of a call twice.
func (m *Manager) sendRefusals(ctx context.Context) error {
	l := &m.uses
	for range 2 { // what was left over, and what there is now: not what comes in meanwhile
		if len(l.untold) == 0 {
			l.mu.Lock()
			taken := l.refusals
			l.refusals = nil
			l.mu.Unlock()
			if len(taken) == 0 {
				return nil
			}
			l.untold, l.telling = m.eventsOf(taken), newBatchID()
		}
		err := m.attempts(ctx, func() error {
			roots := m.roots()
			rows, err := sealEvents(roots, l.untold...)
			if err != nil {
				return err
			}
			return m.send(ctx, Batch{ID: l.telling, Expect: []ItemRef{roots.trail.ref}, Events: rows})
		})
		if err != nil {
			return err
		}
		l.untold = nil
	}
	return nil
}

func (m *Manager) eventsOf(refusals map[refusalKey]*refusal) []Event {
	events := make([]Event, 0, len(refusals))
	for k, r := range refusals {
		at := time.UnixMicro(r.first).UTC()
		events = append(events, Event{
			ID: m.ids.next(eventIDPrefix, at), Tenant: k.tenant, KeyID: k.key, Name: r.name, Action: k.action,
			Outcome: k.code, Actor: k.actor, Addr: r.addr, At: at, Count: r.n,
		})
	}
	return events
}
