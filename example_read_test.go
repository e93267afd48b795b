package keycote_test

import (
	"context"
	"fmt"
	"log"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

func ExampleManager_Get() {
	keys := openManager(nil)
	made, _ := issueKey(keys, "ci", "orders:read")
	key, err := keys.Get(ctx, made.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Name, key.State, key.Scopes, key.LastUsedAt.IsZero())
	// Output:
	// ci active [orders:read] true
}

func ExampleManager_List() {
	keys := openManager(nil)
	issueKey(keys, "ci")
	issueKey(keys, "backup")
	addCredential(keys, "dify", "https://api.example.com", "app-7Rk2mQx9TzLw4Bn8")

	for key, err := range keys.List(ctx, keycote.Filter{Kind: keycote.KindAccess}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(key.Name, key.State)
	}
	// Output:
	// ci active
	// backup active
}

func ExampleManager_Page() {
	keys := openManager(nil)
	for _, name := range []string{"one", "two", "three"} {
		issueKey(keys, name)
	}
	newest := keycote.Filter{Newest: true}
	for cursor := ""; ; {
		page, err := keys.Page(ctx, newest, cursor, 2)
		if err != nil {
			log.Fatal(err)
		}
		for _, key := range page.Keys {
			fmt.Print(key.Name, " ")
		}
		fmt.Println("|")
		if cursor = page.Next; cursor == "" {
			return
		}
	}
	// Output:
	// three two |
	// one |
}

func ExampleManager_Events() {
	keys := openManager(nil)
	ann := keycote.WithActor(ctx, keycote.Actor{ID: "ann", MaxScopes: []string{"**"}})
	key, _, err := keys.Issue(ann, keycote.IssueParams{Name: "ci", Reason: "the new build server"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := keys.Disable(ann, key.ID, "seen in a log"); err != nil {
		log.Fatal(err)
	}

	for event, err := range keys.Events(ctx, keycote.EventFilter{KeyID: key.ID}) {
		if err != nil { // of this event alone, if it is ErrTampered
			log.Fatal(err)
		}
		fmt.Printf("%s %s: %s\n", event.Actor, event.Action, event.Reason)
		for _, change := range event.Changes {
			fmt.Printf("  %s: %s -> %s\n", change.Field, change.From, change.To)
		}
	}
	// Output:
	// ann issue: the new build server
	// ann disable: seen in a log
	//   state: active -> disabled
}

func ExampleManager_Tenant() {
	keys := openManager(nil)
	acme, bolt := keys.Tenant("acme"), keys.Tenant("bolt")
	key, token := issueKey(acme, "ci")

	_, err := bolt.Get(ctx, key.ID)
	fmt.Println(keycote.CodeOf(err))
	_, err = bolt.Verify(ctx, token, keycote.Request{})
	fmt.Println(keycote.CodeOf(err))

	// The Manager that New returns verifies issued keys of all tenants: whoever asks it compares Grant.Tenant.
	grant, err := keys.Verify(ctx, token, keycote.Request{})
	fmt.Println(grant.Tenant, err)

	_, err = keys.Tenant("").Get(ctx, key.ID) // a forgotten tenant is nobody's
	fmt.Println(keycote.CodeOf(err))
	// Output:
	// not_found
	// unknown_key
	// acme <nil>
	// invalid
}

func ExampleManager_Tenants() {
	keys := openManager(nil)
	issueKey(keys.Tenant("bolt"), "ci")
	issueKey(keys.Tenant("acme"), "ci")
	issueKey(keys, "ci") // of the unnamed tenant, which is keys itself

	for tenant, err := range keys.Tenants(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(tenant)
	}
	// Output:
	// acme
	// bolt
}

func ExampleManager_In() {
	store := memstore.New()
	keys, err := keycote.New(ctx, store, exampleKEK(), nil)
	if err != nil {
		log.Fatal(err)
	}

	// With sqlstore: tx, err := db.BeginTx(ctx, nil), and then keys.In(store.Tx(tx)). The key is kept if and only if the
	// host's own rows are.
	view, committed := keys.In(store)
	key, _, err := view.Issue(ctx, keycote.IssueParams{Name: "of a new customer"})
	if err != nil {
		log.Fatal(err) // and roll back
	}
	committed() // after tx.Commit()

	key, err = keys.Get(ctx, key.ID)
	fmt.Println(key.Name, err)
	// Output:
	// of a new customer <nil>
}

func ExampleManager_Run() {
	keys := openManager(nil)
	ctx, stop := context.WithCancel(ctx) // or signal.NotifyContext
	ended := make(chan error)
	go func() { ended <- keys.Run(ctx) }()

	// The host serves until it is told to stop; then Run writes the last counts.
	stop()
	fmt.Println(<-ended)
	// Output:
	// <nil>
}

func ExampleManager_Flush() {
	keys := openManager(nil)
	key, token := issueKey(keys, "ci")
	for range 3 {
		if _, err := keys.Verify(ctx, token, keycote.Request{}); err != nil {
			log.Fatal(err)
		}
	}
	if err := keys.Flush(ctx); err != nil { // a host that does not run Run calls it before it exits
		log.Fatal(err)
	}
	key, err := keys.Get(ctx, key.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Versions[0].Uses, key.LastUsedAt.IsZero())
	// Output:
	// 3 false
}
