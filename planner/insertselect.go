package planner

import (
	"cmp"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
)

// INSERT ... SELECT. Where each shard's rows stay on the shard, every shard runs the
// client's own text. Otherwise the SELECT is a query of its own, and its rows are
// inserted where they belong.

// InsertSelect inserts the rows of a query, which has a plan of its own. The rows
// come back to the gateway, and each shard gets its own by an INSERT with the rows in
// the place of the query: defaults, casts, ON CONFLICT and RETURNING are PostgreSQL's.
// A MERGE that may insert is the same: its query is the source.
type InsertSelect struct {
	// Table is where the rows go to; nil is a relation that only the home shard has.
	Table *Table
	// Merges says that the statement is a MERGE, and the query its source, whose columns
	// keep their names and their Collations, which are as in Part.
	Merges     bool
	Collations []string
	// Clock is as in Gather, of all but the query.
	Clock bool
	// Query is the plan of Own, or of the client's text from Start to End, whose
	// literals are the whole text's from FirstLiteral to LastLiteral, exclusive.
	Own                       string
	OwnLiterals               []sqltext.Literal
	Query                     *Statement
	Start, End                sqltext.Anchor
	FirstLiteral, LastLiteral int
	// Head and Tail are what stands before and behind the query. Fills are values of
	// columns that Head names behind the query's: their defaults.
	Head, Tail, Fills SQL
	// Constants are the constants and parameters among the query's columns, whose
	// type is the one of the column that they are stored in; nil for other columns.
	Constants []SQL
	// Columns is how many columns the query must have, for Constants to be in their places
	// behind a star; 0 without one.
	Columns int
	// Keys are the key's columns, of a sharded table.
	Keys []InsertKey
	// MinColumns is how many columns the query must have so that no default is used
	// which the gateway can't give; with fewer, the statement is refused with Refusal.
	MinColumns int
	Refusal    *Refusal
	// LockReference is as in Broadcast.
	LockReference []string
	// KeepsOrder is as in Split.
	KeepsOrder bool
}

// InsertKey is one column of the key of rows that a query gives: a column of the
// query, or a Value that is the same for all rows.
type InsertKey struct {
	Type   shardmap.KeyType
	Column int
	Value  *Value
}

func (*InsertSelect) isNode() {}

// insertTail is what is known of an INSERT without its query: of WITH, ON CONFLICT
// and RETURNING.
type insertTail struct {
	target   *leaf
	reads    bool // a distributed table
	volatile bool
	refusal  *Refusal // why it can't be run on several shards
	clocks   []edit   // what asks for the time of the transaction
}

// tailOf notes what the analysis has found before it comes to an INSERT's query.
func (a *analysis) tailOf(ins *pg.InsertStmt, e *rte) insertTail {
	t := insertTail{target: e.leaf, volatile: a.volatile}
	leaves, refs := len(a.leaves)-a.withLeaves, len(a.refs)-a.withRefs
	switch {
	case e.leaf != nil:
		leaves--
	case e.table != nil:
		refs--
	}
	t.reads = leaves > 0 || refs > 0
	defer func(clock string) { a.clock = clock }(a.clock)
	t.clocks, a.clock = a.tailClocks(ins, e)
	if t.refusal = a.spanning(); t.refusal == nil {
		t.refusal = a.multi()
	}
	return t
}

