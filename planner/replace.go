package planner

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// How the text of a block is made one over what the shards give: columns of theirs stand in
// it in the place of the tables', and partial results in the place of aggregates (which are
// in partial.go).

// target deals with an item of the target list.
func (c *combiner) target(t *pg.ResTarget) {
	if entry, ok := star(t.Val); ok {
		c.star(t.Val.GetColumnRef(), entry)
		return
	}
	c.expr(t.Val)
	if t.Name != "" || c.b.parent == nil && !c.a.names && !c.named() || c.failed {
		return
	}
	// Its name must stay, for the queries around and a name alone in ORDER BY or GROUP BY.
	e, ok := c.a.asName(t)
	c.failed = !ok
	c.edits = append(c.edits, e)
}

// named says whether output columns may be meant by a name alone.
func (c *combiner) named() bool {
	return slices.ContainsFunc(slices.Concat(c.sel.SortClause, groupTerms(c.sel.GroupClause), c.sel.DistinctClause), func(n *pg.Node) bool {
		return len(sorted(n).GetColumnRef().GetFields()) == 1
	})
}

// star replaces * or name.* by the columns.
func (c *combiner) star(ref *pg.ColumnRef, entry string) {
	var list []string
	for _, e := range c.b.lvl.rtes {
		if entry != "" && e.name != entry {
			continue
		}
		if c.source(e) == nil && len(c.kept) > 0 && e.name != "" && e.table == nil {
			list = append(list, QuoteIdent(e.name)+".*")
			continue
		}
		if e.table == nil || len(c.b.lvl.merged) > 0 && entry == "" || c.source(e) == nil {
			c.failed = true
			return
		}
		for n, name := range e.columns {
			c.outside(column{e, n})
			list = append(list, c.column(column{e, n})+" AS "+QuoteIdent(name))
		}
	}
	first := c.a.tokenAt(ref.Location)
	last := first + 2*(len(ref.Fields)-1)
	if first < 0 || last >= len(c.a.toks) || len(list) == 0 {
		c.failed = true
		return
	}
	c.replace(first, last, strings.Join(list, ", "))
}

// replace replaces tokens.
func (c *combiner) replace(first, last int, with string) {
	c.edits = append(c.edits, edit{c.a.between(first, last+1), own(with)})
}

// item deals with an item of a clause where a number is a position.
func (c *combiner) item(n *pg.Node) {
	if sorted(n).GetAConst() == nil {
		c.expr(n)
	}
}

// keep replaces what a kept item of FROM has of the shards' rows.
func (c *combiner) keep(n *pg.Node) {
	if _, ok := c.itemText(n); !ok {
		c.failed = true
		return
	}
	switch {
	case n.GetRangeSubselect() != nil:
		c.subquery(n.GetRangeSubselect().Subquery.GetSelectStmt())
	case n.GetRangeFunction() != nil:
		for _, f := range n.GetRangeFunction().Functions {
			children(f, c.expr)
		}
	}
}

// expr replaces what an expression has of the shards' rows.
func (c *combiner) expr(n *pg.Node) {
	if n == nil || c.failed {
		return
	}
	for _, g := range c.groups {
		if c.a.equal(n, g.node) {
			c.groupExpr(n, g)
			return
		}
	}
	if !c.within && c.isGrouped(n) {
		c.within = true
		defer func() { c.within = false }()
	}
	switch {
	case n.GetColumnRef() != nil:
		c.columnRef(n.GetColumnRef(), false)
		return
	case n.GetSubLink() != nil:
		c.expr(n.GetSubLink().Testexpr)
		c.subquery(n.GetSubLink().Subselect.GetSelectStmt())
		return
	case n.GetSelectStmt() != nil:
		c.failed = true
		return
	case n.GetJsonArrayAgg() != nil, n.GetJsonObjectAgg() != nil:
		c.raw = true
		defer c.aggregate()()
	case n.GetXmlExpr() != nil:
		c.failed = c.failed || slices.ContainsFunc(n.GetXmlExpr().NamedArgs, unnamed)
	case n.GetFuncCall() != nil:
		if f := n.GetFuncCall(); c.a.aggregate(f) && c.grouped {
			if c.again(n) || c.partial(n) {
				return
			}
			c.raw = c.raw || !f.AggDistinct || f.AggWithinGroup
			c.verbatim = true
		}
		if f := n.GetFuncCall(); c.a.aggregate(f) {
			if f.AggWithinGroup { // whose direct arguments are outside
				for _, x := range f.Args {
					c.expr(x)
				}
				defer c.aggregate()()
				for _, x := range append(slices.Clone(f.AggOrder), f.AggFilter) {
					c.expr(x)
				}
				return
			}
			defer c.aggregate()()
		}
	}
	children(n, c.expr)
}

