package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOneRefusal shows that a client cannot tell why its key is refused.
func TestOneRefusal(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir())
	_, good := p.issue("good", "orders:read")
	disabledID, disabled := p.issue("disabled", "orders:read")
	p.admin(http.StatusOK, "POST", "/admin/keys/"+disabledID+"/disable", "")
	revokedID, revoked := p.issue("revoked", "orders:read")
	p.admin(http.StatusOK, "POST", "/admin/keys/"+revokedID+"/revoke", `{"reason":"gone"}`)
	elsewhere := p.admin(http.StatusCreated, "POST", "/admin/keys",
		`{"name":"elsewhere","scopes":["orders:read"],"networks":["192.0.2.0/24"]}`).field("secret")
	rotatedID, rotated := p.issue("rotated", "orders:read")
	next := p.admin(http.StatusOK, "POST", "/admin/keys/"+rotatedID+"/rotate", "").field("secret")
	p.secrets = append(p.secrets, elsewhere, next)
	require.Equal(t, http.StatusOK, p.send(good, "GET", "/orders", "").status)
	require.Equal(t, http.StatusOK, p.send(next, "GET", "/orders", "").status)

	first := p.send("", "GET", "/orders", "")
	require.Equal(t, http.StatusUnauthorized, first.status)
	first.header.Del("Date")
	with := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["Authorization"] = values }
	}
	for _, tt := range []struct {
		name, key string
		more      func(*http.Request)
	}{
		{name: "unknown", key: "correct-horse-battery"},
		{name: "mistyped", key: good[:len(good)-1] + "~"},
		{name: "cut", key: good[:len(good)-1]},
		{name: "disabled", key: disabled},
		{name: "revoked", key: revoked},
		{name: "another network's", key: elsewhere},
		{name: "rotated without overlap", key: rotated},
		{name: "another scheme", more: with("Basic " + good)},
		{name: "no scheme", more: with(good)},
		{name: "twice", more: with("Bearer "+good, "Bearer "+good)},
		{name: "too long", key: strings.Repeat("x", 5000)},
		{name: "in the query", more: func(r *http.Request) { r.URL.RawQuery = "access_token=" + good }},
		{name: "a hint", key: "kc_…" + good[len(good)-4:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var more []func(*http.Request)
			if tt.more != nil {
				more = append(more, tt.more)
			}
			got := p.send(tt.key, "GET", "/orders", "", more...)
			got.header.Del("Date")
			require.Equal(t, first, got)
		})
	}
	p.stop(os.Interrupt)
}

func TestScopes(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir())
	id, reader := p.issue("reader", "orders:read")
	_, all := p.issue("all", "orders:*")
	for _, tt := range []struct {
		name, key, method, path string
		status                  int
	}{
		{"reader reads", reader, "GET", "/orders", 200},
		{"reader writes", reader, "POST", "/orders", 403},
		{"all writes", all, "POST", "/orders", 201},
		{"reader lists keys", reader, "GET", "/admin/keys", 403},
		{"all issues", all, "POST", "/admin/keys", 403},
		{"all adds a credential", all, "POST", "/admin/credentials", 403},
		{"all uses a credential", all, "POST", "/admin/credentials/" + id + "/use", 403},
		{"all reads a key", all, "GET", "/admin/keys/" + id, 403},
		{"all rotates", all, "POST", "/admin/keys/" + id + "/rotate", 403},
		{"all revokes", all, "POST", "/admin/keys/" + id + "/revoke", 403},
		{"all disables", all, "POST", "/admin/keys/" + id + "/disable", 403},
		{"all enables", all, "POST", "/admin/keys/" + id + "/enable", 403},
		{"all sees events", all, "GET", "/admin/events", 403},
		{"administrator orders", p.adminKey(), "GET", "/orders", 403},
		{"nobody issues", "", "POST", "/admin/keys", 401},
		{"nobody uses a credential", "", "POST", "/admin/credentials/" + id + "/use", 401},
		{"nobody sees events", "", "GET", "/admin/events", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := p.send(tt.key, tt.method, tt.path, `{"item":"tea","quantity":1}`)
			require.Equal(t, tt.status, got.status, got.body)
			if tt.status == 403 {
				require.Contains(t, got.header.Get("WWW-Authenticate"), `error="insufficient_scope"`)
			}
		})
	}
	p.stop(os.Interrupt)
}