// insertQuery plans INSERT ... SELECT into a sharded table.
func (a *analysis) insertQuery(ins *pg.InsertStmt, t *Table, tail insertTail) Node {
	if tail.reads {
		refuse(unsupported("an INSERT into a sharded table with a subquery over distributed tables in WITH, ON CONFLICT or RETURNING is not supported yet",
			"Read the rows first, and pass the values as parameters."))
	}
	if oc := ins.OnConflictClause; oc != nil {
		if len(a.assignedKey(oc.TargetList, t)) > 0 {
			refuse(keyChange(t, "by ON CONFLICT DO UPDATE"))
		}
	}
	a.leaves = slices.DeleteFunc(a.leaves, func(l *leaf) bool { return l == tail.target })
	anchor := a.insertsInPlace(ins, t)
	if anchor == nil || a.spanning() != nil {
		return a.insertElsewhere(ins, t, tail)
	}
	names := insertColumns(ins, t)
	items, _ := a.selected(ins.SelectStmt.GetSelectStmt())
	names = names[:min(len(names), len(items))]
	for _, c := range defaultedBy(names, t) {
		if c.Sequence {
			refuse(ownSequence(c, t))
		}
	}
	return a.pinnedOr(func() (Node, *leaf, *Refusal) {
		a.oneTime(a.stmt, t)
		merge, _, r := a.scatterSelect(ins.SelectStmt.GetSelectStmt(), false)
		if r == nil {
			r = a.multi()
		}
		if r != nil || merge != Concat || ins.WithClause != nil && (len(a.items) == 0 || a.inCTE(ins.WithClause)) {
			node, r := a.insertRows(ins, t, tail)
			return node, nil, r
		}
		if r := a.ownDefaults(t, names, a.timed != nil); r != nil {
			return nil, nil, r
		}
		if r := a.inserted(); r != nil {
			return nil, nil, r
		}
		return &Broadcast{Merge: Concat}, anchor, nil
	})
}

// insertReference plans INSERT ... SELECT into a reference table: the rows are computed
// once, and all copies get them.
func (a *analysis) insertReference(ins *pg.InsertStmt, t *Table, tail insertTail) Node {
	switch {
	case tail.reads:
		refuse(unsupported("an INSERT into the reference table "+t.String()+" with a subquery over distributed tables in WITH, ON CONFLICT or RETURNING is not supported yet",
			"Read the rows first, and pass the values as parameters."))
	case tail.volatile:
		refuse(unsupported("a volatile function would give another value in each copy of the reference table "+t.String(),
			"Call the function in a statement of its own and pass the result as a parameter."))
	}
	return a.insertElsewhere(ins, t, tail)
}

// insertElsewhere is insertRows, where there is no other way.
func (a *analysis) insertElsewhere(ins *pg.InsertStmt, t *Table, tail insertTail) Node {
	node, r := a.insertRows(ins, t, tail)
	if r != nil {
		refuse(r)
	}
	return node
}

// insertsInPlace says whether each row that the query gives belongs to the shard of
// the row of a table that it is made of: that table's use, or nil.
func (a *analysis) insertsInPlace(ins *pg.InsertStmt, t *Table) *leaf {
	sel := ins.SelectStmt.GetSelectStmt()
	if sel.Larg != nil || slices.ContainsFunc(sel.GroupClause, func(n *pg.Node) bool { return n.GetGroupingSet() != nil }) {
		return nil // a column may be NULL, or another query's
	}
	anchor, r := a.scatterFrom(sel.FromClause, nil)
	if r != nil || !colocated(anchor.table.Key, t.Key) {
		return nil
	}
	items, ok := a.selected(sel)
	if !ok {
		return nil
	}
	names := insertColumns(ins, t)
	for i, n := range t.Key.Columns {
		at := slices.Index(names, t.Columns[n].Name)
		key := column{anchor.rte, anchor.table.Key.Columns[i]}
		if at < 0 || at >= len(items) || items[at].rte == nil || !slices.Contains(anchor.facts.class(key), items[at]) {
			return nil
		}
		if t.KeyTypmod(i) < 0 || familyOf(t.Key.Types[i]) == familyBpchar {
			continue
		}
		if items[at] != key || t.KeyTypmod(i) != anchor.table.KeyTypmod(i) || t.Key.Types[i] != anchor.table.Key.Types[i] {
			return nil // storing it may change it
		}
	}
	return anchor
}

