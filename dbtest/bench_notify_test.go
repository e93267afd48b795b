package dbtest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keycote/keycote"
)

// BenchmarkRevocationSeenElsewhere says how long after the commit of a revocation another process's cache still honours
// the key: it hears of it, or polls.
//
//	go test -run '^$' -bench RevocationSeen -benchtime 200x ./dbtest
func BenchmarkRevocationSeenElsewhere(b *testing.B) {
	for _, e := range engines {
		for _, by := range []string{"notify", "poll"} {
			if by == "notify" && !onPostgres(e) || by == "poll" && e.variant {
				continue
			}
			b.Run(e.name+"/"+by, func(b *testing.B) {
				_, _, here := e.fresh(b)
				writer, err := openHost(b.Context(), here.store(b, here.open(b)), here.kek)
				require.NoError(b, err)
				var store keycote.Store = here.store(b, here.open(b))
				if by == "notify" {
					store = hears(b, e, here, "bench")
				}
				m := follower(b, store, here.kek)
				const batch = 20
				var took []time.Duration
				for len(took) < b.N {
					ids, tokens := make([]string, batch), make([]string, batch)
					for i := range batch {
						key, secret, err := writer.Issue(b.Context(), keycote.IssueParams{Name: fmt.Sprint(len(took), " ", i)})
						require.NoError(b, err)
						ids[i], tokens[i] = key.ID, secret.Reveal()
					}
					for i := range batch {
						_, err := m.Verify(b.Context(), tokens[i], keycote.Request{})
						require.NoError(b, err)
						if by == "poll" { // at any moment between two polls
							<-time.After(time.Duration(i) * 37 * time.Millisecond)
						}
						_, err = writer.Revoke(b.Context(), ids[i], "")
						require.NoError(b, err)
						began := time.Now()
						for err == nil {
							_, err = m.Verify(b.Context(), tokens[i], keycote.Request{})
							<-time.After(20 * time.Microsecond)
						}
						took = append(took, time.Since(began))
					}
				}
				slices.Sort(took)
				b.ReportMetric(0, "ns/op")
				for _, p := range []int{50, 99, 100} {
					at := took[(len(took)-1)*p/100]
					b.ReportMetric(float64(at.Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
				}
			})
		}
	}
}

// BenchmarkNotify is what a notification costs its commit: the update of the head in a transaction of its own, which is
// the least that a change does, with it and without, and with somebody who listens.
//
//	go test -run '^$' -bench 'Notify$' -benchtime 1000x -count 5 ./dbtest
func BenchmarkNotify(b *testing.B) {
	for _, e := range engines {
		if !onPostgres(e) {
			continue
		}
		for _, listen := range []bool{false, true} {
			store, db, here := e.fresh(b)
			if listen {
				h := hears(b, e, here, "bench")
				ctx, stop := context.WithCancel(b.Context())
				ended := make(chan error, 1)
				go func() { ended <- h.Notify(ctx, func() {}) }()
				h.wait(b)
				defer func() { stop(); <-ended }()
			}
			name := fmt.Sprintf("%s/listening=%t/", e.name, listen)
			channel := ""
			l, err := store.WithListener(func(_ context.Context, c string, _ func()) error { channel = c; return nil })
			require.NoError(b, err)
			require.NoError(b, l.Notify(b.Context(), nil))
			for _, how := range []string{"silent", "told"} {
				b.Run(name+how, func(b *testing.B) {
					statement, args := here.named("UPDATE keycote_head SET n = n WHERE one = 1"), []any{}
					if how == "told" {
						statement, args = statement+" RETURNING pg_notify($1, '')", append(args, channel)
					}
					for b.Loop() {
						_, err := db.ExecContext(b.Context(), statement, args...)
						require.NoError(b, err)
					}
				})
			}
		}
	}
}
