// Command grpc protects a gRPC service, unary calls and streams, by interceptors. The service is gRPC's own health
// check, so that there is nothing to generate.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, "127.0.0.1:8322", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, addr string, out io.Writer) error {
	const usage = "grpcurl -plaintext -H 'authorization: Bearer %s' %s grpc.health.v1.Health/Check\n"
	return demo.With(ctx, addr, out, usage, func(keys *keycote.Manager, listener net.Listener) error {
		server := newServer(keys)
		defer context.AfterFunc(ctx, server.Stop)()
		return server.Serve(listener)
	})
}

// scopes says what a method requires. A method that does not stand here is refused.
var scopes = map[string][]string{
	grpc_health_v1.Health_Check_FullMethodName: {"orders:read"},
	grpc_health_v1.Health_Watch_FullMethodName: {"orders:read"},
}

func newServer(keys *keycote.Manager) *grpc.Server {
	g := guard{keys}
	server := grpc.NewServer(grpc.UnaryInterceptor(g.unary), grpc.StreamInterceptor(g.stream))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server
}

type guard struct{ keys *keycote.Manager }

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := g.verify(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// stream verifies once, at its beginning: a stream that is to end with its key has to ask again as it goes.
func (g guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := g.verify(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &granted{ss, ctx})
}

// granted is a stream whose context holds the grant.
type granted struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *granted) Context() context.Context { return s.ctx }

func (g guard) verify(ctx context.Context, method string) (context.Context, error) {
	required, known := scopes[method]
	if !known {
		return nil, status.Error(codes.Unimplemented, "this method has no scope")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	key := bearer(md.Get("authorization"))
	grant, err := g.keys.Verify(ctx, key, keycote.Request{Scopes: required, Addr: address(ctx), Route: method})
	if err != nil {
		return nil, status.Error(codeOf(err), keycote.Message(strings.Join(md.Get("accept-language"), ","), told(err)))
	}
	return keycote.WithGrant(ctx, grant), nil
}

// bearer returns the one key there is, or "", which Verify refuses in the words that it has for a wrong one, and counts.
func bearer(values []string) string {
	if len(values) != 1 || len(values[0]) < 7 || !strings.EqualFold(values[0][:7], "Bearer ") {
		return ""
	}
	return values[0][7:]
}

// told is what a client may know: of every refusal of identity the same.
func told(err error) error {
	if errors.Is(err, keycote.ErrUnauthenticated) {
		return keycote.ErrUnauthenticated
	}
	return err
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, keycote.ErrUnauthenticated):
		return codes.Unauthenticated
	case errors.Is(err, keycote.ErrScope):
		return codes.PermissionDenied
	case errors.Is(err, keycote.ErrLimited):
		return codes.ResourceExhausted
	case errors.Is(err, keycote.ErrUnavailable):
		return codes.Unavailable
	}
	return codes.Internal
}

// address is the peer's own. Behind a proxy it is the proxy's: keys that are bound to networks do not work then.
func address(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	from, _ := netip.ParseAddrPort(p.Addr.String()) // the zero value for what is none
	return from.Addr()
}
