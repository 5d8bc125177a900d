package difftest

import (
	"fmt"
	"slices"
	"strings"
)

// ordered gives a query an ORDER BY and a LIMIT, or one of them, or none. LIMIT comes
// only with an ORDER BY that fixes the answer.
func (g *generator) ordered(q *query) *query {
	if q.tail || q.unsorted {
		return q
	}
	q.tail = true
	key := q.scope.orderKey()
	switch form := g.below(8); {
	case q.prefix != nil:
		// DISTINCT ON: its expressions, and what fixes the row that stays.
		g.orderBy(q, q.prefix)
		q.listed = true
	case g.depth == 0 && key != nil && g.oneIn(4):
		// Columns alone: what shards sort for themselves may be merged.
		g.orderBy(q, append(g.sortColumns(q.scope), key...))
		q.listed = true
		if q.lockable && g.oneIn(8) {
			q.sql += pick(g, " FOR SHARE", " FOR UPDATE")
		}
		return q
	case form < 2 && g.depth == 0:
		if q.lockable && g.oneIn(12) {
			q.sql += pick(g, " FOR SHARE", " FOR UPDATE", " FOR NO KEY UPDATE")
		}
		return q
	case form < 4 && key != nil:
		// Some expressions, and then a key of the rows.
		var terms []string
		for range g.below(3) {
			terms = append(terms, g.term(q.scope))
		}
		g.orderBy(q, append(terms, key...))
		q.listed = true
	case form < 7 && !slices.ContainsFunc(q.columns, func(c column) bool { return !kinds[c.kind].compares }):
		// All columns: rows that are equal look alike.
		g.orderBy(q, g.places(q, len(q.columns)))
		q.listed = true
	default:
		g.partlyOrdered(q)
		return q
	}
	if g.oneIn(2) {
		g.limit(q)
	}
	return q
}

// sortColumns are some columns of FROM that compare.
func (g *generator) sortColumns(s *scope) (terms []string) {
	all := slices.DeleteFunc(s.columns(""), func(c column) bool { return !kinds[c.kind].compares })
	for range min(g.below(4), len(all)) {
		terms = append(terms, pick(g, all...).sql)
	}
	return terms
}

// orderKey are expressions of a query's rows that no two agree in, nil if none are
// known.
func (s *scope) orderKey() (key []string) {
	if s == nil {
		return nil
	}
	for _, c := range s.key() {
		key = append(key, c.sql)
	}
	return key
}

// places refers to n of the columns that compare, by number or by name, in any order.
func (g *generator) places(q *query, n int) (terms []string) {
	q.sorted = nil
	var left []int
	for i, c := range q.columns {
		if kinds[c.kind].compares {
			left = append(left, i)
		}
	}
	for range min(n, len(left)) {
		k := g.below(len(left))
		i := left[k]
		left = slices.Delete(left, k, k+1)
		q.sorted = append(q.sorted, i)
		if c := q.columns[i]; c.name != "" && c.name == c.sql && g.oneIn(2) {
			terms = append(terms, c.name)
		} else {
			terms = append(terms, fmt.Sprint(i+1))
		}
	}
	return terms
}

// partlyOrdered sorts by some of the columns: that far the order is fixed, and so are
// the rows WITH TIES.
func (g *generator) partlyOrdered(q *query) {
	terms := g.places(q, 1+g.below(2))
	if len(terms) == 0 {
		return
	}
	g.orderBy(q, terms)
	// Not of a single row: PostgreSQL 15 finds min and max by an index, and takes WITH
	// TIES along into its subquery.
	if q.rows > 1 && g.oneIn(3) {
		n := 1 + g.below(9)
		q.sql += fmt.Sprintf(" FETCH FIRST %d ROWS WITH TIES", n)
	}
}

// orderBy adds ORDER BY with directions.
func (g *generator) orderBy(q *query, terms []string) {
	var list []string
	for _, t := range terms {
		list = append(list, t+pick(g, "", "", "", " DESC", " ASC", " NULLS FIRST", " DESC NULLS LAST", " DESC NULLS FIRST"))
	}
	q.sql += " ORDER BY " + strings.Join(list, ", ")
}

// limit adds LIMIT or OFFSET in one of their forms.
func (g *generator) limit(q *query) {
	n, skip := 1+g.below(20), g.below(10)
	if g.oneIn(20) {
		n = 0
	}
	q.rows = max(1, min(q.rows, n))
	switch g.below(9) {
	case 0, 1:
		q.sql += fmt.Sprintf(" LIMIT %d", n)
	case 2:
		q.sql += fmt.Sprintf(" LIMIT %d OFFSET %d", n, skip)
	case 3:
		q.sql += fmt.Sprintf(" OFFSET %d", skip)
	case 4:
		q.sql += fmt.Sprintf(" FETCH FIRST %d ROWS ONLY", n)
	case 5:
		q.sql += fmt.Sprintf(" OFFSET %d ROWS FETCH NEXT %d ROWS ONLY", skip, n)
	case 6:
		q.sql += " LIMIT " + g.constant("int8", fmt.Sprint(n), g.oneIn(2))
	case 7:
		q.sql += fmt.Sprintf(" LIMIT %d + 1 OFFSET %d", n, skip) + pick(g, "", "::int2")
	default:
		q.sql += " LIMIT " + pick(g, "ALL", "NULL")
	}
}
