package e2e

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// A gateway does not start before servers that are not the shards that it takes
// them for.
func TestRefusedAtStart(t *testing.T) {
	c := newCluster(t, 3, keyed)
	c.serve().end(t, os.Interrupt, 10*time.Second)
	url := func(i int) string { return c.shards[i].URL("postgres", "postgres") }
	other := pgtest.NewServer(t, nil)
	empty := pgtest.NewServer(t, nil)
	foreign := writeConfig(t, c.listen, []string{other.URL("postgres", "postgres")}, "")
	d := *c
	d.config = foreign
	d.serve().end(t, syscall.SIGTERM, 10*time.Second)
	down := "postgres://postgres@" + freeAddress(t) + "/postgres"
	for name, x := range map[string]struct {
		urls []string
		says []string
	}{
		"exchanged": {[]string{url(0), url(2), url(1)}, []string{"shard s2", `shard "s3"`, "exchanged"}},
		"foreign":   {[]string{url(0), url(1), other.URL("postgres", "postgres")}, []string{"shard s3", "another cluster"}},
		"empty":     {[]string{url(0), url(1), empty.URL("postgres", "postgres")}, []string{"shard s3", "never been part"}},
		"missing":   {[]string{url(0), url(1)}, []string{`shard "s3"`, "holds rows", "add it"}},
		"down":      {[]string{url(0), url(1), down}, []string{"shard s3", "connection refused"}},
	} {
		config := writeConfig(t, c.listen, x.urls, keyed)
		out, status := run(t, "serve", "-c", config)
		if status != 1 {
			t.Errorf("%s: status %d", name, status)
		}
		for _, s := range x.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: %q does not say %q", name, out, s)
			}
		}
	}
	// None of these has changed anything.
	c.serve()
	must(t, c.connect("postgres"), "CREATE TABLE t (id int PRIMARY KEY)")
}

func TestCheck(t *testing.T) {
	c := newCluster(t, 2, "")
	out, status := run(t, "check", "-c", c.config)
	if status != 0 || !strings.Contains(out, "no problem found") || !strings.Contains(out, "UTF8") {
		t.Errorf("status %d: %s", status, out)
	}
	if n := c.sum("SELECT count(*) FROM pg_namespace WHERE nspname = 'shardgate'"); n != 0 {
		t.Error("the check has changed the servers")
	}
	bad := pgtest.NewServer(t, func(o *localpg.Options) {
		o.Settings = map[string]string{"max_prepared_transactions": "0", "timezone": "Asia/Tokyo", "max_connections": "30"}
	})
	conn := pgtest.Conn(t, bad.URL("postgres", "postgres"))
	must(t, conn, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
		"CREATE ROLE weak LOGIN")
	home := c.shards[0]
	must(t, pgtest.Conn(t, home.URL("postgres", "postgres")), "CREATE DATABASE latin TEMPLATE template0")
	down := "postgres://postgres@" + freeAddress(t) + "/latin"
	config := writeConfig(t, c.listen, []string{home.URL("postgres", "latin"), bad.URL("weak", "latin"), down}, "")
	out, status = run(t, "check", "-c", config)
	if status != 1 {
		t.Errorf("status %d", status)
	}
	for _, s := range []string{
		"shard s2: max_prepared_transactions is 0", "shard s2: max_connections is 30", "may not create the schema",
		"shard s2: the encoding is LATIN1, and UTF8 on the home shard s1", "shard s2: the collation is C/C", "shard s2: TimeZone is Asia/Tokyo",
		"shard s3: ", "connection refused", "problems",
	} {
		if !strings.Contains(out, s) {
			t.Errorf("the report does not say %q:\n%s", s, out)
		}
	}
	if out, status := run(t, "check", "-c", "/nowhere.yaml"); status == 0 {
		t.Errorf("no file: %s", out)
	}
}

func TestVersion(t *testing.T) {
	out, status := run(t, "version")
	if status != 0 || !strings.HasPrefix(out, "shardgate ") {
		t.Errorf("status %d: %s", status, out)
	}
}

// When a gateway is told to stop, transactions may end and nobody new gets in.
func TestServeStops(t *testing.T) {
	c := newCluster(t, 2, keyed+"timeouts: {recovery_interval: 300ms, shutdown: 1500ms}\n")
	p := c.serve()
	ids := c.ids(c.connect("postgres"), 1)
	both := sqlf("UPDATE t SET v = v + 1 WHERE id IN (%d, %d)", ids[0][0], ids[1][0])
	ends, stays, idle := c.connect("postgres"), c.connect("postgres"), c.connect("postgres")
	must(t, ends, "BEGIN", both)
	must(t, stays, "BEGIN", sqlf("SELECT v FROM t WHERE id = %d", ids[0][0]))
	silent, err := net.Dial("tcp", c.listen) // who never logs in holds nothing up
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	long := c.connect("postgres")
	go long.Exec(context.Background(), sqlf("SELECT pg_sleep(60) FROM t WHERE id = %d", ids[1][0]))
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(200 * time.Millisecond)
	if err := tryConnect(t, c.url()); err == nil {
		t.Error("a new client was let in")
	}
	if _, err := idle.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a client that was idle goes on")
	}
	must(t, ends, both, "COMMIT")
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		t.Fatal("the gateway goes on")
	}
	if took := time.Since(start); took < time.Second || took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	if s := p.cmd.ProcessState.ExitCode(); s != 0 {
		t.Errorf("status %d", s)
	}
	if n := c.sum("SELECT coalesce(sum(v), 0)::bigint FROM t"); n != 4 {
		t.Errorf("the sum is %d", n)
	}
	// A server needs a moment to notice.
	left := int64(1)
	for until := time.Now().Add(5 * time.Second); left > 0 && time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		left = c.sum("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
	}
	if left > 0 {
		t.Errorf("%d connections to shards are left", left)
	}
}

