package keyhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/internal/redact"
)

const (
	placeholder = "{key}"
	redacted    = "[redacted]"
)

// Transport is an [http.RoundTripper] that presents a credential, and keeps it from whoever sends the requests:
//
//	client := &http.Client{Transport: &keyhttp.Transport{Manager: keys, KeyID: id}}
//
// It asks [keycote.Manager.Use] for each request, and keeps nothing: a value that was rotated is followed within the
// Manager's MaxStale, a credential that was revoked is refused within it. The value goes to the origin (scheme, host
// and port) of the credential's endpoint alone. A request to any other is [keycote.ErrAddress] and never sent, and so
// is a redirect that leads there; over plain http it goes only where the endpoint itself is http, which a Validator
// allows on request.
//
// The caller's request is never changed, and is the Response's Request. The value is in no error, in no hook of
// net/http/httptrace and in no panic's text that passes through here; what the endpoint answers is passed on as it is,
// and an endpoint may repeat what it was sent. An error of Base that is made of types of the standard library's and of
// this module's is returned as it is. One of another type may hold the request: its text is kept, if that does not
// tell, and what it wraps of those types; errors.As does not find the rest.
//
// The use log counts what was opened, not what was sent: also a request that Set, the guard or the network has kept
// from going out.
//
// It is safe for concurrent use, must not be copied, and its fields must not be changed after its first use. The zero
// Transport refuses every request.
type Transport struct {
	Manager *keycote.Manager // required; a tenant's view for a tenant's credential
	KeyID   string           // required

	// Header and Template say how the value is sent. "" is Authorization, with the template "Bearer {key}"; for any
	// other header the template is "{key}". Host and what belongs to one connection (Connection, Proxy-Authorization,
	// Upgrade, ...) are no such headers. A value never goes into a URL.
	Header   string
	Template string

	// Set attaches the value in place of Header and Template: HTTP Basic, a signature, two headers. It gets a copy of the
	// request, and may set headers and trailers and replace the body; if it changes method, URL or Host nothing is sent.
	// With another body goes another GetBody, or net/http cannot send it again when a connection dies. Who only reads the
	// body to sign it asks GetBody for one, where there is one.
	Set func(*http.Request, keycote.Secret)

	Route string            // for the use log: a pattern, not a path
	Base  http.RoundTripper // sends the request, and sees the value. nil: a zero [Guard]

	guard Guard // stands in for a nil Base
}

// RoundTrip sends a copy of req that carries the credential. Before anything is sent it fails with what Use fails with,
// as a [*keycote.Error]; with [keycote.ErrAddress] also when the request's Host is another than its URL's, and when the
// URL has a path that does not begin with a slash, which could stand in the request line as another address; and with
// [keycote.ErrInvalid] when the Transport is not well-formed, when the method is TRACE or CONNECT, and when req has a
// header of its own where the value goes, since one of the two credentials would be the wrong one.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	secret, err := t.use(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	o := &outgoing{transport: t, req: req, secret: secret}
	return o.send()
}

// CloseIdleConnections passes the call on; [http.Client] calls it by this name.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return &t.guard
	}
	return t.Base
}

func (t *Transport) fail(code keycote.Code, text string) error {
	return &keycote.Error{Op: string(keycote.ActionUse), ID: t.KeyID, Code: code, Err: errors.New(text)}
}

// use opens the credential for where req goes.
func (t *Transport) use(req *http.Request) (keycote.Secret, error) {
	if err := t.check(); err != nil {
		return keycote.Secret{}, err
	}
	method := strings.ToUpper(req.Method)
	switch {
	case slices.Contains(repeating, method):
		return keycote.Secret{}, t.fail(keycote.ErrInvalid, "the method has a server repeat what it was sent")
	case method == http.MethodConnect:
		return keycote.Secret{}, t.fail(keycote.ErrInvalid, "the method asks for a way through the endpoint to another")
	}
	origin, ok := target(req)
	if !ok {
		return keycote.Secret{}, t.fail(keycote.ErrAddress, uncertain)
	}
	_, secret, err := t.Manager.Use(req.Context(), t.KeyID, keycote.Request{Endpoint: origin, Route: t.Route})
	return secret, err
}

// check refuses a Transport that would send the value in another place than its owner thinks, or nowhere.
func (t *Transport) check() error {
	switch {
	case t.Manager == nil || t.KeyID == "":
		return t.fail(keycote.ErrInvalid, "a Transport needs a Manager and a KeyID")
	case t.Set != nil && (t.Header != "" || t.Template != ""):
		return t.fail(keycote.ErrInvalid, "a Transport has either Set or Header and Template")
	case t.Template != "" && strings.Count(t.Template, placeholder) != 1:
		return t.fail(keycote.ErrInvalid, "a Template holds {key} once")
	case !isFieldValue(t.Template):
		return t.fail(keycote.ErrInvalid, "the Template holds a control character")
	case t.Header != "" && !isToken(t.Header):
		return t.fail(keycote.ErrInvalid, "the Header is no header's name")
	}
	switch name := textproto.CanonicalMIMEHeaderKey(t.Header); {
	case name == "Host":
		return t.fail(keycote.ErrInvalid, "net/http sends a value of its own for this Header")
	case slices.Contains(ofConnection, name):
		return t.fail(keycote.ErrInvalid, "this Header belongs to the connection, not to the endpoint")
	}
	return nil
}

