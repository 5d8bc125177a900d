// Package drivers holds the tests of client libraries: each does its whole
// repertoire first with a PostgreSQL and then with a gateway before four shards,
// by the same script. What the script expects is therefore what PostgreSQL does;
// the few things that the gateway refuses are marked in the script.
//
// pgx and lib/pq are tested always; psycopg, node-postgres and pgjdbc under the
// build tag drivers, since they need runtimes of their own (make test-drivers).
package drivers

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/dev/devtest"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// drivers are the scripts by the library's name, which is also the name of the
// schema that each has to itself.
var drivers = map[string]func(*testing.T, target){
	"pgx": testPgx,
	"pq":  testPq,
}

// target is what a script runs against.
type target struct {
	url     string
	schema  string
	gateway bool // else PostgreSQL itself
}

// with is the target's URL with more parameters.
func (c target) with(pairs ...string) string {
	u, err := url.Parse(c.url)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // libpq does not take a plus for a blank
	return u.String()
}

// unusedKeys gives a script keys for its tables.
type unusedKeys struct{ last int64 }

// keys are n keys that nobody has used; with more than a few, they are on all shards.
func (u *unusedKeys) keys(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		u.last++
		out[i] = u.last
	}
	return out
}

// TestDrivers runs every script. The servers are started once, and stopped when
// the last script is through.
func TestDrivers(t *testing.T) {
	cluster := startCluster(t)
	single := pgtest.Server(t).URL("postgres", "postgres")
	for name, script := range drivers {
		t.Run(name, func(t *testing.T) {
			for _, tg := range []target{{url: single, schema: name}, {url: cluster.URL(), schema: name, gateway: true}} {
				to := "postgres"
				if tg.gateway {
					to = "shardgate"
				}
				t.Run(to, func(t *testing.T) {
					makeSchema(t, tg)
					script(t, tg)
				})
			}
			for _, s := range cluster.Servers {
				if n := count(t, s.URL(dev.User, dev.Database), "SELECT count(*) FROM pg_prepared_xacts"); n != 0 {
					t.Errorf("%d transactions are left prepared on %s", n, s.Name())
				}
			}
		})
	}
}

// startCluster starts four shards and a gateway.
func startCluster(t *testing.T) *dev.Cluster {
	t.Helper()
	var rules bytes.Buffer
	rules.WriteString("listen: 127.0.0.1:0\ntables:\n")
	for name := range drivers {
		for _, table := range []string{"items", "lines"} {
			key := map[string]string{"items": "id", "lines": "item"}[table]
			fmt.Fprintf(&rules, "  - {name: %s.%s, key: %s, group: %s}\n", name, table, key, name)
		}
		fmt.Fprintf(&rules, "  - {name: %s.moods, key: id}\n", name)
		fmt.Fprintf(&rules, "  - {name: %s.states, reference: true}\n", name)
	}
	cfg, err := configs.ParseWithoutShards("drivers.yaml", rules.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c := devtest.Start(t, 4, cfg)
	// The shards give different OIDs to the types and tables that are made later.
	for i, s := range c.Servers {
		conn := connect(t, s.URL(dev.User, dev.Database))
		for range i * 5 {
			run(t, conn, "CREATE TABLE skew(a int)")
			run(t, conn, "DROP TABLE skew")
		}
		conn.Close(t.Context())
	}
	return c
}

// makeSchema makes the tables of a script: sharded ones, a reference table and a
// local one. Scripts refer to them by a search_path.
func makeSchema(t *testing.T, tg target) {
	t.Helper()
	conn := connect(t, tg.with("search_path", tg.schema))
	defer conn.Close(t.Context())
	for _, sql := range []string{
		"CREATE SCHEMA " + tg.schema,
		`CREATE TABLE items(id bigint PRIMARY KEY, i int, n numeric(20,4), t text, b bytea, ts timestamptz, u uuid, ok boolean,
			a int[], ta text[], j jsonb)`,
		"CREATE TABLE lines(item bigint, line int, note text, PRIMARY KEY (item, line), FOREIGN KEY (item) REFERENCES items(id))",
		"CREATE TABLE states(code text PRIMARY KEY, name text NOT NULL)",
		"CREATE TABLE notes(id int PRIMARY KEY, note text)",
		"CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
		"CREATE TYPE place AS (x int, y text)",
		"CREATE TYPE pair AS (m mood, p place)",
		"CREATE TABLE moods(id bigint PRIMARY KEY, m mood, p place, ms mood[], q pair[])",
	} {
		run(t, conn, sql)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// run runs a statement that must succeed.
func run(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t *testing.T, url, sql string) (n int) {
	t.Helper()
	conn := connect(t, url)
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}
