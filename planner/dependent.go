package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A column that GROUP BY doesn't have may stand outside of aggregates if it depends on a
// primary key that GROUP BY has (check_functional_grouping in PostgreSQL's
// pg_constraint.c). Of rows that were brought together PostgreSQL knows no key. Where a
// relation is a part by itself, it is made a table with the key then, and PostgreSQL sees
// to the rest: to grouping sets, outer joins, merged columns and types without equality.

// primaryFor is the primary key of a relation that is a part by itself, if its block may
// use columns that depend on it; else nil. columns are the part's.
func (g *gatherer) primaryFor(u use, columns []string) (key []string) {
	b := u.rte.block
	if b == nil || len(b.sel.GroupClause) == 0 {
		return nil
	}
	terms := g.a.grouped(b.sel)
	for i := range u.table.Columns {
		if !u.table.Columns[i].Primary {
			continue
		}
		name := u.table.Columns[i].Name
		if !slices.Contains(columns, name) || !slices.ContainsFunc(terms, func(n *pg.Node) bool { return g.a.mayBe(n, u, i) }) {
			return nil
		}
		key = append(key, name)
	}
	if len(key) == 0 || !g.a.ungrouped(b.sel, u, terms) {
		return nil
	}
	return key
}

// mayBe says whether an expression may be column n of a relation.
func (a *analysis) mayBe(x *pg.Node, u use, n int) bool {
	ref := x.GetColumnRef()
	if ref == nil {
		return x.GetAConst() != nil // a position that can't be told
	}
	if c, ok := a.columns[ref]; ok {
		return c == column{u.rte, n}
	}
	return unqualified(ref.Fields) == u.rte.columns[n]
}

// ungrouped says whether a relation's columns may stand outside of the terms of GROUP BY
// and of aggregates.
func (a *analysis) ungrouped(sel *pg.SelectStmt, u use, terms []*pg.Node) bool {
	found := false
	var visit func(n *pg.Node)
	visit = func(n *pg.Node) {
		if n == nil || found || slices.ContainsFunc(terms, func(t *pg.Node) bool { return a.equal(n, t) }) {
			return
		}
		if ref := n.GetColumnRef(); ref != nil {
			last := ref.Fields[len(ref.Fields)-1]
			c, known := a.columns[ref]
			found = known && c.rte == u.rte || !known && a.targets[ref] == nil &&
				(last.GetString_() == nil || str(last) == u.rte.name || slices.Contains(u.rte.columns, str(last)))
			return
		}
		if f := n.GetFuncCall(); f != nil && a.aggregate(f) {
			if f.AggWithinGroup { // whose direct arguments are outside
				for _, x := range f.Args {
					visit(x)
				}
			}
			return
		}
		children(n, visit)
	}
	for _, n := range slices.Concat(sel.TargetList, []*pg.Node{sel.HavingClause}, sel.WindowClause, sel.DistinctClause, sel.SortClause) {
		visit(n)
	}
	return found
}

// alike says whether a block is, or is inside, a subquery that stands twice in a query with
// GROUP BY or DISTINCT, which may require that the two are the same: both read the same
// parts by the same names then, and so whole relations.
func (b *block) alike() bool {
	for ; b.parent != nil; b = b.parent {
		if b.parent.twice()[b.sel] {
			return true
		}
	}
	return false
}

// twice are the subqueries that stand twice in a block with GROUP BY or DISTINCT.
func (b *block) twice() map[*pg.SelectStmt]bool {
	sel := b.sel
	if b.twins != nil || len(sel.GroupClause)+len(sel.DistinctClause) == 0 {
		return b.twins
	}
	b.twins = map[*pg.SelectStmt]bool{}
	first := map[string]*pg.SelectStmt{}
	for _, n := range slices.Concat(sel.TargetList, sel.DistinctClause, sel.GroupClause, []*pg.Node{sel.HavingClause}, sel.SortClause) {
		if n == nil {
			continue
		}
		eachMessageBelow(n, func(m protoMessage) {
			inner, ok := m.Interface().(*pg.SelectStmt)
			if !ok {
				return
			}
			text := marshaled(withoutPlaces(selectNode(inner)))
			if twin := first[text]; twin != nil {
				b.twins[inner], b.twins[twin] = true, true
			} else {
				first[text] = inner
			}
		})
	}
	return b.twins
}

func selectNode(sel *pg.SelectStmt) *pg.Node {
	return &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: sel}}
}

// dependent adds to GROUP BY the columns that stand outside of it and of aggregates:
// they may because they depend on the table's primary key, which the rows brought
// together don't have. Others are left out: they would make more groups.
func (c *combiner) dependent() {
	if c.cl.group < 0 || c.failed {
		return
	}
	text := ""
	for _, col := range c.loose {
		if c.keyed(col.rte) {
			text += ", " + c.column(col)
			// The table itself can be brought with its key.
			c.failed = c.failed || col.typ().Scalar && !c.groupable(col)
		}
	}
	if text == "" || c.failed {
		return
	}
	if slices.ContainsFunc(c.sel.GroupClause, func(n *pg.Node) bool { return n.GetGroupingSet() != nil }) {
		c.failed = true
		return
	}
	end := int(c.a.toks[c.cl.after(c.cl.group)-1].End)
	c.edits = append(c.edits, edit{byteRange{end, end}, own(text)})
}

// keyed says whether GROUP BY has the primary key of an entry's table.
func (c *combiner) keyed(e *rte) bool {
	has := false
	for n := range e.table.Columns {
		if e.table.Columns[n].Primary {
			if has = c.groupsBy(column{e, n}); !has {
				return false
			}
		}
	}
	return has
}
