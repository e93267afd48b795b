package keycote

import (
	"cmp"
	"time"
)

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
		e.unknown(q.unknown)
	})
}

// decodeRecord reads a body. Its errors are errMalformed and errNewer.
func decodeRecord(body []byte) (*record, error) {
	r, err := decodeFields(string(body))
	if err == nil && (len(r.versions) == 0 || r.id == "" || r.revision < 1) {
		return nil, errMalformed
	}
	return r, err
}

// oneVersion is what most keys are: of one version with one digest, and few scopes. As decoding is on the way of every
// Verify, they come in one piece.
type oneVersion struct {
	record
	version [1]version
	digest  [1]digest
	scopes  [3]string
}

// decodeFields reads a body that may leave out what no record can be without.
func decodeFields(body string) (*record, error) {
	d := openBody(body, recTop)
	one := &oneVersion{}
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
				r.scopes = one.scopes[:0]
			}
			r.scopes = append(r.scopes, d.data)
		case recNetwork:
			r.networks = append(r.networks, d.network())
		case recLabel:
			r.labels = d.addLabel(r.labels)
		case recRate:
			r.limit.Rate = d.count()
		case recPer:
			r.limit.Per = d.seconds()
		case recBurst:
			r.limit.Burst = d.count()
		case recQuota:
			r.limit.Quota = d.integer()
		case recPeriod:
			r.limit.Period = d.seconds()
		case recState:
			r.state = State(d.data)
		case recVersion:
			r.versions = append(r.versions, version{})
			var spare []digest
			if len(r.versions) == 1 {
				spare = one.digest[:0]
			}
			if err := r.current().decode(d.data, spare); err != nil {
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
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

// decode reads a version. The first digests go into spare, if it has room.
func (v *version) decode(body string, spare []digest) error {
	d := decoder{body: body, top: verTop}
	for d.next() {
		switch d.field(1 << verDigest) {
		case verNumber:
			v.number = d.count()
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
			if v.digests == nil {
				v.digests = spare
			}
			v.digests = d.digest(v.digests)
		case verSealed:
			v.sealed = d.data
		case verUsed:
			v.used = d.flag()
		case verUntilUsed:
			v.untilUsed = d.flag()
		case verRequest:
			v.request = &request{}
			d.err = cmp.Or(d.err, v.request.decode(d.data))
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
	q.unknown = d.unknown
	return d.err
}

func (d *decoder) digest(list []digest) []digest {
	x, ok := parseDigest(d.data)
	if !ok {
		d.err = cmp.Or(d.err, errMalformed)
	}
	return append(list, x)
}
