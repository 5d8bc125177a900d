package planner

import (
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shardgate/shardgate/shardmap"
)

// Gather brings the rows of relations to one shard, and runs the client's statement
// over them there; one that changes a table, on each of the table's shards. It answers what no other plan does: the statement is PostgreSQL's
// own to run, with all of its rows at hand.
type Gather struct {
	Parts []Part
	// Inside says when the final statement has to run in the client's transaction: its
	// rows travel as arrays then, however many.
	Inside Inside
	// Clock says that the time of the transaction is a part of the statements.
	Clock bool
	// Final is the client's statement with the parts in the place of its relations.
	Final SQL
	// Query is the client's query alone, where the statement does something with its
	// rows: COPY or DECLARE. It is nil where the statement is the query. It is of the
	// client's own text, whatever text the plan is about.
	Query SQL
	// Declares is the cursor that Final makes, or "".
	Declares string
	// InTables says that Final takes no parameters: every part must be a table.
	InTables bool
	// Target is the table that Final changes; nil where it is a query.
	Target *Target
}

// Inside says when a final statement has to run in the client's transaction.
type Inside uint8

const (
	Anywhere Inside = iota
	InBlock         // if there is a block: a function may ask for its time
	Always          // a function may change rows, or the statement does, a system or temporary relation is read, or a cursor is held
)

// Part is a relation that a Gather reads: the rows that a query gives on its shards.
type Part struct {
	Place Place // Pinned: all shards, or those of Pins
	Pins  []Pin
	Query SQL
	// Columns are the names of the query's columns, which differ.
	Columns []string
	// Plain says that the columns' values, of PostgreSQL's own scalar types, can travel in
	// arrays, which have no collations: Collations are the names of the columns' by
	// position, "" for that of the type, of those that have one by their type.
	Plain      bool
	Collations []string
	// Carried says by position how the values travel; nil if they do as they are.
	Carried []Carried
	// Index are the columns by which rows are looked for again and again: a hash index
	// on each, which takes values of any length, is worth its while when there are many.
	Index []string
	// Primary are the columns of the table's primary key, where the final statement may
	// rest on what depends on it: it must be a table's then, and not an array's.
	Primary []string
	// Keys are the columns, by position, whose values other parts are asked with: those
	// that have this one in After. What After names is asked first.
	Keys, After []int
	// KeyIn says that the rows' key is among the values of a column of After, which
	// prunes the shards; nil if nothing does.
	KeyIn *KeyIn
	// Changes says that the query changes rows, and can be run but once. Locks says that it
	// locks them.
	Changes, Locks bool
	// Table is the relation that is read, for messages.
	Table string
}

// Composed says that the query reads rows of other parts, and not only values of theirs
// that its own rows are compared with.
func (p *Part) Composed() bool {
	return slices.ContainsFunc(p.Query, func(q Piece) bool { return q.Part > 0 && !q.Keys })
}

// KeyIn says that a key of one column is among the values of a part's column.
type KeyIn struct {
	Type         shardmap.KeyType
	Part, Column int
}

func (*Gather) isNode() {}

// Changes says whether a part changes rows.
func (g *Gather) Changes() bool {
	return slices.ContainsFunc(g.Parts, func(p Part) bool { return p.Changes })
}

// Locks says whether a part locks rows.
func (g *Gather) Locks() bool {
	return slices.ContainsFunc(g.Parts, func(p Part) bool { return p.Locks })
}

// use is one use of a relation in a statement.
type use struct {
	rv    *pg.RangeVar
	table *Table // nil for one that is not in the snapshot
	rte   *rte
}

// tableUse is a use that has a part to itself, or shares it with others of the table.
type tableUse struct {
	use
	part  int
	conds []*pg.Node // of the part's query
	keys  int        // how many conditions semiJoins has added to it
	locks string     // its locking clauses
}

// gatherer plans a Gather.
type gatherer struct {
	a      *analysis
	w      *wanted
	parts  []*Part
	tables map[string]int // parts that are tables, by what they ask
	// tableUses are the uses that these parts are for.
	tableUses []tableUse
	edits     []edit
	combined  []*combiner
	refusal   *Refusal
	whole     bool                         // every relation is a part by itself
	target    *rte                         // that the statement changes; nil for a query
	copies    *Copies                      // a Target's
	session   string                       // see sessionRelation
	locks     map[*rte][]*pg.LockingClause // see rowLocks
	onces     []*once
	stmt      *pg.Node // the statement
	unnamed   bool     // a column of the result has lost its name
}

