package keycote

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// digestKind says what a digest was made of, and so what may be found by it.
type digestKind byte

const (
	digestToken   digestKind = 't' // an issued key
	digestChosen  digestKind = 'c' // a value that a person chose; known in its tenant only
	digestImport  digestKind = 'i' // a value made by another system; known in all tenants
	digestRequest digestKind = 'r' // a RequestID; never verifies
)

// digest is one entry of Record.Digests as the body has it: with its kind and the index key it was made under.
type digest struct {
	kind digestKind
	key  uint32
	sum  [digestLen]byte
}

func (d digest) append(b []byte) []byte {
	b = append(b, byte(d.kind))
	b = binary.BigEndian.AppendUint32(b, d.key)
	return append(b, d.sum[:]...)
}

func parseDigest(s string) (d digest, ok bool) {
	if len(s) != 1+4+digestLen {
		return d, false
	}
	switch d.kind = digestKind(s[0]); d.kind {
	case digestToken, digestChosen, digestImport, digestRequest:
	default:
		return d, false
	}
	d.key = uint32(s[1])<<24 | uint32(s[2])<<16 | uint32(s[3])<<8 | uint32(s[4])
	copy(d.sum[:], s[5:])
	return d, true
}

// request is what is kept of a RequestID: digests to find it by, and a PRF of the parameters it came with, so that the
// same id with other parameters is noticed. The PRF is keyed, because the parameters may hold a chosen value.
type request struct {
	digests []digest
	params  string // 4-byte index key id, 32 bytes
	unknown []rawField
}

// source says who made a version's value.
type source string

const (
	sourceIssued source = "issued" // Keycote
	sourceChosen source = "chosen" // a person, for an access key
	sourceGiven  source = "given"  // somebody else's endpoint: the value of a credential
)

// version is one value of a key.
type version struct {
	number    int
	state     State // StateActive or StateEnded; once it says ended, no clock is asked
	hint      string
	createdAt time.Time
	expiresAt time.Time
	source    source
	prefix    string // of an issued value
	digests   []digest
	sealed    string // of a credential; erased when the version ends
	used      bool   // a mark that Verify commits
	untilUsed bool   // ends when a newer version is used
	request   *request
	unknown   []rawField
}

// live reports whether the version can still answer at now.
func (v *version) live(now time.Time) bool {
	return v.state == StateActive && (v.expiresAt.IsZero() || now.Before(v.expiresAt))
}

func (v *version) end() {
	v.state = StateEnded
	v.sealed = ""
}

// stateAt is the version's state as judged at now.
func (v *version) stateAt(now time.Time) State {
	switch {
	case v.state == StateEnded:
		return StateEnded
	case !v.live(now):
		return StateExpired
	}
	return StateActive
}

// record is a key as its body has it: all that decides anything. What a Store keeps beside the body is copied out of it.
type record struct {
	tenant, id string
	kind       Kind
	name, app  string
	owner      string
	endpoint   string
	scopes     []string
	networks   []netip.Prefix
	labels     map[string]string
	limit      Limit
	state      State // active, disabled or revoked
	versions   []version
	createdAt  time.Time
	createdBy  string
	updatedAt  time.Time
	revision   int64
	request    *request
	unknown    []rawField
}

// keptEnded is how many ended versions stay in a record, so that their use is noticed.
const keptEnded = 4

func (r *record) current() *version { return &r.versions[len(r.versions)-1] }

// stateAt is the key's state as judged at now: revoked wins over disabled, disabled over expired.
func (r *record) stateAt(now time.Time) State {
	if r.state == StateActive && !r.current().live(now) {
		return StateExpired
	}
	return r.state
}

// clone copies what a change may write to.
func (r *record) clone() *record {
	c := *r
	c.versions = slices.Clone(r.versions)
	return &c
}

func (r *record) grants() []string { return r.scopes }

