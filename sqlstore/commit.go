package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/keycote/keycote"
)

// errRepeated ends the transaction of a Batch that was committed before.
var errRepeated = errors.New("sqlstore: the batch is committed already")

// Commit applies b whole or not at all, in a transaction of its own, or in a view as a savepoint.
//
// It answers a [keycote.Violation] of Field "name" or "secret" and Code [keycote.ErrExists], [keycote.ErrConflict] and
// [keycote.ErrNotFound] as [keycote.Store] says, [keycote.ErrConflict] also for an insert or an event of an id that is
// taken, and [keycote.ErrInvalid] for a digest that has not 24 bytes. Of several, revisions come first, then the name,
// then the secret. Any other error is the database's, or the context's, and leaves nothing behind.
func (s *Store) Commit(ctx context.Context, b keycote.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.write(ctx, func(x session) error {
		if x.d.embedded {
			x.repeated = repeated{}
			defer func() { _ = x.repeated.close() }()
		}
		return (&commit{session: x, ctx: ctx, b: b, sweeps: s.sweeps, channel: s.channel}).apply()
	})
	if err == errRepeated { // and not joined with a failure to take it back
		return nil
	}
	return contextual(ctx, err)
}

// commit is a Batch on its way into the database.
type commit struct {
	session
	ctx     context.Context
	b       keycote.Batch
	head    int64   // the number of the last change before this Batch
	edits   []*edit // in the order of (tenant, id)
	changes []keycote.Change
	sweeps  *atomic.Uint32
	channel string
}

func (c *commit) run(statement string, args ...any) error {
	_, err := c.exec(c.ctx, statement, args...)
	return err
}

func (c *commit) apply() error {
	for _, step := range []func() error{
		c.remember, c.order, c.compare, c.expect, c.items, c.events, c.records,
		c.redact, c.uses, c.prune, c.feed, c.forget,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// remember keeps the Batch's ID; the insert that changes nothing is how a known one is seen, also when the same Batch
// is being committed by somebody else at this moment.
func (c *commit) remember() error {
	if c.b.ID == "" {
		return nil
	}
	columns, values := []string{"id", "done_at"}, []string{"?", c.d.now}
	done, err := c.d.insertNew(c.ctx, c.session, "keycote_batches", columns, values, c.b.ID)
	if err == nil && !done {
		return errRepeated
	}
	return err
}

// order takes the feed's one row before anything is compared. Whoever changes records or items holds it until commit,
// so what is read from here on stays true until then, and numbers are given out in the order of commits. A Batch of
// events and counts alone does without, unless it expects an item to be absent: there is no row to lock then.
func (c *commit) order() error {
	absent := slices.ContainsFunc(c.b.Expect, func(ref keycote.ItemRef) bool { return ref.Revision == 0 })
	if len(c.b.Insert)+len(c.b.Update)+len(c.b.Delete)+len(c.b.Items) == 0 && !absent {
		return nil
	}
	found, err := c.one(c.ctx, []any{&c.head}, "SELECT n FROM keycote_head WHERE one = 1"+c.d.lock)
	if err == nil && !found {
		return errHeadless
	}
	return err
}

// forget lets go of Batch IDs that are older than a day, a few at a time: at the first Commit of a
// Store, so that short programs do their part too, and then at every sixteenth.
func (c *commit) forget() error {
	if c.sweeps.Add(1)%16 != 1 {
		return nil
	}
	return c.run(c.d.deleteFirst("keycote_batches", "id", "done_at < "+c.d.now+" - "+micros25h, "done_at", 64))
}

const micros25h = "90000000000"

func (c *commit) itemRevision(tenant, space, name, lock string) (int64, error) {
	var revision int64
	_, err := c.one(c.ctx, []any{&revision},
		"SELECT revision FROM keycote_items WHERE tenant = ? AND space = ? AND name = ?"+lock, tenant, space, name)
	return revision, err
}

// expect reads under a lock that lets others read: every change names the same few keyrings.
func (c *commit) expect() error {
	refs := slices.Clone(c.b.Expect)
	slices.SortFunc(refs, func(a, b keycote.ItemRef) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Space, b.Space), cmp.Compare(a.Name, b.Name))
	})
	for _, ref := range refs {
		revision, err := c.itemRevision(ref.Tenant, ref.Space, ref.Name, c.d.share)
		if err != nil {
			return err
		}
		if revision != ref.Revision {
			return keycote.ErrConflict
		}
	}
	return nil
}

func (c *commit) items() error {
	type itemID struct{ tenant, space, name string }
	named := make(map[itemID]bool, len(c.b.Items))
	items := slices.Clone(c.b.Items)
	slices.SortFunc(items, func(a, b keycote.Item) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Space, b.Space), cmp.Compare(a.Name, b.Name))
	})
	for _, i := range items {
		revision, err := c.itemRevision(i.Tenant, i.Space, i.Name, c.d.lock)
		if err != nil {
			return err
		}
		id := itemID{i.Tenant, i.Space, i.Name}
		if named[id] || i.Revision < 1 || revision != i.Revision-1 {
			return keycote.ErrConflict
		}
		named[id] = true
		switch {
		case len(i.Body) == 0:
			err = c.run("DELETE FROM keycote_items WHERE tenant = ? AND space = ? AND name = ?", i.Tenant, i.Space, i.Name)
		case i.Revision == 1:
			err = c.run("INSERT INTO keycote_items (tenant, space, name, revision, body) VALUES (?, ?, ?, ?, ?)",
				i.Tenant, i.Space, i.Name, i.Revision, i.Body)
		default:
			err = c.run("UPDATE keycote_items SET revision = ?, body = ? WHERE tenant = ? AND space = ? AND name = ?",
				i.Revision, i.Body, i.Tenant, i.Space, i.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
