package keycote

import (
	"context"
	"errors"
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
	findWideScopes    finding = "wide_scopes" // for the actor's ceiling
	findAnyNetwork    finding = "any_network"
	findBoundNetworks finding = "bound_networks"  // count
	findWithin        finding = "address_within"  // the networks: the actor's own
	findOutside       finding = "address_outside" // likewise
	findProbeOK       finding = "probe_ok"
	findUsed          finding = "used" // count, last
	findNeverUsed     finding = "never_used"
	findRefusals      finding = "refusals" // count, last, reason
	findNoRefusals    finding = "no_refusals"
	findNoAlerts      finding = "no_alerts" // nobody keeps any yet
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
)

// checkKeeping looks at the seal, at the keyring that the key rests on, and opens the value.
func (d *diagnosis) checkKeeping() {
	switch {
	case d.readErr == nil:
		d.say(areaKeeping, "seal", checkOK, findSealHolds)
	case CodeOf(d.readErr) == ErrTampered:
		d.say(areaKeeping, "seal", checkFailed, findSealBroken)
	default:
		d.unchecked(d.readErr, areaKeeping, "seal")
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
	case err != nil:
		d.sayClosed(err)
	case ring != nil && ring.shredded:
		d.say(areaKeeping, "open", checkFailed, ErrShredded)
	default:
		d.openValue(ring)
	}
	d.keyringAge()
}

// openAnew reads a keyring and has the KEK open it now, whatever is cached: that the KEK answers is what is asked.
func (d *diagnosis) openAnew(tenant, name string) (*keyring, error) {
	items, err := within(d, partStore, func(ctx context.Context) ([]Item, error) {
		return d.store.Items(ctx, ItemQuery{Space: spaceKeyring, Tenant: tenant, Name: name, Limit: 1})
	})
	switch {
	case err != nil:
		return nil, causeOf(err)
	case len(items) == 0:
		return nil, &Error{Code: ErrTampered, Err: errors.New("there is no keyring")}
	}
	return d.openBy(func(ctx context.Context) (*keyring, error) { return d.rings.openData(ctx, items[0], nil) })
}

// openBy asks the KEK. One that has not answered is away.
func (d *diagnosis) openBy(f func(ctx context.Context) (*keyring, error)) (*keyring, error) {
	ring, err := within(d, partKEK, f)
	if errors.Is(err, errLate) {
		err = &Error{Code: ErrUnavailable, Err: err}
	}
	return ring, err
}

// sayClosed says why something did not open.
func (d *diagnosis) sayClosed(err error) {
	found := findNoCheck
	switch code := CodeOf(err); {
	case code == ErrTampered:
		found = ErrTampered
	case code == ErrKEK:
		found = findDoesNotOpen
	case code == ErrUnavailable && !errors.Is(err, errNewer) && d.ctx.Err() == nil:
		found = findNoKEK
	}
	d.say(areaKeeping, "open", checkFailed, found)
	d.logStep(err, "open")
}

