package keycote_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/keycote/keycote"
)

func ExampleGrant_Limits() {
	keys := openManager(nil)
	_, secret, err := keys.Issue(ctx, keycote.IssueParams{
		Name: "ci", Limit: keycote.Limit{Quota: 2, Period: 24 * time.Hour},
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		grant, err := keys.Verify(ctx, secret.Reveal(), keycote.Request{})
		var refused *keycote.Error
		if errors.As(err, &refused) {
			fmt.Println(refused.Code, "for", refused.RetryAfter.Round(time.Hour))
			continue
		}
		for _, state := range grant.Limits() {
			fmt.Println(state.Policy, state.Remaining, "of", state.Limit)
		}
	}
	// Output:
	// quota 1 of 2
	// quota 0 of 2
	// limited for 24h0m0s
}
