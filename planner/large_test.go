package planner

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// list is n items, made of a format with an item's number in it, with commas between them.
func list(n int, format string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = strings.ReplaceAll(format, "%", strconv.Itoa(i))
	}
	return strings.Join(items, ", ")
}

// TestLargeStatements holds that large statements are planned in a time that a session may
// be busy for: the work grows with the statement, and not with its square or worse.
func TestLargeStatements(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute under the race detector")
	}
	const most = 10 * time.Second // of the processor; each takes a twentieth of that at most
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, sql := range map[string]string{
		"aggregates":      "SELECT " + list(1600, "sum(id + 1)") + " FROM customers",
		"two aggregates":  "SELECT " + list(1600, "max(balance), sum(id)") + " FROM customers",
		"grouped":         "SELECT " + list(1600, "id + 1 AS n") + " FROM customers GROUP BY id + 1 ORDER BY max(name)",
		"rows":            "INSERT INTO customers (id, name) VALUES " + list(30_000, "(%, '%')"),
		"rows of $n":      "INSERT INTO customers (id, name) VALUES " + list(30_000, "($%1, $%2)"),
		"keys of $n":      "SELECT * FROM customers WHERE id IN (" + list(10_000, "$%1") + ")",
		"OR":              "SELECT * FROM customers WHERE id = 0 " + strings.ReplaceAll(list(10_000, "OR id = %"), ",", ""),
		"derived columns": "SELECT max(x) FROM (SELECT " + list(5000, "id AS c%") + ", id AS x FROM customers) s",
		"set operations":  "SELECT id FROM customers" + strings.Repeat(" UNION SELECT max(id) FROM orders", 900),
		"WITH":            "WITH c AS (SELECT 1), " + list(2000, "c% AS (SELECT max(id) AS id FROM customers)") + " SELECT * FROM c1",
		"subqueries":      "SELECT DISTINCT " + list(300, "(SELECT max(name) FROM customers c WHERE c.id = o.customer_id + %)") + " FROM orders o",
		"nested":          "SELECT " + strings.Repeat("(SELECT max(id) FROM customers WHERE name <> 'x' AND id = ", 40) + "1" + strings.Repeat(")", 40) + " FROM customers GROUP BY name",
		"WITH read twice": "WITH c0 AS (SELECT max(id) AS id FROM orders), " + doubled(60) + ", d AS (DELETE FROM orders RETURNING id) UPDATE customers SET name = 'x' WHERE id IN (SELECT id FROM c60)",
	} {
		p := &Planner{Env: *fixtureEnv(), Cached: NewCache(1000)}
		var sc sqltext.Scanner
		began := used(t)
		if _, _, _, err := p.Plan([]byte(sql), &sc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := used(t) - began; d > most {
			t.Errorf("%s: planned in %v", name, d)
		}
	}
}

// used is the processor's time that the thread has had, which another program does not
// lengthen.
func used(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// doubled are n items of WITH, each of which reads the one before twice.
func doubled(n int) string {
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf("c%d AS (SELECT a.id FROM c%d a, c%[2]d b)", i+1, i))
	}
	return strings.Join(items, ", ")
}

// TestWideMerge holds that the keys of a merge are not columns beyond those that PostgreSQL
// lets a SELECT have.
func TestWideMerge(t *testing.T) {
	for _, c := range []struct {
		columns int
		merged  bool
	}{{832, true}, {833, false}} {
		st, err := plan("SELECT "+list(c.columns, "id")+" FROM customers ORDER BY "+list(c.columns, "id + %"), fixtureEnv())
		if err != nil {
			t.Fatal(err)
		}
		if _, merged := st.Node.(*Ordered); merged != c.merged {
			t.Errorf("%d columns and keys: merged is %v", c.columns, merged)
		}
	}
}

// A fault of the planner is one statement's, where somebody is told of it.
func TestPanic(t *testing.T) {
	told := ""
	p := &Planner{Env: Env{SearchPath: []string{"public"}, Panicked: func(value any, stack []byte) { told = fmt.Sprint(value) + string(stack) }}, Cached: NewCache(16)}
	var sc sqltext.Scanner
	_, _, _, err := p.Plan([]byte("SELECT * FROM t"), &sc) // without a schema
	var r *Refusal
	if !errors.As(err, &r) || r.Code != "XX000" || r.Hint == "" {
		t.Errorf("%v", err)
	}
	if !strings.Contains(told, "nil pointer") || !strings.Contains(told, "planner.go") {
		t.Errorf("%q", told)
	}
}