// gather plans a SELECT by bringing together the rows that it needs. why is the reason
// for which it is not run in another way.
func (a *analysis) gather(n *pg.Node, why *Refusal) (Node, *Refusal) {
	if r := a.notGathered(); r != nil {
		return nil, r
	}
	a.replaceClocks(n)
	for _, tables := range []bool{false, true} {
		g := &gatherer{a: a, w: a.wanted(n), tables: map[string]int{}, whole: tables, session: a.sessionRelation(), locks: a.rowLocks()}
		g.block(a.root)
		if g.refusal != nil {
			return nil, g.refusal
		}
		if out := g.plan(n); out != nil {
			return out, nil
		}
		if g.refusal != nil {
			why = g.refusal
		}
	}
	return nil, why
}

// plan puts the plan together; nil where the statement's text can't be divided so.
func (g *gatherer) plan(n *pg.Node) *Gather {
	a := g.a
	if g.refusal = g.changedPart(); g.refusal != nil {
		return nil
	}
	g.edits = g.dropSchemas(g.edits, n)
	g.semiJoins()
	g.lockTables()
	for _, c := range slices.Backward(g.combined) { // inner ones first
		if !g.composeOnces(c.b) || !c.compose() {
			return nil
		}
	}
	if !g.composeOnces(nil) {
		return nil
	}
	out := &Gather{Clock: len(a.clocks) > 0, Inside: a.inside()}
	if g.target != nil || g.session != "" {
		out.Inside = Always
	}
	var ok bool
	if out.Final, ok = a.edited(byteRange{0, len(a.text)}, g.edits); !ok {
		return nil
	}
	for _, p := range g.parts {
		if out.Inside == Always {
			p.Index, p.Primary = nil, nil // of a table that can't be made
		}
		if g.target != nil && !p.Plain {
			g.refusal = unsupported("rows of "+p.Table+" with types of the user's, arrays or samples can't be brought together for a statement that changes rows",
				"Read the rows first, and pass the values as parameters.")
			return nil
		}
		if out.Inside == Always && !p.Plain && g.session != "" {
			if a.absent != nil {
				g.refusal = a.unknownRelation(a.absent)
				return nil
			}
			g.refusal = unsupported("the system or temporary relation "+g.session+" can't be combined with columns of a distributed table that are arrays or have types of the user's yet", "Query the two separately.")
			return nil
		}
		if out.Inside == Always && !p.Plain && a.held {
			g.refusal = unsupported("a cursor WITH HOLD over rows of several shards that have values of types which can't be brought to another one, or that are computed in a collation of the user's, is not supported yet",
				"Fetch its rows in the transaction, or pin the tables to one key.")
			return nil
		}
		if out.Inside == Always && !p.Plain {
			g.refusal = unsupported("a function that may change rows can't be called in a query over rows of several shards that have types of the user's",
				"Declare the function STABLE or IMMUTABLE if it changes nothing.")
			return nil
		}
		out.Parts = append(out.Parts, *p)
	}
	if len(out.Parts) == 0 && (g.target == nil || !out.Clock && g.copies == nil) || g.unnamed || g.namesRelations(out.Final) || g.oncesName() || !a.reads(out) {
		return nil
	}
	return out
}

// inArrays says that the rows of the parts have to travel as arrays.
func (g *gatherer) inArrays() bool {
	return g.target != nil || g.session != "" || g.a.inside() == Always
}

func (a *analysis) inside() Inside {
	switch {
	case a.changes, a.held: // it is the client's connection that has the cursor after the transaction
		return Always
	case a.stable != "":
		return InBlock
	}
	return Anywhere
}

// sessionRelation is a relation in the statement that the client's own connection to the
// home shard has, as its transaction sees it, or "": a temporary one, or one of the
// system's, which describe the server that they are read on. So the final statement, which
// is run on that connection then, has its name as it is. Another connection would show
// what the transaction has made not yet, and the gateway's temporary tables; and of many
// of the system's columns, values can't be stored elsewhere.
func (a *analysis) sessionRelation() string {
	for _, u := range a.uses {
		if u.table == nil {
			return u.rv.Relname
		}
	}
	return ""
}

