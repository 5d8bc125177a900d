package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pg_dump of a cluster, and the dump read into it again by psql, give back what was there.
func TestDump(t *testing.T) {
	c := newCluster(t, 3, `
tables:
  - {name: customers, key: id, group: customers}
  - {name: orders, key: customer_id, group: customers}
  - {name: countries, reference: true}
`)
	c.serve()
	conn := c.connect("postgres")
	must(t, conn,
		"CREATE TABLE countries (code char(2) PRIMARY KEY)",
		"CREATE TABLE customers (id bigint PRIMARY KEY, name text, country char(2) REFERENCES countries)",
		"CREATE TABLE orders (customer_id bigint REFERENCES customers, n int, note text, PRIMARY KEY (customer_id, n))",
		"CREATE TABLE settings (id serial PRIMARY KEY, v text)",
		"CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'",
		"CREATE VIEW noted AS SELECT * FROM orders WHERE note <> ''",
		"INSERT INTO countries VALUES ('de'), ('fr')",
		"INSERT INTO customers SELECT g, 'n' || g, 'de' FROM generate_series(1, 50) g",
		`INSERT INTO orders SELECT g, 1, E'a\tb\\c\n' || g FROM generate_series(1, 50) g`,
		"INSERT INTO settings (v) VALUES ('a'), ('b')")
	path := filepath.Join(t.TempDir(), "dump.sql")
	dump := func() string {
		out, err := c.tool("pg_dump", "--exclude-schema=shardgate", "--file="+path, c.url())
		if err != nil {
			t.Fatalf("pg_dump: %v\n%s", err, out)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return contents(string(b))
	}
	before := dump()
	if out, err := c.tool("pg_dump", c.url()); err == nil || !strings.Contains(out, "--exclude-schema=shardgate") {
		t.Errorf("pg_dump of the gateway's own schema: %v\n%s", err, out)
	}
	must(t, conn, "DROP VIEW noted", "DROP FUNCTION twice(int)", "DROP TABLE settings", "DROP TABLE orders, customers, countries")
	if out, err := c.tool("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, c.url()); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	if after := dump(); after != before {
		t.Errorf("dumped first:\n%s\nand of what was made of that:\n%s", before, after)
	}
	if n := c.sum("SELECT count(*) FROM customers JOIN noted ON customer_id = id"); n != 50 {
		t.Errorf("%d rows", n)
	}
}

// contents is a dump without the key that is another one each time. COPY gives rows by shard
// and in the order in which they were stored, which is that of the dump.
func contents(dump string) string {
	var lines []string
	for line := range strings.Lines(dump) {
		if !strings.HasPrefix(line, "\\restrict") && !strings.HasPrefix(line, "\\unrestrict") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
