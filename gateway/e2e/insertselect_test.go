package e2e

import (
	"strings"
	"testing"
)

// The rows of an INSERT ... SELECT come to where their keys belong, all of them or none.
func TestInsertSelect(t *testing.T) {
	c := newCluster(t, 3, `
limits: {gather_bytes: 1MiB}
tables:
  - {name: t, key: id, group: g}
  - {name: u, key: id, group: g}
  - {name: named, key: name}
  - {name: days, key: [id, day]}
  - {name: watched, key: id}
  - {name: ref, reference: true}
`)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric(8,2))", "CREATE TABLE u (id int PRIMARY KEY, v varchar(12) CHECK (v <> 'bad'), n int)",
		"CREATE TABLE named (name varchar(10) PRIMARY KEY, n int)", "CREATE TABLE ref (id int PRIMARY KEY, v text)", "CREATE TABLE plain (id serial, v text)",
		"CREATE TABLE days (id int, day date, n int)", "CREATE TYPE span AS RANGE (subtype = bigint)", "CREATE TABLE spans (id int, s span)")
	if _, err := conn.PgConn().CopyFrom(t.Context(), numbers(5000), "COPY u (id) FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	insert := func(sql string, want int64) {
		t.Helper()
		tag, err := conn.Exec(t.Context(), sql)
		if err != nil || tag.RowsAffected() != want {
			t.Fatalf("%s: %v, %v", sql, tag, err)
		}
	}
	fails, total := c.checks(conn)

	// COPY has put u's rows where they belong; the rows that meet them are there too.
	insert("INSERT INTO t SELECT i::numeric, 'v' || i, i / 7.0 FROM generate_series(1, 5000) i", 5000)
	total("SELECT count(*) FROM t JOIN u USING (id) WHERE t.n = round(id / 7.0, 2)", 5000)
	insert("INSERT INTO t (id, v) SELECT id + 5000, v FROM t ORDER BY v DESC", 5000)
	insert("INSERT INTO u (id, v) SELECT id, v FROM t WHERE id > 5000", 5000)
	total("SELECT count(*) FROM t JOIN u USING (id)", 10000)
	insert("INSERT INTO u AS o (id, v, n) SELECT id - 5000, v, 1 FROM t WHERE id > 5000 ON CONFLICT (id) DO UPDATE SET n = coalesce(o.n, 0) + excluded.n", 5000)
	total("SELECT count(*) FROM u WHERE n = 1 AND id <= 5000", 5000)
	insert("INSERT INTO named SELECT v, count(*) FROM t GROUP BY v", 5000)
	insert("INSERT INTO days SELECT i, DATE '2024-01-01' + i FROM generate_series(1, 20) i", 20)
	for i := range 9 {
		insert(sqlf("UPDATE days SET n = 1 WHERE id = %d AND day = '2024-01-0%d'", i, i+1), int64(min(i, 1)))
	}
	insert("INSERT INTO ref SELECT id, v FROM t WHERE id <= 1000", 1000)
	total("SELECT count(*) FROM ref", 3000)
	total("SELECT sum(id)::bigint FROM ref", 3*500500)
	insert("INSERT INTO plain (v) SELECT v FROM t", 10000)
	for _, key := range []string{"1", "2500", "5000"} {
		insert("UPDATE named SET n = n WHERE name = 'v"+key+"'", 1)
		insert("UPDATE t SET v = v WHERE id = "+key, 1)
	}

	// A row without a key has no shard; where the key can't be NULL, PostgreSQL has no place for it either.
	fails("INSERT INTO days SELECT nullif(i, 2), DATE '2024-01-01' FROM generate_series(1, 3) i", "0A000")
	fails("INSERT INTO t (id) SELECT nullif(i, 2) - 5 FROM generate_series(1, 3) i", "23502")

	// OIDs of objects stay on their shard.
	must(t, conn, "CREATE TABLE watched (id int PRIMARY KEY, what regclass)")
	insert("INSERT INTO watched SELECT i, 'watched' FROM generate_series(1, 9) i", 9)
	fails("CREATE TABLE copied AS SELECT * FROM watched", "0A000")
	fails("INSERT INTO watched SELECT id + 10, what FROM watched", "0A000")
	insert("CREATE TABLE copied AS SELECT id, what::text FROM watched", 9)

	// What fails on one shard leaves nothing on the others.
	fails("INSERT INTO u (id, v) SELECT i, CASE i WHEN 13000 THEN 'bad' ELSE 'good' END FROM generate_series(10001, 13000) i", "23514")
	fails("INSERT INTO u (id, v) SELECT id + 20000, CASE id WHEN 4999 THEN 'bad' ELSE v END FROM u", "23514")
	fails("INSERT INTO t (id) SELECT nullif(i, 20100) FROM generate_series(20001, 20100) i", "23502")
	fails("INSERT INTO ref SELECT id, v FROM t WHERE id BETWEEN 1000 AND 1100", "23505")
	fails("INSERT INTO t (id, v) SELECT id + 20000, repeat(v, 100) FROM t", "53400")
	fails("INSERT INTO t (id) SELECT (ARRAY[id])[1] + 20000 FROM t ORDER BY 1/(id - 7)", "22012")
	fails("INSERT INTO spans SELECT id + 20000, span(id, id + 1) FROM t", "0A000")
	fails("BEGIN; INSERT INTO t (id) SELECT i FROM generate_series(20001, 20100) i; SELECT 1/0", "22012")
	must(t, conn, "ROLLBACK")
	total("SELECT count(*) FROM u WHERE id > 10000", 0)
	total("SELECT count(*) FROM t WHERE id > 10000", 0)
	total("SELECT count(*) FROM ref", 3000)
	c.settled()

	// A transaction is one, whoever is asked for the rows.
	must(t, conn, "BEGIN", "INSERT INTO t (id) SELECT i FROM generate_series(20001, 20100) i", "INSERT INTO u (id) SELECT id + 0 FROM t WHERE id > 20000", "ROLLBACK")
	total("SELECT count(*) FROM t WHERE id > 10000", 0)
	if _, err := conn.Exec(t.Context(), "INSERT INTO t (id, v) SELECT $1 + i, $2 FROM generate_series(1, $3) i", 20000, "x", 50); err != nil {
		t.Error(err)
	}
	total("SELECT count(*) FROM t WHERE id > 20000 AND v = 'x'", 50)
	c.settled()
}

// numbers are the lines 1 to n.
func numbers(n int) *strings.Reader {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString(sqlf("%d\n", i))
	}
	return strings.NewReader(b.String())
}
