package main

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demotest"
	"github.com/keycote/keycote/keytest"
)

func TestServe(t *testing.T) {
	t.Parallel()
	words := demotest.Words(demotest.Start(t, func(ctx context.Context, out io.Writer) error {
		return serve(ctx, "127.0.0.1:0", out)
	}))
	key, addr := words[5], words[6]
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	client := grpc_health_v1.NewHealthClient(conn)
	refused := keycote.Message("", keycote.ErrUnauthenticated)
	for _, c := range []struct {
		name   string
		values []string
		want   codes.Code
	}{
		{"the key that was issued", []string{"Bearer " + key}, codes.OK},
		{"mistyped", []string{"Bearer " + key[:20] + "~" + key[21:]}, codes.Unauthenticated},
		{"none", nil, codes.Unauthenticated},
		{"two", []string{"Bearer " + key, "Bearer " + key}, codes.Unauthenticated},
		{"another scheme", []string{"Basic " + key}, codes.Unauthenticated},
	} {
		ctx := t.Context()
		for _, v := range c.values {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
		}
		_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		require.Equal(t, c.want, status.Code(err), c.name)
		if c.want != codes.OK {
			require.Equal(t, refused, status.Convert(err).Message(), c.name)
		}
		stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, c.want, status.Code(err), "%s, as a stream", c.name)
		if c.want != codes.OK {
			require.Equal(t, refused, status.Convert(err).Message(), c.name)
		}
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	env := keytest.New(t, nil)
	g := guard{env.Manager}
	as := func(token string) context.Context {
		return metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "bearer "+token))
	}
	ctx, err := g.verify(as(env.Issue("orders:read")), grpc_health_v1.Health_Check_FullMethodName)
	require.NoError(t, err)
	_, ok := keycote.GrantFrom(ctx)
	require.True(t, ok)
	_, err = g.verify(as(env.Issue("orders:write")), grpc_health_v1.Health_Check_FullMethodName)
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	_, err = g.verify(as(env.Issue("**")), "/grpc.health.v1.Health/List")
	require.Equal(t, codes.Unimplemented, status.Code(err), "a method that nobody has thought of")
	token := env.Issue("orders:read")
	env.Break(nil, keytest.FaultStore)
	_, err = g.verify(as(token), grpc_health_v1.Health_Check_FullMethodName)
	require.Equal(t, codes.Unavailable, status.Code(err))
}
