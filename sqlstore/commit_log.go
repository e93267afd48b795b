package sqlstore

import (
	"cmp"
	"slices"
	"time"

	"github.com/keycote/keycote"
)

func (c *commit) events() error {
	columns := []string{"id", "tenant", "key_id", "actor", "action", "outcome", "at", "body", "seal", "personal"}
	values := parameters(len(columns))
	for _, e := range c.b.Events {
		done, err := c.d.insertNew(c.ctx, c.session, "keycote_events", columns, values, e.ID, e.Tenant, e.KeyID, e.Actor,
			string(e.Action), string(e.Outcome), micros(e.At), e.Body, e.Seal, e.Personal)
		if err != nil {
			return err
		}
		if !done { // an event is written once
			return keycote.ErrConflict
		}
	}
	return nil
}

// redact replaces what is personal. An event that was pruned in the meantime has nothing left to erase.
func (c *commit) redact() error {
	for _, e := range c.b.Redact {
		err := c.run("UPDATE keycote_events SET actor = ?, personal = ? WHERE tenant = ? AND id = ?",
			e.Actor, e.Personal, e.Tenant, e.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// uses adds counts to what is there: rows of one order in all processes, so that no two of them wait for each other.
func (c *commit) uses() error {
	uses := slices.Clone(c.b.Uses)
	slices.SortFunc(uses, func(a, b keycote.UseCount) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Version, b.Version),
			a.Window.Compare(b.Window), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Addr, b.Addr),
			cmp.Compare(a.Route, b.Route), cmp.Compare(a.Agent, b.Agent))
	})
	key := []string{"tenant", "window_at", "key_id", "version", "outcome", "addr", "route", "agent"}
	rows := [][]any{}
	for _, u := range merged(uses, func(u keycote.UseCount) keycote.UseCount { return u }) {
		rows = append(rows, []any{u.Tenant, micros(u.Window), u.KeyID, u.Version, string(u.Outcome), u.Addr, u.Route, u.Agent,
			u.N, micros(u.First), micros(u.Last)})
	}
	if err := c.count("keycote_uses", key, rows); err != nil {
		return err
	}
	uses = slices.DeleteFunc(uses, func(u keycote.UseCount) bool { return u.Outcome != "" || u.KeyID == "" })
	rows = rows[:0]
	for _, u := range merged(uses, func(u keycote.UseCount) keycote.UseCount {
		return keycote.UseCount{Tenant: u.Tenant, KeyID: u.KeyID, Version: u.Version, N: u.N, First: u.First, Last: u.Last}
	}) {
		rows = append(rows, []any{u.Tenant, u.KeyID, u.Version, u.N, micros(u.First), micros(u.Last)})
	}
	return c.count("keycote_totals", []string{"tenant", "id", "version"}, rows)
}

// count adds rows, no two of one key, to what is there.
func (c *commit) count(table string, key []string, rows [][]any) error {
	columns := slices.Concat(key, []string{"n", "first_at", "last_at"})
	return c.insert(c.ctx, table, columns, parameters(len(columns)), rows, c.d.onConflict(key, c.d.adding(table)...))
}

// adding is the change of a counted row by one more: N adds up, First and Last widen.
func (d *dialect) adding(table string) []string {
	widen := func(column, op string) string {
		return column + " = CASE WHEN " + d.inserted(column) + op + table + "." + column + " THEN " + d.inserted(column) +
			" ELSE " + table + "." + column + " END"
	}
	return []string{
		"n = " + table + ".n + " + d.inserted("n"),
		widen("first_at", " < "),
		widen("last_at", " > "),
	}
}

// merged makes one row of sorted ones that are alike in all that part leaves, but for N, First and Last.
func merged(sorted []keycote.UseCount, part func(keycote.UseCount) keycote.UseCount) []keycote.UseCount {
	var out []keycote.UseCount
	for _, u := range sorted {
		u = part(u)
		u.Window, u.First, u.Last = u.Window.UTC(), u.First.UTC(), u.Last.UTC()
		t := len(out) - 1
		if t < 0 || !sameRow(out[t], u) {
			out = append(out, u)
			continue
		}
		out[t].N += u.N
		if u.First.Before(out[t].First) {
			out[t].First = u.First
		}
		if u.Last.After(out[t].Last) {
			out[t].Last = u.Last
		}
	}
	return out
}

// sameRow compares times as they are stored: two windows within a microsecond are one row.
func sameRow(a, b keycote.UseCount) bool {
	if micros(a.Window) != micros(b.Window) {
		return false
	}
	a.N, a.Window, a.First, a.Last = b.N, b.Window, b.First, b.Last
	return a == b
}

func (c *commit) prune() error {
	const uses = "window_at, key_id, version, outcome, addr, route, agent"
	for _, p := range c.b.Prune {
		if err := c.pruneTable(p, "keycote_events", "id", "at", "at, id", p.EventsBefore); err != nil {
			return err
		}
		order := uses
		if p.AllTenants {
			order += ", tenant"
		}
		if err := c.pruneTable(p, "keycote_uses", uses+", tenant", "window_at", order, p.UsesBefore); err != nil {
			return err
		}
	}
	return nil
}

func (c *commit) pruneTable(p keycote.Prune, table, key, age, order string, before time.Time) error {
	if before.IsZero() || p.Limit < 1 {
		return nil
	}
	cond, args := age+" < ?", []any{ceil(before)}
	if !p.AllTenants {
		cond, args = "tenant = ? AND "+cond, []any{p.Tenant, ceil(before)}
	}
	return c.run(c.d.deleteFirst(table, key, cond, order, p.Limit), args...)
}
