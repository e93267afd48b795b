package keycote

import (
	"net/netip"
	"time"
)

// Kind says which way a key goes.
type Kind string

const (
	KindAccess     Kind = "access"     // clients present it to the host
	KindCredential Kind = "credential" // the host presents it to somebody else's endpoint
)

// State is where a key, or a version of it, stands in its life. Revoked wins over disabled, disabled over expired.
type State string

const (
	StateActive     State = "active"
	StateDisabled   State = "disabled"
	StateRevoked    State = "revoked"
	StateExpired    State = "expired"
	StateEnded      State = "ended"      // of a version: by rotation; judged before any clock
	StateUnreadable State = "unreadable" // of a record that cannot be trusted; it can be deleted
)

// Key is what may be known about a key without knowing it. Its JSON form is that of the console's API;
// Scopes, Networks and Labels are never nil.
type Key struct {
	ID         string            `json:"id"`
	Tenant     string            `json:"tenant,omitempty"`
	Kind       Kind              `json:"kind"`
	Name       string            `json:"name"`
	App        string            `json:"app"`
	Owner      string            `json:"owner"` // who answers for it; the actor that made it unless said otherwise
	Endpoint   string            `json:"endpoint,omitempty"`
	Hint       string            `json:"hint"`
	Scopes     []string          `json:"scopes"`   // access keys; empty: none
	Networks   []netip.Prefix    `json:"networks"` // access keys; empty: from anywhere
	Labels     map[string]string `json:"labels"`
	Limit      Limit             `json:"limit,omitzero"`
	State      State             `json:"state"`
	Versions   []Version         `json:"versions"` // oldest first, the last is current; never empty; of the ended ones the last 4
	CreatedAt  time.Time         `json:"createdAt,omitzero"`
	CreatedBy  string            `json:"createdBy"`
	UpdatedAt  time.Time         `json:"updatedAt,omitzero"`
	ExpiresAt  time.Time         `json:"expiresAt,omitzero"`  // of the current version; zero: never
	LastUsedAt time.Time         `json:"lastUsedAt,omitzero"` // zero: never used
	Revision   int64             `json:"revision"`
}

// Version is one value of a key.
type Version struct {
	Number     int       `json:"number"`
	State      State     `json:"state"`
	Hint       string    `json:"hint"`
	CreatedAt  time.Time `json:"createdAt,omitzero"`
	ExpiresAt  time.Time `json:"expiresAt,omitzero"`
	LastUsedAt time.Time `json:"lastUsedAt,omitzero"`
	Uses       int64     `json:"uses"`
}

// Limit bounds the use of an access key, of all its versions together. The zero Limit is none, and there is no default.
// Per and Period are whole seconds, and stand as seconds in JSON.
//
// Rate is judged by GCRA: of a Burst at once, uses come back one by one, Rate in each Per. So no window of length t lets
// more than Burst + Rate·t/Per through. What is refused does not count. [Manager.Update] changes a Limit at once, and what
// was used goes on to count under the new one; disabling, enabling and rotating change nothing about it. Counts are kept
// in memory by each process for itself, unless Options.Limiter shares them: N processes without it allow N times as much.
type Limit struct {
	Rate   int           `json:"rate,omitempty"` // uses per Per
	Per    time.Duration `json:"per,omitempty"`
	Burst  int           `json:"burst,omitempty"` // uses that may come at once; 0: as many as Rate
	Quota  int64         `json:"quota,omitempty"` // uses per Period, which starts at the first use
	Period time.Duration `json:"period,omitempty"`
}

// AddParams are what [Manager.Add] takes.
type AddParams struct {
	Name      string // required
	Endpoint  string // required
	Secret    Secret // required
	App       string
	Owner     string // "": the actor
	AllowWeak bool   // consent to a value that the strength rule calls weak
	SkipProbe bool
	ExpiresAt time.Time
	Labels    map[string]string
	Reason    string
	RequestID string // a retry with the same id makes no second key
	DryRun    bool   // say what the call would say, and write nothing
}

// IssueParams are what [Manager.Issue] takes.
type IssueParams struct {
	Name      string // required
	App       string
	Owner     string         // "": the actor
	Prefix    string         // "": Options.Prefix
	Secret    Secret         // empty: Keycote makes the value; else it is known in this tenant only
	AllowWeak bool           // for a chosen value
	Scopes    []string       // empty: none
	Networks  []netip.Prefix // empty: from anywhere; a single address is netip.PrefixFrom(a, a.BitLen())
	ExpiresAt time.Time      // zero: never
	Limit     Limit
	Labels    map[string]string
	Reason    string
	RequestID string // as for Rotate
	DryRun    bool   // say what the call would say, and write nothing
}

// RotateParams are what [Manager.Rotate] takes.
type RotateParams struct {
	Secret    Secret // required for a credential; a chosen value for an access key
	AllowWeak bool
	SkipProbe bool
	ExpiresAt time.Time     // of the new version; zero: as the old one's
	Overlap   time.Duration // access keys: how long the previous version goes on; never past its own expiry
	UntilUsed bool          // it ends earlier, at the first successful use of the new one; needs an Overlap
	RequestID string        // a retry with the same id makes no second version
	Reason    string
	DryRun    bool // say what the call would say, and write nothing
}

// Patch changes what is not nil, and a pointer to a zero value clears: ExpiresAt: new(time.Time) is "never",
// Scopes: new([]string) is "none", Networks: new([]netip.Prefix) is "from anywhere".
type Patch struct {
	Name, App, Owner, Endpoint *string

	Secret    Secret // with a changed origin of Endpoint only, then required; the old version ends. Else use Rotate
	AllowWeak bool
	SkipProbe bool
	Scopes    *[]string
	Networks  *[]netip.Prefix
	ExpiresAt *time.Time
	Limit     *Limit
	Labels    *map[string]string // replaces all of them
	Revision  int64              // when set, the change fails with ErrConflict on any other
	Reason    string
	DryRun    bool // say what the call would say, and write nothing
}

// Filter chooses keys: all that is set must hold, and the zero Filter chooses all. Keys come oldest first.
//
// UnusedSince and NeverUsed go by the counts that are written. A list by them writes this process's first (not in a host's
// own transaction), and fails where that fails; what others have counted in the last ten seconds is not seen.
type Filter struct {
	Kind          Kind
	State         State  // as judged now: an active key is not expired
	Name          string // exact
	App, Owner    string
	Search        string // in name, app and hint; literal, case-insensitive
	Labels        map[string]string
	ExpiresBefore time.Time // never-expiring keys do not match
	UnusedSince   time.Time // also keys never used and made before it
	NeverUsed     bool      // no version was ever used with success, however new
	RotatedBefore time.Time // the current version was made before it
	Newest        bool      // newest first
}

// Page is one page of a list.
type Page struct {
	Keys []*Key `json:"keys"`
	Next string `json:"next,omitempty"` // cursor; empty at the end
}
