package keyhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keycote/keycote"
)

// Options says where a key and its client's address are found. The zero Options, and a nil one, are safe: X-API-Key
// beside Bearer, no proxy believed, a key required.
type Options struct {
	// Header carries a key without a scheme, beside Bearer. "" is X-API-Key; "Authorization" leaves Bearer alone. Cookie,
	// Host and what belongs to one connection (Connection, Proxy-Authorization, Upgrade, ...) are no such headers.
	Header string

	// TrustedProxies are the addresses of the proxies themselves, whose word on where a request came from is taken.
	// Nobody's, when it is empty: the client is then the peer. Never name a network with clients in it: each of them could
	// say that it is anywhere. Of a request that came by trusted addresses alone the client is the first of them: a proxy
	// that asks for itself. Each prefix must have its host bits clear, and none may be everybody (a length of 0).
	TrustedProxies []netip.Prefix

	// ForwardedHeader is the header in which trusted proxies say where a request came from: "" is X-Forwarded-For,
	// "Forwarded" is read after RFC 7239, and any other holds one address, or several separated by commas. This one alone
	// is read, whatever else a request brings. A proxy that does not set it passes on what its client made up, so name the
	// one that every trusted proxy adds to or overwrites. Authorization and what cannot be Header are no such headers.
	ForwardedHeader string

	Realm string // in challenges; "": api

	// Optional lets a request without a key pass, and adds no Grant: that of a Require around this one stays. A request
	// with a wrong key is refused nevertheless. Every answer gets a Vary field with the headers of keys, so that no cache
	// serves one to the other: handlers add to it, and do not set it anew.
	Optional bool

	// Tenant says to which tenant a request belongs (by its host name, path or a header), and only that tenant's keys are
	// let through. The Manager must not be a view of one tenant. Tenant is asked only when there is a key.
	//
	// An error, an empty and a malformed name are refused like an unknown key, since a stranger must not learn which
	// tenants there are; nor from the clock, so that the key is looked up as for any tenant, in one of the name
	// "keyhttp:no-such-tenant". Its refusals are counted under that name, and no key of such a tenant is let through. With
	// a cache (MaxStale) return the name even of a tenant that you do not know: what is remembered of refusals is then
	// remembered for each name alike.
	//
	// An error that matches [keycote.ErrUnavailable], or that the context ended, gives 503. What an error says is not
	// logged: it may quote the request.
	Tenant func(*http.Request) (string, error)

	// Logger is told why requests were answered with a status of 500 or more, in one line a second at most, and what is
	// wrong with the Options. That a client has hung up is said at the level of debugging. nil: silent, but for what
	// Require itself was given and cannot be meant: a program that never works says so at its start, to [slog.Default].
	Logger *slog.Logger
}

// noTenant stands for a tenant that does not exist.
const noTenant = "keyhttp:no-such-tenant"

// Require returns middleware that lets a request through when it presents one access key that m verifies, for all of
// scopes. The handler finds the [keycote.Grant] by [FromContext]. Each pass is one use of the key; nested Requires are
// each asked.
//
// A key is presented as "Authorization: Bearer <key>" or in Options.Header, and whole: what a proxy has joined by
// commas is no key. Two of any kind are refused, lest one be checked here and another one further in. An empty header is
// a wrong key, and so is an Authorization in which Bearer is misspelt or stands behind another scheme; other schemes
// alone are no key.
//
// It refuses as [WriteError] does: 401 without a key, with two, and with one that is not good, all of them equal to the
// byte; 403 naming the route's scopes when the key has not all of them; 429; and 503 when nobody can say. A key that a
// newer version has superseded is answered with Deprecation and Sunset fields (RFC 9745, RFC 8594), one with a Limit
// with RateLimit fields. An answer to a key out of Options.Header is marked private, unless a Cache-Control is there
// already or the handler says otherwise: shared caches keep that rule by themselves for Authorization alone. Refusals are
// counted in the use log, those of requests without a key by their address.
//
// The route in the use log is the pattern by which a mux has found the handler: wrap handlers rather than the mux,
// which has not routed yet when Require is asked.
//
// What cannot be meant lets nothing through: no Manager, one that was not made by New, or a view of one tenant beside
// Options.Tenant; a scope that no key can be granted or that has a wildcard; a malformed header or network. The Logger,
// or [slog.Default] where there is none, is told all of it at once, and every request is answered with 500.
//
// opts is copied, and may be nil. The middleware and its handlers are safe for concurrent use.
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
	vary     []string // likewise; nil when a key is required
	fault    error    // what is wrong with all this; then nothing passes
	untold   atomic.Int64
	told     atomic.Int64 // when the Logger last was, in microseconds; 0: never
}

