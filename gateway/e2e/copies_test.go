package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestCopies changes a reference table by statements of which PostgreSQL leaves open what
// they do to a row. Whatever that is, all shards have the same afterwards.
func TestCopies(t *testing.T) {
	c := newCluster(t, 3, `
limits: {gather_bytes: 1MiB}
tables:
  - {name: t, key: id, group: g}
  - {name: ref, reference: true}
  - {name: pairs, reference: true}
  - {name: bare, reference: true}
  - {name: watched, reference: true}
  - {name: heir, reference: true}
`)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE DOMAIN small AS int CHECK (VALUE < 1000)",
		"CREATE TABLE t (id int PRIMARY KEY, k int, v text)",
		`CREATE TABLE ref (id int PRIMARY KEY, v text, n numeric, f float8, m mood, "Tags" text[], s small, twice numeric GENERATED ALWAYS AS (2 * n) STORED, u uuid DEFAULT '00000000-0000-0000-0000-000000000000')`,
		`CREATE TABLE pairs (a text COLLATE "C", b timestamptz, v text, PRIMARY KEY (a, b))`,
		"CREATE TABLE bare (id int, v text)", "CREATE TABLE watched (id int PRIMARY KEY, v text)",
		"CREATE FUNCTION keep() RETURNS trigger IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", "CREATE TRIGGER keep BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION keep()",
		"CREATE FUNCTION twins() RETURNS SETOF int VOLATILE LANGUAGE sql AS 'SELECT 1 UNION ALL SELECT 1'",
		"INSERT INTO t SELECT i, i % 20, 'v' || i FROM generate_series(1, 300) i",
		"INSERT INTO ref (id) SELECT i FROM generate_series(1, 40) i",
		"INSERT INTO pairs SELECT 'a' || i % 2, TIMESTAMPTZ '2024-01-01' + i * INTERVAL '1.5 s' FROM generate_series(1, 10) i",
		"INSERT INTO bare VALUES (1)", "INSERT INTO watched VALUES (1)")
	// The rows of the copies are stored in another order.
	for i := range c.shards {
		c.onShard(i, "postgres", sqlf("UPDATE ref SET id = id WHERE id %% 3 = %d", i), sqlf("INSERT INTO ref (id) SELECT 100 + i FROM generate_series(1, %d) i", i*200), "DELETE FROM ref WHERE id > 100", "VACUUM ref")
	}
	fails, _ := c.checks(conn)
	for _, mode := range modes {
		for _, test := range []struct {
			sql  string
			want int64
		}{
			{"UPDATE ref SET v = t.v, n = t.id FROM t WHERE t.k = ref.id RETURNING *, t.id", 19},
			{"UPDATE ref SET v = x.v FROM ref x, ref y WHERE x.id <> ref.id AND y.id < 9", 40},
			{"UPDATE ref r SET n = v.n, f = v.n / 3::float8 FROM (VALUES (1, 5), (1, 7), (2, 0), (3, NULL), (NULL, 9)) AS v (id, n) WHERE v.id = r.id RETURNING r.id, v.n", 3},
			{"UPDATE ref SET v = random(), f = random(), u = gen_random_uuid()", 40},
			{"UPDATE ref SET v = t.v || random() FROM t WHERE t.k = ref.id AND random() < 0.5 -- and no more\n", -1},
			{"UPDATE ref SET n = (SELECT k FROM t WHERE t.k < ref.id LIMIT 1), v = (SELECT string_agg(v, '') FROM t WHERE k = ref.id) ;", 40},
			{`UPDATE ref SET m = CASE WHEN t.id % 2 = 0 THEN 'sad' ELSE 'ok' END::mood, "Tags"[2] = t.v, s = t.id, u = DEFAULT FROM t WHERE t.k = ref.id AND t.id > 200`, 19},
			{"UPDATE ref SET (v, n) = (SELECT v, id FROM t WHERE k = ref.id OFFSET 1 LIMIT 1) WHERE id < 25", 24},
			{"WITH few AS (SELECT * FROM t WHERE id < 100 LIMIT 70) UPDATE ref SET v = few.v FROM few WHERE few.k < ref.id", 40},
			{"WITH d AS (UPDATE t SET v = v || '+' RETURNING v, k), e AS (UPDATE ref SET v = d.v FROM d WHERE d.k = ref.id RETURNING id) SELECT * FROM e", 19},
			{"UPDATE pairs p SET v = t.v FROM t WHERE t.id > 10", -1},
			{"DELETE FROM pairs WHERE b IN (SELECT b FROM pairs WHERE random() < 2 LIMIT 1) RETURNING *", 1},
			{"DELETE FROM ref WHERE id IN (SELECT 40 + twins()) OR random() > 2", 0},
			{"UPDATE ref SET v = 'none' FROM t WHERE t.id = ref.id AND t.id > 1000 RETURNING t.*", 0},
		} {
			rows, err := conn.Query(t.Context(), test.sql, mode)
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			if n := rows.CommandTag().RowsAffected(); err != nil || n != test.want && test.want >= 0 {
				t.Errorf("%s, %s: %d rows, %v", test.sql, mode, n, err)
			}
			for _, table := range []string{"ref", "pairs"} {
				c.alike(table, test.sql)
			}
		}
	}
	// What is returned is what is stored.
	var id, n int
	if err := conn.QueryRow(t.Context(), "UPDATE ref SET n = t.id FROM t WHERE t.k = ref.id AND ref.id = $1 RETURNING ref.id, t.id", 7).Scan(&id, &n); err != nil || id != 7 {
		t.Fatal(id, err)
	}
	for i := range c.shards {
		c.onShard(i, "postgres", sqlf("DO $$ BEGIN ASSERT (SELECT n FROM ref WHERE id = 7) = %d; END $$", n))
	}

	// An error leaves all as it was, and so does a rollback.
	fails("UPDATE ref SET s = t.id * 10 FROM t WHERE t.k = ref.id", "23514")
	fails("UPDATE ref SET v = repeat(t.v, 100000) FROM t WHERE t.k = ref.id", "53400")
	fails("EXPLAIN ANALYZE UPDATE ref SET s = t.id * 10 FROM t WHERE t.k = ref.id", "23514")
	must(t, conn, "BEGIN", "UPDATE ref SET v = random()", "SAVEPOINT s", "UPDATE ref SET v = t.v FROM t", "ROLLBACK TO s", "UPDATE ref SET v = v || random()", "COMMIT")
	c.alike("ref", "savepoints")
	c.settled()

	// Without a primary key, with triggers, or with another key the rows can't be told.
	for _, sql := range []string{"UPDATE bare SET v = t.v FROM t WHERE t.k = bare.id", "UPDATE watched SET v = random()", "UPDATE ref SET id = t.id FROM t WHERE t.k = ref.id AND ref.id = 5"} {
		fails(sql, "0A000")
	}
	must(t, conn, "CREATE TABLE heir () INHERITS (ref)")
	fails("UPDATE ref SET v = random()", "0A000")
	must(t, conn, "DROP TABLE heir")

	// EXPLAIN says how it is done, and with ANALYZE it is.
	const plan = `Gather, inside the transaction
  final, ref, locked on all shards, on home: UPDATE ref SET v = random() WHERE id < 3 RETURNING "ref"."id" AS "shardgate 1", "ref"."v" AS "shardgate 2"
    shard s1
    other copies, by the last 2 columns: UPDATE "public"."ref" AS "shardgate copy" SET "v" = "shardgate rows"."shardgate 2" FROM <part 1> AS "shardgate rows" WHERE "shardgate copy"."id" OPERATOR(pg_catalog.=) "shardgate rows"."shardgate 1"`
	const update = "UPDATE ref SET v = random() WHERE id < 3"
	for _, mode := range modes {
		if got := lines(t, conn, mode, "EXPLAIN "+update); got != plan {
			t.Errorf("%s\n%s", mode, got)
		}
		if got := lines(t, conn, mode, "EXPLAIN (ANALYZE, SUMMARY off) "+update); got != plan+"\n  done: UPDATE 2" {
			t.Errorf("%s\n%s", mode, got)
		}
		c.alike("ref", "EXPLAIN ANALYZE")
	}

	// Writers at the same time.
	other := c.connect("postgres")
	done := make(chan error)
	go func() { // ends when it has written
		var err error
		for i := 0; i < 20 && err == nil; i++ {
			_, err = other.Exec(t.Context(), "UPDATE ref SET n = random(), v = 'other'")
		}
		done <- err
	}()
	for range 20 {
		must(t, conn, "UPDATE ref SET v = t.v FROM t WHERE t.k = ref.id")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.alike("ref", "two writers")
}

// alike checks that all shards have the same rows of a table.
func (c *cluster) alike(table, after string) {
	c.t.Helper()
	var first string
	for i, s := range c.shards {
		conn, err := pgx.Connect(c.t.Context(), s.URL("postgres", "postgres"))
		if err != nil {
			c.t.Fatal(err)
		}
		var rows string
		err = conn.QueryRow(c.t.Context(), sqlf("SELECT string_agg(r::text, E'\\n' ORDER BY r) FROM %s r", table)).Scan(&rows)
		conn.Close(c.t.Context())
		if i == 0 {
			first = rows
		}
		if err != nil || rows != first || rows == "" {
			c.t.Fatalf("%s on %s after %s: %v\n%s\nand on %s\n%s", table, s.Name(), after, err, rows, c.shards[0].Name(), first)
		}
	}
}
