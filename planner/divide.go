package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// How the FROM and WHERE of a block are divided: into joins that each shard can run for
// its own rows, the conditions about each, and what is left.

// divide finds the joins that the shards run.
func (c *combiner) divide() bool {
	for _, it := range c.sel.FromClause {
		if !c.fromItem(it) {
			return false
		}
	}
	c.rest = append(c.rest, conjuncts(c.sel.WhereClause)...)
	c.attach()
	if len(c.sources) == 0 {
		return false
	}
	names := map[string]bool{}
	for _, s := range c.sources {
		for _, e := range s.rtes {
			if e.name == "" || names[e.name] {
				return false
			}
			names[e.name] = true
		}
		if len(s.rtes) == 0 {
			return false
		}
	}
	c.assign()
	return true
}

// fromItem adds an item of FROM to the sources. An inner join is two items and
// conditions.
func (c *combiner) fromItem(n *pg.Node) bool {
	a := c.a
	if j := n.GetJoinExpr(); j != nil && j.Jointype == pg.JoinType_JOIN_INNER && !j.IsNatural && len(j.UsingClause) == 0 && j.Alias == nil {
		c.rest = append(c.rest, conjuncts(j.Quals)...)
		return c.fromItem(j.Larg) && c.fromItem(j.Rarg)
	}
	if n.GetRangeSubselect() != nil || n.GetRangeFunction() != nil && !a.volatile {
		c.kept = append(c.kept, n)
		return true
	}
	s := &source{items: []*pg.Node{n}, at: map[column]int{}, carried: map[int]Carried{}, plain: true}
	if rv := n.GetRangeVar(); rv == nil {
		if !c.joined(n, s) {
			return false
		}
	} else {
		u, ok := a.useOf(rv)
		if !ok || u.rte.table == nil { // a CTE or a local relation
			c.kept = append(c.kept, n)
			return true
		}
		s.rtes, s.anchor = []*rte{u.rte}, u.rte.leaf
		if s.anchor == nil {
			s.place = Any
		}
	}
	if s.anchor != nil {
		for _, t := range c.sources {
			if t.anchor != nil && aligned(s.anchor, t.anchor) {
				t.items, t.rtes = append(t.items, n), append(t.rtes, s.rtes...)
				return true
			}
		}
	}
	c.sources = append(c.sources, s)
	return true
}

// joined makes a join that is not an inner one a source. It returns false if the shards can't
// run it, or have something in it whose columns are not known.
func (c *combiner) joined(n *pg.Node, s *source) bool {
	a := c.a
	anchor, r := a.side(n)
	if r != nil || anchor == nil {
		return false
	}
	if _, ok := a.regionOf(c.b, anchor, c.b.alone(), n); !ok {
		return false
	}
	s.anchor = anchor
	tables := true
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.RangeVar:
			if u, ok := a.useOf(v); ok && u.rte.block == c.b {
				s.rtes = append(s.rtes, u.rte)
			}
		case *pg.RangeFunction, *pg.RangeSubselect:
			tables = false
		}
	})
	return tables
}

// attach joins reference tables to what an equality ties them to.
func (c *combiner) attach() {
	for again := true; again; {
		again = false
		for i, s := range c.sources {
			if s.place != Any || c.g.locked(s.rtes) {
				continue
			}
			if t := c.tied(s); t != nil {
				t.items, t.rtes = append(t.items, s.items...), append(t.rtes, s.rtes...)
				c.sources = slices.Delete(c.sources, i, i+1)
				again = true
				break
			}
		}
	}
}

// tied finds another source with a column that must equal one of s.
func (c *combiner) tied(s *source) *source {
	for _, n := range c.rest {
		for _, e := range c.a.equalities(n) {
			l, r := e[0], e[1]
			if slices.Contains(s.rtes, r.rte) {
				l, r = r, l
			}
			if !slices.Contains(s.rtes, l.rte) {
				continue
			}
			for _, t := range c.sources {
				if t != s && slices.Contains(t.rtes, r.rte) {
					return t
				}
			}
		}
	}
	return nil
}

// equalities are the columns that must be equal for a condition to hold: those of an
// equality, or of one that all branches of an OR have.
func (a *analysis) equalities(n *pg.Node) [][2]column {
	if b := n.GetBoolExpr(); b != nil && b.Boolop == pg.BoolExprType_OR_EXPR {
		var common [][2]column
		for i, branch := range b.Args {
			var here [][2]column
			for _, x := range conjuncts(branch) {
				here = append(here, a.equalities(x)...)
			}
			if i == 0 {
				common = here
			}
			common = slices.DeleteFunc(common, func(e [2]column) bool {
				return !slices.Contains(here, e) && !slices.Contains(here, [2]column{e[1], e[0]})
			})
		}
		return common
	}
	x, y := equated(n)
	l, ok1 := a.columns[x.GetColumnRef()]
	r, ok2 := a.columns[y.GetColumnRef()]
	if !ok1 || !ok2 {
		return nil
	}
	return [][2]column{{l, r}}
}

// assign gives each condition to the source that it is about, if its shards can
// decide it.
func (c *combiner) assign() {
	var rest []*pg.Node
	for _, n := range c.rest {
		if s := c.sourceOf(n); s != nil {
			s.conds = append(s.conds, n)
		} else {
			rest = append(rest, n)
		}
	}
	c.rest = rest
	for _, n := range rest {
		for _, s := range c.sources {
			if q := c.implied(s, n); q != nil {
				s.implied = append(s.implied, q)
			}
		}
	}
}

func (c *combiner) sourceOf(n *pg.Node) *source {
	for _, s := range c.sources {
		if c.decides(s, n) {
			return s
		}
	}
	return nil
}

// decides says whether a source's shards can decide a condition, which is about the
// source's rows alone.
func (c *combiner) decides(s *source, n *pg.Node) bool {
	r, ok := c.a.regionOf(c.b, s.anchor, c.b.alone() && len(c.kept) == 0 && len(c.sources) == 1, n)
	if !ok || len(r.rtes) == 0 && len(c.sources) > 1 || slices.ContainsFunc(r.rtes, func(e *rte) bool { return !slices.Contains(s.rtes, e) }) {
		return false
	}
	_, ok = c.a.exprText(n)
	return ok
}

// implied is the condition about a source's rows that an OR implies, if each of its
// branches has one.
func (c *combiner) implied(s *source, n *pg.Node) SQL {
	b := n.GetBoolExpr()
	if b.GetBoolop() != pg.BoolExprType_OR_EXPR {
		return nil
	}
	var q SQL
	for i, branch := range b.Args {
		q = append(q, Piece{Own: when(i > 0, " OR ")})
		decided := false
		for _, x := range conjuncts(branch) {
			if !c.decides(s, x) {
				continue
			}
			r, _ := c.a.exprText(x)
			q = q.add(choose(decided, " AND (", "("), c.a.span(r), ")")
			decided = true
		}
		if !decided {
			return nil
		}
	}
	return append(append(own("("), q...), Piece{Own: ")"})
}
