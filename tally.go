package keycote

import (
	"net/netip"
	"sync"
)

// tally counts the uses of a cached value where the value is: those from one place in one window, between two flushes.
// The first of them puts the entry into the use log's list; the others touch nothing but the entry. Uses from another
// place meanwhile, and refusals, are counted in the log's rows. The zero tally is ready.
type tally struct {
	mu sync.Mutex
	useTally
	window       int64 // its start, microseconds
	addr         netip.Addr
	route, agent string
	place        int32 // in useLog.tallies, if it is there; useLog's lock guards it
	listed       bool  // somebody will come for it
	bare         bool  // there were too many rows: it is of no place
	dead         bool  // the entry has left the cache
}

// add counts a use if it belongs to what is being counted.
func (t *tally) add(r *Request, us int64) bool {
	t.mu.Lock()
	ok := t.n > 0 && us >= t.window && us < t.window+useWindow.Microseconds() && t.of(r)
	if ok {
		t.useTally.add(us)
	}
	t.mu.Unlock()
	return ok
}

func (t *tally) of(r *Request) bool {
	return t.bare || t.addr == r.Addr && t.route == r.Route && t.agent == r.UserAgent
}

// row is the row of the use log that the tally stands for.
func (e *entry) row() useKey {
	t := &e.tally
	k := useKey{tenant: e.tenant, key: e.id, version: e.number, window: t.window}
	if !t.bare {
		k.addr, k.route, k.agent = t.addr, t.route, t.agent
	}
	k.trim()
	return k
}

// enlist begins to count in e. It reports false when the use has to be counted in a row.
func (l *useLog) enlist(e *entry, r *Request, us int64) bool {
	if len(r.Route) > maxUseText || len(r.UserAgent) > maxUseText {
		return false // what a client sends is not kept at its full length
	}
	window := us - us%useWindow.Microseconds()
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &e.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.dead:
		return false
	case t.n > 0 && t.window == window:
		if !t.of(r) {
			return false
		}
		t.useTally.add(us)
		return true
	case t.n > 0:
		l.merge(e.row(), t.take())
	}
	size := len(l.rows) + len(l.tallies)
	if !t.listed && size >= 2*maxUseRows {
		return false
	}
	t.window, t.addr, t.route, t.agent, t.bare = window, r.Addr, r.Route, r.UserAgent, false
	if l.rows[e.row()] == nil && size >= maxUseRows {
		t.bare, t.addr, t.route, t.agent = true, netip.Addr{}, "", ""
	}
	k := e.row()
	if had := l.rows[k]; had != nil { // of an entry that this one replaces: the two are one row
		t.useTally = *had
		delete(l.rows, k)
	}
	t.useTally.add(us)
	if !t.listed {
		t.listed, t.place = true, int32(len(l.tallies))
		l.tallies = append(l.tallies, e)
	}
	return true
}

// retire takes the counts of an entry that leaves the cache.
func (l *useLog) retire(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &e.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = true
	if t.n > 0 {
		l.merge(e.row(), t.take())
	}
	if i := int(t.place); t.listed && i < len(l.tallies) && l.tallies[i] == e { // else a flush has the list, and will pass
		last := l.tallies[len(l.tallies)-1]
		l.tallies[i], last.tally.place = last, t.place
		l.tallies[len(l.tallies)-1] = nil
		l.tallies = l.tallies[:len(l.tallies)-1]
		t.listed = false
	}
}

func (t *useTally) take() useTally {
	had := *t
	*t = useTally{}
	return had
}

// merge adds what was counted elsewhere to a row.
func (l *useLog) merge(k useKey, more useTally) {
	if l.rows == nil {
		l.rows = map[useKey]*useTally{}
	}
	mergeRow(l.rows, k, more)
}

func mergeRow(rows map[useKey]*useTally, k useKey, more useTally) {
	t := rows[k]
	if t == nil {
		rows[k] = &more
		return
	}
	t.n += more.n
	t.first, t.last = min(t.first, more.first), max(t.last, more.last)
}

// collect adds what the entries have counted to rows. Entries go on counting meanwhile: each is locked for a moment, and
// what it counts after that is for the next flush.
func collect(rows map[useKey]*useTally, list []*entry) map[useKey]*useTally {
	if rows == nil {
		rows = make(map[useKey]*useTally, len(list))
	}
	for _, e := range list {
		t := &e.tally
		t.mu.Lock()
		k, had := e.row(), t.take()
		t.listed = false
		t.mu.Unlock()
		if had.n > 0 {
			mergeRow(rows, k, had)
		}
	}
	return rows
}
