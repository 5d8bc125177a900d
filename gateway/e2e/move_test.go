package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// An UPDATE of the key takes the rows to where their new keys belong, all of them or none.
func TestMove(t *testing.T) {
	c := newCluster(t, 3, `
limits: {gather_bytes: 1MiB}
tables:
  - {name: t, key: id, group: g}
  - {name: u, key: id, group: g}
  - {name: parts, key: [id, day]}
  - {name: logged, key: id}
  - {name: ref, reference: true}
`)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric(8,2))", "CREATE TABLE u (id bigint PRIMARY KEY, w text)",
		"CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
		"CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
		"CREATE TABLE parts2 PARTITION OF parts DEFAULT",
		"INSERT INTO t SELECT i, 'v' || i, i / 7.0 FROM generate_series(1, 5000) i",
		"INSERT INTO u SELECT id, v FROM t",
		"INSERT INTO parts SELECT i, DATE '2024-01-01' + i, 'v' || i FROM generate_series(1, 60) i")
	update := func(sql string, want int64, args ...any) {
		t.Helper()
		tag, err := conn.Exec(t.Context(), sql, args...)
		if err != nil || tag.String() != sqlf("UPDATE %d", want) {
			t.Fatalf("%s: %v, %v", sql, tag, err)
		}
	}
	fails, total := c.checks(conn)

	update("UPDATE t SET id = id + 10000, v = v || '!'", 5000)
	total("SELECT count(*) FROM t WHERE v = 'v' || id - 10000 || '!' AND n = round((id - 10000) / 7.0, 2)", 5000)
	update("UPDATE u SET id = id + $1 WHERE id <= $2", 2500, 10000, 2500)
	total("SELECT count(*) FROM t JOIN u USING (id)", 2500) // they meet on one shard
	update("UPDATE t SET v = 'found' WHERE id = 14321", 1)
	update("UPDATE parts SET day = day + 20, v = v || '?' WHERE id <= 60", 60)
	total("SELECT count(*) FROM parts WHERE day = DATE '2024-01-21' + id AND v = 'v' || id || '?'", 60)
	total("SELECT count(*) FROM parts1", 10)
	update("UPDATE parts SET v = 'found' WHERE id = 7 AND day = '2024-01-28'", 1)
	update("UPDATE parts SET id = -id, day = '2024-01-02' WHERE id < 4", 3)
	total("SELECT count(*) FROM parts1 WHERE id < 0", 3)

	// What fails on one shard leaves nothing on the others.
	fails("UPDATE t SET id = CASE id WHEN 14999 THEN 10001 ELSE id END", "23505")
	fails("UPDATE t SET id = nullif(id, 12345) + 10000", "23502")
	fails("UPDATE t SET id = id + 10000, v = repeat(v, 100)", "53400")
	fails("UPDATE t SET id = id + 10000 WHERE 1 / (id - 12345) >= 0", "22012")
	total("SELECT count(*) FROM t WHERE id BETWEEN 10001 AND 15000", 5000)
	must(t, conn, "BEGIN")
	update("UPDATE t SET id = id + 10000", 5000)
	fails("SELECT 1/0", "22012")
	must(t, conn, "ROLLBACK")
	total("SELECT count(*) FROM t WHERE id BETWEEN 10001 AND 15000", 5000)
	c.settled()

	// The row that is moved is the one which another transaction has left.
	other := c.connect("postgres")
	must(t, other, "BEGIN", "UPDATE t SET v = 'theirs', n = 42 WHERE id = 10001", "UPDATE t SET id = 20001 WHERE id = 10002")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "UPDATE t SET id = id + 20000, v = v || ' and ours' WHERE id < 10004")
		done <- err
	}()
	for c.sum("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0 {
		time.Sleep(time.Millisecond)
	}
	must(t, other, "COMMIT")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	total("SELECT count(*) FROM t WHERE id = 30001 AND v = 'theirs and ours' AND n = 42", 1)
	total("SELECT count(*) FROM t WHERE id = 30003", 1)
	total("SELECT count(*) FROM t WHERE id = 20001", 1)
	total("SELECT count(*) FROM t", 5000)
	c.settled()

	// What an UPDATE would do otherwise than DELETE and INSERT do is refused.
	refused := func(what string) {
		t.Helper()
		for _, key := range []string{"id + 1", "77777"} {
			_, err := conn.Exec(t.Context(), "UPDATE u SET id = "+key+" WHERE id = 12345 OR id = 12346")
			var e *pgconn.PgError
			if !errors.As(err, &e) || e.Code != "0A000" || !strings.Contains(e.Detail, what) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	must(t, conn, "CREATE TABLE ref (id bigint PRIMARY KEY)", "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
		"ALTER TABLE t ADD CONSTRAINT tu FOREIGN KEY (id) REFERENCES u ON DELETE CASCADE NOT VALID")
	refused(`the foreign key "tu" of public.t`)
	must(t, conn, "ALTER TABLE t DROP CONSTRAINT tu", "CREATE TRIGGER tr BEFORE UPDATE ON u FOR EACH ROW EXECUTE FUNCTION f()")
	refused(`the trigger "tr"`)
	must(t, conn, "DROP TRIGGER tr ON u", "ALTER TABLE u ENABLE ROW LEVEL SECURITY")
	refused("its row level security")
	must(t, conn, "ALTER TABLE u DISABLE ROW LEVEL SECURITY", "ALTER TABLE t ADD CONSTRAINT tu FOREIGN KEY (id) REFERENCES u NOT VALID")
	update("UPDATE u SET id = 77777 WHERE id = 2501", 1)

	// AFTER triggers see what happens.
	must(t, conn, "CREATE TABLE logged (id int PRIMARY KEY)", "INSERT INTO logged SELECT generate_series(1, 20)",
		"CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE '%', tg_op; RETURN NULL; END$$",
		"CREATE TRIGGER tr AFTER INSERT OR UPDATE OR DELETE ON logged FOR EACH ROW EXECUTE FUNCTION log()")
	config := conn.Config().Copy()
	saw := map[string]int{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { saw[n.Message]++ }
	listener, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(t.Context())
	must(t, listener, "UPDATE logged SET id = id + 100")
	if saw["INSERT"] == 0 || saw["INSERT"] != saw["DELETE"] || saw["UPDATE"]+saw["INSERT"] != 20 {
		t.Errorf("triggers saw %v", saw)
	}
}

// What can't be moved is said before anything is changed.
func TestMoveTypesAndRights(t *testing.T) {
	c := newCluster(t, 3, "tables:\n  - {name: t, key: id}\n  - {name: arrays, key: id}\n  - {name: moods, key: id}\n")
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, `CREATE TYPE mood AS ENUM ('good', 'bad')`, `CREATE DOMAIN small AS int CHECK (VALUE < 1000)`,
		`CREATE TABLE arrays (id int PRIMARY KEY, a float8[])`, `CREATE TABLE moods (id int PRIMARY KEY, m mood)`,
		`CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), s small, b bytea, j json, k jsonb, x xml, f float8, g float4, i interval, tz timestamptz, ip inet, m macaddr, bits bit(5), vb bit varying, c char(5), oid oid, money money, tm time, ttz timetz, ts tsvector, bool bool)`,
		`INSERT INTO t SELECT md5(n::text)::uuid, n, '\x00ff', '{"a":  1}', '{"b": [1]}', '<a/>', 0.1 + n, 1e-30, '1 mon 2 days 3.5 s', '2024-03-04 05:06:07.891011+02', '10.0.0.1/8', '08:00:2b:01:02:03', B'10101', B'1', 'ab', n, 1.5, '01:02:03.4', '01:02:03.4+05', 'a fat cat', true FROM generate_series(1, 20) n`,
		"INSERT INTO arrays VALUES (1, '{1}'), (2, NULL)", "INSERT INTO moods VALUES (1, 'good'), (2, NULL)")
	values := "SELECT coalesce(sum(hashtext((to_jsonb(t) - 'id')::text)), 0)::bigint FROM t"
	before := c.sum(values)
	if tag, err := conn.Exec(t.Context(), "UPDATE t SET id = gen_random_uuid()"); err != nil || tag.RowsAffected() != 20 {
		t.Fatal(tag, err)
	}
	if after := c.sum(values); before != after {
		t.Errorf("%d became %d", before, after)
	}
	if _, err := conn.Exec(t.Context(), "UPDATE arrays SET id = id + 10"); code(err) != "0A000" {
		t.Error(err)
	}
	must(t, conn, "UPDATE moods SET id = 7 - id")
	// A column that the gateway doesn't know of would be lost.
	c.onShards("ALTER TABLE moods DROP m, ADD late int DEFAULT 5")
	if _, err := conn.Exec(t.Context(), "UPDATE moods SET id = id + 10"); code(err) != "0A000" {
		t.Error(err)
	}

	must(t, conn, "CREATE ROLE clerk LOGIN", "GRANT SELECT, UPDATE ON t TO clerk")
	clerk := c.connect("clerk")
	_, err := clerk.Exec(t.Context(), "UPDATE t SET id = gen_random_uuid()")
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != "42501" || e.Hint == "" {
		t.Errorf("%v", err)
	}
	must(t, conn, "GRANT INSERT, DELETE ON t TO clerk")
	must(t, clerk, "UPDATE t SET id = gen_random_uuid()")
}

// EXPLAIN shows what is read, and what is done then.
func TestExplainMove(t *testing.T) {
	conn := explainCluster(t)
	for _, mode := range modes {
		got := lines(t, conn, mode, "EXPLAIN (COSTS off) UPDATE t SET id = id + 1 WHERE v = 1")
		for _, want := range []string{"Move t, by column 3 as int4\n  rows: SELECT ", "\n  change: WITH ", "\n  shards s1, s2, s3\n  ->  shard s1, one of 3\n        LockRows\n          ->  Seq Scan on t\n                Filter: (v = 1)"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in\n%s", want, got)
			}
		}
	}
	got := lines(t, conn, pgx.QueryExecModeSimpleProtocol, "EXPLAIN (ANALYZE, SUMMARY off) UPDATE t SET id = id + 500 WHERE v = 1")
	if !strings.HasSuffix(got, "\n  done: UPDATE 3") {
		t.Error(got)
	}
}
