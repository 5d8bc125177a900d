package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// joinTree mirrors the FROM clause.
type joinTree struct {
	rte         *rte           // a table, function or subquery
	sub         *pg.SelectStmt // of a LATERAL subquery in FROM
	around      *facts         // of another subquery: what holds around it
	exprs       []*pg.Node     // of a function in FROM
	join        *pg.JoinExpr
	left, right *joinTree
	inner       *level // of a join with an alias: its names are not visible outside
	sees        *level // what the ON condition, or a LATERAL item, sees of the level
}

// from analyses a FROM clause with its WHERE condition. It returns what holds
// for the rows that pass.
func (a *analysis) from(items []*pg.Node, where *pg.Node, lvl *level, outer *facts) *facts {
	var trees []*joinTree
	for _, it := range items {
		trees = append(trees, a.tree(it, lvl))
	}
	f := &facts{outer: outer}
	a.collect(where, lvl, f)
	for _, t := range trees {
		a.spread(t, lvl, f)
	}
	a.expr(where, lvl, f)
	return f
}

// tree registers the entries below a FROM item.
func (a *analysis) tree(n *pg.Node, lvl *level) *joinTree {
	switch {
	case n.GetRangeVar() != nil:
		e := a.relation(n.GetRangeVar(), lvl)
		lvl.rtes = append(lvl.rtes, e)
		return &joinTree{rte: e}
	case n.GetRangeSubselect() != nil:
		s := n.GetRangeSubselect()
		e := &rte{}
		if s.Alias != nil {
			e.name = s.Alias.Aliasname
		}
		t := &joinTree{rte: e, sees: lvl.scope(lvl.rtes)}
		if s.Lateral {
			t.sub = s.Subquery.GetSelectStmt()
		} else {
			t.around = a.derive(s, e, lvl)
		}
		lvl.rtes = append(lvl.rtes, e)
		return t
	case n.GetRangeFunction() != nil:
		fn := n.GetRangeFunction()
		e := &rte{}
		if fn.Alias != nil {
			e.name = fn.Alias.Aliasname
		} else if f := fn.Functions[0].GetList().GetItems()[0].GetFuncCall(); f != nil {
			e.name = unqualified(f.Funcname)
		} else {
			lvl.unnamed = true
		}
		t := &joinTree{rte: e, exprs: fn.Functions, sees: lvl.scope(lvl.rtes)}
		lvl.rtes = append(lvl.rtes, e)
		return t
	case n.GetJoinExpr() != nil:
		j := n.GetJoinExpr()
		t := &joinTree{join: j}
		in := lvl
		if j.Alias != nil {
			in = &level{parent: lvl.parent, ctes: lvl.ctes}
			t.inner = in
		}
		first := len(in.rtes)
		t.left = a.tree(j.Larg, in)
		middle := len(in.rtes)
		t.right = a.tree(j.Rarg, in)
		a.mergeColumns(j, in, in.rtes[first:middle], in.rtes[middle:])
		t.sees = in.scope(in.rtes[first:])
		if j.Alias != nil {
			lvl.rtes = append(lvl.rtes, &rte{name: j.Alias.Aliasname})
		}
		if j.JoinUsingAlias != nil {
			lvl.rtes = append(lvl.rtes, &rte{name: j.JoinUsingAlias.Aliasname})
		}
		return t
	case n.GetRangeTableSample() != nil:
		s := n.GetRangeTableSample()
		t := a.tree(s.Relation, lvl)
		t.sees = lvl.scope(lvl.rtes[:len(lvl.rtes)-1])
		a.notStable("TABLESAMPLE")
		if rv := s.Relation.GetRangeVar(); rv != nil {
			if a.sampled == nil {
				a.sampled = map[*pg.RangeVar]bool{}
			}
			a.sampled[rv] = true
		}
		t.exprs = append(append(t.exprs, s.Args...), s.Repeatable)
		return t
	}
	refuse(unsupported("this form of FROM item is not supported over shards yet", "Use tables, joins, subqueries or functions in FROM."))
	return nil
}

