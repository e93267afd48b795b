package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
	"github.com/keycote/keycote/examples/internal/demotest"
	"github.com/keycote/keycote/keytest"
)

type (
	request  = grpc_health_v1.HealthCheckRequest
	response = grpc_health_v1.HealthCheckResponse
)

func TestServe(t *testing.T) {
	t.Parallel()
	words := demotest.Words(demotest.Start(t, func(ctx context.Context, out io.Writer) error {
		return demo.Serve(ctx, "127.0.0.1:0", out, usage, routes)
	}))
	key, address := words[4], words[7]
	at, err := url.Parse(address)
	require.NoError(t, err)
	base := "http://" + at.Host
	refused := "unauthenticated: " + keycote.Message("", keycote.ErrUnauthenticated)
	unary := connect.NewClient[request, response](http.DefaultClient, base+check)
	stream := connect.NewClient[request, response](http.DefaultClient, base+watch)
	for _, c := range []struct {
		name   string
		values []string
		want   connect.Code
	}{
		{"the key that was issued", []string{"Bearer " + key}, 0},
		{"mistyped", []string{"Bearer " + key[:20] + "~" + key[21:]}, connect.CodeUnauthenticated},
		{"none", nil, connect.CodeUnauthenticated},
		{"two", []string{"Bearer " + key, "Bearer " + key}, connect.CodeUnauthenticated},
		{"another scheme", []string{"Basic " + key}, connect.CodeUnauthenticated},
	} {
		req := connect.NewRequest(&request{})
		req.Header()["Authorization"] = c.values
		answer, err := unary.CallUnary(t.Context(), req)
		if c.want == 0 {
			require.NoError(t, err, c.name)
			require.Contains(t, answer.Header().Get("X-Key-Id"), "key_")
		} else {
			require.Equal(t, c.want, connect.CodeOf(err), c.name)
			require.Equal(t, refused, err.Error(), c.name)
		}
		req = connect.NewRequest(&request{})
		req.Header()["Authorization"] = c.values
		messages, err := stream.CallServerStream(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, c.want == 0, messages.Receive(), "%s, as a stream", c.name)
		if c.want != 0 {
			require.Equal(t, c.want, connect.CodeOf(messages.Err()), "%s, as a stream", c.name)
			require.Equal(t, refused, messages.Err().Error(), "%s, as a stream", c.name)
		}
		require.NoError(t, messages.Close())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	g := guard{env.Manager}
	call := func(procedure, token string) connect.Code {
		_, err := g.verify(t.Context(), connect.Spec{Procedure: procedure}, connect.Peer{Addr: "192.0.2.1:1"},
			http.Header{"Authorization": {"bearer " + token}})
		require.Error(t, err)
		return connect.CodeOf(err)
	}
	require.Equal(t, connect.CodePermissionDenied, call(check, env.Issue("orders:write")))
	require.Equal(t, connect.CodeUnimplemented, call("/grpc.health.v1.Health/List", env.Issue("**")))
	token := env.Issue("orders:read")
	env.Break(nil, keytest.FaultStore)
	require.Equal(t, connect.CodeUnavailable, call(check, token))
	require.Equal(t, connect.CodeInternal, connect.CodeOf(refusal("", keycote.ErrTampered)))
}
