package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/configs"
	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/gateway/txn"
	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// open opens the catalog of fresh databases, in which setup was run on the first.
func open(t *testing.T, shards int, tables string, setup ...string) (*Catalog, *pool.Pools, error) {
	t.Helper()
	_, urls := pgtest.Databases(t, pgtest.Servers(t, shards)...)
	yaml := "shards:\n"
	for i, u := range urls {
		yaml += fmt.Sprintf("  - {name: s%d, servers: [%q]}\n", i+1, u)
	}
	cfg, err := configs.Parse("test.yaml", []byte(yaml+"tables:\n"+tables))
	if err != nil {
		t.Fatal(err)
	}
	home := pgtest.Conn(t, urls[0])
	for _, sql := range setup {
		if _, err := home.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	pools := newPools(t, urls)
	if _, err := txn.Install(context.Background(), pools, 0, "shardgate"); err != nil {
		t.Fatal(err)
	}
	c, err := Open(context.Background(), pools, 0, cfg, slog.New(slog.DiscardHandler))
	return c, pools, err
}

func newPools(t *testing.T, urls []string) *pool.Pools {
	var list []*pool.Shard
	for i, u := range urls {
		pc, err := pgconn.ParseConfig(u)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, &pool.Shard{Index: i, Name: fmt.Sprintf("s%d", i+1), Config: pc})
	}
	p := pool.NewPools(list, pool.Options{Size: 5, AcquireTimeout: 5 * time.Second, ConnectTimeout: 5 * time.Second,
		IdleTimeout: time.Minute, MaxLifetime: time.Hour, PreparedStatements: 10})
	t.Cleanup(p.Close)
	return p
}

const rulesYAML = `
  - {name: c, key: id, group: g}
  - {name: o, key: [a, b]}
  - {name: r, reference: true}
`

