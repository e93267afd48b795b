package main

import (
	"context"
	"net/http"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
)

// keep keeps what a person typed in: an endpoint and a key for it.
func keep(ctx context.Context, keys *keycote.Manager, endpoint, key string) (id string, err error) {
	k, err := keys.Add(ctx, keycote.AddParams{
		Name: "payments", Endpoint: endpoint, Secret: keycote.NewSecret(key),
	})
	if err != nil {
		return "", err // a *keycote.ValidationError names everything that is wrong; keycote.Message says it in words
	}
	return k.ID, nil
}

// client returns a client whose requests carry the credential. To another origin than its endpoint's nothing is sent, a
// redirect included, and guard dials no private address that the operator has not opened: &keyhttp.Guard{} dials none.
func client(keys *keycote.Manager, id string, guard *keyhttp.Guard) *http.Client {
	return &http.Client{Transport: &keyhttp.Transport{Manager: keys, KeyID: id, Base: guard}}
}
