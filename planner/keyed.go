package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Rows with the same key are on one shard. So where the key is among what a SELECT
// groups by, or what its windows are partitioned by, each group and each partition is
// whole on its shard.

// holdsKey says whether rows that agree in some columns have the same key of the
// anchor's table.
func holdsKey(anchor *leaf, columns []column) bool {
	for _, n := range anchor.table.Key.Columns {
		class := anchor.facts.class(column{anchor.rte, n})
		if !slices.ContainsFunc(columns, func(c column) bool { return slices.Contains(class, c) }) {
			return false
		}
	}
	return true
}

// groupsByKey says whether each group of a SELECT is on one shard.
func (a *analysis) groupsByKey(sel *pg.SelectStmt, anchor *leaf) bool {
	if slices.ContainsFunc(sel.GroupClause, func(n *pg.Node) bool { return n.GetGroupingSet() != nil }) {
		return false
	}
	var columns []column
	for _, n := range a.grouped(sel) {
		if c, ok := a.column(n, a.blocks[sel].lvl); ok {
			columns = append(columns, c)
		}
	}
	return len(columns) > 0 && holdsKey(anchor, columns)
}

// distinctByKey says whether equal rows of a SELECT DISTINCT are on one shard.
func (a *analysis) distinctByKey(sel *pg.SelectStmt, anchor *leaf) bool {
	columns, ok := a.selected(sel)
	return ok && sel.DistinctClause[0].GetNode() == nil && holdsKey(anchor, columns)
}

// partitionedBy says whether all window functions of a SELECT have partitions of rows
// for whose columns ok holds.
func (a *analysis) partitionedBy(sel *pg.SelectStmt, lvl *level, ok func([]column) bool) bool {
	all := true
	for _, n := range slices.Concat(sel.TargetList, sel.SortClause) {
		a.eachCall(n, func(f *pg.FuncCall) {
			if f.Over == nil || !all {
				return
			}
			var columns []column
			for _, p := range partition(sel.WindowClause, f.Over) {
				if c, ok := a.column(p, lvl); ok {
					columns = append(columns, c)
				}
			}
			all = ok(columns)
		})
	}
	return all
}

// partition is the PARTITION BY of a window, which may be that of one it refers to. Named
// windows refer to those that were defined before them, and so never to themselves.
func partition(named []*pg.Node, w *pg.WindowDef) []*pg.Node {
	for _, name := range []string{w.Name, w.Refname} {
		if name == "" {
			continue
		}
		if i := slices.IndexFunc(named, func(n *pg.Node) bool { return n.GetWindowDef().Name == name }); i >= 0 {
			return partition(named[:i], named[i].GetWindowDef())
		}
	}
	return w.PartitionClause
}

// windowsByKey says whether each partition of a SELECT's windows is on one shard.
func (a *analysis) windowsByKey(sel *pg.SelectStmt, anchor *leaf) bool {
	return a.partitionedBy(sel, a.blocks[sel].lvl, func(columns []column) bool { return holdsKey(anchor, columns) })
}

// wholeGroups says whether the groups that the shards make are those of the SELECT,
// each on one shard: HAVING and LIMIT choose among them there.
func (c *combiner) wholeGroups() bool {
	anchor := c.sources[0].anchor
	return c.grouped && !c.verbatim && anchor != nil && c.a.groupsByKey(c.sel, anchor) && !slices.ContainsFunc(c.terms, c.loosely)
}

// loosely says whether the shards group by what an expression of GROUP BY refers to, as
// its text isn't known: that makes more groups.
func (c *combiner) loosely(term *pg.Node) bool {
	_, known := c.a.columns[term.GetColumnRef()]
	return !known && !slices.ContainsFunc(c.groups, func(g *groupExpr) bool { return g.node == term })
}

// having is the text of HAVING, if the shards can decide it.
func (c *combiner) having() (byteRange, bool) {
	if c.sel.HavingClause == nil || !c.wholeGroups() {
		return byteRange{}, false
	}
	if _, ok := c.a.regionOf(c.b, c.sources[0].anchor, c.b.alone(), c.sel.HavingClause); !ok {
		return byteRange{}, false
	}
	return c.a.exprText(c.sel.HavingClause)
}
