// Package keyhttp connects keycote to net/http, on both sides of a server.
//
// # Inbound
//
// [Require] is middleware of the plain form func(http.Handler) http.Handler. It lets a request through whose access key
// is genuine and allowed to do what the route asks for, and puts the [keycote.Grant] into its context:
//
//	orders := keyhttp.Require(keys, nil, "orders:read")
//	mux.Handle("GET /orders", orders(http.HandlerFunc(listOrders)))
//
//	grant, _ := keyhttp.FromContext(r.Context()) // in listOrders: whose key it is
//
// A key comes as "Authorization: Bearer <key>" or in one header of its own, X-API-Key unless [Options] names another:
// one key per request, and never from the query string, a cookie or the body, which end up in logs and in other
// people's hands. Whatever is wrong with a key, the client gets the same 401, equal to the byte.
//
// [WriteError] answers for everything else that a host's handlers get from this module: a problem document after RFC
// 9457 with a stable type, a status by the error's code, and a sentence in the reader's language.
//
// [Scopes] tells what a handler asks for, so that a test can walk all routes and find the one that was forgotten.
//
// # Outbound
//
// [Transport] is an http.RoundTripper that presents a credential to its own endpoint, and to no other, without handing it
// to the program that makes the call. [Guard] is the dialer beneath it for addresses that people type in: what leads to a
// private or otherwise special address is refused once the name is resolved, on the address that would be dialled. The
// probes [Reachable] and [PingPong] try an endpoint before a credential is kept for it, and [Inspect] looks at one for
// [keycote.Manager.Diagnose].
package keyhttp