// mergeColumns notes what an unqualified name means after USING or NATURAL: one
// side's column, if the other's is of the same family, so that PostgreSQL
// compares it in that type.
func (a *analysis) mergeColumns(j *pg.JoinExpr, lvl *level, left, right []*rte) {
	if j.IsNatural && slices.ContainsFunc(lvl.rtes, func(e *rte) bool { return e.columns == nil }) {
		lvl.hidden = true
	}
	for _, name := range usingColumns(j, left, right) {
		if lvl.merged == nil {
			lvl.merged, lvl.recast = map[string]column{}, map[string]bool{}
		}
		l, r := lvl.side(left, name), lvl.side(right, name)
		var c column
		if l.base().family() == r.base().family() {
			switch j.Jointype {
			case pg.JoinType_JOIN_INNER, pg.JoinType_JOIN_LEFT:
				c = l
			case pg.JoinType_JOIN_RIGHT:
				c = r
			}
		}
		lvl.merged[name] = c
		lvl.recast[name] = lvl.recast[name] || !sameValue(j.Jointype, l.base(), r.base())
	}
}

// sameValue says whether a merged column has its column's type, and its values to the
// last digit: of two columns of one type that differ in their modifiers, an inner join
// may take either.
func sameValue(t pg.JoinType, l, r column) bool {
	if l.rte == nil || r.rte == nil || l.typ().Type != r.typ().Type || !l.typ().Scalar || !r.typ().Scalar {
		return false
	}
	f := l.family()
	return t != pg.JoinType_JOIN_INNER || f != familyNone && f != familyBpchar && l.bytewise() && r.bytewise()
}

// typ is the column of the table.
func (c column) typ() *Column { return &c.rte.table.Columns[c.n] }

// side is the column that a name means within one side of a join; the zero column
// where that isn't certain.
func (l *level) side(rtes []*rte, name string) column {
	if m := l.merged[name]; m.rte != nil && slices.Contains(rtes, m.rte) {
		return m
	}
	c, _ := among(rtes, name)
	return c
}

// usingColumns are the names that a join merges.
func usingColumns(j *pg.JoinExpr, left, right []*rte) (names []string) {
	names = stringsOf(j.UsingClause)
	if j.IsNatural {
		for _, e := range left {
			for _, c := range e.columns {
				for _, r := range right {
					if slices.Contains(r.columns, c) {
						names = append(names, c)
					}
				}
			}
		}
	}
	return names
}

// among finds a column by name among entries; ok only when it is certain which.
func among(rtes []*rte, name string) (column, bool) {
	var found column
	for _, e := range rtes {
		if e.columns == nil {
			return column{}, false
		}
		if i := slices.Index(e.columns, name); i >= 0 {
			if found.rte != nil {
				return column{}, false
			}
			found = column{e, i}
		}
	}
	return found, found.rte != nil
}

// spread carries facts down a join tree, to where each table is.
func (a *analysis) spread(t *joinTree, lvl *level, f *facts) {
	switch {
	case t.join != nil:
		in := lvl
		if t.inner != nil {
			in, f = t.inner, nil
		}
		on := &facts{outer: f}
		a.collect(t.join.Quals, t.sees, on)
		a.usingFacts(t, on)
		left, right := f, f
		switch t.join.Jointype {
		case pg.JoinType_JOIN_INNER:
			left, right = on, on
		case pg.JoinType_JOIN_LEFT:
			right = on
		case pg.JoinType_JOIN_RIGHT:
			left = on
		}
		a.spread(t.left, in, left)
		a.spread(t.right, in, right)
		a.expr(t.join.Quals, t.sees, nil)
	case t.sub != nil:
		a.query(t.sub, t.sees, f)
	case t.around != nil:
		t.around.outer = f
	default:
		if t.rte.leaf != nil {
			t.rte.leaf.facts = f
		}
		if t.rte.changed != nil {
			t.rte.changed.holds(f)
		}
		a.exprs(t.exprs, t.sees, nil)
	}
}

// usingFacts adds the equalities of USING and NATURAL.
func (a *analysis) usingFacts(t *joinTree, on *facts) {
	left, right := t.left.entries(), t.right.entries()
	for _, name := range usingColumns(t.join, left, right) {
		l, ok1 := among(left, name)
		r, ok2 := among(right, name)
		if ok1 && ok2 {
			on.equate(l, r)
		}
	}
}

func (t *joinTree) entries() []*rte {
	if t.join == nil {
		return []*rte{t.rte}
	}
	if t.inner != nil {
		return []*rte{{}}
	}
	return append(t.left.entries(), t.right.entries()...)
}
