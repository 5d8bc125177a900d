package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Row locks in a Gather. The shards take them while they give the rows of a part, and
// the final statement takes none. So a part locks the rows that it gives, and of these
// PostgreSQL may lock only some: not those that join with nothing, or that come behind
// the LIMIT when the shards' rows are merged. Never does it lock others. The copies of a
// reference table are locked on the home shard, where those that change it come first.

// rowLocks are the locking clauses for each entry of FROM, in a statement's order.
func (a *analysis) rowLocks() map[*rte][]*pg.LockingClause {
	if len(a.locks) == 0 {
		return nil
	}
	locks := map[*rte][]*pg.LockingClause{}
	var visit func(b *block)
	visit = func(b *block) {
		for _, n := range b.sel.LockingClause {
			a.lockItems(locks, b.sel.FromClause, n.GetLockingClause(), false)
		}
		for _, inner := range b.children {
			visit(inner)
		}
	}
	visit(a.root)
	return locks
}

// lockItems notes what a locking clause locks of a FROM clause: the tables and
// subqueries that it names, or all. Of a subquery, that is all of its own FROM clause.
func (a *analysis) lockItems(locks map[*rte][]*pg.LockingClause, items []*pg.Node, c *pg.LockingClause, whole bool) {
	named := func(name string) bool {
		return whole || len(c.LockedRels) == 0 || slices.ContainsFunc(c.LockedRels, func(n *pg.Node) bool { return n.GetRangeVar().GetRelname() == name })
	}
	for _, n := range items {
		switch {
		case n.GetRangeVar() != nil:
			if u, ok := a.useOf(n.GetRangeVar()); ok && named(u.rte.name) {
				locks[u.rte] = append(locks[u.rte], c)
			}
		case n.GetRangeTableSample() != nil:
			a.lockItems(locks, []*pg.Node{n.GetRangeTableSample().Relation}, c, whole)
		case n.GetRangeSubselect() != nil:
			if s := n.GetRangeSubselect(); named(s.GetAlias().GetAliasname()) {
				a.lockItems(locks, s.Subquery.GetSelectStmt().GetFromClause(), c, true)
			}
		case n.GetJoinExpr() != nil:
			a.lockItems(locks, []*pg.Node{n.GetJoinExpr().Larg, n.GetJoinExpr().Rarg}, c, whole)
		}
	}
}

// locksCopies says whether a locking clause is about rows of a reference table.
func (a *analysis) locksCopies() bool {
	if len(a.refs) == 0 || len(a.locks) == 0 {
		return false
	}
	locks := map[*rte][]*pg.LockingClause{}
	for _, b := range a.blocks {
		for _, n := range b.sel.LockingClause {
			a.lockItems(locks, b.sel.FromClause, n.GetLockingClause(), false)
		}
	}
	for e := range locks {
		if e.table != nil && e.table.Distribution == Reference {
			return true
		}
	}
	return false
}

// neverLocks says whether PostgreSQL refuses locking clauses of a SELECT of that form.
func (a *analysis) neverLocks(sel *pg.SelectStmt) bool {
	return len(sel.LockingClause) > 0 && (sel.Larg != nil || len(sel.DistinctClause)+len(sel.GroupClause) > 0 || sel.HavingClause != nil || a.windows(sel))
}

// locked says whether a locking clause is about a row of one of these entries.
func (g *gatherer) locked(rtes []*rte) bool {
	return slices.ContainsFunc(rtes, func(e *rte) bool { return len(g.locks[e]) > 0 })
}

// unlock takes a block's locking clauses out of the final statement.
func (g *gatherer) unlock(b *block) (edit, bool) {
	a := g.a
	cl, ok := a.clauses(a.selectToken(b.sel))
	if !ok || cl.locking < 0 {
		return edit{}, false
	}
	last := a.toks[cl.after(cl.locking)-1]
	return edit{byteRange{int(a.toks[cl.locking].Start), int(last.End)}, nil}, true
}

// notLocked refuses locks that no part takes.
func notLocked() *Refusal {
	return unsupported("FOR UPDATE or SHARE of a query whose rows have to be brought together is not supported for this statement yet",
		"Name the tables whose conditions and LIMIT each shard can apply: FOR UPDATE OF name. Or lock the rows by a statement of their own.")
}

// lock says whether the block's sources can lock what the statement locks of them, and
// takes its locking clauses out of the text. With a LIMIT, they can if each shard gives
// no more rows than that. In a subquery that depends on the row around it, PostgreSQL
// locks for each of these rows what only the final statement knows.
func (c *combiner) lock() bool {
	for _, s := range c.sources {
		if !c.g.locked(s.rtes) {
			continue
		}
		if c.grouped || c.sel.LimitCount != nil && c.limit() == nil || !c.independent() {
			return false
		}
		for _, e := range s.rtes {
			if e.leaf != nil || len(c.g.locks[e]) == 0 {
				continue
			}
			if s.anchor != nil {
				return false // each shard would lock its own copy
			}
			s.place = Home
		}
	}
	if len(c.sel.LockingClause) == 0 {
		return true
	}
	e, ok := c.g.unlock(c.b)
	c.edits = append(c.edits, e)
	return ok
}

// independent says whether the block is certain to use no columns of queries around it.
func (c *combiner) independent() bool {
	depends, certain := c.a.dependence(c.b)
	return certain && !depends
}

// locksTable says whether a relation that is a part by itself can be locked by its shards.
func (g *gatherer) locksTable(u use) bool {
	b := u.rte.block
	return u.table != nil && distributed(u.table.Distribution) && !g.a.sampled[u.rv] && b.parent == nil && b.sel.LimitCount == nil && !g.a.aggregates(b.sel)
}

// lockTables completes the statements of parts that are tables.
func (g *gatherer) lockTables() {
	done := map[int]bool{}
	for _, u := range g.tableUses {
		if p := g.parts[u.part]; u.locks != "" && !done[u.part] {
			p.Query, p.Locks = append(p.Query, Piece{Own: u.locks}), true
			done[u.part] = true
		}
	}
}

// lockSQL is the locking clauses of a part's statement with these entries in FROM.
func (g *gatherer) lockSQL(rtes []*rte) string {
	var clauses []*pg.LockingClause
	for _, e := range rtes {
		for _, l := range g.locks[e] {
			if !slices.Contains(clauses, l) {
				clauses = append(clauses, l)
			}
		}
	}
	text := ""
	for _, l := range clauses {
		var names []string
		for _, e := range rtes {
			if slices.Contains(g.locks[e], l) {
				names = append(names, e.name)
			}
		}
		text += " " + lockStrengths[l.Strength]
		if len(rtes) > 1 {
			text += " OF " + quotedList(names)
		}
		text += lockPolicies[l.WaitPolicy]
	}
	return text
}

var (
	lockStrengths = map[pg.LockClauseStrength]string{
		pg.LockClauseStrength_LCS_FORKEYSHARE: "FOR KEY SHARE", pg.LockClauseStrength_LCS_FORSHARE: "FOR SHARE",
		pg.LockClauseStrength_LCS_FORNOKEYUPDATE: "FOR NO KEY UPDATE", pg.LockClauseStrength_LCS_FORUPDATE: "FOR UPDATE",
	}
	lockPolicies = map[pg.LockWaitPolicy]string{pg.LockWaitPolicy_LockWaitSkip: " SKIP LOCKED", pg.LockWaitPolicy_LockWaitError: " NOWAIT"}
)
