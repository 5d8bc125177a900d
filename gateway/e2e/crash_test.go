package e2e

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// points are the steps of a distributed transaction at which a gateway can be stopped, as
// the source has them.
func points(t *testing.T) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../txn/point.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			name, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		return true
	})
	return names
}

// scenario is a transaction in which a point comes to pass: with so many writers, one
// more shard that only reads, and a constraint that fails at the commit.
type scenario struct {
	writers     int
	reads, fail bool
}

// scenarios says in which transactions each point is tried. The points of a recovery are
// those of a second gateway, after a first one has left a decided transaction.
var scenarios = map[string][]scenario{
	"begin":              {{writers: 1}, {writers: 2}},
	"commit reader":      {{writers: 1, reads: true}, {writers: 2, reads: true}},
	"commit reader sent": {{writers: 1, reads: true}, {writers: 2, reads: true}},
	"commit one":         {{writers: 1}, {writers: 1, reads: true}},
	"commit one sent":    {{writers: 1}, {writers: 1, reads: true}},
	"take fence":         {{writers: 3}, {writers: 4}},
	"take fence sent":    {{writers: 3}, {writers: 4}},
	"prepare":            {{writers: 2}, {writers: 3}, {writers: 4}},
	"prepare sent":       {{writers: 2}, {writers: 3}, {writers: 4}},
	"prepared":           {{writers: 2}, {writers: 3}, {writers: 4}},
	"decide sent":        {{writers: 2}, {writers: 3}, {writers: 4}},
	"decided":            {{writers: 2}, {writers: 3}, {writers: 4}},
	"finish sent":        {{writers: 2}, {writers: 3}, {writers: 4}},
	"finished":           {{writers: 2}, {writers: 3}},
	"abort decider":      {{writers: 2, fail: true}, {writers: 3, fail: true}},
	"abort":              {{writers: 2, fail: true}, {writers: 3, fail: true}},
	"listed":             {{writers: 3}},
	"settled":            {{writers: 3}},
	"finish orphan":      {{writers: 3}},
	"orphan finished":    {{writers: 3}},
	"mark finished":      {{writers: 3}},
	"clear decisions":    {{writers: 3}},
	"clear old":          {{writers: 3}},
}

var recoveryPoints = []string{"listed", "settled", "finish orphan", "orphan finished", "mark finished", "clear decisions", "clear old"}

const crashRule = `
timeouts: {recovery_interval: %s, recovery_grace: 0s}
tables:
  - {name: t, key: id, group: g}
`

// Wherever a coordinator or a recovery is stopped for good, or loses the connection that
// it is about to use or has just used: a transaction is committed on all shards or on none,
// as its client was told, and soon nothing is prepared any more.
func TestCrashPoints(t *testing.T) {
	all := points(t)
	for _, p := range all {
		if len(scenarios[p]) == 0 {
			t.Errorf("the point %q has no test", p)
		}
	}
	for p := range scenarios {
		if !slices.Contains(all, p) {
			t.Errorf("there is no point %q", p)
		}
	}
	c := newCluster(t, 4, fmt.Sprintf(crashRule, "1h"))
	p := c.serve()
	keys := c.crashKeys(c.connect("postgres"))
	p.kill()
	next := 0
	each := func(recovers bool) {
		for _, point := range all {
			for _, s := range scenarios[point] {
				for _, action := range []string{"exit", "cut"} {
					if slices.Contains(recoveryPoints, point) != recovers || action == "cut" && (recovers || point == "finished") {
						continue
					}
					next++
					t.Run(fmt.Sprintf("%s at %s, %d writers", action, point, s.writers), func(t *testing.T) {
						at := *c
						at.t = t
						at.crash(action, point, s, keys, next, recovers)
					})
				}
			}
		}
	}
	each(true)
	second := *c
	second.listen = freeAddress(t)
	second.configure(fmt.Sprintf(crashRule, "100ms")) // it recovers what the first one leaves, or is about to do
	second.serve()
	each(false)
}

