package planner

import (
	"maps"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A statement in a transaction over several shards has the time of the transaction written
// into its text: where it calls now() or the like, and where its rows leave a column to a
// default that does. What a function, a trigger or a view asks for is not in the text.

// atOneTime returns the statement's text with the time of the transaction in the place of
// what asks for it; nil if nothing does, or it can't be written there. a.tells is set by
// defaults as well.
func (a *analysis) atOneTime(n *pg.Node) SQL {
	if a.env.Shards == 1 {
		return nil
	}
	fills, ok := a.fillings(n)
	if !a.tells {
		return nil
	}
	edits, _, replaced := a.namedClockEdits(n)
	if !ok || !replaced {
		return nil
	}
	defer func(clocks []edit) { a.clocks = clocks }(a.clocks)
	a.clocks = nil // edited would put them in place once more
	text, ok := a.edited(byteRange{0, len(a.text)}, append(edits, fills...))
	if !ok {
		return nil
	}
	if !a.readsSQL(text) {
		return nil
	}
	return text
}

// asksForTime notes whether a statement asks for the time of the transaction, and its text
// at one time.
func (a *analysis) asksForTime(st *Statement) {
	switch n := a.stmt; {
	case a.expansion != nil:
		return // it is asked of the client's own text
	case n.GetSelectStmt() != nil, n.GetInsertStmt() != nil, n.GetUpdateStmt() != nil, n.GetDeleteStmt() != nil, n.GetMergeStmt() != nil,
		n.GetDeclareCursorStmt() != nil, n.GetCreateTableAsStmt() != nil, n.GetCopyStmt().GetQuery() != nil:
	default:
		return
	}
	if _, ok := st.Node.(*Route); ok && a.timed == nil {
		a.timed = a.atOneTime(a.stmt)
	}
	st.Clock, st.Timed = a.tells && a.env.Shards > 1, a.timed
}

// oneTime has a statement that may run on several shards planned by its text at one time,
// if it asks for no other. t is the table that it changes.
func (a *analysis) oneTime(n *pg.Node, t *Table) {
	if a.timed = a.atOneTime(n); a.timed == nil {
		return
	}
	defer func(clocks []edit) { a.clocks = clocks }(a.clocks)
	fills, _ := a.fillings(n)
	a.replaceClocks(n, fills...)
	a.clock = a.ownClock(n, t)
}

// namedClockEdits are clockEdits that keep the names of a result's columns, and of what is
// called in FROM. calls is the number of what asks for the time; ok says that it is all
// replaced.
func (a *analysis) namedClockEdits(n *pg.Node) (edits []edit, calls int, ok bool) {
	columns, relations := map[int]string{}, map[int]string{}
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall, *pg.SQLValueFunction:
			if _, _, tells := a.clockCall(m); tells {
				calls++
			}
		case *pg.ResTarget:
			if v.Name != "" || v.Val == nil {
				return
			}
			as := outputName(v)
			eachMessageBelow(v.Val, func(m protoMessage) {
				if at, name, tells := a.clockCall(m); tells && name == as {
					columns[at] = as
				}
			})
		case *pg.RangeFunction:
			for _, f := range v.Functions {
				at, name, tells := a.clockCall(inner(f.GetList().GetItems()[0]))
				if tells && !v.Ordinality && !v.IsRowsfrom && len(v.Coldeflist) == 0 {
					columns[at], relations[at] = name, name
					if v.Alias != nil {
						columns[at], relations[at] = v.Alias.Aliasname, ""
					}
				} else if tells {
					calls++ // which is not among the edits
				}
			}
		}
	})
	edits = a.clockEdits(n)
	for i := range edits {
		e := &edits[i]
		if as := columns[e.start]; as != "" {
			e.with = append(append(own("(SELECT "), e.with...), Piece{Own: " AS " + QuoteIdent(as) + ")"})
		}
		if as := relations[e.start]; as != "" {
			e.with = append(e.with, Piece{Own: " AS " + QuoteIdent(as)})
		}
	}
	return edits, calls, len(edits) == calls
}