// trim drops the oldest ended versions beyond those kept.
func (r *record) trim() {
	ended := 0
	for i := len(r.versions) - 1; i >= 0; i-- {
		if r.versions[i].state != StateEnded {
			continue
		}
		if ended++; ended > keptEnded {
			r.versions = slices.Delete(r.versions, i, i+1)
		}
	}
}

// strip forgets what finds and opens values: what is left may be handed out.
func (r *record) strip() {
	r.request, r.unknown = nil, nil
	for i := range r.versions {
		v := &r.versions[i]
		v.digests, v.sealed, v.request, v.unknown = nil, "", nil, nil
	}
}

// columns is the record as a Store keeps it, but for body and seal.
func (r *record) columns() Record {
	c := r.current()
	out := Record{
		Tenant: r.tenant, ID: r.id, Kind: r.kind, Name: r.name, App: r.app, Owner: r.owner, State: r.state,
		Search:    strings.ToLower(r.name + "\n" + r.app + "\n" + c.hint),
		Labels:    r.labels,
		CreatedAt: r.createdAt, ExpiresAt: c.expiresAt, RotatedAt: c.createdAt,
		Revision: r.revision,
	}
	if r.state == StateRevoked {
		out.Name = "" // free again
	}
	take := func(list []digest) {
		for i := range list {
			out.Digests = append(out.Digests, list[i].sum[:])
		}
	}
	for i := range r.versions {
		take(r.versions[i].digests)
		if q := r.versions[i].request; q != nil {
			take(q.digests)
		}
	}
	if r.request != nil {
		take(r.request.digests)
	}
	return out
}

// sameColumns reports whether every column that a Store answered is what the body gives for it.
func sameColumns(a, b Record) bool {
	return a.Tenant == b.Tenant && a.ID == b.ID && a.Kind == b.Kind && a.Name == b.Name && a.App == b.App &&
		a.Owner == b.Owner && a.State == b.State && a.Search == b.Search && maps.Equal(a.Labels, b.Labels) &&
		a.CreatedAt.Equal(b.CreatedAt) && a.ExpiresAt.Equal(b.ExpiresAt) && a.RotatedAt.Equal(b.RotatedAt) &&
		a.Revision == b.Revision && sameDigests(a.Digests, b.Digests)
}

// sameDigests compares sets: a Store need not keep an order.
func sameDigests(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, bytes.Compare)
	slices.SortFunc(b, bytes.Compare)
	return slices.EqualFunc(a, b, bytes.Equal)
}

// key is the record as callers see it, judged at now, with the counters that a Store has of it.
func (r *record) key(now time.Time, uses []UseCount) *Key {
	c := r.current()
	k := &Key{
		ID: r.id, Tenant: r.tenant, Kind: r.kind, Name: r.name, App: r.app, Owner: r.owner, Endpoint: r.endpoint,
		Hint:     c.hint,
		Scopes:   append([]string{}, r.scopes...),
		Networks: append([]netip.Prefix{}, r.networks...),
		Labels:   maps.Clone(r.labels),
		Limit:    r.limit, State: r.stateAt(now),
		CreatedAt: r.createdAt, CreatedBy: r.createdBy, UpdatedAt: r.updatedAt, ExpiresAt: c.expiresAt,
		Revision: r.revision,
	}
	if k.Labels == nil {
		k.Labels = map[string]string{}
	}
	k.Versions = make([]Version, 0, len(r.versions))
	for i := range r.versions {
		v := &r.versions[i]
		shown := Version{
			Number: v.number, State: v.stateAt(now), Hint: v.hint, CreatedAt: v.createdAt, ExpiresAt: v.expiresAt,
		}
		for _, u := range uses {
			if u.Version == v.number {
				shown.Uses += u.N
				shown.LastUsedAt = later(shown.LastUsedAt, u.Last)
			}
		}
		k.Versions = append(k.Versions, shown)
	}
	for _, u := range uses { // of versions that are no longer kept, too
		k.LastUsedAt = later(k.LastUsedAt, u.Last)
	}
	return k
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
