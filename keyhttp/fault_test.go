package keyhttp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keytest"
)

// expiring starts an HTTPS server on loopback whose certificate has three days left, and some hours.
func expiring(t *testing.T) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(75 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return server, roots
}

// mute listens, accepts, and says nothing.
func mute(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestFaultsAreReal holds what keytest reports of a broken endpoint against what Inspect and Reachable find of one that
// is broken in earnest.
func TestFaultsAreReal(t *testing.T) {
	t.Parallel()
	status := func(code int) (*httptest.Server, *x509.CertPool) {
		return newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	well, roots := status(http.StatusOK)
	failing, failingRoots := status(http.StatusInternalServerError)
	refusing, refusingRoots := status(http.StatusForbidden)
	ending, endingRoots := expiring(t)
	nobody := mute(t)
	require.NoError(t, nobody.Close())
	resolver := newDNS(t, func(name string, _ int) []netip.Addr { return nil })
	for _, tt := range []struct {
		name     string
		fault    keytest.Fault
		endpoint string
		guard    *Guard
		probe    bool // whether the fault is the probe's, too
	}{
		{"none", "", well.URL, &Guard{AllowNets: loopback, RootCAs: roots}, true},
		{"name", keytest.FaultName, "https://nowhere.test", &Guard{Resolver: resolver}, false},
		{"guard", keytest.FaultGuard, well.URL, &Guard{RootCAs: roots}, false},
		{"tcp", keytest.FaultTCP, "https://" + nobody.Addr().String(), &Guard{AllowNets: loopback}, false},
		{"tls", keytest.FaultTLS, well.URL, &Guard{AllowNets: loopback}, false},
		{"expiring", keytest.FaultExpiring, ending.URL, &Guard{AllowNets: loopback, RootCAs: endingRoots}, true},
		{"http", keytest.FaultHTTP, failing.URL, &Guard{AllowNets: loopback, RootCAs: failingRoots}, true},
		{"key refused", keytest.FaultKeyRefused, refusing.URL, &Guard{AllowNets: loopback, RootCAs: refusingRoots}, true},
		{"probe", keytest.FaultProbe, "https://" + nobody.Addr().String(), nil, true},
		{"hang", keytest.FaultHang, "https://" + mute(t).Addr().String(), &Guard{AllowNets: loopback}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			of := func(opts *keycote.Options, endpoint string, faults ...keytest.Fault) map[string]keycote.Check {
				env := keytest.New(t, opts)
				key, err := env.Manager.Add(t.Context(), keycote.AddParams{
					Name: "it", Endpoint: endpoint, Secret: keycote.NewSecret("Kx7-diagnosed-value-Qp42zw"), SkipProbe: true,
				})
				require.NoError(t, err)
				env.Break(nil, faults...)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				d, err := env.Manager.Diagnose(ctx, key.ID)
				require.NoError(t, err)
				found := map[string]keycote.Check{}
				for _, c := range d.Checks {
					if c.Area != "network" {
						continue
					}
					c.Took = 0
					found[c.Name] = c
				}
				require.Len(t, found, 6)
				return found
			}
			var faults []keytest.Fault
			if tt.fault != "" {
				faults = append(faults, tt.fault)
			}
			fake := of(nil, "https://api.example.com", faults...)
			guard := tt.guard
			if guard == nil {
				guard = &Guard{AllowNets: loopback}
			}
			genuine := of(&keycote.Options{Inspect: Inspect(guard), Prober: Reachable(guard)}, tt.endpoint)
			if tt.probe {
				require.Equal(t, genuine["probe"], fake["probe"])
			}
			if tt.guard == nil { // keytest's endpoint goes on to be well apart from the probe
				return
			}
			for name, c := range genuine {
				f := fake[name]
				switch {
				case name == "probe":
					continue
				case c.Code == "answered" || c.Code == "certificate_ok": // their numbers are the server's own
					c.Params, c.Text, f.Params, f.Text = nil, "", nil, ""
				}
				require.Equal(t, c, f, name)
			}
		})
	}
}

// TestDiagnoseOfSilence: an endpoint that accepts and says nothing costs the report its own steps, and no more.
func TestDiagnoseOfSilence(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http://", "https://"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			guard := &Guard{AllowNets: loopback}
			env := keytest.New(t, &keycote.Options{Inspect: Inspect(guard), Prober: Reachable(guard)})
			key, err := env.Manager.Add(t.Context(), keycote.AddParams{
				Name: "it", Endpoint: scheme + mute(t).Addr().String(), SkipProbe: true,
				Secret: keycote.NewSecret("Kx7-diagnosed-value-Qp42zw"),
			})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			d, err := env.Manager.Diagnose(ctx, key.ID)
			require.NoError(t, err)
			require.NoError(t, ctx.Err())
			found := map[string]string{}
			for _, c := range d.Checks {
				found[c.Name] = c.Status + " " + string(c.Code)
			}
			require.Equal(t, "ok connected", found["tcp"], "what was found before it hung")
			require.Equal(t, "failed could_not_check", found["probe"])
			require.Equal(t, "warning never_used", found["successes"])
			require.Equal(t, "failed", d.Status)
		})
	}
}
