package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// explainCluster has tables of three kinds, and the rows 1 to 6 in the sharded one: 1, 3
// and 5 of them with v = 1.
func explainCluster(t *testing.T) *pgx.Conn {
	t.Helper()
	c := newCluster(t, 3, "tables:\n  - {name: t, key: id, group: g}\n  - {name: ref, reference: true}\n")
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)", "CREATE TABLE ref (id int PRIMARY KEY)", "CREATE TABLE plain (id int)",
		"CREATE VIEW ones AS SELECT id, 'it''s' AS k FROM t WHERE v = 1",
		"INSERT INTO t VALUES (1, 1), (2, 2), (3, 1), (4, 2), (5, 1), (6, 2)")
	return conn
}

// lines runs an EXPLAIN.
func lines(t *testing.T, conn *pgx.Conn, mode pgx.QueryExecMode, sql string, args ...any) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, append([]any{mode}, args...)...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if f := rows.FieldDescriptions(); len(f) != 1 || f[0].Name != "QUERY PLAN" || rows.CommandTag().String() != "EXPLAIN" {
		t.Errorf("%s: columns %v, tag %s", sql, f, rows.CommandTag())
	}
	return strings.Join(out, "\n")
}

// modes are the ways in which a statement reaches the gateway.
var modes = []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement}

func TestExplain(t *testing.T) {
	conn := explainCluster(t)
	for _, test := range []struct {
		sql, want string
		args      []any
	}{
		{"EXPLAIN (COSTS off) SELECT * FROM plain", "Seq Scan on plain", nil},
		{"EXPLAIN (COSTS off) SELECT * FROM ref", "Seq Scan on ref", nil},
		{"EXPLAIN (COSTS off) SELECT v FROM t WHERE id = 4", `Route by key
  pin t (id) as int4 = (4)
  ->  shard s2
        Index Scan using t_pkey on t
          Index Cond: (id = 4)`, nil},
		{"EXPLAIN (COSTS off) SELECT v FROM t", `Scatter, concat
  shards s1, s2, s3
  ->  shard s1, one of 3
        Seq Scan on t`, nil},
		{"EXPLAIN (COSTS off, VERBOSE) TABLE t", `Scatter, concat
  shards s1, s2, s3
  ->  shard s1
        Seq Scan on public.t
          Output: id, v
  ->  shard s2
        Seq Scan on public.t
          Output: id, v
  ->  shard s3
        Seq Scan on public.t
          Output: id, v`, nil},
		{"EXPLAIN (COSTS off) SELECT count(*), sum(v) FROM t WHERE id > 5", `Gather
  part 1, shards, plain: SELECT count(*) AS shardgate_1, sum(v) AS shardgate_2 FROM t WHERE (id > 5)
    shards s1, s2, s3
    ->  shard s1, one of 3
          Aggregate
            ->  Bitmap Heap Scan on t
                  Recheck Cond: (id > 5)
                  ->  Bitmap Index Scan on t_pkey
                        Index Cond: (id > 5)
  final: SELECT coalesce(pg_catalog.sum(shardgate1.shardgate_1),0)::pg_catalog.int8, pg_catalog.sum(shardgate1.shardgate_2)<cast as part 1 column 2> FROM <part 1> AS shardgate1 ` + `
    shard s1`, nil},
		{"EXPLAIN (COSTS off) SELECT k FROM ones", `Scatter, concat
  shards s1, s2, s3
  ->  shard s1, one of 3
        Seq Scan on t
          Filter: (v = 1)`, nil},
		{"EXPLAIN (COSTS off) SELECT max(k) FROM ones", `Gather
  part 1, shards, plain: SELECT "t"."id" AS shardgate_1 FROM public.t WHERE (t.v = 1)
    shards s1, s2, s3
    ->  shard s1, one of 3
          Seq Scan on t
            Filter: (v = 1)
  final: SELECT max(k) FROM (SELECT shardgate1.shardgate_1 AS "id", 'it''s'::text AS k FROM <part 1> AS shardgate1 ) AS "ones"
    shard s1`, nil},
		{"EXPLAIN (COSTS off) SELECT id FROM t WHERE v > 1 ORDER BY v DESC, 1", `Scatter, ordered
  merge by int4 desc, int4
  query: SELECT id, (v) AS shardgate_key_1, (id) AS shardgate_key_2 FROM t WHERE v > 1 ORDER BY v DESC, 1
  shards s1, s2, s3
  ->  shard s1, one of 3
        Sort
          Sort Key: v DESC, id
          ->  Seq Scan on t
                Filter: (v > 1)`, nil},
		{"EXPLAIN (COSTS off) UPDATE t SET v = $1", `Broadcast, concat
  shards s1, s2, s3
  ->  shard s1, one of 3
        Update on t
          ->  Seq Scan on t`, []any{5}},
		{"EXPLAIN (COSTS off) INSERT INTO t VALUES ($1, 10), (4, $2), (7, 20)", `Split t, keeps order
  shard s2: 2 rows to insert
  shard s3: 1 row to insert
  ->  shard s2, one of 2
        Insert on t
          ->  Values Scan on "*VALUES*"`, []any{1, 30}},
		{"EXPLAIN (COSTS off) DELETE FROM ref", `Broadcast, first, home first
  lock "public"."ref"
  shards s1, s2, s3
  ->  shard s1, one of 3
        Delete on ref
          ->  Seq Scan on ref`, nil},
	} {
		for _, mode := range modes {
			if got := lines(t, conn, mode, test.sql, test.args...); got != test.want {
				t.Errorf("%s (%s)\n%s", test.sql, mode, got)
			}
		}
	}
}

