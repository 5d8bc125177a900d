package e2e

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// unlocked waits until all rows of t can be changed on every shard.
func (c *cluster) unlocked(within time.Duration) {
	c.t.Helper()
	var locks int64
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		locks = c.sum("SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname IN ('t', 'u', 'wide') AND l.mode <> 'AccessShareLock'")
		locks += c.sum("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' OR state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
		if locks == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d locks and transactions are left after %v", locks, within)
		}
	}
}

// cut ends a client's connection as a crash of its machine's network would: without
// a Terminate.
func cut(conn *pgx.Conn) { conn.PgConn().Conn().Close() }

// A client that vanishes leaves no lock behind on any shard.
func TestVanishingClients(t *testing.T) {
	c := newCluster(t, 2, keyed+"  - {name: wide, key: id}\n")
	p := c.serve()
	conn := c.connect("postgres")
	ids := c.ids(conn, 1)
	both := sqlf("UPDATE t SET v = v + 1 WHERE id IN (%d, %d)", ids[0][0], ids[1][0])
	must(t, conn, "CREATE TABLE wide (id int PRIMARY KEY, x text)")

	idle := c.connect("postgres")
	must(t, idle, "BEGIN", both, "SAVEPOINT s", both)
	cut(idle)
	c.unlocked(3 * time.Second)

	copying := c.raw(t, "postgres")
	copying.Write(query("COPY wide FROM STDIN"))
	for i := range 5000 {
		data := sqlf("%d\t%s\n", i, strings.Repeat("y", 80))
		copying.Write(message("d", uint32(4+len(data)), data))
	}
	copying.Close()
	c.unlocked(3 * time.Second)
	if n := c.sum("SELECT count(*) FROM wide"); n != 0 {
		t.Errorf("%d rows of a COPY that was not ended", n)
	}

	// 64 MiB of answer, of which nothing is read for a while.
	var rows strings.Builder
	for i := range 8192 {
		rows.WriteString(sqlf("%d\t%s\n", i, strings.Repeat("z", 8192)))
	}
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(rows.String()), "COPY wide FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	before := p.residentKiB(t)
	var readers []net.Conn
	for i := range 4 {
		nc := c.raw(t, "postgres")
		if i == 0 {
			nc.Write(query("BEGIN"))
			nc.Write(query(both))
		}
		nc.Write(query("SELECT * FROM wide"))
		readers = append(readers, nc)
	}
	time.Sleep(700 * time.Millisecond)
	start := time.Now()
	for range 20 {
		must(t, conn, sqlf("SELECT v FROM t WHERE id = %d", ids[1][0]), "SELECT count(*) FROM wide WHERE id = 1")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("40 statements took %v while others did not read", took)
	}
	if after := p.residentKiB(t); after > before+16<<10 {
		t.Errorf("four clients that don't read 64 MiB have made the memory grow from %d to %d KiB", before, after)
	}
	// One does read in the end, and gets all of it; the others vanish.
	n, err := io.CopyN(io.Discard, bufio.NewReader(readers[3]), 64<<20)
	if err != nil {
		t.Errorf("%d bytes, and then: %v", n, err)
	}
	for _, nc := range readers {
		nc.Close()
	}
	c.unlocked(5 * time.Second)
	must(t, conn, both)

	// A vanished client that waits for a lock, and one in a statement that takes
	// long, are noticed when the statement ends, as in PostgreSQL; then their locks go.
	must(t, conn, "BEGIN", both)
	waiting := c.raw(t, "postgres")
	waiting.Write(query(both))
	time.Sleep(100 * time.Millisecond)
	waiting.Close()
	must(t, conn, "COMMIT")
	c.unlocked(3 * time.Second)
}

// query is a Query message.
func query(sql string) []byte { return message("Q", uint32(5+len(sql)), sql+"\x00") }

// Clients that need connections to several shards, of which each shard has one
// only, end by an error rather than wait for each other for ever.
func TestPoolOfOne(t *testing.T) {
	c := newCluster(t, 2, keyed+"pool: {size: 1, acquire_timeout: 300ms}\n")
	c.serve()
	ids := c.ids(c.connect("postgres"), 1)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	committed, timeouts := 0, 0
	for i := range 4 {
		conn := c.connect("postgres")
		wg.Go(func() {
			for range 8 {
				first, second := ids[i%2][0], ids[1-i%2][0]
				var failed string
				for _, sql := range []string{"BEGIN", sqlf("UPDATE t SET v = v + 1 WHERE id = %d", first), sqlf("UPDATE t SET v = v + 1 WHERE id = %d", second)} {
					if _, err := conn.Exec(ctx, sql); err != nil {
						failed = code(err)
						break
					}
				}
				if failed == "" {
					_, err := conn.Exec(ctx, "COMMIT")
					failed = code(err)
				} else {
					conn.Exec(ctx, "ROLLBACK")
				}
				mu.Lock()
				switch failed {
				case "":
					committed++
				case "53300":
					timeouts++
				default:
					t.Errorf("failed with %s", failed)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		t.Fatal("the clients wait for each other")
	}
	t.Logf("%d committed, %d without a connection", committed, timeouts)
	if n := c.sum("SELECT coalesce(sum(v), 0)::bigint FROM t"); n != int64(2*committed) {
		t.Errorf("the sum is %d after %d transactions", n, committed)
	}
	c.settled()
}
