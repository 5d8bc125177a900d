package sqltext

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"
)

// The tests of this file hold the limits of Guard against what pg_query.Parse breaks at. A stack that
// overflows in C ends the process, so parsing happens in a child.

var breaking = flag.Bool("breaking", false, "find by experiment what pg_query.Parse breaks at")

// parseChildVariable makes the test binary a process that parses its standard input.
const parseChildVariable = "SQLTEXT_PARSE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(parseChildVariable) != "" {
		os.Exit(parseInput())
	}
	// The default of rapid, 100, is for slower properties; the command line still overrides this.
	if err := flag.Set("rapid.checks", "3000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// parseInput parses each text of the standard input, which NULs separate, and writes each one's error or
// nothing, with a NUL behind.
func parseInput() int {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for text := range strings.SplitSeq(string(input), "\x00") {
		if _, err := pg_query.Parse(text); err != nil {
			fmt.Print(err)
		}
		fmt.Print("\x00")
	}
	return 0
}

// parseInChild says what became of texts that a process with a stack of the size given parsed, one after
// the other: "" if it did, else the parser's error. If the process ended before, the last says how.
func parseInChild(t testing.TB, stackKilobytes int, texts ...string) []string {
	t.Helper()
	cmd := exec.Command("sh", "-c", fmt.Sprintf("ulimit -s %d && exec %q", stackKilobytes, os.Args[0]))
	cmd.Env = append(os.Environ(), parseChildVariable+"=1")
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\x00"))
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	outcomes := strings.Split(out.String(), "\x00")
	last := len(outcomes) - 1
	if err == nil {
		return outcomes[:last]
	}
	outcomes[last] = "crash: " + err.Error()
	return outcomes
}

// form is a statement with n times left, then middle, then n times right, between first and last.
type form struct{ name, first, left, middle, right, last string }

func (f form) text(n int) string {
	return f.first + strings.Repeat(f.left, n) + f.middle + strings.Repeat(f.right, n) + f.last
}

func chain(name, first, link string) form { return form{name: name, first: first, right: link} }

func nest(name, left, middle, right string) form {
	return form{name: name, first: "SELECT ", left: left, middle: middle, right: right}
}

// deepForms make the syntax tree, or the parser's stack, as high as n says: every production of gram.y
// that refers to itself without a list in between.
var deepForms = []form{
	chain("plus", "SELECT 1", "+1"),
	chain("concat", "SELECT a", " || 'x'"),
	chain("power", "SELECT 1", "^1"),
	chain("other operator", "SELECT 1", " @ 1"),
	chain("qualified operator", "SELECT 1", " OPERATOR(pg_catalog.+) 1"),
	chain("operator any", "SELECT 1", " = ANY (a) IS NULL"),
	chain("cast", "SELECT 1", "::int"),
	chain("cast to array", "SELECT 1", "::int[]"),
	chain("collate", "SELECT a", ` COLLATE "C"`),
	chain("at time zone", "SELECT a", " AT TIME ZONE 'x'"),
	chain("at local", "SELECT a", " AT LOCAL"),
	chain("is null", "SELECT a", " IS NULL"),
	chain("isnull", "SELECT a", " ISNULL"),
	chain("notnull", "SELECT a", " NOTNULL"),
	chain("is true", "SELECT a", " IS NOT TRUE"),
	chain("is unknown", "SELECT a", " IS UNKNOWN"),
	chain("is json", "SELECT a", " IS JSON"),
	chain("is document", "SELECT a", " IS DOCUMENT"),
	chain("is normalized", "SELECT a", " IS NFC NORMALIZED"),
	chain("in", "SELECT a", " IN (1) IS NULL"),
	chain("not in", "SELECT a", " NOT IN (1) IS NULL"),
	chain("in subquery", "SELECT a", " IN (SELECT 1) IS NULL"),
	chain("like", "SELECT a", " LIKE 'x' ESCAPE 'y' IS NULL"),
	chain("ilike", "SELECT a", " NOT ILIKE 'x' IS NULL"),
	chain("similar", "SELECT a", " SIMILAR TO 'x' IS NULL"),
	chain("between", "SELECT a", " BETWEEN 1 AND 2 IS NULL"),
	chain("between symmetric", "SELECT a", " NOT BETWEEN SYMMETRIC 1 AND 2 IS NULL"),
	chain("subscript", "SELECT a", "[1]"),
	chain("slice", "SELECT (a)", "[1:2]"),
	chain("field", "SELECT (a)", ".b"),
	chain("name", "SELECT a", ".b"),
	nest("minus", "- ", "1", ""),
	nest("plus before", "+ ", "a", ""),
	nest("operator before", "@ ", "1", ""),
	nest("qualified operator before", "OPERATOR(pg_catalog.-) ", "1", ""),
	nest("not", "NOT ", "true", ""),
	nest("parenthesis", "(", "1", ")"),
	nest("parenthesis left", "(", "1", " + 1)"),
	nest("parenthesis right", "(1 + ", "1", ")"),
	nest("parenthesis and chain", "(", "1", " + 1 + 1 + 1 + 1 + 1)"),
	nest("and or", "(a OR b AND ", "c", ")"),
	nest("or and", "(", "c", " OR b AND d)"),
	nest("or left", "(", "c", " OR d) AND b"),
	nest("row", "(1, ", "1", ")"),
	nest("row keyword", "ROW(", "1", ")"),
	nest("function", "f(", "1", ")"),
	nest("function of star", "f(b => ", "1", ")"),
	nest("variadic", "f(VARIADIC ", "1", ")"),
	nest("order of aggregate", "f(a ORDER BY ", "1", ")"),
	nest("filter", "f(a) FILTER (WHERE ", "b", ")"),
	nest("within group", "f(a) WITHIN GROUP (ORDER BY ", "b", ")"),
	nest("over", "f(a) OVER (PARTITION BY ", "b", ")"),
	nest("over order", "f(a) OVER (ORDER BY ", "b", ")"),
	nest("frame", "f(a) OVER (ROWS BETWEEN ", "b", " PRECEDING AND CURRENT ROW)"),
	nest("array", "ARRAY[", "1", "]"),
	{"array of arrays", "SELECT ARRAY", "[", "1", "]", ""},
	nest("subscript of subscript", "a[", "1", "]"),
	nest("case", "CASE WHEN ", "a", " THEN 1 END"),
	nest("case then", "CASE WHEN a THEN ", "a", " END"),
	nest("case else", "CASE WHEN a THEN 1 ELSE ", "a", " END"),
	nest("case argument", "CASE ", "a", " WHEN 1 THEN 2 END"),
	nest("coalesce", "COALESCE(a, ", "1", ")"),
	nest("greatest", "GREATEST(", "1", ")"),
	nest("cast function", "CAST(", "1", " AS int)"),
	nest("extract", "EXTRACT(year FROM ", "1", ")"),
	nest("substring", "SUBSTRING(", "1", " FROM 1 FOR 2)"),
	nest("type modifier", "CAST(1 AS t(", "1", "))"),
	nest("subquery", "(SELECT ", "1", ")"),
	nest("subquery with or and", "(SELECT a OR b AND ", "1", ")"),
	nest("exists", "EXISTS (SELECT 1 WHERE ", "a", ")"),
	nest("array subquery", "ARRAY(SELECT ", "1", ")"),
	nest("in nested", "a IN (SELECT ", "1", ")"),
	nest("any", "a = ANY (SELECT ", "1", ")"),
	nest("values", "(VALUES (", "1", "))"),
	nest("from", "* FROM (SELECT ", "1", ") a"),
	nest("lateral", "* FROM LATERAL (SELECT ", "1", ") a"),
	nest("rows from", "* FROM ROWS FROM (f((SELECT ", "1", ")))"),
	nest("with", "* FROM (WITH a AS (SELECT ", "1", ") SELECT 1) a"),
	nest("with first", "(WITH a AS (SELECT ", "1", ") SELECT 1)"),
	nest("limit", "(SELECT 1 LIMIT ", "1", ")"),
	nest("order", "(SELECT 1 ORDER BY ", "1", ")"),
	nest("grouping sets", "(SELECT 1 GROUP BY GROUPING SETS ((", "1", ")))"),
	nest("window", "(SELECT 1 WINDOW w AS (ORDER BY ", "1", "))"),
	nest("json object", "JSON_OBJECT('a' : ", "1", ")"),
	nest("json array", "JSON_ARRAY(", "1", ")"),
	nest("json array subquery", "JSON_ARRAY(SELECT ", "1", ")"),
	nest("json aggregate", "JSON_OBJECTAGG('a' : ", "1", ")"),
	nest("json value", "JSON_VALUE(", "a", ", '$')"),
	nest("json default", "JSON_VALUE(a, '$' DEFAULT ", "a", " ON EMPTY)"),
	nest("json passing", "JSON_QUERY(a, '$' PASSING ", "a", " AS b)"),
	nest("json table", "* FROM JSON_TABLE((SELECT ", "1", "), '$' COLUMNS (a int)) a"),
	nest("xml element", "XMLELEMENT(NAME a, ", "1", ")"),
	nest("xml attributes", "XMLELEMENT(NAME a, XMLATTRIBUTES(", "1", " AS b))"),
	nest("xml table", "* FROM XMLTABLE('a' PASSING (SELECT ", "1", ") COLUMNS a int) b"),
	nest("tablesample", "* FROM a TABLESAMPLE b((SELECT ", "1", "))"),
	{"nested path", "SELECT * FROM JSON_TABLE(a, '$' COLUMNS (", "NESTED PATH '$' COLUMNS (", "b int", ")", ")) c"},
	{"grouping set", "SELECT 1 GROUP BY ", "GROUPING SETS (", "a", ")", ""},
	{"parenthesised select", "", "(", "SELECT 1", ")", ""},
	{"parenthesised union", "", "(", "SELECT 1", " UNION SELECT 1)", ""},
	{"union right", "", "SELECT 1 UNION (", "SELECT 1", ")", ""},
	{"parenthesised table", "SELECT * FROM ", "(", "a", " JOIN b ON true)", ""},
	{"parenthesised join", "SELECT * FROM ", "(", "a CROSS JOIN b", ") CROSS JOIN b", ""},
	{"join right", "SELECT * FROM ", "a JOIN ", "b", " ON true", ""},
	{"join parenthesised right", "SELECT * FROM ", "a JOIN (", "b CROSS JOIN c", ") ON true", ""},
	{"with nested", "", "WITH a AS (", "SELECT 1", ") SELECT 1", ""},
	{"insert nested", "", "WITH a AS (", "INSERT INTO b VALUES (1) RETURNING 1", ") INSERT INTO c SELECT 1 RETURNING 1", ""},
	{"default", "CREATE TABLE a (b int DEFAULT ", "(", "1", " + 1)", ")"},
	{"check", "ALTER TABLE a ADD CHECK (", "(", "b", " + 1)", " > 0)"},
	{"create rule", "CREATE RULE a AS ON INSERT TO b DO ALSO SELECT ", "(SELECT ", "1", ")", ""},
	{"create view", "CREATE VIEW a AS SELECT ", "(SELECT ", "1", ")", ""},
	{"create function", "CREATE FUNCTION a() RETURNS int BEGIN ATOMIC SELECT ", "(SELECT ", "1", ")", "; END"},
	{"merge", "MERGE INTO a USING b ON ", "(SELECT ", "true", ")", " WHEN MATCHED THEN DELETE"},
	{"explain", "EXPLAIN DECLARE a CURSOR FOR SELECT ", "(SELECT ", "1", ")", ""},
	chain("union", "SELECT 1", " UNION SELECT 1"),
	chain("union of lists", "SELECT 1, 2", " UNION ALL SELECT 1, 2"),
	chain("intersect", "SELECT 1", " INTERSECT SELECT 1"),
	chain("except", "VALUES (1)", " EXCEPT ALL VALUES (1)"),
	chain("table", "TABLE a", " UNION TABLE a"),
	chain("cross join", "SELECT * FROM a", " CROSS JOIN b"),
	chain("natural join", "SELECT * FROM a", " NATURAL LEFT JOIN b"),
	chain("join on", "SELECT * FROM a", " JOIN b ON a.x = b.x AND a.y = b.y"),
	chain("join using", "SELECT * FROM a", " FULL JOIN b USING (x, y)"),
}

// flatForms are lists: as long as one likes.
var flatForms = []form{
	{"rows", "INSERT INTO a (b, c, d) VALUES (1, 'x', 1.5)", "", "", ", (-2, 'y' || 'z', '2024-01-01'::date)", ""},
	{"in list", "SELECT * FROM a WHERE b IN (1", "", "", ", 12345", ")"},
	{"in list of strings", "SELECT * FROM a WHERE b IN ('x'", "", "", ", 'some string'", ")"},
	{"in list of rows", "SELECT * FROM a WHERE (b, c) IN ((1, 2)", "", "", ", (3, 4)", ")"},
	{"or", "SELECT * FROM a WHERE b = 1", "", "", " OR b = 2", ""},
	{"or of and", "SELECT * FROM a WHERE b = 1", "", "", " OR b = 2 AND c BETWEEN 3 AND 4", ""},
	{"or of groups", "SELECT * FROM a WHERE (b = 1)", "", "", " OR (b = 2 AND c = 3)", ""},
	{"and", "SELECT * FROM a WHERE b <> 1", "", "", " AND NOT b = 2", ""},
	{"columns", "SELECT a", "", "", ", b + 1 AS c", ""},
	{"case", "SELECT CASE WHEN a = 1 THEN 'b'", "", "", " WHEN a = 2 THEN 'c'", " END"},
	{"statements", "SELECT 1", "", "", "; UPDATE a SET b = b + 1 WHERE c = 2", ""},
	{"array", "SELECT ARRAY[1", "", "", ", 2", "]"},
	{"arguments", "SELECT f(1", "", "", ", -2", ")"},
	{"merge", "MERGE INTO a USING b ON a.c = b.c", "", "", " WHEN MATCHED AND a.d = 1 THEN UPDATE SET d = 2", ""},
	{"table columns", "CREATE TABLE a (b int", "", "", ", c numeric(10, 2) DEFAULT 1 + 1", ")"},
	{"ctes", "WITH a AS (SELECT 1)", "", "", ", b AS (SELECT 1 + 1)", " SELECT 1"},
}

// maxAccepted gives the highest n up to most at which Guard lets the form through.
func maxAccepted(f form, most int) int {
	return sort.Search(most, func(n int) bool { return Guard([]byte(f.text(n+1)), GuardLimits{}) != nil })
}

// TestBreakingPoints reports at which n each form breaks pg_query.Parse, and how.
func TestBreakingPoints(t *testing.T) {
	if !*breaking {
		t.Skip("run with -breaking")
	}
	const most = 100_000
	for _, f := range deepForms {
		if outcome := parseInChild(t, 8192, f.text(1))[0]; outcome != "" {
			t.Errorf("%s: n=1 %q: %s", f.name, f.text(1), outcome)
			continue
		}
		report := ""
		for _, kilobytes := range []int{8192, 1024} {
			n := sort.Search(most, func(n int) bool { return parseInChild(t, kilobytes, f.text(n+1))[0] != "" })
			outcome := parseInChild(t, kilobytes, f.text(n+1))[0]
			report += fmt.Sprintf(" | %5d KiB: ok to %6d, then %.60s", kilobytes, n, outcome)
		}
		fmt.Printf("%-26s accepted %5d%s\n", f.name, maxAccepted(f, most), report)
	}
}

// TestGuardMargin lets pg_query.Parse have four times the height that Guard lets through, of each form,
// on the stack that threads have by default, and what Guard lets through on an eighth of that.
func TestGuardMargin(t *testing.T) {
	const margin = 4
	var high, accepted []string
	for _, f := range deepForms {
		n := maxAccepted(f, 2*DefaultGuardHeight)
		if n < DefaultGuardHeight/24 {
			t.Errorf("%s: only %d are let through", f.name, n)
		}
		high = append(high, f.text(margin*n))
		accepted = append(accepted, f.text(n))
	}
	for _, test := range []struct {
		stackKilobytes int
		texts          []string
	}{{8192, high}, {1024, accepted}} {
		for i, outcome := range parseInChild(t, test.stackKilobytes, test.texts...) {
			if outcome != "" {
				t.Errorf("%s, %d bytes, on %d KiB: %s",
					deepForms[i].name, len(test.texts[i]), test.stackKilobytes, outcome)
			}
		}
	}
}

func TestGuardTakesLists(t *testing.T) {
	for _, f := range flatForms {
		if err := Guard([]byte(f.text(100_000)), GuardLimits{}); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		checkHeight(t, f.text(2_000))
	}
	if testing.Short() {
		return
	}
	for i, outcome := range parseInChild(t, 8192, flatForms[0].text(100_000), flatForms[1].text(100_000)) {
		if outcome != "" {
			t.Errorf("%s: %s", flatForms[i].name, outcome)
		}
	}
}

func TestGuardLimits(t *testing.T) {
	for _, test := range []struct {
		text   string
		limits GuardLimits
		want   error
	}{
		{"SELECT 1", GuardLimits{Bytes: 8}, nil},
		{"SELECT 11", GuardLimits{Bytes: 8}, ErrTooLong},
		{"SELECT 1", GuardLimits{Tokens: 2}, nil},
		{"SELECT 1;", GuardLimits{Tokens: 2}, ErrTooManyTokens},
		{"SELECT ((1))", GuardLimits{Nesting: 2}, nil},
		{"SELECT (f(1), (((1))))", GuardLimits{Nesting: 3}, ErrTooDeep},
		{"SELECT a[CASE WHEN (1) THEN 1 END]", GuardLimits{Nesting: 2}, ErrTooDeep},
		{"SELECT 1+1, 1+1", GuardLimits{Height: 1}, nil},
		{"SELECT 1+1+1", GuardLimits{Height: 1}, ErrTooComplex},
		{"SELECT 1+1 UNION SELECT 1+1", GuardLimits{Height: 2}, nil},
		{"SELECT 1+1 UNION SELECT 1 UNION SELECT 1+1", GuardLimits{Height: 2}, ErrTooComplex},
		{"SELECT 1 UNION SELECT 1; SELECT 1 UNION SELECT 1", GuardLimits{Height: 1}, nil},
		{"SELECT a OR b AND c OR NOT d", GuardLimits{Height: 1}, nil},
		{"SELECT a BETWEEN 1 AND 2 AND b BETWEEN 1 AND 2", GuardLimits{Height: 1}, nil},
		{"SELECT x.or + x.or + x.and + x.case", GuardLimits{Height: 3, Nesting: 1}, nil},
		{"SELECT x.or + x.or + x.and + x.case", GuardLimits{Height: 2}, ErrTooComplex},
		{"SELECT 1 AS case, 2 AS case, 3 AS case", GuardLimits{Nesting: 1}, nil},
		{"SELECT (1 case), (2 case); SELECT 1 case; SELECT 1 case", GuardLimits{Nesting: 2}, nil},
		{"SELECT 'x', 1 + 'open", GuardLimits{}, nil},
		{")))]]]END END", GuardLimits{}, nil},
		{"SELECT '((((', \"((((\", $$((($$ /* (((( */ -- ((((", GuardLimits{Nesting: 1}, nil},
	} {
		if err := Guard([]byte(test.text), test.limits); err != test.want {
			t.Errorf("%q with %+v: %v, want %v", test.text, test.limits, err, test.want)
		}
	}
	if err := Guard([]byte(strings.Repeat("(", 1000)), GuardLimits{Nesting: 10_000}); err != ErrTooDeep {
		t.Errorf("beyond MaxNesting: %v", err)
	}
}

// statementHeight is what statements put between the root of the parser's answer and an expression, OR
// and AND on the way included, in messages.
const statementHeight = 24

// checkHeight holds the height of a text's syntax tree, as nested messages, against Guard's bound of it:
// two messages for each unit. It returns whether it could: Guard and the parser take the text.
func checkHeight(t fataler, text string) bool {
	t.Helper()
	var g guard
	if g.run([]byte(text), GuardLimits{}.withDefaults()) != nil {
		return false
	}
	tree, err := pg_query.Parse(text)
	if err != nil {
		for _, message := range []string{"memory exhausted", "recursion"} {
			if strings.Contains(err.Error(), message) {
				t.Fatalf("%.2000q: %v", text, err)
			}
		}
		return false
	}
	if got, bound := messageHeight(tree.ProtoReflect()), 2*int(max(g.highest, g.levels[0].height()))+statementHeight; got > bound {
		t.Fatalf("%.2000q is %d messages high, and the guard says at most %d", text, got, bound)
	}
	return true
}

func messageHeight(m protoreflect.Message) int {
	height := 0
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				height = max(height, messageHeight(value.List().Get(i).Message()))
			}
		default:
			height = max(height, messageHeight(value.Message()))
		}
		return true
	})
	return height + 1
}