// block plans a SELECT and those inside it.
func (g *gatherer) block(b *block) {
	g.runOnce(b)
	if g.refusal != nil || !g.whole && len(b.uses) > 0 && !b.alike() && g.combine(b) {
		return
	}
	g.nameOutputs(b)
	if len(b.sel.LockingClause) > 0 && b.sel.Larg == nil {
		e, ok := g.unlock(b)
		if !ok {
			g.refusal = notLocked()
			return
		}
		g.edits = append(g.edits, e)
	}
	for _, u := range b.uses {
		g.table(u)
	}
	for _, c := range b.children {
		g.block(c)
	}
}

// nameOutputs keeps the names of columns of a block's result in which the time, or a
// column of a block around, was replaced.
func (g *gatherer) nameOutputs(b *block) {
	for _, n := range b.sel.TargetList {
		t := n.GetResTarget()
		if t.Name != "" || !g.replaces(t.Val) {
			continue
		}
		e, ok := g.a.asName(t)
		if !ok {
			g.unnamed = true
			return
		}
		g.edits = append(g.edits, e)
	}
}

// replaces says whether a column or a call of an expression was replaced.
func (g *gatherer) replaces(n *pg.Node) bool {
	found := false
	at := func(location int32) {
		found = found || g.a.replacesClock(location) || slices.ContainsFunc(g.edits, func(e edit) bool { return e.start == int(location) && e.end > e.start })
	}
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.ColumnRef:
			at(v.Location)
		case *pg.FuncCall:
			at(v.Location)
		case *pg.SQLValueFunction:
			at(v.Location)
		}
	})
	return found
}

// table makes a relation a part by itself, unless it is where the final statement runs.
func (g *gatherer) table(u use) {
	locks := g.lockSQL([]*rte{u.rte})
	if locks != "" && !g.locksTable(u) {
		g.refusal = notLocked()
		return
	}
	if g.final(u) {
		return
	}
	p, r := g.a.part(u, g.w, g.inArrays())
	if r != nil {
		g.refusal = r
		return
	}
	for _, n := range conjuncts(u.rte.block.sel.WhereClause) {
		if c, ok := g.a.probed(u.rte.block, n); ok && c.rte == u.rte && indexable(c) && u.table != nil {
			p.Index = append(p.Index, u.table.Columns[c.n].Name)
		}
	}
	p.Primary = g.primaryFor(u, p.Columns)
	var conds []*pg.Node
	if u.rte.block == nil || !u.rte.block.alike() {
		conds = g.a.filters(u)
	}
	for i, n := range conds {
		r, _ := g.a.exprText(n)
		before := " AND ("
		if i == 0 {
			before = choose(u.rv.Alias == nil, " WHERE (", " AS "+QuoteIdent(u.rte.name)+" WHERE (")
		}
		p.Query = p.Query.add(before, g.a.span(r), ")")
	}
	if locks != "" && p.Place == Any {
		p.Place = Home
	}
	key := fmt.Sprint(p.Place, p.Pins, p.Query, p.Index, p.Primary, locks)
	i, ok := g.tables[key]
	if !ok {
		i = len(g.parts)
		g.tables[key] = i
		g.parts = append(g.parts, &p)
	}
	g.tableUses = append(g.tableUses, tableUse{use: u, part: i, conds: conds, locks: locks})
	if g.a.sampled[u.rv] || len(u.rv.GetAlias().GetColnames()) > 0 && g.w.names[u.rte.name] {
		// A table it must be: for TABLESAMPLE, and because the fields of its rows
		// have the table's names whatever the columns are called here.
		g.parts[i].Plain = false
	}
	if g.edits, ok = g.a.replaceName(g.edits, u.rv, SQL{{Part: i + 1}}); !ok {
		g.refusal = unsupported("the name of "+p.Table+" is not found in the statement's text", "Write it in another way.")
	}
}

// final says whether a relation is read by the final statement, where that runs.
func (g *gatherer) final(u use) bool {
	return g.session != "" && (u.table == nil || !distributed(u.table.Distribution))
}

// namesRelations says whether a final statement still has the name of a relation whose
// rows are brought together: the shard that runs it would read its own.
func (g *gatherer) namesRelations(q SQL) bool {
	lits := g.a.lits
	return slices.ContainsFunc(g.a.uses, func(u use) bool {
		return u.rte != g.target && !g.final(u) && slices.ContainsFunc(q, func(p Piece) bool {
			return p.Start != p.End && p.Start.Offset(lits) <= int(u.rv.Location) && int(u.rv.Location) < p.End.Offset(lits)
		})
	})
}