// selected are the columns that a SELECT gives, with those that a star stands for;
// the zero column for what is none of a table's. ok is false where their number isn't
// certain.
func (a *analysis) selected(sel *pg.SelectStmt) (out []column, ok bool) {
	if len(sel.ValuesLists) > 0 {
		return make([]column, len(sel.ValuesLists[0].GetList().GetItems())), true
	}
	return a.targeted(sel, sel.TargetList)
}

// targeted is selected of some of a SELECT's targets.
func (a *analysis) targeted(sel *pg.SelectStmt, targets []*pg.Node) (out []column, ok bool) {
	b := a.blocks[sel]
	for _, n := range targets {
		ref := n.GetResTarget().GetVal().GetColumnRef()
		if ref == nil {
			if n.GetResTarget().GetVal().GetAIndirection() != nil {
				return nil, false // (row).*
			}
			out = append(out, column{})
			continue
		}
		if ref.Fields[len(ref.Fields)-1].GetAStar() == nil {
			c := a.columns[ref]
			if c.rte != nil && c.rte.block != b {
				c = column{}
			}
			if x, ok := a.entryColumn(n.GetResTarget().Val, b.lvl); ok && x.rte.changed != nil && slices.Contains(b.lvl.rtes, x.rte) {
				c = x.base()
			}
			out = append(out, c)
			continue
		}
		if len(ref.Fields) > 2 || b == nil || len(b.lvl.merged) > 0 || b.lvl.hidden || b.lvl.unnamed {
			return nil, false
		}
		found := false
		for _, e := range b.lvl.rtes {
			if len(ref.Fields) == 2 && e.name != str(ref.Fields[0]) {
				continue
			}
			if e.columns == nil || found && len(ref.Fields) == 2 {
				return nil, false
			}
			found = true
			for i := range e.columns {
				c := column{e, i}
				if e.changed != nil {
					c = c.base()
				} else if e.table == nil {
					c = column{}
				}
				out = append(out, c)
			}
		}
		if !found {
			return nil, false
		}
	}
	return out, true
}

// defaultedBy returns the columns that rows with values for these columns leave to
// their default.
func defaultedBy(names []string, t *Table) []Column {
	var out []Column
	for _, c := range t.Columns {
		if !c.Generated && !slices.Contains(names, c.Name) {
			out = append(out, c)
		}
	}
	return out
}

// ownDefaults refuses rows for several shards with values for these columns, whose
// other columns have defaults that each shard would give for itself. filled says that
// those which tell the time are given to the rows.
func (a *analysis) ownDefaults(t *Table, names []string, filled bool) *Refusal {
	for _, c := range defaultedBy(names, t) {
		if _, tells, ok := a.filling(&c); ok && (filled || !tells) {
			continue
		}
		switch {
		case c.Sequence:
			return ownSequence(c, t)
		case t.Distribution == Reference && c.HasDefault && c.Default != Immutable:
			return ownDefault(c, t)
		case c.HasDefault && c.Default == Stable:
			return &Refusal{Code: "0A000", Message: "the default of column \"" + c.Name + "\" would give another value on each shard",
				Hint: "Give the column a value."}
		}
	}
	return nil
}

