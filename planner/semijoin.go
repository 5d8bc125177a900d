package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Of a table whose rows are compared with those of another, only the rows that find
// their like are needed. Where the other's are expected to be fewer, they are brought
// first, and their values go to the shards with the query for the table's: a semi-join.
// It makes a part smaller and changes no answer, so what is expected may be wrong.

// Waves are the parts in the order in which they are to be asked: each wave needs
// nothing but those before.
func (g *Gather) Waves() [][]int {
	var waves [][]int
	at := make([]int, len(g.Parts)) // the wave of each part, from 1
	for n := 0; n < len(g.Parts) || waves == nil; {
		var wave []int
		for i := range g.Parts {
			if at[i] == 0 && !slices.ContainsFunc(g.Parts[i].After, func(k int) bool { return at[k] == 0 }) {
				wave = append(wave, i)
			}
		}
		waves = append(waves, wave)
		for _, i := range wave {
			at[i] = len(waves)
		}
		n += len(wave)
	}
	return waves
}

// side is a part of a Gather as one side of an equality.
type side struct {
	part int
	rtes []*rte
	few  fewness
	// conds are conditions that the side's rows must meet to matter.
	conds []*pg.Node
	// at is the position of a table's column among the part's.
	at func(column) (int, bool)
	// name is a table's column in the part's query, and restrict adds a condition there;
	// it is nil if the query must give all of its rows.
	name     func(column) string
	restrict func(SQL)
}

// fewness is how few rows a part is expected to have.
type fewness uint8

const (
	pinnedRows fewness = iota
	equalRows          // a column is compared with a value by =
	filteredRows
	allRows
)

// semiJoins finds the parts that need only rows with values that another part has.
func (g *gatherer) semiJoins() {
	sides := g.sides()
	for _, s := range sides {
		if s.restrict == nil {
			continue
		}
		for _, e := range s.rtes {
			if e.leaf == nil {
				continue
			}
			for n := range e.columns {
				g.semiJoin(s, column{e, n}, sides)
			}
		}
	}
}

// semiJoin adds to a side's query that a column has a value of another side's.
func (g *gatherer) semiJoin(s side, c column, sides []side) {
	equal := c.rte.leaf.facts.class(c)[1:]
	for _, n := range s.conds {
		equal = append(equal, g.a.equalInside(n, c)...)
	}
	for _, other := range equal {
		for _, t := range sides {
			if t.few >= s.few || !slices.Contains(t.rtes, other.rte) {
				continue
			}
			i, ok := t.at(other)
			if !ok {
				continue
			}
			if p := g.parts[t.part]; !slices.Contains(p.Keys, i) {
				p.Keys = append(p.Keys, i)
			}
			p := g.parts[s.part]
			if !slices.Contains(p.After, t.part) {
				p.After = append(p.After, t.part)
			}
			if key := c.rte.table.Key; p.KeyIn == nil && len(key.Columns) == 1 && key.Columns[0] == c.n {
				p.KeyIn = &KeyIn{key.Types[0], t.part, i}
			}
			s.restrict(SQL{{Own: s.name(c), Part: t.part + 1, Column: i + 1, Keys: true}})
			return
		}
	}
}

// equalInside are the columns inside a condition's subquery of which one row's must
// equal c for the condition to hold: c IN (SELECT column ...), or
// EXISTS (SELECT ... WHERE column = c).
func (a *analysis) equalInside(n *pg.Node, c column) (out []column) {
	link := n.GetSubLink()
	sel := link.GetSubselect().GetSelectStmt()
	add := func(x, y *pg.Node) {
		cx, ok := a.columns[x.GetColumnRef()]
		cy, too := a.columns[y.GetColumnRef()]
		if ok && too && cx == c && cy.rte.block != c.rte.block && cx.family() != familyNone && cx.family() == cy.family() && cx.bytewise() && cy.bytewise() {
			out = append(out, cy)
		}
	}
	switch {
	case sel == nil || sel.Larg != nil:
	case link.SubLinkType == pg.SubLinkType_ANY_SUBLINK && len(sel.TargetList) == 1 &&
		(len(link.OperName) == 0 || len(link.OperName) == 1 && str(link.OperName[0]) == "="):
		add(link.Testexpr, sel.TargetList[0].GetResTarget().GetVal())
	case link.SubLinkType == pg.SubLinkType_EXISTS_SUBLINK && len(sel.GroupClause) == 0 && !a.aggregates(sel):
		for _, n := range conjuncts(sel.WhereClause) {
			l, r := equated(n)
			add(l, r)
			add(r, l)
		}
	}
	return out
}

