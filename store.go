package keycote

import (
	"context"
	"strings"
	"time"
)

// Store keeps bytes to be found again: no policy, no crypto, no clock. Text that identifies is compared by bytes.
// Methods are never added: further abilities are optional interfaces whose absence is a documented fallback.
//
// The words MUST and MAY below are held by storetest.Run, which is a part of this contract. memstore is the reference.
//
// Text. Every text is valid UTF-8 without NUL and comes back byte for byte: "Acme", "acme" and "acme " are three texts,
// and so are the two ways to write "é". A Store MUST NOT fold, trim, normalise or cut, and MUST order by bytes. Bodies,
// seals and personal values are any bytes, up to some MiB. A digest has 24 bytes.
//
// Times. They arrive cut to the microsecond, lie before the year 10000, and MUST come back as the same instant in UTC.
// The zero Time stays the zero Time. A query's times may be finer than a microsecond.
//
// Nothing and empty. What is absent in one answer is a nil slice or map in another: a Store MAY answer nil for empty
// and empty for nil, for text of length zero likewise, and a caller never tells them apart.
//
// Sharing. Bodies, seals and single digests are read-only for both sides, so that a Store may keep the caller's and
// hand out its own. All else that can be changed MUST NOT be shared: what the caller does to a map, to a slice of
// digests or uses, or to personal values, before or after, changes nothing in the Store, and nothing in another answer.
//
// Errors. A Store answers the Codes named here, and a Code for no other failure: an outage that reads as ErrNotFound
// would tell a client that its key is unknown. When more than one rule is broken it answers what ranks first:
// ErrConflict or ErrNotFound, then the name, then the secret. With an error all other results are zero.
//
// Contexts. Once ctx has ended every method MAY give up with an error that matches ctx.Err(). A Commit that does so has
// applied all of its Batch or nothing of it, or will have in a moment, when it was on its way to another machine; one
// whose ctx had ended before the call MUST do so and apply nothing.
//
// Concurrency. All methods are safe for concurrent use, from several processes when the medium is shared. What a Commit
// has answered nil for, every later call sees, in all processes. Commits are serializable among themselves; each read
// shows a state between two of them, never a half of one.
//
// Pages. Limit is 1 to 1,000. A Store MUST NOT answer more than 1,000 rows, and takes any other Limit for 1,000. After
// (and AfterTenant, whenever AllTenants is set) names a position, not a row: no such row needs to be there. Empty, both
// of them, is the start, which with Newest is the greatest. A row that is there all the while MUST appear exactly once
// in a walk over the pages, whatever is inserted and deleted meanwhile.
type Store interface {
	// Get returns the record of that tenant and id, with Uses; ErrNotFound when there is none, also when the id is that
	// of another tenant's record.
	Get(ctx context.Context, tenant, id string) (Record, error)

	// Lookup returns the record that holds any of the digests, of whatever tenant. It is one statement, for it is all
	// that a verification reads. It fills Tenant, ID, Body and Seal, and may leave the rest; ErrNotFound when none is
	// held, or none asked for, and ErrConflict when the digests lead to two records: choosing one of them is not for a
	// Store. Bodies, seals and digests are read-only for both sides.
	Lookup(ctx context.Context, digests [][]byte) (Record, error)

	// List returns one page of the records that q matches, with Uses, in the order of (Tenant, ID), or of its reverse
	// when q.Filter.Newest is set. A page that is not full is the last. [Query.Match] says what matches; After is the
	// rest.
	List(ctx context.Context, q Query) ([]Record, error)

	// Items returns one page of the items of q, in the order of (Tenant, Name).
	Items(ctx context.Context, q ItemQuery) ([]Item, error)

	// Events returns one page of the events of q, in the order of their ID, or of its reverse when q.Filter.Newest is
	// set.
	Events(ctx context.Context, q EventQuery) ([]EventRecord, error)

	// Usage returns one page of the use counts of q, in the order that UsageQuery names.
	Usage(ctx context.Context, q UsageQuery) ([]UseCount, error)

	// Changes returns what was committed after a position, in order, at least once, and the position reached: at most
	// 1,000 changes; fewer means that the end was reached. Position "" asks for the present one and gets no changes;
	// one that the feed no longer reaches, or never gave out, is ErrNotFound: the caller drops its caches. A Store
	// keeps at least the last 10,000 changes and all of the last 10 minutes.
	//
	// A position MUST NOT be given out while a Batch can still be committed before it: numbers drawn before the commit,
	// as of a sequence or an automatic key, are not enough. It names number and random id, so that a Store put back
	// from a backup does not take a position of its other future for its own. A Batch of more than 1,000 changes is
	// read in parts.
	Changes(ctx context.Context, after string) ([]Change, string, error)

	// Commit applies b, whole or not at all. It answers a [Violation] of Field "name" or "secret" and Code ErrExists
	// for a taken name or digest, ErrConflict for a revision or Expect that no longer holds, for an Insert or an event
	// whose ID is there, and for a record or item that b names twice, and ErrNotFound for an Update or Delete of what
	// is gone. See Batch.
	Commit(ctx context.Context, b Batch) error
}