// insertRows plans an INSERT whose query's rows are brought together, and inserted
// where they belong. t is nil for a relation that only the home shard has.
func (a *analysis) insertRows(ins *pg.InsertStmt, t *Table, tail insertTail) (Node, *Refusal) {
	distributed := t != nil && t.Distribution != Local
	switch {
	case len(a.items) > 0:
		return nil, nestedDML()
	case ins.WithClause != nil:
		return nil, unsupported("WITH before an INSERT whose rows have to be brought together is not supported yet", "Write it behind INSERT INTO: INSERT INTO table WITH ... SELECT ...")
	case distributed && tail.refusal != nil:
		return nil, tail.refusal
	}
	r, ok := a.queryText(ins)
	if !ok {
		return nil, unsupported("the query in this INSERT can't be told from the rest of its text", "Write it in another way.")
	}
	out := &InsertSelect{Table: t, Head: a.span(byteRange{0, r.start}),
		Start: sqltext.AnchorOf(r.start, a.lits), End: sqltext.AnchorOf(r.end, a.lits),
		KeepsOrder: ins.OnConflictClause == nil || ins.OnConflictClause.Action == pg.OnConflictAction_ONCONFLICT_UPDATE && ins.OnConflictClause.WhereClause == nil}
	if r.end < len(a.text) {
		out.Tail, ok = a.edited(byteRange{r.end, len(a.text)}, tail.clocks)
		out.Clock = len(tail.clocks) > 0
	}
	if !ok {
		return nil, unsupported("the time of the transaction can't be told from the rest of this INSERT", "Pass the time as a parameter.")
	}
	lits := a.literalsIn(r, out)
	if len(a.casts) > 0 {
		if why := a.castRows(r, out); why != nil {
			return nil, why
		}
		lits = out.OwnLiterals
	}
	if why := a.planQuery(r, lits, out); why != nil {
		return nil, why
	}
	values, why := a.constants(ins, t, out)
	if why != nil {
		return nil, why
	}
	if t == nil {
		return out, nil
	}
	names := insertColumns(ins, t)
	items, known := a.selected(ins.SelectStmt.GetSelectStmt())
	known = known && len(items) > 0
	if known {
		names = names[:min(len(names), len(items))]
	}
	filled := (known || len(ins.Cols) > 0) && a.fillGathered(ins, t, names, r, out)
	if !distributed {
		out.Table = nil
		return out, nil
	}
	if why := a.ownDefaults(t, names, filled); why != nil {
		return nil, why
	}
	if !known {
		for out.MinColumns = len(names); out.MinColumns > 0 && a.ownDefaults(t, names[:out.MinColumns-1], filled) == nil; {
			out.MinColumns--
		}
		if out.MinColumns > 0 {
			out.Refusal = a.ownDefaults(t, names[:out.MinColumns-1], filled)
		}
	}
	if t.Distribution == Reference {
		out.LockReference = []string{quoteTable(t)}
		return out, nil
	}
	return out, a.insertKeys(t, names, values, out)
}

// literalsIn are the literals of a part of the text, by their places in it.
func (a *analysis) literalsIn(r byteRange, out *InsertSelect) []sqltext.Literal {
	for out.FirstLiteral < len(a.lits) && int(a.lits[out.FirstLiteral].Start) < r.start {
		out.FirstLiteral++
	}
	for out.LastLiteral = out.FirstLiteral; out.LastLiteral < len(a.lits) && int(a.lits[out.LastLiteral].End) <= r.end; {
		out.LastLiteral++
	}
	return out.QueryLiterals(a.lits, r.start)
}

// QueryText is the text of the query, with its literals.
func (n *InsertSelect) QueryText(text []byte, lits []sqltext.Literal) ([]byte, []sqltext.Literal) {
	if n.Own != "" {
		return []byte(n.Own), n.OwnLiterals
	}
	start, end := n.Start.Offset(lits), n.End.Offset(lits)
	return text[start:end], n.QueryLiterals(lits, start)
}

// QueryLiterals are the literals of the query's text, which begins at an offset of
// the text with these literals.
func (n *InsertSelect) QueryLiterals(lits []sqltext.Literal, start int) []sqltext.Literal {
	out := slices.Clone(lits[n.FirstLiteral:n.LastLiteral])
	for i := range out {
		out[i].Start -= int32(start)
		out[i].End -= int32(start)
	}
	return out
}

