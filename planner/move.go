package planner

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// An UPDATE that assigns the key. Where the old and the new keys are constants of one
// shard, that shard runs the client's own text. Otherwise the rows' new values come to
// the gateway first, which says where each row belongs.

// Move is an UPDATE that gives rows new keys. The rows are locked and read, with the
// values that they are to have. Then each shard changes those of its rows that stay,
// inserts those that come from other shards, and deletes those that go.
type Move struct {
	Table *Table
	// Pins prune the shards that have the rows.
	Pins []Pin
	// Rows locks the rows, and gives for each the columns tableoid and ctid, then
	// the values assigned, Assigned of them, and then those of other columns.
	Rows     SQL
	Assigned int
	// Columns are the names of the table's columns that Rows gives behind ctid.
	Columns []string
	// Keys are the key's columns, among those of Rows.
	Keys []InsertKey
	// Change is what each shard does then. It gives what the client wants returned.
	// Its parts are MoveStays, MoveComes and MoveGoes.
	Change SQL
	// Clock says that the time of the transaction is a part of Rows or Change.
	Clock bool
}

// The parts of a Move's Change: which of the rows and of their columns they are.
const (
	MoveStays = iota // rows that stay on their shard: the place and the values assigned
	MoveComes        // rows from other shards: all columns
	MoveGoes         // rows for other shards: the place
)

// MovePlace is how many of the columns of a Move's Rows say where the row is.
const MovePlace = 2

func (*Move) isNode() {}

// MoveColumn is the name of a column, from 0, of a Move's Rows in its Change.
func MoveColumn(i int) string { return fmt.Sprintf("shardgate %d", i+1) }

// assignment is one column of a SET list with its value.
type assignment struct {
	column int
	value  *pg.Node
	text   byteRange
}

// changesKey says whether a SET list assigns a column of the key something other than
// itself.
func (a *analysis) changesKey(assign []*pg.Node, e *rte) bool {
	return slices.ContainsFunc(assign, func(n *pg.Node) bool {
		i := e.table.Column(n.GetResTarget().Name)
		c, known := a.columns[assignedValue(n.GetResTarget()).GetColumnRef()]
		return slices.Contains(e.table.Key.Columns, i) && !(known && c == column{e, i})
	})
}

// changeKey plans an UPDATE that assigns columns of a sharded table's key.
func (a *analysis) changeKey(u *pg.UpdateStmt, e *rte) Node {
	moved := a.movedKey(e.table, u.TargetList)
	var node Node
	move, r := a.move(u, e)
	if r == nil {
		node = move
	}
	if pins, ok := a.pins(); ok && moved != nil {
		return &Route{Place: Pinned, Pins: pins, KeyChange: moved, Else: node, Refusal: r}
	}
	if r != nil {
		refuse(r)
	}
	return node
}

func keyChange(t *Table, how string) *Refusal {
	return &Refusal{Code: "0A000", Message: "the key of a row of " + t.String() + " can't be changed " + how + " yet",
		Hint: "Delete the row and insert it with the new key, in one transaction."}
}

// movedKey is the new key, if all of its columns are assigned constants or parameters;
// else nil.
func (a *analysis) movedKey(t *Table, assign []*pg.Node) *Pin {
	values := make([]Value, len(t.Key.Columns))
	found := 0
	for _, n := range assign {
		rt := n.GetResTarget()
		i := slices.Index(t.Key.Columns, t.Column(rt.Name))
		if i < 0 {
			continue
		}
		v, ok := a.value(assignedValue(rt), familyOf(t.Key.Types[i]))
		if !ok || v.Source == IsNull || len(rt.Indirection) > 0 || !a.certain(factPin{keys: []Value{v}}, familyOf(t.Key.Types[i])) {
			return nil
		}
		values[i] = v
		found++
	}
	if found != len(values) {
		return nil
	}
	return &Pin{Table: t, Types: t.Key.Types, Keys: [][]Value{values}, Stores: true}
}

// move plans a Move.
func (a *analysis) move(u *pg.UpdateStmt, e *rte) (*Move, *Refusal) {
	t := e.table
	out := &Move{Table: t}
	if pin, ok := a.pin(e.leaf); ok {
		out.Pins = []Pin{pin}
	}
	if r := a.movable(u, e, out); r != nil {
		return nil, r
	}
	set, where, returning, r := a.updateText(u, t)
	if r != nil {
		return nil, r
	}
	m := mover{a: a, out: out, set: set, only: choose(u.Relation.Inh, "", "ONLY "), name: quoteTable(t), entry: QuoteIdent(e.name)}
	if u.Relation.Alias != nil {
		m.alias = " AS " + m.entry
	}
	m.rows(where)
	if r := m.keys(); r != nil {
		return nil, r
	}
	list, ok := a.returned(u.ReturningList, returning, m.entry)
	if !ok {
		return nil, textUnread()
	}
	m.change(list)
	if !a.readsSQL(out.Rows) || !a.readsSQL(out.Change) {
		return nil, textUnread()
	}
	return out, nil
}

