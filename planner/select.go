package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// selectStmt plans a SELECT, VALUES or TABLE.
func (a *analysis) selectStmt(n *pg.Node) Node {
	sel := n.GetSelectStmt()
	if c := a.setConfig(sel); c != nil {
		return c
	}
	a.query(sel, nil, nil)
	a.complete(n)
	if len(a.views) > 0 {
		panic(viewsUsed{})
	}
	if a.neverLocks(sel) {
		return &Route{Place: Home} // PostgreSQL says why
	}
	if node, done := a.unsharded(); done {
		return node
	}
	if r := a.spanning(); r != nil {
		// No shard has all that is read, wherever the keys lead.
		node, why := a.gather(n, r)
		if why != nil {
			refuse(why)
		}
		return node
	}
	if a.usesHome != "" {
		// It can't run on another shard, wherever the keys lead.
		if node, why := a.gather(n, homesOwn(a.usesHome)); why == nil {
			return node
		}
	}
	return a.pinnedOr(func() (Node, *leaf, *Refusal) {
		merge, anchor, why := a.scatterSelect(sel, false)
		if why == nil {
			why = a.multi()
		}
		if why == nil {
			why = a.inserted()
		}
		if why == nil && len(a.items) > 0 {
			return &Broadcast{Merge: merge}, anchor, nil
		}
		if why == nil {
			return &Scatter{Merge: merge}, anchor, nil
		}
		node, why := a.gather(n, why)
		if g, ok := node.(*Gather); ok && why == nil && len(a.items) == 0 {
			if o, anchor := a.mergeSorted(sel, g); o != nil {
				return o, anchor, nil
			}
		}
		return node, nil, why
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
	a.homeOnly()
	if len(a.locals) == 0 && len(a.refs) > 0 && a.home == "" && a.usesHome == "" && !a.writes {
		return &Route{Place: Any}, true
	}
	return &Route{Place: Home}, true
}

// homeOnly refuses what the home shard can't do alone although no sharded table
// is named: change copies of a reference table, or run what can't be seen into.
func (a *analysis) homeOnly() {
	if a.nestedDML != "" && (len(a.refs) > 0 || a.mixed) || a.opaque != "" {
		refuse(a.spanning())
	}
}

// pinnedOr plans a statement over sharded tables: to one shard when each is
// pinned, and by otherwise when they are not or when the pins lead to several.
// The pin of the table by which otherwise spreads prunes its shards; another
// table's may be for fewer rows, as in the ON of an outer join.
func (a *analysis) pinnedOr(otherwise func() (Node, *leaf, *Refusal)) Node {
	pins, ok := a.pins()
	if ok && together(pins) {
		return &Route{Place: Pinned, Pins: pins}
	}
	other, anchor, r := otherwise()
	if ok {
		route := &Route{Place: Pinned, Pins: pins, Else: other, Refusal: r}
		if r != nil && !spreads(pins) {
			route.Refusal = &Refusal{Code: "0A000",
				Message: "the keys of this statement are on different shards, and it can't be run over several: " + r.Message, Hint: r.Hint}
		}
		if r == nil && anchor != nil && len(a.items) == 0 {
			prune := pins[slices.Index(a.leaves, anchor)]
			switch o := other.(type) {
			case *Scatter:
				o.Pins = []Pin{prune}
			case *Ordered:
				o.Pins = []Pin{prune}
			case *Broadcast:
				o.Pins = []Pin{prune}
			}
		}
		return route
	}
	if r != nil {
		refuse(r)
	}
	return other
}

// together says whether pins lead to one shard whatever their values are: each is
// one and the same key.
func together(pins []Pin) bool {
	for _, p := range pins {
		if p.Array != nil || len(p.Keys) != 1 || !slices.Equal(p.Keys[0], pins[0].Keys[0]) || !colocated(p.Table.Key, pins[0].Table.Key) {
			return false
		}
	}
	return true
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
// of the whole one, and how they are merged. sorted says that ORDER BY, LIMIT and
// DISTINCT are seen to.
func (a *analysis) scatterSelect(sel *pg.SelectStmt, sorted bool) (Merge, *leaf, *Refusal) {
	no := func(what, hint string) (Merge, *leaf, *Refusal) {
		return 0, nil, unsupported(what+" over several shards is not supported yet", hint)
	}
	pinHint := "Pin every sharded table to one key with WHERE key = value."
	switch {
	case sel.Larg != nil:
		return no("UNION, INTERSECT or EXCEPT", "Send the parts as separate statements, or pin each to one key.")
	case sel.WithClause != nil && a.inCTE(sel.WithClause):
		return no("WITH", "Write the subquery in place, or pin every sharded table to one key.")
	}
	anchor, why := a.scatterFrom(sel.FromClause, nil)
	grouped := why == nil && a.groupsByKey(sel, anchor)
	switch {
	case len(sel.DistinctClause) > 0 && !sorted && (why != nil || !a.distinctByKey(sel, anchor)):
		return no("DISTINCT", pinHint)
	case len(sel.GroupClause) > 0 && !grouped:
		return no("GROUP BY", pinHint)
	case sel.HavingClause != nil && !grouped:
		return no("HAVING", pinHint)
	case len(sel.SortClause) > 0 && !sorted:
		return no("ORDER BY", "Leave ORDER BY out and sort in the application, or pin every sharded table to one key.")
	case !sorted && (sel.LimitCount != nil || sel.LimitOffset != nil):
		return no("LIMIT", pinHint)
	}
	merge := Concat
	if a.windows(sel) && (why != nil || !a.windowsByKey(sel, anchor)) {
		return no("a window function", pinHint)
	}
	if a.outerAgg {
		return no("an aggregate that may be of the query around its subquery", pinHint)
	}
	if a.aggregates(sel) && !grouped {
		if !a.onlyCounts(sel.TargetList) {
			return no("an aggregate other than count", pinHint)
		}
		merge = AddIntegers
	}
	return merge, anchor, why
}

// inCTE says whether a WITH clause reads a sharded table, but for items that change one.
func (a *analysis) inCTE(w *pg.WithClause) bool {
	for _, c := range w.Ctes {
		if a.items[c.GetCommonTableExpr().Ctename] != nil {
			continue
		}
		sel := c.GetCommonTableExpr().Ctequery.GetSelectStmt()
		if sel == nil || a.within(sel) {
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
		switch {
		case n.GetFuncCall() != nil:
			f(n.GetFuncCall())
		case n.GetJsonArrayAgg() != nil, n.GetJsonObjectAgg() != nil:
			f(jsonAggregate)
		}
		children(n, visit)
	}
	visit(n)
}

// jsonAggregate stands for JSON_ARRAYAGG and JSON_OBJECTAGG, which the grammar
// knows by themselves.
var jsonAggregate = &pg.FuncCall{Funcname: []*pg.Node{pg.MakeStrNode("json aggregate")}, AggStar: true}

// onlyCounts says whether a target list is nothing but counts, whose partial
// results are integers that add up to the whole.
func (a *analysis) onlyCounts(targets []*pg.Node) bool {
	for _, t := range targets {
		f := t.GetResTarget().GetVal().GetFuncCall()
		if f == nil || f.Over != nil || f.AggDistinct || len(f.AggOrder) > 0 || f.AggWithinGroup || a.builtin(f) != "count" {
			return false
		}
	}
	return true
}

// setConfig recognises SELECT set_config('name', 'value', local): a SET in the
// form of a query. pg_dump reads the name from pg_settings, to set only what the
// server knows.
func (a *analysis) setConfig(sel *pg.SelectStmt) Node {
	if len(sel.TargetList) != 1 {
		return nil
	}
	f := sel.TargetList[0].GetResTarget().GetVal().GetFuncCall()
	if f == nil || len(f.Args) != 3 || unqualified(f.Funcname) != "set_config" {
		return nil
	}
	name := f.Args[0].GetAConst().GetSval().GetSval()
	if f.Args[0].GetColumnRef() != nil {
		if name = a.knownSetting(sel, f.Args[0]); OwnSetting(settingName(name)) {
			return nil
		}
	} else if !bare(sel) {
		return nil
	}
	local, ok := f.Args[2].GetAConst().GetVal().(*pg.A_Const_Boolval)
	value := f.Args[1].GetAConst().GetSval()
	if name == "" || !ok || value == nil || len(f.Funcname) == 2 && str(f.Funcname[0]) != "pg_catalog" {
		return nil
	}
	refuseSetting(name, value.GetSval())
	a.textSpecific = true // the setting's name is a literal
	return &Control{Kind: Set, Tag: "SELECT 1", Name: settingName(name), Value: value.GetSval(), Settings: []string{settingName(name)}, Local: local.Boolval.GetBoolval()}
}

// knownSetting returns the literal in SELECT ... FROM pg_settings WHERE name = 'literal',
// where column is the reference to name in the target list; else "".
func (a *analysis) knownSetting(sel *pg.SelectStmt, column *pg.Node) string {
	rest := proto.Clone(sel).(*pg.SelectStmt)
	rest.FromClause, rest.WhereClause = nil, nil
	if !bare(rest) || len(sel.FromClause) != 1 {
		return ""
	}
	rv := sel.FromClause[0].GetRangeVar()
	if rv == nil || rv.Relname != "pg_settings" || rv.Alias != nil || !a.env.system(rv.Schemaname, rv.Relname) {
		return ""
	}
	name, value := equated(sel.WhereClause)
	for _, n := range []*pg.Node{column, name} {
		if fields := n.GetColumnRef().GetFields(); len(fields) != 1 || str(fields[0]) != "name" {
			return ""
		}
	}
	return value.GetAConst().GetSval().GetSval()
}

// bare says whether a SELECT is nothing but its target list.
func bare(sel *pg.SelectStmt) bool {
	rest := proto.Clone(sel).(*pg.SelectStmt)
	rest.TargetList, rest.LimitOption, rest.Op = nil, 0, 0
	return proto.Size(rest) == 0 && sel.LimitCount == nil && sel.Larg == nil
}

// windows says whether there is a window function.
func (a *analysis) windows(sel *pg.SelectStmt) bool {
	found := false
	for _, n := range slices.Concat(sel.TargetList, sel.DistinctClause, sel.SortClause) {
		a.eachCall(n, func(f *pg.FuncCall) { found = found || f.Over != nil })
	}
	return found
}

// aggregates says whether there is an aggregate, or HAVING, which makes one group.
func (a *analysis) aggregates(sel *pg.SelectStmt) bool {
	found := sel.HavingClause != nil
	for _, n := range slices.Concat(sel.TargetList, sel.DistinctClause, sel.WindowClause, sel.SortClause) {
		a.eachCall(n, func(f *pg.FuncCall) { found = found || a.aggregate(f) })
	}
	return found
}
