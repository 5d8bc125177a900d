package e2e

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// gathered fills a table with rows that don't travel as parameters, and returns a
// statement that brings them together.
func gathered(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	must(t, conn, "CREATE TABLE wide (id int PRIMARY KEY, v text)")
	copyIn(t, conn, 20_000)
	return "SELECT count(*), sum(length(a.v)) FROM wide a JOIN wide b ON a.id = b.id + 1"
}

func copyIn(t *testing.T, conn *pgx.Conn, rows int) {
	t.Helper()
	var b strings.Builder
	for i := range rows {
		b.WriteString(sqlf("%d\t%s\n", i, strings.Repeat("x", 100)))
	}
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(b.String()), "COPY wide FROM STDIN"); err != nil {
		t.Fatal(err)
	}
}

const wideRule = "tables:\n  - {name: wide, key: id}\n"

// Whatever ends a gathered statement, nothing of it is left, and the session goes on.
func TestGatherEnds(t *testing.T) {
	c := newCluster(t, 3, wideRule+"limits: {gather_bytes: 3MiB}\npool: {gather_size: 1}\n")
	c.serve()
	conn := c.connect("postgres")
	sql := gathered(t, conn)
	want := func(conn *pgx.Conn) {
		t.Helper()
		var n, sum int
		if err := conn.QueryRow(t.Context(), sql).Scan(&n, &sum); err != nil || n != 19_999 || sum != 1_999_900 {
			t.Errorf("%d rows, sum %d: %v", n, sum, err)
		}
	}
	want(conn)
	for _, block := range []bool{false, true} {
		for _, x := range []struct{ sql, code string }{
			{"SELECT max(a.v || b.v) FROM wide a JOIN wide b ON a.id = b.id + 1", "53400"},
			{"SELECT sum(1 / (a.id - 5)) FROM wide a JOIN wide b ON a.id = b.id + 1", "22012"},
			{"SELECT count(*) FROM wide a, wide b WHERE a.id = b.id + 1 AND 1 / (a.id - 5) > 0", "22012"},
			{"SELECT count(*) FROM wide a JOIN wide b ON a.id = b.id + 1 WHERE (SELECT true FROM pg_sleep(10))", "57014"},
		} {
			if block {
				must(t, conn, "BEGIN", "UPDATE wide SET v = v WHERE id = 1")
			}
			if x.code == "57014" {
				must(t, conn, "SET statement_timeout = '700ms'")
			}
			_, err := conn.Exec(t.Context(), x.sql)
			if got := code(err); got != x.code {
				t.Errorf("%s, block %v: %v", x.sql, block, err)
			}
			if block {
				must(t, conn, "ROLLBACK")
			}
			must(t, conn, "RESET statement_timeout")
			want(conn)
		}
	}
	// Cancelled at any moment.
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		ctx, stop := context.WithTimeout(t.Context(), wait)
		other := c.connect("postgres")
		var n, sum int
		err := other.QueryRow(ctx, sql).Scan(&n, &sum)
		stop()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && code(err) != "57014" {
			t.Errorf("cancelled after %v: %v", wait, err)
		}
		want(conn)
	}
	// A client that leaves ends the work.
	for wait := time.Millisecond; wait < 300*time.Millisecond; wait *= 3 {
		other, err := pgx.Connect(t.Context(), c.url())
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan error, 1)
		go func() {
			_, err := other.Exec(context.Background(), sql)
			left <- err
		}()
		time.Sleep(wait)
		other.PgConn().Conn().Close()
		<-left
	}
	want(conn)
	// More at a time than there are connections for their tables.
	var wg sync.WaitGroup
	for range 6 {
		other := c.connect("postgres")
		wg.Go(func() { want(other) })
	}
	wg.Wait()
	c.onShards("DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_class WHERE relname LIKE 'shardgate%' AND relpersistence = 't'); END $$")
}

// Whatever ends a cursor or a portal over gathered rows, its connection serves the next.
func TestGatheredCursorEnds(t *testing.T) {
	c := newCluster(t, 3, wideRule+"pool: {gather_size: 1, acquire_timeout: 2s}\n")
	c.serve()
	conn := c.connect("postgres")
	gathered(t, conn)
	const declare = "DECLARE c CURSOR FOR SELECT a.id, b.v FROM wide a JOIN wide b ON a.id = b.id + 1 ORDER BY a.id"
	fetch := func(conn *pgx.Conn) {
		t.Helper()
		if rows, err := conn.Query(t.Context(), "FETCH 100 FROM c"); err != nil {
			t.Fatal(err)
		} else if got, err := pgx.CollectRows(rows, pgx.RowToMap); err != nil || len(got) != 100 {
			t.Fatalf("%d rows: %v", len(got), err)
		}
	}
	for _, end := range []string{"CLOSE c", "CLOSE ALL", "ROLLBACK TO s", "ROLLBACK; BEGIN; SAVEPOINT s", "SELECT 1 / 0", "FETCH nosuch FROM c"} {
		must(t, conn, "BEGIN", "UPDATE wide SET v = v WHERE id IN (1, 2)", "SAVEPOINT s", declare)
		fetch(conn)
		_, err := conn.Exec(t.Context(), end)
		if err != nil {
			must(t, conn, "ROLLBACK TO s")
		}
		must(t, conn, declare)
		fetch(conn)
		must(t, conn, "COMMIT")
	}
	// A client that leaves.
	for range 3 {
		other, err := pgx.Connect(t.Context(), c.url())
		if err != nil {
			t.Fatal(err)
		}
		must(t, other, "BEGIN", declare)
		fetch(other)
		other.PgConn().Conn().Close()
	}
	must(t, conn, "BEGIN", declare)
	fetch(conn)
	must(t, conn, "ROLLBACK")
	if err := conn.QueryRow(t.Context(), "SELECT a.id FROM wide a JOIN wide b ON a.id = b.id + 1").Scan(new(int)); err != nil {
		t.Error(err)
	}
}