// reads says whether PostgreSQL's grammar accepts the texts of a plan.
func (a *analysis) reads(g *Gather) bool {
	for i := range g.Parts {
		if !a.readsSQL(g.Parts[i].Query) {
			return false
		}
	}
	return a.readsSQL(g.Final)
}

func (a *analysis) readsSQL(q SQL) bool { return parseOne(a.sample(q)) != nil }

// sample is a statement with something in the place of what is known only when it runs.
func (a *analysis) sample(q SQL) string {
	return string(q.Append(nil, []byte(a.text), a.lits, placeholder{}))
}

// placeholder writes something that the grammar accepts for a part.
type placeholder struct{}

func (placeholder) AppendSource(dst []byte, _ int) []byte  { return append(dst, "x"...) }
func (placeholder) AppendCast(dst []byte, _, _ int) []byte { return append(dst, "::x"...) }
func (placeholder) AppendKeys(dst []byte, _ string, _, _ int) []byte {
	return append(dst, "true"...)
}
func (placeholder) AppendClock(dst []byte) []byte { return append(dst, "now"...) }

// notGathered says why a SELECT can't be run over rows that were brought elsewhere.
func (a *analysis) notGathered() *Refusal {
	switch {
	case a.expansion != nil && a.expansion.notGathered != nil:
		return a.expansion.notGathered
	case a.nestedDML != "":
		return nestedDML()
	case a.opaque != "":
		return readsBehind(a.opaque)
	case a.home != "":
		return homesOwn(a.home)
	case a.unknown != "":
		return unknownFunction(a.unknown)
	case a.shardOwn != "":
		return shardsOwn(a.shardOwn)
	case a.rowType:
		return unsupported("pg_typeof of a whole row can't be found out where rows are brought together", "It is the table's name.")
	case a.tokens() == nil:
		return undivided()
	}
	return nil
}

// wanted are the names that may be columns' in a statement: what has to be brought.
type wanted struct {
	all   bool
	names map[string]bool // columns, and entries that are wanted whole
}

// wanted collects the columns that a statement may mean. It errs on the side of
// more.
func (a *analysis) wanted(n *pg.Node) *wanted {
	w := &wanted{names: map[string]bool{}}
	name := func(n *pg.Node) { w.names[str(n)] = true }
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		switch v := m.Interface().(type) {
		case *pg.ColumnRef:
			last := v.Fields[len(v.Fields)-1]
			w.all = w.all || len(v.Fields) == 1 && last.GetAStar() != nil
			if len(v.Fields) > 1 && a.columnName(str(last)) {
				name(last)
				break
			}
			// An entry's name alone, or with a star or a function, is its whole row.
			for _, f := range v.Fields {
				name(f)
			}
		case *pg.A_Indirection:
			for _, f := range v.Indirection {
				name(f)
			}
		case *pg.JoinExpr:
			w.all = w.all || v.IsNatural || v.Alias != nil || v.JoinUsingAlias != nil
			for _, f := range v.UsingClause {
				name(f)
			}
		}
	})
	return w
}

// columnName says whether a relation of the statement has a column of that name.
func (a *analysis) columnName(name string) bool {
	return slices.ContainsFunc(a.uses, func(u use) bool { return slices.Contains(u.rte.columns, name) })
}

// columns are the columns of a table that are wanted through an entry.
func (w *wanted) columns(t *Table, u use) []string {
	whole := w.all || w.names[u.rte.name] || len(u.rv.GetAlias().GetColnames()) > 0
	var out []string
	for i := range t.Columns {
		if whole || w.names[t.Columns[i].Name] {
			out = append(out, t.Columns[i].Name)
		}
	}
	return out
}

