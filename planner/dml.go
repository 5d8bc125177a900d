package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// target registers the table that a statement changes. It is a table even if a
// CTE has its name.
func (a *analysis) target(rv *pg.RangeVar, lvl *level) *rte {
	e := a.relation(rv, &level{})
	lvl.rtes = append(lvl.rtes, e)
	a.writes = true
	if a.env.Shards > 1 && (e.view != nil || e.table != nil && e.table.Kind == 'v') {
		refuse(unsupported("changing the view "+rv.Relname+" over a reference table is not supported yet", "Change its table."))
	}
	return e
}

// change plans UPDATE and DELETE, which differ in what they assign only.
func (a *analysis) change(n *pg.Node, rel *pg.RangeVar, from []*pg.Node, where *pg.Node, assign, returning []*pg.Node, with *pg.WithClause) Node {
	lvl := a.changed(rel, from, where)
	a.with(with, lvl)
	e := a.target(rel, lvl)
	f := a.from(from, where, lvl, nil)
	if e.leaf != nil {
		e.leaf.facts = f
	}
	a.exprs(assign, lvl, f)
	a.exprs(returning, lvl, f)
	if e.table != nil {
		a.assigned(assign, e.table)
	}
	if where.GetCurrentOfExpr() != nil && a.env.Shards > 1 && e.table != nil {
		refuse(unsupported("WHERE CURRENT OF a distributed table is not supported yet", "Name the row by its key."))
	}
	a.complete(n)
	if a.env.Shards == 1 {
		return &Route{Place: Home}
	}
	if e.table == nil || e.table.Distribution == Local {
		if len(a.leaves) > 0 {
			return a.changeElsewhere(n, e, a.spanningLocal(rel.Relname))
		}
		a.homeOnly()
		return &Route{Place: Home}
	}
	if e.table.Distribution == Reference {
		switch {
		case len(a.leaves)+len(a.locals) > 0:
			return a.changeElsewhere(n, e, readsElsewhere(e.table))
		case a.volatile:
			return a.changeElsewhere(n, e, copiesDiffer(e.table))
		case len(assign) > 0 && len(from) > 0:
			return a.changeElsewhere(n, e, copiesChoose(e.table))
		case a.clock != "", a.unstable != "":
			return a.changeElsewhere(n, e, a.multi())
		}
		return a.referenceWrite(e.table)
	}
	if r := a.spanning(); r != nil {
		if len(a.assignedKey(assign, e.table)) > 0 {
			refuse(r)
		}
		return a.changeElsewhere(n, e, r)
	}
	if a.changesKey(assign, e) {
		return a.changeKey(n.GetUpdateStmt(), e)
	}
	return a.pinnedOr(func() (Node, *leaf, *Refusal) {
		why := a.broadcasts(with, from, e.leaf)
		if why == nil {
			why = a.inserted()
		}
		if why == nil {
			return &Broadcast{Merge: Concat}, e.leaf, nil
		}
		node, why := a.gatherChange(n, e, why)
		return node, nil, why
	})
}

// broadcasts says why a change can't be done by each shard for itself.
func (a *analysis) broadcasts(with *pg.WithClause, from []*pg.Node, target *leaf) *Refusal {
	if with != nil && a.inCTE(with) {
		return unsupported("WITH over several shards is not supported yet", "Write the subquery in place, or pin every sharded table to one key.")
	}
	if _, r := a.scatterFrom(from, target); r != nil {
		return r
	}
	return a.multi()
}

func (a *analysis) spanningLocal(name string) *Refusal {
	return &Refusal{Code: "0A000", Message: "the local table \"" + name + "\" can't be changed by a statement that reads a sharded table yet",
		Hint: "Read the rows first, and pass the values as parameters."}
}

// assigned looks at what a SET list stores besides the key: constants that are
// dates or times, and defaults.
func (a *analysis) assigned(assign []*pg.Node, t *Table) {
	for _, n := range assign {
		rt := n.GetResTarget()
		val := assignedValue(rt)
		a.storeDate(val, t, rt.GetName())
		i := t.Column(rt.GetName())
		if val.GetSetToDefault() == nil || i < 0 || a.env.Shards == 1 {
			continue
		}
		c := t.Columns[i]
		_, tells, filled := a.filling(&c)
		switch {
		case c.Sequence:
			refuse(ownSequence(c, t))
		case t.Distribution == Reference && c.HasDefault && !filled:
			refuse(ownDefault(c, t))
		case c.HasDefault && c.Default == Stable && (tells || !filled):
			a.clock = "the default of column \"" + c.Name + "\""
		case slices.Contains(t.keyColumns(), i):
			refuse(keyChange(t, "to its default"))
		}
	}
}

