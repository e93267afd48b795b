package keyhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/keycote/keycote"
)

// Options says where a key and its client's address are found. The zero Options, and a nil one, are safe: X-API-Key
// beside Bearer, no proxy believed, a key required.
type Options struct {
	// Header carries a key without a scheme, beside Bearer. "" is X-API-Key; "Authorization" leaves Bearer alone.
	Header string

	// TrustedProxies are the networks whose word on where a request came from is taken. Nobody's, when it is empty: the
	// client is then the peer. Each prefix must have its host bits clear, and none may be everybody (a length of 0).
	TrustedProxies []netip.Prefix

	// ForwardedHeader is the header in which trusted proxies say where a request came from: "" is X-Forwarded-For,
	// "Forwarded" is read after RFC 7239, and any other holds one address, or several separated by commas. This one alone
	// is read, whatever else a request brings. A proxy that does not set it passes on what its client made up, so name the
	// one that every trusted proxy adds to or overwrites.
	ForwardedHeader string

	Realm    string // in challenges; "": api
	Optional bool   // a request without a key passes, without a Grant; one with a wrong key is refused nevertheless

	// Tenant says to which tenant a request belongs (by its host name, path or a header), and only that tenant's keys are
	// let through. An empty or malformed name is refused like an unknown key. So is an error, since a stranger must not
	// learn which tenants there are; one that matches [keycote.ErrUnavailable], or that the context ended, gives 503. It
	// is asked only when there is a key. What its error says is not logged: it may quote the request.
	Tenant func(*http.Request) (string, error)

	// Logger is told why a request was answered with a status of 500 or more, and what is wrong with the Options. nil:
	// silent.
	Logger *slog.Logger
}

// Require returns middleware that lets a request through when it presents one access key that m verifies, for all of
// scopes. The handler finds the [keycote.Grant] by [FromContext]. Each pass is one use of the key; nested Requires are
// each asked.
//
// A key is presented as "Authorization: Bearer <key>" or in Options.Header, and whole: what a proxy has joined by
// commas is no key. Two of any kind are refused, lest one be checked here and another one further in. Other schemes of
// Authorization are not looked at.
//
// It refuses as [WriteError] does: 401 without a key, with two, and with one that is not good, all of them equal to the
// byte; 403 naming the route's scopes when the key has not all of them; 429; and 503 when nobody can say. A key that a
// newer version has superseded is answered with Deprecation and Sunset fields (RFC 9745, RFC 8594), one with a Limit
// with RateLimit fields. An answer to a key out of Options.Header is marked private, unless the handler says otherwise:
// shared caches keep that rule by themselves for Authorization alone.
//
// The route in the use log is the pattern by which a mux has found the handler: wrap handlers rather than the mux,
// which has not routed yet when Require is asked.
//
// What cannot be meant (no Manager, a scope that no key can be granted or that has a wildcard, a malformed header or
// network) lets nothing through: the Logger is told at once, and every request is answered with 500. opts is copied,
// and may be nil. The middleware and its handlers are safe for concurrent use.
func Require(m *keycote.Manager, opts *Options, scopes ...string) func(http.Handler) http.Handler {
	g := newGate(m, opts, scopes)
	return func(next http.Handler) http.Handler { return &gated{g, next} }
}

// FromContext returns the Grant of the request that ctx belongs to, and false when it came without a key. It is
// [keycote.GrantFrom], so [keycote.WithGrant] makes a context for a handler's unit test.
func FromContext(ctx context.Context) (keycote.Grant, bool) { return keycote.GrantFrom(ctx) }

// Scopes returns what Require asks of a key before h runs, each scope once; of nested Requires, all of them. It is
// false when h can be reached without a key: h was not made by Require, or with Options that are Optional; and when it
// was made with Options or scopes that cannot be meant, and never runs at all. Empty and true means any key.
//
// It sees h itself, not through other wrappers, so Require belongs outermost. A test finds the handler of a route by
// [http.ServeMux.Handler].
func Scopes(h http.Handler) ([]string, bool) {
	scopes, required := []string{}, false
	for g, ok := h.(*gated); ok; g, ok = g.next.(*gated) {
		if g.fault != nil {
			return nil, false
		}
		required = required || !g.optional
		for _, s := range g.scopes {
			if !slices.Contains(scopes, s) {
				scopes = append(scopes, s)
			}
		}
	}
	if !required {
		return nil, false
	}
	return scopes, true
}

