package e2e

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// A role without any right on the schema shardgate takes part in distributed
// transactions, and has no way to what the schema holds.
func TestRoles(t *testing.T) {
	c := newCluster(t, 2, keyed)
	c.onShards(
		"CREATE ROLE app LOGIN", "GRANT ALL ON SCHEMA public TO app", "GRANT CREATE, TEMPORARY ON DATABASE postgres TO app",
		// What an administrator may have done without a thought of us.
		"CREATE ROLE reader LOGIN", "GRANT pg_read_all_data, pg_write_all_data TO reader", "GRANT ALL ON SCHEMA public TO reader",
		"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
		"ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	c.serve()
	app := c.connect("app")
	ids := c.ids(app, 2)
	must(t, app, "BEGIN", sqlf("UPDATE t SET v = 7 WHERE id IN (%d, %d)", ids[0][0], ids[1][0]), "COMMIT")
	if n := c.sum("SELECT coalesce(sum(v), 0)::bigint FROM t"); n != 14 {
		t.Fatalf("the sum is %d", n)
	}
	if n := c.sum("SELECT count(*) FROM pg_prepared_xacts"); n != 0 {
		t.Fatalf("%d prepared transactions", n)
	}
	t.Run("app", func(t *testing.T) { keptOut(t, c, app, ids) })
	t.Run("reader", func(t *testing.T) { keptOut(t, c, c.connect("reader"), ids) })
	t.Run("proofs", func(t *testing.T) { proofs(t, c, ids) })
}

// keptOut tries all ways into the schema that a role may think of.
func keptOut(t *testing.T, c *cluster, conn *pgx.Conn, ids [][]int) {
	key := ids[1][0]
	tables := []string{"identity", "decisions"}
	// Each of these must fail. %s is a table of the schema.
	for _, way := range []string{
		"SELECT * FROM shardgate.%s",
		`SELECT * FROM "shardgate"."%s"`,
		`SELECT * FROM U&"\0073hardgate".%s`,
		"TABLE shardgate.%s",
		"SELECT (SELECT count(*) FROM shardgate.%s)",
		"WITH x AS (SELECT * FROM shardgate.%s) SELECT * FROM x",
		"WITH x AS (DELETE FROM shardgate.%s RETURNING *) SELECT * FROM x",
		"SELECT * FROM t WHERE id = 1 AND EXISTS (SELECT FROM shardgate.%s)",
		"SELECT * FROM postgres.shardgate.%s",
		"EXPLAIN SELECT * FROM shardgate.%s",
		"EXPLAIN ANALYZE SELECT * FROM shardgate.%s",
		"COPY shardgate.%s TO STDOUT",
		"COPY (SELECT * FROM shardgate.%s) TO STDOUT",
		"DELETE FROM shardgate.%s",
		"TRUNCATE shardgate.%s",
		"DROP TABLE shardgate.%s",
		"ALTER TABLE shardgate.%s DISABLE ROW LEVEL SECURITY",
		"CREATE POLICY p ON shardgate.%s USING (true)",
		"CREATE TRIGGER x BEFORE INSERT ON shardgate.%s EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE r AS ON INSERT TO shardgate.%s DO ALSO NOTHING",
		"CREATE INDEX ON shardgate.%s ((1))",
		"CREATE TABLE mine (LIKE shardgate.%s); SELECT * FROM shardgate.%[1]s",
		"CREATE TABLE mine () INHERITS (shardgate.%s)",
		"LOCK TABLE shardgate.%s IN ACCESS EXCLUSIVE MODE",
		"BEGIN; LOCK TABLE shardgate.%s; COMMIT",
		"ANALYZE shardgate.%s; SELECT * FROM shardgate.%[1]s",
		"GRANT SELECT ON shardgate.%s TO PUBLIC; SELECT * FROM shardgate.%[1]s",
		"ALTER TABLE shardgate.%s OWNER TO CURRENT_USER",
		"DECLARE x CURSOR FOR SELECT * FROM shardgate.%s",
		"CREATE MATERIALIZED VIEW mv AS SELECT * FROM shardgate.%s",
		"SELECT * INTO mine FROM shardgate.%s",
		"DO $$ BEGIN PERFORM FROM shardgate.%s; IF FOUND THEN RAISE EXCEPTION 'seen' USING ERRCODE = 'SEEN0'; END IF; RAISE EXCEPTION 'x' USING ERRCODE = '42501'; END $$",
		"DO $$ BEGIN EXECUTE 'SELECT FROM shard' || 'gate.%s' ; IF EXISTS (SELECT 1) THEN RAISE EXCEPTION 'x' USING ERRCODE = '42501'; END IF; END $$",
		"DO $$ DECLARE n int; BEGIN EXECUTE 'DELETE FROM shard' || 'gate.%s' ; GET DIAGNOSTICS n = ROW_COUNT; IF n > 0 THEN RAISE EXCEPTION 'seen' USING ERRCODE = 'SEEN0'; END IF; RAISE EXCEPTION 'x' USING ERRCODE = '42501'; END $$",
		"DO $$ BEGIN EXECUTE 'ALTER TABLE shard' || 'gate.%s DISABLE ROW LEVEL SECURITY'; RAISE EXCEPTION 'x' USING ERRCODE = 'SEEN0'; END $$",
		"DO $$ BEGIN EXECUTE 'TRUNCATE shard' || 'gate.%s'; RAISE EXCEPTION 'x' USING ERRCODE = 'SEEN0'; END $$",
	} {
		for _, table := range tables {
			refused(t, conn, sqlf(way, table))
		}
	}
	// With the schema in the path, relations of it are no longer seen by name.
	must(t, conn, "SET search_path = shardgate, public")
	for _, table := range append(tables, "map", "schema_version") {
		refused(t, conn, "SELECT * FROM "+table)
		refused(t, conn, sqlf("SELECT * FROM public.t JOIN %s ON true WHERE t.id = %d", table, key))
	}
	for _, call := range calls {
		refused(t, conn, "SELECT "+call)
		refused(t, conn, sqlf("SELECT %s FROM public.t WHERE id = %d", call, key))
	}
	must(t, conn, "RESET search_path")
	for _, call := range calls {
		refused(t, conn, "SELECT shardgate."+call)
		refused(t, conn, sqlf("SELECT * FROM t WHERE id = %d AND shardgate.%s IS NULL", key, call))
		refused(t, conn, "SELECT * FROM shardgate."+call)
		refused(t, conn, sqlf("UPDATE t SET v = 1 WHERE id = %d AND shardgate.%s IS NULL", key, call))
		refused(t, conn, "DO $$ BEGIN PERFORM shardgate."+call+"; RAISE EXCEPTION 'done' USING ERRCODE = 'SEEN0'; END $$")
		refused(t, conn, "DO $$ BEGIN EXECUTE "+quote("SELECT shardgate."+call)+"; RAISE EXCEPTION 'done' USING ERRCODE = 'SEEN0'; END $$")
	}
	// A view or a function of the role's own has no more rights than the role.
	for _, make := range []string{
		"CREATE VIEW own AS SELECT * FROM shardgate.identity",
		"CREATE FUNCTION own() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT token FROM shardgate.identity; END",
		"CREATE FUNCTION own() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT token FROM shardgate.identity); END'",
		"CREATE FUNCTION own() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN (SELECT token FROM shardgate.identity); END'",
	} {
		if _, err := conn.Exec(t.Context(), make); err == nil {
			refusedOrEmpty(t, conn, "SELECT own()")
			must(t, conn, "DROP FUNCTION own()")
		}
	}
	// Statements that are prepared.
	if _, err := conn.Prepare(t.Context(), "", "SELECT * FROM shardgate.identity"); code(err) != "42501" {
		t.Errorf("Parse: %v", err)
	}
	refused(t, conn, "PREPARE p AS SELECT * FROM shardgate.identity")
	// The catalog is everybody's.
	must(t, conn, "SELECT 'pg_class'::regclass", "SELECT count(*) FROM pg_namespace WHERE nspname = 'shardgate'")
}

// calls are the functions of the schema, with what a client can know.
var calls = []string{
	"fence('sg1:x:s1:y:s2:1.1', repeat('0', 64))",
	"decide_commit('y', '1.1', 's1', repeat('0', 64))",
	"schema_changed('y', repeat('0', 64))",
	"prove('x', 'y')",
	"seal()",
}

// refused checks that a statement fails for want of a right or of support, or
// finds nothing.
func refused(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	tag, err := conn.Exec(t.Context(), sql)
	switch code(err) {
	case "42501", "0A000", "42P01", "42704", "42883", "25P01":
	case "":
		// Row-level security hides the rows from a role that may read every table.
		if !tag.Select() || tag.RowsAffected() > 0 {
			t.Errorf("%s: it was done", sql)
		}
	default:
		t.Errorf("%s: %v", sql, err)
	}
	if conn.PgConn().TxStatus() != 'I' {
		must(t, conn, "ROLLBACK")
	}
}

// refusedOrEmpty checks that a function fails or returns NULL.
func refusedOrEmpty(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	var got *string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err == nil && got != nil {
		t.Errorf("%s: %s", sql, *got)
	}
}

// proofs checks that what a role sees of the gateway's calls is of no use to it.
func proofs(t *testing.T, c *cluster, ids [][]int) {
	conn := c.connect("app")
	// A deferred trigger runs in the midst of the commit, and sees its statement.
	must(t, conn, "CREATE TABLE u (id int PRIMARY KEY, seen text)",
		"CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '%', current_query(); RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER see AFTER INSERT ON u DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()")
	tokens := map[string]bool{}
	for _, s := range c.shards {
		var token string
		if err := pgtest.Conn(t, s.URL("postgres", "postgres")).QueryRow(t.Context(), "SELECT token FROM shardgate.identity").Scan(&token); err != nil {
			t.Fatal(err)
		}
		tokens[token] = true
	}
	must(t, conn, "BEGIN", sqlf("INSERT INTO u VALUES (%d), (%d)", ids[0][0], ids[1][0]), "COMMIT")
	seen := 0
	for _, s := range c.shards {
		log := s.Log()
		for token := range tokens {
			if strings.Contains(log, token) {
				t.Errorf("the log of %s has the token", s.Name())
			}
		}
		for line := range strings.Lines(log) {
			_, call, ok := strings.Cut(line, "WARNING:  SELECT ")
			if !ok {
				continue
			}
			seen++
			call, _, _ = strings.Cut(call, ";")
			// Another backend repeats what was seen: the gateway would have to be
			// on that very one.
			if _, err := pgtest.Conn(t, s.URL("app", "postgres")).Exec(t.Context(), "SELECT "+call); code(err) != "42501" {
				t.Errorf("%s: %v", call, err)
			}
		}
	}
	if seen == 0 {
		t.Error("the trigger has seen no call")
	}
}
