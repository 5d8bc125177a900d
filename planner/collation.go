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
			found = found || !collatesDefault(v)
		case *pg.ColumnRef:
			col, ok := a.columns[v]
			found = found || !ok || a.env.Schema.collated(&col.rte.table.Columns[col.n])
		}
	})
	return found || a.castsCollated(n.ProtoReflect())
}

// collated says whether a column, or a part of its values, may have another collation than the
// database's.
func (s *Schema) collated(c *Column) bool { return c.Collation != "" || s.Collated[c.Type] != "" }

// castsCollated says whether there is a cast to a type that brings a collation of its own.
func (a *analysis) castsCollated(m protoMessage) (found bool) {
	eachMessage(m, func(m protoMessage) {
		if c, is := m.Interface().(*pg.TypeCast); is {
			found = found || a.collatedType(c.TypeName)
		}
	})
	return found
}

// collatedType says whether a type has a collation of its own: one of the user's, or name.
func (a *analysis) collatedType(t *pg.TypeName) bool {
	for _, name := range a.env.Schema.Collated {
		if name == unqualified(t.GetNames()) {
			return true
		}
	}
	return unqualified(t.GetNames()) == "name"
}

// collatedTypes are text, varchar, bpchar and name.
var collatedTypes = []uint32{25, 1043, 1042, 19}

// nameCollation is the collation of a cast to name: that of its type, which is C, for a constant
// or a parameter, while a column keeps its own.
func (a *analysis) nameCollation(b *block, arg *pg.Node) (name string, ok bool) {
	switch {
	case arg.GetAConst() != nil, arg.GetParamRef() != nil:
		return "", true
	case arg.GetColumnRef() == nil:
		return "", false
	}
	if col, known := a.columns[arg.GetColumnRef()]; !known || !slices.Contains(collatedTypes, col.rte.table.Columns[col.n].Type) {
		return "", false
	}
	name, ok = a.columnCollation(b, arg)
	return cmp.Or(name, `pg_catalog."default"`), ok
}

// collatesDefault says whether a COLLATE names the database's collation.
func collatesDefault(c *pg.CollateClause) bool { return unqualified(c.Collname) == "default" }

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
	found := hasCollate(sel.ProtoReflect()) || g.a.castsCollated(sel.ProtoReflect())
	w := g.a.wanted(sel)
	for _, u := range g.a.uses {
		if u.table == nil || u.rte == g.target || !around && !u.rte.block.below(b) {
			continue
		}
		for _, name := range w.columns(u.table, u) {
			found = found || g.a.env.Schema.collated(&u.table.Columns[u.table.Column(name)])
		}
	}
	return found
}

