package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

const doubtRule = `
timeouts: {recovery_interval: 100ms, recovery_grace: %s}
metrics: {listen: "%s"}
tables:
  - {name: t, key: id, group: g}
`

// inDoubt is SHOW shardgate.in_doubt without the ages, by id.
func inDoubt(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SHOW shardgate.in_doubt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (v [5]string, err error) {
		return v, r.Scan(&v[0], &v[1], &v[2], &v[3], &v[4])
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, v := range list {
		out[v[0]] = strings.Join([]string{v[1], v[3], v[4]}, "|")
	}
	return out
}

// status asks for the status of a transaction.
func status(t *testing.T, conn *pgx.Conn, id string) (s string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT shardgate.transaction_status($1)", id).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// onShard runs statements on a server, in a database.
func (c *cluster) onShard(i int, database string, statements ...string) {
	c.t.Helper()
	must(c.t, pgtest.Conn(c.t, c.shards[i].URL("postgres", database)), statements...)
}

// What a gateway leaves that was stopped amid a commit is told by another, while a shard is
// down and when it is back; and a client that was told 40003 learns the outcome later.
func TestInDoubt(t *testing.T) {
	c := newCluster(t, 3, "")
	metrics := freeAddress(t)
	c.configure(fmt.Sprintf(doubtRule, "1h", ""))
	quiet := c.serve() // it recovers nothing
	defer quiet.kill()
	conn := c.connect("postgres")
	keys := c.ids(conn, 10)
	crashes := *c
	crashes.listen = freeAddress(t)
	crashes.configure(fmt.Sprintf(doubtRule, "1h", "") + "pool: {connect_timeout: 1s}\n") // for as long it asks a decider that it has lost
	recovers := *c
	recovers.listen = freeAddress(t)
	recovers.configure(fmt.Sprintf(doubtRule, "0s", metrics))
	crash := func(point string) *process {
		path, err := crashing()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, "serve", "-c", crashes.config)
		cmd.Env = append(os.Environ(), "SHARDGATE_CRASH="+point)
		return crashes.launch(cmd, "msg=listening")
	}
	write := func(point string, n int) error {
		p := crash(point)
		defer p.kill()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		conn, err := pgx.Connect(ctx, crashes.url()+"?default_query_exec_mode=simple_protocol")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, fmt.Sprintf("UPDATE t SET v = %d WHERE id IN (%d, %d, %d)", n, keys[0][n], keys[1][n], keys[2][n]))
		return err
	}
	rows := func(n int) int64 { return c.sum(fmt.Sprintf("SELECT count(*) FROM t WHERE v = %d", n)) }
	only := func(want string) string {
		t.Helper()
		list := inDoubt(t, conn)
		if len(list) != 1 {
			t.Fatalf("in doubt: %v, want one: %s", list, want)
		}
		for id, got := range list {
			if got != want {
				t.Errorf("in doubt: %s, want %s", got, want)
			}
			return id
		}
		return ""
	}
	// finished waits until the list is empty, and the register knows that what was on it is
	// finished: then it doesn't come back when a shard is down.
	finished := func() {
		t.Helper()
		eventually(t, 10*time.Second, func() bool {
			return len(inDoubt(t, conn)) == 0 && c.sum("SELECT count(*) FROM shardgate.decisions WHERE unfinished IS DISTINCT FROM ''") == 0
		})
	}
	says := func(id, want string) {
		t.Helper()
		if got := status(t, conn, id); got != want {
			t.Errorf("the status is %q, want %q", got, want)
		}
	}
	// What isn't this cluster's is not listed.
	c.onShard(2, "postgres", "BEGIN", "CREATE TABLE x ()", "PREPARE TRANSACTION 'an application''s own'",
		"BEGIN", "CREATE TABLE y ()", "PREPARE TRANSACTION 'sg1:other-00000000:s1:0123456789abcdef0123456789abcdef:s3:1.1'")
	if list := inDoubt(t, conn); len(list) != 0 {
		t.Errorf("in doubt: %v", list)
	}
	var name string
	if err := pgtest.Conn(t, c.shards[0].URL("postgres", "postgres")).QueryRow(t.Context(), "SELECT cluster FROM shardgate.identity").Scan(&name); err != nil {
		t.Fatal(err)
	}
	ours := []string{quote("sg1:" + name + ":s1:0123456789abcdef0123456789abcdef:s3:1.1"), quote("sg1:" + name + ":s2:fedcba9876543210fedcba9876543210:s3:1.1")}
	c.onShard(2, "postgres", "BEGIN", "CREATE TABLE z ()", "PREPARE TRANSACTION "+ours[0], "BEGIN", "CREATE TABLE zz ()", "PREPARE TRANSACTION "+ours[1])
	shows(t, c)
	c.onShard(2, "postgres", "ROLLBACK PREPARED "+ours[0], "ROLLBACK PREPARED "+ours[1])
	c.onShard(2, "postgres", "ROLLBACK PREPARED 'an application''s own'", "ROLLBACK PREPARED 'sg1:other-00000000:s1:0123456789abcdef0123456789abcdef:s3:1.1'")

	p := crash("cut decided")
	ownWrites(t, &crashes, conn, keys, only)
	p.kill()

	// Decided, and finished nowhere; then a shard goes down.
	write("exit decided", 1)
	decided := only("committed, finishing|s2, s3|")
	says(decided, "committed, finishing on: s2, s3")
	if err := c.shards[2].Kill(); err != nil {
		t.Fatal(err)
	}
	if id := only("committed, finishing|s2|s3"); id != decided {
		t.Errorf("another id: %s", id)
	}
	says(decided, "committed, finishing on: s2, s3")
	if err := c.shards[2].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = recovers.serve()
	finished()
	says(decided, "committed")
	if n := rows(1); n != 3 {
		t.Errorf("%d of 3 rows", n)
	}
	p.kill()
	asks(t, c, decided)

	// Not decided.
	write("exit prepared", 2)
	undecided := only("undecided|s2, s3|")
	says(undecided, "in progress")
	p = recovers.serve()
	finished()
	says(undecided, "aborted")
	if n := rows(2); n != 0 {
		t.Errorf("%d rows of a transaction that is rolled back", n)
	}

	// A decider that is down. The gateway's log tells of it, and other work goes on.
	if err := c.shards[1].Kill(); err != nil {
		t.Fatal(err)
	}
	waits := strings.Replace(decided, ":s1:", ":s2:", 1)
	waits = waits[:len(waits)-2] + "00"
	c.onShard(2, "postgres", "BEGIN", sqlf("UPDATE t SET v = 3 WHERE id = %d", keys[2][3]), "PREPARE TRANSACTION "+quote("sg1:"+waits+":s3:1.1"))
	if id := only("unknown|s3|s2"); id != waits {
		t.Errorf("the id is %s, want %s", id, waits)
	}
	says(waits, "unknown; unreachable: s2")
	eventually(t, 5*time.Second, func() bool { return strings.Contains(p.log.String(), "transaction="+waits) })
	// So is a participant of another, which is carried out where that can be done.
	partly := waits[:len(waits)-2] + "01"
	partly = strings.Replace(partly, ":s2:", ":s1:", 1)
	c.onShard(0, "postgres", sqlf("INSERT INTO shardgate.decisions (txid, committed, backend, unfinished) VALUES ('%s', true, '1.1', 's2,s3')", partly[len(partly)-32:]))
	c.onShard(2, "postgres", "BEGIN", sqlf("UPDATE t SET v = 8 WHERE id = %d", keys[2][8]), "PREPARE TRANSACTION "+quote("sg1:"+partly+":s3:1.1"))
	eventually(t, 5*time.Second, func() bool { return inDoubt(t, conn)[partly] == "committed, finishing||s2" })
	says(partly, "committed, finishing on: s2")
	eventually(t, 5*time.Second, func() bool {
		return strings.Contains(p.log.String(), `yet" transaction=`+partly+` state="committed, finishing"`)
	})
	gauges := func() string {
		r, err := http.Get("http://" + metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return string(b)
	}
	if !strings.Contains(gauges(), "\nshardgate_in_doubt_transactions 2\n") {
		t.Error("no metric of the transactions in doubt")
	}
	time.Sleep(500 * time.Millisecond) // several recoveries
	if n := strings.Count(p.log.String(), "transaction="+waits); n > 2 {
		t.Errorf("%d lines in the log", n)
	}
	must(t, conn, sqlf("UPDATE t SET v = 4 WHERE id IN (%d, %d)", keys[0][4], keys[2][4]))
	if err := c.shards[1].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	finished()
	says(waits, "aborted")
	says(partly, "committed")
	eventually(t, 5*time.Second, func() bool { return strings.Contains(gauges(), "\nshardgate_in_doubt_transactions 0\n") })
	if !strings.Contains(p.log.String(), `"finished a distributed transaction" transaction=`+waits) {
		t.Error("the log says nothing of the end")
	}

	// The decider is lost during the decision, and can't be asked.
	p.kill()
	outcome(t, c, conn, write, recovers.serve)
}

// ownWrites checks that a session sees what it has committed on shards that are yet to carry
// it out, or waits for it. The gateway of c loses its connections when a commit is decided,
// and recovers nothing.
func ownWrites(t *testing.T, c *cluster, other *pgx.Conn, keys [][]int, only func(want string) string) {
	must(t, other, "CREATE ROLE another", "GRANT ALL ON t TO another")
	for i, role := range []string{"postgres", "another"} {
		conn := c.connect("postgres")
		n := 6 + i
		must(t, conn, "SET ROLE "+role, sqlf("UPDATE t SET v = %d WHERE id IN (%d, %d, %d)", n, keys[0][n], keys[1][n], keys[2][n]))
		only("committed, finishing|s2, s3|")
		read := func(shard int) (v int, err error) {
			err = conn.QueryRow(t.Context(), sqlf("SELECT v FROM t WHERE id = %d", keys[shard][n])).Scan(&v)
			return v, err
		}
		if err := c.shards[2].Kill(); err != nil {
			t.Fatal(err)
		}
		if v, err := read(1); err != nil || v != n {
			t.Errorf("as %s, %d on the shard that is up: %v", role, v, err)
		}
		only("committed, finishing||s3")
		if v, err := read(2); err == nil {
			t.Errorf("as %s, %d on the shard that is down", role, v)
		}
		// Other work goes on.
		must(t, other, sqlf("UPDATE t SET v = v WHERE id IN (%d, %d)", keys[0][n], keys[1][n]))
		if err := c.shards[2].Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		var v int
		if err := conn.QueryRow(t.Context(), sqlf("SELECT sum(v) FROM t WHERE id IN (%d, %d, %d)", keys[0][n], keys[1][n], keys[2][n])).Scan(&v); err != nil || v != 3*n {
			t.Errorf("as %s, the sum is %d, want %d: %v", role, v, 3*n, err)
		}
		if list := inDoubt(t, other); len(list) != 0 {
			t.Errorf("in doubt: %v", list)
		}
		// What the rest of the test is about shall be alone in the list.
		c.onShards("UPDATE shardgate.decisions SET unfinished = ''")
	}
}

// outcome has a commit's answer lost while its decider takes no connections, and checks
// that the client can learn the outcome when another gateway has recovered it.
func outcome(t *testing.T, c *cluster, conn *pgx.Conn, write func(point string, n int) error, recovers func() *process) {
	direct := pgtest.Conn(t, c.shards[0].URL("postgres", "template1"))
	third := pgtest.Conn(t, c.shards[2].URL("postgres", "postgres"))
	must(t, third, // a PREPARE that takes until the decider is closed
		"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'go_on') LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()")
	closed := make(chan error, 1)
	go func() {
		const preparing = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%PREPARE TRANSACTION%' AND pid <> pg_backend_pid() AND state = 'active'"
		var n int
		var err error
		for err == nil && n == 0 {
			time.Sleep(20 * time.Millisecond)
			err = third.QueryRow(t.Context(), preparing).Scan(&n)
		}
		for _, do := range []func() error{
			func() error {
				_, err := direct.Exec(t.Context(), "ALTER DATABASE postgres ALLOW_CONNECTIONS false")
				return err
			},
			func() error { _, err := third.Exec(t.Context(), "CREATE ROLE go_on"); return err },
		} {
			if err == nil {
				err = do()
			}
		}
		closed <- err
	}()
	err := write("cut decide sent", 5)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "40003" {
		t.Fatalf("the client was told: %v", err)
	}
	_, rest, ok := strings.Cut(pe.Hint, "shardgate.transaction_status('")
	id, _, ok2 := strings.Cut(rest, "'")
	if !ok || !ok2 || !strings.Contains(pe.Message, id) {
		t.Fatalf("no id in %q, %q", pe.Message, pe.Hint)
	}
	if got := status(t, conn, id); got != "unknown; unreachable: s1" {
		t.Errorf("the status is %q while the decider can't be reached", got)
	}
	must(t, direct, "ALTER DATABASE postgres ALLOW_CONNECTIONS true")
	recovers()
	eventually(t, 10*time.Second, func() bool { return slices.Contains([]string{"committed", "aborted"}, status(t, conn, id)) })
	want := "aborted"
	if n := c.sum("SELECT count(*) FROM t WHERE v = 5"); n == 3 {
		want = "committed"
	} else if n != 0 {
		t.Errorf("%d of 3 rows", n)
	}
	if got := status(t, conn, id); got != want {
		t.Errorf("the status is %s, want %s", got, want)
	}
}
