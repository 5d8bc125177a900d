package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// inOrder reads all rows of a merged answer, and checks their order.
func inOrder(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT id, v FROM wide ORDER BY v, id DESC")
	if err != nil {
		t.Fatal(err)
	}
	var id int
	var v string
	next := 19_999
	_, err = pgx.ForEachRow(rows, []any{&id, &v}, func() error {
		if id != next {
			return errors.New(sqlf("%d comes where %d belongs", id, next))
		}
		next--
		return nil
	})
	if err != nil || next != -1 {
		t.Errorf("rows down to %d: %v", next+1, err)
	}
}

// largeOrdered gives some 200 MB in order: more than the sockets' buffers can take.
const largeOrdered = "SELECT id, repeat(v, 100) FROM wide ORDER BY id"

// Whatever ends a merged answer, nothing goes on for it on any shard, and the session goes on.
func TestOrderedEnds(t *testing.T) {
	c := newCluster(t, 3, wideRule)
	p := c.serve()
	conn := c.connect("postgres")
	must(t, conn, `CREATE TABLE wide (id int PRIMARY KEY, v text COLLATE "C")`)
	copyIn(t, conn, 20_000)
	inOrder(t, conn)
	idle := func() {
		t.Helper()
		eventually(t, 5*time.Second, func() bool {
			return c.sum("SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '%shardgate_key_1%' AND pid <> pg_backend_pid()") == 0
		})
	}
	for _, block := range []bool{false, true} {
		for _, x := range []struct{ sql, code string }{
			{"SELECT 1 / (id - 15000) FROM wide ORDER BY id", "22012"},
			{"SELECT id FROM wide WHERE 1 / (id - 15000) < 5 ORDER BY v, id", "22012"},
			{"SELECT id FROM wide WHERE (SELECT true FROM pg_sleep(10)) ORDER BY id", "57014"},
		} {
			if block {
				must(t, conn, "BEGIN", "UPDATE wide SET v = v WHERE id = 1")
			}
			if x.code == "57014" {
				must(t, conn, "SET statement_timeout = '700ms'")
			}
			if _, err := conn.Exec(t.Context(), x.sql); code(err) != x.code {
				t.Errorf("%s, block %v: %v", x.sql, block, err)
			}
			if block {
				must(t, conn, "ROLLBACK")
			}
			must(t, conn, "RESET statement_timeout")
			idle()
			inOrder(t, conn)
		}
	}
	// Cancelled at any moment.
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		ctx, stop := context.WithTimeout(t.Context(), wait)
		_, err := c.connect("postgres").Exec(ctx, largeOrdered)
		stop()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && code(err) != "57014" {
			t.Errorf("cancelled after %v: %v", wait, err)
		}
	}
	idle()
	// A client that doesn't read makes the shards wait, and not the gateway's memory grow; when it
	// leaves, they stop.
	before := p.residentKiB(t)
	for i := range 4 {
		nc := c.raw(t, "postgres")
		sql := largeOrdered
		if i%2 > 0 {
			sql = "SELECT DISTINCT ON (-id) id, repeat(v, 100) FROM wide ORDER BY -id LIMIT 1000000 OFFSET 3"
		}
		if _, err := nc.Write(query(sql)); err != nil {
			t.Fatal(err)
		}
		client := pgproto3.NewFrontend(nc, nc)
		for read := 0; read < 1<<20; {
			m, err := client.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *pgproto3.ErrorResponse:
				t.Fatal(pgconn.ErrorResponseToPgError(m))
			case *pgproto3.DataRow:
				read += len(m.Values[1])
			}
		}
		eventually(t, 10*time.Second, func() bool {
			return c.sum("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'") == 3
		})
		nc.Close()
		idle()
	}
	if after := p.residentKiB(t); after > before+32<<10 {
		t.Errorf("the memory has grown from %d to %d KiB", before, after)
	}
	inOrder(t, conn)
	// A shard that is lost.
	for i, s := range c.shards {
		nc := c.raw(t, "postgres")
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := nc.Write(query(largeOrdered)); err != nil {
			t.Fatal(err)
		}
		client := pgproto3.NewFrontend(nc, nc)
		for rows, killed := 0, false; ; rows++ {
			m, err := client.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := m.(*pgproto3.ErrorResponse); ok {
				lostShard(t, "amid a merged answer", pgconn.ErrorResponseToPgError(e), sqlf("s%d", i+1))
			}
			if _, ok := m.(*pgproto3.ReadyForQuery); ok {
				break
			}
			if rows > 100 && !killed {
				killed = true
				if err := s.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			if _, ok := m.(*pgproto3.CommandComplete); ok {
				t.Error("the answer is whole without a shard")
			}
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, func() bool {
			_, err := conn.Exec(t.Context(), largeOrdered)
			return err == nil
		})
	}
}

// Types of the user's have other OIDs on each shard. The client sees those of the home shard,
// and a merged answer is the same as a gathered one.
func TestOrderedTypes(t *testing.T) {
	c := newCluster(t, 3, wideRule)
	for i, s := range c.shards {
		conn, err := pgx.Connect(t.Context(), s.URL("postgres", "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		for k := range i * 3 {
			must(t, conn, sqlf("CREATE TYPE other%d AS (a int)", k))
		}
		conn.Close(t.Context())
	}
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TYPE pair AS (id int, v text)", "CREATE TABLE wide (id int PRIMARY KEY, v text)", "INSERT INTO wide SELECT g, 'v' || g FROM generate_series(1, 20) g")
	read := func(sql string, format int16) *pgconn.Result {
		res := conn.PgConn().ExecParams(t.Context(), sql, [][]byte{[]byte("18")}, nil, nil, []int16{format}).Read()
		if res.Err != nil {
			t.Fatal(sql, res.Err)
		}
		return res
	}
	for _, format := range []int16{0, 1} {
		const list = "SELECT id, row(id, v)::pair AS p, ARRAY[row(id, v)::pair] AS q, wide FROM wide WHERE id < $1 ORDER BY "
		merged, gathered := read(list+"id DESC", format), read(list+"-id", format)
		if got, want := sqlf("%v %q", merged.FieldDescriptions, merged.Rows), sqlf("%v %q", gathered.FieldDescriptions, gathered.Rows); got != want || len(merged.Rows) != 17 {
			t.Errorf("format %d:\n%s\ngathered:\n%s", format, got, want)
		}
	}
}
