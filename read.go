package keycote

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

const (
	listPage    = 200
	defaultPage = 50
	maxPage     = 1000
)

// Get returns a key. It fails with [ErrNotFound], with [ErrForbidden] when Authorize refuses ActionRead, with
// [ErrTampered] when the record was changed behind the library's back, and with [ErrUnavailable].
func (m *Manager) Get(ctx context.Context, id string) (*Key, error) {
	if err := m.begin(ctx, ActionRead); err != nil {
		return nil, err
	}
	rec, raw, err := m.load(ctx, id)
	if err != nil {
		err = m.hidden(ctx, ActionRead, id, raw, err)
	} else {
		key := rec.key(m.time(), raw.Uses)
		if err = m.authorize(ctx, ActionRead, key); err == nil {
			return key, nil
		}
	}
	err = m.fail(ctx, ActionRead, idOrNone(id), err)
	m.refused(ctx, ActionRead, id, "", err)
	return nil, err
}

// List yields every key that matches. An unreadable record is a Key in [StateUnreadable], not an error: one bad row does
// not break the list. After an error the sequence ends. It fails as [Manager.Page] does. Authorize is asked once per
// iteration.
func (m *Manager) List(ctx context.Context, f Filter) iter.Seq2[*Key, error] {
	return func(yield func(*Key, error) bool) {
		q, err := m.query(ctx, f)
		for err == nil {
			q.Limit = listPage
			var keys []*Key
			if err = m.flushFor(ctx, f); err != nil {
				break
			}
			if keys, err = m.page(ctx, q); err != nil {
				break
			}
			for _, k := range keys {
				if !yield(k, nil) {
					return
				}
				q.After = k.ID
			}
			if len(keys) < q.Limit || q.After == "" { // an id that was emptied past the library: After would start again
				return
			}
		}
		yield(nil, m.readFailure(ctx, err))
	}
}

// Page returns one page of what List yields, and a cursor for the next one. limit is 0 to 1000; 0 is 50. A cursor
// belongs to its Filter and its tenant. It is not secret, and it is not trusted.
//
// It fails with [ErrInvalid] for a filter, a limit or a cursor that makes no sense, with [ErrForbidden] when Authorize
// refuses ActionRead, and with [ErrUnavailable].
func (m *Manager) Page(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	page, err := m.onePage(ctx, f, cursor, limit)
	if err != nil {
		return Page{}, m.readFailure(ctx, err)
	}
	return page, nil
}

func (m *Manager) readFailure(ctx context.Context, err error) error {
	err = m.fail(ctx, ActionRead, "", err)
	m.refused(ctx, ActionRead, "", "", err)
	return err
}

func (m *Manager) onePage(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	q, err := m.query(ctx, f)
	if err != nil {
		return Page{}, err
	}
	switch {
	case limit < 0 || limit > maxPage:
		return Page{}, &Error{Code: ErrInvalid, Err: fmt.Errorf("a page has 0 to %d keys", maxPage)}
	case limit == 0:
		limit = defaultPage
	}
	if cursor != "" {
		var ok bool
		if q.After, ok = parseCursor(cursor, m.tenant, f); !ok {
			return Page{}, &Error{Code: ErrInvalid, Err: errors.New("the cursor is malformed, or another filter's")}
		}
	}
	if err := m.flushFor(ctx, f); err != nil {
		return Page{}, err
	}
	q.Limit = min(limit+1, maxPage) // one more tells whether this page is the last
	keys, err := m.page(ctx, q)
	if err != nil {
		return Page{}, err
	}
	more := len(keys) > limit
	p := Page{Keys: keys[:min(len(keys), limit)]}
	if len(keys) < maxPage && !more {
		return p, nil
	}
	last := p.Keys[len(p.Keys)-1].ID
	if !more && last != "" { // a Store gives no more than that at once
		q.After, q.Limit = last, 1
		rest, err := m.store.List(ctx, q)
		if err != nil {
			return Page{}, storeAnswer(err)
		}
		more = len(rest) > 0
	}
	if more && last != "" {
		p.Next = newCursor(m.tenant, f, last)
	}
	return p, nil
}

