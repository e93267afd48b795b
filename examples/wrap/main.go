// Command wrap puts a key in front of a handler that exists already and knows nothing of keys: a file server, a proxy, an
// application of ten years ago.
package main

import (
	"fmt"
	"net/http"
	"path"
	"strings"

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
//
// CGI, WSGI and others turn a header's name into a variable's, HTTP_X_KEY_ID, and there X_Key_Id is the same one: a client
// that sends it would say for whom it calls.
func forKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant, _ := keyhttp.FromContext(r.Context())
		for name := range r.Header {
			if strings.EqualFold(strings.Map(variable, name), "X_Key_Id") {
				delete(r.Header, name)
			}
		}
		r.Header.Set("X-Key-Id", grant.KeyID)
		r.Header.Del("Authorization")
		r.Header.Del("X-Api-Key")
		next.ServeHTTP(w, r)
	})
}

// variable is what becomes of a header's character in a variable's name.
func variable(c rune) rune {
	if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
		return '_'
	}
	return c
}

// existing stands for what was there.
func existing(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "order %s, for %s\n", path.Base(r.URL.Path), r.Header.Get("X-Key-Id"))
}
