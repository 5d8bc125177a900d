package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// WITH items that change rows of a sharded table. PostgreSQL runs all parts of
// such a statement by one snapshot, and so does each shard: where the rows that meet are
// on one shard, the shards run the client's own text. So the rows that an item returns are
// taken for rows of the table that it changes, which are where the table's row was.

// changed is such an item.
type changed struct {
	leaf  *leaf // use of the table that is changed
	facts *facts
	from  []*pg.Node // what it is joined with
	// columns are the names of what it returns, and inside the tables' columns that these
	// are, the zero column for none; nil where they are not known.
	columns []string
	inside  []column
	use     *pg.RangeVar // where the rest of the statement reads it
	cte     *pg.CommonTableExpr
	// plain says that none of the columns returned is of the user's types or collations.
	plain bool
	// unstable is as in analysis, but of this item. defaults is what it assigns that would
	// be another time on each shard, or "".
	unstable, defaults string
}

// changesRows analyses a WITH item that changes rows. It returns false, and has done nothing,
// for one that is not a DELETE, an UPDATE or an INSERT of rows written out, of a sharded
// table.
func (a *analysis) changesRows(cte *pg.CommonTableExpr, lvl *level) bool {
	if cte.Ctequery.GetInsertStmt() != nil {
		return a.insertsRows(cte, lvl)
	}
	d, u := cte.Ctequery.GetDeleteStmt(), cte.Ctequery.GetUpdateStmt()
	rel, from, where, returning, with := d.GetRelation(), d.GetUsingClause(), d.GetWhereClause(), d.GetReturningList(), d.GetWithClause()
	if u != nil {
		rel, from, where, returning, with = u.Relation, u.FromClause, u.WhereClause, u.ReturningList, u.WithClause
	}
	if rel == nil || with != nil || a.env.Shards == 1 || len(cte.Aliascolnames) > 0 || where.GetCurrentOfExpr() != nil {
		return false
	}
	if t := a.env.find(rel.Schemaname, rel.Relname); t == nil || t.Distribution != Sharded || t.Key == nil {
		return false
	}
	inner := &level{parent: lvl.parent, ctes: lvl.ctes}
	defer a.apart()()
	defer func(unstable string) { a.unstable = choose(unstable != "", unstable, a.unstable) }(a.unstable)
	a.unstable = ""
	e := a.target(rel, inner)
	c := &changed{leaf: e.leaf, from: from, cte: cte}
	defer a.enter(c)()
	f := a.from(from, where, inner, nil)
	e.leaf.facts = f
	a.exprs(u.GetTargetList(), inner, f)
	a.exprs(returning, inner, f)
	clock := a.clock
	a.clock = ""
	a.assigned(u.GetTargetList(), e.table)
	if c.defaults = a.clock; a.clock == "" {
		a.clock = clock
	}
	if a.changesKey(u.GetTargetList(), e) {
		refuse(keyChange(e.table, "in WITH"))
	}
	c.facts, c.unstable = f, a.unstable
	if names, cols, ok := a.outputs(&pg.SelectStmt{TargetList: named(returning)}, inner); ok {
		c.columns, c.inside = names, cols
		c.plain = !slices.ContainsFunc(cols, func(x column) bool { return x.rte != nil && x.rte.table.Columns[x.n].ownType() })
	}
	c.forget(u.GetTargetList())
	a.addChanged(c)
	return true
}

// insertsRows is changesRows for INSERT ... VALUES.
func (a *analysis) insertsRows(cte *pg.CommonTableExpr, lvl *level) bool {
	ins := cte.Ctequery.GetInsertStmt()
	sel := ins.SelectStmt.GetSelectStmt()
	if len(sel.GetValuesLists()) == 0 || len(sel.SortClause) > 0 || sel.LimitCount != nil || sel.LimitOffset != nil || sel.WithClause != nil || ins.WithClause != nil ||
		ins.Override == pg.OverridingKind_OVERRIDING_USER_VALUE || a.env.Shards == 1 || len(cte.Aliascolnames) > 0 {
		return false
	}
	t := a.env.find(ins.Relation.Schemaname, ins.Relation.Relname)
	if t == nil || t.Distribution != Sharded || t.Key == nil {
		return false
	}
	inner := &level{parent: lvl.parent, ctes: lvl.ctes}
	defer a.apart()()
	e := a.target(ins.Relation, inner)
	c := &changed{leaf: e.leaf, cte: cte, facts: &facts{}}
	defer a.enter(c)()
	a.onConflict(ins.OnConflictClause, e, inner)
	if ins.OnConflictClause != nil && len(a.assignedKey(ins.OnConflictClause.TargetList, t)) > 0 {
		refuse(keyChange(t, "by ON CONFLICT DO UPDATE"))
	}
	a.exprs(ins.ReturningList, inner, nil)
	a.query(sel, &level{ctes: lvl.ctes, rows: true}, nil)
	a.sequences(ins, t)
	a.stored(ins, sel, t)
	keys, r := a.rowKeys(ins, sel, t)
	if r != nil {
		refuse(r)
	}
	for i, n := range t.Key.Columns {
		p := factPin{column: column{e, n}}
		for _, key := range keys {
			p.keys = append(p.keys, key[i])
		}
		c.facts.pins = append(c.facts.pins, p)
	}
	e.leaf.facts, e.leaf.stores = c.facts, true
	if names, cols, ok := a.outputs(&pg.SelectStmt{TargetList: named(ins.ReturningList)}, inner); ok {
		c.columns, c.inside = names, cols
	}
	a.addChanged(c)
	return true
}

