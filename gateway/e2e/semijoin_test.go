package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Of a large table only the rows are brought that a few rows of another one match: all
// would be beyond the limit.
func TestSemiJoin(t *testing.T) {
	c := newCluster(t, 3, "tables:\n  - {name: wide, key: id}\n  - {name: few, key: k}\nlimits: {gather_bytes: 1MiB}\n")
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE wide (id int PRIMARY KEY, v text)", "CREATE TABLE few (k int PRIMARY KEY, ref bigint, tag text)")
	copyIn(t, conn, 20_000)
	must(t, conn, "INSERT INTO few SELECT i, i, 'many' FROM generate_series(1, 11000) i", "INSERT INTO few SELECT i, i / 2, 'some' FROM generate_series(20001, 20010) i",
		"INSERT INTO few VALUES (30001, NULL, 'some'), (30002, 77777, 'some'), (30003, 5, 'one')")
	for _, x := range []struct {
		sql  string
		arg  any
		rows int // -1: beyond the limit
	}{
		{"SELECT sum(length(w.v))/100 FROM few f JOIN wide w ON w.id = f.ref WHERE f.tag = $1", "some", 10},
		{"SELECT sum(length(w.v))/100 FROM few f JOIN wide w ON w.id = f.ref WHERE f.tag = $1", "none", 0},
		{"SELECT sum(length(w.v))/100 FROM few f, wide w WHERE w.id = f.ref AND f.k = $1::int", 20001, 1},
		{"SELECT sum(length(w.v))/100 FROM few f LEFT JOIN wide w ON w.id = f.ref WHERE f.tag = $1", "some", 10},
		{"SELECT sum(length(w.v))/100 FROM wide w RIGHT JOIN few f ON w.id = f.ref WHERE f.tag = $1", "some", 10},
		{"SELECT count(*) FROM few f WHERE f.tag = $1 AND EXISTS (SELECT 1 FROM wide w WHERE w.id = f.ref AND w.v || f.tag > '')", "some", 10},
		{"SELECT sum((SELECT length(w.v) / 100 FROM wide w WHERE w.id = f.ref)) FROM few f WHERE f.tag = $1", "one", 1},
		{"SELECT sum(length(q.v)) / 100 FROM few f JOIN (SELECT id, max(v) AS v FROM wide GROUP BY id) q ON q.id = f.ref WHERE f.tag = $1", "some", 10},
		{"SELECT sum(length(w.v))/100 FROM wide w WHERE w.id IN (SELECT f.ref FROM few f WHERE f.tag = $1)", "some", 6},
		{"SELECT sum(length(w.v))/100 FROM wide w WHERE EXISTS (SELECT FROM few f WHERE f.ref = w.id AND f.tag = $1)", "some", 6},
		{"SELECT sum(length(w.v))/100 FROM wide w WHERE w.id NOT IN (SELECT f.ref FROM few f WHERE f.tag = $1)", "one", -1},
		{"SELECT sum(length(w.v))/100 FROM few f JOIN wide w ON w.id = f.ref JOIN wide x ON x.id = w.id + 1 AND x.v = w.v WHERE f.tag = $1", "some", -1},
		{"SELECT sum(length(w.v))/100 FROM few f JOIN wide w ON w.id = f.ref WHERE f.tag >= $1", "many", -1}, // too many values
		{"SELECT sum(length(w.v))/100 FROM few f FULL JOIN wide w ON w.id = f.ref WHERE f.tag = $1", "some", -1},
	} {
		for _, mode := range modes {
			var n *int
			err := conn.QueryRow(t.Context(), x.sql, mode, x.arg).Scan(&n)
			if n == nil {
				n = new(int)
			}
			switch {
			case x.rows < 0 && code(err) != "53400":
				t.Errorf("%s: %d, %v", x.sql, *n, err)
			case x.rows >= 0 && (err != nil || *n != x.rows):
				t.Errorf("%s, %s: %d, want %d: %v", x.sql, mode, *n, x.rows, err)
			}
		}
	}
	rows, err := conn.Query(t.Context(), "SELECT w.id FROM few f JOIN wide w ON w.id = f.ref WHERE f.tag = 'some' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil || len(ids) != 10 || ids[0] != 10000 || ids[9] != 10005 {
		t.Errorf("ids %v: %v", ids, err)
	}
}

// The values of the few rows prune the shards of the other table, where they are keys.
func TestSemiJoinPrunes(t *testing.T) {
	c := newCluster(t, 3, "tables:\n  - {name: a, key: id}\n  - {name: b, key: id}\n  - {name: v, key: id}\n")
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE a (id int, ref bigint, name varchar)", "CREATE TABLE b (id int PRIMARY KEY, x text)", "CREATE TABLE v (id varchar(5) PRIMARY KEY, x text)")
	must(t, conn, "INSERT INTO a SELECT i, i * 7, 'n' || i * 7 FROM generate_series(1, 40) i", "INSERT INTO a VALUES (50, 14, 'n14'), (50, 14, 'n14'), (51, NULL, NULL)",
		"INSERT INTO b SELECT i, 'x' || i FROM generate_series(1, 300) i", "INSERT INTO v SELECT 'n' || i, 'x' || i FROM generate_series(1, 300) i")
	for _, sql := range []string{
		"SELECT string_agg(b.x, ',' ORDER BY b.x) FROM a JOIN b ON b.id = a.ref WHERE a.id = %d",
		"SELECT string_agg(b.x, ',' ORDER BY b.x) FROM a JOIN v b ON b.id = a.name WHERE a.id = %d",
	} {
		for id, want := range map[int]string{1: "x7", 2: "x14", 40: "x280", 50: "x14,x14", 51: "", 99: ""} {
			var got *string
			if err := conn.QueryRow(t.Context(), sqlf(sql, id)).Scan(&got); err != nil || got == nil && want != "" || got != nil && *got != want {
				t.Errorf("%s: %v, want %q: %v", sqlf(sql, id), got, want, err)
			}
		}
		plan := lines(t, conn, pgx.QueryExecModeSimpleProtocol, "EXPLAIN (ANALYZE, COSTS off, TIMING off) "+sqlf(sql, 1))
		if n := strings.Count(plan, " bytes"); n != 2 { // each shard's rows of each part
			t.Errorf("more shards were asked than one for each part:\n%s", plan)
		}
	}
}
