package keycote

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// finding is what a Check found: a Code of the catalogue's "finding.", beside the codes of errors.
type finding = Code

const (
	findOK            finding = "ok"
	findRulesBroken   finding = "rules_broken" // fields
	findWeak          finding = "weak"         // score, min
	findOld           finding = "old"          // days, max
	findNeverRotated  finding = "never_rotated"
	findNotActive     finding = "not_active"   // state
	findExpiresSoon   finding = "expires_soon" // days
	findMay           finding = "may"          // action
	findMayNot        finding = "may_not"      // action
	findNoScopes      finding = "no_scopes"
	findAnyNetwork    finding = "any_network"
	findBoundNetworks finding = "bound_networks" // count
	findProbeOK       finding = "probe_ok"
	findUsed          finding = "used" // count
	findNeverUsed     finding = "never_used"
	findRefusals      finding = "refusals" // count, reason
	findNoRefusals    finding = "no_refusals"
	findOpens         finding = "opens"
	findOpensRetired  finding = "opens_retired"
	findDoesNotOpen   finding = "does_not_open"
	findSealHolds     finding = "seal_holds"
	findSealBroken    finding = "seal_broken"
	findKeyringAge    finding = "keyring_age" // days, at least
	findNoKEK         finding = "kek_unavailable"
	findNotChecked    finding = "not_checked"
	findNoCheck       finding = "could_not_check"
)

const (
	oneDay = 24 * time.Hour

	oldValue   = 90 * oneDay  // after which a value should be rotated
	oldKeyring = 730 * oneDay // after which a keyring should get a new key
	nearExpiry = 14 * oneDay
	logSpan    = 7 * oneDay // that the log's checks look back
	logPages   = 10         // of usage rows that they read at most
)

// checkKeeping looks at the seal, at the keyring that the key rests on, and opens the value.
func (d *diagnosis) checkKeeping() {
	switch {
	case d.readErr == nil:
		d.say(areaKeeping, "seal", checkOK, findSealHolds)
	case CodeOf(d.readErr) == ErrTampered:
		d.say(areaKeeping, "seal", checkFailed, findSealBroken)
	default:
		d.say(areaKeeping, "seal", checkFailed, findNoCheck)
	}
	if d.rec == nil {
		d.skip(areaKeeping, "open", "keyring")
		return
	}
	name, tenant := ringIndex, ""
	if d.rec.kind == KindCredential {
		name, tenant = ringData, d.tenant
	}
	switch ring, err := d.openAnew(tenant, name); {
	case err != nil && CodeOf(err) == ErrTampered:
		d.say(areaKeeping, "open", checkFailed, findDoesNotOpen)
	case err != nil && (CodeOf(err) == ErrKEK || CodeOf(err) == ErrUnavailable):
		d.say(areaKeeping, "open", checkFailed, findNoKEK)
	case err != nil:
		d.say(areaKeeping, "open", checkFailed, findNoCheck)
	case ring != nil && ring.shredded:
		d.say(areaKeeping, "open", checkFailed, ErrShredded)
	default:
		d.openValue(ring)
	}
	d.keyringAge()
}

// openAnew reads a keyring and has the KEK open it now, whatever is cached: that the KEK answers is what is asked.
func (d *diagnosis) openAnew(tenant, name string) (*keyring, error) {
	items, err := d.store.Items(d.ctx, ItemQuery{Space: spaceKeyring, Tenant: tenant, Name: name, Limit: 1})
	switch {
	case err != nil:
		return nil, causeOf(err)
	case len(items) == 0:
		return nil, &Error{Code: ErrTampered, Err: errors.New("there is no keyring")}
	}
	return d.rings.openData(d.ctx, items[0], nil)
}

// openValue opens the value of a credential, by the one gate. An access key has none: that its keyring opened is all.
func (d *diagnosis) openValue(ring *keyring) {
	if d.rec.kind == KindCredential {
		switch {
		case d.rec.state == StateRevoked:
			d.skip(areaKeeping, "open") // the value was erased
			return
		case !d.logged:
			d.say(areaKeeping, "open", checkFailed, findNoCheck)
			return
		}
		value, err := d.Manager.open(d.ctx, d.rec)
		if err != nil {
			code := findDoesNotOpen
			if CodeOf(err) != ErrTampered {
				code = findNoCheck
			}
			d.say(areaKeeping, "open", checkFailed, code)
			return
		}
		d.value = value
	}
	if ring.proof.kek != d.rings.keks.primary.ID() {
		d.say(areaKeeping, "open", checkWarning, findOpensRetired)
		return
	}
	d.say(areaKeeping, "open", checkOK, findOpens)
}