// sides are the parts that read tables.
func (g *gatherer) sides() []side {
	var out []side
	for _, c := range g.combined {
		for _, s := range c.sources {
			t := side{part: s.part, rtes: s.rtes, few: g.a.fewness(s.anchor, s.conds), conds: c.rest, name: column.qualified}
			t.at = func(col column) (int, bool) {
				i, ok := s.at[col]
				return i, ok
			}
			if c.limit() == nil && (c.b.parent == nil || !g.locked(s.rtes)) { // a subquery locks what it gives
				t.restrict = func(q SQL) { s.keys = append(s.keys, q) }
			}
			out = append(out, t)
		}
	}
	for i := range g.tableUses {
		u := &g.tableUses[i]
		p := g.parts[u.part]
		shared := slices.ContainsFunc(g.tableUses, func(v tableUse) bool { return v.part == u.part && v.rv != u.rv })
		if u.table == nil || shared {
			continue
		}
		t := side{part: u.part, rtes: []*rte{u.rte}, few: g.a.fewness(u.rte.leaf, u.conds), conds: g.a.conditionsOf(u.use)}
		t.name = func(c column) string { return QuoteIdent(u.table.Columns[c.n].Name) }
		t.at = func(c column) (int, bool) {
			k := slices.Index(p.Columns, u.table.Columns[c.n].Name)
			return k, k >= 0
		}
		if !g.a.sampled[u.rv] {
			t.restrict = func(q SQL) {
				p.Query = p.Query.add(choose(len(u.conds)+u.keys == 0, " WHERE ", " AND "), q, "")
				u.keys++
			}
		}
		out = append(out, t)
	}
	return out
}

// fewness says how few rows of a table, or of a join with it, are expected to meet
// some conditions. The table is nil if it isn't sharded.
func (a *analysis) fewness(table *leaf, conds []*pg.Node) fewness {
	if table != nil {
		if _, ok := a.pin(table); ok {
			return pinnedRows
		}
	}
	few := allRows
	for _, n := range conds {
		e := n.GetAExpr()
		_, left := a.columns[e.GetLexpr().GetColumnRef()]
		_, right := a.columns[e.GetRexpr().GetColumnRef()]
		switch {
		case left && right: // a join
		case (left || right) && len(e.Name) == 1 && str(e.Name[0]) == "=":
			return equalRows
		default:
			few = filteredRows
		}
	}
	return few
}

// filters are the conditions of a block that rows of one of its relations must meet
// to matter, whatever they are joined with, and that can be decided by the row's shard.
func (a *analysis) filters(u use) (out []*pg.Node) {
	b := u.rte.block
	if u.table == nil || a.sampled[u.rv] || len(u.rv.GetAlias().GetColnames()) > 0 {
		return nil
	}
	for _, n := range a.conditionsOf(u) {
		r, ok := a.regionOf(b, u.rte.leaf, false, n)
		if !ok || len(r.rtes) != 1 || r.rtes[0] != u.rte {
			continue
		}
		if _, ok := a.exprText(n); ok {
			out = append(out, n)
		}
	}
	return out
}

// conditionsOf are the conditions that must hold for a relation's rows to matter.
func (a *analysis) conditionsOf(u use) (out []*pg.Node) {
	sel := u.rte.block.sel
	for _, it := range sel.FromClause {
		out = append(out, conditionsBelow(it, u.rv, conjuncts(sel.WhereClause))...)
	}
	return out
}

// conditionsBelow are the conditions that must hold for a relation's rows to matter below
// an item of FROM: those given, which must hold above it, and those of the joins.
func conditionsBelow(item *pg.Node, rv *pg.RangeVar, above []*pg.Node) []*pg.Node {
	if item.GetRangeVar() == rv {
		return above
	}
	j := item.GetJoinExpr()
	if j == nil {
		return nil
	}
	on := conjuncts(j.Quals)
	left, right := above, above
	switch j.Jointype {
	case pg.JoinType_JOIN_INNER:
		left = slices.Concat(above, on)
		right = left
	case pg.JoinType_JOIN_LEFT:
		right = on // a row of NULLs may meet what is above
	case pg.JoinType_JOIN_RIGHT:
		left = on
	default:
		left, right = nil, nil
	}
	return append(slices.Clip(conditionsBelow(j.Larg, rv, left)), conditionsBelow(j.Rarg, rv, right)...)
}
