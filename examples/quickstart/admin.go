package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/keycote/keycote"
)

// The administrator is an access key like any other. There is no default one: it is made at the first start.
const (
	adminName   = "quickstart administrator"
	adminHeader = "Authorization: Bearer "
)

// ensureAdmin sees to it that path holds a key that works. If the file was lost or its key revoked, the old key ends
// and a new one is made: whoever may write to the directory is the administrator.
func ensureAdmin(ctx context.Context, keys *keycote.Manager, path string) error {
	ctx = keycote.WithActor(ctx, keycote.Actor{ID: "quickstart", Roles: []string{"admin"}, MaxScopes: []string{"**"}})
	line, err := readLine(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = keys.Verify(ctx, strings.TrimPrefix(line, adminHeader), keycote.Request{
		Scopes: []string{"admin:write"}, Addr: netip.MustParseAddr("127.0.0.1"), Route: "start",
	})
	if !errors.Is(err, keycote.ErrUnauthenticated) {
		return err // nil, or nobody could say
	}
	for old, err := range keys.List(ctx, keycote.Filter{Kind: keycote.KindAccess, Name: adminName}) {
		if err != nil {
			return err
		}
		if _, err := keys.Revoke(ctx, old.ID, "its file was lost or no longer worked"); err != nil {
			return err
		}
	}
	_, secret, err := keys.Issue(ctx, keycote.IssueParams{
		Name: adminName, Owner: "administrator", Prefix: "kc_admin", Scopes: []string{"admin:**"},
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	})
	if err != nil {
		return err
	}
	return writeLine(path, adminHeader+secret.Reveal())
}

// asAdmin says who acts, for the events and for the ceiling: through this API nobody can make a key that may do more
// than orders, and so no second administrator.
func (a *app) asAdmin(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keycote.GrantFrom(r.Context())
		next(w, r.WithContext(keycote.WithActor(r.Context(), keycote.Actor{
			ID: grant.Owner, Addr: peer(r), Roles: []string{"admin"}, MaxScopes: []string{"orders:**"},
		})))
	}
}

// shown is a key and, this once, its value. A Secret never marshals as what it holds, so it has to be revealed by name.
type shown struct {
	Key    *keycote.Key `json:"key"`
	Secret string       `json:"secret,omitempty"`
}

func (a *app) issueKey(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name      string            `json:"name"`
		App       string            `json:"app"`
		Owner     string            `json:"owner"`
		Secret    string            `json:"secret"` // empty: Keycote makes the value
		AllowWeak bool              `json:"allowWeak"`
		Scopes    []string          `json:"scopes"`
		Networks  []netip.Prefix    `json:"networks"`
		ExpiresAt time.Time         `json:"expiresAt"`
		Labels    map[string]string `json:"labels"`
		Reason    string            `json:"reason"`
		RequestID string            `json:"requestId"`
	}
	if !readBody(w, r, &body) {
		return
	}
	key, secret, err := a.keys.Issue(r.Context(), keycote.IssueParams{
		Name: body.Name, App: body.App, Owner: body.Owner, Secret: keycote.NewSecret(body.Secret), AllowWeak: body.AllowWeak,
		Scopes: body.Scopes, Networks: body.Networks, ExpiresAt: body.ExpiresAt, Labels: body.Labels, Reason: body.Reason,
		RequestID: body.RequestID,
	})
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, shown{key, secret.Reveal()})
}

func (a *app) addCredential(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name      string            `json:"name"`
		Endpoint  string            `json:"endpoint"`
		Secret    string            `json:"secret"`
		App       string            `json:"app"`
		Owner     string            `json:"owner"`
		AllowWeak bool              `json:"allowWeak"`
		ExpiresAt time.Time         `json:"expiresAt"`
		Labels    map[string]string `json:"labels"`
		Reason    string            `json:"reason"`
		RequestID string            `json:"requestId"`
	}
	if !readBody(w, r, &body) {
		return
	}
	key, err := a.keys.Add(r.Context(), keycote.AddParams{
		Name: body.Name, Endpoint: body.Endpoint, Secret: keycote.NewSecret(body.Secret), App: body.App, Owner: body.Owner,
		AllowWeak: body.AllowWeak, ExpiresAt: body.ExpiresAt, Labels: body.Labels, Reason: body.Reason,
		RequestID: body.RequestID,
	})
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, shown{Key: key})
}

// rotateKey gives a key a new value. The old one of an access key goes on for the overlap, so that its holders can
// change over one by one; a credential takes the new value that its endpoint's owner has given.
func (a *app) rotateKey(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Overlap   string    `json:"overlap"` // such as "10m"
		UntilUsed bool      `json:"untilUsed"`
		Secret    string    `json:"secret"`
		AllowWeak bool      `json:"allowWeak"`
		ExpiresAt time.Time `json:"expiresAt"`
		Reason    string    `json:"reason"`
		RequestID string    `json:"requestId"`
	}
	if !readBody(w, r, &body) {
		return
	}
	overlap, err := time.ParseDuration(body.Overlap)
	if err != nil && body.Overlap != "" {
		writeProblem(w, problem{Status: http.StatusUnprocessableEntity, Code: keycote.ErrInvalid,
			Detail: `"overlap" is a duration such as "90s", "10m" or "24h".`})
		return
	}
	key, secret, err := a.keys.Rotate(r.Context(), r.PathValue("id"), keycote.RotateParams{
		Overlap: overlap, UntilUsed: body.UntilUsed, Secret: keycote.NewSecret(body.Secret), AllowWeak: body.AllowWeak,
		ExpiresAt: body.ExpiresAt, Reason: body.Reason, RequestID: body.RequestID,
	})
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, shown{key, secret.Reveal()})
}

// setState is the handler of Disable, Enable and Revoke.
func (a *app) setState(verb func(ctx context.Context, id, reason string) (*keycote.Key, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Reason string `json:"reason"`
		}
		if !readBody(w, r, &body) {
			return
		}
		key, err := verb(r.Context(), r.PathValue("id"), body.Reason)
		if err != nil {
			a.writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, shown{Key: key})
	}
}

// useCredential calls the credential's endpoint with it.
func (a *app) useCredential(w http.ResponseWriter, r *http.Request) {
	if !readBody(w, r, &struct{}{}) {
		return
	}
	answer, err := a.call(r.Context(), r.PathValue("id"))
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (a *app) getKey(w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r) {
		return
	}
	key, err := a.keys.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, shown{Key: key})
}

// listKeys answers with one page, oldest first; ?cursor= takes the "next" of the page before.
func (a *app) listKeys(w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r, "kind", "state", "app", "search", "cursor") {
		return
	}
	q := r.URL.Query()
	page, err := a.keys.Page(r.Context(), keycote.Filter{
		Kind: keycote.Kind(q.Get("kind")), State: keycote.State(q.Get("state")), App: q.Get("app"), Search: q.Get("search"),
	}, q.Get("cursor"), 0)
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, page)
}

// listEvents answers with up to a hundred events, newest first; ?after= takes the id of the last one seen.
func (a *app) listEvents(w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r, "key", "after") {
		return
	}
	events := []keycote.Event{}
	for e, err := range a.keys.Events(r.Context(), keycote.EventFilter{
		KeyID: r.URL.Query().Get("key"), After: r.URL.Query().Get("after"), Newest: true,
	}) {
		switch {
		case errors.Is(err, keycote.ErrTampered):
			e.Outcome = keycote.ErrTampered // changed behind our back: shown as such, and the list goes on
		case err != nil:
			a.writeError(w, r, err)
			return
		}
		if events = append(events, e); len(events) == 100 {
			break
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"events": events})
}
