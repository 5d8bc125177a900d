package planner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// genPredicate draws a condition over the columns of an alias.
func genPredicate(t *rapid.T, alias, key string, depth int) string {
	n := func() string { return strconv.Itoa(rapid.IntRange(-3, 3).Draw(t, "n")) }
	switch k := rapid.IntRange(0, 13).Draw(t, "predicate"); {
	case k == 0 && depth > 0:
		return "NOT (" + genPredicate(t, alias, key, depth-1) + ")"
	case k == 1 && depth > 0:
		return "(" + genPredicate(t, alias, key, depth-1) + " OR " + genPredicate(t, alias, key, depth-1) + ")"
	case k <= 3 && depth > 0:
		return genPredicate(t, alias, key, depth-1) + " AND " + genPredicate(t, alias, key, depth-1)
	case k == 4:
		return fmt.Sprintf("%s.%s IN (%s, %s, $%d)", alias, key, n(), n(), rapid.IntRange(1, 3).Draw(t, "p"))
	case k == 5:
		return fmt.Sprintf("%s.%s = ANY ('{%s,%s}')", alias, key, n(), n())
	case k == 6:
		return fmt.Sprintf("%s.%s = $%d::int8", alias, key, rapid.IntRange(1, 3).Draw(t, "p"))
	case k == 7:
		return fmt.Sprintf("%s.note = '%s'", alias, rapid.SampledFrom([]string{"", "a", "''", "now"}).Draw(t, "s"))
	case k == 8 && depth > 0:
		return "EXISTS (SELECT 1 FROM orders z WHERE z.customer_id = " + alias + "." + key + " AND " + genPredicate(t, "z", "customer_id", depth-1) + ")"
	case k == 9:
		return fmt.Sprintf("%s.%s = - %s", alias, key, n())
	case k == 10:
		return fmt.Sprintf("%s.at > '%s'", alias, rapid.SampledFrom([]string{"now", "2024-01-01"}).Draw(t, "date"))
	case k == 11:
		return fmt.Sprintf("%s.%s = %s.5", alias, key, n())
	default:
		return fmt.Sprintf("%s.%s = %s", alias, key, n())
	}
}

func genStatement(t *rapid.T) string {
	where := func(alias string) string { return " WHERE " + genPredicate(t, alias, "customer_id", 2) }
	table := rapid.SampledFrom([]string{"orders", "tickets", "countries", "settings", "scratch"}).Draw(t, "table")
	switch rapid.IntRange(0, 4).Draw(t, "statement") {
	case 0:
		return "UPDATE " + table + " x SET " + rapid.SampledFrom([]string{"note = 'a'", "customer_id = 3", "at = DEFAULT", "at = 'today'"}).Draw(t, "set") + where("x")
	case 1:
		return "DELETE FROM " + table + " x" + where("x")
	case 2:
		var rows []string
		for range rapid.IntRange(1, 4).Draw(t, "rows") {
			rows = append(rows, rapid.SampledFrom([]string{"(1, 2)", "(-1, 2)", "('5', 1)", "($1, $2)", "(- -7, 1)", "(NULL, 1)", "(1.5, 1)", "(1, 2, 3)"}).Draw(t, "row"))
		}
		return "INSERT INTO " + table + " (customer_id, n) VALUES " + strings.Join(rows, ", ")
	}
	from := table + " x"
	if rapid.Bool().Draw(t, "join") {
		join := rapid.SampledFrom([]string{"JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"}).Draw(t, "kind")
		on := rapid.SampledFrom([]string{"ON x.customer_id = y.customer_id", "USING (customer_id)", "ON x.customer_id = y.customer_id AND y.customer_id = 2", "ON true"}).Draw(t, "on")
		from += " " + join + " orders y " + on
	}
	targets := rapid.SampledFrom([]string{"*", "count(*)", "max(x.n)", "(SELECT max(x.n))", "set_config('a.b', 'c', false)"}).Draw(t, "targets")
	return "SELECT " + targets + " FROM " + from + where("x") + rapid.SampledFrom([]string{"", "", " LIMIT 1", " ORDER BY 1", " FOR UPDATE"}).Draw(t, "tail")
}

