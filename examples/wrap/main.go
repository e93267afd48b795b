// Command wrap puts a key in front of a handler that exists already and knows nothing of keys: a file server, a proxy, an
// application of ten years ago.
package main

import (
	"fmt"
	"net/http"
	"path"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/keyhttp"
)

func main() { demo.Main(demo.Curl, routes) }

func routes(keys *keycote.Manager) http.Handler {
	return keyhttp.Require(keys, nil, "orders:read")(forKey(http.HandlerFunc(existing)))
}

// forKey tells the handler behind it, by a header, whose key it was. What a client sends under that name is overwritten,
// and the key itself goes no further.
func forKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keyhttp.FromContext(r.Context())
		r.Header.Set("X-Key-Id", grant.KeyID)
		r.Header.Del("Authorization")
		r.Header.Del("X-Api-Key")
		next.ServeHTTP(w, r)
	})
}

// existing stands for what was there.
func existing(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "order %s, for %s\n", path.Base(r.URL.Path), r.Header.Get("X-Key-Id"))
}