// keyringAge says since when the keyring has been in use, at least: a keyring has no date of its own, and its tenant's
// oldest key of the kind does.
func (d *diagnosis) keyringAge() {
	oldest, err := d.store.List(d.ctx, Query{
		Tenant: d.tenant, Filter: Filter{Kind: d.rec.kind}, Now: d.now, Limit: 1,
	})
	if err != nil || len(oldest) == 0 {
		d.say(areaKeeping, "keyring", checkFailed, findNoCheck)
		return
	}
	status := checkOK
	if d.now.Sub(oldest[0].CreatedAt) > oldKeyring {
		status = checkWarning
	}
	d.say(areaKeeping, "keyring", status, findKeyringAge, "days", days(oldest[0].CreatedAt, d.now))
}

// checkFormat holds the key against the rules of today, which may be stricter than those that it was made under.
func (d *diagnosis) checkFormat() {
	if d.rec == nil {
		d.skip(areaFormat, "rules", "strength", "age")
		return
	}
	draft := (&change{Manager: d.Manager, ctx: d.ctx, now: d.now, rec: d.rec}).draft(d.value)
	if !draft.ExpiresAt.After(d.now) {
		draft.ExpiresAt = time.Time{} // that it has expired is said by its state
	}
	broken, err := d.valid.Validate(d.ctx, draft)
	if err != nil {
		d.say(areaFormat, "rules", checkFailed, findNoCheck)
		d.skip(areaFormat, "strength")
	} else {
		d.sayRules(broken)
	}
	since := d.rec.current().createdAt
	switch {
	case d.now.Sub(since) <= oldValue:
		d.say(areaFormat, "age", checkOK, findOK)
	case d.rec.current().number == 1:
		d.say(areaFormat, "age", checkWarning, findNeverRotated, "days", days(since, d.now))
	default:
		d.say(areaFormat, "age", checkWarning, findOld, "days", days(since, d.now), "max", strconv.Itoa(int(oldValue/oneDay)))
	}
}

func (d *diagnosis) sayRules(broken []Violation) {
	var fields []string
	var weak *Violation
	for i, v := range broken {
		switch {
		case v.Code == ErrWeak:
			weak = &broken[i]
		case v.Field == fieldExpiresAt && v.Code == codeRequired && d.rec.current().expiresAt.Before(d.now) &&
			!d.rec.current().expiresAt.IsZero():
			// it has one, and it is over
		case !slices.Contains(fields, v.Field):
			fields = append(fields, v.Field)
		}
	}
	if len(fields) > 0 {
		d.say(areaFormat, "rules", checkFailed, findRulesBroken, "fields", strings.Join(fields, ", "))
	} else {
		d.say(areaFormat, "rules", checkOK, findOK)
	}
	switch {
	case d.value.IsZero(): // nobody has the value of an access key
		d.skip(areaFormat, "strength")
	case weak != nil:
		d.say(areaFormat, "strength", checkWarning, findWeak, "score", weak.Params["score"], "min", weak.Params["min"])
	default:
		d.say(areaFormat, "strength", checkOK, findOK)
	}
}

// checkPermission says whether the key works at all, and what the calling actor may do with it.
func (d *diagnosis) checkPermission() {
	if d.rec == nil {
		if d.raw != nil {
			d.say(areaPermission, "state", checkFailed, findNotActive, "state", string(StateUnreadable))
		} else {
			d.say(areaPermission, "state", checkFailed, findNoCheck)
		}
		d.skip(areaPermission, "authorized", "scopes", "networks")
		return
	}
	expires := d.rec.current().expiresAt
	switch state := d.rec.stateAt(d.now); {
	case state != StateActive:
		d.say(areaPermission, "state", checkFailed, findNotActive, "state", string(state))
	case !expires.IsZero() && expires.Sub(d.now) < nearExpiry:
		d.say(areaPermission, "state", checkWarning, findExpiresSoon, "days", days(d.now, expires))
	default:
		d.say(areaPermission, "state", checkOK, findOK)
	}
	actions := []Action{ActionUpdate, ActionRotate}
	if d.rec.kind == KindCredential {
		actions = []Action{ActionUse, ActionReveal, ActionUpdate, ActionRotate}
	}
	for _, a := range actions {
		if d.may(a) {
			d.say(areaPermission, "authorized", checkOK, findMay, "action", string(a))
		} else {
			d.say(areaPermission, "authorized", checkWarning, findMayNot, "action", string(a))
		}
	}
	if d.rec.kind == KindCredential { // has neither
		d.skip(areaPermission, "scopes", "networks")
		return
	}
	if len(d.rec.scopes) == 0 {
		d.say(areaPermission, "scopes", checkWarning, findNoScopes)
	} else {
		d.say(areaPermission, "scopes", checkOK, findOK)
	}
	if n := len(d.rec.networks); n == 0 {
		d.say(areaPermission, "networks", checkOK, findAnyNetwork)
	} else {
		d.say(areaPermission, "networks", checkOK, findBoundNetworks, "count", strconv.Itoa(n))
	}
}

