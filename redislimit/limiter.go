// Package redislimit counts the uses of keys with a Limit in Redis or Valkey, for many processes together:
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
//	limiter, err := redislimit.New(client, "")
//	keys, err := keycote.New(ctx, store, kek, &keycote.Options{Limiter: limiter})
//
// Each use of such a key is one script call on one Redis key, so it works on a cluster too. Keys without a Limit cost
// nothing. The server's clock counts, so it does not matter when the processes' own clocks differ.
//
// What is not written to the server's disk is lost when it restarts, and a failover may lose the last uses: then they are
// allowed again. The server learns tenants by a hash, ids of keys as they are, and no secret.
package redislimit

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keycote/keycote"
)

// defaultPrefix begins the names of all Redis keys that a Limiter makes.
const defaultPrefix = "keycote:limit:"

//go:embed take.lua
var source string

// Limiter is a [keycote.Limiter] on a Redis server. It is safe for concurrent use; [New] makes it.
type Limiter struct {
	client redis.UniversalClient
	prefix string
	script *redis.Script
	now    func() time.Time // of tests; nil: the server's
}

var _ keycote.Limiter = (*Limiter)(nil)

// New makes a Limiter whose Redis keys begin with prefix; "" is "keycote:limit:". Managers that share a client and a
// prefix share their counts. It asks the server nothing, and does not close the client.
//
// It fails on a nil client, and on one without ContextTimeoutEnabled: go-redis leaves that off, and then a server that
// hangs holds every Verify for as long as the client's own timeouts and retries take, whatever the context says.
//
// A command that the client sends again, because the connection broke, may take a second use. MaxRetries: -1 keeps it from
// that.
func New(client redis.UniversalClient, prefix string) (*Limiter, error) {
	enabled := true
	switch c := client.(type) {
	case nil:
		return nil, errors.New("redislimit: the client is nil")
	case interface{ Options() *redis.Options }:
		enabled = c.Options().ContextTimeoutEnabled
	case interface{ Options() *redis.ClusterOptions }:
		enabled = c.Options().ContextTimeoutEnabled
	case interface{ Options() *redis.RingOptions }:
		enabled = c.Options().ContextTimeoutEnabled
	}
	if !enabled {
		return nil, errors.New("redislimit: the client's options need ContextTimeoutEnabled")
	}
	if prefix == "" {
		prefix = defaultPrefix
	}
	return &Limiter{client: client, prefix: prefix, script: redis.NewScript(source)}, nil
}

// Take implements [keycote.Limiter]. Rates and quotas are exact while Burst·Per and Rate·Per, in microseconds, are below
// 2^53 (a burst of 100,000 with a Per of a day); beyond, to a millionth of a use.
func (l *Limiter) Take(
	ctx context.Context, tenant, id string, limit keycote.Limit,
) (wait time.Duration, states []keycote.LimitState, err error) {
	hasRate, hasQuota := limit.Rate > 0 && limit.Per > 0, limit.Quota > 0 && limit.Period > 0
	args := []any{0, 0, 0, 0, 0}
	if hasRate {
		burst := limit.Burst
		if burst <= 0 {
			burst = limit.Rate
		}
		args[0], args[1], args[2] = limit.Rate, limit.Per.Microseconds(), burst
	}
	if hasQuota {
		args[3], args[4] = limit.Quota, limit.Period.Microseconds()
	}
	if l.now != nil {
		args = append(args, l.now().UnixMicro())
	}
	got, err := l.script.Run(ctx, l.client, []string{l.name(tenant, id)}, args...).Int64Slice()
	if err == nil && len(got) != 5 {
		err = errors.New("the script's answer is malformed")
	}
	if err != nil {
		return 0, nil, fmt.Errorf("redislimit: %w", err)
	}
	if hasRate {
		states = append(states, keycote.LimitState{
			Policy: "rate", Limit: int64(limit.Rate), Window: limit.Per, Remaining: got[1], Reset: micros(got[2]),
		})
	}
	if hasQuota {
		states = append(states, keycote.LimitState{
			Policy: "quota", Limit: limit.Quota, Window: limit.Period, Remaining: got[3], Reset: micros(got[4]),
		})
	}
	return micros(got[0]), states, nil
}

// name is where a key's state is kept. The tenant stands last and as a hash of fixed length, so that whatever either of
// the two holds, no other two have that name; and a tenant's name, which may be a person's, is not shown.
func (l *Limiter) name(tenant, id string) string {
	sum := sha256.Sum256([]byte(tenant))
	return l.prefix + id + ":" + hex.EncodeToString(sum[:16])
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
