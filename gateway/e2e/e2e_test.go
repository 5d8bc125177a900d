// Package e2e holds the tests that run the whole of Shardgate as users do: the
// command, stock clients, and servers that are killed.
package e2e

import (
	"bufio"
	"bytes"
	"context"
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

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// binary builds the command once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shardgate-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "shardgate")
	out, err := exec.Command("go", "build", "-o", path, "github.com/shardgate/shardgate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// cluster is a set of shards and the processes of gateways before them.
type cluster struct {
	t      *testing.T
	shards []*localpg.Server
	config string
	listen string
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
	c := &cluster{t: t, listen: freeAddress(t)}
	c.shards = make([]*localpg.Server, shards)
	var wg sync.WaitGroup
	for i := range c.shards {
		c.shards[i] = pgtest.NewServer(t, nil)
	}
	wg.Wait()
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\ntimeouts: {recovery_interval: 300ms}\nshards:\n", c.listen)
	for i, s := range c.shards {
		fmt.Fprintf(&b, "  - {name: s%d, servers: [\"%s\"]}\n", i+1, s.URL("postgres", "postgres"))
	}
	b.WriteString(rest)
	c.config = filepath.Join(t.TempDir(), "shardgate.yaml")
	if err := os.WriteFile(c.config, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
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
	path, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	p := &process{cmd: exec.Command(path, "serve", "-c", c.config), log: &lockedBuffer{}, done: make(chan struct{})}
	r, w := io.Pipe()
	p.cmd.Stderr = w
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	up := make(chan struct{})
	go func() {
		s := bufio.NewScanner(r)
		for once := false; s.Scan(); {
			fmt.Fprintln(p.log, s.Text())
			if !once && strings.Contains(s.Text(), "msg=listening") {
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

// pgbench runs pgbench and returns its output.
func (c *cluster) pgbench(args ...string) (string, error) {
	install, err := localpg.Find()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := exec.Command(install.Path("pgbench"), append(args, c.url())...).CombinedOutput()
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
