package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// echo plays somebody else's API: it has a key of its own, of which its owner has given us a copy, and says whether the
// one that arrived is right. It never says which one arrived.
type echo struct {
	listener net.Listener
	cert     tls.Certificate
	key      string
}

// newEcho listens where it did the last time, because credentials are bound to scheme, host and port; the first time
// beside the application, if that port is free. Its certificate lives as long as the process.
func newEcho(ctx context.Context, f files, beside net.Addr, now time.Time) (*echo, error) {
	e := &echo{}
	var err error
	if e.key, err = remember(f.upstream, func() (string, error) { return "echo-" + rand.Text(), nil }); err != nil {
		return nil, err
	}
	addr, err := remember(f.echoAddr, func() (string, error) {
		port := beside.(*net.TCPAddr).Port + 1
		if e.listener, err = listen(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
			e.listener, err = listen(ctx, "127.0.0.1:0")
		}
		if err != nil {
			return "", err
		}
		return e.listener.Addr().String(), nil
	})
	if err == nil && e.listener == nil {
		if e.listener, err = listen(ctx, addr); err != nil {
			err = fmt.Errorf("the echo endpoint's address is taken: %w\n"+
				"It was chosen at the first start, and credentials are bound to it. Stop what uses it, perhaps another\n"+
				"quickstart on the same data; or remove %s, and add the credentials anew", err, f.echoAddr)
		}
	}
	if err == nil {
		e.cert, err = selfSigned(now)
	}
	if err != nil {
		if e.listener != nil {
			err = errors.Join(err, e.listener.Close())
		}
		return nil, err
	}
	return e, nil
}

// remember returns the line that path holds; where there is none, it makes and keeps one.
func remember(path string, first func() (string, error)) (string, error) {
	line, err := readLine(path)
	switch {
	case err == nil && line == "":
		return "", fmt.Errorf("%s is empty: remove it", path)
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return line, err
	}
	if line, err = first(); err != nil {
		return "", err
	}
	return line, writeLine(path, line)
}

func (e *echo) url() string { return "https://" + e.listener.Addr().String() + "/v1/echo" }

func (e *echo) tls() net.Listener {
	return tls.NewListener(e.listener, &tls.Config{
		Certificates: []tls.Certificate{e.cert}, MinVersion: tls.VersionTLS13,
	})
}

func (e *echo) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/echo", func(w http.ResponseWriter, r *http.Request) {
		ok := subtle.ConstantTimeCompare([]byte(bearer(r)), []byte(e.key)) == 1
		status := http.StatusOK
		if !ok {
			status = http.StatusUnauthorized
		}
		writeJSON(w, status, map[string]bool{"authorized": ok})
	})
	return mux
}

// selfSigned makes a certificate for 127.0.0.1 that signs nothing but itself.
func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "Keycote quickstart, echo endpoint"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// bearer is the request's one key; of several, none counts.
func bearer(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}
