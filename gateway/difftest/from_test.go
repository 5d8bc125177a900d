package difftest

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// mostRows bounds about how many rows a FROM makes, so that nested loops stay
	// cheap, and mostNested the same in subqueries, which run once for each row.
	mostRows   = 4000
	mostNested = 400
)

// from draws a FROM clause, without the word, and what it brings into scope.
func (g *generator) from(outer *scope) (string, *scope) {
	s := &scope{outer: outer}
	sql, r := g.relation(s)
	s.relations = []*relation{r}
	for more := pick(g, 0, 0, 1, 1, 2); more > 0; more-- {
		sql = part(g, func() string { return g.join(sql, s, more == 1) })
	}
	return sql, s
}

// join adds a relation to a FROM clause. A comma may stand before the last one only,
// since an ON after it doesn't see what is before it.
func (g *generator) join(left string, s *scope, last bool) string {
	right, r := g.relation(s)
	lateral := strings.HasPrefix(right, "LATERAL")
	most := mostRows
	if g.depth > 0 {
		most = mostNested
	}
	small := s.rows()*r.rows <= most
	sides := &scope{relations: append(slices.Clone(s.relations), r), outer: s.outer}
	defer func() { s.relations, s.merged = sides.relations, s.merged || sides.merged }()
	if small && g.oneIn(5) {
		if last && g.oneIn(2) {
			return left + ", " + right
		}
		return left + " CROSS JOIN " + right
	}
	if small && lateral {
		return left + pick(g, " JOIN ", " LEFT JOIN ") + right + " ON " + pick(g, "true", g.condition(sides))
	}
	kind := pick(g, " JOIN ", " JOIN ", " LEFT JOIN ", " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN ")
	if lateral {
		kind = " JOIN "
	}
	if common := commonNames(s, r); len(common) > 0 && g.oneIn(4) {
		sides.merged = true
		if len(common) <= 2 && g.oneIn(2) {
			return left + " NATURAL" + kind + right
		}
		return left + kind + right + " USING (" + pick(g, common...) + ")"
	}
	equal := g.equality(s, r)
	if equal == "" {
		if small && kind != " FULL JOIN " {
			return left + kind + right + " ON " + g.condition(sides)
		}
		// Nothing to join by: a condition on one row keeps it small.
		return left + " JOIN " + right + " ON " + g.single(r)
	}
	// The rows of a join by equality are about those of the larger side.
	r.rows = max(1, r.rows/8)
	if g.oneIn(4) {
		equal += " AND " + g.condition(sides)
	}
	return left + kind + right + " ON " + equal
}

// commonNames are the columns that USING may name: of one kind, and once on each
// side. NATURAL needs that all are such; nil if one is not.
func commonNames(s *scope, r *relation) (names []string) {
	if s.merged {
		return nil
	}
	left := s.columns("")
	for _, c := range r.columns {
		n, same := 0, false
		for _, l := range left {
			if l.name == c.name {
				n++
				same = l.kind == c.kind && kinds[c.kind].compares
			}
		}
		switch {
		case n == 1 && same:
			names = append(names, c.name)
		case n > 0:
			return nil
		}
	}
	return names
}

// equality equates a column on the left with one on the right, preferably the keys
// of a group; "" if there are none of one kind.
func (g *generator) equality(s *scope, r *relation) string {
	var byKey, matching, others []string
	for _, l := range s.relations {
		if l.table != nil && r.table != nil && len(l.table.key) > 0 && (l.table == r.table || l.table.group != "" && l.table.group == r.table.group) {
			lk, rk := l.shardKey(), r.shardKey()
			var parts []string
			for i := range lk {
				parts = append(parts, lk[i].sql+" = "+rk[i].sql)
			}
			byKey = append(byKey, strings.Join(parts, " AND "))
		}
		for _, lc := range l.columns {
			for _, rc := range r.columns {
				// A bool or an enum equates too many rows.
				if lc.kind != rc.kind || !kinds[lc.kind].compares || lc.kind == "bool" || lc.kind == "mood" {
					continue
				}
				if text := lc.sql + " = " + rc.sql; shareValues(lc, rc) {
					matching = append(matching, text)
				} else {
					others = append(others, text)
				}
			}
		}
	}
	if len(matching) == 0 || g.oneIn(8) {
		matching = append(matching, others...)
	}
	if len(byKey) > 0 && (len(matching) == 0 || !g.oneIn(3)) {
		return pick(g, byKey...)
	}
	if len(matching) == 0 {
		return ""
	}
	return pick(g, matching...)
}

// shareValues says whether two columns have a value in common, as far as is known.
func shareValues(a, b column) bool {
	return slices.ContainsFunc(a.values, func(v string) bool { return slices.Contains(b.values, v) })
}

// single is a condition that few rows of a relation meet.
func (g *generator) single(r *relation) string {
	for _, c := range r.columns {
		if kinds[c.kind].compares && c.kind != "bool" {
			return c.sql + " = " + g.constant(c.kind, g.value(c), false)
		}
	}
	return "false"
}

// relation draws an entry of FROM. before is what stands before it, for LATERAL.
func (g *generator) relation(before *scope) (string, *relation) {
	if len(g.ctes) > 0 && g.oneIn(2) {
		return g.cteReference()
	}
	switch g.below(16) {
	case 13:
		if g.canNest() {
			return g.derived("", before.outer)
		}
	case 14:
		if g.canNest() && len(before.relations) > 0 && before.rows() <= mostNested {
			return g.derived("LATERAL ", &scope{relations: before.relations, outer: before.outer})
		}
	case 15:
		return g.rowSource(before)
	}
	return g.base(before)
}