// TestWebPages shows that a page in a browser on this machine gets nowhere, even with the administrator's key.
func TestWebPages(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir())
	port := p.url[strings.LastIndex(p.url, ":"):]
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, tt := range []struct {
		name   string
		more   func(*http.Request)
		status int
	}{
		{"a program", func(*http.Request) {}, 200},
		{"by name", host("localhost" + port), 200},
		{"an address that was typed", header("Sec-Fetch-Site", "none"), 200},
		{"a page elsewhere", header("Origin", "https://example.org"), 403},
		{"a page from here", header("Origin", p.url), 403},
		{"a sandbox", header("Origin", "null"), 403},
		{"an empty origin", header("Origin", ""), 403},
		{"a picture", header("Sec-Fetch-Site", "cross-site"), 403},
		{"a page of the same site", header("Sec-Fetch-Site", "same-origin"), 403},
		{"a name bound anew", host("evil.example" + port), 403},
		{"another port", host("127.0.0.1:1"), 403},
		{"no port", host("127.0.0.1"), 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.status, p.send(p.adminKey(), "GET", "/admin/keys", "", tt.more).status)
		})
	}
	p.stop(os.Interrupt)
}

func TestAdminAnswers(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir())
	id, key := p.issue("taken", "orders:read")
	gone, _ := p.issue("gone", "orders:read")
	p.admin(http.StatusOK, "POST", "/admin/keys/"+gone+"/revoke", "")
	cred := p.admin(http.StatusCreated, "POST", "/admin/credentials",
		`{"name":"echo","endpoint":"`+p.endpoint()+`","secret":"`+p.upstreamKey()+`"}`).field("id")
	const chosen, typed = "Tr4vel-light-2031", "a-secret-in-the-wrong-place"
	p.secrets = append(p.secrets, chosen, typed)
	credential := func(endpoint string) string {
		return fmt.Sprintf(`{"name":"c","endpoint":%q,"secret":%q}`, endpoint, chosen)
	}
	for _, tt := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"no name", "/admin/keys", `{}`, 422, `"field":"name"`},
		{"everything at once", "/admin/keys", `{"scopes":["a b"],"expiresAt":"2001-01-01T00:00:00Z"}`, 422, `"code":"past"`},
		{"a taken name", "/admin/keys", `{"name":"taken"}`, 409, `"exists"`},
		{"more than the ceiling", "/admin/keys", `{"name":"n","scopes":["admin:**"]}`, 403, `"forbidden"`},
		{"everything", "/admin/keys", `{"name":"n","scopes":["**"]}`, 403, `"forbidden"`},
		{"a weak value", "/admin/keys", `{"name":"n","secret":"password1234"}`, 422, `"weak_secret"`},
		{"an unknown field", "/admin/keys", `{"name":"n","scope":"orders:read"}`, 400, "scope"},
		{"two bodies", "/admin/keys", `{"name":"n"}{"name":"m"}`, 400, "follows"},
		{"a list", "/admin/keys", `[]`, 400, "body"},
		{"no JSON", "/admin/keys", `name=n`, 400, "body"},
		{"too much", "/admin/keys", `{"name":"` + strings.Repeat("n", 1<<17) + `"}`, 400, "too large"},
		{"a secret in the query", "/admin/keys?secret=" + typed, `{"name":"n"}`, 400, "into the body"},
		{"no such key", "/admin/keys/key_00000000000000000000000000/rotate", ``, 404, `"not_found"`},
		{"a secret for an id", "/admin/keys/" + typed + "/rotate", ``, 404, `"not_found"`},
		{"rotate what is revoked", "/admin/keys/" + gone + "/rotate", ``, 409, `"revoked"`},
		{"enable what is revoked", "/admin/keys/" + gone + "/enable", ``, 409, `"revoked"`},
		{"no duration", "/admin/keys/" + id + "/rotate", `{"overlap":"ten"}`, 422, "overlap"},
		{"a negative overlap", "/admin/keys/" + id + "/rotate", `{"overlap":"-1m"}`, 422, `"field":"overlap"`},
		{"an endpoint in clear", "/admin/credentials", credential("http://api.example.com"), 422, `"scheme"`},
		{"a private endpoint", "/admin/credentials", credential("https://10.0.0.1"), 422, `"private_address"`},
		{"the metadata service", "/admin/credentials", credential("https://169.254.169.254/"), 422, `"private_address"`},
		{"an endpoint with a key in it", "/admin/credentials", credential("https://u:p@api.example.com"), 422, `"user_info"`},
		{"use an access key", "/admin/credentials/" + id + "/use", ``, 422, `"invalid"`},
		{"rotate a credential into nothing", "/admin/keys/" + cred + "/rotate", ``, 422, `"required"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := p.admin(tt.status, "POST", tt.path, tt.body)
			require.Contains(t, got.body, tt.says)
			require.NotContains(t, got.body, typed)
			require.Equal(t, "no-store", got.header.Get("Cache-Control"))
		})
	}
	require.Contains(t, p.admin(422, "GET", "/admin/keys?cursor=abc", "").body, `"invalid"`)
	require.Contains(t, p.admin(400, "GET", "/admin/events?token="+typed, "").body, "into the body")
	require.Equal(t, http.StatusOK, p.send(key, "GET", "/orders", "").status, "nothing of this has touched the key")
	p.stop(os.Interrupt)
}

// TestLife walks an access key and a credential through what the printed commands leave out.
func TestLife(t *testing.T) {
	t.Parallel()
	p := launch(t, t.TempDir())
	const chosen = "Tr4vel-light-2031"
	id := p.admin(http.StatusCreated, "POST", "/admin/keys",
		`{"name":"chosen","secret":"`+chosen+`","scopes":["orders:read"]}`).field("id")
	works := func(want int) {
		t.Helper()
		require.Equal(t, want, p.send(chosen, "GET", "/orders", "").status)
	}
	works(200)
	p.admin(200, "POST", "/admin/keys/"+id+"/disable", `{"reason":"on leave"}`)
	works(401)
	p.admin(200, "POST", "/admin/keys/"+id+"/enable", `{"reason":"back"}`)
	works(200)
	next := p.admin(200, "POST", "/admin/keys/"+id+"/rotate", `{"overlap":"1h","untilUsed":true}`).field("secret")
	works(200)
	require.Equal(t, 200, p.send(next, "GET", "/orders", "").status)
	works(401)

	use := func(cred string) string {
		t.Helper()
		return p.admin(200, "POST", "/admin/credentials/"+cred+"/use", "").body
	}
	cred := p.admin(201, "POST", "/admin/credentials",
		`{"name":"echo","endpoint":"`+p.endpoint()+`","secret":"not-the-right-one-7731"}`).field("id")
	require.Contains(t, use(cred), `"authorized": false`)
	require.Contains(t, use(cred), `"status": 401`)
	p.admin(200, "POST", "/admin/keys/"+cred+"/rotate", `{"secret":"`+p.upstreamKey()+`"}`)
	require.Contains(t, use(cred), `"authorized": true`)
	require.Contains(t, use(cred), `"version": 2`)
	p.admin(200, "POST", "/admin/keys/"+cred+"/disable", "")
	require.Contains(t, p.admin(409, "POST", "/admin/credentials/"+cred+"/use", "").body, `"disabled"`)

	away := p.admin(201, "POST", "/admin/credentials",
		`{"name":"away","endpoint":"https://127.0.0.1:1/","secret":"`+chosen+`"}`).field("id")
	require.Contains(t, p.admin(502, "POST", "/admin/credentials/"+away+"/use", "").body, "could not be called")

	events := p.admin(200, "GET", "/admin/events?key="+id, "").body
	for _, action := range []string{"issue", "disable", "enable", "rotate"} {
		require.Contains(t, events, `"action": "`+action+`"`)
	}
	require.Contains(t, events, `"reason": "on leave"`)
	require.Contains(t, events, `"actor": "administrator"`)
	require.NotContains(t, events, cred)
	require.Contains(t, p.admin(200, "GET", "/admin/keys?kind=credential", "").body, cred)
	require.NotContains(t, p.admin(200, "GET", "/admin/keys?kind=credential", "").body, id)
	p.secrets = append(p.secrets, chosen, next, "not-the-right-one-7731")
	p.stop(os.Interrupt)
}