// assignedKey returns the key's columns among those of a SET list.
func (a *analysis) assignedKey(assign []*pg.Node, t *Table) []string {
	var names []string
	for _, n := range assign {
		name := n.GetResTarget().GetName()
		if i := t.Column(name); i >= 0 && slices.Contains(t.Key.Columns, i) {
			names = append(names, name)
		}
	}
	return names
}

// referenceWrite plans a change of a reference table: the same on every shard.
func (a *analysis) referenceWrite(t *Table) Node {
	if len(a.leaves) > 0 {
		refuse(readsElsewhere(t))
	}
	if r := a.spanning(); r != nil {
		refuse(r)
	}
	if r := a.multi(); r != nil {
		refuse(r)
	}
	for _, x := range a.refs {
		if x.Kind == 'v' {
			refuse(unsupported("the reference table "+t.String()+" can't be changed by a statement that reads the view "+x.String()+" yet", "Read its tables."))
		}
	}
	if a.volatile {
		refuse(copiesDiffer(t))
	}
	// The tables that are read are locked as well: were one changed in between,
	// each copy could be changed by another version of it.
	var names []string
	for _, x := range a.refs {
		names = append(names, quoteTable(x))
	}
	slices.Sort(names)
	return &Broadcast{Merge: First, LockReference: slices.Compact(names), HomeFirst: true}
}

func readsElsewhere(t *Table) *Refusal {
	return unsupported("the reference table "+t.String()+" can't be changed by a statement that reads a sharded table yet",
		"Read the rows first, and pass the values as parameters.")
}

func copiesDiffer(t *Table) *Refusal {
	return unsupported("a volatile function would give another value in each copy of the reference table "+t.String(),
		"Call the function in a statement of its own and pass the result as a parameter.")
}

func ownSequence(c Column, t *Table) *Refusal {
	return &Refusal{Code: "0A000", Message: "the sequence of column \"" + c.Name + "\" of the distributed table " + t.String() + " is not supported yet",
		Detail: "Each shard would count for itself.",
		Hint:   "Give the column a value, or insert the rows by INSERT ... VALUES."}
}

func ownDefault(c Column, t *Table) *Refusal {
	return &Refusal{Code: "0A000", Message: "the default of column \"" + c.Name + "\" would give another value in each copy of the reference table " + t.String(),
		Hint: "Give the column a value."}
}

// insert plans INSERT.
func (a *analysis) insert(n *pg.Node) Node {
	ins := n.GetInsertStmt()
	lvl := &level{}
	a.with(ins.WithClause, lvl)
	if len(a.items) > 0 && !a.inCTE(ins.WithClause) {
		a.withLeaves, a.withRefs = len(a.leaves), len(a.refs)
	}
	e := a.target(ins.Relation, lvl)
	sel := ins.SelectStmt.GetSelectStmt()
	values := sel != nil && len(sel.ValuesLists) > 0 && len(sel.SortClause) == 0 && sel.LimitCount == nil && sel.LimitOffset == nil && sel.WithClause == nil
	a.onConflict(ins.OnConflictClause, e, lvl)
	a.inserts = true
	a.exprs(ins.ReturningList, lvl, nil)
	a.inserts = false
	tail := a.tailOf(ins, e)
	if sel != nil {
		a.query(sel, &level{ctes: lvl.ctes, rows: true}, nil)
	}
	a.complete(n)
	if a.env.Shards == 1 {
		return &Route{Place: Home}
	}
	t := e.table
	if (values || sel == nil) && a.giveDefaults(ins, t) {
		return &Route{Place: Home} // another text is
	}
	switch {
	case t == nil || t.Distribution == Local:
		if len(a.leaves) > 0 {
			local := a.env.find(ins.Relation.Schemaname, ins.Relation.Relname)
			if tail.reads || sel == nil || values && (local == nil || !a.tabular(ins, local)) {
				refuse(a.spanningLocal(ins.Relation.Relname))
			}
			return a.insertElsewhere(ins, local, tail)
		}
		a.homeOnly()
		return &Route{Place: Home}
	case ins.Override == pg.OverridingKind_OVERRIDING_USER_VALUE:
		refuse(unsupported("OVERRIDING USER VALUE for a distributed table is not supported: each shard would count for itself", "Leave it out."))
	case t.Distribution == Reference && sel != nil && (!values || a.computedOnce() && a.tabular(ins, t)):
		return a.insertReference(ins, t, tail)
	case t.Distribution == Reference:
		a.oneTime(n, t)
		a.defaults(ins, t)
		a.stored(ins, sel, t)
		return a.referenceWrite(t)
	case !values && sel != nil:
		return a.insertQuery(ins, t, tail)
	}
	if oc := ins.OnConflictClause; oc != nil && len(a.assignedKey(oc.TargetList, t)) > 0 {
		refuse(keyChange(t, "by ON CONFLICT DO UPDATE"))
	}
	why := a.spanning()
	if why == nil && (len(a.leaves)-a.withLeaves > 1 || len(a.refs)-a.withRefs > 0) {
		why = unsupported("an INSERT into a sharded table with a subquery over distributed tables is not supported yet",
			"Read the rows first, and insert them with VALUES.")
	}
	switch {
	case !values && why != nil:
		refuse(why)
	case !values:
		refuse(nullKey(t))
	}
	if slices.ContainsFunc(sel.ValuesLists, func(row *pg.Node) bool {
		return len(row.GetList().GetItems()) != len(sel.ValuesLists[0].GetList().GetItems())
	}) {
		return &Route{Place: Home} // PostgreSQL says so, whatever the table
	}
	keys, r := a.rowKeys(ins, sel, t)
	if why == nil {
		why = r
	}
	if why != nil {
		return a.insertValues(ins, t, tail, why)
	}
	a.stored(ins, sel, t)
	a.oneTime(n, t)
	return a.besideItems(a.splitRows(ins, t, keys))
}