// base draws a table or a view, often one of the group of one that stands before it.
func (g *generator) base(before *scope) (string, *relation) {
	byName := map[string]*table{}
	for _, t := range g.tables {
		byName[t.name] = t
	}
	t := byName[pick(g, "customers", "orders", "customers", "orders", "items", "stock", "events", "countries", "kinds", "orders", "stock", "notes",
		"customers", "orders", "items", "voids", "orders", "stock", "events", "adults", "lines", "sales", "homes", "ranks")]
	if t.view && g.noViews {
		t = byName["orders"]
	}
	if group := before.group(); group != "" && g.oneIn(2) {
		t = pick(g, slices.DeleteFunc(slices.Clone(g.tables), func(t *table) bool { return t.group != group || t.rows == 0 || t.view && g.noViews })...)
	}
	r := &relation{table: t, rows: t.rows}
	name, from := "", ""
	columns := slices.Clone(t.columns)
	form := g.below(8)
	switch {
	case form >= 6 && !g.used[t.name]:
		// Without an alias; only once, for a subquery's would hide it.
		g.used[t.name] = true
		name, from = t.name, t.name
		if form == 7 {
			name, from = "public."+t.name, "public."+t.name
		}
	case form == 5:
		name = g.name("t")
		renamed := []string{g.name("x"), g.name("x")}
		for i, n := range renamed {
			columns[i].name = n
		}
		from = t.name + " AS " + name + " (" + strings.Join(renamed, ", ") + ")"
	case form == 4:
		name = `"` + g.name("T ") + `"`
		from = t.name + " AS " + name
	default:
		name = g.name("t")
		from = t.name + " " + name
	}
	r.alias = name
	for i, c := range t.columns {
		columns[i].sql = name + "." + columns[i].name
		if slices.Contains(t.primary, c.name) {
			r.key = append(r.key, i)
		}
	}
	r.columns = columns
	return from, r
}

// group is the co-location group of the first table that has one.
func (s *scope) group() string {
	for _, r := range s.relations {
		if r.table != nil && r.table.group != "" {
			return r.table.group
		}
	}
	return ""
}

// derived draws a subquery in FROM.
func (g *generator) derived(lateral string, outer *scope) (string, *relation) {
	q := g.subquery(outer, nil, true)
	r := q.relation(g.name("d"))
	alias := r.alias
	if g.oneIn(4) {
		var names []string
		for i := range r.columns {
			r.columns[i].name = g.name("y")
			r.columns[i].sql = r.alias + "." + r.columns[i].name
			names = append(names, r.columns[i].name)
		}
		alias += " (" + strings.Join(names, ", ") + ")"
	}
	return lateral + "(" + q.sql + ") AS " + alias, r
}

// relation is what a query is under an alias.
func (q *query) relation(alias string) *relation {
	r := &relation{alias: alias, rows: q.rows}
	for _, c := range q.columns {
		r.columns = append(r.columns, column{name: c.name, sql: alias + "." + c.name, kind: c.kind, values: c.values})
	}
	return r
}

// cteReference refers to one of the WITH queries.
func (g *generator) cteReference() (string, *relation) {
	cte := pick(g, g.ctes...)
	r := &relation{alias: g.name("w"), rows: cte.rows}
	for _, c := range cte.columns {
		r.columns = append(r.columns, column{name: c.name, sql: r.alias + "." + c.name, kind: c.kind, values: c.values})
	}
	return cte.alias + " AS " + r.alias, r
}

// rowSource draws VALUES or a function that returns a set.
func (g *generator) rowSource(before *scope) (string, *relation) {
	alias := g.name("f")
	one := func(k kind) *relation {
		return &relation{alias: alias, rows: 4, scalar: true, columns: []column{{name: "v", sql: alias + ".v", kind: k}}}
	}
	arrays := before.columns("ints")
	switch form := g.below(6); {
	case form == 1:
		return fmt.Sprintf("generate_series(%d, %d, %d) AS %s (v)", g.below(3), 2+g.below(4), 1+g.below(2), alias), one("int4")
	case form == 2:
		return "unnest(" + g.constant("texts", "", true) + ") AS " + alias + " (v)", one("text")
	case form == 3:
		r := one("text")
		r.scalar = false
		r.columns = append(r.columns, column{name: "n", sql: alias + ".n", kind: "int8"})
		return "unnest('{b,a,a,NULL}'::text[]) WITH ORDINALITY AS " + alias + " (v, n)", r
	case form >= 4 && len(arrays) > 0:
		return "LATERAL unnest(" + pick(g, arrays...).sql + ") AS " + alias + " (v)", one("int4")
	}
	k1, k2 := pick(g, columnKinds...), pick[kind](g, "int8", "text", "int4")
	var rows []string
	for range 1 + g.below(4) {
		rows = append(rows, "("+g.constant(k1, "", true)+", "+g.constant(k2, "", true)+")")
	}
	return "(VALUES " + strings.Join(rows, ", ") + ") AS " + alias + " (v, n)",
		&relation{alias: alias, rows: len(rows), columns: []column{{name: "v", sql: alias + ".v", kind: k1}, {name: "n", sql: alias + ".n", kind: k2}}}
}