func TestSchema(t *testing.T) {
	c, _, err := open(t, 1, rulesYAML,
		"CREATE DOMAIN small AS varchar(7)", "CREATE DOMAIN smaller AS small",
		"CREATE TABLE c (id smaller PRIMARY KEY, n int DEFAULT 3, t timestamptz DEFAULT now(), u uuid DEFAULT gen_random_uuid(), s serial, i int GENERATED ALWAYS AS IDENTITY, g int GENERATED ALWAYS AS (n + 1) STORED)",
		"CREATE TABLE o (x int, a int, b date, primary key (a, b)) PARTITION BY RANGE (b)",
		"CREATE TABLE o1 PARTITION OF o FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
		"CREATE TABLE r (id int PRIMARY KEY)", "CREATE TABLE l (id int, c text COLLATE \"C\", p varchar COLLATE \"POSIX\", i text COLLATE \"und-x-icu\")",
		"CREATE VIEW vc AS SELECT * FROM c", "CREATE VIEW vvc AS SELECT vc.n FROM vc JOIN r ON true",
		"CREATE VIEW vr AS SELECT * FROM r", "CREATE VIEW vl AS SELECT * FROM l", "CREATE VIEW vrl AS SELECT r.id FROM r, l",
		"CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM c'",
		"CREATE FUNCTION calls() RETURNS bigint LANGUAGE sql AS 'SELECT reads()'",
		"CREATE FUNCTION step(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + calls()'",
		"CREATE AGGREGATE total(bigint) (sfunc = step, stype = bigint)",
		"CREATE OPERATOR #@# (leftarg = bigint, rightarg = bigint, function = step)",
		"CREATE FUNCTION uses_l() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM r JOIN public.L ON true'",
		"CREATE FUNCTION calls_l() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN uses_l(); END'",
		"CREATE FUNCTION uses_r(l int) RETURNS bigint LANGUAGE sql AS 'SELECT l + count(*) FROM r'",
		"CREATE FUNCTION \"Fires\"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM yet_to_come(NEW.id); RETURN NEW; END'",
		"CREATE TRIGGER fires BEFORE INSERT ON l FOR EACH ROW EXECUTE FUNCTION \"Fires\"()",
		"CREATE POLICY positive ON l USING (abs(id) = id)",
		"CREATE FUNCTION harmless(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1'")
	if err != nil {
		t.Fatal(err)
	}
	s := c.Current().Schema
	for name, want := range map[string]planner.Distribution{"c": planner.Sharded, "o": planner.Sharded, "o1": planner.Sharded,
		"c_pkey": planner.Sharded, "r": planner.Reference, "r_pkey": planner.Reference, "l": planner.Local, "vc": planner.ShardedView,
		"vvc": planner.ShardedView, "vr": planner.Reference, "vl": planner.Local, "vrl": planner.MixedView} {
		table := s.Table("public", name)
		if table == nil {
			t.Errorf("%s is missing", name)
		} else if table.Distribution != want {
			t.Errorf("%s is %v, want %v", name, table.Distribution, want)
		}
	}
	if f := s.Operators["#@#"]; len(f) != 1 || f[0] != "step" {
		t.Errorf("the function of #@#: %v", f)
	}
	for name, want := range map[string]bool{"reads": true, "calls": true, "step": true, "total": true, "harmless": false} {
		if got := s.Mentions(name) != ""; got != want {
			t.Errorf("%s reads distributed tables: %v, want %v", name, got, want)
		}
	}
	for body, want := range map[string]bool{"uses_l": true, "calls_l": true, "uses_r": false, "harmless": false,
		"SELECT id FROM l": true, "UPDATE ONLY public . l SET id = 1": true, "SELECT l FROM r": false, "SELECT 1 FROM pg_class": false, "SELECT nextval('s')": true, "SELECT id FROM c": false} {
		if got := s.UsesLocal(body); got != want {
			t.Errorf("%s uses a local table: %v, want %v", body, got, want)
		}
	}
	for name, want := range map[string]bool{"fires": true, "yet_to_come": true, "abs": true, "reads": false, "harmless": false} {
		if s.Unseen[name] != want {
			t.Errorf("%s runs unseen: %v, want %v", name, !want, want)
		}
	}
	table := s.Table("public", "c")
	if k := table.Key; k == nil || k.Types[0] != shardmap.KeyVarchar || k.Typmods[0] != 11 || k.Group != "g" {
		t.Errorf("the key of c: %+v", k)
	}
	if k := s.Table("public", "o1").Key; k == nil || len(k.Types) != 2 || k.Types[1] != shardmap.KeyDate {
		t.Errorf("the key of o1: %+v", k)
	}
	type def struct {
		has, sequence, generated bool
		v                        planner.Volatility
	}
	for name, want := range map[string]def{"id": {}, "n": {has: true}, "t": {has: true, v: planner.Stable}, "u": {has: true, v: planner.Volatile},
		"s": {has: true, sequence: true, v: planner.Volatile}, "i": {has: true, sequence: true, v: planner.Volatile}, "g": {has: true, generated: true}} {
		col := table.Columns[table.Column(name)]
		if got := (def{col.HasDefault, col.Sequence, col.Generated, col.Default}); got != want {
			t.Errorf("column %s: %+v, want %+v", name, got, want)
		}
	}
	for _, col := range s.Table("public", "l").Columns {
		if want := col.Name == "c" || col.Name == "p"; col.Bytewise != want {
			t.Errorf("column %s is sorted by its bytes: %v, want %v", col.Name, col.Bytewise, want)
		}
	}
}