// collations are the collations of a query's columns, as far as their types have any.
func (a *analysis) collations(b *block) (names []string, ok bool) {
	switch {
	case b == nil:
		return nil, false
	case a.rowsOf[b.sel] != nil:
		return a.rowsOf[b.sel], true
	case b.sel.Larg != nil:
		return a.mergedCollations(b)
	case len(b.sel.ValuesLists) > 0:
		return make([]string, len(b.sel.ValuesLists[0].GetList().GetItems())), !slices.ContainsFunc(b.sel.ValuesLists, a.collates)
	}
	for _, n := range b.sel.TargetList {
		v := n.GetResTarget().GetVal()
		if entry, star := star(v); star {
			found := false
			for _, e := range b.lvl.rtes {
				if entry != "" && e.name != entry {
					continue
				}
				of, ok := a.entryCollations(b, e)
				if !ok || len(b.lvl.merged) > 0 || b.lvl.hidden {
					return nil, false
				}
				names, found = append(names, of...), true
			}
			if !found { // an entry of a query around
				return nil, false
			}
			continue
		}
		if f := v.GetAIndirection().GetIndirection(); len(f) > 0 && f[len(f)-1].GetAStar() != nil {
			return nil, false // several columns
		}
		name, ok := a.collation(b, v)
		if f := v.GetFuncCall(); !ok && f != nil && a.builtin(f) != "" {
			// It is that of the arguments, if the function gives a type that has any.
			name, ok = a.commonCollation(b, slices.Concat(f.Args, withinGroup(f)))
		}
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// textFunctions are functions of PostgreSQL's own whose result, where it has a collation,
// has the one of their arguments. Those of plainFunctions give what has none.
var (
	textFunctions = set("lower", "upper", "initcap", "btrim", "ltrim", "rtrim", "replace", "translate", "substr", "substring", "left", "right", "lpad", "rpad", "repeat", "reverse",
		"concat", "concat_ws", "format", "array_to_string", "split_part", "to_char", "md5",
		"min", "max", "string_agg", "lag", "lead", "first_value", "last_value", "nth_value", "mode", "percentile_disc")
	plainFunctions = set("length", "char_length", "character_length", "octet_length", "bit_length", "ascii", "strpos", "position", "hashtext", "count", "num_nulls", "num_nonnulls",
		"array_length", "array_position", "cardinality", "sum", "avg", "row_number", "rank", "dense_rank")
)

// collation is the collation that an expression in a query has if its type is one that has
// any.
func (a *analysis) collation(b *block, v *pg.Node) (name string, ok bool) {
	if !a.collates(v) {
		return "", true
	}
	switch x := v.Node.(type) {
	case *pg.Node_ColumnRef:
		return a.columnCollation(b, v)
	case *pg.Node_CollateClause:
		if collatesDefault(x.CollateClause) {
			return "", true
		}
		var names []string
		for _, n := range x.CollateClause.Collname {
			names = append(names, QuoteIdent(str(n)))
		}
		return strings.Join(names, "."), true
	case *pg.Node_FuncCall:
		f := x.FuncCall
		switch fn := a.builtin(f); {
		case plainFunctions[fn]:
			return "", true
		case textFunctions[fn], !slices.ContainsFunc(slices.Concat(f.Args, withinGroup(f)), a.collates):
			return a.commonCollation(b, slices.Concat(f.Args, withinGroup(f)))
		}
	case *pg.Node_AExpr:
		return a.operatorCollation(b, x.AExpr)
	case *pg.Node_BoolExpr, *pg.Node_NullTest, *pg.Node_BooleanTest, *pg.Node_GroupingFunc:
		return "", true
	case *pg.Node_TypeCast:
		if t := x.TypeCast.TypeName; numberType(t) != 0 || slices.Contains(dateTypes, typeOID(t)) {
			return "", true
		} else if unqualified(t.GetNames()) == "name" {
			return a.nameCollation(b, x.TypeCast.Arg)
		} else if a.collatedType(t) {
			return "", false
		}
		return a.collation(b, x.TypeCast.Arg)
	case *pg.Node_SubLink:
		if t := x.SubLink.SubLinkType; t != pg.SubLinkType_EXPR_SUBLINK && t != pg.SubLinkType_ARRAY_SUBLINK {
			return "", true
		}
		names, ok := a.collations(a.blocks[x.SubLink.Subselect.GetSelectStmt()])
		return slices.Concat(names, []string{""})[0], ok
	case *pg.Node_CoalesceExpr:
		return a.commonCollation(b, x.CoalesceExpr.Args)
	case *pg.Node_MinMaxExpr:
		return a.commonCollation(b, x.MinMaxExpr.Args)
	case *pg.Node_AArrayExpr:
		return a.commonCollation(b, x.AArrayExpr.Elements)
	case *pg.Node_CaseExpr:
		results := []*pg.Node{x.CaseExpr.Defresult}
		for _, n := range x.CaseExpr.Args {
			results = append(results, n.GetCaseWhen().Result)
		}
		return a.commonCollation(b, results)
	}
	return "", false
}

// withinGroup are what an ordered-set aggregate sorts by, whose collation its result has.
func withinGroup(f *pg.FuncCall) (exprs []*pg.Node) {
	if f.AggWithinGroup {
		for _, n := range f.AggOrder {
			exprs = append(exprs, n.GetSortBy().GetNode())
		}
	}
	return exprs
}

// plainOperators are operators of PostgreSQL's own whose result has no collation.
var plainOperators = set("=", "<>", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "^", "&", "|", "#", "@>", "<@", "?", "&&", "~", "!~", "~*", "!~*")

// operatorCollation is the collation of what an operator gives.
func (a *analysis) operatorCollation(b *block, e *pg.A_Expr) (name string, ok bool) {
	op := str(e.Name[len(e.Name)-1])
	switch {
	case len(e.Name) != 1 || len(a.env.Schema.Operators[op]) > 0:
		return "", false
	case e.Kind == pg.A_Expr_Kind_AEXPR_NULLIF, e.Kind == pg.A_Expr_Kind_AEXPR_OP && op == "||":
		return a.commonCollation(b, []*pg.Node{e.Lexpr, e.Rexpr})
	}
	return "", e.Kind != pg.A_Expr_Kind_AEXPR_OP || plainOperators[op]
}

// commonCollation is the collation that comes of several expressions: one other than the
// database's counts for more than that. Two such are not decided here, nor is one beside
// COLLATE, which counts for more than a column's.
func (a *analysis) commonCollation(b *block, exprs []*pg.Node) (name string, ok bool) {
	explicit := false
	for _, v := range exprs {
		if v == nil {
			continue
		}
		explicit = explicit || hasCollate(v.ProtoReflect())
		of, ok := a.collation(b, v)
		if !ok || of != "" && name != "" && of != name {
			return "", false
		}
		name = cmp.Or(name, of)
	}
	return name, name == "" || !explicit
}

// hasCollate says whether there is a COLLATE in an expression or a query.
func hasCollate(m protoMessage) (found bool) {
	eachMessage(m, func(m protoMessage) {
		_, is := m.Interface().(*pg.CollateClause)
		found = found || is
	})
	return found
}

// columnCollation is the collation of a column that a query refers to.
func (a *analysis) columnCollation(b *block, v *pg.Node) (name string, ok bool) {
	ref := v.GetColumnRef()
	if len(ref.Fields) == 2 && a.plainFunction(b, str(ref.Fields[0])) {
		return "", true
	}
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

// plainFunction says whether a name is the one of functions of PostgreSQL's own in a query's
// FROM, of arguments that have no other collation than the database's.
func (a *analysis) plainFunction(b *block, name string) bool {
	items := slices.Clone(b.sel.FromClause)
	for i := 0; i < len(items); i++ {
		if j := items[i].GetJoinExpr(); j != nil {
			items = append(items, j.Larg, j.Rarg)
		}
		f := items[i].GetRangeFunction()
		if f == nil || f.Alias.GetAliasname() != name {
			continue
		}
		plain := len(f.Coldeflist) == 0 && !slices.ContainsFunc(f.Functions, a.collates)
		for _, n := range f.Functions {
			eachMessageBelow(n, func(m protoMessage) {
				if c, ok := m.Interface().(*pg.FuncCall); ok {
					plain = plain && a.builtin(c) != ""
				}
			})
		}
		return plain
	}
	return false
}

// entryCollations are the collations of the columns of an entry of a query's FROM.
func (a *analysis) entryCollations(b *block, e *rte) (names []string, ok bool) {
	t := e.table
	if i := slices.IndexFunc(a.uses, func(u use) bool { return u.rte == e }); t == nil && i >= 0 { // local, or a view
		t = a.uses[i].table
	}
	if t == nil {
		return a.collations(a.blocks[a.subselect(b, e).GetSubquery().GetSelectStmt()])
	}
	for _, c := range t.Columns {
		names = append(names, c.Collation)
	}
	return names, true
}

// subselect is the subquery in a query's FROM that an entry is, or nil.
func (a *analysis) subselect(b *block, e *rte) (found *pg.RangeSubselect) {
	if !slices.Contains(b.lvl.rtes, e) {
		return nil
	}
	several := false
	for _, n := range b.sel.FromClause {
		eachMessageBelow(n, func(m protoMessage) {
			s, ok := m.Interface().(*pg.RangeSubselect)
			if x := a.blocks[s.GetSubquery().GetSelectStmt()]; ok && e.name != "" && s.GetAlias().GetAliasname() == e.name && x != nil && x.parent == b {
				several = several || found != nil // one of them in a join with an alias
				found = s
			}
		})
	}
	if several {
		return nil
	}
	return found
}

// mergedCollations are those of the columns of a set operation: one other than the
// database's counts for more than that, as long as there is no COLLATE.
func (a *analysis) mergedCollations(b *block) (names []string, ok bool) {
	explicit := hasCollate(b.sel.ProtoReflect())
	left, ok1 := a.collations(a.blocks[b.sel.Larg])
	right, ok2 := a.collations(a.blocks[b.sel.Rarg])
	names = slices.Clone(left)
	for i, name := range right {
		switch {
		case i >= len(names):
			names = append(names, name)
		case explicit && name != names[i]:
			return nil, false
		case names[i] == "":
			names[i] = name
		case name != "" && name != names[i]:
			return nil, false
		}
	}
	return names, ok1 && ok2
}
