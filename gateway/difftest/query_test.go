package difftest

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// query is a SELECT, VALUES, TABLE or set operation.
type query struct {
	sql     string
	columns []column // what it gives; sql is how ORDER BY may refer to it
	rows    int      // about
	tail    bool     // it ends with ORDER BY or LIMIT
	listed  bool     // see statement
	sorted  []int
	// scope is what ORDER BY may refer to besides the columns; nil where only those.
	scope *scope
	// prefix is what an ORDER BY has to begin with, because of DISTINCT ON.
	prefix []string
	// lockable says that FOR UPDATE may follow, unsorted that ORDER BY may not.
	lockable, unsorted bool
}

// draw draws a statement.
func draw(t *rapid.T, tables []*table) *statement {
	g := &generator{t: t, tables: tables, used: map[string]bool{}}
	g.nested = pick(g, 0, 0, 1, 2, 4)
	with := ""
	if g.canNest() && g.oneIn(4) {
		with = part(g, g.with)
	}
	q := part(g, g.top)
	st := &statement{text: with + q.sql, listed: q.listed, sorted: q.sorted}
	for i, c := range q.columns {
		if c.kind == "approx" {
			st.approximate = append(st.approximate, i)
		}
	}
	st.keepUsed(g.params)
	if g.oneIn(4) {
		st.other = st.variant(g)
	}
	st.inBlock = g.oneIn(8)
	if g.oneIn(24) {
		st.portion = 1 + g.below(12)
	}
	return st
}

// top draws the outermost query.
func (g *generator) top() *query {
	switch g.below(12) {
	case 10, 11:
		return g.ordered(g.setOperation(nil, nil))
	case 9:
		return g.ordered(g.values(nil))
	}
	return g.ordered(g.selection(nil, nil))
}

// canNest says whether another subquery may be drawn.
func (g *generator) canNest() bool { return g.depth < 2 && g.nested > 0 }

// subquery draws a query inside another one that gives these kinds, or any. limits
// says that it may have ORDER BY and LIMIT.
func (g *generator) subquery(outer *scope, want []kind, limits bool) *query {
	return part(g, func() *query { return g.nestedQuery(outer, want, limits) })
}

func (g *generator) nestedQuery(outer *scope, want []kind, limits bool) *query {
	g.depth++
	g.nested--
	defer func() { g.depth-- }()
	with := ""
	if g.oneIn(16) && g.canNest() {
		defer func(before []*relation) { g.ctes = before }(g.ctes)
		with = g.with()
	}
	var q *query
	switch form := g.below(10); {
	case form == 9 && g.canNest():
		q = g.setOperation(outer, want)
	case form == 8:
		q = g.values(want)
	default:
		q = g.selection(outer, want)
	}
	if limits && g.oneIn(4) {
		q = g.ordered(q)
	}
	q.sql = with + q.sql
	return q
}

// selection draws a SELECT without ORDER BY that gives these kinds, or any.
func (g *generator) selection(outer *scope, want []kind) *query {
	if len(want) == 0 && !g.noViews && g.oneIn(40) {
		return g.whole()
	}
	from, s := g.from(outer)
	unqualified := len(s.relations) == 1 && s.relations[0].table != nil && g.oneIn(4)
	if unqualified {
		s.relations[0].unqualified()
	}
	defer func(before []string) { g.shadows = before }(g.shadows)
	g.shadows = nil
	for around := s; around != nil && !unqualified && !s.merged; around = around.outer {
		for _, c := range around.columns("") {
			if strings.HasSuffix(c.sql, "."+c.name) {
				g.shadows = append(g.shadows, c.name)
			}
		}
	}
	where := g.where(s)
	switch g.below(8) {
	case 5, 6, 7:
		return g.grouped(from, where, s, want)
	case 4:
		return g.distinct(from, where, s, want)
	}
	q := &query{rows: s.rows(), scope: s, lockable: len(s.relations) == 1 && s.relations[0].table != nil}
	if g.depth == 0 && want == nil && g.oneIn(6) {
		return g.star(q, from, where, s)
	}
	list := g.list(q, s, want, !g.oneIn(6))
	if want == nil && g.oneIn(20) {
		// Rows come several times, so that their key is none any more.
		list += ", " + g.named(q, "int4", g.fill(pick(g, "generate_series(1, {n})", "unnest({ints})"), "int4", s, 0))
		q.scope, q.lockable = nil, false
	}
	q.sql = "SELECT " + list + " FROM " + from + where
	return q
}

