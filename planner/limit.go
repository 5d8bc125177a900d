package planner

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// limit is what follows a shard's WHERE so that it gives no more rows than may be
// among the first of all: ORDER BY and LIMIT, for the final statement does both again.
// It is empty where the rows of the result are not those of FROM.
func (c *combiner) limit() SQL {
	a, sel := c.a, c.sel
	if len(c.sources) > 1 || len(c.rest)+len(c.kept) > 0 || sel.LimitCount == nil || len(sel.DistinctClause) > 0 ||
		(len(sel.GroupClause) > 0 || a.aggregates(sel)) && !c.wholeGroups() || a.windows(sel) || a.volatile || a.returnsSets(sel) {
		return nil
	}
	count, ok := a.countText(sel.LimitCount)
	if _, own := a.regionOf(c.b, c.sources[0].anchor, false, sel.LimitCount, sel.LimitOffset); !own || !ok {
		return nil
	}
	order, ok := c.order()
	if !ok {
		return nil
	}
	if sel.HavingClause != nil {
		if _, ok := c.having(); !ok {
			return nil
		}
	}
	// The first of all are among the first OFFSET + LIMIT of each shard. Without a
	// limit, or with one beyond bigint, all are.
	q := append(order, Piece{Own: " LIMIT "})
	ties := sel.LimitOption == pg.LimitOption_LIMIT_OPTION_WITH_TIES
	if ties {
		q = append(order, Piece{Own: " FETCH FIRST "})
	}
	if sel.LimitOffset == nil {
		q = q.add("(", count, ")")
	} else {
		offset, ok := a.exprText(sel.LimitOffset)
		if !ok {
			return nil
		}
		q = q.add("(least((", count, ")::pg_catalog.int8::pg_catalog.numeric+coalesce((")
		q = q.add("", a.span(offset), ")::pg_catalog.int8,0),9223372036854775807)::pg_catalog.int8)")
	}
	if ties {
		q = append(q, Piece{Own: " ROWS WITH TIES"})
	}
	return q
}

// countText is the text of a LIMIT. FETCH FIRST ROW has none, and is of one row.
func (a *analysis) countText(n *pg.Node) (SQL, bool) {
	if c := n.GetAConst(); c != nil && c.Location < 0 {
		return own("1"), true
	}
	r, ok := a.exprText(n)
	return a.span(r), ok
}

// returnsSets says whether a target list has, or may have, a function that gives
// several rows for one.
func (a *analysis) returnsSets(sel *pg.SelectStmt) bool {
	found := false
	for _, t := range sel.TargetList {
		a.eachCall(t, func(f *pg.FuncCall) {
			found = found || a.env.Schema.functions[unqualified(f.Funcname)].ReturnsSet
		})
	}
	return found
}

// order is the ORDER BY of the shards' statement, in terms of FROM.
func (c *combiner) order() (SQL, bool) {
	var q SQL
	for i, n := range c.sel.SortClause {
		s := n.GetSortBy()
		x := s.Node
		if x.GetAConst() != nil {
			c.a.textSpecific = true
			x = outputAt(c.sel, x)
		} else if t := c.a.targets[x.GetColumnRef()]; t != nil {
			x = t.Val
		}
		text, ok := c.sortText(x)
		if !ok || s.SortbyDir == pg.SortByDir_SORTBY_USING {
			return nil, false
		}
		q = append(q, Piece{Own: choose(i == 0, " ORDER BY (", ", (")})
		q = append(q, text...)
		dir := ")"
		if s.SortbyDir == pg.SortByDir_SORTBY_DESC {
			dir += " DESC"
		}
		switch s.SortbyNulls {
		case pg.SortByNulls_SORTBY_NULLS_FIRST:
			dir += " NULLS FIRST"
		case pg.SortByNulls_SORTBY_NULLS_LAST:
			dir += " NULLS LAST"
		}
		q = append(q, Piece{Own: dir})
	}
	return q, true
}

// sortText is an expression as the shards sort by it: a name alone would be that of a
// column of the result for them as well.
func (c *combiner) sortText(x *pg.Node) (SQL, bool) {
	if ref := x.GetColumnRef(); ref != nil {
		col, ok := c.a.columns[ref]
		if !ok || col.rte.block != c.b {
			return nil, false
		}
		return own(col.qualified()), true
	}
	r, ok := c.a.exprText(x)
	if _, own := c.a.regionOf(c.b, c.sources[0].anchor, c.b.alone(), x); !own || !ok || x.GetAConst() != nil {
		return nil, false
	}
	return c.a.span(r), true
}
