package e2e

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestExplainRounds explains what is carried out in several rounds. With ANALYZE it is.
func TestExplainRounds(t *testing.T) {
	conn := explainCluster(t)
	const analyze = "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) "
	for _, test := range []struct{ sql, want string }{
		{"EXPLAIN (COSTS off) INSERT INTO t SELECT v + 100, id FROM t", `InsertSelect into t, by column 1 as int4, keeps order
  insert: INSERT INTO t <part 1>
  Scatter, concat
    shards s1, s2, s3
    ->  shard s1, one of 3
          Seq Scan on t`},
		{"EXPLAIN (COSTS off) INSERT INTO t SELECT sum(v) + 200, 1 FROM t", `InsertSelect into t, by column 1 as int4, keeps order
  insert: INSERT INTO t <part 1>
  Gather
    part 1, shards, plain: SELECT sum(v) AS shardgate_1 FROM t
      shards s1, s2, s3
      ->  shard s1, one of 3
            Aggregate
              ->  Seq Scan on t
    final: SELECT pg_catalog.sum(shardgate1.shardgate_1)<cast as part 1 column 1> + 200, 1 FROM <part 1> AS shardgate1 ` + `
      shard s1`},
		{"EXPLAIN (COSTS off) MERGE INTO t USING (SELECT v AS a FROM t) s ON t.id = s.a WHEN NOT MATCHED THEN INSERT VALUES (s.a, 0)", `InsertSelect, merge into t, by column 1 as int4
  insert: MERGE INTO t USING (<part 1>) s ON t.id = s.a WHEN NOT MATCHED THEN INSERT VALUES (s.a, 0)
  Scatter, concat
    shards s1, s2, s3
    ->  shard s1, one of 3
          Seq Scan on t`},
		{"EXPLAIN (COSTS off) WITH d AS (DELETE FROM t WHERE v = 7 RETURNING v) INSERT INTO ref SELECT v FROM d", `Steps
  step 1, rows kept: DELETE FROM t WHERE v = 7 RETURNING v
    Broadcast, concat
  step 2, the answer: INSERT INTO ref SELECT v FROM <part 1> AS "d"
    InsertSelect into ref, all shards, keeps order
      lock "public"."ref"
      insert: INSERT INTO ref <part 1>
      Route home`},
		{analyze + "INSERT INTO ref SELECT id FROM t WHERE id = 4 AND v = 3 RETURNING id", `InsertSelect into ref, all shards, keeps order
  lock "public"."ref"
  insert: INSERT INTO ref <part 1> RETURNING id
  Route by key
    pin t (id) as int4 = (4)
    ->  shard s2
          Index Scan using t_pkey on t
            Index Cond: (id = 4)
            Filter: (v = 3)
  done: INSERT 0 0`},
		{analyze + "WITH d AS (DELETE FROM t WHERE v = 7 RETURNING v) INSERT INTO ref SELECT v FROM d", `Steps
  step 1, rows kept: DELETE FROM t WHERE v = 7 RETURNING v
    Broadcast, concat
    done: DELETE 0
  step 2, the answer: INSERT INTO ref SELECT v FROM <part 1> AS "d"
    InsertSelect into ref, all shards, keeps order
      lock "public"."ref"
      insert: INSERT INTO ref <part 1>
      Route home
    done: INSERT 0 0
  done: INSERT 0 0`},
	} {
		for _, mode := range modes {
			if got := lines(t, conn, mode, test.sql); got != test.want {
				t.Errorf("%s, %s\n%s", test.sql, mode, got)
			}
		}
	}
	for i, mode := range modes {
		for _, test := range []struct {
			sql  string
			args []any
			done string
		}{
			{"INSERT INTO t SELECT id + $1, v FROM t WHERE id < 7", []any{100 * (i + 1)}, "INSERT 0 6"},
			{"UPDATE t SET id = id + $1 WHERE id > 100 RETURNING *", []any{10000}, "UPDATE 6"},
			{"MERGE INTO t USING (SELECT id - 10000 AS a FROM t) s ON t.id = s.a WHEN NOT MATCHED AND s.a > $1 THEN INSERT VALUES (s.a, 0)", []any{100}, "MERGE 6"},
			{"WITH d AS (DELETE FROM t WHERE id > $1 RETURNING id), r AS (INSERT INTO ref SELECT id FROM d) SELECT count(*) FROM d", []any{100}, "SELECT 1"},
			{"DELETE FROM ref WHERE id > $1", []any{0}, ""},
		} {
			got := lines(t, conn, mode, analyze+test.sql, test.args...)
			if test.done != "" && !strings.HasSuffix(got, "\n  done: "+test.done) {
				t.Errorf("%s, %s\n%s", test.sql, mode, got)
			}
		}
	}
	var n, sum int
	if err := conn.QueryRow(t.Context(), "SELECT count(*), sum(id) FROM t").Scan(&n, &sum); err != nil || n != 6 || sum != 21 {
		t.Error(n, sum, err)
	}
}

// TestExplainFormats reads the answers in XML and YAML.
func TestExplainFormats(t *testing.T) {
	conn := explainCluster(t)
	for _, sql := range []string{
		"SELECT v FROM t WHERE id = 4", "SELECT v AS \"<é>\" FROM t WHERE v < 2", "SELECT v, count(*) FROM t GROUP BY v", "SELECT * FROM t ORDER BY id",
		"UPDATE t SET v = v", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3) ON CONFLICT DO NOTHING", "DELETE FROM t USING t u WHERE t.v = u.id AND u.v > 5",
		"INSERT INTO ref SELECT max(v) + 100 FROM t HAVING count(*) = 0", "UPDATE t SET id = id + 1 WHERE v = 9", "WITH d AS (DELETE FROM t WHERE v = 9 RETURNING id) INSERT INTO ref SELECT id FROM d",
	} {
		for _, options := range []string{"", ", ANALYZE", ", VERBOSE", ", ANALYZE, VERBOSE, COSTS off"} {
			for _, mode := range modes {
				text := lines(t, conn, mode, "EXPLAIN (FORMAT xml"+options+") "+sql)
				d := xml.NewDecoder(strings.NewReader(text))
				names := map[string]int{}
				for {
					token, err := d.Token()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatalf("%s: %v\n%s", sql, err, text)
					}
					if e, ok := token.(xml.StartElement); ok {
						names[e.Name.Local]++
					}
				}
				if names["explain"] != 1 || names["Query"] != 1 || names["Plan"] == 0 || names["Gateway-Plan"] != 1 {
					t.Errorf("%s\n%s", sql, text)
				}
				text = lines(t, conn, mode, "EXPLAIN (FORMAT yaml"+options+") "+sql)
				var plans []struct {
					Plan    map[string]any `yaml:"Plan"`
					Gateway map[string]any `yaml:"Gateway"`
				}
				if err := yaml.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 || plans[0].Plan["Node Type"] == nil ||
					plans[0].Gateway == nil && plans[0].Plan["Gateway Plan"] == nil {
					t.Errorf("%s: %v\n%s", sql, err, text)
				}
			}
		}
	}
}
