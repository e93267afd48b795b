package keycote

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Diagnosis is what [Manager.Diagnose] found out about one key. Its JSON form is that of the console's API.
type Diagnosis struct {
	KeyID  string    `json:"keyId"`
	Kind   Kind      `json:"kind,omitempty"` // empty when the record cannot be read
	At     time.Time `json:"at"`
	Status string    `json:"status"` // the worst of all checks: "ok", "warning" or "failed"
	Checks []Check   `json:"checks"` // by area: format, permission, network, log, keeping
}

// Check is one step of a diagnosis. It never holds a secret, nor what an endpoint answered beyond its status.
type Check struct {
	Area   string            `json:"area"`   // "format", "permission", "network", "log" or "keeping"
	Name   string            `json:"name"`   // what was looked at, such as "strength" or "tls"
	Status string            `json:"status"` // "ok", "warning", "failed" or "skipped"
	Code   Code              `json:"code"`   // what was found, such as "weak" or "certificate_soon"
	Params map[string]string `json:"params,omitempty"`
	Took   time.Duration     `json:"took,omitempty"` // nanoseconds in JSON; 0 where time does not matter

	// Words for a person, in English as Diagnose returns them; see Diagnosis.In.
	Title  string `json:"title,omitempty"`
	Text   string `json:"text,omitempty"`
	Advice string `json:"advice,omitempty"` // what to do about it; empty when there is nothing to do
}

// The statuses of a Check, from good to bad.
const (
	checkOK      = "ok"
	checkSkipped = "skipped"
	checkWarning = "warning"
	checkFailed  = "failed"
)

const (
	areaFormat     = "format"
	areaPermission = "permission"
	areaNetwork    = "network"
	areaLog        = "log"
	areaKeeping    = "keeping"
)

// areas is the order in which a person reads a Diagnosis.
var areas = [...]string{areaFormat, areaPermission, areaNetwork, areaLog, areaKeeping}

// In returns a copy of d whose words are in lang, a BCP 47 tag or the value of an Accept-Language header; English when
// nothing fits.
func (d *Diagnosis) In(lang string) *Diagnosis {
	c := catalogueFor(lang)
	out := *d
	out.Checks = slices.Clone(d.Checks)
	for i := range out.Checks {
		k := &out.Checks[i]
		params := maps.Clone(k.Params)
		if fields, ok := params["fields"]; ok {
			params["fields"] = c.fields(fields)
		}
		k.Title = c.text["check."+k.Name]
		k.Text = fill(cmp.Or(
			c.text["finding."+string(k.Code)], c.text["code."+string(k.Code)], c.text["finding."+string(findNoCheck)],
		), params)
		k.Advice = ""
		if k.Status == checkWarning || k.Status == checkFailed {
			k.Advice = fill(c.text["advice."+string(k.Code)], params)
			if k.Advice == "" && k.Name == "probe" { // what a Prober finds has many codes, a host's own among them
				k.Advice = c.text["advice."+string(codeProbeFailed)]
			}
		}
	}
	return &out
}

// fields names fields, joined by ", ", as forms do.
func (c *catalogue) fields(list string) string {
	names := strings.Split(list, ", ")
	for i, f := range names {
		names[i] = c.field(Violation{Field: f})
	}
	return strings.Join(names, ", ")
}

