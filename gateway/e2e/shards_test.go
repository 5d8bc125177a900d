package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// ways in which a server ends.
var ways = map[string]func(*localpg.Server) error{
	"fast":      func(s *localpg.Server) error { return s.Stop(context.Background()) },
	"immediate": func(s *localpg.Server) error { return s.StopImmediate(context.Background()) },
	"kill":      func(s *localpg.Server) error { return s.Kill() },
}

// lostShard checks that an error is about the loss of the shard, and names it.
func lostShard(t *testing.T, what string, err error, shard string) {
	t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		t.Errorf("%s: %v", what, err)
		return
	}
	// A server that stops in good order says so itself.
	known := []string{"08006", "08001", "57P01", "57P02", "57P03", "40003", "08007"}
	if !slices.Contains(known, pe.Code) || !strings.Contains(pe.Message+pe.Detail+pe.Where, "shard "+shard) {
		t.Errorf("%s: %+v", what, pe)
	}
}

// A shard that ends, in whatever way and at whatever moment, fails what needs it
// and nothing else, and is used again when it is back.
func TestShardEnds(t *testing.T) {
	c := newCluster(t, 3, keyed+"pool: {connect_timeout: 2s, acquire_timeout: 2s}\n")
	c.serve()
	conn := c.connect("postgres")
	ids := c.ids(conn, 1)
	gone, left := ids[1][0], ids[2][0]
	s := c.shards[1]
	read := func(id int) error {
		_, err := c.connect("postgres").Exec(t.Context(), sqlf("SELECT v FROM t WHERE id = %d", id))
		return err
	}
	for _, name := range []string{"fast", "immediate", "kill"} {
		end := ways[name]
		idle, asleep, within, commit := c.connect("postgres"), c.connect("postgres"), c.connect("postgres"), c.connect("postgres")
		must(t, idle, sqlf("SELECT v FROM t WHERE id = %d", gone))
		both := sqlf("UPDATE t SET v = v + 1 WHERE id IN (%d, %d)", gone, left)
		must(t, within, "BEGIN", both)
		slept := make(chan error, 1)
		go func() {
			_, err := asleep.Exec(t.Context(), sqlf("SELECT pg_sleep(60) FROM t WHERE id = %d", gone))
			slept <- err
		}()
		time.Sleep(100 * time.Millisecond)
		if err := end(s); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-slept:
			lostShard(t, name+" amid a query", err, "s2")
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the query hangs", name)
		}
		if err := read(left); err != nil {
			t.Errorf("%s: another shard: %v", name, err)
		}
		lostShard(t, name+", from the pool", read(gone), "s2")
		lostShard(t, name+", idle", func() error {
			_, err := idle.Exec(t.Context(), sqlf("SELECT v FROM t WHERE id = %d", gone))
			return err
		}(), "s2")
		_, err := within.Exec(t.Context(), sqlf("SELECT v FROM t WHERE id = %d", gone))
		lostShard(t, name+" amid a transaction", err, "s2")
		must(t, within, "ROLLBACK")
		_, err = commit.Exec(t.Context(), both)
		lostShard(t, name+", two shards", err, "s2")
		// The other shard's rows are locked by none of these.
		must(t, conn, "SET lock_timeout = '2s'", sqlf("UPDATE t SET v = v WHERE id = %d", left))
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, cn := range []*pgx.Conn{idle, asleep, within, commit, conn} {
			eventually(t, 3*time.Second, func() bool {
				_, err := cn.Exec(t.Context(), sqlf("SELECT v FROM t WHERE id = %d", gone))
				return err == nil
			})
		}
		must(t, conn, both)
	}
	c.settled()
	if n := c.sum("SELECT coalesce(sum(v), 0)::bigint FROM t"); n != 6 {
		t.Errorf("the sum is %d", n)
	}
}