func textUnread() *Refusal {
	return unsupported("the parts of this UPDATE can't be told in its text", "Write it in another way.")
}

// movable checks what must hold for rows to be moved.
func (a *analysis) movable(u *pg.UpdateStmt, e *rte, out *Move) *Refusal {
	t := e.table
	switch {
	case u.WithClause != nil:
		return keyChange(t, "by an UPDATE with WITH")
	case len(u.FromClause) > 0:
		return keyChange(t, "by UPDATE ... FROM")
	case t.Fixed != "":
		return &Refusal{Code: "0A000", Message: "the key of a row of " + t.String() + " can't be changed: the row may have to be moved to another shard",
			Detail: "There it is inserted, and here it is deleted, and " + t.Fixed + " makes that another thing than an UPDATE.",
			Hint:   "Delete the row and insert it with the new key, in one transaction."}
	}
	if _, r := a.scatterFrom(nil, e.leaf); r != nil {
		return r
	}
	for _, n := range u.ReturningList {
		if r := a.returnable(n); r != nil {
			return r
		}
	}
	// The rows of one key are on one shard, and so is the clock that is read.
	defer func(clock string) { a.clock = clock }(a.clock)
	a.replaceClocks(a.stmt)
	out.Clock = len(a.clocks) > 0
	if a.clock != "" {
		a.clock = a.ownClock(a.stmt, t)
	}
	if len(out.Pins) == 1 && out.Pins[0].Array == nil && len(out.Pins[0].Keys) == 1 {
		a.clock = ""
	}
	return a.multi()
}

// returnable says why an expression of RETURNING can't be computed by several
// shards, one after the other, while they change rows.
func (a *analysis) returnable(n *pg.Node) (r *Refusal) {
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.RangeVar:
			if use, ok := a.useOf(v); ok && use.rte.leaf != nil {
				r = unsupported("RETURNING with a subquery over sharded tables is not supported where a key is changed", "Read the rows by a statement of their own.")
			}
		case *pg.FuncCall:
			if a.varies(v) {
				r = unsupported("RETURNING with "+unqualified(v.Funcname)+"() is not supported where a key is changed", "Call the function in a statement of its own.")
			}
		case *pg.SQLValueFunction:
			if clockValue(v) {
				r = unsupported("RETURNING with the time is not supported where a key is changed", "Read the time in a statement of its own.")
			}
		}
	})
	return r
}

// updateText finds the assignments of an UPDATE without FROM, the condition and the
// list of RETURNING in its text. A range is empty where there is no such clause.
func (a *analysis) updateText(u *pg.UpdateStmt, t *Table) (set []assignment, where, returning byteRange, r *Refusal) {
	i := a.tokenAt(u.Relation.Location)
	if i < 0 {
		return nil, where, returning, textUnread()
	}
	for i = a.nameEnd(i); a.is(i, ')') || a.is(i, '*'); {
		i++
	}
	if u.Relation.Alias != nil {
		if i++; a.keyword(i-1, "as") {
			i++
		}
	}
	if !a.keyword(i, "set") {
		return nil, where, returning, textUnread()
	}
	end := a.until(i+1, len(a.toks), ';')
	tail := a.clause(i+1, end, "returning")
	condition := a.clause(i+1, tail, "where")
	if where = a.between(condition+1, tail); u.WhereClause != nil && !readsAs(a.text[where.start:where.end], withoutPlaces(u.WhereClause)) {
		return nil, where, returning, textUnread()
	}
	set, r = a.assignments(u.TargetList, t, i+1, condition)
	return set, where, a.between(tail+1, end), r
}

// until is the first token from on that is c and in no brackets, or end.
func (a *analysis) until(from, end int, c byte) int {
	depth := 0
	for i := from; i < end; i++ {
		switch {
		case depth == 0 && a.is(i, c):
			return i
		case a.is(i, '('), a.is(i, '['):
			depth++
		case a.is(i, ')'), a.is(i, ']'):
			depth--
		}
	}
	return end
}

// clause is the first token from on that is a keyword and in no brackets, or end.
func (a *analysis) clause(from, end int, keyword string) int {
	depth := 0
	for i := from; i < end; i++ {
		switch {
		case depth == 0 && a.keyword(i, keyword) && !a.is(i-1, '.'):
			return i
		case a.is(i, '('), a.is(i, '['):
			depth++
		case a.is(i, ')'), a.is(i, ']'):
			depth--
		}
	}
	return end
}