// openValue opens the value of a credential, by the one gate. An access key has none: that its keyring opened is all.
func (d *diagnosis) openValue(ring *keyring) {
	if d.rec.kind == KindCredential {
		switch {
		case d.rec.state == StateRevoked:
			d.skip(areaKeeping, "open") // the value was erased
			return
		case !d.logged:
			d.say(areaKeeping, "open", checkFailed, findNoCheck) // the log says why
			return
		}
		value, err := within(d, partStore, func(ctx context.Context) (Secret, error) {
			return d.Manager.open(ctx, d.rec)
		})
		if err != nil {
			d.sayClosed(err)
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
	oldest, err := within(d, partStore, func(ctx context.Context) ([]Record, error) {
		return d.store.List(ctx, Query{Tenant: d.tenant, Filter: Filter{Kind: d.rec.kind}, Now: d.now, Limit: 1})
	})
	if err == nil && len(oldest) == 0 {
		err = errors.New("the store lists no key of the kind")
	}
	if err != nil {
		d.unchecked(err, areaKeeping, "keyring")
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
	broken, err := within(d, partRules, func(ctx context.Context) ([]Violation, error) {
		return d.valid.Validate(ctx, draft)
	})
	if err != nil {
		d.unchecked(err, areaFormat, "rules")
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
		d.say(areaFormat, "age", checkWarning, findOld,
			"days", days(since, d.now), "max", strconv.Itoa(int(oldValue/oneDay)))
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
			d.say(areaPermission, "state", checkFailed, findNoCheck) // the log says why
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
	if d.rec.state == StateRevoked { // whoever asks, it is over
		d.skip(areaPermission, "authorized", "scopes", "networks")
		return
	}
	actions := []Action{ActionUpdate, ActionRotate}
	if d.rec.kind == KindCredential {
		actions = []Action{ActionUse, ActionReveal, ActionUpdate, ActionRotate}
	}
	for _, a := range actions {
		switch may, err := d.may(a); {
		case err != nil:
			d.say(areaPermission, "authorized", checkFailed, findNoCheck, "action", string(a))
			d.logStep(err, "authorized")
		case may:
			d.say(areaPermission, "authorized", checkOK, findMay, "action", string(a))
		default:
			d.say(areaPermission, "authorized", checkWarning, findMayNot, "action", string(a))
		}
	}
	if d.rec.kind == KindCredential { // has neither
		d.skip(areaPermission, "scopes", "networks")
		return
	}
	switch {
	case len(d.rec.scopes) == 0:
		d.say(areaPermission, "scopes", checkWarning, findNoScopes)
	case ceiling(d.ctx, d.rec.scopes) != nil:
		d.say(areaPermission, "scopes", checkWarning, findWideScopes)
	default:
		d.say(areaPermission, "scopes", checkOK, findOK)
	}
	d.checkNetworks()
}

// checkNetworks says from where an access key may be used, and whether the actor is there.
func (d *diagnosis) checkNetworks() {
	n := len(d.rec.networks)
	if n == 0 {
		d.say(areaPermission, "networks", checkOK, findAnyNetwork)
		return
	}
	d.say(areaPermission, "networks", checkOK, findBoundNetworks, "count", strconv.Itoa(n))
	switch actor, _ := ActorFrom(d.ctx); {
	case !actor.Addr.IsValid():
	case allowedFrom(d.rec.networks, actor.Addr):
		d.say(areaPermission, "networks", checkOK, findWithin)
	default:
		d.say(areaPermission, "networks", checkWarning, findOutside)
	}
}

// may asks what the verb would ask: Authorize, and of Rotate the actor's ceiling as well. Update asks for the ceiling
// only where it touches scopes, networks or expiry, which the check of the scopes tells. Use asks of an Actor only.
func (d *diagnosis) may(action Action) (bool, error) {
	if _, ok := ActorFrom(d.ctx); action == ActionUse && !ok || d.opts.Authorize == nil && action != ActionRotate {
		return true, nil
	}
	if action == ActionRotate && ceiling(d.ctx, d.rec.scopes) != nil {
		return false, nil
	}
	key := d.rec.key(d.now, d.raw.Uses)
	refusal, err := within(d, partAuthorize, func(ctx context.Context) (error, error) {
		refusal := d.authorize(ctx, action, key)
		return refusal, ctx.Err() // a rule that ran out of time has refused nothing
	})
	return err == nil && refusal == nil, err
}

// networkSteps are the steps of Options.Inspect.
var networkSteps = []string{"name", "guard", "tcp", "tls", "http"}

// checkNetwork has the endpoint looked at by those who can: this package opens no connection.
func (d *diagnosis) checkNetwork() {
	if d.rec == nil || d.rec.kind != KindCredential {
		d.skip(areaNetwork, networkSteps...)
		d.skip(areaNetwork, "probe")
		return
	}
	endpoint, value := d.rec.endpoint, d.value
	if d.opts.Inspect == nil {
		d.skip(areaNetwork, networkSteps...)
	} else {
		seen, err := within(d, partInspect, func(ctx context.Context) ([]Check, error) {
			return d.opts.Inspect(ctx, endpoint), nil
		})
		if err != nil {
			d.unchecked(err, areaNetwork, networkSteps...)
		} else {
			d.sayInspected(seen)
		}
	}
	use := false
	if d.opts.Prober != nil && !value.IsZero() && d.rec.stateAt(d.now) == StateActive {
		use, _ = d.may(ActionUse)
	}
	if !use {
		d.skip(areaNetwork, "probe")
		return
	}
	began := systemClock()
	_, err := within(d, partProber, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, d.opts.Prober(ctx, endpoint, value)
	})
	var v Violation
	switch {
	case err == nil:
		d.say(areaNetwork, "probe", checkOK, findProbeOK)
	case errors.As(err, &v):
		d.say(areaNetwork, "probe", checkFailed, knownOr(v.Code, codeProbeFailed))
	default:
		d.unchecked(err, areaNetwork, "probe")
	}
	d.found.Checks[len(d.found.Checks)-1].Took = sinceStart(began) // the event tells of it; a use of the key it was not
}

// sayInspected takes over what a host's Inspect says, in the words of this package alone: it was never told the value,
// but the endpoint was. A step that Inspect leaves out was not checked, and one that is none of networkSteps is left
// out.
func (d *diagnosis) sayInspected(seen []Check) {
	for _, name := range networkSteps {
		none := true
		for _, c := range seen {
			if c.Name != name {
				continue
			}
			none = false
			if badness(c.Status) < 0 {
				c.Status = checkFailed
			}
			said := d.say(areaNetwork, name, c.Status, knownOr(c.Code, map[string]Code{
				checkOK: findOK, checkSkipped: findNotChecked, checkWarning: findNoCheck, checkFailed: findNoCheck,
			}[c.Status]))
			said.Took, said.Params = c.Took, knownParams(said.Code, c.Params, d.value)
		}
		if none {
			d.skip(areaNetwork, name)
		}
	}
}

// knownOr returns code, or other when the catalogue has no sentence for it: a host's code may hold anything.
func knownOr(code, other Code) Code {
	if _, ok := catalogues().list[0].text["finding."+string(code)]; ok {
		return code
	}
	return other
}

// knownParams returns those of params that the sentence of code has a place for: numbers, as all that a step of the
// network finds, and not the value, which may be one.
func knownParams(code Code, params map[string]string, value Secret) map[string]string {
	var known map[string]string
	sentence := catalogues().list[0].text["finding."+string(code)]
	for name, p := range params {
		_, err := strconv.ParseInt(p, 10, 32)
		if err != nil || !placeholderOK(name) || !strings.Contains(sentence, "{"+name+"}") || p == value.Reveal() {
			continue
		}
		if known == nil {
			known = map[string]string{}
		}
		known[name] = p
	}
	return known
}