// Notifier is what a Store MAY be besides: one that hears of commits, those of other processes too. [Manager.Run] looks
// for it where MaxStale is set, and reads the feed at each wake-up instead of only at its own pace, which goes on all
// the same: a wake-up that is lost costs time and no correctness. A Store without it is polled.
type Notifier interface {
	// Notify listens until ctx ends, or until it can hear no more, and then returns why. It MUST call wake once it has
	// begun to listen, and again whenever it cannot say that it has heard everything since, so that what was committed
	// before is read; and after each commit that Changes tells of. One call MAY stand for several commits, and MAY be
	// for nothing. wake does not block, may be called from several goroutines, and does nothing once Run has ended.
	Notify(ctx context.Context, wake func()) error
}

// Replicated is what a Store MAY be besides: one with a read-only copy of itself. With MaxStale, and never without it,
// [Manager.Verify] may ask the copy for what it does not have cached, and dates what it reads there lag before the read
// was sent: MaxStale bounds the two together, and must be more than lag, or [New] fails with [ErrInvalid]. The Store
// itself is asked when the copy has no such key, fails or takes more than a second (then for ten seconds), answers with
// two records, with one that is older than what is known, or with a version whose first use has to be written down; and
// for a key that this process has changed, or heard a change of, within lag. For as long the Store alone is asked after
// New, and whenever changes may have been missed. So the next call sees a change of the same process. Everything but
// Verify reads the Store itself, and so does a view of [Manager.In].
type Replicated interface {
	// Replica returns the copy's Lookup, by the contract of Store's, and what it may lag behind: it MUST show all that
	// was committed more than lag before it was called. A nil lookup: there is no copy. It is called once, by New.
	Replica() (lookup func(ctx context.Context, digests [][]byte) (Record, error), lag time.Duration)
}

// Record is a key as a Store keeps it. Body is what counts: a versioned encoding of everything that decides anything,
// under Seal. The rest is copied out of Body to be found by, so a Store never has to learn a new field of Key.
//
// Tenant and ID together identify it: two tenants may have the same ID. Digests are a set: they MUST come back all and
// alone, in any order. CreatedAt and RotatedAt are never zero.
type Record struct {
	Tenant, ID string
	Kind       Kind
	Name       string   // unique with Tenant and Kind; empty once revoked, and then not unique
	Digests    [][]byte // of the versions kept, ended ones too so that their use is noticed, and of RequestIDs; each unique in the store
	App, Owner string
	State      State // active, disabled or revoked; expiry is judged by ExpiresAt
	Search     string
	Labels     map[string]string
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	RotatedAt  time.Time
	Revision   int64 // the new one in an insert or update; an update expects the one before it
	Body, Seal []byte

	// One per version: N, First and Last of the successes, kept as totals that outlive pruning. Filled by Get and List.
	// Ignored in a Batch. Tenant, KeyID and Version say whose; in the order of Version; nothing for a version never
	// used.
	Uses []UseCount
}

// Query: one page in the order of (Tenant, ID), or its reverse, strictly after After.
type Query struct {
	Tenant      string
	AllTenants  bool
	Filter      Filter
	Now         time.Time // for Filter.State
	AfterTenant string    // with AllTenants
	After       string    // an ID
	Limit       int
}

// Match says whether a Record is in the page's set; it is the meaning of Filter (letter case, "never", State at Now)
// for Stores that filter in memory, and what storetest compares the others with. r needs its Uses, as Get and List fill
// them. Where the page starts (AfterTenant, After) is not its business.
//
// A Filter.State that is none of active, disabled, revoked and expired matches nothing: the Manager has refused it
// before.
func (q Query) Match(r Record) bool {
	f := &q.Filter
	return (q.AllTenants || r.Tenant == q.Tenant) &&
		(f.Kind == "" || r.Kind == f.Kind) &&
		(f.State == "" || stateAt(r, q.Now) == f.State) &&
		(f.Name == "" || r.Name == f.Name) &&
		(f.App == "" || r.App == f.App) &&
		(f.Owner == "" || r.Owner == f.Owner) &&
		strings.Contains(r.Search, f.Search) && // both arrive folded; "" is in every text
		hasLabels(r, f.Labels) &&
		(f.ExpiresBefore.IsZero() || !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(f.ExpiresBefore)) &&
		(f.UnusedSince.IsZero() || touchedAt(r).Before(f.UnusedSince)) &&
		(!f.NeverUsed || lastUsed(r).IsZero()) &&
		(f.RotatedBefore.IsZero() || r.RotatedAt.Before(f.RotatedBefore))
}

// stateAt is the record's state as a person sees it: a key is valid strictly before its expiry, disabled wins over
// expired, and revoked over both.
func stateAt(r Record, now time.Time) State {
	if r.State == StateActive && !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt) {
		return StateExpired
	}
	return r.State
}