// planQuery plans the query of an INSERT, at a place in the statement's text or out.Own.
func (a *analysis) planQuery(r byteRange, lits []sqltext.Literal, out *InsertSelect) *Refusal {
	text := cmp.Or(out.Own, a.text[r.start:r.end])
	tree, err := pg.Parse(text)
	if err != nil {
		return unsupported("the query in this INSERT can't be read by itself", "Write it in another way.")
	}
	st, err := (&Parsed{text: text, tree: tree, names: out.Merges}).Plan(lits, a.env)
	if err != nil {
		why, ok := err.(*Refusal)
		if !ok {
			return unsupported(err.Error(), "Write the query in another way.")
		}
		if why.Position > 0 {
			moved := *why
			moved.Position += a.position(int32(r.start)) - 1
			if out.Own != "" {
				moved.Position = 0 // in a text that the client doesn't know
			}
			why = &moved
		}
		return why
	}
	if st.Views() {
		return unsupported("INSERT of what a view over a sharded table gives is not supported yet", writeViewOut)
	}
	a.uncertain = a.uncertain || st.NeedsParamTypes
	a.textSpecific = a.textSpecific || st.TextSpecific
	if st.Returning {
		return nestedDML()
	}
	st.Node = unmerged(st.Node)
	switch st.Node.(type) {
	case *Route, *Scatter, *Gather:
	default:
		return unsupported("this query can't give the rows of an INSERT", "Read the rows first, and insert them with VALUES.")
	}
	if st.HoldsSession {
		return unsupported("a session-level advisory lock can't be taken in this INSERT", "Take the lock in a statement of its own.")
	}
	out.Query = st
	return nil
}

// unmerged is the plan of a query whose rows are kept, and not passed on as they are merged.
func unmerged(n Node) Node {
	switch n := n.(type) {
	case *Ordered:
		return n.Gathered
	case *Route:
		n.Else = unmerged(n.Else)
	}
	return n
}

// queryText finds the text of an INSERT's query: what PostgreSQL's grammar reads as
// the same tree.
func (a *analysis) queryText(ins *pg.InsertStmt) (byteRange, bool) {
	toks := a.tokens()
	first := a.tokenAt(ins.Relation.Location)
	if first < 0 {
		return byteRange{}, false
	}
	first = a.nameEnd(first)
	if ins.Relation.Alias != nil {
		first += 2 // AS alias
	}
	if len(ins.Cols) > 0 {
		if first = a.closing(first) + 1; first == 0 {
			return byteRange{}, false
		}
	}
	if a.keyword(first, "overriding") {
		first += 3
	}
	if first >= len(toks) {
		return byteRange{}, false
	}
	for end := len(toks); end > first; end-- {
		switch {
		case ins.OnConflictClause != nil:
			if !a.keyword(end, "on") || !a.keyword(end+1, "conflict") {
				continue
			}
		case len(ins.ReturningList) > 0:
			if !a.keyword(end, "returning") {
				continue
			}
		case a.is(end-1, ';'):
			continue
		}
		r := a.between(first, end)
		if readsAsStatement(a.text[r.start:r.end], ins.SelectStmt) {
			return r, true
		}
		if ins.OnConflictClause == nil && len(ins.ReturningList) == 0 {
			break
		}
	}
	return byteRange{}, false
}