// figures are what differs from run to run.
var figures = regexp.MustCompile(`[0-9]+\.[0-9]+ ms|[0-9]+ bytes|time=[0-9.]+|  Memory Usage: .*`)

func TestExplainAnalyze(t *testing.T) {
	conn := explainCluster(t)
	analyze := func(mode pgx.QueryExecMode, sql string, args ...any) string {
		return figures.ReplaceAllStringFunc(lines(t, conn, mode, sql, args...), func(s string) string {
			return strings.TrimLeft(s, "0123456789.")
		})
	}
	for _, mode := range modes {
		got := analyze(mode, "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) SELECT id FROM t WHERE v <> $1 FOR SHARE", 2)
		if !strings.HasPrefix(got, "Scatter, concat\n  shard s1: 1 row\n  shard s2: 2 rows\n  shard s3: 0 rows\n  ->  shard s1, one of 3\n        LockRows (actual rows=1 loops=1)\n") {
			t.Errorf("%s\n%s", mode, got)
		}
		got = analyze(mode, "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) SELECT id FROM t WHERE v <> $1 ORDER BY v, id FOR SHARE", 2)
		if !strings.Contains(got, "ORDER BY v, id FOR SHARE\n  shard s1: 1 row\n  shard s2: 2 rows\n  shard s3: 0 rows\n  ->  shard s1, one of 3\n        LockRows (actual rows=1 loops=1)\n          ->  Sort (") {
			t.Errorf("%s\n%s", mode, got)
		}
		got = analyze(mode, "EXPLAIN (ANALYZE, COSTS off) SELECT string_agg(id::text, ',' ORDER BY id), $1 FROM t", "x")
		if !regexp.MustCompile(`^Gather
  part 1, .*
    shard s1: 1 row,  bytes, after  ms
    shard s2: 5 rows,  bytes, after  ms
    shard s3: 0 rows,  bytes, after  ms
    ->  shard s1, one of 3
          Seq Scan on t
  final: .*
    ->  shard s1
          Aggregate .*actual time=.* rows=1(\.00)? loops=1.
(.*
)*Execution Time:  ms$`).MatchString(got) {
			t.Errorf("%s\n%s", mode, got)
		}
	}
}

// TestExplainLarge explains a statement whose rows go to a temporary table, within and
// outside of a block.
func TestExplainLarge(t *testing.T) {
	conn := explainCluster(t)
	must(t, conn, "ALTER TABLE t ADD w text", "UPDATE t SET w = repeat('x', 20000)")
	const sql = "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT string_agg(w, ',' ORDER BY id) FROM t"
	for range 2 {
		for _, mode := range modes {
			if got := lines(t, conn, mode, sql); !strings.Contains(got, "->  Seq Scan on \"shardgate 1\" shardgate1 (actual rows=6") {
				t.Errorf("%s\n%s", mode, got)
			}
		}
		must(t, conn, "BEGIN")
	}
	must(t, conn, "COMMIT")
}