// A statement outside a block commits itself: where its shard ends amid it, whether it is
// committed can't be known, unless it writes nothing. In a block nothing is committed.
func TestShardEndsAmidWrite(t *testing.T) {
	c := newCluster(t, 2, keyed)
	c.serve()
	conn := c.connect("postgres")
	id := c.ids(conn, 1)[1][0]
	write := sqlf("UPDATE t SET v = v + length(pg_sleep(60)::text) WHERE id = %d", id)
	want := map[string]string{
		write: "08007",
		"SELECT pg_sleep(60) FROM t WHERE id = " + sqlf("%d", id): "08006",
		"BEGIN; " + write: "08006",
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
		got := map[string]chan error{}
		for sql := range want {
			conn := c.connect("postgres")
			rest, block := strings.CutPrefix(sql, "BEGIN; ")
			if block {
				must(t, conn, "BEGIN")
			}
			got[sql] = make(chan error, 1)
			go func() {
				_, err := conn.Exec(t.Context(), rest, mode)
				got[sql] <- err
			}()
		}
		eventually(t, 5*time.Second, func() bool {
			return c.sum("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()") == int64(len(want))
		})
		if err := c.shards[1].Kill(); err != nil {
			t.Fatal(err)
		}
		for sql, wanted := range want {
			if err := <-got[sql]; code(err) != wanted {
				t.Errorf("%v, %s: %v, want %s", mode, sql, err, wanted)
			}
		}
		if err := c.shards[1].Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// When one connection is found lost, the others to that shard are not trusted
// either: a restart costs one error, not one for each of them.
func TestRestartCostsOneError(t *testing.T) {
	c := newCluster(t, 2, keyed)
	c.serve()
	ids := c.ids(c.connect("postgres"), 1)
	sql := sqlf("SELECT v FROM t WHERE id = %d", ids[1][0])
	var conns []*pgx.Conn
	for range 8 {
		conn := c.connect("postgres")
		must(t, conn, "BEGIN", sql)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		must(t, conn, "COMMIT")
	}
	if err := c.shards[1].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.shards[1].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, conn := range conns {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			failed++
		}
	}
	if failed > 1 {
		t.Errorf("%d clients have had an error", failed)
	}
}

// ledger writes rows in pairs, one on each of two shards, and remembers what it was told.
type ledger struct {
	c     *cluster
	pairs []string // "(a, b)" keys on two shards
	next  atomic.Int64

	mu               sync.Mutex
	committed, other map[int64]bool // told to be committed; told otherwise
	unknown          map[int64]bool
	odd              []error
}

func newLedger(t *testing.T, c *cluster, ids [][]int) *ledger {
	l := &ledger{c: c, committed: map[int64]bool{}, other: map[int64]bool{}, unknown: map[int64]bool{}}
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE u (id int NOT NULL, n bigint NOT NULL, PRIMARY KEY (id, n))")
	for i := range ids {
		for k := range ids {
			if i != k {
				l.pairs = append(l.pairs, fmt.Sprintf("(%d, %%[1]d), (%d, %%[1]d)", ids[i][0], ids[k][0]))
			}
		}
	}
	return l
}

// write writes through the address until the context ends.
func (l *ledger) write(ctx context.Context, url string) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.Background())
		}
	}()
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, url); err != nil {
				conn = nil
				time.Sleep(10 * time.Millisecond)
				continue
			}
		}
		n := l.next.Add(1)
		bound, stop := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := conn.Exec(bound, "INSERT INTO u VALUES "+fmt.Sprintf(l.pairs[rand.IntN(len(l.pairs))], n))
		hangs := bound.Err() != nil
		stop()
		l.mu.Lock()
		switch c := code(err); {
		case err == nil:
			l.committed[n] = true
		case c == "40003" || c == "08007" || c == "lost" && !hangs:
			l.unknown[n] = true
		default:
			l.other[n] = true
			if !strings.HasPrefix(c, "08") && !strings.HasPrefix(c, "57P") {
				l.odd = append(l.odd, err)
			}
		}
		l.mu.Unlock()
	}
}

// check compares what is there with what was told.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	there := map[int64]int{}
	for _, s := range l.c.shards {
		rows, err := pgtest.Conn(t, s.URL("postgres", "postgres")).Query(t.Context(), "SELECT n FROM u")
		if err != nil {
			t.Fatal(err)
		}
		ns, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range ns {
			there[n]++
		}
	}
	for n, rows := range there {
		if rows != 2 {
			t.Errorf("transaction %d has left %d rows", n, rows)
		}
		if l.other[n] {
			t.Errorf("transaction %d is there, and its client was told that it failed", n)
		}
	}
	for n := range l.committed {
		if there[n] == 0 {
			t.Errorf("transaction %d is not there, and its client was told that it is committed", n)
		}
	}
	for _, err := range l.odd {
		t.Errorf("an unexpected error: %v", err)
	}
	if len(l.committed) == 0 {
		t.Error("nothing was committed")
	}
	t.Logf("%d committed, %d failed, %d told to be unknown", len(l.committed), len(l.other), len(l.unknown))
}

