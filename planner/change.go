package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A statement that changes a table by what others say. Where each of its shards has all
// that its rows are changed by, the client's own text is sent there. Otherwise the table
// stays where it is, every other relation is a part of a Gather, and each shard runs the
// client's text for its own rows of the table and all rows of the parts. A row of the
// table is on one shard, so that each is changed as it would be by one PostgreSQL.

// Target is the table that the final statement of a Gather changes, on each of its
// shards. The parts are read before.
type Target struct {
	Verb  string // UPDATE, DELETE or MERGE
	Table *Table // nil for one that only the home shard has
	// Pins prune the shards as in Scatter.
	Pins []Pin
	// LockReference is as in Broadcast, of a reference table. It is locked before the
	// parts are read, and changed on the home shard first.
	LockReference []string
	// Copies says how the others are changed, of a reference table of which only the home
	// shard runs the final statement; else nil.
	Copies *Copies
}

// changed begins the analysis of a statement that changes a table: a block that has its
// FROM and WHERE.
func (a *analysis) changed(rel *pg.RangeVar, from []*pg.Node, where *pg.Node) *level {
	lvl := &level{}
	a.root = &block{sel: &pg.SelectStmt{FromClause: from, WhereClause: where}, lvl: lvl}
	a.block = a.root
	t := a.env.find(rel.Schemaname, rel.Relname)
	a.copies = t != nil && t.Distribution == Reference
	return lvl
}

// gatherChange plans the change of a table by rows that are brought together. why is the
// reason for which it is not done in another way.
func (a *analysis) gatherChange(n *pg.Node, target *rte, why *Refusal) (Node, *Refusal) {
	if r := a.notGathered(); r != nil {
		return nil, r
	}
	if len(a.items) > 0 {
		return nil, why
	}
	t := target.table
	if t == nil {
		a.replaceClocks(n)
		return a.changeBy(n, target, nil, why)
	}
	a.replaceClocks(n, a.fillAssigned(n.GetUpdateStmt().GetTargetList(), t)...)
	var node Node
	r := a.differs(n, t)
	if r == nil {
		node, r = a.changeBy(n, target, nil, why)
	}
	if r == nil || t.Distribution != Reference {
		return node, r
	}
	copies, no := a.planCopies(n, target, r)
	if no != nil {
		return nil, no
	}
	return a.changeBy(n, target, copies, r)
}

// changeBy plans the Gather of a change. copies are a Target's.
func (a *analysis) changeBy(n *pg.Node, target *rte, copies *Copies, why *Refusal) (Node, *Refusal) {
	t := target.table
	for _, tables := range []bool{false, true} {
		g := &gatherer{a: a, w: a.wanted(n), tables: map[string]int{}, whole: tables, target: target, stmt: n, locks: a.rowLocks(), copies: copies}
		g.change()
		if t != nil && t.Distribution == Reference && copies == nil && g.refusal == nil {
			g.refusal = g.unstableCopies(a.root)
		}
		if g.refusal != nil {
			return nil, g.refusal
		}
		if copies != nil {
			g.edits = append(g.edits, a.returnsCopied(n, target, copies))
		}
		if out := g.plan(n); out != nil {
			out.Target = &Target{Verb: verbOf(n), Table: t, Copies: copies}
			if target.leaf != nil {
				if pin, ok := a.pin(target.leaf); ok {
					out.Target.Pins = []Pin{pin}
				}
			} else if t != nil {
				out.Target.LockReference = []string{quoteTable(t)}
			}
			return out, nil
		}
		if g.refusal != nil {
			why = g.refusal
		}
	}
	return nil, why
}

// changeElsewhere is gatherChange, where there is no other way.
func (a *analysis) changeElsewhere(n *pg.Node, target *rte, why *Refusal) Node {
	node, r := a.gatherChange(n, target, why)
	if r != nil {
		refuse(r)
	}
	return node
}

// change plans the parts of a change: all relations but the target.
func (g *gatherer) change() {
	b := g.a.root
	for _, u := range b.uses {
		if u.rte != g.target {
			g.table(u)
		}
	}
	for _, c := range b.children {
		g.block(c)
	}
}

// differs says why a change of table t could be another one on each shard, when all of
// them have the same rows of the parts in the same order.
func (a *analysis) differs(n *pg.Node, t *Table) *Refusal {
	switch {
	case t.Distribution != Reference:
	case a.volatile:
		return copiesDiffer(t)
	case len(n.GetUpdateStmt().GetFromClause()) > 0:
		return copiesChoose(t)
	}
	a.clock, a.unstable = a.ownClock(n, t), a.volatileBelow(n)
	return a.multi()
}

// unstableCopies says what could make the copies of a reference table differ: what follows
// from the order of rows and is not run once for all of them.
func (g *gatherer) unstableCopies(b *block) *Refusal {
	if slices.ContainsFunc(g.onces, func(o *once) bool { return o.b == b }) {
		return nil
	}
	if b.unstable != "" {
		defer func(unstable string) { g.a.unstable = unstable }(g.a.unstable)
		g.a.unstable = b.unstable
		return g.a.multi()
	}
	for _, c := range b.children {
		if r := g.unstableCopies(c); r != nil {
			return r
		}
	}
	return nil
}

// ownClock returns what asks for a time that clockEdits has not replaced, or "".
func (a *analysis) ownClock(n *pg.Node, t *Table) (what string) {
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			name := unqualified(v.Funcname)
			if clockFunctions[name] && (name != "age" || len(v.Args) == 1) && !a.replacesClock(v.Location) {
				what = name + "()"
			}
		case *pg.SQLValueFunction:
			if clockValue(v) && !a.replacesClock(v.Location) {
				what = "CURRENT_TIMESTAMP"
			}
		case *pg.ResTarget:
			i := t.Column(v.Name)
			if d := assignedValue(v).GetSetToDefault(); d != nil && i >= 0 && t.Columns[i].HasDefault && t.Columns[i].Default == Stable && !a.replacesClock(d.Location) {
				what = "the default of column \"" + v.Name + "\""
			}
		}
	})
	return what
}

// volatileBelow returns a volatile function that is called in a subquery or in FROM,
// which one PostgreSQL would run once and each shard for itself, or "".
func (a *analysis) volatileBelow(n *pg.Node) (name string) {
	look := func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			if f := unqualified(v.Funcname); a.env.Schema.functions[f].Volatility == Volatile {
				name = f + "()"
			}
		case *pg.A_Expr:
			for _, f := range a.env.Schema.Operators[unqualified(v.Name)] {
				if a.env.Schema.functions[f].Volatility == Volatile {
					name = f + "()"
				}
			}
		}
	}
	eachMessageBelow(n, func(m protoMessage) {
		switch m.Interface().(type) {
		case *pg.SelectStmt, *pg.RangeFunction:
			eachMessage(m, look)
		}
	})
	return name
}

// assignedValue is the value of an item of a SET list.
func assignedValue(t *pg.ResTarget) *pg.Node {
	if m := t.GetVal().GetMultiAssignRef(); m != nil {
		if items := m.Source.GetRowExpr().GetArgs(); int(m.Colno) <= len(items) && m.Colno > 0 {
			return items[m.Colno-1]
		}
	}
	return t.GetVal()
}
