package difftest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// moveRules and moveSQL make the tables that random changes are for. They have no
// unique constraints: which of two equal keys is found first depends on the order of rows.
const (
	moveRules = `
listen: 127.0.0.1:0
tables:
  - {name: a, key: id, group: g}
  - {name: b, key: id, group: g}
  - {name: p, key: [x, y]}
  - {name: w, key: word}
  - {name: r, reference: true}
`
	moveSQL = `CREATE TABLE a (id int NOT NULL, n numeric(8,2), v varchar(20), t timestamptz);
		CREATE TABLE b (id bigint NOT NULL, k int DEFAULT 3, v text);
		CREATE TABLE p (x int NOT NULL, y date NOT NULL, n int, v text, twice int GENERATED ALWAYS AS (n * 2) STORED);
		CREATE TABLE w (word varchar(6) NOT NULL, c char(4), j jsonb);
		CREATE TABLE r (id int, v text);
		INSERT INTO a SELECT i % 17, i / 3.0, CASE WHEN i % 4 > 0 THEN 'v' || i % 7 END, timestamptz '2024-01-01 00:00+00' + i * interval '7 hours' FROM generate_series(1, 40) i;
		INSERT INTO b SELECT i % 19, i % 5, 'b' || i % 6 FROM generate_series(1, 40) i;
		INSERT INTO p (x, y, n, v) SELECT i % 7, date '2024-01-01' + i % 5, i % 11, 'p' || i FROM generate_series(1, 40) i;
		INSERT INTO w SELECT 'w' || i % 13, left(i::text, 2), jsonb_build_object('i', i) FROM generate_series(1, 30) i;
		INSERT INTO r SELECT i, 'r' || i FROM generate_series(0, 6) i;`
)

// changer draws statements that change rows.
type changer struct{ *rand.Rand }

func (c changer) one(of ...string) string { return of[c.IntN(len(of))] }

func (c changer) perhaps(share float64, s string) string {
	if c.Float64() < share {
		return s
	}
	return ""
}

// number replaces each # by a small number.
func (c changer) number(s string) string {
	for strings.Contains(s, "#") {
		s = strings.Replace(s, "#", fmt.Sprint(c.IntN(19)), 1)
	}
	return s
}

// move draws an UPDATE of a key.
func (c changer) move() string {
	switch c.IntN(5) {
	case 0, 1:
		set := "id = " + c.one("id + #", "#", "# - id", "id * 2 % 23", "(SELECT max(r.id) FROM r WHERE r.id <= a.id)", "(id + # / 3.0)::numeric", "'#'", "id", "CASE WHEN n > # THEN id ELSE # END", "length(v) + #")
		return "UPDATE a SET " + set + c.perhaps(0.3, ", v = 'x' || coalesce(v, '-')") + c.perhaps(0.2, ", n = DEFAULT") + c.perhaps(0.2, ", t = '2024-05-06 07:08:09+02'") + c.where("a") +
			c.perhaps(0.7, " RETURNING "+c.one("*", "id, v", "a.*, id + 1 AS more", "a.id, (SELECT v FROM r WHERE r.id = a.id)", "'c', NULL, n"))
	case 2:
		return "UPDATE b " + c.one("SET (id, k) = (id + #, DEFAULT)", "SET (v, id) = ROW('#', k)", "AS b SET k = b.id, id = b.k", "SET id = (SELECT count(*) FROM a WHERE a.id = b.id)") + c.where("b") + c.perhaps(0.6, " RETURNING *")
	case 3:
		return "UPDATE p SET " + c.one("x = x + #", "y = y + #", "x = n, n = x", "y = '2024-01-0' || n % 9 + 1 || ''", "x = #, y = date '2024-02-01' - #", "(x, y) = (#, '2024-01-03')") + c.where("p") + c.perhaps(0.7, " RETURNING "+c.one("*", "twice, x, y"))
	default:
		return "UPDATE w SET word = " + c.one("word || 'x'", "word || '#   '", "c", "'W'", "upper(word)", "j->>'i'", "left(word, 1)") + c.where("w") + c.perhaps(0.6, " RETURNING *, length(word)")
	}
}

func (c changer) where(table string) string {
	conds := map[string][]string{
		"a": {"id = #", "id IN (#, #, #)", "n > #", "v = 'v#'", "id BETWEEN # AND #", "EXISTS (SELECT FROM b WHERE b.id = a.id AND b.k = 2)", "id IN (SELECT id FROM r)"},
		"b": {"id = #", "id = ANY ('{#,#}')", "k = 2", "v LIKE 'b#%'"},
		"p": {"x = # AND y = '2024-01-03'", "x = 3", "n < #", "y > '2024-01-02'"},
		"w": {"word = 'w#'", "word > 'w5'", "c LIKE '1%'"},
	}[table]
	return c.perhaps(0.8, " WHERE "+c.one(conds...)+c.perhaps(0.2, c.one(" AND ", " OR ")+c.one(conds...)))
}