// inner is the message in a node.
func inner(n *pg.Node) (m protoMessage) {
	eachField(n.ProtoReflect(), func(below protoMessage) { m = below })
	return m
}

// clockCall says where a call for the time of the transaction begins, and what its result
// is called.
func (a *analysis) clockCall(m protoMessage) (at int, name string, ok bool) {
	if m == nil {
		return 0, "", false
	}
	switch v := m.Interface().(type) {
	case *pg.FuncCall:
		return int(v.Location), unqualified(v.Funcname), a.transactionTime(v)
	case *pg.SQLValueFunction:
		return int(v.Location), valueFunctionNames[v.Op], clockTypes[v.Op] != ""
	}
	return 0, "", false
}

// filling is a column's default, with the time of the transaction in its place; tells says
// that it asks for that. ok is false if it may differ between shards for another reason.
func (a *analysis) filling(c *Column) (sql SQL, tells, ok bool) {
	if c.Default != Stable || c.Expression == "" {
		return nil, false, c.Default == Immutable
	}
	const head = "SELECT "
	n := parseOne(head + c.Expression)
	if n == nil {
		return nil, false, false
	}
	d := &analysis{env: a.env, text: head + c.Expression}
	d.clocks = d.clockEdits(n)
	ok = true
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			name := unqualified(v.Funcname)
			f, known := a.env.Schema.functions[name]
			ok = ok && (known && !(f.User && f.Volatility != Immutable) && f.Volatility != Volatile &&
				!clockFunctions[name] && !shardFunctions[name] && !oidFunctions[name] || d.replacesClock(v.Location))
		case *pg.SQLValueFunction:
			ok = ok && (!clockValue(v) || d.replacesClock(v.Location))
		case *pg.A_Expr:
			ok = ok && len(v.Name) > 0 && len(a.env.Schema.Operators[unqualified(v.Name)]) == 0
		case *pg.A_Const:
			for _, w := range instantWords {
				ok = ok && !strings.Contains(strings.ToLower(v.GetSval().GetSval()), string(w))
			}
		case *pg.TypeCast:
			ok = ok && !oidCast(v)
		}
	})
	at := len(head)
	sql = own("(")
	for _, e := range d.clocks {
		sql = sql.add(d.text[at:e.start], e.with, "")
		at = e.end
	}
	return append(sql, Piece{Own: d.text[at:] + ")"}), len(d.clocks) > 0, ok
}

// alike says whether a column's default gives each row of a statement the same value on
// every shard, once the time of the transaction is in its place.
func (a *analysis) alike(c *Column) bool {
	_, tells, ok := a.filling(c)
	return ok && (!tells || a.timed != nil)
}

// fillings puts defaults that tell the time in the place of DEFAULT, and of columns that
// are left out. ok is false where that can't be done.
func (a *analysis) fillings(n *pg.Node) (edits []edit, ok bool) {
	ok = true
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.InsertStmt:
			t := a.env.find(v.Relation.Schemaname, v.Relation.Relname)
			if t == nil {
				return
			}
			columns := a.telling(a.defaulted(v, v.SelectStmt.GetSelectStmt(), t))
			if len(columns) > 0 {
				e, filled := a.fillRows(v, t, columns)
				edits, ok = append(edits, e...), ok && filled && v == n.GetInsertStmt()
			}
			e := a.fillAssigned(v.OnConflictClause.GetTargetList(), t)
			edits = append(edits, e...)
		case *pg.UpdateStmt:
			if t := a.env.find(v.Relation.Schemaname, v.Relation.Relname); t != nil {
				edits = append(edits, a.fillAssigned(v.TargetList, t)...)
			}
		case *pg.MergeStmt:
			if t := a.env.find(v.Relation.Schemaname, v.Relation.Relname); t != nil {
				ok = ok && a.givesAll(v, t)
			}
		}
	})
	return edits, ok
}

