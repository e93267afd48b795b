package sqlstore

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keycote/keycote"
)

func (c *commit) events() error {
	columns := []string{"id", "tenant", "key_id", "actor", "action", "outcome", "at", "body", "seal", "personal"}
	statement := "INSERT INTO keycote_events (" + strings.Join(columns, ", ") + ") VALUES (" + marks(len(columns)) + ")" +
		c.d.onConflict(columns[:1])
	for _, e := range c.b.Events {
		n, err := c.exec(c.ctx, statement, e.ID, e.Tenant, e.KeyID, e.Actor, string(e.Action), string(e.Outcome),
			micros(e.At), e.Body, e.Seal, e.Personal)
		if err != nil {
			return err
		}
		if n == 0 { // an event is written once
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
	row := "INSERT INTO keycote_uses (" + strings.Join(key, ", ") + ", n, first_at, last_at) VALUES (" + marks(11) + ")" +
		c.d.onConflict(key, c.d.adding("keycote_uses")...)
	for _, u := range uses {
		err := c.run(row, u.Tenant, micros(u.Window), u.KeyID, u.Version, string(u.Outcome), u.Addr, u.Route, u.Agent,
			u.N, micros(u.First), micros(u.Last))
		if err != nil {
			return err
		}
	}
	key = []string{"tenant", "id", "version"}
	total := "INSERT INTO keycote_totals (" + strings.Join(key, ", ") + ", n, first_at, last_at) VALUES (" + marks(6) + ")" +
		c.d.onConflict(key, c.d.adding("keycote_totals")...)
	for _, u := range totals(uses) {
		if err := c.run(total, u.Tenant, u.KeyID, u.Version, u.N, micros(u.First), micros(u.Last)); err != nil {
			return err
		}
	}
	return nil
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

// totals sums up the successes in sorted rows by version.
func totals(uses []keycote.UseCount) []keycote.UseCount {
	var out []keycote.UseCount
	for _, u := range uses {
		if u.Outcome != "" || u.KeyID == "" {
			continue
		}
		t := len(out) - 1
		if t < 0 || out[t].Tenant != u.Tenant || out[t].KeyID != u.KeyID || out[t].Version != u.Version {
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

func (c *commit) prune() error {
	uses := "window_at, key_id, version, outcome, addr, route, agent, tenant"
	for _, p := range c.b.Prune {
		if err := c.pruneTable(p, "keycote_events", "id", "at", "at, id", p.EventsBefore); err != nil {
			return err
		}
		if err := c.pruneTable(p, "keycote_uses", uses, "window_at", uses, p.UsesBefore); err != nil {
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
	// The inner SELECT stands in another one for MySQL, which takes no LIMIT in an IN.
	return c.run("DELETE FROM "+table+" WHERE ("+key+") IN (SELECT "+key+" FROM"+
		" (SELECT "+key+" FROM "+table+" WHERE "+cond+" ORDER BY "+order+" LIMIT "+strconv.Itoa(p.Limit)+") old)", args...)
}
