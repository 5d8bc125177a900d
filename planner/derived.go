package planner

import (
	"slices"
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A subquery in FROM is seen through where that is safe: a condition around it on one
// of its columns is one on a table's column inside. So a view over a sharded table, or
// a subquery like it, is pinned by its key, and joined by it.

// derive analyses a subquery in FROM that is not LATERAL, and notes what its columns
// are. What holds around it is not known yet: it comes to the facts that are returned.
func (a *analysis) derive(s *pg.RangeSubselect, e *rte, lvl *level) *facts {
	around := &facts{}
	sel := s.Subquery.GetSelectStmt()
	in := a.query(sel, &level{parent: lvl.parent, ctes: lvl.ctes}, around)
	names, cols, ok := a.outputs(sel, in)
	if !ok {
		return around
	}
	renameColumns(names, s.Alias.GetColnames())
	e.columns, e.inside = names, cols
	return around
}

// mentions is how often a name is in a statement: as that of a relation, and of a CTE that
// is defined.
type mentions struct{ uses, definitions int }

// mentioned is how often a name is in the statement.
func (a *analysis) mentioned(name string) mentions {
	if a.mentions == nil {
		a.mentions = map[string]mentions{}
		add := func(name string, uses, definitions int) {
			n := a.mentions[name]
			a.mentions[name] = mentions{n.uses + uses, n.definitions + definitions}
		}
		eachMessage(a.stmt.ProtoReflect(), func(m protoMessage) {
			switch v := m.Interface().(type) {
			case *pg.RangeVar:
				add(v.Relname, 1, 0)
			case *pg.CommonTableExpr:
				add(v.Ctename, 0, 1)
			}
		})
	}
	return a.mentions[name]
}

// outputsOf are the columns of a CTE, if it is used once: two uses of it have different
// rows, which one and the same columns can't stand for.
func (a *analysis) outputsOf(cte *pg.CommonTableExpr, w *pg.WithClause, in *level) outputs {
	names, cols, ok := a.outputs(cte.Ctequery.GetSelectStmt(), in)
	if !ok || w.Recursive || a.mentioned(cte.Ctename) != (mentions{1, 1}) || len(cte.Aliascolnames) > len(names) {
		return outputs{}
	}
	renameColumns(names, cte.Aliascolnames)
	return outputs{names, cols}
}

// see gives an entry the columns of a query, some of which an alias may have renamed.
func (e *rte) see(out outputs, renamed []*pg.Node) {
	if len(renamed) > len(out.names) {
		return
	}
	e.columns, e.inside = slices.Clone(out.names), out.cols
	renameColumns(e.columns, renamed)
}

// outputs are a query's columns: their names, and what columns of tables they are
// where a row that has another value there can be left out without a change of the
// others. ok is false where they are not known.
func (a *analysis) outputs(sel *pg.SelectStmt, lvl *level) (names []string, cols []column, ok bool) {
	if sel.Larg != nil { // which gives the names
		left := a.blocks[sel.Larg]
		if left == nil {
			return nil, nil, false
		}
		names, _, ok = a.outputs(sel.Larg, left.lvl)
		return names, make([]column, len(names)), ok
	}
	if len(sel.ValuesLists) > 0 {
		row := sel.ValuesLists[0].GetList().GetItems()
		for i, n := range row {
			if isStar(&pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Val: n}}}) {
				return nil, nil, false
			}
			names = append(names, "column"+strconv.Itoa(i+1))
		}
		return names, make([]column, len(row)), true
	}
	for _, n := range sel.TargetList {
		t := n.GetResTarget()
		fields := t.Val.GetColumnRef().GetFields()
		if len(fields) > 0 && fields[len(fields)-1].GetAStar() != nil {
			if len(fields) > 2 || len(lvl.merged) > 0 || lvl.hidden {
				return nil, nil, false
			}
			if len(fields) == 2 && !slices.ContainsFunc(lvl.rtes, func(e *rte) bool { return e.name == str(fields[0]) }) {
				return nil, nil, false // an entry of a query around
			}
			for _, e := range lvl.rtes {
				if len(fields) == 2 && e.name != str(fields[0]) {
					continue
				}
				if e.columns == nil {
					return nil, nil, false
				}
				for i, name := range e.columns {
					names, cols = append(names, name), append(cols, column{e, i}.base())
				}
			}
			continue
		}
		if t.Name == "" && len(fields) == 0 {
			return nil, nil, false // the name follows from rules that are many
		}
		c, _ := a.column(t.Val, lvl)
		names, cols = append(names, outputName(t)), append(cols, c)
	}
	separable := a.separable(sel, lvl)
	for i := range cols {
		if !separable(cols[i]) {
			cols[i] = column{}
		}
	}
	return names, cols, true
}

// separable tells in which columns of a query rows with different values have nothing to do
// with each other.
func (a *analysis) separable(sel *pg.SelectStmt, lvl *level) func(column) bool {
	switch {
	case sel.LimitCount != nil, sel.LimitOffset != nil, len(sel.LockingClause) > 0, a.outerAgg,
		len(sel.DistinctClause) > 0 && sel.DistinctClause[0].GetNode() != nil,
		slices.ContainsFunc(sel.GroupClause, func(n *pg.Node) bool { return n.GetGroupingSet() != nil }),
		len(sel.GroupClause) == 0 && a.aggregates(sel):
		return func(column) bool { return false }
	}
	var within [][]column // the columns of GROUP BY, and of each PARTITION BY
	a.partitionedBy(sel, lvl, func(columns []column) bool {
		within = append(within, columns)
		return true
	})
	if len(sel.GroupClause) > 0 {
		var columns []column
		for _, n := range a.grouped(sel) {
			if c, ok := a.column(n, lvl); ok {
				columns = append(columns, c)
			}
		}
		within = append(within, columns)
	}
	return func(c column) bool {
		return c.rte != nil && !slices.ContainsFunc(within, func(columns []column) bool { return !slices.Contains(columns, c) })
	}
}

// disjoint says whether the shards' rows of a subquery in FROM are disjoint parts of
// all, and returns the sharded table that decides on the shard.
func (a *analysis) disjoint(s *pg.RangeSubselect) (*leaf, bool) {
	sel := s.Subquery.GetSelectStmt()
	if s.Lateral || sel.Larg != nil || sel.WithClause != nil || sel.IntoClause != nil || len(sel.ValuesLists) > 0 ||
		len(sel.SortClause)+len(sel.LockingClause) > 0 || sel.LimitCount != nil || sel.LimitOffset != nil || a.outerAgg || a.volatile {
		return nil, false
	}
	var anchor *leaf
	for _, it := range sel.FromClause {
		l, r := a.side(it)
		if r != nil {
			return nil, false
		}
		if anchor == nil {
			anchor = l
		}
	}
	switch {
	case anchor == nil:
		return nil, false
	case len(sel.GroupClause) > 0 && !a.groupsByKey(sel, anchor),
		len(sel.GroupClause) == 0 && a.aggregates(sel),
		len(sel.DistinctClause) > 0 && !a.distinctByKey(sel, anchor),
		!a.windowsByKey(sel, anchor):
		return nil, false
	}
	return anchor, true
}

// base is the table's column that a column of a FROM entry is; the zero column where
// it is none, or not known.
func (c column) base() column {
	switch {
	case c.rte == nil || c.n < 0:
		return column{}
	case c.rte.table != nil:
		return c
	case c.n < len(c.rte.inside):
		return c.rte.inside[c.n]
	}
	return column{}
}
