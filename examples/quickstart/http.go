package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
)

// routes is the whole application. Each route names what a key must be allowed to; the administrator's routes are
// routes like any other.
func (a *app) routes(addr string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /orders", a.require(a.listOrders, "orders:read"))
	mux.Handle("POST /orders", a.require(a.placeOrder, "orders:write"))

	mux.Handle("GET /admin/keys", a.require(a.asAdmin(a.listKeys), "admin:read"))
	mux.Handle("GET /admin/keys/{id}", a.require(a.asAdmin(a.getKey), "admin:read"))
	mux.Handle("POST /admin/keys", a.require(a.asAdmin(a.issueKey), "admin:write"))
	mux.Handle("POST /admin/keys/{id}/rotate", a.require(a.asAdmin(a.rotateKey), "admin:write"))
	mux.Handle("POST /admin/keys/{id}/disable", a.require(a.asAdmin(a.setState(a.keys.Disable)), "admin:write"))
	mux.Handle("POST /admin/keys/{id}/enable", a.require(a.asAdmin(a.setState(a.keys.Enable)), "admin:write"))
	mux.Handle("POST /admin/keys/{id}/revoke", a.require(a.asAdmin(a.setState(a.keys.Revoke)), "admin:write"))
	mux.Handle("POST /admin/credentials", a.require(a.asAdmin(a.addCredential), "admin:write"))
	mux.Handle("POST /admin/credentials/{id}/use", a.require(a.asAdmin(a.useCredential), "admin:use"))
	mux.Handle("GET /admin/events", a.require(a.asAdmin(a.listEvents), "admin:events"))
	return a.logged(localOnly(addr, mux))
}

// require lets a request through when its key is allowed to do all of scopes. This is the whole of protecting a route.
func (a *app) require(next http.HandlerFunc, scopes ...string) http.Handler {
	return keyhttp.Require(a.keys, &keyhttp.Options{Realm: "quickstart", Logger: a.log}, scopes...)(next)
}

// peer is the address at the other end. Behind a proxy it would be the proxy's; forwarded addresses prove nothing.
func peer(r *http.Request) netip.Addr {
	p, _ := netip.ParseAddrPort(r.RemoteAddr)
	return p.Addr().Unmap()
}

// localOnly keeps web pages out. A browser on this machine can be made to send requests here by any page it shows; it
// then names the page in Origin or Sec-Fetch-Site, or (DNS rebinding) asks for a host that is not ours.
func localOnly(addr string, next http.Handler) http.Handler {
	_, port, _ := strings.Cut(addr[strings.LastIndex(addr, ":"):], ":")
	hosts := []string{addr, "localhost:" + port}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site := r.Header.Get("Sec-Fetch-Site")
		if len(r.Header.Values("Origin")) > 0 || site != "" && site != "none" || !slices.Contains(hosts, r.Host) {
			writeProblem(w, problem{Status: http.StatusForbidden, Code: keycote.ErrForbidden,
				Detail: "Only programs on this machine may call, and by the address that was printed."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// logged writes a line for each request: the route's pattern, since a path, a query or a header may hold a key.
func (a *app) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		a.log.InfoContext(r.Context(), "request", "route", r.Pattern, "status", rec.status)
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController, and so http.MaxBytesReader, reach the connection.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// problem is an error of this application's own, in the form of keyhttp's.
type problem struct {
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Code   keycote.Code `json:"code,omitempty"`
	Detail string       `json:"detail,omitempty"`
}

func writeProblem(w http.ResponseWriter, p problem) {
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	writeBody(w, p.Status, p)
}

// writeError answers for what the keys say, and for what else can go wrong.
func (a *app) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errUpstream) {
		a.log.ErrorContext(r.Context(), "a call failed", "route", r.Pattern, "error", err)
		writeProblem(w, problem{Status: http.StatusBadGateway, Detail: "The endpoint could not be called."})
		return
	}
	switch code := keycote.CodeOf(err); code {
	case "", keycote.ErrUnavailable, keycote.ErrKEK, keycote.ErrTampered:
		a.log.ErrorContext(r.Context(), "a request failed", "route", r.Pattern, "error", err)
	}
	keyhttp.WriteError(w, r, err)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store") // answers may hold a key
	w.WriteHeader(status)
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(body) // the client has gone; there is nobody to tell
}

// readBody reads a JSON object into body. Secrets come in bodies alone: a query ends up in logs and histories, so one
// that a route does not know is refused.
func readBody(w http.ResponseWriter, r *http.Request, body any) bool {
	if !knownQuery(w, r) {
		return false
	}
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	in.DisallowUnknownFields()
	err := in.Decode(body)
	if errors.Is(err, io.EOF) {
		return true // no body: all fields are empty
	}
	if err == nil {
		if _, err = in.Token(); errors.Is(err, io.EOF) {
			return true
		}
		err = errors.New("something follows the JSON object")
	}
	writeProblem(w, problem{Status: http.StatusBadRequest, Code: keycote.ErrInvalid, Detail: "The body is not what this route takes: " + err.Error()})
	return false
}

// knownQuery refuses query parameters other than those named, without repeating them.
func knownQuery(w http.ResponseWriter, r *http.Request, known ...string) bool {
	for name := range r.URL.Query() {
		if !slices.Contains(known, name) {
			writeProblem(w, problem{Status: http.StatusBadRequest, Code: keycote.ErrInvalid,
				Detail: "The address has a query that this route does not know. Keys belong into the body."})
			return false
		}
	}
	return true
}
