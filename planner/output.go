package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A name alone in GROUP BY, ORDER BY and DISTINCT ON may be that of a column of the
// result, and a number is one's position. The rules are those of findTargetlistEntrySQL92
// in PostgreSQL's parse_clause.c.

// outputItems analyses the items of such a clause. order says that a column of the
// result comes before one of FROM; in GROUP BY, it is the other way round.
func (a *analysis) outputItems(sel *pg.SelectStmt, items []*pg.Node, lvl *level, f *facts, order bool) {
	for _, n := range items {
		if ref := sorted(n).GetColumnRef(); ref == nil || !a.output(sel, ref, lvl, order) {
			a.expr(n, lvl, f)
		}
	}
}

// sorted is the expression of an item of ORDER BY, or another node itself.
func sorted(n *pg.Node) *pg.Node {
	if s := n.GetSortBy(); s != nil {
		return s.Node
	}
	return n
}

// output says whether a reference is to a column of the result, and notes which, if it
// is certain.
func (a *analysis) output(sel *pg.SelectStmt, ref *pg.ColumnRef, lvl *level, order bool) bool {
	name := str(ref.Fields[0])
	if len(ref.Fields) > 1 || name == "" {
		return false
	}
	only := sel.Larg != nil || len(sel.ValuesLists) > 0 // nothing else can be meant
	for sel.Larg != nil {
		sel, lvl = sel.Larg, new(level) // which gives the names
	}
	if !order && lvl.mayHave(name) {
		return false
	}
	uncertain := only
	for _, n := range sel.TargetList {
		t := n.GetResTarget()
		if isStar(n) {
			// A star alone gives what the name means in FROM.
			entry, ok := star(t.Val)
			uncertain = uncertain || !ok || entry != "" && !a.starColumn(ref, entry, name, lvl)
			continue
		}
		switch outputName(t) {
		case name:
			a.targets[ref] = t
			delete(a.columns, ref)
			return true
		case "":
			uncertain = true
		}
	}
	_, found := a.columns[ref]
	return uncertain || found
}

// starColumn looks for a name among the columns that entry.* gives, and notes the
// column. It returns false where it may be one and it isn't certain which.
func (a *analysis) starColumn(ref *pg.ColumnRef, entry, name string, lvl *level) bool {
	i := slices.IndexFunc(lvl.rtes, func(e *rte) bool { return e.name == entry })
	if i < 0 || lvl.rtes[i].columns == nil {
		return false
	}
	e := lvl.rtes[i]
	k := slices.Index(e.columns, name)
	if k >= 0 && e.table != nil {
		a.columns[ref] = column{e, k}
	}
	return k < 0 || e.table != nil
}

// isStar says whether an item of a select list stands for several columns.
func isStar(t *pg.Node) bool {
	v := t.GetResTarget().GetVal()
	fields := v.GetColumnRef().GetFields()
	if ind := v.GetAIndirection(); ind != nil {
		fields = ind.Indirection
	}
	return len(fields) > 0 && fields[len(fields)-1].GetAStar() != nil
}

// star says whether an expression is a star, and of which entry of FROM.
func star(n *pg.Node) (entry string, ok bool) {
	f := n.GetColumnRef().GetFields()
	if len(f) == 0 || f[len(f)-1].GetAStar() == nil {
		return "", false
	}
	if len(f) > 1 {
		entry = str(f[len(f)-2])
	}
	return entry, true
}

// mayHave says whether a name alone may be that of a column of the level itself.
func (l *level) mayHave(name string) bool {
	if _, ok := l.merged[name]; ok {
		return true
	}
	return slices.ContainsFunc(l.rtes, func(e *rte) bool { return e.columns == nil || slices.Contains(e.columns, name) })
}

// groupTerms are the expressions of GROUP BY, those in grouping sets included. A row
// without the word ROW is a list.
func groupTerms(items []*pg.Node) (terms []*pg.Node) {
	for _, n := range items {
		switch {
		case n.GetGroupingSet() != nil:
			terms = append(terms, groupTerms(n.GetGroupingSet().Content)...)
		case n.GetRowExpr().GetRowFormat() == pg.CoercionForm_COERCE_IMPLICIT_CAST:
			terms = append(terms, groupTerms(n.GetRowExpr().Args)...)
		default:
			terms = append(terms, n)
		}
	}
	return terms
}

// grouped are the expressions that a SELECT groups by: a position or the name of a
// column of the result stands for that. A position that can't be told, since a star is
// before it, is left as it is.
//
// A plan for expressions with literals is for that text alone: in another one, what are
// the same expressions here may differ.
func (a *analysis) grouped(sel *pg.SelectStmt) []*pg.Node {
	terms := groupTerms(sel.GroupClause)
	for i, n := range terms {
		if t := a.targets[n.GetColumnRef()]; t != nil {
			terms[i] = t.Val
		} else if n.GetAConst() != nil {
			a.textSpecific = true
			terms[i] = outputAt(sel, n)
		}
		a.textSpecific = a.textSpecific || hasLiteral(terms[i])
	}
	return terms
}

// hasLiteral says whether a constant is in an expression.
func hasLiteral(n *pg.Node) bool {
	has := false
	eachMessageBelow(n, func(m protoMessage) {
		_, is := m.Interface().(*pg.A_Const)
		has = has || is
	})
	return has
}

// outputAt is the expression of the column of the result at a position, or the
// position itself where that can't be told.
func outputAt(sel *pg.SelectStmt, position *pg.Node) *pg.Node {
	k := int(position.GetAConst().GetIval().GetIval())
	if k < 1 || k > len(sel.TargetList) || slices.ContainsFunc(sel.TargetList[:k], isStar) {
		return position
	}
	return sel.TargetList[k-1].GetResTarget().Val
}
