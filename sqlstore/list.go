package sqlstore

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keycote/keycote"
)

// maxPage is the largest page; a query without a Limit, or with a larger one, gets this.
const maxPage = 1000

func pageSize(limit int) string {
	if limit < 1 || limit > maxPage {
		limit = maxPage
	}
	return strconv.Itoa(limit)
}

// page puts a statement for one page together: conditions that all hold, and an order that starts strictly after a
// place.
type page struct {
	d    *dialect
	cond []string
	args []any
}

func (p *page) where(cond string, args ...any) {
	p.cond = append(p.cond, cond)
	p.args = append(p.args, args...)
}

func (p *page) after(columns []string, newest bool, place ...any) {
	cond, args := p.d.beyond(columns, newest, place)
	p.where(cond, args...)
}

func (p *page) statement(columns, from string, order []string, newest bool, limit int) string {
	var b strings.Builder
	b.WriteString("SELECT " + columns + " FROM " + from)
	for i, c := range p.cond {
		b.WriteString([]string{" WHERE ", " AND "}[min(i, 1)])
		b.WriteString(c)
	}
	for i, c := range order {
		b.WriteString([]string{" ORDER BY ", ", "}[min(i, 1)])
		b.WriteString(c)
		if newest {
			b.WriteString(" DESC")
		}
	}
	return b.String() + " LIMIT " + pageSize(limit)
}

// List returns one page in the order of (Tenant, ID), or its reverse. The database does all of the filtering.
func (s *Store) List(ctx context.Context, q keycote.Query) ([]keycote.Record, error) {
	statement, args := listStatement(s.d, q)
	var out []keycote.Record
	err := s.read(ctx, func(rows *sql.Rows) error {
		r, err := scanRecord(rows)
		if err == nil {
			out = append(out, r)
		}
		return err
	}, nil, statement, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func listStatement(d *dialect, q keycote.Query) (string, []any) {
	p := &page{d: d}
	f := q.Filter
	from, tenant, id := "keycote_records r", "r.tenant", "r.id"
	labels := slices.Sorted(maps.Keys(f.Labels))
	if len(labels) > 0 && f.Name == "" {
		// The first label leads, in the order of the page; a name leads better.
		from, tenant, id = "keycote_labels l"+d.leads+"keycote_records r", "l.tenant", "l.id"
		p.where("l.label = ? AND l.value = ? AND r.tenant = l.tenant AND r.id = l.id", labels[0], f.Labels[labels[0]])
		labels = labels[1:]
	}
	order := []string{tenant, id}
	switch {
	case !q.AllTenants:
		order = order[1:]
		p.where(tenant+" = ?", q.Tenant)
		if q.After != "" {
			p.after(order, f.Newest, q.After)
		}
	case q.AfterTenant != "" || q.After != "":
		p.after(order, f.Newest, q.AfterTenant, q.After)
	}
	for _, equal := range []struct{ column, value string }{
		{"r.kind", string(f.Kind)}, {"r.name", f.Name}, {"r.app", f.App}, {"r.owner", f.Owner},
	} {
		if equal.value != "" {
			p.where(equal.column+" = ?", equal.value)
		}
	}
	for _, label := range labels {
		p.where("EXISTS (SELECT 1 FROM keycote_labels x"+
			" WHERE x.tenant = r.tenant AND x.id = r.id AND x.label = ? AND x.value = ?)", label, f.Labels[label])
	}
	if f.Search != "" {
		p.where(d.contains("r.search"), f.Search)
	}
	p.state(f.State, q)
	p.times(f)
	return p.statement(recordColumns(d, ""), from, order, f.Newest, q.Limit), p.args
}

// state judges as of q.Now: a key is valid strictly before its expiry.
func (p *page) state(want keycote.State, q keycote.Query) {
	switch want {
	case "":
	case keycote.StateActive:
		p.where("r.state = ? AND (r.expires_at IS NULL OR r.expires_at > ?)", string(keycote.StateActive), micros(q.Now))
	case keycote.StateExpired:
		p.where("r.state = ? AND r.expires_at <= ?", string(keycote.StateActive), micros(q.Now))
	default:
		p.where("r.state = ?", string(want))
	}
}

func (p *page) times(f keycote.Filter) {
	if !f.ExpiresBefore.IsZero() {
		p.where("r.expires_at < ?", ceil(f.ExpiresBefore))
	}
	if !f.RotatedBefore.IsZero() {
		p.where("r.rotated_at < ?", ceil(f.RotatedBefore))
	}
	const used = "EXISTS (SELECT 1 FROM keycote_totals u WHERE u.tenant = r.tenant AND u.id = r.id"
	if f.NeverUsed {
		p.where("NOT "+used+" AND u.last_at > ?)", micros(time.Time{}))
	}
	if !f.UnusedSince.IsZero() {
		since := ceil(f.UnusedSince)
		p.where("NOT "+used+" AND u.last_at >= ?) AND (r.created_at < ? OR "+used+" AND u.last_at > ?))",
			since, since, micros(time.Time{}))
	}
}

// Items returns documents by (Tenant, Name), or the one that q names.
func (s *Store) Items(ctx context.Context, q keycote.ItemQuery) ([]keycote.Item, error) {
	statement, args := itemsStatement(s.d, q)
	var out []keycote.Item
	err := s.read(ctx, func(rows *sql.Rows) error {
		var i keycote.Item
		var revision loose
		err := rows.Scan(&i.Tenant, &i.Space, &i.Name, &revision, &i.Body)
		if err == nil {
			i.Revision = int64(revision)
			out = append(out, i)
		}
		return err
	}, nil, statement, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func itemsStatement(d *dialect, q keycote.ItemQuery) (string, []any) {
	p := &page{d: d}
	order := []string{"tenant", "name"}
	if q.Space != "" {
		p.where("space = ?", q.Space)
	}
	if !q.AllTenants {
		p.where("tenant = ?", q.Tenant)
		order = order[1:]
	}
	if q.Name != "" {
		p.where("name = ?", q.Name)
	}
	switch {
	case !q.AllTenants && q.After != "":
		p.after(order, false, q.After)
	case q.AllTenants && (q.AfterTenant != "" || q.After != ""):
		p.after(order, false, q.AfterTenant, q.After)
	}
	if q.Space == "" {
		order = append(order, "space")
	}
	return p.statement("tenant, space, name, revision, body", "keycote_items", order, false, q.Limit), p.args
}

// beyondByRow is beyond by a comparison of rows: the one form that SQLite, and PostgreSQL too, turns into a range over
// all columns of the index.
func beyondByRow(columns []string, newest bool, place []any) (string, []any) {
	op := " > ("
	if newest {
		op = " < ("
	}
	return "(" + strings.Join(columns, ", ") + ")" + op + marks(len(columns)) + ")", place
}

// beyondByColumn is beyond by one column after the other, a >= ? AND (a > ? OR b > ?), and so on: MySQL and MariaDB
// make no range of a comparison of rows. (MariaDB took 1.4 s at row 1,000,000 for that, and 0.5 ms for this.)
func beyondByColumn(columns []string, newest bool, place []any) (string, []any) {
	op := " > ?"
	if newest {
		op = " < ?"
	}
	first := columns[0] + op
	if len(columns) == 1 {
		return first, place[:1]
	}
	rest, args := beyondByColumn(columns[1:], newest, place[1:])
	edge := columns[0] + op[:2] + "= ?"
	return edge + " AND (" + first + " OR " + rest + ")", append([]any{place[0], place[0]}, args...)
}
