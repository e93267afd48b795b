package keycote

import (
	"bytes"
	"cmp"
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
	r.request = nil
	for i := range r.versions {
		v := &r.versions[i]
		v.digests, v.sealed, v.request = nil, "", nil
	}
}

// Field numbers of a record's body and of a version's; docs/formats.md. The fields of Limit stand one by one.
const (
	recTenant = iota + 1
	recID
	recKind
	recName
	recApp
	recOwner
	recEndpoint
	recScope
	recNetwork
	recLabel
	recRate
	recPer
	recBurst
	recQuota
	recPeriod
	recState
	recVersion
	recCreatedAt
	recCreatedBy
	recUpdatedAt
	recRevision
	recRequest
	recTop = recRequest

	recLists = 1<<recScope | 1<<recNetwork | 1<<recLabel | 1<<recVersion
)

const (
	verNumber = iota + 1
	verState
	verHint
	verCreatedAt
	verExpiresAt
	verSource
	verPrefix
	verDigest
	verSealed
	verUsed
	verUntilUsed
	verRequest
	verTop = verRequest
)

const (
	reqDigest = iota + 1
	reqParams
	reqTop = reqParams
)

func (r *record) encode() []byte {
	var e encoder = make([]byte, 1, 512)
	e[0] = bodyFormat
	e.text(recTenant, r.tenant)
	e.text(recID, r.id)
	e.text(recKind, string(r.kind))
	e.text(recName, r.name)
	e.text(recApp, r.app)
	e.text(recOwner, r.owner)
	e.text(recEndpoint, r.endpoint)
	for _, s := range r.scopes {
		e.always(recScope, s)
	}
	for _, p := range r.networks {
		e.always(recNetwork, p.String())
	}
	e.labels(recLabel, r.labels)
	e.integer(recRate, int64(r.limit.Rate))
	e.integer(recPer, int64(r.limit.Per/time.Second))
	e.integer(recBurst, int64(r.limit.Burst))
	e.integer(recQuota, r.limit.Quota)
	e.integer(recPeriod, int64(r.limit.Period/time.Second))
	e.text(recState, string(r.state))
	for i := range r.versions {
		e.nested(recVersion, r.versions[i].encode)
	}
	e.time(recCreatedAt, r.createdAt)
	e.text(recCreatedBy, r.createdBy)
	e.time(recUpdatedAt, r.updatedAt)
	e.integer(recRevision, r.revision)
	r.request.encode(&e, recRequest)
	e.unknown(r.unknown)
	return e
}

func (v *version) encode(e *encoder) {
	e.integer(verNumber, int64(v.number))
	e.text(verState, string(v.state))
	e.text(verHint, v.hint)
	e.time(verCreatedAt, v.createdAt)
	e.time(verExpiresAt, v.expiresAt)
	e.text(verSource, string(v.source))
	e.text(verPrefix, v.prefix)
	for _, d := range v.digests {
		e.head(verDigest, 1+4+digestLen)
		*e = d.append(*e)
	}
	e.text(verSealed, v.sealed)
	e.flag(verUsed, v.used)
	e.flag(verUntilUsed, v.untilUsed)
	v.request.encode(e, verRequest)
	e.unknown(v.unknown)
}

func (q *request) encode(e *encoder, number int) {
	if q == nil {
		return
	}
	e.nested(number, func(e *encoder) {
		for _, d := range q.digests {
			e.head(reqDigest, 1+4+digestLen)
			*e = d.append(*e)
		}
		e.text(reqParams, q.params)
	})
}

// decodeRecord reads a body. Its errors are errMalformed and errNewer.
func decodeRecord(body []byte) (*record, error) {
	d := openBody(string(body), recTop)
	// Most keys have one version and a few scopes: this is on the way of every Verify, so they come in one piece.
	one := &struct {
		record
		version [1]version
	}{}
	r := &one.record
	r.versions = one.version[:0]
	for d.next() {
		switch d.field(recLists) {
		case recTenant:
			r.tenant = d.data
		case recID:
			r.id = d.data
		case recKind:
			r.kind = Kind(d.data)
		case recName:
			r.name = d.data
		case recApp:
			r.app = d.data
		case recOwner:
			r.owner = d.data
		case recEndpoint:
			r.endpoint = d.data
		case recScope:
			if r.scopes == nil {
				r.scopes = make([]string, 0, 4)
			}
			r.scopes = append(r.scopes, d.data)
		case recNetwork:
			p, err := netip.ParsePrefix(d.data)
			if err != nil {
				return nil, errMalformed
			}
			r.networks = append(r.networks, p)
		case recLabel:
			r.labels = d.label(r.labels)
		case recRate:
			r.limit.Rate = int(d.integer())
		case recPer:
			r.limit.Per = time.Duration(d.integer()) * time.Second
		case recBurst:
			r.limit.Burst = int(d.integer())
		case recQuota:
			r.limit.Quota = d.integer()
		case recPeriod:
			r.limit.Period = time.Duration(d.integer()) * time.Second
		case recState:
			r.state = State(d.data)
		case recVersion:
			r.versions = append(r.versions, version{})
			if err := r.current().decode(d.data); err != nil {
				return nil, err
			}
		case recCreatedAt:
			r.createdAt = d.time()
		case recCreatedBy:
			r.createdBy = d.data
		case recUpdatedAt:
			r.updatedAt = d.time()
		case recRevision:
			r.revision = d.integer()
		case recRequest:
			r.request = &request{}
			if err := r.request.decode(d.data); err != nil {
				return nil, err
			}
		}
	}
	r.unknown = d.unknown
	switch {
	case d.err != nil:
		return nil, d.err
	case len(r.versions) == 0 || r.id == "" || r.revision < 1:
		return nil, errMalformed
	}
	return r, nil
}

func (v *version) decode(body string) error {
	d := decoder{body: body, top: verTop}
	for d.next() {
		switch d.field(1 << verDigest) {
		case verNumber:
			v.number = int(d.integer())
		case verState:
			v.state = State(d.data)
		case verHint:
			v.hint = d.data
		case verCreatedAt:
			v.createdAt = d.time()
		case verExpiresAt:
			v.expiresAt = d.time()
		case verSource:
			v.source = source(d.data)
		case verPrefix:
			v.prefix = d.data
		case verDigest:
			v.digests = d.digest(v.digests)
		case verSealed:
			v.sealed = d.data
		case verUsed:
			v.used = d.flag()
		case verUntilUsed:
			v.untilUsed = d.flag()
		case verRequest:
			v.request = &request{}
			d.err = v.request.decode(d.data)
		}
	}
	v.unknown = d.unknown
	return d.err
}

func (q *request) decode(body string) error {
	d := decoder{body: body, top: reqTop}
	for d.next() {
		switch d.field(1 << reqDigest) {
		case reqDigest:
			q.digests = d.digest(q.digests)
		case reqParams:
			q.params = d.data
		}
	}
	if len(d.unknown) > 0 {
		return errNewer
	}
	return d.err
}

func (d *decoder) digest(list []digest) []digest {
	x, ok := parseDigest(d.data)
	if !ok {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return append(list, x)
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