// shown is what a client would notice of a plan or a refusal.
func shown(st *Statement, err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Render()
	}
	if err != nil {
		return err.Error()
	}
	return st.String()
}

// otherLiterals gives a text the literals of its kinds that another has.
func otherLiterals(t *rapid.T, text string) string {
	var sc sqltext.Scanner
	_, lits, err := sc.Normalize([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out, from := "", 0
	for _, l := range lits {
		out += text[from:l.Start]
		switch l.Kind {
		case sqltext.Integer:
			out += rapid.SampledFrom([]string{"0", "1", "2", "12", "3000000000", "99999999999999999999"}).Draw(t, "integer")
		case sqltext.String:
			out += rapid.SampledFrom([]string{"'now'", "'5'", "'search_path'", "''"}).Draw(t, "string")
		default:
			out += text[l.Start:l.End]
		}
		from = int(l.End)
	}
	return out + text[from:]
}

// goldenStatements are the statements of the golden files.
func goldenStatements(t testing.TB) (out []string) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(b), "\n")
		for i, l := range lines[1:] {
			if strings.HasPrefix(lines[i], "plan") {
				out = append(out, l)
			}
		}
	}
	return out
}

// TestCachedPlan: planning is deterministic, never panics, and a plan found in
// the cache is the one that would be made for the text.
func TestCachedPlan(t *testing.T) {
	env := fixtureEnv()
	golden := goldenStatements(t)
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		if rapid.Bool().Draw(t, "golden") {
			text = rapid.SampledFrom(golden).Draw(t, "text")
		} else {
			text = genStatement(t)
		}
		first := shown(plan(text, env))
		if again := shown(plan(text, env)); again != first {
			t.Fatalf("%s\nplanned as\n%s\nthen as\n%s", text, first, again)
		}
		p := &Planner{Env: *env, Cached: NewCache(1000)}
		var sc sqltext.Scanner
		for i := range 3 {
			if _, err := Parse(text, sqltext.GuardLimits{}); err != nil {
				break // a literal that the grammar refuses where it stands: so will a shard
			}
			st, _, _, err := p.Plan([]byte(text), &sc)
			if got, want := shown(st, err), shown(plan(text, env)); got != want {
				t.Fatalf("text %d: %s\nplanned by the cache as\n%s\nafresh as\n%s", i, text, got, want)
			}
			text = otherLiterals(t, text)
		}
	})
}

// TestCachedPositions: a number that stands for a column, and a value in an expression
// that is looked for elsewhere in the text, are not what the cache may take for another.
func TestCachedPositions(t *testing.T) {
	env := fixtureEnv()
	p := &Planner{Env: *env, Cached: NewCache(1000)}
	var sc sqltext.Scanner
	for _, text := range []string{
		"SELECT id, name FROM customers ORDER BY 1 LIMIT 5",
		"SELECT id, name FROM customers ORDER BY 2 LIMIT 5",
		"SELECT name, country, count(*) FROM customers GROUP BY 1, 2",
		"SELECT name, country, count(*) FROM customers GROUP BY 1, 1",
		"SELECT balance / 10, count(*) FROM customers GROUP BY balance / 10",
		"SELECT balance / 20, count(*) FROM customers GROUP BY balance / 10",
	} {
		st, lits, _, err := p.Plan([]byte(text), &sc)
		if err != nil {
			t.Fatal(text, err)
		}
		want, err := plan(text, env)
		if err != nil {
			t.Fatal(text, err)
		}
		if got, want := st.Render([]byte(text), lits), want.Render([]byte(text), lits); got != want {
			t.Errorf("%s\nplanned by the cache as\n%s\nafresh as\n%s", text, got, want)
		}
	}
}