// Shards end amid commits over several of them: each client is told the truth.
func TestShardEndsAmidCommit(t *testing.T) {
	c := newCluster(t, 3, keyed+"pool: {connect_timeout: 2s, acquire_timeout: 5s}\n")
	c.serve()
	l := newLedger(t, c, c.ids(c.connect("postgres"), 1))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { l.write(ctx, c.url()) })
	}
	for i, name := range []string{"kill", "fast", "immediate"} {
		time.Sleep(300*time.Millisecond + time.Duration(rand.IntN(100_000))*time.Microsecond)
		s := c.shards[i%3]
		if err := ways[name](s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()
	c.settled()
	l.check(t)
}

// Two gateways serve the same shards. One finishes what the other leaves.
func TestTwoGateways(t *testing.T) {
	c := newCluster(t, 3, keyed)
	d := *c
	d.listen = freeAddress(t)
	d.configure(keyed + "timeouts: {recovery_interval: 300ms, schema_poll: 50ms}\n")
	c.serve()
	p := d.serve()
	conn, there := c.connect("postgres"), d.connect("postgres")
	l := newLedger(t, c, c.ids(conn, 1))
	must(t, conn, "CREATE TABLE made (id int)", "ALTER TABLE u ADD COLUMN x int DEFAULT 3")
	eventually(t, 3*time.Second, func() bool {
		rows, err := there.Query(t.Context(), "SELECT x FROM u WHERE id = 1")
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		return err == nil
	})
	must(t, there, "INSERT INTO made VALUES (1)", "DROP TABLE made")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { l.write(ctx, c.url()) })
		wg.Go(func() { l.write(ctx, d.url()) })
	}
	for range 2 {
		time.Sleep(500*time.Millisecond + time.Duration(rand.IntN(100_000))*time.Microsecond)
		p.kill()
		time.Sleep(200 * time.Millisecond)
		p = d.serve()
	}
	time.Sleep(300 * time.Millisecond)
	p.kill()
	stop()
	wg.Wait()
	c.settled()
	l.check(t)
}

// A shard that does not answer holds up those that need it, until they cancel.
func TestFrozenShard(t *testing.T) {
	c := newCluster(t, 2, keyed+"pool: {connect_timeout: 1s}\n")
	c.serve()
	conn, other := c.connect("postgres"), c.connect("postgres")
	ids := c.ids(conn, 1)
	frozen, left := ids[1][0], ids[0][0]
	if err := c.shards[1].Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		_, err := conn.PgConn().Exec(t.Context(), sqlf("SELECT v FROM t WHERE id = %d", frozen)).ReadAll()
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	must(t, other, sqlf("SELECT v FROM t WHERE id = %d", left))
	bound, end := context.WithTimeout(ctx, 10*time.Second)
	defer end()
	go conn.PgConn().CancelRequest(bound)
	select {
	case err := <-done:
		lostShard(t, "cancelled", err, "s2")
	case <-time.After(10 * time.Second):
		t.Fatal("a client that cancels still waits")
	}
	must(t, conn, sqlf("SELECT v FROM t WHERE id = %d", left))
	// Nothing new gets through either, within the time that connecting may take.
	_, err := other.Exec(t.Context(), sqlf("UPDATE t SET v = 5 WHERE id = %d", frozen))
	lostShard(t, "a new connection", err, "s2")
	if err := c.shards[1].Resume(); err != nil {
		t.Fatal(err)
	}
	must(t, conn, sqlf("UPDATE t SET v = v + 1 WHERE id IN (%d, %d)", left, frozen))
	c.settled()
}

// A shard that can't prepare transactions fails them, whole.
func TestNoPreparedTransactions(t *testing.T) {
	c := newClusterWith(t, 2, keyed, func(i int, o *localpg.Options) {
		if i == 1 {
			o.Settings = map[string]string{"max_prepared_transactions": "0"}
		}
	})
	c.serve()
	// Without them not even a table can be made.
	conn := c.connect("postgres")
	_, err := conn.Exec(t.Context(), "CREATE TABLE t (id int PRIMARY KEY)")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "55000" || !strings.Contains(pe.Where+pe.Detail+pe.Message, "s2") || !strings.Contains(pe.Hint, "max_prepared_transactions") {
		t.Errorf("%+v", pe)
	}
	if n := c.sum("SELECT count(*) FROM pg_class WHERE relname = 't'"); n != 0 {
		t.Errorf("the table is on %d shards", n)
	}
	must(t, conn, "SELECT 1")
	c.onShards("CREATE TABLE t (id int PRIMARY KEY, v int)")
}