// unqualified makes a table's columns be referred to without its name; subqueries
// then don't refer to them, for they may have such names themselves.
func (r *relation) unqualified() {
	for i := range r.columns {
		r.columns[i].sql, r.columns[i].local = r.columns[i].name, true
	}
}

// star makes a query of all columns of its relations.
func (g *generator) star(q *query, from, where string, s *scope) *query {
	list := "*"
	if s.merged || g.oneIn(2) {
		var all []string
		for _, r := range s.relations {
			all = append(all, r.alias+".*")
		}
		list = strings.Join(all, ", ")
	}
	q.columns = s.columns("")
	q.sql = "SELECT " + list + " FROM " + from + where
	return q
}

// whole draws TABLE.
func (g *generator) whole() *query {
	t := pick(g, g.tables...)
	q := &query{sql: "TABLE " + t.name, rows: t.rows, columns: slices.Clone(t.columns)}
	for i := range q.columns {
		q.columns[i].sql = q.columns[i].name
	}
	return q
}

// where draws a WHERE clause, or none. In a subquery it often ties it to the query
// around it.
func (g *generator) where(s *scope) string {
	var parts []string
	if s.outer != nil && g.oneIn(2) {
		for _, c := range s.columns("") {
			if outer := s.outerColumns(c.kind); len(outer) > 0 && kinds[c.kind].compares && !g.oneIn(3) {
				parts = append(parts, c.sql+pick(g, " = ", " = ", " = ", " < ", " <> ")+pick(g, outer...).sql)
				break
			}
		}
	}
	for range pick(g, 0, 1, 1, 0, 2) {
		parts = append(parts, part(g, func() string { return g.condition(s) }))
	}
	if len(parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(parts, " AND ")
}

// list draws a select list and sets the query's columns. plain leaves out window
// functions.
func (g *generator) list(q *query, s *scope, want []kind, plain bool) string {
	n := len(want)
	if n == 0 {
		n = 1 + g.below(4)
	}
	var items []string
	for i := range n {
		items = append(items, part(g, func() string {
			switch {
			case want != nil:
				return g.named(q, want[i], g.expression(want[i], s, 2))
			case !plain && g.oneIn(2):
				k, text := g.window(s)
				q.lockable = false
				return g.named(q, k, text)
			}
			k, text := g.item(s)
			return g.named(q, k, text)
		}))
	}
	return strings.Join(items, ", ")
}

// named gives a column of a select list its name. In subqueries each needs one.
func (g *generator) named(q *query, k kind, text string) string {
	if g.depth == 0 && g.oneIn(2) {
		q.columns = append(q.columns, column{kind: k})
		return text
	}
	name := g.name("c")
	switch g.below(12) {
	case 11:
		name = `"` + g.name("C ") + `"`
	case 8, 9, 10:
		if len(g.shadows) == 0 {
			break
		}
		shadow := pick(g, g.shadows...)
		if !slices.ContainsFunc(q.columns, func(c column) bool { return c.name == shadow }) {
			name = shadow
		}
	}
	q.columns = append(q.columns, column{name: name, sql: name, kind: k})
	return text + " AS " + name
}

// item draws any expression for a select list.
func (g *generator) item(s *scope) (kind, string) {
	all := s.columns("")
	if len(all) > 0 {
		if c := pick(g, all...); c.kind == "other" || c.kind == "approx" || !g.oneIn(2) {
			return c.kind, c.sql
		}
	}
	if g.oneIn(12) {
		if k, text := g.row(s); text != "" {
			return k, text
		}
	}
	k := pick(g, columnKinds...)
	if len(all) > 0 && g.oneIn(2) {
		k = g.comparable(s)
	}
	if g.oneIn(20) {
		k = pick[kind](g, "json", "ratio", "num0")
	}
	return k, g.expression(k, s, 2)
}

// row draws something of a whole row; "" if there is none whose text is fixed.
func (g *generator) row(s *scope) (kind, string) {
	r := pick(g, s.relations...)
	approximate := slices.ContainsFunc(r.columns, func(c column) bool { return c.kind == "approx" })
	if r.alias == "" || r.scalar || strings.Contains(r.alias, ".") || approximate {
		return "", ""
	}
	switch g.below(5) {
	case 0:
		return "other", r.alias
	case 1:
		return "json", "row_to_json(" + r.alias + ")"
	case 2:
		return "bool", "(" + r.alias + " IS NOT NULL)"
	case 3:
		c := pick(g, r.columns...)
		return c.kind, "(" + r.alias + ")." + c.name
	}
	return "other", "ROW(" + pick(g, r.columns...).sql + ", " + pick(g, r.columns...).sql + ")"
}

// distinct draws SELECT DISTINCT, or DISTINCT ON if the rows have a key that fixes
// which one stays.
func (g *generator) distinct(from, where string, s *scope, want []kind) *query {
	q := &query{rows: s.rows()}
	key := s.key()
	if key == nil || !g.oneIn(2) {
		if want == nil {
			for range 1 + g.below(3) {
				want = append(want, g.comparable(s))
			}
		}
		list := g.list(q, s, want, true)
		q.sql = "SELECT DISTINCT " + list + " FROM " + from + where
		return q
	}
	var on []string
	for range 1 + g.below(2) {
		on = append(on, g.term(s))
	}
	list := g.list(q, s, want, true)
	q.prefix = on
	for _, c := range key {
		q.prefix = append(q.prefix, c.sql)
	}
	q.sql = "SELECT DISTINCT ON (" + strings.Join(on, ", ") + ") " + list + " FROM " + from + where
	return g.ordered(q)
}

// comparable draws a kind that compares, mostly one that there are columns of.
func (g *generator) comparable(s *scope) kind {
	if own := s.columns(""); len(own) > 0 {
		if c := pick(g, own...); kinds[c.kind].compares && !g.oneIn(4) {
			return c.kind
		}
	}
	return pick(g, columnKinds...)
}

// term draws an expression to group or sort by: never a bare number, which would be
// the place of a column.
func (g *generator) term(s *scope) string {
	candidates := slices.DeleteFunc(s.columns(""), func(c column) bool { return !kinds[c.kind].compares })
	if len(candidates) > 0 && !g.oneIn(4) {
		return pick(g, candidates...).sql
	}
	k := g.comparable(s)
	if len(operations[k]) == 0 {
		return g.constant(k, "", true)
	}
	return g.fill(pick(g, operations[k]...), k, s, 0)
}

// values draws a VALUES list.
func (g *generator) values(want []kind) *query {
	if want == nil {
		for range 1 + g.below(3) {
			want = append(want, pick(g, columnKinds...))
		}
	}
	q := &query{}
	for i, k := range want {
		name := fmt.Sprintf("column%d", i+1)
		q.columns = append(q.columns, column{name: name, sql: name, kind: k})
	}
	var rows []string
	for range 1 + g.below(4) {
		var row []string
		for _, k := range want {
			row = append(row, g.constant(k, "", true))
		}
		rows = append(rows, "("+strings.Join(row, ", ")+")")
	}
	q.rows = len(rows)
	q.sql = "VALUES " + strings.Join(rows, ", ")
	return q
}

// setOperation draws UNION, INTERSECT or EXCEPT of two queries.
func (g *generator) setOperation(outer *scope, want []kind) *query {
	if want == nil {
		for range 1 + g.below(3) {
			want = append(want, pick(g, columnKinds...))
		}
	}
	g.depth++
	g.nested--
	branch := func() *query { return g.branch(outer, want) }
	left, right := part(g, branch), part(g, branch)
	g.depth--
	q := &query{columns: left.columns, rows: left.rows + right.rows}
	q.sql = left.sql + pick(g, " UNION ALL ", " UNION ALL ", " UNION ", " INTERSECT ", " EXCEPT ", " UNION ", " INTERSECT ALL ", " EXCEPT ALL ") + right.sql
	if g.oneIn(6) && g.canNest() {
		q.sql = "(" + q.sql + ")" + pick(g, " UNION ALL ", " EXCEPT ", " UNION ") + g.branch(outer, want).sql
	}
	return q
}

// branch draws a side of a set operation.
func (g *generator) branch(outer *scope, want []kind) *query {
	var q *query
	if g.oneIn(8) {
		q = g.values(want)
	} else {
		q = g.selection(outer, want)
	}
	if !q.tail && g.oneIn(6) {
		q = g.ordered(q)
	}
	q.sql = "(" + q.sql + ")"
	return q
}
