package difftest

import (
	"fmt"
	"slices"
	"strings"
)

// scalar draws a subquery that gives one value of a kind.
func (g *generator) scalar(k kind, s *scope) string {
	g.depth++
	g.nested--
	defer func() { g.depth-- }()
	if g.oneIn(12) {
		return "(SELECT " + g.expression(k, &scope{outer: s}, 1) + ")"
	}
	from, sub := g.from(s)
	where := g.where(sub)
	var fitting []aggregate
	for _, a := range aggregates {
		if a.kind == k {
			fitting = append(fitting, a)
		}
	}
	key := sub.orderKey()
	if len(fitting) > 0 && (key == nil || !g.oneIn(3)) {
		_, text := g.call(pick(g, fitting...), sub, true)
		return "(SELECT " + text + " FROM " + from + where + ")"
	}
	if key == nil {
		return g.constant(k, "", true)
	}
	return "(SELECT " + g.expression(k, sub, 1) + " FROM " + from + where + " ORDER BY " + strings.Join(key, ", ") + " LIMIT 1)"
}

// subqueryCondition draws EXISTS, IN, ANY or ALL.
func (g *generator) subqueryCondition(s *scope) string {
	form := g.below(8)
	candidates := slices.DeleteFunc(s.columns(""), func(c column) bool { return !kinds[c.kind].compares })
	if form < 3 || len(candidates) == 0 {
		return pick(g, "", "NOT ") + "EXISTS (" + g.subquery(s, nil, true).sql + ")"
	}
	c := pick(g, candidates...)
	if form == 7 {
		d := pick(g, candidates...)
		return fmt.Sprintf("(%s, %s)%s(%s)", c.sql, d.sql, pick(g, " IN ", " NOT IN ", " = ANY ", " <> ALL "), g.subquery(s, []kind{c.kind, d.kind}, true).sql)
	}
	operator := pick(g, " IN ", " IN ", " NOT IN ", " = ANY ", " > ALL ", " <= ANY ", " <> ALL ")
	return c.sql + operator + "(" + g.subquery(s, []kind{c.kind}, true).sql + ")"
}

// with draws a WITH clause, whose queries FROM may then refer to.
func (g *generator) with() string {
	var parts []string
	recursive := ""
	for range 1 + g.below(2) {
		name := g.name("q")
		parts = append(parts, part(g, func() string {
			if g.oneIn(4) {
				recursive = "RECURSIVE "
				return g.recursion(name)
			}
			q := g.subquery(nil, nil, true)
			g.ctes = append(g.ctes, q.relation(name))
			return name + " AS " + pick(g, "", "", "MATERIALIZED ", "NOT MATERIALIZED ") + "(" + q.sql + ")"
		}))
	}
	return "WITH " + recursive + strings.Join(parts, ", ") + " "
}

// recursion draws a WITH query that refers to itself, and ends.
func (g *generator) recursion(name string) string {
	g.ctes = append(g.ctes, &relation{alias: name, rows: 20, columns: []column{{name: "id", kind: "int8"}, {name: "n", kind: "int4"}}})
	union := pick(g, " UNION ALL ", " UNION ")
	var first, next string
	switch g.below(4) {
	case 0:
		first, next = "SELECT 1::int8, 0", "SELECT r.id * 2, r.n + 1 FROM "+name+" r WHERE r.n < 5"
	case 1:
		first = "SELECT k.id::int8, 0 FROM kinds k WHERE k.parent IS NULL"
		next = "SELECT k.id::int8, r.n + 1 FROM kinds k JOIN " + name + " r ON k.parent = r.id"
	case 2:
		first = "SELECT c.id, 1 FROM customers c WHERE c.id = " + g.constant("int8", "", false)
		next = "SELECT c.id, r.n + 1 FROM customers c JOIN " + name + " r ON c.referrer = r.id WHERE r.n < 6"
	case 3:
		first = "SELECT o.customer_id, 1 FROM orders o WHERE o.qty > 2"
		next = "SELECT r.id + 1, r.n + 1 FROM " + name + " r WHERE r.n < 4 AND EXISTS (SELECT 1 FROM customers c WHERE c.id = r.id)"
	}
	return name + " (id, n) AS (" + first + union + next + ")"
}
