package redislimit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// skipEnv lets a person leave the server out, knowingly: "redis".
	skipEnv = "KEYCOTE_REDISLIMIT_SKIP"
	// ownEnv has a server started for the run even where one runs already.
	ownEnv = "KEYCOTE_REDISLIMIT_OWN"
)

// server is the Redis that the tests run on.
type server struct {
	network, address string
	version          string
	how              string
	stop             func() // ends what was started for this run; nil for a server that was there
}

// found is it, or nil when it was left out.
var found *server

func (s *server) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Network: s.network, Addr: s.address, ContextTimeoutEnabled: true, MaxRetries: -1, DisableIdentity: true,
	})
}

// answers asks for the version, which shows that the server is there and lets us in.
func (s *server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c := s.client()
	defer func() { _ = c.Close() }()
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, "redis_version:"); ok {
			s.version = strings.TrimSpace(v)
		}
	}
	return nil
}

// find returns the server that runs on the standard port, or one of our own, from a program that is installed, or has to be.
func find(ctx context.Context) (*server, error) {
	var why []error
	if os.Getenv(ownEnv) == "" {
		s := &server{network: "tcp", address: "127.0.0.1:6379", how: "running at 127.0.0.1:6379"}
		err := s.answers(ctx)
		if err == nil {
			return s, nil
		}
		why = append(why, err)
	}
	s, err := start(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		why = append(why, err)
		if err = install(ctx); err == nil {
			s, err = start(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(append(why, err)...)
	}
	return s, nil
}

// ran is what was run and passed.
var ran struct {
	sync.Mutex
	suites []string
}

// need returns the server for a suite, which is told of at the end of the run. Without a server no suite runs, and the end
// of the run says that, too: it has failed by it, unless somebody left the server out knowingly.
func need(t *testing.T, suite string) (s *server, ok bool) {
	t.Helper()
	t.Cleanup(func() {
		if found != nil && !t.Failed() {
			ran.Lock()
			defer ran.Unlock()
			ran.suites = append(ran.suites, suite)
		}
	})
	return found, found != nil
}

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx := context.Background()
	var err error
	if os.Getenv(skipEnv) != "redis" {
		found, err = find(ctx)
	}
	code = m.Run()
	switch {
	case err != nil:
		fmt.Printf("redislimit: FAILED: no suite has run on Redis (%s=redis leaves it out): %v\n", skipEnv, err)
		return 1
	case found == nil:
		fmt.Printf("redislimit: LEFT OUT by %s: no suite has run on Redis\n", skipEnv)
		return code
	}
	if found.stop != nil {
		found.stop()
	}
	fmt.Printf("redislimit: Redis %s (%s): %s\n", found.version, found.how, strings.Join(ran.suites, ", "))
	return code
}