// gate is what one Require asks.
type gate struct {
	keys     *keycote.Manager
	scopes   []string
	header   string // in canonical form; "" when Bearer is the only way
	proxies  proxies
	optional bool
	tenant   func(*http.Request) (string, error)
	log      *slog.Logger
	says     challenges
	private  []string // one slice for all answers: it is full, so that whoever adds to a header gets a copy
	fault    error    // what is wrong with all this; then nothing passes
}

func newGate(m *keycote.Manager, opts *Options, scopes []string) *gate {
	var o Options
	if opts != nil {
		o = *opts
	}
	g := &gate{keys: m, scopes: slices.Clone(scopes), optional: o.Optional, tenant: o.Tenant, log: o.Logger}
	g.private = []string{"private"}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	var faults [4]error
	g.header, faults[0] = credentialHeader(o.Header)
	g.proxies, faults[1] = newProxies(o.TrustedProxies, o.ForwardedHeader)
	g.says, faults[2] = newChallenges(o.Realm, scopes)
	switch {
	case m == nil:
		faults[3] = errors.New("there is no Manager")
	case g.header == g.proxies.header:
		faults[3] = errors.New("keys and addresses cannot come in one header")
	}
	if g.fault = errors.Join(faults[:]...); g.fault != nil {
		g.log.Error("keyhttp: Require lets nothing through: it was given what cannot be meant", "error", g.fault)
	}
	return g
}

// gated is a handler behind a gate.
type gated struct {
	*gate
	next http.Handler
}

func (h *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.fault != nil || h.next == nil {
		h.refuse(w, r, errors.Join(h.fault, errors.New("nothing passes here")))
		return
	}
	token, from := h.credential(r)
	if from == nowhere && h.optional {
		h.next.ServeHTTP(w, r)
		return
	}
	grant, err := h.verify(r, token, from)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	if from == inHeader {
		w.Header()["Cache-Control"] = h.private
	}
	setLimits(w.Header(), grant.Limits())
	if grant.Superseded {
		supersede(w.Header(), grant)
	}
	h.next.ServeHTTP(w, r.WithContext(keycote.WithGrant(r.Context(), grant)))
}

// verify asks the Manager, or the tenant's view of it. What it refuses by itself looks like an unknown key.
func (g *gate) verify(r *http.Request, token string, from carrier) (keycote.Grant, error) {
	if from == nowhere || from == several {
		return keycote.Grant{}, keycote.ErrUnauthenticated
	}
	keys := g.keys
	if g.tenant != nil {
		name, err := g.tenant(r)
		switch {
		case errors.Is(err, keycote.ErrUnavailable), ended(err):
			return keycote.Grant{}, keycote.ErrUnavailable
		case err != nil, name == "":
			return keycote.Grant{}, keycote.ErrUnauthenticated
		}
		keys = keys.Tenant(name)
	}
	grant, err := keys.Verify(r.Context(), token, keycote.Request{
		Scopes: g.scopes, Addr: g.proxies.client(r), Route: r.Pattern, UserAgent: r.UserAgent(),
	})
	switch invalid := errors.Is(err, keycote.ErrInvalid); {
	case invalid && g.tenant != nil: // the name is malformed, so there is no such tenant
		err = keycote.ErrUnauthenticated
	case invalid: // a mistake of the host's, and not of the request's
		err = fmt.Errorf("the Manager is a view of no tenant: %v", err)
	}
	return grant, err
}

func (g *gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if status := writeError(w, r, err, g.says); status >= http.StatusInternalServerError {
		g.log.LogAttrs(r.Context(), slog.LevelError, "keyhttp: a request could not be judged",
			slog.String("route", r.Pattern), slog.Int("status", status), slog.Any("error", err))
	}
}

// supersede says that a newer version of the key exists: since when, and when this one ends.
func supersede(h http.Header, grant keycote.Grant) {
	for _, v := range grant.Key().Versions {
		if v.Number > grant.Version {
			h.Set("Deprecation", "@"+strconv.FormatInt(v.CreatedAt.Unix(), 10))
			break
		}
	}
	if !grant.ExpiresAt.IsZero() {
		h.Set("Sunset", grant.ExpiresAt.UTC().Truncate(time.Second).Format(http.TimeFormat))
	}
}