// with draws a statement with a WITH item that changes rows.
func (c changer) with() string {
	item := c.one("DELETE FROM a"+c.where("a"), "UPDATE a SET v = 'u' || coalesce(v, ''), n = n + 1"+c.where("a"), "DELETE FROM a USING b WHERE a.id = b.id AND b.k = 2") +
		" RETURNING a." + c.one("*", "id, a.n, a.v, a.t", "id, a.n + 1 AS n, a.v, a.t")
	return "WITH d AS (" + item + ") " + c.one(
		"SELECT * FROM d", "SELECT count(*) FROM d", "SELECT d.id, b.v FROM d JOIN b ON b.id = d.id", "SELECT b.*, d.v FROM b LEFT JOIN d USING (id)",
		"SELECT sum(n), max(v), count(DISTINCT id) FROM d", "SELECT d.v, count(*), sum(a.n) FROM d JOIN a ON a.v = d.v GROUP BY d.v", "SELECT a.id, a.v FROM a WHERE a.id IN (SELECT id + 1 FROM d)",
		"SELECT id, sum(n) FROM d GROUP BY id", "SELECT r.v, d.id FROM r LEFT JOIN d ON d.id = r.id", "SELECT id FROM d UNION SELECT id FROM b", "SELECT (SELECT count(*) FROM d), id FROM r",
		"SELECT id, row_number() OVER (PARTITION BY id ORDER BY n, v, t) FROM d",
		"INSERT INTO b SELECT id, 7, v FROM d RETURNING *", "INSERT INTO b (v, id) SELECT v, d.id FROM d WHERE v IS NOT NULL", "UPDATE b SET v = d.v FROM (SELECT 1) x, d WHERE d.id = b.id AND false RETURNING b.*",
		"DELETE FROM b USING d WHERE b.id = d.id RETURNING b.*")
}

// changes runs a statement in a block, and returns what it answers and what it leaves.
func (s *system) changes(t *testing.T, sql string) (out string, refused bool) {
	conn := s.connect(t)
	defer s.exec(t, "ROLLBACK")
	s.exec(t, "BEGIN")
	answer := func(sql string) error {
		results, err := conn.Exec(context.Background(), sql).ReadAll()
		if err != nil {
			var e *pgconn.PgError
			errors.As(err, &e)
			out, refused = "error "+e.Code, e.Code == "0A000"
			return err
		}
		var rows []string
		for _, r := range results[0].Rows {
			rows = append(rows, fmt.Sprintf("%q", r))
		}
		slices.Sort(rows)
		var names []string
		for _, f := range results[0].FieldDescriptions {
			names = append(names, f.Name)
		}
		out += fmt.Sprintln(results[0].CommandTag, names) + strings.Join(rows, "\n") + "\n"
		return nil
	}
	for _, q := range []string{sql, "TABLE a", "TABLE b", "TABLE p", "TABLE w"} {
		if answer(q) != nil {
			return out, refused
		}
	}
	return out, false
}

// TestMoves compares what random UPDATEs of keys and WITH items that change rows do, and
// what they answer.
func TestMoves(t *testing.T) {
	cfg, err := configs.ParseWithoutShards("difftest.yaml", []byte(moveRules))
	if err != nil {
		t.Fatal(err)
	}
	plain := &system{name: "PostgreSQL", url: pgtest.Database(t, pgtest.Server(t)), timeout: plainTimeout}
	gateway := &system{name: "the gateway", url: startCluster(t, 3, cfg), timeout: gatewayTimeout}
	t.Cleanup(plain.close)
	t.Cleanup(gateway.close)
	plain.exec(t, moveSQL)
	gateway.exec(t, moveSQL)
	n := *statementsFlag / 4
	t.Logf("%d statements from seed %d", n, *seedFlag)
	c := changer{rand.New(rand.NewPCG(*seedFlag, 0))}
	refusals, failures := 0, 0
	for range n {
		sql := c.number(c.one(c.move(), c.with()))
		want, _ := plain.changes(t, sql)
		got, refused := gateway.changes(t, sql)
		switch {
		case refused:
			refusals++
			t.Logf("refused: %s", sql)
		case want != got:
			t.Errorf("%s\nPostgreSQL: %s\nthe gateway: %s", sql, want, got)
		case strings.HasPrefix(want, "error"):
			failures++
		}
	}
	t.Logf("%d refused, %d with equal errors", refusals, failures)
}
