package sqlstore

import (
	"context"
	"database/sql"

	"github.com/keycote/keycote"
)

// Events returns one page of events, in the order of their ids, or its reverse.
func (s *Store) Events(ctx context.Context, q keycote.EventQuery) ([]keycote.EventRecord, error) {
	statement, args := eventsStatement(s.d, q)
	var out []keycote.EventRecord
	err := s.read(ctx, func(rows *sql.Rows) error {
		var e keycote.EventRecord
		var at loose
		err := rows.Scan(&e.Tenant, &e.ID, &e.KeyID, &e.Actor, &e.Action, &e.Outcome, &at, &e.Body, &e.Seal, &e.Personal)
		if err == nil {
			e.At = timeOf(int64(at))
			out = append(out, e)
		}
		return err
	}, nil, statement, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func eventsStatement(d *dialect, q keycote.EventQuery) (string, []any) {
	p := &page{d: d}
	f := q.Filter
	order := []string{"id"}
	if !q.AllTenants {
		p.where("tenant = ?", q.Tenant)
	}
	if f.After != "" {
		p.after(order, f.Newest, f.After)
	}
	for _, equal := range []struct{ column, value string }{
		{"key_id", f.KeyID}, {"actor", f.Actor}, {"action", string(f.Action)},
	} {
		if equal.value != "" {
			p.where(equal.column+" = ?", equal.value)
		}
	}
	if !f.Since.IsZero() {
		p.where("at >= ?", ceil(f.Since))
	}
	if !f.Until.IsZero() {
		p.where("at < ?", ceil(f.Until))
	}
	const columns = "tenant, id, key_id, actor, action, outcome, at, body, seal, personal"
	return p.statement(columns, "keycote_events", order, f.Newest, q.Limit), p.args
}

// Usage returns one page of use counts, in the order of (Window, KeyID, Version, Outcome, Addr, Route, Agent), and of
// Tenant where several are asked for.
func (s *Store) Usage(ctx context.Context, q keycote.UsageQuery) ([]keycote.UseCount, error) {
	statement, args := usageStatement(s.d, q)
	var out []keycote.UseCount
	err := s.read(ctx, func(rows *sql.Rows) error {
		var u keycote.UseCount
		var window, version, n, first, last loose
		err := rows.Scan(&u.Tenant, &window, &u.KeyID, &version, &u.Outcome, &u.Addr, &u.Route, &u.Agent,
			&n, &first, &last)
		if err == nil {
			u.Version, u.N = int(version), int64(n)
			u.Window, u.First, u.Last = timeOf(int64(window)), timeOf(int64(first)), timeOf(int64(last))
			out = append(out, u)
		}
		return err
	}, nil, statement, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func usageStatement(d *dialect, q keycote.UsageQuery) (string, []any) {
	p := &page{d: d}
	order := []string{"window_at", "key_id", "version", "outcome", "addr", "route", "agent"}
	a := q.After
	place := []any{micros(a.Window), a.KeyID, a.Version, string(a.Outcome), a.Addr, a.Route, a.Agent}
	if q.AllTenants {
		order, place = append(order, "tenant"), append(place, a.Tenant)
	} else {
		p.where("tenant = ?", q.Tenant)
	}
	if q.KeyID != "" {
		p.where("key_id = ?", q.KeyID)
	}
	if !q.Since.IsZero() {
		p.where("window_at >= ?", ceil(q.Since))
	}
	if !q.Until.IsZero() {
		p.where("window_at < ?", ceil(q.Until))
	}
	if a != (keycote.UseCount{}) {
		p.after(order, false, place...)
	}
	const columns = "tenant, window_at, key_id, version, outcome, addr, route, agent, n, first_at, last_at"
	return p.statement(columns, "keycote_uses", order, false, q.Limit), p.args
}