// aggregate notes that the walk is in an aggregate until the function that it returns
// is called.
func (c *combiner) aggregate() (leave func()) {
	before := c.within
	c.within = true
	return func() { c.within = before }
}

// unnamed says whether an argument of XMLFOREST or XMLATTRIBUTES has the name of its
// column.
func unnamed(n *pg.Node) bool { return n.GetResTarget().GetName() == "" }

// subquery replaces this block's columns within a subquery, which is planned by itself
// afterwards.
func (c *combiner) subquery(sel *pg.SelectStmt) {
	if sel == nil || c.a.blocks[sel] == nil {
		c.failed = true
		return
	}
	eachMessage(sel.ProtoReflect(), func(m protoMessage) {
		if ref, ok := m.Interface().(*pg.ColumnRef); ok && !c.failed {
			c.columnRef(ref, true)
		}
	})
	c.inner = append(c.inner, sel)
}

// columnRef replaces a column. In a subquery, it may be another block's.
func (c *combiner) columnRef(ref *pg.ColumnRef, inner bool) {
	if c.a.targets[ref] != nil {
		return
	}
	col, ok := c.a.columns[ref]
	if ok && col.rte.block != c.b || !ok && (inner || len(c.kept) > 0 || !c.b.alone()) && !c.mayMean(ref) {
		return // another block's, or a kept item's
	}
	first := c.a.tokenAt(ref.Location)
	last := first + 2*(len(ref.Fields)-1)
	if !ok || first < 0 || last >= len(c.a.toks) || c.source(col.rte) == nil {
		c.failed = true
		return
	}
	c.outside(col)
	c.replace(first, last, c.column(col))
}

// outside notes a column that stands outside of GROUP BY and of aggregates.
func (c *combiner) outside(col column) {
	if !c.within && !c.groupsBy(col) && !slices.Contains(c.loose, col) {
		c.loose = append(c.loose, col)
	}
}

// isGrouped says whether an expression is an item of GROUP BY.
func (c *combiner) isGrouped(n *pg.Node) bool {
	return slices.ContainsFunc(c.terms, func(x *pg.Node) bool { return c.a.equal(n, x) })
}

// groupsBy says whether a column is an item of GROUP BY.
func (c *combiner) groupsBy(col column) bool {
	return slices.ContainsFunc(c.terms, func(x *pg.Node) bool {
		y, ok := c.a.columns[x.GetColumnRef()]
		return ok && y == col
	})
}

// mayMean says whether a name whose meaning isn't certain may be of a table that the
// shards join.
func (c *combiner) mayMean(ref *pg.ColumnRef) bool {
	for _, e := range c.b.lvl.rtes {
		if c.source(e) == nil {
			continue
		}
		for _, f := range ref.Fields {
			if str(f) == e.name || f.GetString_() != nil && slices.Contains(e.columns, str(f)) {
				return true
			}
		}
	}
	return false
}

// column is the final statement's name of a column of FROM.
func (c *combiner) column(col column) string {
	s := c.source(col.rte)
	i, ok := s.at[col]
	if !ok {
		t := &col.rte.table.Columns[col.n]
		c.failed = c.failed || OwnOIDs(t.Type)
		if c.grouped && !c.groupable(col) {
			c.raw = true
		}
		expr := own(col.qualified())
		// What is grouped has to be of its own type for that.
		if carried := t.Carried; carried.Type != "" && c.g.inArrays() && !c.grouped {
			i = s.add(carried.send(expr), t.Collation)
			s.carried[i] = carried
		} else {
			i = s.add(expr, t.Collation)
			s.plain = s.plain && t.Scalar
		}
		s.at[col] = i
	}
	return s.column(i)
}

// groupableTypes are the types of PostgreSQL's own that can be grouped by.
var groupableTypes = []uint32{16, 17, 18, 20, 21, 23, 25, 26, 700, 701, 790, 869, 650, 829, 774, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802}

// groupable says whether rows can be grouped by a column: one of GROUP BY or
// DISTINCT can, any other may be there because it depends on them.
func (c *combiner) groupable(col column) bool {
	t := &col.rte.table.Columns[col.n]
	if t.Scalar && slices.Contains(groupableTypes, t.Type) {
		return true
	}
	return c.groupsBy(col)
}

// groupExpr replaces an expression of GROUP BY.
func (c *combiner) groupExpr(n *pg.Node, g *groupExpr) {
	r, ok := c.a.exprText(n)
	if !ok {
		c.failed = true
		return
	}
	s := c.sources[0]
	if g.at < 0 {
		collation, ok := c.a.collation(c.b, n)
		s.plain = s.plain && ok
		g.at = s.add(c.a.span(g.text), collation)
	}
	c.edits = append(c.edits, edit{r, own(s.column(g.at))})
}
