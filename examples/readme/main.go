package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"
	"os"

	_ "modernc.org/sqlite"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/sqlstore"
)

func main() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:keys.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	check(err)
	check(sqlstore.Migrate(ctx, db, sqlstore.SQLite))
	store, err := sqlstore.New(ctx, db, sqlstore.SQLite)
	check(err)
	kek, err := keycote.LocalKEK(os.Getenv("KEK_FILE")) // made at the first start; keep it away from the database
	check(err)
	keys, err := keycote.New(ctx, store, kek, nil)
	check(err)
	if len(os.Args) > 1 { // a name: issue a key, show its value this once, and end
		_, secret, err := keys.Issue(ctx, keycote.IssueParams{Name: os.Args[1], Scopes: []string{"orders:read"}})
		check(err)
		fmt.Println(secret.Reveal())
		return
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", routes(keys)))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
