package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A view is read with its owner's rights where a shard runs it. Where the rows that it
// reads are brought together, the role's own decide, and never more is shown than
// PostgreSQL would show.
func TestViewRights(t *testing.T) {
	c := newCluster(t, 2, keyed)
	c.onShards("CREATE ROLE app LOGIN")
	c.serve()
	owner, app := c.connect("postgres"), c.connect("app")
	must(t, owner, "CREATE TABLE t (id int PRIMARY KEY, v int, secret text)")
	for _, row := range []string{"(1, 10, 'a')", "(2, 20, 'b')", "(3, 30, 'c')", "(4, 40, 'd')", "(5, 50, 'e')"} {
		must(t, owner, "INSERT INTO t VALUES "+row)
	}
	must(t, owner, "CREATE VIEW first AS SELECT v FROM t WHERE id = 1", "CREATE VIEW every AS SELECT id, v FROM t",
		"CREATE VIEW barrier WITH (security_barrier) AS SELECT id, v FROM t WHERE id < 4",
		"CREATE VIEW invoker WITH (security_invoker = on) AS SELECT id, v FROM t",
		"CREATE VIEW nested AS SELECT v FROM invoker",
		"GRANT SELECT ON first, barrier, invoker, nested TO app")
	const total = "SELECT sum(v) FROM "

	wantSum(t, app, total+"first", 10)
	wantError(t, app, total+"every", "42501", "permission denied for view every", "")
	must(t, owner, "GRANT SELECT ON every TO app")
	wantError(t, app, total+"every", "42501", "permission denied for table t", "grant the role the right to read the view's tables as well")
	wantError(t, app, "EXPLAIN "+total+"every", "42501", "permission denied for table t", "grant the role the right to read the view's tables as well")
	wantError(t, app, "EXPLAIN ANALYZE "+total+"every", "42501", "permission denied for table t", "grant the role the right to read the view's tables as well")
	wantError(t, app, "CREATE TEMP TABLE sums AS "+total+"every", "42501", "permission denied for table t", "grant the role the right to read the view's tables as well")
	wantError(t, app, total+"invoker", "42501", "permission denied for table t", "")
	must(t, owner, "GRANT SELECT (id, v) ON t TO app")
	wantSum(t, app, total+"every", 150)
	wantSum(t, app, total+"invoker", 150)
	wantSum(t, app, total+"nested", 150)
	wantError(t, app, total+"barrier", "0A000", "it is a security barrier", "")

	// Row level security: the owner sees all, the role what the policy lets it see.
	must(t, owner, "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t USING (v <= 30)")
	wantSum(t, app, total+"first", 10)
	wantError(t, app, total+"every", "0A000", "row level security gives its owner's rows", "security_invoker")
	wantSum(t, app, total+"invoker", 60)
	wantSum(t, app, total+"nested", 60)
	wantSum(t, app, total+"t", 60)
	must(t, owner, "ALTER VIEW every SET (security_invoker)")
	wantSum(t, app, total+"every", 60)
	must(t, owner, "ALTER TABLE t DISABLE ROW LEVEL SECURITY")
	wantSum(t, app, total+"every", 150)
	must(t, owner, "REVOKE SELECT ON every FROM app")
	wantError(t, app, total+"every", "42501", "permission denied for view every", "")
}

// wantSum checks a statement's one number, by the simple and the extended protocol.
func wantSum(t *testing.T, conn *pgx.Conn, sql string, want int64) {
	t.Helper()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeDescribeExec} {
		var got int64
		if err := conn.QueryRow(t.Context(), sql, mode).Scan(&got); err != nil || got != want {
			t.Errorf("%s in mode %v: %d, %v; want %d", sql, mode, got, err, want)
		}
	}
}

// wantError checks what a statement fails with, by both protocols.
func wantError(t *testing.T, conn *pgx.Conn, sql, code, message, hint string) {
	t.Helper()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeDescribeExec} {
		_, err := conn.Exec(t.Context(), sql, mode)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, message) || !strings.Contains(e.Hint, hint) {
			t.Errorf("%s in mode %v: %#v", sql, mode, err)
		}
	}
}