// onConflict analyses ON CONFLICT.
func (a *analysis) onConflict(oc *pg.OnConflictClause, e *rte, lvl *level) {
	if oc == nil {
		return
	}
	excluded := &rte{name: "excluded"}
	up := &level{parent: nil, rtes: []*rte{e, excluded}, ctes: lvl.ctes}
	if oc.Infer != nil {
		a.exprs(oc.Infer.IndexElems, up, nil)
		a.expr(oc.Infer.WhereClause, up, nil)
	}
	a.exprs(oc.TargetList, up, nil)
	a.expr(oc.WhereClause, up, nil)
	if e.table != nil {
		a.assigned(oc.TargetList, e.table)
	}
}

// stored looks at the constants that an INSERT stores.
func (a *analysis) stored(ins *pg.InsertStmt, sel *pg.SelectStmt, t *Table) {
	names := insertColumns(ins, t)
	for _, row := range sel.GetValuesLists() {
		for i, n := range row.GetList().GetItems() {
			if i < len(names) {
				a.storeDate(n, t, names[i])
			}
		}
	}
}

func nullKey(t *Table) *Refusal {
	name := t.Columns[t.Key.Columns[0]].Name
	return &Refusal{Code: "0A000", Message: "a row of the sharded table " + t.String() + " needs a value for its key",
		Detail: "The key column \"" + name + "\" is left out or NULL.",
		Hint:   "Name the column, and give it a constant or a parameter. A default of the key is used in INSERT ... VALUES, if it is of PostgreSQL's own functions."}
}

// splitRows plans INSERT ... VALUES into a sharded table, of rows with these keys.
func (a *analysis) splitRows(ins *pg.InsertStmt, t *Table, keys [][]Value) Node {
	a.sequences(ins, t)
	if len(keys) == 1 {
		return &Route{Place: Pinned, Pins: []Pin{{Table: t, Types: t.Key.Types, Keys: keys, Stores: true}}}
	}
	return a.pinnedRows(ins, t, keys)
}

// rowKeys are the keys of the rows of an INSERT ... VALUES, if they can be told before
// the rows are computed.
func (a *analysis) rowKeys(ins *pg.InsertStmt, sel *pg.SelectStmt, t *Table) ([][]Value, *Refusal) {
	names := insertColumns(ins, t)
	at := make([]int, len(t.Key.Columns)) // the key's columns in a row
	for i, n := range t.Key.Columns {
		at[i] = slices.Index(names, t.Columns[n].Name)
		if at[i] < 0 {
			return nil, nullKey(t)
		}
	}
	keys := make([][]Value, len(sel.ValuesLists))
	for r, row := range sel.ValuesLists {
		items := row.GetList().GetItems()
		if len(items) != len(sel.ValuesLists[0].GetList().GetItems()) {
			// Divided, each part might be well-formed.
			return nil, &Refusal{Code: "42601", Message: "VALUES lists must all be the same length"}
		}
		for i, n := range at {
			if n >= len(items) {
				return nil, nullKey(t)
			}
			f := familyOf(t.Key.Types[i])
			v, ok := a.value(items[n], f)
			if ok && !a.certain(factPin{keys: []Value{v}}, f) {
				ok = false
			}
			if !ok {
				return nil, &Refusal{Code: "0A000", Message: "the key of a row inserted into " + t.String() + " must be a constant or a parameter of its type",
					Detail: "The value of \"" + t.Columns[t.Key.Columns[i]].Name + "\" is an expression, or of another type than the column.",
					Hint:   "Compute the value first, and pass it as a parameter or with a cast to the column's type."}
			}
			if v.Source == IsNull {
				return nil, nullKey(t)
			}
			keys[r] = append(keys[r], v)
		}
	}
	return keys, nil
}

