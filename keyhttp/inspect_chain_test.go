package keyhttp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority is a certificate and what signs with it.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certify makes a certificate that ends in days, for the key, or a new one when it is nil; by signer, or by itself.
func certify(t *testing.T, name string, days int, key *ecdsa.PrivateKey, signer *authority) *authority {
	t.Helper()
	var err error
	if key == nil {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	end := now().Add(time.Duration(days)*24*time.Hour + time.Hour)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now().AddDate(-1, 0, 0), NotAfter: end,
		IsCA: name != "leaf", BasicConstraintsValid: true, IPAddresses: []net.IP{{127, 0, 0, 1}},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	by := &authority{template, key}
	if signer != nil {
		by = signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key}
}

// TestInspectChain: what counts is when the certificate ceases to be good, whatever else the server sends along.
func TestInspectChain(t *testing.T) {
	t.Parallel()
	root := certify(t, "root", 900, nil, nil)
	ending := certify(t, "ending root", 3, nil, nil)
	unrelated := certify(t, "unrelated", -41, nil, nil)
	middle := certify(t, "middle", 400, nil, root)
	cross := certify(t, "middle", 400, middle.key, ending) // the same authority, by a root that ends
	old := certify(t, "middle", -41, middle.key, root)     // and what it had before
	brief := certify(t, "middle", 9, nil, root)
	for _, tt := range []struct {
		name  string
		days  int // of the leaf
		by    *authority
		along []*authority
		want  string
	}{
		{"well", 90, middle, []*authority{middle}, "ok certificate_ok 90"},
		{"it ends", 7, middle, []*authority{middle}, "warning certificate_soon 7"},
		{"its signer ends", 90, brief, []*authority{brief}, "warning certificate_soon 9"},
		{"one that plays no part", 90, middle, []*authority{middle, unrelated}, "ok certificate_ok 90"},
		{"what the signer had before", 90, middle, []*authority{old, middle}, "ok certificate_ok 90"},
		{"another chain that ends", 90, middle, []*authority{cross, middle}, "ok certificate_ok 90"},
		{"only the chain that ends", 90, middle, []*authority{cross}, "warning certificate_soon 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			leaf := certify(t, "leaf", tt.days, nil, tt.by)
			shown := tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}
			for _, a := range tt.along {
				shown.Certificate = append(shown.Certificate, a.cert.Raw)
			}
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{shown}}
			server.StartTLS()
			t.Cleanup(server.Close)
			roots := x509.NewCertPool()
			roots.AddCert(root.cert)
			roots.AddCert(ending.cert)
			checks := Inspect(&Guard{AllowNets: loopback, RootCAs: roots})(t.Context(), server.URL)
			days, err := strconv.Atoi(checks[3].Params["days"])
			require.NoError(t, err)
			require.Equal(t, tt.want, checks[3].Status+" "+string(checks[3].Code)+" "+strconv.Itoa(days))
		})
	}
}