func (a *analysis) addChanged(c *changed) {
	if a.items == nil {
		a.items = map[string]*changed{}
	}
	a.items[c.cte.Ctename] = c
}

// apart keeps the relations of what is walked from those of the block around. What is
// returned ends that.
func (a *analysis) apart() func() {
	b := a.block
	if b == nil {
		return func() {}
	}
	uses, children := len(b.uses), len(b.children)
	return func() { b.uses, b.children = b.uses[:uses], b.children[:children] }
}

// inserted refuses to run a statement on several shards with an item that inserts rows:
// each shard would insert all.
func (a *analysis) inserted() *Refusal {
	for _, c := range a.items {
		if c.leaf.stores {
			return unsupported("an INSERT in WITH is not supported over several shards yet", "Give all rows one key, or send the statements one by one in a transaction.")
		}
	}
	return nil
}

// besideItems adds to the plan of INSERT ... VALUES that the WITH items have to be on the
// same shard.
func (a *analysis) besideItems(n Node) Node {
	route, ok := n.(*Route)
	if a.withLeaves == 0 || !ok {
		return n
	}
	for _, l := range a.leaves[:a.withLeaves] {
		p, ok := a.pin(l)
		if !ok {
			refuse(nestedDML())
		}
		route.Pins = append(route.Pins, p)
	}
	route.Else, route.Refusal = nil, nestedDML()
	return route
}

// named gives all items of a list of RETURNING names, but for columns, which have theirs.
func named(list []*pg.Node) (out []*pg.Node) {
	for _, n := range list {
		if t := n.GetResTarget(); t.Name == "" && t.Val.GetColumnRef() == nil && t.Val.GetAIndirection() == nil {
			n = &pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Name: outputName(t), Val: t.Val}}}
		}
		out = append(out, n)
	}
	return out
}

// enter begins the walk in an item. What is returned ends it.
func (a *analysis) enter(c *changed) func() {
	a.changing = c
	before := len(a.leaves)
	return func() {
		a.changing = nil
		for _, l := range a.leaves[before:] {
			l.to = c.leaf
		}
	}
}

// forget takes away what was known of columns that an UPDATE assigns: it returns their
// new values.
func (c *changed) forget(assign []*pg.Node) {
	table := c.leaf.rte.table
	old := func(x column) bool {
		return x.rte == c.leaf.rte && !slices.Contains(table.Key.Columns, x.n) &&
			slices.ContainsFunc(assign, func(n *pg.Node) bool { return table.Column(n.GetResTarget().Name) == x.n })
	}
	for i, x := range c.inside {
		if old(x) {
			c.inside[i] = column{}
		}
	}
	known := &facts{}
	for _, e := range c.facts.equal {
		if !old(e[0]) && !old(e[1]) {
			known.equal = append(known.equal, e)
		}
	}
	for _, p := range c.facts.pins {
		if !old(p.column) {
			known.pins = append(known.pins, p)
		}
	}
	c.facts = known
}

// returns notes that an entry of FROM is what a WITH item that changes rows returns. Were
// it read twice, two rows of it could meet that are on different shards.
func (a *analysis) returns(e *rte, rv *pg.RangeVar) {
	c := a.items[rv.Relname]
	if c == nil {
		return
	}
	if c.use != nil {
		a.nestedDML = "WITH"
	}
	c.use = rv
	if a.changing != nil {
		c.leaf.to = a.changing.leaf
	}
	e.changed = c
	e.see(outputs{c.columns, c.inside}, rv.GetAlias().GetColnames())
}

// holds adds to the facts at an item's use what is known of its rows.
func (c *changed) holds(f *facts) {
	if f == nil {
		return
	}
	c.leaf.used = f
	f.equal = append(f.equal, c.facts.equal...)
	f.pins = append(f.pins, c.facts.pins...)
}

