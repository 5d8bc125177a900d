package e2e

import (
	"testing"
)

// TestSteps: what is refused when the types of rows are known has changed nothing, and
// what fails in a later step neither.
func TestSteps(t *testing.T) {
	c := newCluster(t, 3, "tables:\n  - {name: t, key: id}\n  - {name: u, key: word}\n")
	c.serve()
	conn := c.connect("postgres")
	must(t, conn, "CREATE TABLE t (id int PRIMARY KEY, tags float8[])", "CREATE TABLE u (word text PRIMARY KEY, n int)", "CREATE TABLE l (n int)",
		"INSERT INTO t VALUES (1, '{1}'), (2, '{2}'), (3, '{3}'), (4, NULL)", "INSERT INTO u VALUES ('a', 1), ('b', 2), ('c', 3)")
	for sql, want := range map[string]string{
		"WITH d AS (DELETE FROM t RETURNING tags) INSERT INTO u SELECT tags[1] || 'x', 1 FROM d":                                       "0A000",
		"WITH d AS (DELETE FROM t RETURNING id), x AS (INSERT INTO l SELECT id FROM d) INSERT INTO u SELECT 'a', id FROM d":            "23505",
		"WITH d AS (DELETE FROM t RETURNING id), x AS (INSERT INTO l SELECT id FROM d) SELECT 1 / (id - 4) FROM d":                     "22012",
		"WITH d AS (DELETE FROM t RETURNING id), x AS (INSERT INTO l SELECT 1 / (id - 4) FROM d) SELECT count(*) FROM d":               "22012",
		"WITH d AS (DELETE FROM t RETURNING id), x AS (DELETE FROM u) SELECT pg_advisory_lock(id) FROM d":                              "0A000",
		"WITH d AS (DELETE FROM t RETURNING id), x AS (UPDATE t SET tags = NULL), y AS (DELETE FROM u RETURNING n) SELECT * FROM d, y": "0A000",
	} {
		for _, mode := range modes {
			if _, err := conn.Exec(t.Context(), sql, mode); code(err) != want {
				t.Errorf("%s, %s: %v", sql, mode, err)
			}
		}
	}
	var rows, words, local int
	if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u), (SELECT count(*) FROM l)").Scan(&rows, &words, &local); err != nil || rows != 4 || words != 3 || local != 0 {
		t.Error(rows, words, local, err)
	}
}
