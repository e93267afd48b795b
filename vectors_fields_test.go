package keycote

import "time"

// recordFields is a record's body in words, as a vector has it. The names are those of docs/formats.md.
type recordFields struct {
	Tenant    string            `json:"tenant,omitempty"`
	ID        string            `json:"id"`
	Kind      Kind              `json:"kind,omitempty"`
	Name      string            `json:"name,omitempty"`
	App       string            `json:"app,omitempty"`
	Owner     string            `json:"owner,omitempty"`
	Endpoint  string            `json:"endpoint,omitempty"`
	Scopes    []string          `json:"scopes,omitempty"`
	Networks  []string          `json:"networks,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Limit     *limitFields      `json:"limit,omitempty"`
	State     State             `json:"state,omitempty"`
	Versions  []versionFields   `json:"versions"`
	CreatedAt *time.Time        `json:"createdAt,omitempty"`
	CreatedBy string            `json:"createdBy,omitempty"`
	UpdatedAt *time.Time        `json:"updatedAt,omitempty"`
	Revision  int64             `json:"revision"`
	Request   *requestFields    `json:"request,omitempty"`
	Unknown   []unknownField    `json:"unknown,omitempty"`
}

type limitFields struct {
	Rate   int   `json:"rate,omitempty"`
	Per    int64 `json:"per,omitempty"` // seconds
	Burst  int   `json:"burst,omitempty"`
	Quota  int64 `json:"quota,omitempty"`
	Period int64 `json:"period,omitempty"` // seconds
}

type versionFields struct {
	Number    int            `json:"number,omitempty"`
	State     State          `json:"state,omitempty"`
	Hint      string         `json:"hint,omitempty"`
	CreatedAt *time.Time     `json:"createdAt,omitempty"`
	ExpiresAt *time.Time     `json:"expiresAt,omitempty"`
	Source    string         `json:"source,omitempty"`
	Prefix    string         `json:"prefix,omitempty"`
	Digests   []digestFields `json:"digests,omitempty"`
	Sealed    hexBytes       `json:"sealed,omitempty"`
	Used      bool           `json:"used,omitempty"`
	UntilUsed bool           `json:"untilUsed,omitempty"`
	Request   *requestFields `json:"request,omitempty"`
	Unknown   []unknownField `json:"unknown,omitempty"`
}

type digestFields struct {
	Kind   string   `json:"kind"`
	KeyID  uint32   `json:"keyId"`
	Digest hexBytes `json:"digest"`
}

type requestFields struct {
	Digests []digestFields `json:"digests"`
	Params  hexBytes       `json:"params"`
	Unknown []unknownField `json:"unknown,omitempty"`
}

type unknownField struct {
	Number int      `json:"number"`
	Data   hexBytes `json:"data"`
}

func fieldsOf(r *record) recordFields {
	f := recordFields{
		Tenant: r.tenant, ID: r.id, Kind: r.kind, Name: r.name, App: r.app, Owner: r.owner, Endpoint: r.endpoint,
		Scopes: r.scopes, Labels: r.labels, State: r.state, CreatedAt: timeField(r.createdAt), CreatedBy: r.createdBy,
		UpdatedAt: timeField(r.updatedAt), Revision: r.revision, Request: requestField(r.request),
		Unknown: unknownFields(r.unknown),
	}
	for _, n := range r.networks {
		f.Networks = append(f.Networks, n.String())
	}
	if l := r.limit; l != (Limit{}) {
		f.Limit = &limitFields{l.Rate, int64(l.Per / time.Second), l.Burst, l.Quota, int64(l.Period / time.Second)}
	}
	for i := range r.versions {
		v := &r.versions[i]
		f.Versions = append(f.Versions, versionFields{
			Number: v.number, State: v.state, Hint: v.hint, CreatedAt: timeField(v.createdAt), ExpiresAt: timeField(v.expiresAt),
			Source: string(v.source), Prefix: v.prefix, Digests: digestField(v.digests), Sealed: hexBytes(v.sealed),
			Used: v.used, UntilUsed: v.untilUsed, Request: requestField(v.request), Unknown: unknownFields(v.unknown),
		})
	}
	return f
}

func timeField(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func digestField(list []digest) (fields []digestFields) {
	for _, d := range list {
		fields = append(fields, digestFields{string(rune(d.kind)), d.key, d.sum[:]})
	}
	return fields
}

func requestField(q *request) *requestFields {
	if q == nil {
		return nil
	}
	return &requestFields{digestField(q.digests), hexBytes(q.params), unknownFields(q.unknown)}
}

func unknownFields(list []rawField) (fields []unknownField) {
	for _, f := range list {
		fields = append(fields, unknownField{f.number, hexBytes(f.data)})
	}
	return fields
}