// eachOnItsShard checks that every shard can run the statement's WITH items that change
// rows for its own rows.
func (a *analysis) eachOnItsShard() *Refusal {
	for _, c := range a.items {
		for _, it := range c.from {
			if _, r := a.side(it); r != nil {
				return r
			}
		}
	}
	return nil
}

func nestedDML() *Refusal {
	return unsupported("a data-modifying WITH over sharded or reference tables is not supported in this form yet", "Send the statements one by one in a transaction.")
}

// changedPart makes the rows that a WITH item returns a part of a Gather, which is asked
// when all others have been: they are of before the change.
func (g *gatherer) changedPart() *Refusal {
	a := g.a
	if len(a.items) == 0 {
		return nil
	}
	if len(a.items) > 1 {
		return unsupported("several data-modifying items of WITH, whose rows have to be brought together, are not supported yet", "Send the statements one by one in a transaction.")
	}
	for _, c := range a.items {
		if r := a.changesAlone(c); r != nil {
			return r
		}
		body, ok := a.itemText(c.cte)
		if !ok {
			return nestedDML()
		}
		p := &Part{Place: Pinned, Query: a.span(body), Columns: c.columns, Plain: true, Changes: true, Table: c.leaf.table.String()}
		if pin, ok := a.pin(c.leaf); ok {
			p.Pins = []Pin{pin}
		}
		for i := range g.parts {
			p.After = append(p.After, i)
		}
		g.parts = append(g.parts, p)
		g.edits = append(g.edits, edit{body, SQL{{Own: "SELECT * FROM "}, {Part: len(g.parts)}, {Own: " AS shardgate"}}})
	}
	return nil
}

// changesAlone says why an item can't be run by the shards as a statement of its own.
func (a *analysis) changesAlone(c *changed) (r *Refusal) {
	if len(c.columns) == 0 {
		return unsupported("a data-modifying item of WITH whose columns are not known, or without RETURNING, is not supported over several shards yet", "Name the columns in RETURNING.")
	}
	if r := a.eachOnItsShard(); r != nil {
		return r
	}
	if r := a.inserted(); r != nil {
		return r
	}
	defer func(clock, unstable string) { a.clock, a.unstable = clock, unstable }(a.clock, a.unstable)
	a.clock, a.unstable = c.defaults, c.unstable // functions that tell the time are replaced
	if r := a.multi(); r != nil {
		return r
	}
	for _, l := range a.leaves {
		if l.to == c.leaf && !aligned(l, c.leaf) {
			return unsupported("a data-modifying item of WITH that joins sharded tables otherwise than by their keys is not supported over several shards yet", "Join them by the key.")
		}
	}
	eachMessageBelow(c.cte.Ctequery, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.RangeVar:
			if u, ok := a.useOf(v); !ok || u.table == nil || u.table.Distribution != Sharded && u.table.Distribution != Reference {
				r = unsupported("a data-modifying item of WITH that reads another item or a local table is not supported over several shards yet", "Write the subquery in place.")
			}
		case *pg.FuncCall:
			if clockFunctions[unqualified(v.Funcname)] && !a.replacesClock(v.Location) {
				r = nestedDML()
			}
		case *pg.SQLValueFunction:
			if clockValue(v) && !a.replacesClock(v.Location) {
				r = nestedDML()
			}
		case *pg.CollateClause:
			r = nestedDML()
		case *pg.TypeCast:
			if a.collatedType(v.TypeName) {
				r = ownTypes()
			}
		case *pg.ColumnRef: // what it is a part of may be of any type, but of its collation
			if x, ok := a.columns[v]; ok && x.rte.table.Columns[x.n].Collation != "" {
				r = ownTypes()
			}
		}
	})
	if r == nil && !c.plain {
		r = ownTypes()
	}
	return r
}

func ownTypes() *Refusal {
	return unsupported("a data-modifying item of WITH with columns of types or collations of the user's is not supported over several shards yet", "Return other columns, or cast them to text.")
}

// itemText is the text of a WITH item's statement.
func (a *analysis) itemText(cte *pg.CommonTableExpr) (byteRange, bool) {
	i := a.tokenAt(cte.Location) + 1
	if i > 0 && a.is(i, '(') { // names of its columns
		i = a.closing(i) + 1
	}
	if i == 0 || !a.keyword(i, "as") {
		return byteRange{}, false
	}
	for i++; a.keyword(i, "not") || a.keyword(i, "materialized"); {
		i++
	}
	if !a.is(i, '(') {
		return byteRange{}, false
	}
	end := a.closing(i)
	return a.between(i+1, end), end > i+1
}
