package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/keycote/keycote"
	"github.com/keycote/keycote/memstore"
)

// cachedVerify is F1: Verify from the cache, all checks and the use counted, beside an HMAC and a look-up in a plain map
// of the same size.
func cachedVerify(ctx context.Context, l *lab) ([]line, error) {
	var lines []line
	for _, size := range []struct {
		keys int
		goal float64
	}{{1_000, 1.3}, {l.keys, 1}} {
		m, tokens, err := warm(ctx, size.keys)
		if err != nil {
			return nil, err
		}
		h, plain := newOneShot([32]byte{1}), map[[32]byte]*string{}
		for i := range tokens {
			plain[h.sum(tokens[i])] = &tokens[i]
		}
		next, nextPlain := inTurn(size.keys), inTurn(size.keys)
		r := request()
		timings, err := interleave(l.rounds, l.slice,
			side{name: "limit", run: func() error {
				if plain[h.sum(tokens[nextPlain()])] == nil {
					return errors.New("not there")
				}
				return nil
			}},
			side{name: "verify", run: func() error {
				_, err := m.Verify(ctx, tokens[next()], r)
				return err
			}})
		if err != nil {
			return nil, err
		}
		limit, verify := timings[0], timings[1]
		lines = append(lines, line{
			what:  fmt.Sprintf("`Verify` from the cache, all checks, use counted, %s keys", number(float64(size.keys))),
			limit: "HMAC-SHA-256 in one shot and a look-up in a plain map of that size",
			goal:  goal{atMost, size.goal}, got: times(verify, limit), unit: unitTimes,
			note: took(verify) + ", " + allocs(verify),
		})
	}
	return lines, nil
}

// warm is a Manager whose cache holds n keys.
func warm(ctx context.Context, n int) (*keycote.Manager, []string, error) {
	m, err := newManager(ctx, memstore.New(), &keycote.Options{MaxStale: time.Hour, CacheSize: 2 * n})
	if err != nil {
		return nil, nil, err
	}
	tokens, err := issue(ctx, m, n)
	if err != nil {
		return nil, nil, err
	}
	return m, tokens, verifyAll(ctx, m, tokens)
}

// uncached is a Manager without a cache that has 1,000 keys.
type uncached struct {
	m     *keycote.Manager
	store *reads
	token string
}

func newUncached(ctx context.Context, opts *keycote.Options) (*uncached, error) {
	u := &uncached{store: &reads{Store: memstore.New()}}
	m, err := newManager(ctx, u.store, opts)
	if err != nil {
		return nil, err
	}
	tokens, err := issue(ctx, m, 1_000)
	if err != nil {
		return nil, err
	}
	u.m, u.token = m, tokens[len(tokens)-1]
	return u, nil
}

func (u *uncached) valid(ctx context.Context) side {
	r := request()
	return side{name: "valid", run: func() error {
		_, err := u.m.Verify(ctx, u.token, r)
		return err
	}}
}

// refused is a side whose value must not verify.
func (u *uncached) refused(ctx context.Context, name, value string) side {
	r := request()
	return side{name: name, run: func() error {
		if _, err := u.m.Verify(ctx, value, r); !errors.Is(err, keycote.ErrUnauthenticated) {
			return fmt.Errorf("not refused as it should be: %w", err)
		}
		return nil
	}}
}

// tinkPRF is one call of Tink's HMAC-SHA-256 PRF, on as many bytes as a token's digest takes.
func tinkPRF() (side, error) {
	handle, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		return side{}, err
	}
	set, err := prf.NewPRFSet(handle)
	if err != nil {
		return side{}, err
	}
	message := make([]byte, 46)
	return side{name: "tink", run: func() error {
		_, err := set.ComputePrimaryPRF(message, 32)
		return err
	}}, nil
}

// uncachedVerify is F2: Verify straight from memstore beside one call of Tink's PRF.
func uncachedVerify(ctx context.Context, l *lab) ([]line, error) {
	u, err := newUncached(ctx, nil)
	if err != nil {
		return nil, err
	}
	tink, err := tinkPRF()
	if err != nil {
		return nil, err
	}
	timings, err := interleave(l.rounds, l.slice, tink, u.valid(ctx))
	if err != nil {
		return nil, err
	}
	return []line{{
		what: "`Verify` from memstore, seal checked, body decoded", limit: "one Tink HMAC-SHA-256 PRF",
		goal: goal{atMost, 4}, got: times(timings[1], timings[0]), unit: unitTimes,
		note: took(timings[1]) + ", " + allocs(timings[1]),
	}}, nil
}

const malformed = "not-of-issued-form-at-all"

// refusals are F4: what is refused must not cost more than what is verified, nor be a way to have the store read.
func refusals(ctx context.Context, l *lab) ([]line, error) {
	u, err := newUncached(ctx, nil)
	if err != nil {
		return nil, err
	}
	issuedOnly, err := newUncached(ctx, &keycote.Options{IssuedOnly: true})
	if err != nil {
		return nil, err
	}
	mistyped := []byte(u.token)
	mistyped[20] ^= 1
	values := []struct{ what, value string }{
		{"mistyped key of issued form", string(mistyped)},
		{"key of issued form made elsewhere", issuedOnly.token},
		{"other malformed value", malformed},
	}
	sides := []side{u.valid(ctx)}
	for _, v := range values {
		sides = append(sides, u.refused(ctx, v.what, v.value))
	}
	timings, err := interleave(l.rounds, l.slice, sides...)
	if err != nil {
		return nil, err
	}
	var lines []line
	for i, v := range values {
		lines = append(lines, line{
			what: v.what, limit: "a valid uncached `Verify`", goal: goal{atMost, 1},
			got: times(timings[i+1], timings[0]), unit: unitTimes, note: took(timings[i+1]),
		})
	}
	counts, err := readsOfRefusals(ctx, u, issuedOnly)
	return append(lines, counts...), err
}

// readsOfRefusals counts what reaches the store. An unknown index key may have its keyring read, once a second; that is
// no lookup, and not counted here.
func readsOfRefusals(ctx context.Context, u, issuedOnly *uncached) ([]line, error) {
	var lines []line
	for _, c := range []struct {
		what   string
		on     *uncached
		value  string
		atMost float64
	}{
		{"reads for a key of issued form made elsewhere", u, issuedOnly.token, 0},
		{"reads for another malformed value", u, malformed, 1},
		{"the same with `IssuedOnly`", issuedOnly, malformed, 0},
	} {
		before := c.on.store.n.Load()
		if err := c.on.refused(ctx, c.what, c.value).run(); err != nil {
			return nil, err
		}
		lines = append(lines, line{
			what: c.what, goal: goal{counted, c.atMost}, got: exactly(c.on.store.n.Load() - before), unit: "reads",
		})
	}
	return lines, nil
}
