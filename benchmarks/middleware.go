package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v2"
	fiberauth "github.com/gofiber/fiber/v2/middleware/keyauth"
	"github.com/labstack/echo/v4"
	echoauth "github.com/labstack/echo/v4/middleware"

	"github.com/keycote/keycote/keyhttp"
)

const (
	route  = "/orders/42"
	answer = "the orders"
)

// stack is a trivial handler, bare and behind a check of the key.
type stack struct {
	name          string
	bare, guarded server
}

// server is net/http's handler, or else one of fiber's.
type server struct {
	http  http.Handler
	fiber *fiber.App
}

// stacks are Keycote's middleware and its peers, which do less: they compare with one value that stands in memory.
func stacks(ctx context.Context) (all []stack, token string, err error) {
	m, tokens, err := warm(ctx, 1_000)
	if err != nil {
		return nil, "", err
	}
	token = tokens[0]
	matches := func(key string) bool { return subtle.ConstantTimeCompare([]byte(key), []byte(token)) == 1 }

	trivial := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
	bare, guarded := http.NewServeMux(), http.NewServeMux()
	bare.Handle("GET /orders/{id}", trivial)
	guarded.Handle("GET /orders/{id}", keyhttp.Require(m, nil, "orders:read")(trivial))

	echoes := func(use ...echo.MiddlewareFunc) server {
		e := echo.New()
		e.Use(use...)
		e.GET("/orders/:id", func(c echo.Context) error { return c.String(http.StatusOK, answer) })
		return server{http: e}
	}
	fibers := func(use ...any) server {
		app := fiber.New(fiber.Config{DisableStartupMessage: true})
		if len(use) > 0 {
			app.Use(use...)
		}
		app.Get("/orders/:id", func(c *fiber.Ctx) error { return c.SendString(answer) })
		return server{fiber: app}
	}
	return []stack{
		{"`keyhttp.Require`", server{http: bare}, server{http: guarded}},
		{"echo's KeyAuth", echoes(), echoes(echoauth.KeyAuth(func(key string, _ echo.Context) (bool, error) {
			return matches(key), nil
		}))},
		{"fiber's keyauth", fibers(), fibers(fiberauth.New(fiberauth.Config{
			Validator: func(_ *fiber.Ctx, key string) (bool, error) {
				if !matches(key) {
					return false, fiberauth.ErrMissingOrMalformedAPIKey
				}
				return true, nil
			},
		}))},
	}, token, nil
}

// middlewares is F3: what a check of the key adds to a trivial handler, called directly and over loopback.
func middlewares(ctx context.Context, l *lab) ([]line, error) {
	all, token, err := stacks(ctx)
	if err != nil {
		return nil, err
	}
	lines, err := onServeHTTP(ctx, l, all, token)
	if err != nil {
		return nil, err
	}
	over, err := onLoopback(l, all, token)
	return append(lines, over...), err
}

func onServeHTTP(ctx context.Context, l *lab, all []stack, token string) ([]line, error) {
	var sides []side
	for _, s := range all {
		for _, v := range []server{s.bare, s.guarded} {
			if v.http == nil {
				continue // fiber has no ServeHTTP
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1"+route, nil)
			if err != nil {
				return nil, err
			}
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("User-Agent", "bench/1.0")
			r.RemoteAddr = "192.0.2.1:4711"
			w := &discard{header: http.Header{}}
			sides = append(sides, side{name: s.name, run: func() error {
				w.code, w.n = 0, 0
				v.http.ServeHTTP(w, r)
				if w.n != len(answer) || w.code > http.StatusOK {
					return fmt.Errorf("%s: answered %d", s.name, w.code)
				}
				return nil
			}})
		}
	}
	timings, err := interleave(l.rounds, l.slice, sides...)
	if err != nil {
		return nil, err
	}
	var lines []line
	for i := 0; i < len(timings); i += 2 {
		bare, guarded := timings[i], timings[i+1]
		time, allocations := goal{}, goal{}
		if i == 0 {
			time, allocations = goal{atMost, 600}, goal{atMost, 2}
		}
		lines = append(lines,
			line{what: sides[i].name + " adds to `ServeHTTP`", limit: "the bare handler", goal: time, unit: "ns",
				got: over(guarded, bare, func(a, b float64) float64 { return a - b }), note: took(guarded) + " to " + took(bare)},
			line{what: sides[i].name + " adds to `ServeHTTP` in allocations", limit: "the bare handler", goal: allocations,
				unit: "allocations", got: exactly(float64(int(guarded.allocs - bare.allocs + 0.5)))})
	}
	return lines, nil
}

// discard is a ResponseWriter that remembers how much was written.
type discard struct {
	header  http.Header
	code, n int
}

func (d *discard) Header() http.Header  { return d.header }
func (d *discard) WriteHeader(code int) { d.code = code }
func (d *discard) Write(b []byte) (int, error) {
	d.n += len(b)
	return len(b), nil
}

func onLoopback(l *lab, all []stack, token string) (lines []line, err error) {
	var sides []side
	var loads []*load
	defer func() {
		for _, load := range loads {
			err = errors.Join(err, load.close())
		}
	}()
	for _, s := range all {
		for _, v := range []server{s.bare, s.guarded} {
			load, err := newLoad(v, token)
			if err != nil {
				return nil, err
			}
			loads = append(loads, load)
			sides = append(sides, side{
				name:   s.name,
				before: func() error { return load.ask(l.requests / 10) }, // others have had the processors meanwhile
				run:    func() error { return load.ask(l.requests) },
			})
		}
	}
	timings, err := interleave(l.rounds, l.slice, sides...)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(timings); i += 2 {
		bare, guarded := timings[i], timings[i+1]
		g := goal{}
		if i == 0 {
			g = goal{atLeast, 0.95}
		}
		rate := func(t timing) string { return number(float64(l.requests) / t.median().Seconds()) }
		lines = append(lines, line{
			what: "requests/s on loopback that " + sides[i].name + " leaves", limit: "the bare handler", goal: g, unit: unitTimes,
			got: times(bare, guarded), note: rate(guarded) + " of " + rate(bare),
		})
	}
	return lines, nil
}
