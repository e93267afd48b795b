package redislimit

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a client and the server, so that a test can take the server away or let it hang without touching
// what others use.
type proxy struct {
	address string
	server  *server

	mu    sync.Mutex
	state string // "", "dead" or "hung"
	conns []net.Conn
}

func newProxy(t *testing.T, s *server) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{address: l.Addr().String(), server: s}
	t.Cleanup(func() {
		_ = l.Close()
		p.set("dead")
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.pass(c)
		}
	}()
	return p
}

// pass connects a client with the server, or does to it what the state says.
func (p *proxy) pass(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case "dead":
		_ = c.Close()
		return
	case "hung":
		p.conns = append(p.conns, c)
		return
	}
	up, err := (&net.Dialer{}).DialContext(context.Background(), p.server.network, p.server.address)
	if err != nil {
		_ = c.Close()
		return
	}
	p.conns = append(p.conns, c, up)
	go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
	go func() { _, _ = io.Copy(c, up); _ = c.Close() }()
}

// set changes the state, and cuts what is connected.
func (p *proxy) set(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