// isFieldValue reports whether net/http sends s as part of a header.
func isFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// repeating are the methods to which a server answers with the request, its credential included: RFC 9110, section
// 9.3.8, forbids to send one along.
var repeating = []string{"TRACE", "TRACK"}

const uncertain = "the request does not say for certain where it goes"

// target returns the origin that net/http will connect to, as a URL, and false where what is dialled and what is asked
// for could differ: an Opaque part is printed in place of the host and dialled by it, a path without a slash in front
// can stand in the request line as another address, and a Host header of its own makes the server that has the address
// answer for another name.
func target(req *http.Request) (string, bool) {
	u := req.URL
	if u == nil || u.User != nil || !originForm(u) || req.Host != "" && !strings.EqualFold(req.Host, u.Host) {
		return "", false
	}
	origin := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}).String()
	again, err := url.Parse(origin) // a URL that was put together by hand may hold a host that is none
	return origin, err == nil && again.Host == u.Host && again.Scheme == u.Scheme
}

// outgoing is one request on its way, and what must not be told of it.
type outgoing struct {
	transport *Transport
	req       *http.Request // the caller's
	copy      *http.Request
	body      *sentBody // the caller's
	secret    keycote.Secret
	sent      bool // its headers and trailers are others' to read and write

	mu   sync.Mutex
	told []string // what the headers and trailers made of the value say
}

// send attaches the value and sends the copy.
func (o *outgoing) send() (resp *http.Response, err error) {
	defer o.contain(&resp, &err)
	o.copy = o.req.Clone(o.req.Context())
	if o.req.Body != nil && o.req.Body != http.NoBody {
		o.body = &sentBody{ReadCloser: o.req.Body, atEnd: o.carryTrailers}
		o.copy.Body = o.body
	}
	if o.req.GetBody != nil {
		o.copy.GetBody = o.callersBody
	}
	if o.copy.Header == nil {
		o.copy.Header = make(http.Header)
	}
	if err := o.attach(); err != nil {
		o.closeBodies()
		return nil, err
	}
	o.note()
	o.sent = true
	o.copy = o.copy.WithContext(hideHeaders(o.req.Context(), added(o.copy.Header, o.req.Header)))
	resp, err = o.transport.base().RoundTrip(o.copy)
	switch {
	case err != nil && resp != nil && resp.Body != nil:
		err = errors.Join(err, resp.Body.Close())
	case err == nil && resp == nil:
		err = errors.New("keyhttp: Base returned neither a response nor an error")
	}
	if err != nil {
		return nil, redact.Error(err, o.values()...)
	}
	resp.Request = o.req
	resp.Body = o.received(resp.Body)
	return resp, nil
}

// attach puts the value where it belongs.
func (o *outgoing) attach() error {
	t := o.transport
	if t.Set != nil {
		before := o.copy.Body
		t.Set(o.copy, o.secret)
		if o.copy.URL == nil || *o.copy.URL != *o.req.URL || o.copy.Host != o.req.Host || o.copy.Method != o.req.Method {
			return t.fail(keycote.ErrAddress, "Set has changed where the request goes")
		}
		if _, ok := target(o.copy); !ok { // it has changed the caller's request as well
			return t.fail(keycote.ErrAddress, uncertain)
		}
		if o.copy.Body != before {
			o.replaced()
		}
	} else {
		header, template := t.Header, t.Template
		if header == "" {
			header = authorization
		}
		if template == "" {
			template = placeholder
			if strings.EqualFold(header, authorization) {
				template = "Bearer " + placeholder
			}
		}
		if has(o.req.Header, header) {
			return t.fail(keycote.ErrInvalid, "the request has a header of its own where the credential goes")
		}
		o.copy.Header.Set(header, strings.Replace(template, placeholder, o.secret.Reveal(), 1))
	}
	for _, name := range added(o.copy.Header, o.req.Header) {
		if has(o.req.Header, name) {
			return t.fail(keycote.ErrInvalid, "the request has a header of its own where the credential goes")
		}
	}
	return nil
}

// callersBody is the copy's GetBody until Set gives another: what net/http sends when it tries again on a new
// connection, and what Set may read to sign it.
func (o *outgoing) callersBody() (io.ReadCloser, error) { return o.req.GetBody() }

// replaced does what it takes when Set has put another body into the place of the caller's. The caller's GetBody must
// go, or a second try would send its body under the headers of the new one; without any there is no second try. And the
// caller's body, which nobody closes any more, is closed with the new one, which may be reading from it.
func (o *outgoing) replaced() {
	if pointer(o.copy.GetBody) == pointer(o.callersBody) {
		o.copy.GetBody = nil
	}
	switch {
	case o.copy.Body != nil && o.copy.Body != http.NoBody:
		o.copy.Body = &sentBody{ReadCloser: o.copy.Body, atEnd: o.note, with: o.body}
	case o.body != nil:
		_ = o.body.Close()
	}
}

