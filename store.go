package keycote

import (
	"context"
	"time"
)

// Store keeps bytes to be found again: no policy, no crypto, no clock. Text that identifies is compared by bytes.
// Methods are never added: further abilities are optional interfaces whose absence is a documented fallback.
type Store interface {
	Get(ctx context.Context, tenant, id string) (Record, error) // ErrNotFound
	// Lookup is one statement. It fills Tenant, ID, Body and Seal, and may leave the rest; ErrNotFound, or ErrConflict when
	// the digests lead to two records. Bodies, seals and digests are read-only for both sides.
	Lookup(ctx context.Context, digests [][]byte) (Record, error)
	List(ctx context.Context, q Query) ([]Record, error) // one page, keyset order
	Items(ctx context.Context, q ItemQuery) ([]Item, error)
	Events(ctx context.Context, q EventQuery) ([]EventRecord, error)
	Usage(ctx context.Context, q UsageQuery) ([]UseCount, error)
	// Changes returns what was committed after a position, in order, at least once, and the position reached: at most 1,000
	// changes; fewer means that the end was reached. Position "" asks for the present one and gets no changes; one that the
	// feed no longer reaches is ErrNotFound: the caller drops its caches. A Store keeps at least the last 10,000 changes
	// and all of the last 10 minutes.
	Changes(ctx context.Context, after string) ([]Change, string, error)
	// Commit answers a Violation of Field "name" or "secret" and Code ErrExists for a taken name or digest, ErrConflict for
	// a revision or Expect that no longer holds, ErrNotFound for an Update or Delete of what is gone.
	Commit(ctx context.Context, b Batch) error
}

// Record is a key as a Store keeps it. Body is what counts: a versioned encoding of everything that decides anything,
// under Seal. The rest is copied out of Body to be found by, so a Store never has to learn a new field of Key.
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
	// Ignored in a Batch.
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

// Match says whether a Record is in the page's set; it is the meaning of Filter (letter case, "never", State at Now) for
// Stores that filter in memory, and what storetest compares the others with.
func (q Query) Match(r Record) bool { return false }

// Item is a small document of the library's own: a keyring, the state of a job, an alert. Space says which.
type Item struct {
	Tenant, Space, Name string
	Revision            int64  // in a Batch the new one: 1 inserts if absent, n expects n-1; else ErrConflict
	Body                []byte // empty in a Batch: removes it
}

type ItemQuery struct {
	Space       string // "": all spaces, with AllTenants
	Tenant      string
	AllTenants  bool
	Name        string // "": all, by pages in the order of (Tenant, Name)
	AfterTenant string
	After       string
	Limit       int
}

// EventRecord is an event as a Store keeps it: Body under Seal, and columns to find it by.
type EventRecord struct {
	ID, Tenant, KeyID, Actor string
	Action                   Action
	Outcome                  Code
	At                       time.Time
	Body, Seal               []byte
	Personal                 []byte // the values and salts that Body commits to; outside Seal, may be erased
}

type EventQuery struct {
	Tenant     string
	AllTenants bool
	Filter     EventFilter
	Limit      int
}

// UseCount says that a key was used, or refused, N times in a window. Rows that differ in N, First and Last only are one
// row: N adds up, First and Last widen. It never touches a Record, and one of a key that is gone is kept.
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

// UsageQuery: rows in the order of (Window, KeyID, Version, Outcome, Addr, Route, Agent).
type UsageQuery struct {
	Tenant, KeyID string
	AllTenants    bool
	Since, Until  time.Time
	After         UseCount // the last row of the page before
	Limit         int
}

// Change is one entry of the feed.
type Change struct {
	Tenant, ID string // a key; ID "": an Item of Space
	Space      string
	Revision   int64
	Digests    [][]byte // before and after
}

// Batch is applied whole or not at all. One whose ID the Store knows is done already: Commit changes nothing and answers
// nil, before anything else is judged; so a Commit with an unknown outcome is repeated as it is. A Store remembers an ID
// for at least a day.
type Batch struct {
	ID     string
	Expect []ItemRef // keyrings under which something in the Batch was made; read under a lock held until commit
	Insert []Record
	Update []Record
	Delete []RecordRef
	Items  []Item
	Events []EventRecord
	Redact []EventRecord // Tenant and ID say which; Actor and Personal replace its own, Body and Seal stay
	Uses   []UseCount
	Prune  []Prune
}

// Prune removes at most Limit of the oldest events, and of the use counts (totals by version stay).
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
