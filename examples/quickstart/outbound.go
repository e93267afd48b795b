package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
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

// call presents a credential to its own endpoint. The key is put on a copy of the request, and shown to nobody here.
func (a *app) call(ctx context.Context, id string) (answer, error) {
	key, err := a.keys.Get(ctx, id)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, key.Endpoint, nil)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errUpstream, err)
	}
	client := &http.Client{
		Transport: &keyhttp.Transport{Manager: a.keys, KeyID: id, Base: a.guard, Route: "call " + req.URL.Host},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it answered with a redirect, which is not followed")
		},
	}
	resp, err := client.Do(req)
	var refused *keycote.Error
	switch {
	case errors.As(err, &refused):
		return answer{}, refused
	case err != nil:
		return answer{}, fmt.Errorf("%w: %w", errUpstream, err)
	}
	defer resp.Body.Close()
	out := answer{KeyID: key.ID, Version: key.Versions[len(key.Versions)-1].Number, Status: resp.StatusCode}
	var reply struct {
		Authorized bool `json:"authorized"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return answer{}, fmt.Errorf("%w: its answer is not JSON", errUpstream)
	}
	out.Authorized = reply.Authorized
	return out, nil
}

// newGuard makes what stands between the application and the addresses that people type. It opens loopback for the port
// of the echo endpoint alone, and trusts that endpoint's certificate alone. An application that calls the wide world
// leaves trust to the system and begins with &keyhttp.Guard{}.
func newGuard(trusted *x509.Certificate, echo net.Addr) *keyhttp.Guard {
	at := echo.(*net.TCPAddr).AddrPort()
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	return &keyhttp.Guard{
		AllowNets:  []netip.Prefix{netip.PrefixFrom(at.Addr(), at.Addr().BitLen())},
		AllowPorts: []uint16{at.Port()},
		RootCAs:    roots,
		MaxBody:    1 << 16,
	}
}
