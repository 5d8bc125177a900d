package difftest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// grouped draws a SELECT with aggregates: with GROUP BY, or over all rows.
func (g *generator) grouped(from, where string, s *scope, want []kind) *query {
	q := &query{rows: 1}
	// What the select list, HAVING and ORDER BY may refer to: the expressions that
	// are grouped by, and aggregates.
	after := &relation{rows: 1}
	var terms []string
	groupBy := ""
	if !g.oneIn(3) {
		q.rows = max(1, s.rows()/3)
		sets := g.oneIn(3)
		// Before version 18, PostgreSQL sometimes takes a constant in grouping sets for
		// one after the grouping as well, and equal columns for still equal.
		q.unsorted = sets && equalities.MatchString(from+where)
		for range 1 + g.below(3) {
			k, text := g.groupTerm(s, sets)
			if slices.Contains(terms, text) {
				continue
			}
			terms = append(terms, text)
			after.columns = append(after.columns, column{sql: text, kind: k, local: !isColumn.MatchString(text)})
		}
		groupBy = " GROUP BY " + strings.Join(terms, ", ")
		for i := range terms {
			after.key = append(after.key, i)
		}
		if sets {
			groupBy = " GROUP BY " + g.groupingSets(terms, after)
			after.key = nil // a set may give the same as another
		} else if g.oneIn(6) {
			groupBy += g.groupByKey(s, after)
		}
	}
	for range 1 + g.below(3) {
		after.columns = append(after.columns, part(g, func() column {
			k, text := g.call(pick(g, aggregates...), s, true)
			return column{sql: text, kind: k, local: true}
		}))
	}
	inner := &scope{relations: []*relation{after}, outer: s.outer}
	having := ""
	if g.oneIn(4) {
		having = " HAVING " + g.condition(inner)
	}
	q.scope = inner
	first := ""
	if len(terms) > 0 && len(after.key) == len(terms) && want == nil && g.oneIn(4) {
		first, groupBy = g.groupByPlace(q, after.columns[:len(terms)])
	}
	list := first + g.list(q, inner, want, !g.oneIn(8))
	if groupBy == "" && having == "" && !slices.ContainsFunc(after.columns, func(c column) bool { return strings.Contains(list, c.sql) }) {
		groupBy = " GROUP BY ()"
	}
	q.sql = "SELECT " + list + " FROM " + from + where + groupBy + having
	return q
}

// groupByKey groups by the primary key of a table as well, after which all of its
// columns may be referred to. It returns what GROUP BY goes on with.
func (g *generator) groupByKey(s *scope, after *relation) (more string) {
	r := pick(g, s.relations...)
	if r.table == nil || r.table.view {
		return ""
	}
	for _, i := range r.key {
		more += ", " + r.columns[i].sql
	}
	after.columns = append(after.columns, r.columns...)
	for i, c := range after.columns {
		if slices.ContainsFunc(r.key, func(k int) bool { return r.columns[k].sql == c.sql }) {
			after.key = append(after.key, i)
		}
	}
	return more
}

// groupByPlace puts what is grouped by at the beginning of the select list, and refers
// to it from GROUP BY by number or by name.
func (g *generator) groupByPlace(q *query, terms []column) (list, groupBy string) {
	var places []string
	for i, c := range terms {
		list += g.named(q, c.kind, c.sql) + ", "
		place := fmt.Sprint(i + 1)
		name := q.columns[i].name
		if f := isCall.FindStringSubmatch(c.sql); name == "" && f != nil {
			name = f[1]
		}
		if name != "" && g.oneIn(2) {
			place = name
		}
		places = append(places, place)
	}
	return list, " GROUP BY " + strings.Join(places, ", ")
}

// isCall matches what may be a call of a function, which gives its column its name.
var isCall = regexp.MustCompile(`^([a-z_]+)\([^()]*\)$`)

// isColumn matches a reference to a column, which subqueries may use.
var isColumn = regexp.MustCompile(`^("[^"]*"|[a-z_0-9]+)(\.("[^"]*"|[a-z_0-9]+))+$`)

// equalities matches what may tell the planner that something equals something.
var equalities = regexp.MustCompile(` (=|IN|USING|NATURAL) `)

// groupTerm draws an expression to group by, with its kind.
func (g *generator) groupTerm(s *scope, columnsOnly bool) (kind, string) {
	candidates := slices.DeleteFunc(s.columns(""), func(c column) bool { return !kinds[c.kind].compares })
	if len(candidates) > 0 && (columnsOnly || !g.oneIn(3)) {
		c := pick(g, candidates...)
		return c.kind, c.sql
	}
	k := g.comparable(s)
	if g.oneIn(8) && !columnsOnly && g.canNest() {
		return k, g.scalar(k, s)
	}
	if len(operations[k]) == 0 {
		return k, g.constant(k, "", true)
	}
	return k, g.fill(pick(g, operations[k]...), k, s, 0)
}

// groupingSets draws grouping sets, for what follows GROUP BY.
func (g *generator) groupingSets(terms []string, after *relation) string {
	all := strings.Join(terms, ", ")
	after.columns = append(after.columns, column{sql: "grouping(" + pick(g, terms...) + ")", kind: "int4", local: true})
	switch form := g.below(4); {
	case form == 0:
		return "ROLLUP (" + all + ")"
	case form == 1:
		return "CUBE (" + all + ")"
	case form == 2 && len(terms) > 1:
		return terms[0] + ", ROLLUP (" + strings.Join(terms[1:], ", ") + ")"
	}
	return pick(g, "", "DISTINCT ") + "GROUPING SETS ((" + all + "), " + pick(g, "()", "("+terms[0]+")", "(), ("+terms[0]+")") + ")"
}

// call makes the call of an aggregate or a window function.
func (g *generator) call(a aggregate, s *scope, distinct bool) (kind, string) {
	word := ""
	if distinct && strings.Contains(a.call, "#") && g.oneIn(4) {
		word = "DISTINCT "
	}
	// An aggregate of columns of a query around it would be that one's.
	rows := s
	if !g.oneIn(12) {
		rows = &scope{relations: s.relations}
	}
	text := g.fill(strings.Replace(a.call, "#", word, 1), a.kind, rows, g.below(2))
	if !strings.Contains(text, "FILTER") && distinct && g.oneIn(8) {
		text += " FILTER (WHERE " + g.condition(s) + ")"
	}
	return a.kind, text
}

// window draws a window function with its OVER.
func (g *generator) window(s *scope) (kind, string) {
	over := ""
	if g.oneIn(2) {
		over = "PARTITION BY " + g.term(s) + " "
	}
	key := s.key()
	if key == nil || !g.oneIn(2) {
		k, text := g.call(pick(g, ranked...), s, false)
		if g.oneIn(2) || strings.Contains(text, "rank") || strings.Contains(text, "cume") {
			over += "ORDER BY " + g.term(s) + pick(g, "", " DESC", " NULLS FIRST")
		}
		return k, text + " OVER (" + over + ")"
	}
	var order []string
	if g.oneIn(2) {
		order = append(order, g.term(s)+pick(g, "", " DESC", " NULLS FIRST"))
	}
	for _, c := range key {
		order = append(order, c.sql)
	}
	k, text := g.call(pick(g, slices.Concat(ordered, ranked)...), s, false)
	frame := pick(g, frames...)
	return k, text + " OVER (" + over + "ORDER BY " + strings.Join(order, ", ") + " " + frame + ")"
}