// query checks a filter, asks Authorize, and makes the first page's query.
func (m *Manager) query(ctx context.Context, f Filter) (Query, error) {
	if err := m.begin(ctx, ActionRead); err != nil {
		return Query{}, err
	}
	switch f.State {
	case "", StateActive, StateDisabled, StateRevoked, StateExpired:
	default:
		return Query{}, &Error{Code: ErrInvalid, Err: errors.New("no key can be asked for by this state")}
	}
	switch f.Kind {
	case "", KindAccess, KindCredential:
	default:
		return Query{}, &Error{Code: ErrInvalid, Err: errors.New("there is no such kind of key")}
	}
	if !f.textOK() {
		return Query{}, &Error{Code: ErrInvalid, Err: errors.New("the filter holds text that no key has")}
	}
	key := asked(m.tenant)
	key.Kind, key.App, key.Owner = f.Kind, f.App, f.Owner
	if err := m.authorize(ctx, ActionRead, key); err != nil {
		return Query{}, err
	}
	f.Search = strings.ToLower(f.Search)
	if strings.TrimSpace(f.Search) == "" {
		f.Search = ""
	}
	f.ExpiresBefore, f.UnusedSince, f.RotatedBefore = micros(f.ExpiresBefore), micros(f.UnusedSince), micros(f.RotatedBefore)
	return Query{Tenant: m.tenant, Filter: f, Now: m.time()}, nil
}

func (f *Filter) textOK() bool {
	for k, v := range f.Labels {
		if !textOK(k) || !textOK(v) {
			return false
		}
	}
	return textOK(f.Name) && textOK(f.App) && textOK(f.Owner) && textOK(f.Search) && len(f.Labels) <= 64
}

// textOK keeps out of the databases what not each of them takes.
func textOK(s string) bool {
	const most = 4 * 1024
	return len(s) <= most && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// page reads one page of keys, the unreadable ones marked as such.
func (m *Manager) page(ctx context.Context, q Query) ([]*Key, error) {
	rows, err := m.store.List(ctx, q)
	if err != nil {
		return nil, storeAnswer(err)
	}
	keys := make([]*Key, 0, len(rows))
	for i := range rows {
		rec, err := m.openRecord(ctx, &rows[i], m.tenant, rows[i].ID, true)
		switch {
		case err == nil:
		case CodeOf(err) == ErrUnavailable && !errors.Is(err, errNewer):
			return nil, err
		default:
			keys = append(keys, unreadable(m.tenant, rows[i].ID))
			continue
		}
		keys = append(keys, rec.key(q.Now, rows[i].Uses))
	}
	return keys, nil
}

// Events yields what was done, oldest first unless f says otherwise. An event that was changed behind the library's back
// is yielded as its ID with [ErrTampered], one that a newer Keycote has made with [ErrUnavailable], and the sequence goes
// on. Any other error ends it: [ErrForbidden] when Authorize refuses ActionEvents, [ErrInvalid]
// for an After that is no event's id, [ErrUnavailable].
func (m *Manager) Events(ctx context.Context, f EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := m.mayReadEvents(ctx, f)
		f.Since, f.Until = micros(f.Since), micros(f.Until)
		q := EventQuery{Tenant: m.tenant, Filter: f, Limit: listPage}
		for err == nil {
			var rows []EventRecord
			if rows, err = m.store.Events(ctx, q); err != nil {
				err = storeAnswer(err)
				break
			}
			for i := range rows {
				e, fault := m.openEvent(ctx, &rows[i])
				if !yield(e, m.fail(ctx, ActionEvents, e.KeyID, fault)) {
					return
				}
				q.Filter.After = rows[i].ID
			}
			if len(rows) < q.Limit || q.Filter.After == "" { // an id that was emptied: After would start again
				return
			}
		}
		err = m.fail(ctx, ActionEvents, idOrNone(f.KeyID), err)
		m.refused(ctx, ActionEvents, f.KeyID, "", err)
		yield(Event{}, err)
	}
}