// may asks Authorize as the verb would. Use asks it of an Actor only.
func (d *diagnosis) may(action Action) bool {
	if _, ok := ActorFrom(d.ctx); action == ActionUse && !ok {
		return true
	}
	return d.authorize(d.ctx, action, d.rec.key(d.now, d.raw.Uses)) == nil
}

// checkNetwork has the endpoint looked at by those who can: this package opens no connection.
func (d *diagnosis) checkNetwork() {
	steps := []string{"name", "guard", "tcp", "tls", "http"}
	if d.rec == nil || d.rec.kind != KindCredential {
		d.skip(areaNetwork, append(steps, "probe")...)
		return
	}
	if d.opts.Inspect == nil {
		d.skip(areaNetwork, steps...)
	} else {
		for _, c := range d.opts.Inspect(d.ctx, d.rec.endpoint) {
			c.Area = areaNetwork
			if badness(c.Status) < 0 {
				c.Status = checkFailed
			}
			d.found.Checks = append(d.found.Checks, d.withheld(c))
		}
	}
	if d.opts.Prober == nil || d.value.IsZero() || d.rec.stateAt(d.now) != StateActive || !d.may(ActionUse) {
		d.skip(areaNetwork, "probe")
		return
	}
	began := systemClock()
	err := d.opts.Prober(d.ctx, d.rec.endpoint, d.value)
	took := sinceStart(began)
	var v Violation
	var c *Check
	switch {
	case err == nil:
		c = d.say(areaNetwork, "probe", checkOK, findProbeOK)
	case errors.As(err, &v):
		c = d.say(areaNetwork, "probe", checkFailed, cmp.Or(v.Code, codeProbeFailed))
	default:
		c = d.say(areaNetwork, "probe", checkFailed, findNoCheck)
	}
	c.Took = took // the event that is written tells of it; a use of the key it was not
}

// withheld takes the value out of what a host's Inspect says, which was never told it, but whose endpoint was.
func (d *diagnosis) withheld(c Check) Check {
	c.Title, c.Text, c.Advice = "", "", ""
	v := tidied(Violation{Code: c.Code, Params: c.Params}, d.value)
	c.Code, c.Params = v.Code, v.Params
	return c
}

// checkLog sums up the use log of the last days: what is in memory is written first.
func (d *diagnosis) checkLog() {
	if err := d.Flush(d.ctx); err != nil {
		d.logFailure(d.ctx, "the use log could not be written, and will be tried again", err)
	}
	counts := map[Code]int64{}
	q := UsageQuery{Tenant: d.tenant, KeyID: d.id, Since: d.now.Add(-logSpan), Limit: 1000}
	more := ""
	for page := 0; ; page++ {
		if page == logPages {
			more = "+"
			break
		}
		rows, err := d.store.Usage(d.ctx, q)
		if err != nil {
			d.say(areaLog, "successes", checkFailed, findNoCheck)
			d.say(areaLog, "refusals", checkFailed, findNoCheck)
			return
		}
		for _, r := range rows {
			counts[r.Outcome] += r.N
		}
		if len(rows) < q.Limit {
			break
		}
		q.After = rows[len(rows)-1]
	}
	used := d.rec != nil && !d.rec.key(d.now, d.raw.Uses).LastUsedAt.IsZero()
	switch n := counts[""]; {
	case n > 0 || used:
		d.say(areaLog, "successes", checkOK, findUsed, "count", strconv.FormatInt(n, 10)+more)
	default:
		d.say(areaLog, "successes", checkWarning, findNeverUsed)
	}
	delete(counts, "")
	if len(counts) == 0 {
		d.say(areaLog, "refusals", checkOK, findNoRefusals)
	}
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		d.say(areaLog, "refusals", checkWarning, findRefusals,
			"count", strconv.FormatInt(counts[code], 10)+more, "reason", string(code))
	}
}
