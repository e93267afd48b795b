package keycote_test

import (
	"errors"
	"fmt"
	"log"
	"net/netip"
	"strings"
	"time"

	"github.com/keycote/keycote"
)

func ExampleManager_Issue() {
	keys := openManager(nil)
	key, secret, err := keys.Issue(ctx, keycote.IssueParams{
		Name: "ci", App: "shop",
		Scopes:    []string{"orders:read"},
		Networks:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		ExpiresAt: time.Now().AddDate(0, 3, 0),
		RequestID: "form 17", // a retry makes no second key
	})
	if err != nil {
		log.Fatal(err)
	}
	token := secret.Reveal() // shown this once
	fmt.Println(key.State, strings.HasPrefix(token, "kc_"), strings.HasPrefix(key.Hint, "kc_…"))
	// Output:
	// active true true
}

// A person chooses the value. It is known in its tenant only.
func ExampleManager_Issue_chosen() {
	keys := openManager(nil)
	_, _, err := keys.Issue(ctx, keycote.IssueParams{Name: "door", Secret: keycote.NewSecret("password12")})
	fmt.Println(errors.Is(err, keycote.ErrWeak))

	key, _, err := keys.Issue(ctx, keycote.IssueParams{Name: "door", Secret: keycote.NewSecret("tulip-Quartz-91-lantern")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Hint)
	// Output:
	// true
	// …tern
}

func ExampleManager_Verify() {
	keys := openManager(nil)
	_, token := issueKey(keys, "ci", "orders:read")

	grant, err := keys.Verify(ctx, token, keycote.Request{
		Scopes: []string{"orders:read"},
		Addr:   netip.MustParseAddr("192.0.2.7"),
		Route:  "GET /orders/{id}",
	})
	fmt.Println(grant.Key().Name, err)

	_, err = keys.Verify(ctx, token, keycote.Request{Scopes: []string{"orders:write"}})
	fmt.Println(keycote.CodeOf(err), errors.Is(err, keycote.ErrUnauthenticated))

	_, err = keys.Verify(ctx, "kc_mistyped", keycote.Request{})
	fmt.Println(keycote.CodeOf(err), errors.Is(err, keycote.ErrUnauthenticated))
	// Output:
	// ci <nil>
	// scope false
	// unknown_key true
}

func ExampleManager_Add() {
	keys := openManager(nil)
	key, err := keys.Add(ctx, keycote.AddParams{
		Name: "dify", Endpoint: "https://api.example.com/v1", Secret: keycote.NewSecret("app-7Rk2mQx9TzLw4Bn8"),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Kind, key.State, key.Hint)
	// Output:
	// credential active …4Bn8
}

func ExampleManager_Use() {
	keys := openManager(nil)
	key := addCredential(keys, "dify", "https://api.example.com", "app-7Rk2mQx9TzLw4Bn8")

	_, secret, err := keys.Use(ctx, key.ID, keycote.Request{Endpoint: "https://api.example.com/v1/run"})
	if err != nil {
		log.Fatal(err)
	}
	authorization := "Bearer " + secret.Reveal()
	fmt.Println(len(authorization))

	// To another origin it goes by no means.
	_, _, err = keys.Use(ctx, key.ID, keycote.Request{Endpoint: "https://api.example.net/v1/run"})
	fmt.Println(keycote.CodeOf(err))
	// Output:
	// 27
	// address
}

func ExampleManager_Reveal() {
	keys := openManager(nil)
	key := addCredential(keys, "dify", "https://api.example.com", "app-7Rk2mQx9TzLw4Bn8")

	secret, err := keys.Reveal(ctx, key.ID, "moving to the new billing system, ticket 812")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(secret.Reveal())

	_, err = keys.Reveal(ctx, key.ID, "") // not without a reason
	fmt.Println(errors.Is(err, keycote.ErrInvalid))
	// Output:
	// app-7Rk2mQx9TzLw4Bn8
	// true
}

func ExampleManager_Rotate() {
	keys := openManager(nil)
	key, old := issueKey(keys, "ci")

	// Both values work for a day, or until the new one is used.
	key, secret, err := keys.Rotate(ctx, key.ID, keycote.RotateParams{Overlap: 24 * time.Hour, UntilUsed: true})
	if err != nil {
		log.Fatal(err)
	}
	grant, err := keys.Verify(ctx, old, keycote.Request{})
	fmt.Println("old:", grant.Superseded, err)
	grant, err = keys.Verify(ctx, secret.Reveal(), keycote.Request{})
	fmt.Println("new:", grant.Superseded, err)
	_, err = keys.Verify(ctx, old, keycote.Request{})
	fmt.Println("old:", keycote.CodeOf(err))
	fmt.Println("versions:", len(key.Versions))
	// Output:
	// old: true <nil>
	// new: false <nil>
	// old: expired
	// versions: 2
}

// The value of a credential has no overlap: the new one takes its place.
func ExampleManager_Rotate_credential() {
	keys := openManager(nil)
	key := addCredential(keys, "dify", "https://api.example.com", "app-7Rk2mQx9TzLw4Bn8")
	key, _, err := keys.Rotate(ctx, key.ID, keycote.RotateParams{Secret: keycote.NewSecret("app-Vd5Hs8Yc1PjN6Fg3")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Hint, key.Versions[0].State, key.Versions[1].State)
	// Output:
	// …6Fg3 ended active
}

func ExampleManager_Update() {
	keys := openManager(nil)
	key, _ := issueKey(keys, "ci", "orders:read")

	name, scopes := "build server", []string{"orders:read", "orders:write"}
	key, err := keys.Update(ctx, key.ID, keycote.Patch{
		Name: &name, Scopes: &scopes,
		ExpiresAt: new(time.Time), // never; nil would leave it as it is
		Revision:  key.Revision,   // refuse if somebody else was faster
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Name, key.Scopes, key.Revision)
	// Output:
	// build server [orders:read orders:write] 2
}

// A credential moves to another origin only together with its value: an address alone would send the old value there.
func ExampleManager_Update_endpoint() {
	keys := openManager(nil)
	key := addCredential(keys, "dify", "https://api.example.com", "app-7Rk2mQx9TzLw4Bn8")

	elsewhere := "https://api.example.net"
	_, err := keys.Update(ctx, key.ID, keycote.Patch{Endpoint: &elsewhere})
	fmt.Println(errors.Is(err, keycote.ErrSecretRequired))
	_, err = keys.Update(ctx, key.ID, keycote.Patch{
		Endpoint: &elsewhere, Secret: keycote.NewSecret("app-Vd5Hs8Yc1PjN6Fg3"),
	})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

func ExampleManager_Disable() {
	keys := openManager(nil)
	key, token := issueKey(keys, "ci")
	key, err := keys.Disable(ctx, key.ID, "seen in a log")
	if err != nil {
		log.Fatal(err)
	}
	_, err = keys.Verify(ctx, token, keycote.Request{})
	fmt.Println(key.State, keycote.CodeOf(err))
	// Output:
	// disabled disabled
}

func ExampleManager_DisableAll() {
	keys := openManager(nil)
	key, _ := issueKey(keys, "ci")
	n, err := keys.DisableAll(ctx, keycote.Filter{Name: "ci"}, "the build machine is being looked at")
	if err != nil {
		log.Fatal(err)
	}
	key, err = keys.Get(ctx, key.ID)
	fmt.Println(n, key.State, err)
	_, err = keys.DisableAll(ctx, keycote.Filter{}, "a field was forgotten")
	fmt.Println(keycote.CodeOf(err))
	// Output:
	// 1 disabled <nil>
	// invalid
}

func ExampleManager_RevokeAll() {
	keys := openManager(nil)
	_, token := issueKey(keys, "ci")
	n, err := keys.RevokeAll(ctx, keycote.Filter{Search: "CI"}, "the build machine was broken into")
	if err != nil {
		log.Fatal(err)
	}
	_, err = keys.Verify(ctx, token, keycote.Request{})
	fmt.Println(n, keycote.CodeOf(err))
	// Output:
	// 1 revoked
}

func ExampleManager_Enable() {
	keys := openManager(nil)
	key, token := issueKey(keys, "ci")
	if _, err := keys.Disable(ctx, key.ID, "seen in a log"); err != nil {
		log.Fatal(err)
	}
	key, err := keys.Enable(ctx, key.ID, "the log was of a test")
	if err != nil {
		log.Fatal(err)
	}
	_, err = keys.Verify(ctx, token, keycote.Request{})
	fmt.Println(key.State, err)
	// Output:
	// active <nil>
}

func ExampleManager_Revoke() {
	keys := openManager(nil)
	key, token := issueKey(keys, "ci")
	key, err := keys.Revoke(ctx, key.ID, "the laptop is lost")
	if err != nil {
		log.Fatal(err)
	}
	_, err = keys.Verify(ctx, token, keycote.Request{})
	fmt.Println(key.State, keycote.CodeOf(err))

	issueKey(keys, "ci") // the name is free again
	_, err = keys.Enable(ctx, key.ID, "found it")
	fmt.Println(keycote.CodeOf(err)) // and there is no way back
	// Output:
	// revoked revoked
	// revoked
}

func ExampleManager_Delete() {
	keys := openManager(nil)
	key, _ := issueKey(keys, "ci")
	if err := keys.Delete(ctx, key.ID, "the project has ended"); err != nil {
		log.Fatal(err)
	}
	_, err := keys.Get(ctx, key.ID)
	fmt.Println(keycote.CodeOf(err))

	for event, err := range keys.Events(ctx, keycote.EventFilter{KeyID: key.ID}) { // its events stay
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Action, event.Name)
	}
	// Output:
	// not_found
	// issue ci
	// revoke ci
	// delete ci
}