// assignments reads the SET list that the tokens from to end are.
func (a *analysis) assignments(targets []*pg.Node, t *Table, from, end int) (out []assignment, r *Refusal) {
	for len(targets) > 0 && from < end {
		next := a.until(from, end, ',')
		rt := targets[0].GetResTarget()
		width := 1
		texts := []byteRange{a.between(from+2, next)} // behind name =
		switch m := rt.Val.GetMultiAssignRef(); {
		case m != nil && m.Source.GetRowExpr() == nil:
			return nil, keyChange(t, "by an UPDATE that assigns what a subquery gives to several columns")
		case m != nil:
			if width = int(m.Ncolumns); width > len(targets) || len(m.Source.GetRowExpr().Args) != width {
				return nil, textUnread()
			}
			texts = a.rowTexts(from, next)
		}
		for i, n := range targets[:width] {
			x := assignment{column: t.Column(n.GetResTarget().Name), value: assignedValue(n.GetResTarget())}
			switch {
			case len(n.GetResTarget().Indirection) > 0:
				return nil, keyChange(t, "by an UPDATE that assigns elements or fields of columns")
			case x.column < 0 || t.Columns[x.column].Generated:
				continue // PostgreSQL says what is wrong, or there is but its DEFAULT
			case i >= len(texts):
				return nil, textUnread()
			}
			if x.text = texts[i]; x.value.GetSetToDefault() != nil {
				if c := t.Columns[x.column]; c.HasDefault && c.Default == Stable {
					return nil, unsupported("the default of column \""+c.Name+"\" would give another value on each shard", "Give the column a value.")
				}
			} else if !readsAs(a.text[x.text.start:x.text.end], withoutPlaces(x.value)) {
				return nil, textUnread()
			}
			out = append(out, x)
		}
		targets, from = targets[width:], next+1
	}
	if len(targets) > 0 {
		return nil, textUnread()
	}
	return out, nil
}

// rowTexts are the texts of the values in (columns) = ROW(values).
func (a *analysis) rowTexts(from, end int) (out []byteRange) {
	from = a.closing(from) + 2 // behind =
	if a.keyword(from, "row") {
		from++
	}
	if !a.is(from, '(') || a.closing(from) != end-1 {
		return nil
	}
	for from++; from < end-1; {
		next := a.until(from, end-1, ',')
		out = append(out, a.between(from, next))
		from = next + 1
	}
	return out
}

// returned is the list of RETURNING, in which a star means the columns of the table,
// and of nothing that the rows are joined with.
func (a *analysis) returned(list []*pg.Node, r byteRange, entry string) (SQL, bool) {
	var edits []edit
	for _, n := range list {
		ref := n.GetResTarget().GetVal().GetColumnRef()
		if len(ref.GetFields()) == 1 && ref.Fields[0].GetAStar() != nil {
			at := int(ref.Location)
			edits = append(edits, edit{byteRange{at, at + 1}, own(entry + ".*")})
		}
	}
	if len(list) == 0 {
		return nil, true
	}
	return a.edited(r, edits)
}

// moveRows is the name of the rows in the statements of a Move's Change.
const moveRows = `"shardgate rows"`

// mover puts the texts of a Move together.
type mover struct {
	a   *analysis
	out *Move
	set []assignment
	// only is ONLY or nothing; name is the table's, and alias what stands behind it.
	// entry is what columns are qualified with.
	only, name, alias, entry string

	given map[int]SQL // values by column that are the same for all rows, and without a type
	at    map[int]int // columns of Rows by the table's
}

// rows makes what reads the rows.
func (m *mover) rows(where byteRange) {
	a, t := m.a, m.out.Table
	m.given, m.at = map[int]SQL{}, map[int]int{}
	q := own("SELECT " + m.entry + ".tableoid, " + m.entry + ".ctid")
	add := func(column int, value SQL) {
		m.at[column] = MovePlace + len(m.out.Columns)
		m.out.Columns = append(m.out.Columns, t.Columns[column].Name)
		q = q.add(", ", t.Columns[column].Carried.send(value), "")
	}
	for _, x := range m.set {
		switch {
		case x.value.GetSetToDefault() != nil:
			m.given[x.column] = own("DEFAULT")
		case untyped(x.value):
			m.given[x.column] = a.span(x.text)
		default:
			value := slices.Concat(own("("), a.span(x.text), own(")"))
			if c := t.Columns[x.column].Carried; c.Text {
				value = slices.Concat(own("CAST("), value, own(" AS "+c.Type+")"))
			}
			add(x.column, value)
		}
	}
	m.out.Assigned = len(m.out.Columns)
	var all []string
	for i, c := range t.Columns {
		value := m.entry + "." + QuoteIdent(c.Name)
		all = append(all, value)
		_, read := m.at[i]
		if m.given[i] == nil && !read && !c.Generated {
			add(i, own(value))
		}
	}
	// Had the table other columns by now, their values would be lost: PostgreSQL
	// would not accept the cast, which it has no need to run.
	q = append(q, Piece{Own: " FROM " + m.only + m.name + m.alias + " WHERE (true OR ROW(" + strings.Join(all, ", ") + ")::" + m.name + " IS NULL)"})
	if where.end > 0 {
		q = slices.Concat(q, own(" AND ("), a.span(where), own(")"))
	}
	m.out.Rows = append(q, Piece{Own: " FOR UPDATE"})
}