// telling are the columns whose default tells the time of the transaction.
func (a *analysis) telling(columns []Column) (out []Column) {
	for _, c := range columns {
		if _, tells, ok := a.filling(&c); tells && ok {
			out = append(out, c)
			a.tells = true
		}
	}
	return out
}

// givesAll says whether what MERGE inserts and assigns leaves no column to a default that
// tells the time.
func (a *analysis) givesAll(m *pg.MergeStmt, t *Table) bool {
	all := true
	for _, w := range m.MergeWhenClauses {
		w := w.GetMergeWhenClause()
		given := map[string]bool{}
		for i, x := range w.TargetList {
			value := assignedValue(x.GetResTarget())
			if i < len(w.Values) {
				value = w.Values[i]
			}
			given[x.GetResTarget().GetName()] = value.GetSetToDefault() == nil
		}
		for i, c := range t.Columns {
			g, named := given[c.Name]
			if w.CommandType == pg.CmdType_CMD_INSERT && len(w.TargetList) == 0 {
				g = i < len(w.Values) && w.Values[i].GetSetToDefault() == nil
			} else if w.CommandType != pg.CmdType_CMD_INSERT && !named {
				continue
			}
			all = all && (g || len(a.telling([]Column{c})) == 0)
		}
	}
	return all
}

// fillAssigned replaces DEFAULT in a SET list.
func (a *analysis) fillAssigned(assign []*pg.Node, t *Table) (edits []edit) {
	for _, n := range assign {
		rt := n.GetResTarget()
		d, i := assignedValue(rt).GetSetToDefault(), t.Column(rt.GetName())
		if d == nil || i < 0 {
			continue
		}
		if at := a.tokenAt(d.Location); at >= 0 && len(a.telling(t.Columns[i:i+1])) > 0 {
			sql, _, _ := a.filling(&t.Columns[i])
			edits = append(edits, edit{a.between(at, at+1), sql})
		}
	}
	return edits
}

// fillRows gives some columns of the rows of an INSERT their defaults.
func (a *analysis) fillRows(ins *pg.InsertStmt, t *Table, columns []Column) (edits []edit, ok bool) {
	fill := map[string]SQL{}
	for i := range columns {
		fill[columns[i].Name], _, _ = a.filling(&columns[i])
	}
	names := insertColumns(ins, t)
	sel := ins.SelectStmt.GetSelectStmt()
	if sel == nil {
		return a.fillRow(fill)
	}
	given := len(names)
	for _, row := range sel.ValuesLists {
		given = min(given, len(row.GetList().GetItems()))
	}
	var rest SQL // values behind those of a row
	if len(ins.Cols) > 0 {
		var more []Column
		for _, c := range columns {
			if !slices.Contains(names, c.Name) {
				rest = rest.add(", ", fill[c.Name], "")
				more = append(more, c)
			}
		}
		list, ok := a.moreColumns(ins, more)
		if !ok {
			return nil, false
		}
		edits = append(edits, list)
	} else if len(sel.ValuesLists) > 0 {
		for last := len(names); last > given; last-- {
			if fill[names[last-1]] == nil && rest == nil {
				continue
			}
			value := fill[names[last-1]]
			if value == nil {
				value = own("DEFAULT")
			}
			rest = append(append(own(", "), value...), rest...)
		}
	}
	if len(sel.ValuesLists) == 0 {
		return a.fillSelected(sel, rest, edits)
	}
	rows, _, ok := rowRanges(a.text)
	if !ok || len(rows) != len(sel.ValuesLists) {
		return nil, false
	}
	for r, row := range sel.ValuesLists {
		for i, item := range row.GetList().GetItems() {
			d := item.GetSetToDefault()
			if d == nil || i >= len(names) || fill[names[i]] == nil {
				continue
			}
			at := a.tokenAt(d.Location)
			if at < 0 {
				return nil, false
			}
			edits = append(edits, edit{a.between(at, at+1), fill[names[i]]})
		}
		if end := rows[r].end - 1; len(rest) > 0 {
			edits = append(edits, edit{byteRange{end, end}, rest})
		}
	}
	return edits, true
}