func TestGuardBoundsHeightOfForms(t *testing.T) {
	for _, f := range deepForms {
		for _, n := range []int{0, 1, 2, 40} {
			if !checkHeight(t, f.text(n)) && n == 1 {
				t.Errorf("%s: no tree of %q", f.name, f.text(n))
			}
		}
	}
}

func TestGuardBoundsHeightOfCorpus(t *testing.T) {
	for path, text := range corpus(t) {
		checkHeight(t, text)
		if !strings.HasPrefix(path, "testdata") {
			continue
		}
		for _, statement := range statements(text) {
			if !checkHeight(t, statement) && path != "testdata/lexical.sql" {
				_, err := pg_query.Parse(statement)
				t.Errorf("%s: %.100q: guard %v, parser %v", path, statement, Guard([]byte(statement), GuardLimits{}), err)
			}
		}
	}
}

// drawExpression draws an expression made of the forms, in each other and side by side.
func drawExpression(t *rapid.T, size int) string {
	if size == 0 {
		return rapid.SampledFrom([]string{"1", "a", "'x'", "(a)", "b.c", "f(1, a)", "true", "x.and", "NULL"}).Draw(t, "atom")
	}
	switch rapid.IntRange(0, 3).Draw(t, "shape") {
	case 0:
		operator := rapid.SampledFrom([]string{
			" + ", " || ", " = ", " AND ", " OR ", ", ", " * ", " IN (1, 2) AND ", " IS NULL OR ", " BETWEEN 1 AND ",
			" OPERATOR(+) ", " UNION SELECT ", " AS case, ", " end, ", " FROM t JOIN u ON ",
		}).Draw(t, "operator")
		left := rapid.IntRange(0, size-1).Draw(t, "left")
		return drawExpression(t, left) + operator + drawExpression(t, size-1-left)
	default:
		f := deepForms[rapid.IntRange(0, len(deepForms)-1).Draw(t, "form")]
		if !strings.HasPrefix(f.first, "SELECT ") {
			f = form{left: "(", right: ")"}
		}
		n := rapid.SampledFrom([]int{1, 1, 1, 2, 30}).Draw(t, "n")
		inner := drawExpression(t, size-1)
		if strings.HasPrefix(f.left, "* ") {
			return "(SELECT " + f.left + inner + f.right + ")"
		}
		return strings.Repeat(f.left, n) + inner + strings.Repeat(f.right, n)
	}
}

func TestGuardBoundsHeightOfRandomTexts(t *testing.T) {
	checked, drawn := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		drawn++
		if checkHeight(t, "SELECT "+drawExpression(t, rapid.IntRange(0, 12).Draw(t, "size"))) {
			checked++
		}
	})
	if checked*20 < drawn {
		t.Errorf("only %d of %d texts were accepted by the parser", checked, drawn)
	}
}

// FuzzGuard lets the parser have whatever Guard lets through. A crash is a failure.
func FuzzGuard(f *testing.F) {
	for _, form := range slices.Concat(deepForms, flatForms) {
		f.Add(form.text(3))
	}
	for path, text := range corpus(f) {
		if strings.HasPrefix(path, "testdata") {
			for _, statement := range statements(text) {
				f.Add(statement)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) { checkHeight(t, text) })
}
