// Command connect protects a service of connect-go, unary calls and streams, by an interceptor: what it refuses has the
// form that clients of Connect, gRPC and gRPC-Web read. The service is gRPC's own health check, so that there is nothing
// to generate.
package main

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/examples/internal/demo"
)

func main() { demo.Main(usage, routes) }

const usage = "curl -H 'Authorization: Bearer %s' --json '{}' http://%s/grpc.health.v1.Health/Check\n"

const (
	check = grpc_health_v1.Health_Check_FullMethodName
	watch = grpc_health_v1.Health_Watch_FullMethodName
)

// scopes says what a procedure requires. A procedure that does not stand here is refused.
var scopes = map[string][]string{check: {"orders:read"}, watch: {"orders:read"}}

func routes(keys *keycote.Manager) http.Handler {
	guarded := connect.WithInterceptors(guard{keys})
	mux := http.NewServeMux()
	mux.Handle(check, connect.NewUnaryHandler(check, healthCheck, guarded))
	mux.Handle(watch, connect.NewServerStreamHandler(watch, healthWatch, guarded))
	return mux
}

func healthCheck(
	ctx context.Context, _ *connect.Request[grpc_health_v1.HealthCheckRequest],
) (*connect.Response[grpc_health_v1.HealthCheckResponse], error) {
	grant, _ := keycote.GrantFrom(ctx)
	answer := connect.NewResponse(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING})
	answer.Header().Set("X-Key-Id", grant.KeyID)
	return answer, nil
}

func healthWatch(
	_ context.Context, _ *connect.Request[grpc_health_v1.HealthCheckRequest],
	out *connect.ServerStream[grpc_health_v1.HealthCheckResponse],
) error {
	return out.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING})
}

// guard is a connect.Interceptor.
type guard struct{ keys *keycote.Manager }

func (g guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, err := g.verify(ctx, req.Spec(), req.Peer(), req.Header())
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

func (g guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		ctx, err := g.verify(ctx, conn.Spec(), conn.Peer(), conn.RequestHeader())
		if err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

// WrapStreamingClient has nothing to do on a server.
func (g guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (g guard) verify(
	ctx context.Context, spec connect.Spec, peer connect.Peer, header http.Header,
) (context.Context, error) {
	required, known := scopes[spec.Procedure]
	if !known {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this procedure has no scope"))
	}
	from, _ := netip.ParseAddrPort(peer.Addr) // the zero value for what is none
	grant, err := g.keys.Verify(ctx, bearer(header.Values("Authorization")), keycote.Request{
		Scopes: required, Addr: from.Addr(), Route: spec.Procedure, UserAgent: header.Get("User-Agent"),
	})
	if err != nil {
		return nil, refusal(header.Get("Accept-Language"), err)
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

// refusal tells a client what it may know: of every refusal of identity the same.
func refusal(lang string, err error) error {
	code := connect.CodeInternal
	switch {
	case errors.Is(err, keycote.ErrUnauthenticated):
		code, err = connect.CodeUnauthenticated, keycote.ErrUnauthenticated
	case errors.Is(err, keycote.ErrScope):
		code = connect.CodePermissionDenied
	case errors.Is(err, keycote.ErrLimited):
		code = connect.CodeResourceExhausted
	case errors.Is(err, keycote.ErrUnavailable):
		code = connect.CodeUnavailable
	}
	return connect.NewError(code, errors.New(keycote.Message(lang, err)))
}