// devServers are the processes that work in the folder.
func devServers(t *testing.T, dir string) []string {
	t.Helper()
	var pids []string
	for i := range 4 {
		if pid, err := localpg.Running(dir + sqlf("/s%d", i+1)); err == nil && pid != 0 {
			pids = append(pids, sqlf("%d", pid))
		}
	}
	return pids
}

func TestDev(t *testing.T) {
	c := &cluster{t: t, listen: freeAddress(t)}
	dir := pgtest.Dir(t)
	args := []string{"dev", "--shards", "2", "--listen", c.listen, "--data", dir}
	p := c.start("ready: psql", args...)
	if !strings.Contains(p.log.String(), c.url()) {
		t.Errorf("the connection string is missing:\n%s", p.log)
	}
	conn, err := pgx.Connect(t.Context(), c.url())
	if err != nil {
		t.Fatal(err)
	}
	must(t, conn, "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, n int)", "INSERT INTO pgbench_branches VALUES (1, 1), (2, 2), (3, 3), (4, 4)")

	// A second run on the same data, and one on the same port.
	if out, status := run(t, args...); status != 1 || !strings.Contains(out, dir) || !strings.Contains(out, "another run") {
		t.Errorf("a second run: status %d: %s", status, out)
	}
	second := pgtest.Dir(t)
	if out, status := run(t, "dev", "--shards", "1", "--listen", c.listen, "--data", second); status != 1 || !strings.Contains(out, "address already in use") {
		t.Errorf("a port in use: status %d: %s", status, out)
	}
	if left := devServers(t, second); len(left) != 0 {
		t.Errorf("servers are left: %v", left)
	}
	must(t, conn, "UPDATE pgbench_branches SET n = n + 1")

	// Killed amid a transaction, and started again: recovered and complete.
	must(t, conn, "BEGIN", "UPDATE pgbench_branches SET n = 0")
	p.kill()
	p = c.start("ready: psql", args...)
	conn, err = pgx.Connect(t.Context(), c.url())
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for bid := 1; bid <= 4; bid++ {
		if err := conn.QueryRow(t.Context(), sqlf("SELECT n FROM pgbench_branches WHERE bid = %d", bid)).Scan(&n); err != nil || n != bid+1 {
			t.Errorf("branch %d has %d: %v", bid, n, err)
		}
	}
	if status := p.end(t, syscall.SIGTERM, 15*time.Second); status != 0 {
		t.Errorf("SIGTERM: status %d", status)
	}
	if left := devServers(t, dir); len(left) != 0 {
		t.Errorf("servers are left: %v", left)
	}
	if out, status := run(t, "dev", "--shards", "3", "--listen", c.listen, "--data", dir); status != 1 || !strings.Contains(out, "--shards 2") {
		t.Errorf("another number of shards: status %d: %s", status, out)
	}
	if left := devServers(t, dir); len(left) != 0 {
		t.Errorf("servers are left: %v", left)
	}
}

func TestDevEphemeral(t *testing.T) {
	c := &cluster{t: t, listen: freeAddress(t)}
	tmp := pgtest.Dir(t)
	t.Setenv("TMPDIR", tmp)
	config := tmp + "/own.yaml"
	if err := os.WriteFile(config, []byte("tables: [{name: t, key: id}]\nlisten: "+c.listen+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := c.start("ready: psql", "dev", "--ephemeral", "--shards", "2", "--config", config)
	if !strings.Contains(p.log.String(), tmp) {
		t.Errorf("the temporary folder is not in TMPDIR:\n%s", p.log)
	}
	conn, err := pgx.Connect(t.Context(), c.url())
	if err != nil {
		t.Fatal(err)
	}
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY)", "BEGIN", "INSERT INTO t VALUES (1)")
	if status := p.end(t, os.Interrupt, 20*time.Second); status != 0 {
		t.Errorf("SIGINT: status %d", status)
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "own.yaml" {
			t.Errorf("%s is left", e.Name())
		}
	}
	if out, status := run(t, "dev", "--ephemeral", "--config", "/nowhere.yaml"); status == 0 {
		t.Errorf("no file: %s", out)
	}
	if out, status := run(t, "dev", "--ephemeral", "--shards", "0"); status != 1 || !strings.Contains(out, "1 to 64") {
		t.Errorf("no shards: status %d: %s", status, out)
	}
}