// fillRow gives a row of DEFAULT VALUES its columns.
func (a *analysis) fillRow(fill map[string]SQL) ([]edit, bool) {
	toks := a.tokens()
	for i := range toks {
		if !a.keyword(i, "default") || !a.keyword(i+1, "values") {
			continue
		}
		names, values := own("("), own(") VALUES (")
		for _, name := range slices.Sorted(maps.Keys(fill)) {
			if len(names) > 1 {
				names, values = append(names, Piece{Own: ", "}), append(values, Piece{Own: ", "})
			}
			names, values = append(names, Piece{Own: QuoteIdent(name)}), append(values, fill[name]...)
		}
		return []edit{{a.between(i, i+2), append(append(names, values...), Piece{Own: ")"})}}, true
	}
	return nil, false
}

// fillSelected adds columns to the rows of INSERT ... SELECT, behind its own.
func (a *analysis) fillSelected(sel *pg.SelectStmt, rest SQL, edits []edit) ([]edit, bool) {
	if sel.Larg != nil || len(sel.TargetList) == 0 || len(rest) == 0 {
		return nil, false
	}
	first := a.selectToken(sel)
	if first < 0 {
		return nil, false
	}
	cl, ok := a.clauses(first)
	if !ok || cl.from <= first {
		return nil, false
	}
	end := int(a.toks[cl.from-1].End)
	return append(edits, edit{byteRange{end, end}, rest}), true
}

// tailClocks are the edits of what asks for the time of the transaction in an INSERT, but
// for its query. clock is what asks for a time that isn't among them, or "".
func (a *analysis) tailClocks(ins *pg.InsertStmt, e *rte) (edits []edit, clock string) {
	if a.clock == "" {
		return nil, ""
	}
	t := e.table
	if t == nil {
		t = &Table{}
	}
	n := &pg.Node{Node: &pg.Node_InsertStmt{InsertStmt: &pg.InsertStmt{
		OnConflictClause: ins.OnConflictClause, ReturningList: ins.ReturningList, WithClause: ins.WithClause}}}
	edits, _, ok := a.namedClockEdits(n)
	if !ok {
		return nil, a.clock
	}
	edits = append(edits, a.fillAssigned(ins.OnConflictClause.GetTargetList(), t)...)
	defer func(clocks []edit) { a.clocks = clocks }(a.clocks)
	a.clocks = edits
	return edits, a.ownClock(n, t)
}

// fillGathered gives the rows of an INSERT, whose query is at r and gives the columns
// names, the others' defaults that tell the time. It returns false where it can't.
func (a *analysis) fillGathered(ins *pg.InsertStmt, t *Table, names []string, r byteRange, out *InsertSelect) bool {
	columns := a.telling(defaultedBy(names, t))
	if len(columns) == 0 {
		return true
	}
	var list edit
	ok := ins.Override == pg.OverridingKind_OVERRIDING_NOT_SET
	if len(ins.Cols) > 0 {
		list, ok = a.moreColumns(ins, columns)
	} else {
		list = edit{byteRange{r.start, r.start}, own("(" + quotedList(names) + quotedMore(columns) + ") ")}
	}
	if ok {
		out.Head, ok = a.edited(byteRange{0, r.start}, []edit{list})
	}
	for i := range columns {
		sql, _, _ := a.filling(&columns[i])
		out.Fills = out.Fills.add(", ", sql, "")
	}
	out.Clock = true
	return ok
}

// moreColumns adds columns to the list of those that an INSERT names.
func (a *analysis) moreColumns(ins *pg.InsertStmt, columns []Column) (edit, bool) {
	open := a.tokenAt(ins.Cols[0].GetResTarget().Location) - 1
	if !a.is(open, '(') || a.closing(open) < 0 {
		return edit{}, false
	}
	at := int(a.toks[a.closing(open)].Start)
	return edit{byteRange{at, at}, own(quotedMore(columns))}, true
}

func quotedMore(columns []Column) (list string) {
	for _, c := range columns {
		list += ", " + QuoteIdent(c.Name)
	}
	return list
}
