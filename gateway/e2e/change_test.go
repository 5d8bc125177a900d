package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// changeTables are those of the tests of changes by rows of other shards.
const changeTables = `
tables:
  - {name: t, key: id}
  - {name: u, key: id}
  - {name: loose, key: id}
  - {name: ref, reference: true}
`

// A table is changed by rows of other shards, on all of its shards or on none.
func TestChange(t *testing.T) {
	c := newCluster(t, 3, changeTables)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int CHECK (n < 1000000))", "CREATE TABLE u (id int PRIMARY KEY, tid bigint, n int, w text)",
		"CREATE TABLE loose (id int, v text)", "CREATE TABLE ref (id int PRIMARY KEY, v text, n bigint)", "CREATE TABLE plain (id int, v text, list float8[])",
		"INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 5000) i", "INSERT INTO u SELECT i, 5001 - i, i % 10, repeat('w', 100) FROM generate_series(1, 5000) i",
		"INSERT INTO ref SELECT i, 'r' || i, 0 FROM generate_series(1, 100) i")
	change := func(sql string, want int64) {
		t.Helper()
		tag, err := conn.Exec(t.Context(), sql)
		if err != nil || tag.RowsAffected() != want {
			t.Fatalf("%s: %v, %v", sql, tag, err)
		}
	}
	fails, total := c.checks(conn)

	change("UPDATE t SET n = u.id, v = u.w FROM u WHERE u.tid = t.id AND u.n < 5", 2500)
	total("SELECT count(*) FROM t WHERE n = 5001 - id AND length(v) = 100", 2500)
	change("DELETE FROM t USING u WHERE u.tid = t.id AND u.n = 9", 500)
	change("UPDATE ref SET n = (SELECT count(*) FROM u WHERE u.n = ref.id)", 100)
	total("SELECT sum(n)::bigint FROM ref", 3*4500)
	change("UPDATE ref SET v = (SELECT string_agg(v, ',') FROM (SELECT v FROM t LIMIT 3) q) WHERE id <= 10", 10)
	total("SELECT count(DISTINCT v) FROM ref WHERE id <= 10", 3)
	change("UPDATE t SET n = (SELECT u.id FROM u ORDER BY u.n LIMIT 1) WHERE n = 4", 2)
	change("MERGE INTO t USING (SELECT tid + 2500 AS id, w FROM u) s ON s.id = t.id WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.w)", 5000)
	total("SELECT count(*) FROM t", 4500+2500+250)
	for _, key := range []string{"2600", "6000", "7500"} {
		change("UPDATE t SET v = v WHERE id = "+key, 1)
	}
	change("MERGE INTO ref USING t ON t.id = ref.id AND t.id > 50 WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND t.id > 7000 THEN INSERT VALUES (t.id, 'new')", 500+45)
	total("SELECT count(*) FROM ref", 3*(55+500))

	// What fails on one shard leaves nothing on the others.
	for _, sql := range []string{
		"UPDATE t SET n = CASE t.id WHEN 4000 THEN 1000000 ELSE -1 END FROM u WHERE u.n = 0 AND u.id < 11",
		"MERGE INTO t USING u ON u.tid = t.id WHEN MATCHED THEN UPDATE SET n = CASE t.id WHEN 3000 THEN 1000000 ELSE -1 END",
		"MERGE INTO t USING u ON u.id = t.id WHEN MATCHED THEN UPDATE SET n = CASE t.id WHEN 3000 THEN 1000000 ELSE -1 END WHEN NOT MATCHED THEN INSERT VALUES (u.id, 'x', -1)",
	} {
		fails(sql, "23514")
	}
	fails("MERGE INTO t USING (VALUES (9001), (9002), (9002), (9003)) s (id) ON s.id = t.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'x', -1)", "23505")
	total("SELECT count(*) FROM t WHERE n < 0", 0)
	must(t, conn, "BEGIN", "DELETE FROM t USING u WHERE u.tid = t.id", "ROLLBACK")
	total("SELECT count(*) FROM t", 7250)
	c.settled()

	// What is refused is refused before anything has changed.
	for _, sql := range []string{
		"UPDATE t SET v = 'x' FROM plain WHERE list[1] = t.id",
		"UPDATE t SET v = (SELECT w FROM u ORDER BY random() LIMIT 1)",
		"UPDATE ref SET id = -t.id FROM t WHERE t.id = ref.id",
		"COPY (UPDATE t SET v = 'x' FROM u WHERE u.id = 1 RETURNING t.id) TO STDOUT",
		"MERGE INTO t USING (SELECT 1.5 AS id) s ON s.id = t.id WHEN NOT MATCHED THEN INSERT VALUES (s.id)",
		"MERGE INTO t USING u ON u.id = t.id WHEN NOT MATCHED THEN INSERT VALUES (u.tid)",
		"MERGE INTO loose USING (VALUES (NULL::int)) s (id) ON s.id = loose.id WHEN NOT MATCHED THEN INSERT VALUES (s.id)",
	} {
		if strings.HasPrefix(sql, "COPY") {
			if _, err := conn.PgConn().CopyTo(t.Context(), nil, sql); code(err) != "0A000" {
				t.Errorf("%s: %v", sql, err)
			}
			continue
		}
		fails(sql, "0A000")
	}
	must(t, conn, "UPDATE u SET w = repeat('w', 10000)")
	fails("UPDATE t SET v = u.w FROM u WHERE u.tid = t.id", "53400")
	for _, sql := range []string{"DELETE FROM t USING u WHERE u.id = 1 RETURNING t.id", "INSERT INTO t (id) SELECT id + 10000 FROM u RETURNING id"} {
		must(t, conn, "BEGIN")
		f := conn.PgConn().Frontend()
		f.SendParse(&pgproto3.Parse{Query: sql})
		f.SendBind(&pgproto3.Bind{DestinationPortal: "p"})
		f.SendSync(&pgproto3.Sync{})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		for ready := false; !ready; {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			_, ready = m.(*pgproto3.ReadyForQuery)
		}
		fails("FETCH ALL FROM p", "0A000") // which has the whole statement for the home shard
		must(t, conn, "ROLLBACK")
	}
	total("SELECT count(*) FROM t WHERE v LIKE 'wwwww%' AND length(v) > 200", 0)
	c.settled()
}