// Diagnose looks into everything that may be wrong with a key, and says it as a report that a person can read: format
// (rules, strength, age), permission (what the calling actor may do with it, its scopes and networks), network (its
// endpoint, step by step, by Options.Inspect and Options.Prober), log (its uses and refusals of the last week) and
// keeping (whether its seal holds and its value opens under the KEK). It goes on where a part of that is broken: what
// could not be looked at is a check that failed, not an error.
//
// It is a right of its own, ActionDiagnose, and an event of its own. The value is opened to see that it opens and how
// strong it is, never without that event; and Options.Prober presents it to its own endpoint, which counts as no use and
// is left out when the actor may not use the key. Nothing else is changed. A call takes as long as the endpoint lets it:
// bound it by ctx.
//
// It fails with [ErrNotFound]; with [ErrForbidden] when Authorize refuses; with [ErrInvalid] in a host's own
// transaction, where a rollback would take its event away; and with [ErrUnavailable] only when ctx has ended.
func (m *Manager) Diagnose(ctx context.Context, id string) (*Diagnosis, error) {
	if err := m.begin(ctx, ActionDiagnose); err != nil {
		return nil, err
	}
	if m.tx != nil {
		err := errors.New("nothing can be diagnosed in a host's own transaction")
		return nil, &Error{Op: string(ActionDiagnose), ID: idOrNone(id), Code: ErrInvalid, Err: err}
	}
	d := &diagnosis{
		Manager: m, ctx: ctx, id: id, now: m.time(), found: &Diagnosis{KeyID: idOrNone(id), At: m.time(), Checks: []Check{}},
	}
	err := d.read()
	if err == nil {
		d.checkKeeping()
		d.checkFormat()
		d.checkPermission()
		d.checkNetwork()
		d.checkLog()
		err = ctx.Err()
	}
	if err != nil {
		err = m.fail(ctx, ActionDiagnose, idOrNone(id), err)
		m.refused(ctx, ActionDiagnose, id, "", err)
		return nil, err
	}
	return d.found.sorted().In(defaultLocale), nil
}

// sorted puts the checks into the order of areas, and sums them up.
func (d *Diagnosis) sorted() *Diagnosis {
	slices.SortStableFunc(d.Checks, func(a, b Check) int {
		return cmp.Compare(slices.Index(areas[:], a.Area), slices.Index(areas[:], b.Area))
	})
	worst := slices.MaxFunc(d.Checks, func(a, b Check) int { return cmp.Compare(badness(a.Status), badness(b.Status)) })
	if d.Status = worst.Status; d.Status == checkSkipped { // it is not worse than nothing
		d.Status = checkOK
	}
	return d
}

func badness(status string) int {
	return slices.Index([]string{checkOK, checkSkipped, checkWarning, checkFailed}, status)
}

// diagnosis is one call of Diagnose on its way.
type diagnosis struct {
	*Manager
	ctx     context.Context
	id      string
	now     time.Time
	rec     *record // nil when it cannot be read
	raw     *Record // nil when the store cannot be asked
	readErr error   // why there is no rec
	logged  bool    // the event is committed
	value   Secret  // of a credential that opened
	found   *Diagnosis
}

// say adds a check. params are names and values in turn.
func (d *diagnosis) say(area, name, status string, code Code, params ...string) *Check {
	c := Check{Area: area, Name: name, Status: status, Code: code, Params: violation("", "", params...).Params}
	d.found.Checks = append(d.found.Checks, c)
	return &d.found.Checks[len(d.found.Checks)-1]
}

// skip says of several checks that they were not made.
func (d *diagnosis) skip(area string, names ...string) {
	for _, name := range names {
		d.say(area, name, checkSkipped, findNotChecked)
	}
}

// read reads the record, asks Authorize, and writes the event. Its errors end the call.
func (d *diagnosis) read() error {
	d.rec, d.raw, d.readErr = d.load(d.ctx, d.id)
	switch {
	case d.ctx.Err() != nil:
		return d.ctx.Err()
	case errors.Is(d.readErr, ErrNotFound):
		return d.readErr
	}
	key := unreadable(d.tenant, d.id)
	if d.readErr == nil {
		d.found.Kind = d.rec.kind
		key = d.rec.key(d.now, d.raw.Uses)
	}
	if err := d.authorize(d.ctx, ActionDiagnose, key); err != nil {
		return err
	}
	err := d.attempts(d.ctx, func() error {
		c := d.newChange(d.ctx, ActionDiagnose, false)
		if c.rec = d.rec; c.rec == nil {
			c.rec = &record{tenant: d.tenant, id: idOrNone(d.id), versions: make([]version, 1)}
		}
		c.event("")
		rows, err := sealEvents(c.roots, c.events...)
		if err != nil {
			return err
		}
		return c.send(Batch{ID: newBatchID(), Expect: []ItemRef{c.roots.trail.ref}, Events: rows})
	})
	if d.logged = err == nil; err != nil {
		d.logFailure(d.ctx, "the event of a diagnosis could not be written: its key's value stays closed", err)
	}
	return nil
}

// days is a length of time as a person counts it.
func days(from, to time.Time) string { return strconv.FormatInt(int64(to.Sub(from)/oneDay), 10) }