// What is wrong with a key is said before anything starts, with its place in the
// configuration.
func TestKeyProblems(t *testing.T) {
	_, _, err := open(t, 1, "  - {name: a, key: id}\n  - {name: b, key: [x, y]}\n  - {name: missing, key: id}\n",
		"CREATE TABLE a (id numeric)", "CREATE TABLE b (x int)")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`test.yaml:4:`, `"id" of the table a has a type`, `test.yaml:5:`, `the table b has no column "y"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "missing") {
		t.Errorf("a rule that matches nothing yet is no error:\n%v", err)
	}
}

// The map is placed once and then kept; a gateway that comes later reads it.
func TestMapIsKept(t *testing.T) {
	c, pools, err := open(t, 3, rulesYAML)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), pools, 0, c.config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if moves := shardmap.Diff(c.Current().Map, again.Current().Map); len(moves) != 0 {
		t.Errorf("%d slots differ", len(moves))
	}
	seen := map[int]bool{}
	for slot := range shardmap.SlotCount {
		seen[c.Current().ShardOf(shardmap.Slot(slot))] = true
	}
	if len(seen) != 3 {
		t.Errorf("slots are on %d shards", len(seen))
	}
	// A shard that holds slots may not be missing.
	fewer := *c.config
	fewer.Shards = fewer.Shards[:2]
	less := pool.NewPools(pools.Shards[:2], pool.Options{Size: 5, ConnectTimeout: 5 * time.Second})
	t.Cleanup(less.Close)
	if _, err := Open(context.Background(), less, 0, &fewer, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `shard "s3"`) {
		t.Errorf("without a shard: %v", err)
	}
}

// A change by another gateway is seen by its version.
func TestPoll(t *testing.T) {
	c, pools, err := open(t, 1, rulesYAML)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Current()
	if err := c.Poll(context.Background()); err != nil || c.Current() != before {
		t.Fatalf("an unchanged schema was read again (%v)", err)
	}
	admin, err := pools.Admin(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	admin.Query("CREATE TABLE c (id int)")
	admin.Query("UPDATE shardgate.schema_version SET version = version + 1")
	if err := c.Poll(context.Background()); err != nil || c.Current().Schema.Table("public", "c") == nil {
		t.Fatalf("the change was not seen (%v)", err)
	}
}

// A rule for a table whose rows are not where it says is refused, and a rule that was
// changed too: the rows would be invisible without a word.
func TestMisplacedRows(t *testing.T) {
	for _, tc := range []struct{ name, want, setup string }{
		{"rows on one shard", "the table c has rows on shard s1 that belong to other shards", "CREATE TABLE c (id int); INSERT INTO c SELECT generate_series(1, 100)"},
		{"null keys", "the table c has rows on shard s1 that belong", "CREATE TABLE c (id int); INSERT INTO c VALUES (NULL)"},
		{"home only", "the table c is not on shard s2", "CREATE TABLE c (id int)"},
		{"reference on one shard", "the table r is not on shard s2", "CREATE TABLE r (id int)"},
	} {
		_, _, err := open(t, 2, rulesYAML, tc.setup)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "test.yaml:") {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	c, pools, err := open(t, 2, rulesYAML)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		admin, err := pools.Admin(context.Background(), i)
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close()
		// Each row where its key belongs: the copy on the other shard is deleted.
		var others []string
		for id := range 200 {
			h := shardmap.HashInt64(int64(id))
			if c.Current().ShardOf(shardmap.SlotOf(h)) != i {
				others = append(others, fmt.Sprint(id))
			}
		}
		for _, sql := range []string{"CREATE TABLE c (id int, x int DEFAULT 1)", "INSERT INTO c SELECT generate_series(0, 199)",
			"DELETE FROM c WHERE id IN (" + strings.Join(others, ",") + ")", "CREATE TABLE r (id int)", "INSERT INTO r VALUES (1), (2)"} {
			if _, err := admin.Query(sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	again := func(cfg *configs.Config) error {
		_, err := Open(context.Background(), pools, 0, cfg, slog.New(slog.DiscardHandler))
		return err
	}
	if err := again(c.config); err != nil {
		t.Fatalf("rows in place: %v", err)
	}
	changed := *c.config
	changed.Tables = append([]configs.Table(nil), c.config.Tables...)
	changed.Tables[0].Key = configs.Columns{"x"}
	if err := again(&changed); err == nil || !strings.Contains(err.Error(), `sharded by "id", and the rule for it says sharded by "x"`) {
		t.Errorf("a changed key: %v", err)
	}
}
