package main

import (
	"context"
	"net/http"

	"github.com/keycote/keycote"
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

// call sends a request with the credential. Another origin than its endpoint's is refused before the key is opened.
func call(ctx context.Context, keys *keycote.Manager, client *http.Client, id, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	_, secret, err := keys.Use(ctx, id, keycote.Request{Endpoint: req.URL.String()})
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+secret.Reveal())
	return client.Do(req) // a client that follows no redirect: the key was meant for this address
}
