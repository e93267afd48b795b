package keyhttp_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
	"github.com/keycote/keycote/memstore"
)

// exampleManager is a Manager in memory.
func exampleManager(opts *keycote.Options) *keycote.Manager {
	dir, err := os.MkdirTemp("", "keyhttp")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	kek, err := keycote.LocalKEK(filepath.Join(dir, "kek.json"))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := keycote.New(context.Background(), memstore.New(), kek, opts)
	if err != nil {
		log.Fatal(err)
	}
	return keys
}

// exampleKeys is a Manager with one access key, that may read orders.
func exampleKeys() (keys *keycote.Manager, token string) {
	keys = exampleManager(nil)
	_, secret, err := keys.Issue(context.Background(), keycote.IssueParams{
		Name: "ci", App: "shop", Scopes: []string{"orders:read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	return keys, secret.Reveal()
}

func ExampleRequire() {
	keys, token := exampleKeys()
	orders := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keyhttp.FromContext(r.Context())
		fmt.Fprint(w, "the orders of ", grant.App)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", keyhttp.Require(keys, nil, "orders:read")(orders))
	mux.Handle("POST /orders", keyhttp.Require(keys, nil, "orders:write")(orders))

	for _, method := range []string{"GET", "POST"} {
		r := httptest.NewRequest(method, "/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%d %q\n", w.Code, w.Header().Get("WWW-Authenticate"))
	}
	// Output:
	// 200 ""
	// 403 "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"orders:write\""
}

// A handler's unit test needs no key: it puts a Grant into the context.
func ExampleFromContext() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		grant, ok := keyhttp.FromContext(r.Context())
		fmt.Printf("%v %q\n", ok, grant.App)
	}
	r := httptest.NewRequest("GET", "/orders", nil)
	handler(httptest.NewRecorder(), r)
	handler(httptest.NewRecorder(), r.WithContext(keycote.WithGrant(r.Context(), keycote.Grant{App: "shop"})))
	// Output:
	// false ""
	// true "shop"
}

// A test walks the routes and finds the one that was forgotten.
func ExampleScopes() {
	keys, _ := exampleKeys()
	mux := http.NewServeMux()
	mux.Handle("GET /orders", keyhttp.Require(keys, nil, "orders:read")(http.NotFoundHandler()))
	mux.Handle("GET /export", http.NotFoundHandler())

	for _, path := range []string{"/orders", "/export"} {
		h, route := mux.Handler(httptest.NewRequest("GET", path, nil))
		scopes, ok := keyhttp.Scopes(h)
		fmt.Println(route, scopes, ok)
	}
	// Output:
	// GET /orders [orders:read] true
	// GET /export [] false
}

func ExampleWriteError() {
	keys, _ := exampleKeys()
	handler := func(w http.ResponseWriter, r *http.Request) {
		if _, err := keys.Get(r.Context(), r.PathValue("id")); err != nil {
			keyhttp.WriteError(w, r, err)
		}
	}
	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest("GET", "/keys/none", nil))
	fmt.Print(w.Body)
	// Output:
	// {"type":"urn:keycote:problem:not_found","title":"This does not exist.","status":404,"code":"not_found"}
}
