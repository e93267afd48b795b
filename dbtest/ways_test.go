package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Settings of a host's connections that change how values travel, and must not change what they are: a short comparison
// for each, beside the engines that everything runs on.
func TestOtherWaysToAServer(t *testing.T) {
	t.Parallel()
	for _, way := range []struct{ name, driver, more string }{
		{"as behind a pooler", "pgx", " default_query_exec_mode=simple_protocol"},
		{"in another charset", "mysql", "?charset=latin1"},
	} {
		chosen := func(e *engine) bool { return e.driver == way.driver && !e.variant }
		t.Run(way.name, func(t *testing.T) {
			onEach(t, "like memstore "+way.name, chosen, func(t *testing.T, e *engine) {
				other := &engine{
					name: e.name, driver: e.driver, dialect: e.dialect, server: e.server, made: 1000, // prefixes of its own
					dsn: func(database string) string { return e.dsn(database) + way.more },
				}
				t.Cleanup(func() { require.NoError(t, other.pool(t).Close()) })
				likeMemstore(t, other, 60)
			})
		})
	}
}
