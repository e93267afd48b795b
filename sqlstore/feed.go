package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/keycote/keycote"
)

const (
	feedPage  = 1000  // changes that one call returns at most
	feedKept  = 10000 // changes that stay whatever their age
	feedSweep = 256   // old ones are removed once for that many new ones
	feedAge   = "600000000"
)

var errHeadless = errors.New("sqlstore: keycote_head has no row, or one that keycote_feed does not know")

// feed gives every change of the Batch its number. The head was taken by order and is held until commit.
func (c *commit) feed() error {
	for _, e := range c.edits {
		c.changes = append(c.changes, e.change())
	}
	for _, i := range c.b.Items {
		c.changes = append(c.changes, keycote.Change{Tenant: i.Tenant, Space: i.Space, Revision: i.Revision})
	}
	if len(c.changes) == 0 {
		return nil
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	mark := hex.EncodeToString(random[:])
	n := c.head
	rows := make([][]any, len(c.changes))
	for i, ch := range c.changes {
		n++
		rows[i] = []any{n, mark, ch.Tenant, ch.ID, ch.Space, ch.Revision, joinDigests(ch.Digests)}
	}
	columns := []string{"at", "n", "mark", "tenant", "id", "space", "revision", "digests"}
	values := append([]string{c.d.now}, parameters(7)...)
	if err := c.insert(c.ctx, "keycote_feed", columns, values, rows, ""); err != nil {
		return err
	}
	advance, args := "UPDATE keycote_head SET n = ? WHERE one = 1", []any{n}
	if c.channel != "" {
		advance, args = advance+c.d.notifies, append(args, c.channel)
	}
	if err := c.run(advance, args...); err != nil {
		return err
	}
	if n/feedSweep == c.head/feedSweep {
		return nil
	}
	return c.sweep(n)
}

// sweep removes from the old end of the feed what may go, more than has come in since the last time, and not much more.
// It takes nothing from behind an entry that stays: who stands there would miss it.
func (c *commit) sweep(head int64) error {
	var oldest sql.NullInt64
	if _, err := c.one(c.ctx, []any{&oldest}, "SELECT MIN(n) FROM keycote_feed"); err != nil {
		return err
	}
	// One more stays than must: the place to stand on before the first of them.
	end := min(head-feedKept, oldest.Int64+2*int64(len(c.changes))+2*feedSweep)
	if !oldest.Valid || end <= oldest.Int64 {
		return nil
	}
	var young int64
	found, err := c.one(c.ctx, []any{&young}, "SELECT n FROM keycote_feed WHERE n < ? AND at >= "+c.d.now+" - "+feedAge+
		" ORDER BY n LIMIT 1", end)
	if err != nil {
		return err
	}
	if found {
		end = young
	}
	return c.run("DELETE FROM keycote_feed WHERE n < ?", end)
}

// Changes returns what was committed after a position, at most 1,000 changes, and the position of the last of them.
// [keycote.ErrNotFound] when the feed has no such position, or no longer.
func (s *Store) Changes(ctx context.Context, after string) ([]keycote.Change, string, error) {
	if after == "" {
		present := ""
		err := s.read(ctx, func(rows *sql.Rows) error {
			var n int64
			var mark string
			err := rows.Scan(&n, &mark)
			present = position(n, mark)
			return err
		}, nil, presentStatement)
		if err == nil && present == "" {
			err = errHeadless
		}
		return nil, present, err
	}
	from, ok := number(after)
	if !ok {
		return nil, "", keycote.ErrNotFound
	}
	// The entry at the position is read along with those behind it: nothing can be removed in between.
	var out []keycote.Change
	known, reached := false, after
	err := s.read(ctx, func(rows *sql.Rows) error {
		var ch keycote.Change
		var n int64
		var mark string
		var digests []byte
		if err := rows.Scan(&n, &mark, &ch.Tenant, &ch.ID, &ch.Space, &ch.Revision, &digests); err != nil {
			return err
		}
		if n == from {
			known = position(n, mark) == after
			return nil
		}
		var err error
		ch.Digests, err = splitDigests(digests)
		out = append(out, ch)
		reached = position(n, mark)
		return err
	}, nil, changesStatement, from)
	switch {
	case err != nil:
		return nil, "", err
	case !known:
		return nil, "", keycote.ErrNotFound
	}
	return out, reached, nil
}

const presentStatement = "SELECT f.n, f.mark FROM keycote_head h CROSS JOIN keycote_feed f" +
	" WHERE h.one = 1 AND f.n = h.n"

var changesStatement = "SELECT n, mark, tenant, id, space, revision, digests FROM keycote_feed" +
	" WHERE n >= ? ORDER BY n LIMIT " + strconv.Itoa(feedPage+1)

// position names a change by its number and its Batch's random mark: after a restore the numbers are given out again,
// to other changes.
func position(n int64, mark string) string { return strconv.FormatInt(n, 10) + "." + mark }

func number(position string) (int64, bool) {
	text, _, found := strings.Cut(position, ".")
	n, err := strconv.ParseInt(text, 10, 64)
	return n, found && err == nil && n >= 0
}
