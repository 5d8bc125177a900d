package planner

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// selectStmt plans a SELECT, VALUES or TABLE.
func (a *analysis) selectStmt(n *pg.Node) Node {
	sel := n.GetSelectStmt()
	if c := a.setConfig(sel); c != nil {
		return c
	}
	lvl := a.query(sel, nil, nil)
	a.complete(n)
	if node, done := a.unsharded(); done {
		return node
	}
	if r := a.spanning(); r != nil {
		refuse(r)
	}
	merge, why := a.scatterSelect(sel, lvl)
	return a.pinnedOr(func() (Node, *Refusal) {
		if why != nil {
			return nil, why
		}
		return &Scatter{Merge: merge}, nil
	})
}

// unsharded plans a reading statement that uses no sharded table.
func (a *analysis) unsharded() (Node, bool) {
	if a.env.Shards == 1 {
		return &Route{Place: Home}, true
	}
	if len(a.leaves) > 0 {
		return nil, false
	}
	if a.nestedDML != "" && len(a.refs) > 0 || a.opaque != "" {
		refuse(a.spanning())
	}
	if len(a.locals) == 0 && len(a.refs) > 0 && a.home == "" && !a.writes {
		return &Route{Place: Any}, true
	}
	return &Route{Place: Home}, true
}

// pinnedOr plans a statement over sharded tables: to one shard when each is
// pinned, and by otherwise when they are not or when the pins lead to several.
func (a *analysis) pinnedOr(otherwise func() (Node, *Refusal)) Node {
	pins, ok := a.pins()
	other, r := otherwise()
	if r == nil {
		if m := a.multi(); m != nil {
			other, r = nil, m
		}
	}
	if ok {
		route := &Route{Place: Pinned, Pins: pins, Else: other, Refusal: r}
		if r != nil && !spreads(pins) {
			route.Refusal = &Refusal{Code: "0A000",
				Message: "the keys of this statement are on different shards, and it can't be run over several: " + r.Message, Hint: r.Hint}
		}
		switch o := other.(type) {
		case *Scatter:
			o.Pins = pins[:1]
		case *Broadcast:
			o.Pins = pins[:1]
		}
		return route
	}
	if r != nil {
		refuse(r)
	}
	return other
}

// spreads says whether a pin has alternatives.
func spreads(pins []Pin) bool {
	for _, p := range pins {
		if p.Array != nil || len(p.Keys) > 1 {
			return true
		}
	}
	return false
}

// scatterSelect says whether the shards' answers to a SELECT are disjoint parts
// of the whole one, and how they are merged.
func (a *analysis) scatterSelect(sel *pg.SelectStmt, lvl *level) (Merge, *Refusal) {
	no := func(what, hint string) (Merge, *Refusal) {
		return 0, unsupported(what+" over several shards is not supported yet", hint)
	}
	pinHint := "Pin every sharded table to one key with WHERE key = value."
	switch {
	case sel.Larg != nil:
		return no("UNION, INTERSECT or EXCEPT", "Send the parts as separate statements, or pin each to one key.")
	case sel.WithClause != nil && a.inCTE(sel.WithClause):
		return no("WITH", "Write the subquery in place, or pin every sharded table to one key.")
	case sel.IntoClause != nil:
		return no("SELECT INTO", pinHint)
	case len(sel.DistinctClause) > 0:
		return no("DISTINCT", pinHint)
	case len(sel.GroupClause) > 0:
		return no("GROUP BY", pinHint)
	case sel.HavingClause != nil:
		return no("HAVING", pinHint)
	case len(sel.SortClause) > 0:
		return no("ORDER BY", "Leave ORDER BY out and sort in the application, or pin every sharded table to one key.")
	case sel.LimitCount != nil || sel.LimitOffset != nil:
		return no("LIMIT", pinHint)
	}
	merge := Concat
	aggregates := 0
	window := false
	for _, t := range sel.TargetList {
		a.eachCall(t, func(f *pg.FuncCall) {
			if f.Over != nil {
				window = true
			} else if a.aggregate(f) {
				aggregates++
			}
		})
	}
	if window {
		return no("a window function", pinHint)
	}
	if aggregates > 0 {
		if !a.onlyCounts(sel.TargetList) {
			return no("an aggregate other than count", pinHint)
		}
		merge = AddIntegers
	}
	if _, r := a.scatterFrom(sel.FromClause, lvl, nil); r != nil {
		return 0, r
	}
	return merge, nil
}

// inCTE says whether a WITH clause reads a sharded table, or what may differ
// between shards.
func (a *analysis) inCTE(w *pg.WithClause) bool {
	for _, c := range w.Ctes {
		sel := c.GetCommonTableExpr().Ctequery.GetSelectStmt()
		if sel == nil || a.within(sel) || sel.LimitCount != nil || a.volatile {
			return true
		}
	}
	return false
}

// eachCall calls f for each function call of an expression's own query level.
func (a *analysis) eachCall(n *pg.Node, f func(*pg.FuncCall)) {
	var visit func(n *pg.Node)
	visit = func(n *pg.Node) {
		if n == nil || n.GetSubLink() != nil {
			return
		}
		if c := n.GetFuncCall(); c != nil {
			f(c)
		}
		children(n, visit)
	}
	visit(n)
}

// onlyCounts says whether a target list is nothing but counts, whose partial
// results are integers that add up to the whole.
func (a *analysis) onlyCounts(targets []*pg.Node) bool {
	for _, t := range targets {
		f := t.GetResTarget().GetVal().GetFuncCall()
		if f == nil || f.Over != nil || f.AggDistinct || len(f.AggOrder) > 0 || f.AggWithinGroup {
			return false
		}
		n := len(f.Funcname)
		if str(f.Funcname[n-1]) != "count" || n == 2 && str(f.Funcname[0]) != "pg_catalog" || n > 2 ||
			a.env.Schema.functions["count"].User {
			return false
		}
	}
	return true
}

// setConfig recognises SELECT set_config('name', 'value', local): a SET in the
// form of a query.
func (a *analysis) setConfig(sel *pg.SelectStmt) Node {
	if len(sel.TargetList) != 1 || len(sel.FromClause) > 0 || sel.WhereClause != nil || sel.Larg != nil {
		return nil
	}
	f := sel.TargetList[0].GetResTarget().GetVal().GetFuncCall()
	if f == nil || len(f.Args) != 3 || str(f.Funcname[len(f.Funcname)-1]) != "set_config" {
		return nil
	}
	name := f.Args[0].GetAConst().GetSval().GetSval()
	local := f.Args[2].GetAConst().GetBoolval()
	if name == "" || f.Args[2].GetAConst() == nil || f.Args[1].GetAConst() == nil {
		return nil
	}
	refuseSetting(name, f.Args[1].GetAConst().GetSval().GetSval())
	return &Control{Kind: Set, Tag: "SELECT 1", Name: settingName(name), Settings: []string{settingName(name)}, Local: local.GetBoolval()}
}