// A shard that is killed amid the fetching of rows fails the statement and nothing else.
func TestGatherLosesShard(t *testing.T) {
	c := newCluster(t, 3, wideRule+"pool: {connect_timeout: 2s, acquire_timeout: 2s}\n")
	c.serve()
	conn := c.connect("postgres")
	sql := gathered(t, conn)
	for i, wait := range []time.Duration{0, 5, 20, 60} {
		s := c.shards[i%3]
		done := make(chan error, 1)
		other := c.connect("postgres")
		go func() {
			var n, sum int
			done <- other.QueryRow(context.Background(), sql).Scan(&n, &sum)
		}()
		time.Sleep(wait * time.Millisecond)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				lostShard(t, "amid a gathered statement", err, sqlf("s%d", i%3+1))
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the statement hangs")
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, func() bool {
			_, err := conn.Exec(t.Context(), sql)
			return err == nil
		})
	}
}

// Rows that come to a table on the gateway's own connection don't wait for ever for a
// lock of the client's own transaction.
func TestGatherOwnLocks(t *testing.T) {
	c := newCluster(t, 2, keyed)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, l int[])", "CREATE TABLE other (id int)")
	const query = "SELECT l, count(*) FROM t GROUP BY l"
	for _, lock := range []string{"TRUNCATE t", "ALTER TABLE t ADD COLUMN v int", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"} {
		must(t, conn, "BEGIN", lock)
		_, err := conn.Exec(t.Context(), query)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "55P03" || !strings.Contains(e.Hint, "commit it first") {
			t.Errorf("after %s: %#v", lock, err)
		}
		must(t, conn, "ROLLBACK")
	}
	must(t, conn, "BEGIN", "TRUNCATE other", "CREATE TABLE made (id int)", query, "COMMIT")
}

// Rows of arrays can't be brought into the client's transaction, be there any or not.
func TestGatherInsideArrays(t *testing.T) {
	c := newCluster(t, 2, keyed)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, list int[])", "CREATE FUNCTION today() RETURNS date STABLE LANGUAGE sql AS 'SELECT CURRENT_DATE'")
	for range 2 {
		must(t, conn, "BEGIN")
		_, err := conn.Exec(t.Context(), "SELECT today(), a.list FROM t a JOIN t b ON a.list = b.list", pgx.QueryExecModeSimpleProtocol)
		if code(err) != "0A000" || !strings.Contains(err.Error(), "arrays") {
			t.Error(err)
		}
		must(t, conn, "ROLLBACK", "INSERT INTO t VALUES (1, '{1}') ON CONFLICT DO NOTHING")
	}
	c.settled()
}

// Rows of tables that inherit from one may repeat its primary key. PostgreSQL then takes a
// column that depends on it from any of the rows.
func TestGatherInherited(t *testing.T) {
	c := newCluster(t, 3, wideRule)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE wide (id int PRIMARY KEY, v text)", "CREATE TABLE plain (id int PRIMARY KEY, v text)", "CREATE TABLE heirs () INHERITS (plain)",
		"INSERT INTO wide SELECT i, i FROM generate_series(1, 9) i", "INSERT INTO plain VALUES (1, '1')", "INSERT INTO heirs VALUES (1, '2')")
	for _, x := range []struct{ sql, code string }{
		{"SELECT p.v, count(w.id) FROM plain p LEFT JOIN wide w ON w.v = p.v GROUP BY p.id", "0A000"},
		{"SELECT p.v, count(w.id) FROM ONLY plain p LEFT JOIN wide w ON w.v = p.v GROUP BY p.id", ""},
		{"SELECT p.v, count(w.id) FROM plain p LEFT JOIN wide w ON w.v = p.v GROUP BY p.id, p.v", ""},
	} {
		if _, err := conn.Exec(t.Context(), x.sql); code(err) != x.code {
			t.Errorf("%s: %v", x.sql, err)
		}
	}
}

// A session's own limit holds until it is given up, and never beyond the configuration's.
func TestGatherLimit(t *testing.T) {
	c := newCluster(t, 3, wideRule+"limits: {gather_bytes: 3MiB}\n")
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE wide (id int PRIMARY KEY, v text)")
	copyIn(t, conn, 2000)
	const sql = "SELECT max(a.v || b.v) FROM wide a JOIN wide b ON a.id = b.id + 1"
	want := func(state string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); code(err) != state {
			t.Errorf("%v", err)
		}
	}
	want("")
	must(t, conn, "SET shardgate.gather_limit = '100kB'")
	want("53400")
	must(t, conn, "BEGIN", "SET LOCAL shardgate.gather_limit = '2MB'")
	want("")
	must(t, conn, "SAVEPOINT a", "SET LOCAL shardgate.gather_limit = '64kB'")
	want("53400")
	must(t, conn, "ROLLBACK TO a")
	want("")
	must(t, conn, "COMMIT")
	want("53400")
	if _, err := conn.Exec(t.Context(), "INSERT INTO wide SELECT id + 2000, v FROM wide"); code(err) != "53400" {
		t.Error(err)
	}
	must(t, conn, "BEGIN", "RESET shardgate.gather_limit", "ROLLBACK")
	want("53400")
	if _, err := conn.Exec(t.Context(), "SET shardgate.gather_limit = '4MB'"); code(err) != "22023" {
		t.Error(err)
	}
	must(t, conn, "RESET ALL")
	want("")
}
