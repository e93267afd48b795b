package keycote_test

import (
	"fmt"
	"log"
)

// What is wrong with a key is said in words, and so is what to do about it.
func ExampleManager_Diagnose() {
	keys := openManager(nil)
	key, _ := issueKey(keys, "ci")
	if _, err := keys.Disable(ctx, key.ID, "lost laptop"); err != nil {
		log.Fatal(err)
	}
	report, err := keys.Diagnose(ctx, key.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Status)
	for _, c := range report.In("en").Checks {
		if c.Advice != "" {
			fmt.Printf("%s: %s %s\n", c.Title, c.Text, c.Advice)
		}
	}
	// Output:
	// failed
	// State: Not active; state: disabled. Use an active key, or enable this one if it is only disabled.
	// Scopes: The key has no scopes. Give the key the scopes that it needs.
	// Successful uses: The key has never been used. Revoke the key if nobody needs it.
}