// part plans how a relation's rows are read, and whether they are to travel in arrays.
func (a *analysis) part(u use, w *wanted, inArrays bool) (Part, *Refusal) {
	t := u.table
	if t == nil {
		if a.absent != nil {
			return Part{}, a.unknownRelation(a.absent)
		}
		return Part{}, unsupported("the system or temporary relation "+u.rv.Relname+" can't be combined with a distributed table in this statement yet", "Query the two separately.")
	}
	p := Part{Place: Home, Table: t.String(), Columns: w.columns(t, u), Plain: true}
	switch t.Distribution {
	case Sharded:
		p.Place = Pinned
		if pin, ok := a.pin(u.rte.leaf); ok {
			p.Pins = []Pin{pin}
		}
	case Reference:
		p.Place = Any
	}
	var list SQL
	for i, name := range p.Columns {
		c := &t.Columns[t.Column(name)]
		if OwnOIDs(c.Type) {
			return Part{}, unsupported("values of column \""+name+"\" of "+t.String()+" are OIDs of its shard, and can't be brought to another one", "Cast the column to text in a statement of its own.")
		}
		item := own(QuoteIdent(name))
		if inArrays && c.Carried.Type != "" {
			if p.Carried == nil {
				p.Carried = make([]Carried, len(p.Columns))
			}
			p.Carried[i] = c.Carried
			item = c.Carried.send(item)
		}
		list = append(append(list, Piece{Own: when(i > 0, ", ")}), item...)
		p.Plain = p.Plain && (c.Scalar || p.Carried != nil && p.Carried[i].Type != "")
		p.Collations = append(p.Collations, c.Collation)
	}
	if len(list) == 0 {
		// The rows count, and nothing of them.
		p.Columns = []string{"?column?"}
		list = own("true")
	}
	p.Query = slices.Concat(own("SELECT "), list, own(" FROM "+choose(u.rv.Inh, "", "ONLY ")+quoteTable(t)))
	return p, nil
}

// ownType says whether a column has a type or a collation of the user's.
func (c *Column) ownType() bool { return !c.Scalar || c.Collation != "" }

// OwnOIDs says whether a type's values are OIDs of a server's objects: regproc,
// regprocedure, regoper, regoperator, regclass, regtype, regconfig, regdictionary,
// regnamespace, regrole, regcollation, and arrays of them.
func OwnOIDs(typ uint32) bool {
	return slices.Contains([]uint32{24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191,
		1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192}, typ)
}

// ownOIDs says whether a reference is to a column of such values.
func (a *analysis) ownOIDs(ref *pg.ColumnRef) bool {
	c, ok := a.columns[ref]
	return ok && OwnOIDs(c.rte.table.Columns[c.n].Type)
}

// replaceName puts an item of FROM in the place of a relation's name.
func (a *analysis) replaceName(edits []edit, rv *pg.RangeVar, with SQL) ([]edit, bool) {
	first := a.tokenAt(rv.Location)
	if first < 0 {
		return nil, false
	}
	toks := a.toks
	end := a.nameEnd(first)
	from, to := first, end
	if a.is(from-1, '(') && a.keyword(from-2, "only") { // ONLY (name)
		from, to = from-2, to+1
	} else if a.keyword(from-1, "only") {
		from--
	}
	if to < len(toks) && string(a.text[toks[to].Start:toks[to].End]) == "*" {
		to++ // name *, an old way to say that its children are meant
	}
	if rv.Alias == nil {
		with = append(with, Piece{Own: " AS " + QuoteIdent(rv.Relname)})
	}
	if a.keyword(from-1, "table") { // TABLE name, in the place of a SELECT
		t := toks[from-1]
		edits = append(edits, edit{byteRange{int(t.Start), int(t.End)}, own("SELECT * FROM")})
	}
	return append(edits, edit{a.between(from, to), with}), true
}

// dropSchemas takes the schemas out of columns' names: what they name has another
// now, unless it is the table that is changed.
func (g *gatherer) dropSchemas(edits []edit, n *pg.Node) []edit {
	a := g.a
	keep := map[int32]bool{} // by place, since a SET list of several columns has its source for each of them
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		ref, ok := m.Interface().(*pg.ColumnRef)
		if c, known := a.columns[ref]; known && c.rte == g.target {
			keep[ref.Location] = true
		}
		if !ok || len(ref.Fields) < 3 || keep[ref.Location] || slices.ContainsFunc(edits, func(e edit) bool { return int(ref.Location) >= e.start && int(ref.Location) < e.end }) {
			return
		}
		i := a.tokenAt(ref.Location)
		last := i + 2*(len(ref.Fields)-2) // the token of the relation's name
		if i < 0 || last >= len(a.toks) {
			return
		}
		edits = append(edits, edit{byteRange{int(a.toks[i].Start), int(a.toks[last].Start)}, nil})
	})
	return edits
}

func unknownFunction(name string) *Refusal {
	return &Refusal{Code: "42883", Message: "function " + name + "() does not exist",
		Hint: "If it was made a moment ago through another gateway, try again."}
}
