package e2e

import "testing"

// WITH items that change rows of several shards: all that they do is done, or nothing.
func TestChangingWith(t *testing.T) {
	c := newCluster(t, 3, `
tables:
  - {name: t, key: id, group: g}
  - {name: u, key: id, group: g}
  - {name: moods, key: id}
`)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int)", "CREATE TABLE u (id bigint PRIMARY KEY REFERENCES t, v text)",
		"CREATE TYPE mood AS ENUM ('good', 'bad')", "CREATE TABLE moods (id int PRIMARY KEY, m mood)",
		"INSERT INTO t SELECT i, repeat('v', 50) || i, i FROM generate_series(1, 6000) i", "INSERT INTO u SELECT id, v FROM t",
		"INSERT INTO moods SELECT i, 'good' FROM generate_series(1, 100) i")
	total := func(query string, want int64) {
		t.Helper()
		if n := c.sum(query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	answer := func(sql string, want int64, args ...any) {
		t.Helper()
		var got int64
		if err := conn.QueryRow(t.Context(), sql, args...).Scan(&got); err != nil || got != want {
			t.Fatalf("%s: %d, %v, want %d", sql, got, err, want)
		}
	}
	fails := func(sql, want string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); code(err) != want {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
	}

	// Where each shard has what meets.
	answer("WITH d AS (DELETE FROM u WHERE id <= $1 RETURNING id) SELECT count(*) FROM d", 1000, 1000)
	must(t, conn, "WITH d AS (DELETE FROM t WHERE id <= 500 RETURNING *) INSERT INTO t SELECT d.id, 'back', d.n FROM d ON CONFLICT DO NOTHING")
	total("SELECT count(*) FROM t", 6000)
	total("SELECT count(*) FROM t WHERE v = 'back'", 500)
	must(t, conn, "WITH w AS (UPDATE t SET n = -n WHERE id <= 1000 RETURNING id, n) INSERT INTO u SELECT id, n FROM w")
	total("SELECT sum(v::bigint)::bigint FROM u WHERE id <= 1000", -500500)
	fails("WITH d AS (DELETE FROM t WHERE id > 5000 RETURNING *) SELECT * FROM d", "23503")
	fails("WITH w AS (UPDATE u SET v = NULL RETURNING id) SELECT 1 / (id - 3000) FROM w", "22012")
	total("SELECT count(*) FROM u WHERE v IS NULL", 0)

	// What is returned is brought together, also when it is much, and what is read besides goes to tables.
	answer("WITH w AS (UPDATE t SET n = 1 WHERE id > 1000 RETURNING *) SELECT sum(length(w.v)) + sum(old.n) + sum(w.n) FROM w JOIN t old ON old.id = w.id + 0", 5000*54+(1001+6000)*2500+5000)
	total("SELECT sum(n)::bigint FROM t WHERE id > 1000", 5000)
	fails("WITH w AS (UPDATE t SET n = 2 WHERE id > 1000 RETURNING id) SELECT sum(1 / (id - 3000)) FROM w", "22012")
	fails("WITH d AS (DELETE FROM t WHERE id > 5000 RETURNING id) SELECT sum(id) FROM d", "23503")
	fails("WITH d AS (DELETE FROM moods RETURNING id, ARRAY[id::float8] AS m) SELECT max(m) FROM d", "0A000")
	fails("WITH d AS (DELETE FROM moods RETURNING id, ARRAY[now()] AS t) SELECT max(t) FROM d WHERE id > 0", "0A000")
	total("SELECT count(*) FROM moods", 100)
	total("SELECT sum(n)::bigint FROM t WHERE id > 1000", 5000)
	answer("WITH d AS (DELETE FROM moods RETURNING id, m::text) SELECT max(id) FROM d WHERE m = 'good'", 100)
	total("SELECT count(*) FROM moods", 0)
	c.settled()
}
