package planner

import (
	"cmp"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Collations of the columns that queries give. Values travel without; where they are read
// again, COLLATE has to say which one they had.

// collates says whether an expression may have a collation other than the database's.
func (a *analysis) collates(n *pg.Node) bool {
	found := false
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.CollateClause:
			found = true
		case *pg.ColumnRef:
			col, ok := a.columns[v]
			found = found || !ok || col.rte.table.Columns[col.n].Collation != ""
		}
	})
	return found
}

// outputCollations are the names of the collations of a query's columns by position, as in
// Part. ok is false where they are not known. ctes says that it reads items of the
// statement's WITH.
func (g *gatherer) outputCollations(b *block, ctes bool) (names []string, ok bool) {
	if !g.mentionsCollations(b, ctes) {
		return nil, true
	}
	return g.a.collations(b)
}

// mentionsCollations says whether there may be other collations than the database's in a
// query, or in the statement around it.
func (g *gatherer) mentionsCollations(b *block, around bool) bool {
	sel := &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: b.sel}}
	if around {
		sel = g.stmt
	}
	found := false
	eachMessageBelow(sel, func(m protoMessage) {
		_, is := m.Interface().(*pg.CollateClause)
		found = found || is
	})
	w := g.a.wanted(sel)
	for _, u := range g.a.uses {
		if u.table == nil || u.rte == g.target || !around && !u.rte.block.below(b) {
			continue
		}
		for _, name := range w.columns(u.table, u) {
			found = found || u.table.Columns[u.table.Column(name)].Collation != ""
		}
	}
	return found
}

// collations are the collations of a query's columns, as far as their types have any.
func (a *analysis) collations(b *block) (names []string, ok bool) {
	switch {
	case b == nil:
		return nil, false
	case b.sel.Larg != nil:
		return a.mergedCollations(b)
	case len(b.sel.ValuesLists) > 0:
		return make([]string, len(b.sel.ValuesLists[0].GetList().GetItems())), !slices.ContainsFunc(b.sel.ValuesLists, a.collates)
	}
	for _, n := range b.sel.TargetList {
		v := n.GetResTarget().GetVal()
		if entry, star := star(v); star {
			for _, e := range b.lvl.rtes {
				if entry != "" && e.name != entry {
					continue
				}
				of, ok := a.entryCollations(b, e)
				if !ok || len(b.lvl.merged) > 0 {
					return nil, false
				}
				names = append(names, of...)
			}
			continue
		}
		name, ok := a.collation(b, v)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// textFunctions are functions of PostgreSQL's own whose result, where it has a collation,
// has the one of their arguments.
var textFunctions = set("lower", "upper", "initcap", "btrim", "ltrim", "rtrim", "replace", "translate", "substr", "substring", "left", "right", "lpad", "rpad", "repeat", "reverse",
	"min", "max", "string_agg", "lag", "lead", "first_value", "last_value", "nth_value")

// collation is the collation that an expression in a query has if its type is one that has
// any.
func (a *analysis) collation(b *block, v *pg.Node) (name string, ok bool) {
	switch {
	case !a.collates(v):
		return "", true
	case v.GetColumnRef() != nil:
		return a.columnCollation(b, v)
	case v.GetCollateClause() != nil:
		var names []string
		for _, n := range v.GetCollateClause().Collname {
			names = append(names, QuoteIdent(str(n)))
		}
		return strings.Join(names, "."), true
	case v.GetFuncCall() != nil:
		f := v.GetFuncCall()
		if fn := unqualified(f.Funcname); textFunctions[fn] && !a.env.Schema.functions[fn].User || !slices.ContainsFunc(f.Args, a.collates) {
			return a.commonCollation(b, f.Args)
		}
	case v.GetAExpr() != nil:
		e := v.GetAExpr()
		if e.Kind == pg.A_Expr_Kind_AEXPR_OP && len(e.Name) == 1 && str(e.Name[0]) == "||" && len(a.env.Schema.Operators["||"]) == 0 {
			return a.commonCollation(b, []*pg.Node{e.Lexpr, e.Rexpr})
		}
	case v.GetCoalesceExpr() != nil:
		return a.commonCollation(b, v.GetCoalesceExpr().Args)
	case v.GetCaseExpr() != nil:
		results := []*pg.Node{v.GetCaseExpr().Defresult}
		for _, n := range v.GetCaseExpr().Args {
			results = append(results, n.GetCaseWhen().Result)
		}
		return a.commonCollation(b, results)
	}
	return "", false
}

// commonCollation is the collation that comes of several expressions: one other than the
// database's counts for more than that. Two such are not decided here, nor is COLLATE in
// one of them, which counts for more than a column's.
func (a *analysis) commonCollation(b *block, exprs []*pg.Node) (name string, ok bool) {
	for _, v := range exprs {
		if v == nil {
			continue
		}
		explicit := false
		eachMessageBelow(v, func(m protoMessage) {
			_, is := m.Interface().(*pg.CollateClause)
			explicit = explicit || is
		})
		of, ok := a.collation(b, v)
		if !ok || explicit || of != "" && name != "" && of != name {
			return "", false
		}
		name = cmp.Or(name, of)
	}
	return name, true
}

// columnCollation is the collation of a column that a query refers to.
func (a *analysis) columnCollation(b *block, v *pg.Node) (name string, ok bool) {
	ref := v.GetColumnRef()
	c, known := a.entryColumn(v, b.lvl)
	if !known && len(b.lvl.rtes) == 1 { // of a subquery whose columns are not known by name otherwise
		c.rte = b.lvl.rtes[0]
		if s := a.subselect(b, c.rte); s != nil {
			names := a.columnNames(s.Subquery.GetSelectStmt(), c.rte)
			renameColumns(names, s.GetAlias().GetColnames())
			c.n = slices.Index(names, unqualified(ref.Fields))
			known = c.n >= 0
		}
	}
	if !known || b.lvl.recasts(ref) {
		return "", false
	}
	names, ok := a.entryCollations(b, c.rte)
	if !ok || c.n >= len(names) {
		return "", false
	}
	return names[c.n], true
}

// entryCollations are the collations of the columns of an entry of a query's FROM.
func (a *analysis) entryCollations(b *block, e *rte) (names []string, ok bool) {
	if e.table == nil {
		return a.collations(a.blocks[a.subselect(b, e).GetSubquery().GetSelectStmt()])
	}
	for _, c := range e.table.Columns {
		names = append(names, c.Collation)
	}
	return names, true
}

// subselect is the subquery in a query's FROM that an entry is, or nil.
func (a *analysis) subselect(b *block, e *rte) (found *pg.RangeSubselect) {
	for _, n := range b.sel.FromClause {
		eachMessageBelow(n, func(m protoMessage) {
			s, ok := m.Interface().(*pg.RangeSubselect)
			if x := a.blocks[s.GetSubquery().GetSelectStmt()]; ok && e.name != "" && s.GetAlias().GetAliasname() == e.name && x != nil && x.parent == b {
				found = s
			}
		})
	}
	return found
}

// mergedCollations are those of the columns of a set operation: one other than the
// database's counts for more than that.
func (a *analysis) mergedCollations(b *block) (names []string, ok bool) {
	left, ok1 := a.collations(a.blocks[b.sel.Larg])
	right, ok2 := a.collations(a.blocks[b.sel.Rarg])
	names = slices.Clone(left)
	for i, name := range right {
		switch {
		case i >= len(names):
			names = append(names, name)
		case names[i] == "":
			names[i] = name
		case name != "" && name != names[i]:
			return nil, false
		}
	}
	return names, ok1 && ok2
}