// pinnedRows makes the Split of several rows.
func (a *analysis) pinnedRows(ins *pg.InsertStmt, t *Table, keys [][]Value) Node {
	route := &Route{Place: Pinned, Pins: []Pin{{Table: t, Types: t.Key.Types, Keys: keys, Stores: true}}}
	r := a.multi()
	if r == nil && ins.WithClause != nil {
		r = unsupported("WITH in an INSERT of rows for several shards is not supported yet", "Write the values in place.")
	}
	for _, c := range a.defaulted(ins, ins.SelectStmt.GetSelectStmt(), t) {
		if r == nil && c.HasDefault && c.Default == Stable && !a.alike(&c) {
			r = &Refusal{Code: "0A000", Message: "the default of column \"" + c.Name + "\" would give another value on each shard",
				Hint: "Give the column a value, or insert the rows one by one."}
		}
	}
	if r == nil {
		route.Else, r = a.split(ins, t, keys)
	}
	route.Refusal = r
	return route
}

func (a *analysis) split(ins *pg.InsertStmt, t *Table, keys [][]Value) (Node, *Refusal) {
	rows, params, ok := rowRanges(a.text)
	if !ok || len(rows) != len(keys) {
		return nil, unsupported("this form of INSERT can't be divided over shards", "Write the rows as a plain VALUES list.")
	}
	s := &Split{
		Table: t, Types: t.Key.Types,
		HeadEnd:    sqltext.AnchorOf(rows[0].start, a.lits),
		TailStart:  sqltext.AnchorOf(rows[len(rows)-1].end, a.lits),
		KeepsOrder: ins.OnConflictClause == nil || ins.OnConflictClause.Action == pg.OnConflictAction_ONCONFLICT_UPDATE && ins.OnConflictClause.WhereClause == nil,
	}
	if len(params) > 0 && params[0].at < rows[0].start {
		return nil, unsupported("a parameter before VALUES can't be divided over shards", "Use a constant.")
	}
	until := func(end int) (refs []ParamRef) { // of those that are left
		for len(params) > 0 && params[0].at < end {
			refs = append(refs, ParamRef{sqltext.AnchorOf(params[0].at, a.lits), params[0].n})
			params = params[1:]
		}
		return refs
	}
	for i, r := range rows {
		s.Rows = append(s.Rows, SplitRow{Start: sqltext.AnchorOf(r.start, a.lits), End: sqltext.AnchorOf(r.end, a.lits), Key: keys[i], Params: until(r.end)})
	}
	s.TailParams = until(len(a.text))
	return s, nil
}

// insertColumns are the names of the columns that a row's values go to.
func insertColumns(ins *pg.InsertStmt, t *Table) []string {
	var names []string
	for _, c := range ins.Cols {
		names = append(names, c.GetResTarget().Name)
	}
	if len(ins.Cols) == 0 {
		for i := range t.Columns {
			names = append(names, t.Columns[i].Name)
		}
	}
	return names
}

// sequences refuses rows that would take a value of a sequence: each shard has
// a sequence of its own, so that the values would not be unique.
func (a *analysis) sequences(ins *pg.InsertStmt, t *Table) {
	sel := ins.SelectStmt.GetSelectStmt()
	for _, c := range a.defaulted(ins, sel, t) {
		if c.Sequence {
			refuse(ownSequence(c, t))
		}
	}
}

// defaults refuses rows of a reference table whose defaults differ between copies.
func (a *analysis) defaults(ins *pg.InsertStmt, t *Table) {
	a.sequences(ins, t)
	for _, c := range a.defaulted(ins, ins.SelectStmt.GetSelectStmt(), t) {
		if c.HasDefault && !a.alike(&c) {
			refuse(ownDefault(c, t))
		}
	}
}

// defaulted returns the columns that some row leaves to their default.
func (a *analysis) defaulted(ins *pg.InsertStmt, sel *pg.SelectStmt, t *Table) []Column {
	names := insertColumns(ins, t)
	given := make(map[string]bool)
	width := len(names)
	if sel == nil {
		width = 0
	} else {
		for _, row := range sel.ValuesLists {
			width = min(width, len(row.GetList().GetItems()))
		}
	}
	for i, n := range names[:width] {
		given[n] = true
		for _, row := range sel.ValuesLists {
			if row.GetList().Items[i].GetSetToDefault() != nil {
				given[n] = false
				break
			}
		}
	}
	var out []Column
	for _, c := range t.Columns {
		if !given[c.Name] && !c.Generated {
			out = append(out, c)
		}
	}
	return out
}
