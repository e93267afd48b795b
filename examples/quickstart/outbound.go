package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/keycote/keycote"
)

// errUpstream says that somebody else's endpoint could not be called. What it answered is never shown: an endpoint that
// repeats what it was sent would repeat the key.
var errUpstream = errors.New("the endpoint could not be called")

// answer is what of an endpoint's reply is passed on.
type answer struct {
	KeyID      string `json:"keyId"`
	Version    int    `json:"version"`
	Status     int    `json:"status"`
	Authorized bool   `json:"authorized"`
}

// call presents a credential to its own endpoint. Use is told where the value goes, and hands it out for that origin
// alone; it is in the request's header, and nowhere else.
func (a *app) call(ctx context.Context, id string) (answer, error) {
	key, err := a.keys.Get(ctx, id)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, key.Endpoint, nil)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errUpstream, err)
	}
	grant, secret, err := a.keys.Use(ctx, id, keycote.Request{Endpoint: req.URL.String(), Route: "call " + req.URL.Host})
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+secret.Reveal())
	resp, err := a.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errUpstream, err)
	}
	defer resp.Body.Close()
	out := answer{KeyID: grant.KeyID, Version: grant.Version, Status: resp.StatusCode}
	var reply struct {
		Authorized bool `json:"authorized"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&reply); err != nil {
		return answer{}, fmt.Errorf("%w: its answer is not JSON", errUpstream)
	}
	out.Authorized = reply.Authorized
	return out, nil
}

// newClient makes the client for outbound calls. It trusts one certificate, dials one address, asks no proxy, and
// follows no redirect: a key must not go where somebody else's answer sends it. An application that calls the wide
// world leaves trust to the system and needs a dialer that refuses private addresses after the name is resolved.
func newClient(trusted *x509.Certificate, addr string) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{
		Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it answered with a redirect, which is not followed")
		},
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
			DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				if to != addr {
					return nil, errors.New("the quickstart calls its own echo endpoint only")
				}
				return dialer.DialContext(ctx, network, to)
			},
		},
	}
}
