package keycote_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// ctx is what a host gets from its caller.
var ctx = context.Background()

// exampleKEK is a KEK for as long as the process lives. A host takes LocalKEK, or its KMS.
func exampleKEK() keycote.KEK {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		log.Fatal(err)
	}
	return keycote.NewKEK("example", a)
}

// openManager makes the Manager of an example.
func openManager(opts *keycote.Options) *keycote.Manager {
	keys, err := keycote.New(ctx, memstore.New(), exampleKEK(), opts)
	if err != nil {
		log.Fatal(err)
	}
	return keys
}

// issueKey makes an access key for an example that is about something else.
func issueKey(keys *keycote.Manager, name string, scopes ...string) (key *keycote.Key, token string) {
	key, secret, err := keys.Issue(ctx, keycote.IssueParams{Name: name, Scopes: scopes})
	if err != nil {
		log.Fatal(err)
	}
	return key, secret.Reveal()
}

// addCredential adds a credential for an example that is about something else.
func addCredential(keys *keycote.Manager, name, endpoint, value string) *keycote.Key {
	key, err := keys.Add(ctx, keycote.AddParams{Name: name, Endpoint: endpoint, Secret: keycote.NewSecret(value)})
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func ExampleNew() {
	dir, err := os.MkdirTemp("", "keycote")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	kek, err := keycote.LocalKEK(filepath.Join(dir, "kek.json"))
	if err != nil {
		log.Fatal(err)
	}
	store := memstore.New() // or sqlstore.New(ctx, db, sqlstore.SQLite)
	if _, err := keycote.New(ctx, store, kek, &keycote.Options{Prefix: "acme_live"}); err != nil {
		log.Fatal(err)
	}

	// Another KEK does not open what is there, and never starts anew over it.
	_, err = keycote.New(ctx, store, exampleKEK(), nil)
	fmt.Println(errors.Is(err, keycote.ErrKEK))
	// Output:
	// true
}

func ExampleLocalKEK() {
	dir, err := os.MkdirTemp("", "keycote")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// The file is made when New finds an empty store, and belongs neither beside the database nor into its backups.
	path := filepath.Join(dir, "kek.json")
	kek, err := keycote.LocalKEK(path)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := keycote.New(ctx, memstore.New(), kek, nil); err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(kek.ID(), "local:"), info.Mode().IsRegular())
	// Output:
	// true true
}

func ExampleNewKEK() {
	// Any Tink AEAD will do: of a cloud KMS, of Vault transit, of an HSM. Its id stands in clear beside what it wraps.
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	a, err := aead.New(handle)
	if err != nil {
		log.Fatal(err)
	}
	kek := keycote.NewKEK("kms:keys/keycote/1", a)
	_, err = keycote.New(ctx, memstore.New(), kek, nil)
	fmt.Println(kek.ID(), err)
	// Output:
	// kms:keys/keycote/1 <nil>
}

func ExampleNewSecret() {
	secret := keycote.NewSecret("correct horse battery staple")
	fmt.Println(secret, len(secret.Reveal()))
	fmt.Printf("%+v\n", struct{ Password any }{secret})
	// Output:
	// [redacted] 28
	// {Password:[redacted]}
}

func ExampleNewValidator() {
	// A rule of the host's own, beside those that always apply.
	named := func(_ context.Context, d *keycote.Draft) ([]keycote.Violation, error) {
		if strings.HasPrefix(d.Name, d.App+"-") {
			return nil, nil
		}
		return []keycote.Violation{{Field: "name", Code: "naming", Text: "must begin with the application's name"}}, nil
	}
	keys := openManager(&keycote.Options{
		Validator: keycote.NewValidator(&keycote.ValidatorOptions{MaxLife: 90 * 24 * time.Hour}, named),
	})

	_, _, err := keys.Issue(ctx, keycote.IssueParams{Name: "ci", App: "shop"})
	fmt.Println(keycote.Message("en", err))

	_, _, err = keys.Issue(ctx, keycote.IssueParams{
		Name: "shop-ci", App: "shop", ExpiresAt: time.Now().Add(30 * 24 * time.Hour),
	})
	fmt.Println(err)
	// Output:
	// Name: must begin with the application's name
	// Expiry: required
	// <nil>
}

func ExampleMessage() {
	keys := openManager(nil)
	_, err := keys.Add(ctx, keycote.AddParams{
		Name: "dify", Endpoint: "http://api.example.com", Secret: keycote.NewSecret("1234"),
	})
	fmt.Println(keycote.Message("en", err))
	fmt.Println(keycote.Message("zh-CN,zh;q=0.9", keycote.ErrExpired)) // an Accept-Language header will do
	// Output:
	// Endpoint: must begin with https://
	// Key: too short; minimum length: 5
	// 该密钥已过期。
}

func ExampleWithActor() {
	keys := openManager(nil)
	// The host's own code fills the actor in from what it has authenticated, never from a request's body.
	as := keycote.WithActor(ctx, keycote.Actor{ID: "ann", MaxScopes: []string{"orders:*"}})

	key, _, err := keys.Issue(as, keycote.IssueParams{Name: "reader", Scopes: []string{"orders:read"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Owner, key.CreatedBy)

	_, _, err = keys.Issue(as, keycote.IssueParams{Name: "root", Scopes: []string{"**"}})
	fmt.Println(keycote.CodeOf(err))
	// Output:
	// ann ann
	// forbidden
}

func ExampleByRole() {
	keys := openManager(&keycote.Options{Authorize: keycote.ByRole})
	key := keycote.IssueParams{Name: "ci"}
	viewer := keycote.WithActor(ctx, keycote.Actor{ID: "vic", Roles: []string{"viewer"}})
	editor := keycote.WithActor(ctx, keycote.Actor{ID: "edna", Roles: []string{"editor"}})

	_, _, err := keys.Issue(viewer, key)
	fmt.Println("viewer:", keycote.CodeOf(err))
	_, _, err = keys.Issue(ctx, key) // a forgotten actor is noticed
	fmt.Println("nobody:", keycote.CodeOf(err))
	_, _, err = keys.Issue(editor, key)
	fmt.Println("editor:", err)
	// Output:
	// viewer: forbidden
	// nobody: forbidden
	// editor: <nil>
}

func ExampleGrant_Allows() {
	keys := openManager(nil)
	_, token := issueKey(keys, "ci", "orders:read", "reports:**")
	grant, err := keys.Verify(ctx, token, keycote.Request{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(grant.Allows("orders:read"), grant.Allows("reports:2026:march"), grant.Allows("orders:write"))
	// Output:
	// true true false
}

func ExampleGrantFrom() {
	keys := openManager(nil)
	_, token := issueKey(keys, "ci", "orders:read")

	// Middleware puts the grant into the context of the request,
	grant, err := keys.Verify(ctx, token, keycote.Request{})
	if err != nil {
		log.Fatal(err)
	}
	request := keycote.WithGrant(ctx, grant)

	// and the handler finds it there.
	grant, ok := keycote.GrantFrom(request)
	fmt.Println(ok, grant.Key().Name)
	// Output:
	// true ci
}