// pointer tells functions apart that come from different places in the source: Go compares none of them.
func pointer(f func() (io.ReadCloser, error)) uintptr { return reflect.ValueOf(f).Pointer() }

// added returns the headers that the copy has and the caller's request does not, or otherwise.
func added(sent, own http.Header) (names []string) {
	for name, values := range sent {
		if !slices.Equal(own[name], values) {
			names = append(names, name)
		}
	}
	return names
}

// has reports whether h has the header, in whatever case it was written into the map.
func has(h http.Header, name string) bool {
	for own := range h {
		if strings.EqualFold(own, name) {
			return true
		}
	}
	return false
}

// note keeps what must not be told: each header and trailer made of the value, and each word of it, that is long enough
// to tell anything. It is called before the request is sent, and by whoever reads the body to its end: trailers may be
// filled in until then, and no later.
func (o *outgoing) note() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range [][2]http.Header{{o.copy.Header, o.req.Header}, {o.copy.Trailer, o.req.Trailer}} {
		for _, name := range added(h[0], h[1]) {
			for _, line := range h[0][name] {
				for _, word := range append(strings.Fields(line), line) {
					if len(word) >= 8 {
						o.told = append(o.told, word)
					}
				}
			}
		}
	}
}

// values returns everything that must not be told.
func (o *outgoing) values() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string{o.secret.Reveal()}, o.told...)
}

// carryTrailers takes over what the caller has filled in while its body was read, as net/http allows; what Set put
// there stays.
func (o *outgoing) carryTrailers() {
	for name, values := range o.copy.Trailer {
		if own, ok := o.req.Trailer[name]; ok && (values == nil || o.transport.Set == nil) {
			o.copy.Trailer[name] = slices.Clone(own)
		}
	}
}

// closeBodies closes the caller's body, and the one that Set may have put into its place.
func (o *outgoing) closeBodies() {
	if o.body != nil {
		_ = o.body.Close()
	}
	if o.copy.Body != nil && o.copy.Body != io.ReadCloser(o.body) {
		_ = o.copy.Body.Close()
	}
}

// sentBody is a body that Base, Set and the Transport itself may all close.
type sentBody struct {
	io.ReadCloser
	atEnd func()    // called by who reads, before he hears of the end
	with  *sentBody // closed after it; may be nil
	once  sync.Once
	err   error
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.atEnd()
	}
	return n, err
}

func (b *sentBody) Close() error {
	b.once.Do(func() {
		b.err = b.ReadCloser.Close()
		if b.with != nil {
			b.err = errors.Join(b.err, b.with.Close())
		}
	})
	return b.err
}

// received is the body of a response, whose errors come from Base as well. That of a connection which was upgraded
// stays an [io.Writer].
func (o *outgoing) received(body io.ReadCloser) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return body
	}
	safe := &receivedBody{body, func(err error) error { return redact.Error(err, o.values()...) }}
	if w, ok := body.(io.Writer); ok {
		return struct {
			*receivedBody
			io.Writer
		}{safe, w}
	}
	return safe
}

type receivedBody struct {
	body io.ReadCloser
	safe func(error) error // a function, because what prints a response deeply does not see into one
}

func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		err = b.safe(err)
	}
	return n, err
}

func (b *receivedBody) Close() error { return b.safe(b.body.Close()) }

// contain lets a panic of Set or Base go on, unless its text holds the value: then it becomes an error without it. What
// goes on has the stack that it came with, since nothing has been unwound when it is raised again.
func (o *outgoing) contain(resp **http.Response, err *error) {
	p := recover()
	if p == nil {
		return
	}
	o.closeBodies()
	if !o.sent {
		o.note()
	}
	text := fmt.Sprintf("%v %+v %#v", p, p, p)
	if !slices.ContainsFunc(o.values(), func(v string) bool { return redact.Tells(text, v) }) {
		panic(p) //house:allow panic it is the panic of a host's own code, and goes on as it came
	}
	*resp, *err = nil, fmt.Errorf("keyhttp: a panic is withheld: its text holds the value (%T)", p)
}

// hideHeaders returns ctx with the hook that is told each header as it is written, if there is one, told "[redacted]"
// for those named. httptrace only ever adds hooks to those that are there, so the trace itself is replaced.
func hideHeaders(ctx context.Context, names []string) context.Context {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.WroteHeaderField == nil {
		return ctx
	}
	hiding := *trace
	hiding.WroteHeaderField = func(key string, values []string) {
		if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, key) }) {
			values = []string{redacted}
		}
		trace.WroteHeaderField(key, values)
	}
	return tracedContext{ctx, &hiding}
}

// tracedContext is a context with another trace.
type tracedContext struct {
	context.Context
	trace *httptrace.ClientTrace
}

// Value knows the trace by its type, because its key is httptrace's own.
func (c tracedContext) Value(key any) any {
	v := c.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok {
		return c.trace
	}
	return v
}
