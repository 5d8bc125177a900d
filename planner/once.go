package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A subquery that depends on no row around it is run once by one PostgreSQL. The shards
// of a table that is changed would each run it, over the same rows, and would all have to
// choose alike where its result does not follow from its rows: by a LIMIT among rows that
// are sorted alike, say. So the home shard runs it, and what it gives is a part for all
// of them. A subquery that does depend on a row is run for each row, and each row is on
// one shard.

// once is such a subquery.
type once struct {
	b    *block
	text byteRange
	part int // its number
	// ctes are the items of the statement's WITH that it reads, which are run once as well.
	ctes       []*pg.CommonTableExpr
	collations []string // as in Part
}

// runOnce decides whether the home shard runs a subquery once.
func (g *gatherer) runOnce(b *block) {
	a := g.a
	if g.target == nil || g.target.table == nil || g.copies != nil || !distributed(g.target.table.Distribution) || a.onlyFollows(b) || b.columnless() || slices.ContainsFunc(g.onces, func(o *once) bool { return b.below(o.b) }) {
		return
	}
	depends, certain := a.dependence(b)
	if depends || certain && g.addOnce(b) {
		return
	}
	if what := a.choosing(b); what != "" {
		g.refusal = unsupported("a subquery with "+what+" in a statement that changes rows of several shards has to be run once for all of them, and can't be in this form",
			"Send it as a statement of its own, and pass the result as a parameter.")
	}
}

// columnless says whether a query gives no columns: its rows count, and none can be chosen.
func (b *block) columnless() bool {
	return b.sel.Larg == nil && len(b.sel.TargetList)+len(b.sel.ValuesLists) == 0
}

// addOnce has the home shard run a subquery. It returns false where its text, or a
// collation of what it gives, is not known.
func (g *gatherer) addOnce(b *block) bool {
	a := g.a
	if slices.ContainsFunc(g.onces, func(o *once) bool { return o.b == b }) {
		return true
	}
	o := &once{b: b}
	var ok bool
	if o.text, ok = a.nestedText(b.sel); !ok {
		return false
	}
	names, ok := g.outerCTEs(b.sel)
	if !ok {
		return false
	}
	for _, name := range names {
		cte := g.cte(name)
		inner := a.blocks[cte.GetCtequery().GetSelectStmt()]
		if inner == nil || !g.addOnce(inner) {
			return false
		}
		o.ctes = append(o.ctes, cte)
	}
	if o.collations, ok = g.outputCollations(b, len(names) > 0); !ok {
		return false
	}
	o.part = len(g.parts)
	g.parts = append(g.parts, &Part{})
	g.onces = append(g.onces, o)
	return true
}

// onlyExists says whether a subquery is one of EXISTS: its rows count, and nothing of them.
func (a *analysis) onlyExists(b *block) bool {
	found := false
	eachMessage(a.stmt.ProtoReflect(), func(m protoMessage) {
		s, ok := m.Interface().(*pg.SubLink)
		found = found || ok && s.SubLinkType == pg.SubLinkType_EXISTS_SUBLINK && s.Subselect.GetSelectStmt() == b.sel
	})
	return found
}

// cte is the item of the statement's WITH of that name, if it doesn't refer to itself; else nil.
func (g *gatherer) cte(name string) *pg.CommonTableExpr {
	if withOf(g.stmt).GetRecursive() {
		return nil
	}
	for _, n := range withOf(g.stmt).GetCtes() {
		if cte := n.GetCommonTableExpr(); cte.Ctename == name {
			return cte
		}
	}
	return nil
}

// composeOnces makes the parts of the subqueries inside a block, of all if it is nil. What
// is inside of them has been composed.
func (g *gatherer) composeOnces(outer *block) bool {
	for _, o := range g.onces {
		if p := g.parts[o.part]; p.Query != nil || outer != nil && (o.b == outer || !o.b.below(outer)) {
			continue
		}
		if !g.composeOnce(o) {
			return false
		}
	}
	return true
}

func (g *gatherer) composeOnce(o *once) bool {
	text, ok := g.a.edited(o.text, g.edits)
	if !ok {
		return false
	}
	rows := func(part int) SQL {
		return SQL{{Own: "SELECT * FROM "}, {Part: part + 1}, {Own: " AS shardgate"}}
	}
	if len(o.ctes) > 0 {
		q := own("WITH ")
		for i, cte := range o.ctes {
			head := when(i > 0, ", ") + QuoteIdent(cte.Ctename)
			if len(cte.Aliascolnames) > 0 {
				head += " (" + quotedList(stringsOf(cte.Aliascolnames)) + ")"
			}
			at := slices.IndexFunc(g.onces, func(o *once) bool { return o.b.sel == cte.Ctequery.GetSelectStmt() })
			q = q.add(head+" AS (", rows(g.onces[at].part), ")")
		}
		text = slices.Concat(q, own(" SELECT * FROM ("), text, own(") AS shardgate"))
	}
	if g.a.onlyExists(o.b) {
		text = slices.Concat(own("SELECT true FROM ("), text, own(") AS shardgate"))
	}
	p := g.parts[o.part]
	*p = Part{Place: Home, Query: text, Plain: true, Collations: o.collations, Table: "a subquery"}
	for _, piece := range text {
		if piece.Part > 0 && !slices.Contains(p.After, piece.Part-1) {
			p.After = append(p.After, piece.Part-1)
		}
	}
	g.edits = slices.DeleteFunc(g.edits, func(e edit) bool { return e.start >= o.text.start && e.end <= o.text.end })
	g.edits = append(g.edits, edit{o.text, rows(o.part)})
	return true
}

