package keyhttp

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// newDNS starts a name server on loopback and returns a resolver that asks it alone. answer is called with a name,
// without its last dot, and how often its addresses of this family have been asked for before; it returns all
// addresses that there are, and nil for a name that does not exist.
func newDNS(t *testing.T, answer func(name string, asked int) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		type question struct {
			name string
			kind uint16
		}
		asked := map[question]int{}
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			name, kind, end, ok := readQuestion(buf[:n])
			if !ok {
				continue
			}
			q := question{name, kind}
			_, _ = conn.WriteTo(reply(buf[:end], kind, answer(name, asked[q])), from)
			asked[q]++
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		wg.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

// readQuestion takes a query (RFC 1035, section 4.1) apart as far as its only question, which ends at end.
func readQuestion(msg []byte) (name string, kind uint16, end int, ok bool) {
	var labels []string
	for i := 12; i < len(msg); {
		n := int(msg[i])
		i++
		if n == 0 {
			if i+4 > len(msg) {
				return "", 0, 0, false
			}
			return strings.ToLower(strings.Join(labels, ".")), binary.BigEndian.Uint16(msg[i:]), i + 4, true
		}
		if n > 63 || i+n > len(msg) {
			return "", 0, 0, false
		}
		labels = append(labels, string(msg[i:i+n]))
		i += n
	}
	return "", 0, 0, false
}

const typeA, typeAAAA = 1, 28

// reply answers the query, which ends after its question, with the addresses of the kind asked for.
func reply(query []byte, kind uint16, addrs []netip.Addr) []byte {
	msg := append([]byte(nil), query...)
	flags, answers := uint16(0x8180), 0 // an answer, from a server that recurses
	if addrs == nil {
		flags |= 3 // no such name
	}
	for _, a := range addrs {
		if a.Is4() && kind == typeA || a.Is6() && kind == typeAAAA {
			b := a.AsSlice()
			msg = append(msg, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(b))) // time to live: 0
			msg = append(msg, b...)
			answers++
		}
	}
	binary.BigEndian.PutUint16(msg[2:], flags)
	binary.BigEndian.PutUint16(msg[4:], 1)
	binary.BigEndian.PutUint16(msg[6:], uint16(answers))
	binary.BigEndian.PutUint32(msg[8:], 0)
	return msg
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