func newGate(m *keycote.Manager, opts *Options, scopes []string) *gate {
	var o Options
	if opts != nil {
		o = *opts
	}
	g := &gate{keys: m, scopes: slices.Clone(scopes), optional: o.Optional, tenant: o.Tenant, log: o.Logger}
	g.private = []string{"private"}
	var faults [5]error
	g.header, faults[0] = credentialHeader(o.Header)
	g.proxies, faults[1] = newProxies(o.TrustedProxies, o.ForwardedHeader)
	g.says, faults[2] = newChallenges(o.Realm, scopes)
	if g.header == g.proxies.header && faults[0] == nil && faults[1] == nil {
		faults[3] = errors.New("keys and addresses cannot come in one header")
	}
	if faults[4] = usable(m); faults[4] == nil && g.tenant != nil && usable(m.Tenant(noTenant)) != nil {
		faults[4] = errors.New("the Manager is a view of one tenant, and Options.Tenant chooses among them")
	}
	if g.optional {
		g.vary = []string{strings.TrimSuffix(authorization+", "+g.header, ", ")}
	}
	g.fault = errors.Join(faults[:]...)
	if g.fault != nil {
		if g.log == nil {
			g.log = slog.Default() //house:allow print at its start alone: nothing else says why each request is a 500
		}
		g.log.Error("keyhttp: Require lets nothing through: it was given what cannot be meant", "error", g.fault)
	}
	if o.Logger == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	return g
}

// usable returns why no call on m can succeed, or nil. It reads nothing, and leaves no trace: a call on a view that
// can finds that the store is away, and on any other it is refused before. A Manager that New has not made has nothing
// inside, and panics.
func usable(m *keycote.Manager) (fault error) {
	if m == nil {
		return errors.New("there is no Manager")
	}
	defer func() {
		if recover() != nil {
			fault = errors.New("the Manager was not made by keycote.New")
		}
	}()
	view, _ := m.In(nowhereStore{})
	if _, err := view.Get(context.Background(), ""); !errors.Is(err, keycote.ErrUnavailable) {
		return errors.New("the Manager is a view of no tenant")
	}
	return nil
}

type nowhereStore struct{ keycote.Store }

func (nowhereStore) Get(context.Context, string, string) (keycote.Record, error) {
	return keycote.Record{}, keycote.ErrUnavailable
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
		h.addVary(w.Header())
		h.next.ServeHTTP(w, r)
		return
	}
	grant, err := h.verify(r, token, from)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	if h.untold.Load() > 0 { // the rest of an outage
		h.tell(r.Context())
	}
	if h.optional {
		h.addVary(w.Header())
	}
	if header := w.Header(); from == inHeader && header["Cache-Control"] == nil {
		header["Cache-Control"] = h.private
	}
	setLimits(w.Header(), grant.Limits())
	if grant.Superseded {
		supersede(w.Header(), grant)
	}
	h.next.ServeHTTP(w, r.WithContext(keycote.WithGrant(r.Context(), grant)))
}

func (g *gate) addVary(h http.Header) {
	if h["Vary"] == nil {
		h["Vary"] = g.vary
		return
	}
	h["Vary"] = append(h["Vary"], g.vary...)
}

// verify asks the Manager, or the tenant's view of it. What is refused here looks like an unknown key, and takes the time
// of one: it is refused by the Manager, which counts it.
func (g *gate) verify(r *http.Request, token string, from carrier) (keycote.Grant, error) {
	ctx, want := r.Context(), keycote.Request{
		Scopes: g.scopes, Addr: g.proxies.client(r), Route: r.Pattern, UserAgent: r.UserAgent(),
	}
	if from == nowhere || from == several {
		_, _ = g.keys.Verify(ctx, "", want)
		return keycote.Grant{}, keycote.ErrUnauthenticated
	}
	if g.tenant == nil {
		return g.keys.Verify(ctx, token, want)
	}
	name, err := g.tenant(r)
	switch {
	case errors.Is(err, keycote.ErrUnavailable), ended(err):
		return keycote.Grant{}, keycote.ErrUnavailable
	case err == nil && name != noTenant:
		grant, err := g.keys.Tenant(name).Verify(ctx, token, want)
		if !errors.Is(err, keycote.ErrInvalid) { // else the name is malformed, so there is no such tenant
			return grant, err
		}
	}
	if _, err = g.keys.Tenant(noTenant).Verify(ctx, token, want); !errors.Is(err, keycote.ErrUnavailable) {
		err = keycote.ErrUnauthenticated
	}
	return keycote.Grant{}, err
}

func (g *gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := writeError(w, r, err, g.says)
	if status < http.StatusInternalServerError {
		return
	}
	what := []slog.Attr{slog.String("route", r.Pattern), slog.Int("status", status), slog.Any("error", err)}
	if errors.Is(r.Context().Err(), context.Canceled) { // anybody can hang up, as often as he likes
		g.log.LogAttrs(r.Context(), slog.LevelDebug, "keyhttp: a client has gone before its request was judged", what...)
		return
	}
	g.untold.Add(1)
	g.tell(r.Context(), what...)
}

// tellEvery is how often the Logger is told of requests that could not be judged: a log with a line for each would be an
// outage of its own.
const tellEvery = time.Second

// tell tells of those that were not told of yet, and of the last one what there is to say.
func (g *gate) tell(ctx context.Context, what ...slog.Attr) {
	now := time.Now().UnixMicro() //house:allow clock it paces a log, and judges nothing
	told := g.told.Load()
	if told != 0 && now >= told && now-told < tellEvery.Microseconds() || !g.told.CompareAndSwap(told, now) {
		return
	}
	g.log.LogAttrs(ctx, slog.LevelError, "keyhttp: requests could not be judged",
		append(what, slog.Int64("requests", g.untold.Swap(0)))...)
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