func hasLabels(r Record, want map[string]string) bool {
	for name, value := range want {
		if has, ok := r.Labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// touchedAt is when any of the record's versions was last used, or for one never used when the record was made.
func touchedAt(r Record) time.Time {
	if last := lastUsed(r); !last.IsZero() {
		return last
	}
	return r.CreatedAt
}

// lastUsed is when any of the record's versions was last used; zero: never.
func lastUsed(r Record) (last time.Time) {
	for _, u := range r.Uses {
		if u.Last.After(last) {
			last = u.Last
		}
	}
	return last
}

// Item is a small document of the library's own: a keyring, the state of a job, an alert. Space says which. Tenant,
// Space and Name together identify it. One that was removed is absent: a later one of that name starts at Revision 1
// again.
type Item struct {
	Tenant, Space, Name string
	Revision            int64  // in a Batch the new one: 1 inserts if absent, n expects n-1; else ErrConflict
	Body                []byte // empty in a Batch: removes it
}

// ItemQuery: one page in the order of (Tenant, Name), strictly after After. With Space "" items of one tenant and name
// in several spaces lie beside each other, in the order of Space; After cannot tell them apart, so that question is for
// a first page only: is there anything at all?
type ItemQuery struct {
	Space       string // "": all spaces, with AllTenants
	Tenant      string
	AllTenants  bool
	Name        string // "": all, by pages in the order of (Tenant, Name)
	AfterTenant string
	After       string
	Limit       int
}

// EventRecord is an event as a Store keeps it: Body under Seal, and columns to find it by. Its ID is unique in the
// store, over all tenants; an event outlives the record of its KeyID. At is never zero.
type EventRecord struct {
	ID, Tenant, KeyID, Actor string
	Action                   Action
	Outcome                  Code
	At                       time.Time
	Body, Seal               []byte
	Personal                 []byte // the values and salts that Body commits to; outside Seal, may be erased
}

// EventQuery: one page in the order of ID, or its reverse, strictly after Filter.After. Of Filter all that is set must
// hold, At lying in [Since, Until).
type EventQuery struct {
	Tenant     string
	AllTenants bool
	Filter     EventFilter
	Limit      int
}

// UseCount says that a key was used, or refused, N times in a window. Rows that differ in N, First and Last only are
// one row, those of one Batch too: N adds up, First and Last widen. It never touches a Record, and one of a key that is
// gone, or not there yet, is kept. KeyID is empty for refusals without a key. N is at least 1; Window, First and Last
// are never zero.
//
// A Store keeps besides, for each (Tenant, KeyID, Version), the total of the rows without Outcome, which are the
// successes. Record.Uses shows it. Pruning leaves it alone; it goes with its Record.
type UseCount struct {
	Tenant, KeyID string
	Version       int
	Outcome       Code
	Addr          string
	Route, Agent  string
	Window        time.Time // its start
	N             int64
	First, Last   time.Time
}

// UsageQuery: rows in the order of (Window, KeyID, Version, Outcome, Addr, Route, Agent), and of Tenant last when
// AllTenants is set; of KeyID, or of all when it is empty; with Window in [Since, Until), a zero one being no bound;
// strictly after After, unless that is the zero UseCount. Of After the N, First and Last do not count.
type UsageQuery struct {
	Tenant, KeyID string
	AllTenants    bool
	Since, Until  time.Time
	After         UseCount // the last row of the page before
	Limit         int
}

// Change is one entry of the feed: a record that a Batch inserted, updated or deleted, or an item that it wrote or
// removed. Events, use counts and pruning make none.
type Change struct {
	Tenant, ID string // a key; ID "": an Item of Space
	Space      string
	Revision   int64    // after it; of a deleted record, the one that it had and one more
	Digests    [][]byte // before and after
}

// Batch is applied whole or not at all. One whose ID the Store knows is done already: Commit changes nothing and
// answers nil, before anything else is judged; so a Commit with an unknown outcome is repeated as it is. A Store
// remembers an ID for at least a day, but not that of a Batch that failed: it may be committed once its cause is gone.
// An empty ID is never remembered.
//
// Expect and the revisions are held against the state before the Batch, names and digests against the state after it: a
// Batch may delete a key and insert another of that name, and a digest or a name may go from one record to another. The
// rest takes effect in the order of the fields. A Redact of an event that is gone is passed over.
//
// A Batch names no record and no item twice. It may hold thousands of entries.
type Batch struct {
	ID     string
	Expect []ItemRef // keyrings under which something in the Batch was made; read under a lock held until commit
	Insert []Record
	Update []Record
	Delete []RecordRef // Revision is the one that it has
	Items  []Item
	Events []EventRecord
	Redact []EventRecord // Tenant and ID say which; Actor and Personal replace its own, Body and Seal stay
	Uses   []UseCount
	Prune  []Prune
}

// Prune removes at most Limit of the oldest events, and of the use counts (totals by version stay). Events are oldest
// by At, use counts by Window; what lies strictly before the bound may go, a zero bound spares all. Limit is 1 or more.
type Prune struct {
	Tenant                   string
	AllTenants               bool
	EventsBefore, UsesBefore time.Time
	Limit                    int
}

type ItemRef struct {
	Tenant, Space, Name string
	Revision            int64 // 0 expects its absence
}

type RecordRef struct {
	Tenant, ID string
	Revision   int64
}