// untyped says whether an expression is a constant that takes the type of the column
// in which it is stored.
func untyped(n *pg.Node) bool { return n.GetAConst().GetIsnull() || n.GetAConst().GetSval() != nil }

// keys finds the key's columns in Rows.
func (m *mover) keys() *Refusal {
	t := m.out.Table
	for i, n := range t.Key.Columns {
		k := InsertKey{Type: t.Key.Types[i], Column: m.at[n]}
		if x := slices.IndexFunc(m.set, func(x assignment) bool { return x.column == n }); m.given[n] != nil {
			v, ok := m.a.value(m.set[x].value, familyOf(k.Type))
			if !ok {
				return keyChange(t, "to a value of this form")
			}
			k.Value = &v
		}
		m.out.Keys = append(m.out.Keys, k)
	}
	return nil
}

// change makes what each shard does with its rows. PostgreSQL changes what stays and
// then inserts what comes, in the order of the SELECT, and deletes what goes at the end,
// since nothing reads from that: so a new key that is another row's old one is found as
// a duplicate, as it would be if the rows were updated one by one in that order.
func (m *mover) change(list SQL) {
	t := m.out.Table
	value := func(column int) SQL {
		if given := m.given[column]; given != nil {
			return given
		}
		return own(t.Columns[column].Carried.Receive(moveRows + "." + QuoteIdent(MoveColumn(m.at[column]))))
	}
	returning, all := own(" RETURNING true"), ""
	if list != nil {
		returning, all = append(own(" RETURNING "), list...), "* "
	}
	here := " WHERE " + m.entry + ".tableoid = " + moveRows + "." + QuoteIdent(MoveColumn(0)) + " AND " + m.entry + ".ctid = " + moveRows + "." + QuoteIdent(MoveColumn(1))

	q := own(`WITH "shardgate stays" AS (UPDATE ` + m.only + m.name + m.alias + " SET ")
	for i, x := range m.set {
		q = q.add(when(i > 0, ", ")+QuoteIdent(t.Columns[x.column].Name)+" = ", value(x.column), "")
	}
	q = append(q, Piece{Own: " FROM "}, Piece{Part: MoveStays + 1}, Piece{Own: " AS " + moveRows + here})
	q = append(q, returning...)

	var names []string
	var values SQL
	for i, c := range t.Columns {
		if c.Generated || slices.ContainsFunc(m.set, func(x assignment) bool { return x.column == i && x.value.GetSetToDefault() != nil }) {
			continue
		}
		values = values.add(when(len(names) > 0, ", "), value(i), "")
		names = append(names, c.Name)
	}
	q = append(q, Piece{Own: `), "shardgate comes" AS (INSERT INTO ` + m.name + m.alias + " (" + quotedList(names) + ") OVERRIDING SYSTEM VALUE SELECT "})
	q = append(append(q, values...), Piece{Own: " FROM "}, Piece{Part: MoveComes + 1}, Piece{Own: " AS " + moveRows})
	q = append(q, returning...)

	q = append(q, Piece{Own: `), "shardgate goes" AS (DELETE FROM ` + m.only + m.name + m.alias + " USING "}, Piece{Part: MoveGoes + 1}, Piece{Own: " AS " + moveRows + here + ")"},
		Piece{Own: " SELECT " + all + `FROM "shardgate stays" UNION ALL SELECT ` + all + `FROM "shardgate comes"`})
	m.out.Change = q
}

func (r *renderer) move(n *Move) {
	by := ""
	for _, k := range n.Keys {
		if by += " "; k.Value != nil {
			by += tuple([]Value{*k.Value}, r.value)
		} else {
			by += fmt.Sprintf("column %d", k.Column+1)
		}
		by += " as " + k.Type.String()
	}
	r.line("Move %s, by%s", n.Table, by)
	r.below(func() {
		r.pins(n.Pins)
		r.line("rows: %s", r.sql(n.Rows))
		r.line("change: %s", r.sql(n.Change))
	})
}
