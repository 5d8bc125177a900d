package difftest

import (
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
		for range 1 + g.below(3) {
			k, text := g.groupTerm(s)
			if slices.Contains(terms, text) {
				continue
			}
			terms = append(terms, text)
			after.columns = append(after.columns, column{sql: text, kind: k, local: !isColumn.MatchString(text)})
		}
		groupBy = " GROUP BY " + g.groupingSets(terms, after)
	}
	for range 1 + g.below(3) {
		k, text := g.aggregate(s)
		after.columns = append(after.columns, column{sql: text, kind: k, local: true})
	}
	if !strings.ContainsAny(groupBy, "(") && len(terms) > 0 {
		for i := range terms {
			after.key = append(after.key, i)
		}
	}
	inner := &scope{relations: []*relation{after}, outer: s.outer}
	having := ""
	if g.oneIn(4) {
		having = " HAVING " + g.condition(inner)
	}
	q.scope = inner
	list := g.list(q, inner, want, !g.oneIn(8))
	if groupBy == "" && having == "" && !slices.ContainsFunc(after.columns, func(c column) bool { return strings.Contains(list, c.sql) }) {
		groupBy = " GROUP BY ()"
	}
	q.sql = "SELECT " + list + " FROM " + from + where + groupBy + having
	return q
}

// isColumn matches a reference to a column, which subqueries may use.
var isColumn = regexp.MustCompile(`^("[^"]*"|[a-z_0-9]+)(\.("[^"]*"|[a-z_0-9]+))+$`)

// groupTerm draws an expression to group by, with its kind.
func (g *generator) groupTerm(s *scope) (kind, string) {
	candidates := slices.DeleteFunc(s.columns(""), func(c column) bool { return !kinds[c.kind].compares })
	if len(candidates) > 0 && !g.oneIn(3) {
		c := pick(g, candidates...)
		return c.kind, c.sql
	}
	k := g.comparable(s)
	if len(operations[k]) == 0 {
		return k, g.constant(k, "", true)
	}
	return k, g.fill(pick(g, operations[k]...), k, s, 0)
}

// groupingSets draws what follows GROUP BY.
func (g *generator) groupingSets(terms []string, after *relation) string {
	all := strings.Join(terms, ", ")
	form := g.below(8)
	if form < 4 {
		return all
	}
	after.columns = append(after.columns, column{sql: "grouping(" + pick(g, terms...) + ")", kind: "int4", local: true})
	switch {
	case form == 4:
		return "ROLLUP (" + all + ")"
	case form == 5:
		return "CUBE (" + all + ")"
	case form == 6 && len(terms) > 1:
		return terms[0] + ", ROLLUP (" + strings.Join(terms[1:], ", ") + ")"
	}
	return pick(g, "", "DISTINCT ") + "GROUPING SETS ((" + all + "), " + pick(g, "()", "("+terms[0]+")", "(), ("+terms[0]+")") + ")"
}

// aggregate draws an aggregate over the rows of a scope.
func (g *generator) aggregate(s *scope) (kind, string) {
	return g.call(pick(g, aggregates...), s, true)
}

// call makes the call of an aggregate or a window function.
func (g *generator) call(a aggregate, s *scope, distinct bool) (kind, string) {
	word := ""
	if distinct && strings.Contains(a.call, "#") && g.oneIn(4) {
		word = "DISTINCT "
	}
	text := g.fill(strings.Replace(a.call, "#", word, 1), a.kind, s, g.below(2))
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