// oncesName is namesRelations of the subqueries that the home shard runs.
func (g *gatherer) oncesName() bool {
	return slices.ContainsFunc(g.onces, func(o *once) bool { return g.namesRelations(g.parts[o.part].Query) })
}

// Later says that a part is made of the rows of others, and not known before they are.
func (p *Part) Later() bool {
	return slices.ContainsFunc(p.Query, func(q Piece) bool { return q.Part > 0 && !q.Keys && q.Column == 0 })
}

// choosing says by what a subquery, or one inside it, may give one or another result over
// the same rows, or "".
func (a *analysis) choosing(b *block) (what string) {
	eachMessage(b.sel.ProtoReflect(), func(m protoMessage) {
		sel, ok := m.Interface().(*pg.SelectStmt)
		switch {
		case !ok:
		case sel.LimitCount != nil, sel.LimitOffset != nil:
			what = "LIMIT or OFFSET"
		case len(sel.DistinctClause) > 0 && sel.DistinctClause[0].GetNode() != nil:
			what = "DISTINCT ON"
		case a.windows(sel):
			what = "a window function"
		default:
			for _, n := range slices.Concat(sel.TargetList, sel.SortClause, []*pg.Node{sel.HavingClause}) {
				a.eachCall(n, func(f *pg.FuncCall) {
					if inner := a.blocks[sel]; inner == nil || a.orderMatters(f, inner.lvl) {
						what = "an aggregate that depends on the order of rows"
					}
				})
			}
		}
	})
	return what
}

// onlyFollows says whether a subquery's result, but for its order, follows from its rows to
// the last bit: where there are neither groups nor sets, of which equal values that look
// otherwise might come, nor other aggregates than count.
func (a *analysis) onlyFollows(b *block) bool {
	follows := true
	eachMessage(b.sel.ProtoReflect(), func(m protoMessage) {
		if sel, ok := m.Interface().(*pg.SelectStmt); ok && (sel.Larg != nil && !sel.All || len(sel.DistinctClause)+len(sel.GroupClause) > 0 ||
			a.aggregates(sel) && !a.onlyCounts(sel.TargetList)) {
			follows = false
		}
	})
	return follows && a.choosing(b) == ""
}

// dependence says whether a subquery refers to what a query around it has, if that is certain.
func (a *analysis) dependence(b *block) (depends, certain bool) {
	certain = true
	eachMessage(b.sel.ProtoReflect(), func(m protoMessage) {
		ref, ok := m.Interface().(*pg.ColumnRef)
		if !ok || a.targets[ref] != nil || len(ref.Fields) == 1 && ref.Fields[0].GetAStar() != nil {
			return
		}
		switch e := a.entries[ref]; {
		case e != nil && b.has(e):
		case e != nil && b.lvl.parent.sees(e):
			depends = true
		case e != nil || b.mayReferOut(ref):
			certain = false
		}
	})
	return depends, certain || depends
}

// sees says whether an entry of FROM is one of a level, or of those around it.
func (l *level) sees(e *rte) bool {
	return l != nil && (slices.Contains(l.rtes, e) || l.parent.sees(e))
}

// has says whether an entry of FROM is in a block or inside it.
func (b *block) has(e *rte) bool {
	return slices.Contains(b.lvl.rtes, e) || slices.ContainsFunc(b.children, func(c *block) bool { return c.has(e) })
}

// mayReferOut says whether a name may mean something of a level around a block.
func (b *block) mayReferOut(ref *pg.ColumnRef) bool {
	for l := b.lvl.parent; l != nil; l = l.parent {
		for _, e := range l.rtes {
			if slices.ContainsFunc(ref.Fields, func(f *pg.Node) bool { return str(f) == e.name }) ||
				len(ref.Fields) == 1 && (e.columns == nil || slices.Contains(e.columns, str(ref.Fields[0]))) {
				return true
			}
		}
		if l.unnamed {
			return true
		}
	}
	return false
}

// nestedText is the text of a query that stands in parentheses, without these.
func (a *analysis) nestedText(sel *pg.SelectStmt) (byteRange, bool) {
	want := &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: sel}}
	lo, _ := a.extent(want)
	for i, depth := lo-1, 0; i >= 0; i-- {
		switch {
		case a.is(i, ')'):
			depth++
		case a.is(i, '(') && depth > 0:
			depth--
		case a.is(i, '('):
			end := a.closing(i)
			if end < 0 {
				return byteRange{}, false
			}
			r := a.between(i+1, end)
			if readsAsStatement(a.text[r.start:r.end], want) {
				return r, true
			}
		}
	}
	return byteRange{}, false
}

// outerCTEs are the names of the items of the statement's WITH that a query reads. ok is
// false where it has items of its own by such a name.
func (g *gatherer) outerCTEs(sel *pg.SelectStmt) (names []string, ok bool) {
	var inside []string
	locked := map[*pg.RangeVar]bool{} // names of entries of FROM
	eachMessage(sel.ProtoReflect(), func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.LockingClause:
			for _, n := range v.LockedRels {
				locked[n.GetRangeVar()] = true
			}
		case *pg.CommonTableExpr:
			inside = append(inside, v.Ctename)
		case *pg.RangeVar:
			if _, known := g.a.useOf(v); !known && !locked[v] && !slices.Contains(names, v.Relname) {
				names = append(names, v.Relname)
			}
		}
	})
	own := func(name string) bool { return slices.Contains(inside, name) }
	ok = !slices.ContainsFunc(names, func(name string) bool { return own(name) && g.cte(name) != nil })
	return slices.DeleteFunc(names, own), ok
}