// crashKeys makes the table, and returns keys for each shard. v is unique on each shard,
// which is looked at when a transaction ends.
func (c *cluster) crashKeys(conn *pgx.Conn) [][]int {
	c.t.Helper()
	keys := c.ids(conn, 120)
	must(c.t, conn, "TRUNCATE t")
	c.onShards("ALTER TABLE t ADD CONSTRAINT u UNIQUE (v) DEFERRABLE INITIALLY DEFERRED")
	return keys
}

// crash runs one transaction through a gateway that is to be stopped at the point.
func (c *cluster) crash(action, point string, s scenario, keys [][]int, n int, recovers bool) {
	t := c.t
	path, err := crashing()
	if err != nil {
		t.Fatal(err)
	}
	launch := func(config, point string) *process {
		cmd := exec.Command(path, "serve", "-c", config)
		cmd.Env = append(os.Environ(), "SHARDGATE_CRASH="+action+" "+point)
		ready := "msg=listening"
		if recovers && point != "decided" {
			ready = "stopped at the point" // in its first recovery, before it listens
		}
		return c.launch(cmd, ready)
	}
	first := point
	if recovers {
		first = "decided"
	}
	p := launch(c.config, first)
	defer p.kill()
	told := c.writeRows(s, keys, n)
	if code(told) == "40001" { // the other gateway, which waits for nobody, was quicker
		t.Logf("it was rolled back before it came to the point: %v", told)
	} else {
		eventually(t, 10*time.Second, func() bool { return strings.Contains(p.log.String(), "at the point: "+first) })
	}
	if recovers {
		<-p.done
		p = launch(c.config, point)
		<-p.done
		p = c.launch(exec.Command(path, "serve", "-c", c.config), "msg=listening")
		defer p.kill()
	}
	eventually(t, 5*time.Second, func() bool { return c.sum("SELECT count(*) FROM pg_prepared_xacts") == 0 })
	// What was sent and not answered may still be going on.
	eventually(t, 5*time.Second, func() bool {
		return c.sum("SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND query LIKE '%COMMIT%'") == 0
	})
	rows := int(c.sum(fmt.Sprintf("SELECT count(*) FROM t WHERE v = %d", n)))
	switch {
	case rows != 0 && rows != s.writers:
		t.Errorf("%d of %d rows (told: %v)", rows, s.writers, told)
	case told == nil && rows == 0:
		t.Error("committed, the client was told, and nothing is there")
	case told != nil && rows > 0 && !unknown(told):
		t.Errorf("not committed, the client was told: %v; and the rows are there", told)
	}
}

// unknown says whether an error leaves open if a transaction is committed.
func unknown(err error) bool {
	var pe *pgconn.PgError
	return !errors.As(err, &pe) || pe.Code == "40003" || pe.Code == "08007" || strings.HasPrefix(pe.Code, "57P")
}

// writeRows writes one row on each of so many shards, with v = n, and returns what COMMIT
// says.
func (c *cluster) writeRows(s scenario, keys [][]int, n int) error {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	conn, err := pgx.Connect(ctx, c.url()+"?sslmode=disable&default_query_exec_mode=simple_protocol")
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	sql := []string{"BEGIN"}
	for i := range s.writers {
		sql = append(sql, fmt.Sprintf("INSERT INTO t (id, v) VALUES (%d, %d)", keys[i][n], n))
	}
	if s.fail {
		sql = append(sql, fmt.Sprintf("INSERT INTO t (id, v) VALUES (%d, %d)", keys[s.writers-1][0], n))
	}
	if s.reads {
		sql = append(sql, fmt.Sprintf("SELECT v FROM t WHERE id = %d", keys[3][n]))
	}
	for _, q := range append(sql, "COMMIT") {
		if _, err := conn.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
