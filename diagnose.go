package keycote

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
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

	StatusTitle string `json:"statusTitle,omitempty"` // Status in words, as those of a Check
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
	AreaTitle   string `json:"areaTitle,omitempty"`
	StatusTitle string `json:"statusTitle,omitempty"`
	Title       string `json:"title,omitempty"`
	Text        string `json:"text,omitempty"`
	Advice      string `json:"advice,omitempty"` // what to do about it; empty when there is nothing to do
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
	out.StatusTitle = c.text["status."+d.Status]
	out.Checks = slices.Clone(d.Checks)
	for i := range out.Checks {
		k := &out.Checks[i]
		params := c.params(k.Params)
		k.AreaTitle, k.StatusTitle = c.text["area."+k.Area], c.text["status."+k.Status]
		k.Title = c.text["check."+k.Name]
		k.Text = fill(cmp.Or(c.text["finding."+string(k.Code)], c.text["finding."+string(findNoCheck)]), params)
		k.Advice = ""
		if k.Status == checkWarning || k.Status == checkFailed {
			k.Advice = fill(c.text["advice."+string(k.Code)], params)
		}
	}
	return &out
}

// params says in words what stands in a Check's Params as a word for programs.
func (c *catalogue) params(params map[string]string) map[string]string {
	params = maps.Clone(params)
	for name, value := range params {
		switch name {
		case "fields":
			params[name] = c.fields(value)
		case "state", "action":
			params[name] = cmp.Or(c.text[name+"."+value], value)
		case "reason": // a code, and some are states
			params[name] = cmp.Or(c.text["reason."+value], c.text["state."+value], value)
		}
	}
	return params
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
// strong it is, never without that event; and Options.Prober presents it to its own endpoint, which counts as no use
// and is left out when the actor may not use the key. Nothing else is changed.
//
// What hangs holds up no report: the store, the KEK and the host's rules have 5 seconds for each question,
// Options.Inspect and Options.Prober have 10, and none of them more than a third of what is left until ctx's deadline.
// What has not answered by then could not be checked, and is not asked again in this call. Each of them is called in a
// goroutine of its own: one that ignores its context goes on in the background until it returns. One that panics could
// not be checked either; the log tells of the panic, without the value.
//
// It fails with [ErrNotFound]; with [ErrForbidden] when Authorize refuses; with [ErrInvalid] in a host's own
// transaction, where a rollback would take its event away; and with [ErrUnavailable] only when ctx has ended before the
// event was written. After that the report tells what was found until then.
func (m *Manager) Diagnose(ctx context.Context, id string) (*Diagnosis, error) {
	first, cancel := context.WithTimeout(ctx, patience(ctx, partStore))
	defer cancel()
	if err := m.begin(first, ActionDiagnose); err != nil { // which may read the root keyrings
		return nil, err
	}
	if m.tx != nil {
		err := errors.New("nothing can be diagnosed in a host's own transaction")
		return nil, &Error{Op: string(ActionDiagnose), ID: idOrNone(id), Code: ErrInvalid, Err: err}
	}
	d := &diagnosis{
		Manager: m, ctx: ctx, id: id, now: m.time(), late: map[part]bool{},
		found: &Diagnosis{KeyID: idOrNone(id), At: m.time(), Checks: []Check{}},
	}
	err := d.read()
	if err == nil {
		d.checkKeeping()
		d.checkFormat()
		d.checkPermission()
		d.checkNetwork()
		d.checkLog()
		if !d.logged {
			err = ctx.Err()
		}
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
	late    map[part]bool
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

// unchecked says of several checks that they could not be made.
func (d *diagnosis) unchecked(err error, area string, names ...string) {
	for _, name := range names {
		d.say(area, name, checkFailed, findNoCheck)
	}
	d.logStep(err, names...)
}

// logStep logs why steps failed: a report tells no more than a code.
func (d *diagnosis) logStep(err error, names ...string) {
	d.log.LogAttrs(d.ctx, slog.LevelError, "keycote: a step of a diagnosis failed", slog.String("key", idOrNone(d.id)),
		slog.String("step", strings.Join(names, ", ")), slog.Any("error", withheld(err, d.value)))
}

// read reads the record, asks Authorize, and writes the event. Its errors end the call.
func (d *diagnosis) read() error {
	type loaded struct {
		rec *record
		raw *Record
	}
	found, err := within(d, partStore, func(ctx context.Context) (l loaded, err error) {
		l.rec, l.raw, err = d.load(ctx, d.id)
		return l, err
	})
	d.rec, d.raw, d.readErr = found.rec, found.raw, err
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
	_, err = within(d, partStore, func(ctx context.Context) (struct{}, error) { return struct{}{}, d.writeEvent(ctx) })
	if d.logged = err == nil; err != nil {
		d.logFailure(d.ctx, "the event of a diagnosis could not be written: its key's value stays closed", err)
	}
	return nil
}

func (d *diagnosis) writeEvent(ctx context.Context) error {
	return d.attempts(ctx, func() error {
		c := d.newChange(ctx, ActionDiagnose, false)
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
}

// days is a length of time as a person counts it.
func days(from, to time.Time) string { return strconv.FormatInt(int64(to.Sub(from)/oneDay), 10) }
