package difftest

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/dev"
	"github.com/shardgate/shardgate/gateway/dev/devtest"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

//go:embed testdata/schema.sql
var schemaSQL string

//go:embed testdata/rows.sql
var rowsSQL string

// rules say how the tables of testdata/schema.sql are distributed.
const rules = `
listen: 127.0.0.1:0
tables:
  - {name: customers, key: id, group: customers}
  - {name: orders, key: customer_id, group: customers}
  - {name: voids, key: id, group: customers}
  - {name: items, key: sku, group: items}
  - {name: stock, key: sku, group: items}
  - {name: events, key: [tenant, day]}
  - {name: countries, reference: true}
  - {name: kinds, reference: true}
`

// newPair starts a PostgreSQL and a cluster with the same rows.
func newPair(t *testing.T, shards int) *pair {
	t.Helper()
	cfg, err := configs.ParseWithoutShards("difftest.yaml", []byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{
		plain:   &system{name: "PostgreSQL", url: pgtest.Database(t, pgtest.Server(t)), timeout: plainTimeout},
		gateway: &system{name: "the gateway", url: startCluster(t, shards, cfg), timeout: gatewayTimeout},
	}
	t.Cleanup(p.plain.close)
	t.Cleanup(p.gateway.close)
	// On a busy machine it takes longer than a statement of the comparison may.
	p.plain.exec(t, "SET statement_timeout = 0;"+schemaSQL+rowsSQL+"ANALYZE;")
	p.gateway.exec(t, "SET statement_timeout = 0;"+schemaSQL)
	p.tables = readTables(t, p.plain, cfg)
	for _, table := range p.tables {
		if !table.view {
			copyTable(t, p.plain, p.gateway, table.name)
		}
	}
	p.gateway.exec(t, "ANALYZE")
	// Sessions that know the types which were just made.
	p.plain.close()
	p.gateway.close()
	p.plain.readTypes(t)
	p.gateway.readTypes(t)
	return p
}

// startCluster starts the shards and a gateway, and returns its URL.
func startCluster(t *testing.T, shards int, cfg *configs.Config) string {
	t.Helper()
	c := devtest.Start(t, shards, cfg)
	// The shards give different OIDs to the types that are made later.
	for i, s := range c.Servers {
		skew := &system{name: s.Name(), url: s.URL(dev.User, dev.Database)}
		for range i * 5 {
			skew.exec(t, "CREATE TABLE skew(a int); DROP TABLE skew")
		}
		skew.close()
	}
	return c.URL()
}

// copyTable brings the rows of a table through the gateway to their shards.
func copyTable(t *testing.T, from, to *system, table string) {
	t.Helper()
	r, w := io.Pipe()
	var out error
	done := make(chan struct{})
	go func() { // ends when the table is read, or the reader is closed
		defer close(done)
		_, out = from.connect(t).CopyTo(t.Context(), w, "COPY "+table+" TO STDOUT")
		w.CloseWithError(out)
	}()
	_, err := to.connect(t).CopyFrom(t.Context(), r, "COPY "+table+" FROM STDIN")
	r.Close()
	<-done
	if err != nil || out != nil {
		t.Fatalf("copying %s: %v, %v", table, err, out)
	}
}

// table is what the generator knows of a table.
type table struct {
	name    string
	view    bool
	columns []column
	primary []string // the columns of the primary key
	key     []string // those that decide on the shard
	group   string
	rows    int
}

// readTables describes the tables, with a few of the values of each column.
func readTables(t *testing.T, s *system, cfg *configs.Config) []*table {
	t.Helper()
	var tables []*table
	byName := map[string]*table{}
	for _, r := range s.exec(t, `SELECT relname, quote_ident(attname), format_type(atttypid, atttypmod), coalesce(collname, ''), coalesce(attnum = ANY (indkey), false), relkind
			FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid LEFT JOIN pg_index i ON indrelid = c.oid
			LEFT JOIN pg_collation l ON l.oid = attcollation AND collname <> 'default'
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 ORDER BY c.oid, attnum`) {
		tb := byName[r[0]]
		if tb == nil {
			tb = &table{name: r[0], view: r[5] == "v"}
			byName[r[0]] = tb
			tables = append(tables, tb)
			fmt.Sscan(s.exec(t, "SELECT count(*) FROM "+r[0])[0][0], &tb.rows)
		}
		c := column{name: r[1], kind: kindOf(r[1], r[2], r[3])}
		for _, v := range s.exec(t, fmt.Sprintf("SELECT DISTINCT %s::text FROM %s WHERE %[1]s IS NOT NULL ORDER BY 1 LIMIT 12", r[1], r[0])) {
			c.values = append(c.values, v[0])
		}
		tb.columns = append(tb.columns, c)
		if r[4] == "t" {
			tb.primary = append(tb.primary, r[1])
		}
	}
	for _, rule := range cfg.Tables {
		tb := byName[rule.Table]
		tb.key, tb.group = rule.Key, rule.Group
	}
	for name, base := range map[string]string{"adults": "customers", "lines": "orders", "ranks": "events"} {
		// These have the rows of a table, by its names.
		byName[name].primary, byName[name].key, byName[name].group = byName[base].primary, byName[base].key, byName[base].group
	}
	return tables
}

// connect returns the system's connection, opening it when there is none.
func (s *system) connect(t fatalist) *pgconn.PgConn {
	if s.conn != nil && !s.conn.IsClosed() {
		return s.conn
	}
	cfg, err := pgconn.ParseConfig(s.url)
	if err != nil {
		t.Fatalf("%v", err)
	}
	// The answers of both depend on the time zone, so that it is seen whether the
	// shards have the session's.
	cfg.RuntimeParams["timezone"] = "America/New_York"
	cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(s.timeout.Milliseconds())
	ctx, stop := context.WithTimeout(context.Background(), 15*time.Second)
	defer stop()
	if s.conn, err = pgconn.ConnectConfig(ctx, cfg); err != nil {
		t.Fatalf("connecting to %s: %v", s.name, err)
	}
	return s.conn
}

func (s *system) close() {
	if s.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	s.conn.Close(ctx) // what it still ran goes with it
	s.conn = nil
}

// exec runs statements that must succeed, and returns the rows of the last one.
func (s *system) exec(t fatalist, sql string) (rows [][]string) {
	results, err := s.connect(t).Exec(context.Background(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s on %s: %v", sql[:min(len(sql), 200)], s.name, err)
	}
	for _, r := range results[len(results)-1].Rows {
		var row []string
		for _, v := range r {
			row = append(row, string(v))
		}
		rows = append(rows, row)
	}
	return rows
}

// readTypes reads the names of the types, and what binary values are made of.
func (s *system) readTypes(t *testing.T) {
	t.Helper()
	s.types, s.oids = map[uint32]typ{}, map[string]uint32{}
	for _, r := range s.exec(t, `SELECT oid, typname, typcategory = 'A' AND typelem <> 0 AND typlen < 0, typtype = 'c' OR typname = 'record'
			FROM pg_type WHERE typnamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace)`) {
		var oid uint32
		fmt.Sscan(r[0], &oid)
		s.types[oid] = typ{name: r[1], array: r[2] == "t", composite: r[3] == "t"}
		s.oids[r[1]] = oid
	}
}

// fatalist is what testing.T and rapid.T have in common.
type fatalist interface {
	Fatalf(format string, args ...any)
}
