package keyhttp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/keyhttp"
)

// lan is where the endpoints of these examples are: an operator opens it, for the validator and for the guard.
var lan = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func lanValidator() *keycote.Validator {
	return keycote.NewValidator(&keycote.ValidatorOptions{AllowHTTP: true, AllowNets: lan})
}

// A Transport presents a credential to its own endpoint. The program that makes the call never sees the key, and a
// request to anywhere else is not sent.
func ExampleTransport() {
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("the endpoint gets:", r.Header.Get("Authorization"))
	}))
	defer endpoint.Close()
	keys := exampleManager(&keycote.Options{Validator: lanValidator()})
	key, err := keys.Add(context.Background(), keycote.AddParams{
		Name: "payments", Endpoint: endpoint.URL, Secret: keycote.NewSecret("Kx7-somebody-elses-Qp42zw"),
	})
	if err != nil {
		log.Fatal(err)
	}

	client := &http.Client{Transport: &keyhttp.Transport{
		Manager: keys, KeyID: key.ID, Base: &keyhttp.Guard{AllowNets: lan},
	}}
	resp, err := client.Get(endpoint.URL + "/v1/charges")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Printf("the caller sees: %q\n", resp.Request.Header.Get("Authorization"))
	_, err = client.Get("https://elsewhere.example/v1/charges")
	fmt.Println("not sent elsewhere:", errors.Is(err, keycote.ErrAddress))
	// Output:
	// the endpoint gets: Bearer Kx7-somebody-elses-Qp42zw
	// the caller sees: ""
	// not sent elsewhere: true
}

// A zero Guard reaches the public internet alone. What it refuses can be said to the person who typed the address.
func ExampleGuard() {
	client := &http.Client{Transport: &keyhttp.Guard{}}
	_, err := client.Get("http://169.254.169.254/latest/meta-data/")
	fmt.Println(keycote.Message("en", err))
	// Output: Endpoint: leads to a private or local address, which this service does not allow
}

// With a Prober nothing is kept for an endpoint that does not answer as it should.
func ExamplePingPong() {
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"result":"PONG"}`)
	}))
	defer endpoint.Close()
	guard := &keyhttp.Guard{AllowNets: lan}
	keys := exampleManager(&keycote.Options{Validator: lanValidator(), Prober: keyhttp.PingPong(guard)})
	_, err := keys.Add(context.Background(), keycote.AddParams{
		Name: "extension", Endpoint: endpoint.URL, Secret: keycote.NewSecret("Kx7-somebody-elses-Qp42zw"),
	})
	fmt.Println(keycote.Message("de", err))
	// Output: Endpunkt: der Endpunkt war nicht erreichbar oder hat nicht wie erwartet geantwortet
}

// Diagnose walks the way to an endpoint step by step.
func ExampleInspect() {
	guard := &keyhttp.Guard{} // which opens no private network
	keys := exampleManager(&keycote.Options{Validator: lanValidator(), Inspect: keyhttp.Inspect(guard)})
	key, err := keys.Add(context.Background(), keycote.AddParams{
		Name: "inside", Endpoint: "https://127.0.0.1", Secret: keycote.NewSecret("Kx7-somebody-elses-Qp42zw"),
	})
	if err != nil {
		log.Fatal(err)
	}
	report, err := keys.Diagnose(context.Background(), key.ID)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range report.In("en-GB").Checks {
		if c.Area == "network" && c.Status == "failed" {
			fmt.Printf("%s: %s %s\n", c.Title, c.Text, c.Advice)
		}
	}
	// Output: Address guard: The host name leads to an address that this service does not allow. Use a public address, or have an operator allow this one.
}