func TestExplainChange(t *testing.T) {
	c := newCluster(t, 3, changeTables)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE u (id int PRIMARY KEY, v int)", "CREATE TABLE ref (id int PRIMARY KEY)",
		"INSERT INTO t SELECT i, i FROM generate_series(1, 6) i", "INSERT INTO u SELECT i, i FROM generate_series(1, 6) i", "INSERT INTO ref SELECT generate_series(1, 6)")
	const plan = `Gather, inside the transaction
  part 1, shards, plain: SELECT "v" FROM "public"."u" WHERE (u.v < 3)
    shards s1, s2, s3
    ->  shard s1, one of 3
          Seq Scan on u
            Filter: (v < 3)
  final, t: DELETE FROM t USING <part 1> AS "u" WHERE u.v = t.v AND u.v < 3
    shards s1, s2, s3`
	for _, mode := range modes {
		if got := lines(t, conn, mode, "EXPLAIN (COSTS off) DELETE FROM t USING u WHERE u.v = t.v AND u.v < 3"); got != plan {
			t.Errorf("%s\n%s", mode, got)
		}
		for sql, want := range map[string]string{
			"UPDATE t SET v = u.v + $1 FROM u WHERE u.id = t.v RETURNING t.v": `  final, t: .*
    shard s1: . rows?
    shard s2: . rows?
    shard s3: . rows?
    ->  shard s1, one of 3
          Update on t \(actual rows=. loops=1\)`,
			"UPDATE t SET v = 0 WHERE id = (SELECT id + $1 FROM t ORDER BY v DESC LIMIT 1 FOR UPDATE)": `  part 1, home, plain: SELECT .* FROM <part 2> AS shardgate2 ORDER BY .* LIMIT 1 ?
    shard s1: 1 row, .*
    ->  shard s1
          Limit.*
(?s:.*)  part 2, shards, plain: SELECT .* LIMIT \(1\) FOR UPDATE
    shard s1: . rows?, .*
(?s:.*)  final, t: UPDATE t SET v = 0 WHERE id = \(SELECT \* FROM <part 1> AS shardgate\)
`,
			"DELETE FROM ref USING t WHERE t.v = ref.id + $1": `  final, ref, locked on all shards, home first: .*
    shard s1
    shard s2
    shard s3
    ->  shard s1, one of 3
          Delete on ref \(actual rows=0 loops=1\)`,
		} {
			must(t, conn, "BEGIN")
			got := lines(t, conn, mode, "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) "+sql, 0)
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("%s (%s)\n%s", sql, mode, got)
			}
			left := 0
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM ref", pgx.QueryExecModeSimpleProtocol).Scan(&left); err != nil || left == 6 != strings.HasPrefix(sql, "UPDATE") {
				t.Errorf("%s: %d rows left, %v", sql, left, err)
			}
			must(t, conn, "ROLLBACK")
		}
	}
	if got := lines(t, conn, modes[0], "EXPLAIN (COSTS off) DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY v LIMIT 1)"); !strings.Contains(got, "LIMIT 1\n  part 2") {
		t.Error(got) // without a plan of the first part
	}
	if got := lines(t, conn, modes[0], "EXPLAIN (COSTS off, FORMAT json, VERBOSE) DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY v LIMIT 1)"); strings.Count(got, `"Node Type": "Limit"`) != 3 {
		t.Error(got) // those of the second part
	}
	if got := lines(t, conn, modes[0], "EXPLAIN (COSTS off, FORMAT json) DELETE FROM t USING u WHERE u.v = t.v"); !strings.Contains(got, `"Final": {`) {
		t.Error(got)
	}
	c.settled()
}
