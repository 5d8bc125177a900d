package planner

import (
	"slices"
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// MERGE changes its table as UPDATE and DELETE do. It may insert besides, and then a row
// of the source that matches nothing on one shard may match on another: each row of the
// source has to come to one shard only, the one where it can match and where it would be
// inserted. That is so where the source is co-located with the table. Otherwise the
// source is a query of its own, as that of an INSERT ... SELECT, and its rows are divided
// by the key.

// merging is a MERGE that is planned.
type merging struct {
	*pg.MergeStmt
	node           *pg.Node
	target, source *rte
	on             *facts // of the rows that match
	inserts        []*pg.MergeWhenClause
	bySource       bool // it has WHEN NOT MATCHED BY SOURCE
	// reads says that something besides the source reads a table that not all shards have. rest is why all but
	// the source can't be done by several shards.
	reads bool
	rest  *Refusal
}

// merge plans MERGE.
func (a *analysis) merge(n *pg.Node) Node {
	m := &merging{MergeStmt: n.GetMergeStmt(), node: n, on: &facts{}}
	for _, w := range m.MergeWhenClauses {
		w := w.GetMergeWhenClause()
		if w.CommandType == pg.CmdType_CMD_INSERT {
			m.inserts = append(m.inserts, w)
		}
		m.bySource = m.bySource || w.MatchKind == pg.MergeMatchKind_MERGE_WHEN_NOT_MATCHED_BY_SOURCE
	}
	a.mergeTree(m)
	a.complete(n)
	if a.env.Shards == 1 {
		return &Route{Place: Home}
	}
	if len(a.items) > 0 {
		refuse(nestedDML())
	}
	t := m.target.table
	switch {
	case t == nil || t.Distribution == Local:
		if len(a.leaves) > 0 {
			return a.changeElsewhere(n, m.target, a.spanningLocal(m.Relation.Relname))
		}
		a.homeOnly()
		return &Route{Place: Home}
	case t.Distribution == Reference:
		a.mergeInserts(m, t)
		if len(a.leaves)+len(a.locals) > 0 {
			return a.changeElsewhere(n, m.target, readsElsewhere(t))
		}
		return a.referenceWrite(t)
	}
	a.mergeInserts(m, t)
	return a.pinnedOr(func() (Node, *leaf, *Refusal) {
		why := a.spanning()
		if why == nil {
			why = a.mergeInPlace(m)
		}
		if why == nil {
			return &Broadcast{Merge: Concat}, m.target.leaf, nil
		}
		if len(m.inserts) > 0 {
			node, why := a.mergeRows(m, t)
			return node, nil, why
		}
		node, why := a.gatherChange(n, m.target, why)
		return node, nil, why
	})
}

// mergeTree analyses a MERGE.
func (a *analysis) mergeTree(m *merging) {
	where := m.JoinCondition
	if len(m.inserts) > 0 {
		where = nil // it says nothing of the rows that are inserted
	}
	lvl := a.changed(m.Relation, []*pg.Node{m.SourceRelation}, where)
	a.with(m.WithClause, lvl)
	m.target = a.target(m.Relation, lvl)
	source := a.tree(m.SourceRelation, lvl)
	m.source = source.rte
	a.collect(m.JoinCondition, lvl, m.on)
	of := m.on // what holds for the rows of the source that matter
	if len(m.inserts) > 0 {
		of = &facts{}
	}
	a.spread(source, lvl, of)
	if l := m.target.leaf; l != nil {
		l.facts = &facts{} // a row may be inserted, or not be matched
		if len(m.inserts) == 0 && !m.bySource {
			l.facts = m.on
		}
	}

	// What is found in the source is not about the rest.
	before, leaves := a.obstacles, len(a.leaves)
	a.obstacles = obstacles{}
	a.expr(m.JoinCondition, lvl, nil)
	for _, n := range m.MergeWhenClauses {
		w := n.GetMergeWhenClause()
		sees := lvl
		if w.MatchKind == pg.MergeMatchKind_MERGE_WHEN_NOT_MATCHED_BY_TARGET {
			sees = lvl.scope(lvl.rtes[1:])
		}
		a.expr(w.Condition, sees, nil)
		a.exprs(w.TargetList, sees, nil)
		a.exprs(w.Values, sees, nil)
		if t := m.target.table; t != nil && w.CommandType == pg.CmdType_CMD_UPDATE {
			a.assigned(w.TargetList, t)
			if t.Distribution == Sharded && a.env.Shards > 1 && len(a.assignedKey(w.TargetList, t)) > 0 {
				refuse(keyChange(t, "by MERGE"))
			}
		}
	}
	a.exprs(m.ReturningList, lvl, nil)
	m.reads = len(a.leaves) > leaves || len(a.locals) > 0
	if m.rest = a.spanning(); m.rest == nil {
		clock := a.clock
		if m.target.table != nil {
			a.replaceClocks(m.node)
			a.clock = a.ownClock(m.node, m.target.table)
		}
		m.rest = a.multi()
		a.clock = clock
	}
	a.obstacles = a.obstacles.and(before)
}

// mergeInserts checks what a MERGE inserts.
func (a *analysis) mergeInserts(m *merging, t *Table) {
	for _, w := range m.inserts {
		if w.Override == pg.OverridingKind_OVERRIDING_USER_VALUE {
			refuse(unsupported("OVERRIDING USER VALUE for a distributed table is not supported: each shard would count for itself", "Leave it out."))
		}
		var given []string
		for i, name := range insertedBy(w, t) {
			if w.Values[i].GetSetToDefault() == nil {
				given = append(given, name)
				a.storeDate(w.Values[i], t, name)
			}
		}
		if r := a.ownDefaults(t, given, false); r != nil {
			refuse(r)
		}
	}
}

// insertedBy are the names of the columns that an INSERT of a MERGE gives values.
func insertedBy(w *pg.MergeWhenClause, t *Table) []string {
	names := insertColumns(&pg.InsertStmt{Cols: w.TargetList}, t)
	return names[:min(len(names), len(w.Values))]
}

// mergeInPlace says why each shard can't merge its own rows of the source.
func (a *analysis) mergeInPlace(m *merging) *Refusal {
	if m.WithClause != nil && a.inCTE(m.WithClause) {
		return unsupported("WITH over several shards is not supported yet", "Write the subquery in place, or pin every sharded table to one key.")
	}
	anchor := m.target.leaf
	if len(m.inserts) > 0 {
		anchor = nil // of the source
		defer func(f *facts) { m.target.leaf.facts = f }(m.target.leaf.facts)
		m.target.leaf.facts = m.on
	}
	anchor, r := a.scatterFrom([]*pg.Node{m.SourceRelation}, anchor)
	if r != nil {
		return r
	}
	for _, w := range m.inserts {
		if !a.staysAt(w, m.target.table, anchor) {
			return unsupported("MERGE that inserts a row of the sharded table "+m.target.table.String()+" with another key than the one of its source is not supported",
				"Insert the key column of the source.")
		}
	}
	return a.multi()
}

// staysAt says whether each row that is inserted belongs to the shard of its source.
func (a *analysis) staysAt(w *pg.MergeWhenClause, t *Table, anchor *leaf) bool {
	names := insertedBy(w, t)
	for i, n := range t.Key.Columns {
		at := slices.Index(names, t.Columns[n].Name)
		if at < 0 {
			return false
		}
		key := column{anchor.rte, anchor.table.Key.Columns[i]}
		c, ok := a.columns[w.Values[at].GetColumnRef()]
		if !ok || c.base().rte == nil || !slices.Contains(anchor.facts.class(key), c.base()) || t.KeyTypmod(i) >= 0 && familyOf(t.Key.Types[i]) != familyBpchar {
			return false
		}
	}
	return true
}

// mergeRows plans a MERGE whose source's rows are brought together and divided by the
// key.
func (a *analysis) mergeRows(m *merging, t *Table) (Node, *Refusal) {
	switch {
	case m.WithClause != nil:
		return nil, unsupported("WITH before a MERGE that inserts rows, which have to be brought together, is not supported yet", "Write it into the source: USING (WITH ... SELECT ...) AS name.")
	case m.bySource, len(m.ReturningList) > 0:
		return nil, unsupported("MERGE with NOT MATCHED BY SOURCE or RETURNING that inserts rows over several shards is not supported yet", "Send the parts as statements of their own.")
	case m.reads:
		return nil, unsupported("MERGE that inserts rows, with a subquery over other tables than its source, is not supported over several shards yet", "Join what the subquery reads in the source.")
	case m.rest != nil:
		return nil, m.rest
	case a.tokens() == nil:
		return nil, undivided()
	}
	a.replaceClocks(m.node)
	out := &InsertSelect{Table: t, Merges: true, Clock: len(a.clocks) > 0}
	names, why := a.mergeSource(m, out)
	if why != nil {
		return nil, why
	}
	if why := a.mergeKeys(m, t, names, out); why != nil {
		return nil, why
	}
	return out, nil
}

// mergeSource makes the source of a MERGE a query, and returns its columns' names.
func (a *analysis) mergeSource(m *merging, out *InsertSelect) ([]string, *Refusal) {
	g := &gatherer{a: a, target: m.target}
	edits := g.dropSchemas(nil, m.node)
	if s := m.SourceRelation.GetRangeSubselect(); s != nil {
		var ok bool
		if out.Collations, ok = g.outputCollations(a.blocks[s.Subquery.GetSelectStmt()], false); !ok {
			return nil, unsupported("the source of a MERGE whose rows have to be brought together has values computed in a collation of the user's", "Give the columns themselves, and write COLLATE where they are compared.")
		}
	}
	r, with, names, why := a.sourceText(m, a.wanted(m.node), out)
	if why != nil {
		return nil, why
	}
	head, ok1 := a.edited(byteRange{0, r.start}, edits)
	tail, ok2 := a.edited(byteRange{r.end, len(a.text)}, edits)
	if !ok1 || !ok2 {
		return nil, unsupported("this statement's text can't be divided", "Write the MERGE in another way.")
	}
	out.Head, out.Tail = append(head, with[0]...), append(with[1], tail...)
	return names, nil
}

// sourceText finds what the rows of the source stand in the place of, and what comes
// before and behind them.
func (a *analysis) sourceText(m *merging, w *wanted, out *InsertSelect) (r byteRange, with [2]SQL, names []string, why *Refusal) {
	if rv := m.SourceRelation.GetRangeVar(); rv != nil {
		i := slices.IndexFunc(a.uses, func(u use) bool { return u.rv == rv })
		if i < 0 || a.uses[i].table == nil || len(rv.GetAlias().GetColnames()) > 0 {
			return r, with, nil, unsupported("the source of this MERGE can't be brought together", "Use a query as the source: USING (SELECT ...) AS name.")
		}
		p, why := a.part(a.uses[i], w, false)
		if why != nil {
			return r, with, nil, why
		}
		edits, ok := a.replaceName(nil, rv, nil)
		if !ok {
			return r, with, nil, unsupported("the name of "+p.Table+" is not found in the statement's text", "Write it in another way.")
		}
		out.Own, out.Collations = string(p.Query.Append(nil, nil, nil, nil)), p.Collations
		return edits[0].byteRange, [2]SQL{own("("), append(own(")"), edits[0].with...)}, p.Columns, a.planOwn(out)
	}
	s := m.SourceRelation.GetRangeSubselect()
	r, ok := a.sourceQuery(m, s)
	if !ok {
		return r, with, nil, unsupported("the source of a MERGE that inserts rows, which have to be brought together, has to be a table or a query", "Write USING (SELECT ...) AS name.")
	}
	names = a.columnNames(s.Subquery.GetSelectStmt(), m.source)
	renameColumns(names, s.Alias.GetColnames())
	out.Start, out.End = sqltext.AnchorOf(r.start, a.lits), sqltext.AnchorOf(r.end, a.lits)
	return r, with, names, a.planQuery(r, a.literalsIn(r, out), out)
}

// planOwn plans the query of a source that is a table.
func (a *analysis) planOwn(out *InsertSelect) *Refusal {
	p, err := Parse(out.Own, sqltext.GuardLimits{})
	if err == nil {
		out.Query, err = p.Plan(nil, a.env)
	}
	if err != nil {
		return unsupported("the source of this MERGE can't be read: "+err.Error(), "Use a query as the source: USING (SELECT ...) AS name.")
	}
	return nil
}

// sourceQuery is the place of a query in USING (query).
func (a *analysis) sourceQuery(m *merging, s *pg.RangeSubselect) (byteRange, bool) {
	i := a.tokenAt(m.Relation.Location)
	if i < 0 || s == nil {
		return byteRange{}, false
	}
	for i = a.nameEnd(i); i < len(a.toks) && !a.keyword(i, "using"); i++ {
	}
	end := a.closing(i + 1)
	if !a.is(i+1, '(') || end < 0 {
		return byteRange{}, false
	}
	r := byteRange{int(a.toks[i+1].End), int(a.toks[end].Start)}
	return r, readsAsStatement(a.text[r.start:r.end], s.Subquery)
}

// columnNames are the names of the columns that a query gives, as far as they are known.
func (a *analysis) columnNames(sel *pg.SelectStmt, e *rte) (names []string) {
	if e.columns != nil {
		return slices.Clone(e.columns)
	}
	for sel.GetLarg() != nil {
		sel = sel.Larg
	}
	if len(sel.GetValuesLists()) > 0 {
		for i := range sel.ValuesLists[0].GetList().GetItems() {
			names = append(names, "column"+strconv.Itoa(i+1))
		}
		return names
	}
	for _, n := range sel.GetTargetList() {
		t := n.GetResTarget()
		if slices.ContainsFunc(t.Val.GetColumnRef().GetFields(), func(f *pg.Node) bool { return f.GetAStar() != nil }) || t.Val.GetAIndirection() != nil {
			return names
		}
		names = append(names, outputName(t))
	}
	return names
}

// mergeKeys finds the key among the columns of a MERGE's source: ON equates it with the
// table's, and it is what is inserted.
func (a *analysis) mergeKeys(m *merging, t *Table, names []string, out *InsertSelect) *Refusal {
	no := func(why string) *Refusal {
		return unsupported("MERGE into the sharded table "+t.String()+" from rows of other shards that inserts some is not supported unless "+why,
			"Compare the key of the table with a column of the source in ON, and insert that column as the key.")
	}
	for i, n := range t.Key.Columns {
		key := column{m.target, n}
		if !key.bytewise() {
			return no("equal keys have the same bytes")
		}
		at := slices.IndexFunc(conjuncts(m.JoinCondition), func(c *pg.Node) bool { return a.mergedBy(m, c, key, names) >= 0 })
		if at < 0 {
			return no("ON has " + t.Columns[n].Name + " = a column of the source")
		}
		k := InsertKey{Type: t.Key.Types[i], Column: a.mergedBy(m, conjuncts(m.JoinCondition)[at], key, names)}
		from := column{m.source, k.Column}
		if m.source.table != nil {
			from.n = m.source.table.Column(names[k.Column])
		}
		if from = from.base(); k.Column < len(out.Collations) && out.Collations[k.Column] != "" && (from.rte == nil || !from.bytewise()) {
			return no("equal keys have the same bytes")
		}
		for _, w := range m.inserts {
			v := slices.Index(insertedBy(w, t), t.Columns[n].Name)
			if v < 0 || a.sourceColumn(m, w.Values[v], names) != k.Column {
				return no("it inserts the same column as " + t.Columns[n].Name)
			}
		}
		out.Keys = append(out.Keys, k)
	}
	return nil
}

// mergedBy returns the column of the source that a condition equates with a column of
// the key, or -1.
func (a *analysis) mergedBy(m *merging, n *pg.Node, key column, names []string) int {
	l, r := equated(n)
	for _, x := range [][2]*pg.Node{{l, r}, {r, l}} {
		if c, ok := a.columns[x[0].GetColumnRef()]; ok && c == key {
			return a.sourceColumn(m, x[1], names)
		}
	}
	return -1
}

// sourceColumn returns the column of the source that a reference means, or -1. A name
// alone that the table has as well is an error in ON, and not seen in INSERT.
func (a *analysis) sourceColumn(m *merging, n *pg.Node, names []string) int {
	fields := n.GetColumnRef().GetFields()
	c, known := a.columns[n.GetColumnRef()]
	if len(fields) == 0 || fields[len(fields)-1].GetString_() == nil || known && c.rte != m.source || !known && len(fields) > 2 {
		return -1
	}
	name := unqualified(fields)
	at := slices.Index(names, name)
	if at < 0 || slices.Contains(names[at+1:], name) || len(fields) == 2 && str(fields[0]) != m.source.name {
		return -1
	}
	return at
}
