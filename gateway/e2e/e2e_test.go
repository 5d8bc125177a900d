// Package e2e holds the tests that run the whole of Shardgate as users do: the
// command, stock clients, and servers that are killed.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// built builds the command once, and crashing one that can be stopped at any step of a
// distributed transaction.
var (
	built    = sync.OnceValues(func() (string, error) { return build() })
	crashing = sync.OnceValues(func() (string, error) { return build("-tags", "crashpoints") })
)

func build(flags ...string) (string, error) {
	dir, err := os.MkdirTemp("", "shardgate-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "shardgate")
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/shardgate/shardgate")
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
}

// cluster is a set of shards and the processes of gateways before them.
type cluster struct {
	t      *testing.T
	shards []*localpg.Server
	config string
	listen string
	query  string // parameters of the shards' URLs, if not the usual ones
}

const pgbenchTables = `
tables:
  - {name: pgbench_accounts, key: aid, group: accounts}
  - {name: pgbench_history, key: aid, group: accounts}
  - {name: pgbench_tellers, key: tid}
  - {name: pgbench_branches, key: bid}
`

// newCluster starts shards of its own and writes a configuration for them.
func newCluster(t *testing.T, shards int, rest string) *cluster {
	t.Helper()
	return newClusterWith(t, shards, rest, nil)
}

// newClusterWith is newCluster with other options for the i-th server.
func newClusterWith(t *testing.T, shards int, rest string, f func(i int, o *localpg.Options)) *cluster {
	t.Helper()
	c := &cluster{t: t, listen: freeAddress(t)}
	for i := range shards {
		c.shards = append(c.shards, pgtest.NewServer(t, func(o *localpg.Options) {
			if f != nil {
				f(i, o)
			}
		}))
	}
	c.configure(rest)
	return c
}

// configure writes the configuration: the shards, and what else it says.
func (c *cluster) configure(rest string) {
	c.t.Helper()
	var urls []string
	for _, s := range c.shards {
		u := s.URL("postgres", "postgres")
		if c.query != "" {
			u, _, _ = strings.Cut(u, "?")
			u += "?" + c.query
		}
		urls = append(urls, u)
	}
	c.config = writeConfig(c.t, c.listen, urls, rest)
}

// writeConfig writes a configuration whose shards s1, s2 ... have these URLs. A
// line of rest that begins with "timeouts:" takes the place of the usual one.
func writeConfig(t *testing.T, listen string, urls []string, rest string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\n", listen)
	if !strings.Contains(rest, "timeouts:") {
		b.WriteString("timeouts: {recovery_interval: 300ms}\n")
	}
	b.WriteString("shards:\n")
	for i, u := range urls {
		fmt.Fprintf(&b, "  - {name: s%d, servers: [\"%s\"]}\n", i+1, u)
	}
	b.WriteString(rest)
	path := filepath.Join(t.TempDir(), "shardgate.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (c *cluster) url() string { return "postgresql://postgres@" + c.listen + "/postgres" }

// process is a running gateway.
type process struct {
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
}

// lockedBuffer is a log that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts a gateway and waits until it listens.
func (c *cluster) serve() *process {
	c.t.Helper()
	return c.start("msg=listening", "serve", "-c", c.config)
}

// start runs the command and waits until it says that it is ready.
func (c *cluster) start(ready string, args ...string) *process {
	c.t.Helper()
	path, err := built()
	if err != nil {
		c.t.Fatal(err)
	}
	return c.launch(exec.Command(path, args...), ready)
}

// launch starts a process of the command.
func (c *cluster) launch(cmd *exec.Cmd, ready string) *process {
	c.t.Helper()
	p := &process{cmd: cmd, log: &lockedBuffer{}, done: make(chan struct{})}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	up := make(chan struct{})
	go func() {
		s := bufio.NewScanner(r)
		for once := false; s.Scan(); {
			fmt.Fprintln(p.log, s.Text())
			if !once && strings.Contains(s.Text(), ready) {
				once = true
				close(up)
			}
		}
	}()
	go func() {
		p.cmd.Wait()
		w.Close()
		close(p.done)
	}()
	c.t.Cleanup(func() {
		p.kill()
		if c.t.Failed() {
			c.t.Logf("the gateway's log:\n%s", p.log)
		}
	})
	select {
	case <-up:
	case <-p.done:
		c.t.Fatalf("the gateway did not start:\n%s", p.log)
	case <-time.After(30 * time.Second):
		c.t.Fatalf("the gateway did not start in time:\n%s", p.log)
	}
	return p
}

// kill ends the gateway as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// end sends a signal, and returns the exit status that follows.
func (p *process) end(t *testing.T, sig os.Signal, within time.Duration) int {
	t.Helper()
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(within):
		t.Fatalf("still running %v after %v:\n%s", within, sig, p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// run runs the command to its end and returns what it printed and its status.
func run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, path, args...)
	out, _ := cmd.CombinedOutput() // the status says it
	if ctx.Err() != nil {
		t.Fatalf("%v did not end:\n%s", args, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// connect connects through the gateway, as the role or the URL.
func (c *cluster) connect(who string) *pgx.Conn {
	c.t.Helper()
	return pgtest.Conn(c.t, c.as(who))
}

// as is the URL of a role, with its password after a colon if it has one.
func (c *cluster) as(role string) string {
	return "postgresql://" + role + "@" + c.listen + "/postgres"
}

// onShards runs statements on every shard, past the gateway.
func (c *cluster) onShards(statements ...string) {
	c.t.Helper()
	for _, s := range c.shards {
		conn, err := pgx.Connect(c.t.Context(), s.URL("postgres", "postgres"))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, sql := range statements {
			if _, err := conn.Exec(c.t.Context(), sql); err != nil {
				c.t.Fatalf("%s on %s: %v", sql, s.Name(), err)
			}
		}
		conn.Close(c.t.Context())
	}
}

// must runs statements that have to succeed.
func must(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			detail := ""
			if pe := new(pgconn.PgError); errors.As(err, &pe) {
				detail = pe.Detail
			}
			t.Fatalf("%s: %v %s", sql, err, detail)
		}
	}
}

// code is the SQLSTATE of an error, "" without one, and "lost" if the connection
// ended without an error message.
func code(err error) string {
	var pe *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &pe):
		return pe.Code
	}
	return "lost"
}

const keyed = `
tables:
  - {name: t, key: id, group: g}
  - {name: u, key: id, group: g}
`

// ids makes and fills the table t, and returns for each shard n keys that live there.
func (c *cluster) ids(conn *pgx.Conn, n int) [][]int {
	c.t.Helper()
	must(c.t, conn, "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v int NOT NULL DEFAULT 0)")
	for id := 1; id <= 20*n; id++ {
		must(c.t, conn, fmt.Sprintf("INSERT INTO t (id) VALUES (%d) ON CONFLICT DO NOTHING", id))
	}
	out := make([][]int, len(c.shards))
	for i, s := range c.shards {
		direct, err := pgx.Connect(c.t.Context(), s.URL("postgres", "postgres"))
		if err != nil {
			c.t.Fatal(err)
		}
		rows, err := direct.Query(c.t.Context(), "SELECT id FROM t ORDER BY id LIMIT $1", n)
		if err == nil {
			out[i], err = pgx.CollectRows(rows, pgx.RowTo[int])
		}
		direct.Close(c.t.Context())
		if err != nil || len(out[i]) < n {
			c.t.Fatalf("%d keys on %s: %v", len(out[i]), s.Name(), err)
		}
	}
	return out
}

// pgbench runs pgbench and returns its output.
func (c *cluster) pgbench(args ...string) (string, error) {
	return c.tool("pgbench", append(args, c.url())...)
}

// tool runs one of PostgreSQL's programs and returns its output.
func (c *cluster) tool(name string, args ...string) (string, error) {
	install, err := localpg.Find()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := exec.Command(install.Path(name), args...).CombinedOutput()
	return string(out), err
}

// sum asks every shard and adds the answers.
func (c *cluster) sum(query string) (total int64) {
	c.t.Helper()
	for _, s := range c.shards {
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
		conn, err := pgx.Connect(ctx, s.URL("postgres", "postgres"))
		if err != nil {
			c.t.Fatal(err)
		}
		var n int64
		err = conn.QueryRow(ctx, query).Scan(&n)
		conn.Close(ctx)
		stop()
		if err != nil {
			c.t.Fatalf("%s on %s: %v", query, s.Name(), err)
		}
		total += n
	}
	return total
}

// settled waits until no transaction is prepared on any shard.
func (c *cluster) settled() {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		n := c.sum("SELECT count(*) FROM pg_prepared_xacts")
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d transactions are still prepared", n)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// balanced checks pgbench's invariant: every transaction adds the same delta to an
// account, a teller, a branch and the history.
func (c *cluster) balanced() {
	c.t.Helper()
	accounts := c.sum("SELECT coalesce(sum(abalance), 0)::bigint FROM pgbench_accounts")
	tellers := c.sum("SELECT coalesce(sum(tbalance), 0)::bigint FROM pgbench_tellers")
	branches := c.sum("SELECT coalesce(sum(bbalance), 0)::bigint FROM pgbench_branches")
	history := c.sum("SELECT coalesce(sum(delta), 0)::bigint FROM pgbench_history")
	if accounts != tellers || accounts != branches || accounts != history {
		c.t.Fatalf("sums differ: accounts %d, tellers %d, branches %d, history %d", accounts, tellers, branches, history)
	}
}

// sqlf makes a statement.
func sqlf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// checks returns two checks: that a statement fails with an SQLSTATE, and that what a
// query gives, added up over the shards, is a number.
func (c *cluster) checks(conn *pgx.Conn) (fails func(sql, want string), total func(query string, want int64)) {
	t := c.t
	fails = func(sql, want string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); code(err) != want {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
	}
	total = func(query string, want int64) {
		t.Helper()
		if n := c.sum(query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	return fails, total
}