// constants notes the constants and parameters among a query's columns. PostgreSQL
// reads them as values of the columns that they are stored in, so that they stand in
// the INSERT of the rows. The values are returned by their place in the query.
func (a *analysis) constants(ins *pg.InsertStmt, t *Table, out *InsertSelect) (map[int]*pg.Node, *Refusal) {
	sel := ins.SelectStmt.GetSelectStmt()
	if sel.Larg != nil || len(sel.DistinctClause) > 0 || len(sel.ValuesLists) > 0 && !oneRow(sel) {
		return nil, nil // there, they are text
	}
	no := func(why string) (map[int]*pg.Node, *Refusal) {
		return nil, unsupported("a constant or parameter without a type, "+why+", can't be inserted by a query whose rows have to be brought together", "Write its type: $1::type or 'text'::type.")
	}
	var names []string
	if t != nil {
		names = insertColumns(ins, t)
	}
	var nodes map[int]*pg.Node
	items := sel.TargetList
	if oneRow(sel) {
		items = sel.ValuesLists[0].GetList().GetItems()
	}
	places, width, certain := a.places(sel, items)
	out.Constants = make([]SQL, width)
	for at, n := range items {
		i := places[at]
		v := n
		if n.GetResTarget() != nil {
			v = n.GetResTarget().GetVal()
		}
		switch {
		case v.GetParamRef() != nil:
		case v.GetAConst().GetSval() != nil || v.GetAConst().GetIsnull():
		default:
			continue
		}
		text, ok := a.exprText(v)
		if !ok {
			return no("whose text isn't found")
		}
		if n.GetResTarget() != nil && a.ordered(sel, n.GetResTarget()) {
			return no("by which the query may be sorted or grouped")
		}
		out.Constants[i] = a.span(text)
		if nodes == nil {
			nodes = map[int]*pg.Node{}
		}
		nodes[i] = v
		if i < len(names) && t.Distribution != Local {
			a.storeDate(v, t, names[i])
		}
	}
	switch {
	case nodes == nil:
		out.Constants = nil
	case !certain:
		return no("besides a star")
	case width != len(items):
		out.Columns = width
	}
	return nodes, nil
}

// places are the numbers of a query's columns that its targets begin with, behind stars as
// well, and how many columns there are. They are certain unless a star stands for columns that
// aren't known.
func (a *analysis) places(sel *pg.SelectStmt, items []*pg.Node) (places []int, width int, certain bool) {
	starred := slices.ContainsFunc(items, isStar)
	certain = true
	for i := range items {
		places = append(places, width)
		n, ok := 1, true
		if starred {
			var cols []column
			cols, ok = a.targeted(sel, items[i:i+1])
			n = len(cols)
		}
		width, certain = width+n, certain && ok
	}
	return places, width, certain
}

// oneRow says whether a query is a VALUES list of one row, which PostgreSQL reads in an INSERT
// as it reads a target list.
func oneRow(sel *pg.SelectStmt) bool {
	return len(sel.ValuesLists) == 1 && len(sel.SortClause) == 0 && sel.LimitCount == nil && sel.LimitOffset == nil && sel.WithClause == nil
}

// ordered says whether a SELECT may sort or group by a column that is a constant: by
// its number or its name.
func (a *analysis) ordered(sel *pg.SelectStmt, target *pg.ResTarget) bool {
	any := false
	look := func(n *pg.Node) {
		ref := n.GetColumnRef()
		any = any || n.GetAConst() != nil || n.GetParamRef() != nil || ref != nil && len(ref.Fields) == 1 && str(ref.Fields[0]) == target.Name && target.Name != ""
	}
	for _, n := range sel.GroupClause {
		look(n)
		any = any || n.GetGroupingSet() != nil
	}
	for _, n := range sel.SortClause {
		look(n.GetSortBy().GetNode())
	}
	return any
}

// insertKeys finds the key among a query's columns.
func (a *analysis) insertKeys(t *Table, names []string, values map[int]*pg.Node, out *InsertSelect) *Refusal {
	for i, n := range t.Key.Columns {
		k := InsertKey{Type: t.Key.Types[i], Column: slices.Index(names, t.Columns[n].Name)}
		if k.Column < 0 {
			return nullKey(t)
		}
		if node := values[k.Column]; node != nil {
			f := familyOf(k.Type)
			v, ok := a.value(node, f)
			if !ok || !a.certain(factPin{keys: []Value{v}}, f) {
				return unsupported("the key of the rows inserted into "+t.String()+" must be a constant or a parameter of its type", "Write its type: $1::type.")
			}
			k.Value = &v
		}
		out.Keys = append(out.Keys, k)
	}
	return nil
}