// TestExplainWrites: EXPLAIN ANALYZE of a write writes, in the transaction.
func TestExplainWrites(t *testing.T) {
	conn := explainCluster(t)
	sum := func(want int) {
		t.Helper()
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT sum(v) + (SELECT count(*) FROM ref) FROM t").Scan(&n); err != nil || n != want {
			t.Errorf("%d, %v; want %d", n, err, want)
		}
	}
	must(t, conn, "EXPLAIN UPDATE t SET v = 100", "EXPLAIN VERBOSE DELETE FROM t", "EXPLAIN INSERT INTO ref VALUES (1)")
	sum(9)
	for i, mode := range modes {
		got := lines(t, conn, mode, "EXPLAIN ANALYZE UPDATE t SET v = v + $1", 1)
		if !regexp.MustCompile(`^Broadcast, concat\n  shard s1: [0-9.]+ ms\n  shard s2: [0-9.]+ ms\n  shard s3: [0-9.]+ ms\n  ->  shard s., the slowest of 3\n        Update on t .*actual`).MatchString(got) {
			t.Error(got)
		}
		sum(9 + 6*(i+1))
	}
	for i, mode := range modes {
		lines(t, conn, mode, "EXPLAIN ANALYZE INSERT INTO t VALUES ($1, 0), ($2, 1)", 10*i+10, 10*i+11)
		lines(t, conn, mode, "EXPLAIN (ANALYZE, FORMAT json) INSERT INTO ref VALUES ($1)", i)
		lines(t, conn, mode, "EXPLAIN ANALYZE UPDATE t SET v = v + 1 WHERE id = $1", 10*i+10)
		lines(t, conn, mode, "EXPLAIN ANALYZE DELETE FROM t WHERE id IN ($1, 999)", 10*i+10)
	}
	sum(33 + 4 + 4)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	must(t, conn, "EXPLAIN ANALYZE UPDATE t SET v = v + 1")
	sum(41 + 10)
	must(t, conn, "SAVEPOINT a", "EXPLAIN ANALYZE DELETE FROM t", "ROLLBACK TO a")
	if got := lines(t, conn, pgx.QueryExecModeExec, "EXPLAIN ANALYZE SELECT sum(v) FROM t"); !strings.HasPrefix(got, "Gather") {
		t.Error(got)
	}
	if _, err := conn.Exec(t.Context(), "EXPLAIN ANALYZE UPDATE t SET v = 1 / (id - 4)"); code(err) != "22012" {
		t.Error(err)
	}
	tx.Rollback(t.Context())
	sum(41)
	if _, err := conn.Exec(t.Context(), "EXPLAIN ANALYZE UPDATE t SET v = 1 / (id - 4)"); code(err) != "22012" {
		t.Error(err)
	}
	sum(41)
	must(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ", "EXPLAIN DELETE FROM ref", "EXPLAIN ANALYZE DELETE FROM ref", "ROLLBACK")
	// What comes before it in a pipeline is not committed by it.
	var b pgx.Batch
	b.Queue("UPDATE t SET v = v + 1 WHERE id = 1")
	b.Queue("EXPLAIN ANALYZE SELECT sum(v) FROM t")
	b.Queue("SELECT sum(v) FROM t")
	b.Queue("SELECT 1 / (id - 1) FROM t WHERE id = 1")
	if err := conn.SendBatch(t.Context(), &b).Close(); code(err) != "22012" {
		t.Error(err)
	}
	sum(41)
}

func TestExplainJSON(t *testing.T) {
	conn := explainCluster(t)
	// Node types of the gateway's plan and of the first shard's, the shards, how many
	// of their plans are shown, and how many rows were gathered.
	for sql, want := range map[string]string{
		"EXPLAIN (FORMAT json) SELECT v FROM t WHERE id = 4":                              "Route, Index Scan, [s2], 0, 0",
		"EXPLAIN (FORMAT json) SELECT v FROM t":                                           "Scatter, Seq Scan, [s1 s2 s3], 1, 0",
		"EXPLAIN (FORMAT json, VERBOSE) SELECT v AS \"\\ <é>\n\" FROM t":                  "Scatter, Seq Scan, [s1 s2 s3], 3, 0",
		"EXPLAIN (FORMAT json, ANALYZE) DELETE FROM t WHERE v = 77":                       "Broadcast, ModifyTable, [s1 s2 s3], 3, 0",
		"EXPLAIN (FORMAT json, ANALYZE) SELECT string_agg('\"é', v::text) FROM t":         "Gather, Aggregate, [s1], 1, 6",
		"EXPLAIN (FORMAT json, ANALYZE, VERBOSE) INSERT INTO t VALUES (100, 1), (104, 2)": "Split, ModifyTable, [s1 s3], 2, 0",
	} {
		for _, mode := range modes {
			text := lines(t, conn, mode, sql)
			if got := outline(t, text); got != want {
				t.Errorf("%s (%s): %s\n%s", sql, mode, got, text)
			}
			if strings.Contains(sql, "INSERT") {
				must(t, conn, "DELETE FROM t WHERE id > 99")
			}
		}
	}
}

// jsonPlan is what is looked for in an answer in JSON.
type jsonPlan struct {
	Kind   string `json:"Node Type"`
	Shards []string
	Tasks  []struct {
		Shard string
		Plan  struct {
			Kind string `json:"Node Type"`
		}
	}
	Parts []struct {
		Gathered []struct{ Rows, Bytes int }
	}
	Final *jsonPlan
}

// outline is what TestExplainJSON compares of an answer.
func outline(t *testing.T, text string) string {
	t.Helper()
	var answer []struct{ Plan, Gateway jsonPlan }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer) != 1 {
		t.Fatalf("%v\n%s", err, text)
	}
	p, kind, first, rows := answer[0].Plan, answer[0].Plan.Kind, "", 0
	for _, part := range p.Parts {
		for _, g := range part.Gathered {
			rows += g.Rows
		}
	}
	if p.Final != nil {
		p = *p.Final
	}
	if len(p.Tasks) > 0 {
		first = p.Tasks[0].Plan.Kind
	}
	if own := answer[0].Gateway; own.Kind != "" {
		kind, first, p.Shards = own.Kind, kind, own.Shards
	}
	return fmt.Sprintf("%s, %s, %v, %d, %d", kind, first, p.Shards, len(p.Tasks), rows)
}