func (m *Manager) mayReadEvents(ctx context.Context, f EventFilter) error {
	if err := m.begin(ctx, ActionEvents); err != nil {
		return err
	}
	if f.After != "" && !idOK(eventIDPrefix, f.After) {
		return &Error{Code: ErrInvalid, Err: errors.New("the position after is no event's id")}
	}
	if !textOK(f.Actor) || !textOK(string(f.Action)) {
		return &Error{Code: ErrInvalid, Err: errors.New("the filter holds text that no event has")}
	}
	key := asked(m.tenant)
	if f.KeyID != "" {
		if !askable(f.KeyID) {
			return ErrNotFound
		}
		key.ID = f.KeyID
		if m.opts.Authorize != nil {
			rec, raw, err := m.load(ctx, f.KeyID)
			switch code := CodeOf(err); {
			case err == nil:
				key = rec.key(m.time(), raw.Uses)
			case code == ErrTampered, raw != nil:
				key = unreadable(m.tenant, f.KeyID)
			case code != ErrNotFound:
				return err
			}
		}
	}
	return m.authorize(ctx, ActionEvents, key)
}

// openEvent checks the seal of what a Store answered and reads it.
func (m *Manager) openEvent(ctx context.Context, row *EventRecord) (Event, error) {
	roots := m.roots()
	id := row.ID
	if !idOK(eventIDPrefix, id) {
		id = ""
	}
	if !roots.trail.made(row.Seal) {
		if err := m.reloadUnknown(ctx, m.rings.forSeals); err != nil {
			return Event{ID: id}, err
		}
		roots = m.roots()
	}
	if !sealHolds(roots.trail.mac, row.Seal, eventLabel, row.Body) {
		return Event{ID: id}, &Error{Code: ErrTampered, Err: errors.New("the event's seal does not hold")}
	}
	e, err := decodeEvent(*row)
	switch {
	case errors.Is(err, errNewer):
		return Event{ID: id}, &Error{Code: ErrUnavailable, Err: errNewer}
	case err != nil || e.Tenant != m.tenant:
		return Event{ID: id}, &Error{Code: ErrTampered, Err: errors.New("the event is not what its seal covers")}
	}
	return *e, nil
}

// A cursor is the format, 16 bytes of a hash of tenant and filter, and the last id, in URL-safe base64.
const (
	cursorFormat = 0x01
	cursorHash   = 16
)

func newCursor(tenant string, f Filter, last string) string {
	b := append([]byte{cursorFormat}, f.hash(tenant)...)
	return base64.RawURLEncoding.EncodeToString(append(b, last...))
}

func parseCursor(s, tenant string, f Filter) (last string, ok bool) {
	if len(s) > 1024 || strings.ContainsAny(s, "\r\n") { // which base64 would pass over
		return "", false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 1+cursorHash || b[0] != cursorFormat || string(b[1:1+cursorHash]) != string(f.hash(tenant)) {
		return "", false
	}
	last = string(b[1+cursorHash:])
	return last, last != "" && askable(last)
}

func (f *Filter) hash(tenant string) []byte {
	var e encoder
	e.text(1, tenant)
	e.text(2, string(f.Kind))
	e.text(3, string(f.State))
	e.text(4, f.Name)
	e.text(5, f.App)
	e.text(6, f.Owner)
	e.text(7, f.Search)
	e.labels(8, f.Labels)
	e.time(9, f.ExpiresBefore)
	e.time(10, f.UnusedSince)
	e.time(11, f.RotatedBefore)
	e.flag(12, f.Newest)
	e.flag(13, f.NeverUsed)
	sum := sha256.Sum256(e)
	return sum[:cursorHash]
}
