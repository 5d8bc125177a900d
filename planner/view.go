package planner

import (
	"errors"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// A query of views over sharded tables is planned as the same query with the views'
// definitions in the place of their names. Where a shard has all that it needs, or the
// shards' answers are parts of the whole, the client's own text is sent: the views are
// on every shard. Where rows are brought together, it is the other text that is divided.

// View is the definition of a view over sharded tables.
type View struct {
	// Definition is its query as PostgreSQL prints it with nothing but pg_catalog in
	// the search path: all names of other schemas are qualified, and the columns have
	// the view's names.
	Definition string
	// Barrier is security_barrier: no condition around the view is looked at before
	// the view's own.
	Barrier bool
	// OwnersRows says that row level security lets the view show its owner's rows of
	// a table, and not the client's.
	OwnersRows bool
}

// maxExpanded bounds a text with views' definitions in it, in bytes: a view that names
// another one twice doubles it.
const maxExpanded = 1 << 20

// viewsUsed ends the analysis of a text with names of views over sharded tables.
type viewsUsed struct{}

// expansion is what is known of the views whose definitions are in a text.
type expansion struct {
	text        SQL
	notGathered *Refusal // why rows that it reads can't be brought together
}

func viewRefused(t *Table, why, hint string) *Refusal {
	return unsupported("the view "+t.String()+" over a sharded table can't be queried so yet: "+why, hint)
}

const writeViewOut = "Write the view's query in place of its name."

// planExpanded plans a text by its views' definitions.
func (p *Parsed) planExpanded(a *analysis, env *Env) (*Statement, error) {
	x, refusal := a.expand()
	if refusal != nil {
		return nil, refusal
	}
	text := x.text.Append(nil, []byte(a.text), a.lits, nil)
	var sc sqltext.Scanner
	_, lits, err := sc.Normalize(text)
	if err != nil {
		return nil, viewRefused(a.views[0].table, "its definition can't be read", writeViewOut)
	}
	whole, err := Parse(string(text), p.limits)
	if err != nil || len(whole.tree.Stmts) != 1 {
		return nil, viewRefused(a.views[0].table, "its definition can't stand here", writeViewOut)
	}
	st, err := whole.plan(lits, env, x)
	var r *Refusal
	switch {
	case errors.As(err, &r):
		moved := *r
		moved.Position = 0 // in a text that the client doesn't know
		return nil, &moved
	case err != nil:
		return nil, err
	}
	st.expanded = x.text
	a.clientsQuery(st.Node)
	_, calls, _ := a.namedClockEdits(a.stmt)
	a.tells = calls > 0 // in the client's own text: a view's is as it is
	a.asksForTime(st)
	return st, nil
}

// Source is the text that the plan is about, with its literals: the client's, or that
// with the definitions of its views.
func (s *Statement) Source(text []byte, lits []sqltext.Literal) ([]byte, []sqltext.Literal) {
	if s.expanded == nil {
		return text, lits
	}
	text = s.expanded.Append(nil, text, lits, nil)
	var sc sqltext.Scanner
	_, lits, _ = sc.Normalize(text)
	return text, lits
}

// Views says whether the statement is planned by the definitions of views.
func (s *Statement) Views() bool { return s.expanded != nil }

// ASCIIViews says whether the definitions by which the statement is planned are ASCII
// only. Others are in the servers' encoding, which may not be the client's.
func (s *Statement) ASCIIViews() bool {
	return !slices.ContainsFunc(s.expanded, func(p Piece) bool {
		return strings.ContainsFunc(p.Own, func(r rune) bool { return r >= 0x80 })
	})
}

// expand puts definitions in the place of the views' names.
func (a *analysis) expand() (*expansion, *Refusal) {
	x := &expansion{}
	if a.nestedDML != "" || len(a.items) > 0 {
		return nil, viewRefused(a.views[0].table, "the statement changes rows as well", "Send the statements one by one in a transaction.")
	}
	if slices.Contains(a.env.SearchPath[min(1, len(a.env.SearchPath)):], "pg_catalog") {
		return nil, viewRefused(a.views[0].table, "names of its definition may mean something else, since the search path has pg_catalog behind other schemas",
			"Leave pg_catalog out of search_path: it is searched first then.")
	}
	var edits []edit
	for _, u := range a.views {
		if a.sampled[u.rv] {
			return nil, viewRefused(u.table, "it is a view, which TABLESAMPLE can't be applied to", "Sample its table.")
		}
		def, refusal := a.definition(u.table, x)
		if refusal != nil {
			return nil, refusal
		}
		var ok bool
		if edits, ok = a.replaceName(edits, u.rv, own("("+def+")")); !ok {
			return nil, viewRefused(u.table, "its name is not found in the statement's text", "Write it in another way.")
		}
		if a.wholeRow(a.stmt, u.rte.name, u.rte.columns) {
			if edits, ok = a.typeRows(edits, u); !ok {
				x.bar(wholeRow(u.table))
			}
		}
	}
	var ok bool
	if x.text, ok = a.edited(byteRange{0, len(a.text)}, edits); !ok {
		return nil, viewRefused(a.views[0].table, "the statement's text can't be divided", writeViewOut)
	}
	return x, nil
}

// bar notes why rows can't be brought together.
func (x *expansion) bar(r *Refusal) {
	if x.notGathered == nil {
		x.notGathered = r
	}
}

func wholeRow(t *Table) *Refusal {
	return viewRefused(t, "its rows are used as values, and would be of another type", "Name the columns.")
}

// definition is a view's query, with those of the views that it reads in it.
func (a *analysis) definition(t *Table, x *expansion) (string, *Refusal) {
	unreadable := viewRefused(t, "its definition can't be read", writeViewOut)
	if t.View == nil || t.View.Definition == "" {
		return "", unreadable
	}
	switch {
	case t.View.Barrier:
		x.bar(viewRefused(t, "it is a security barrier, and its rows have to be brought together", "Pin its tables to one key, or query the tables."))
	case t.View.OwnersRows:
		x.bar(viewRefused(t, "row level security gives its owner's rows, and they have to be brought together", "Pin its tables to one key, or set security_invoker."))
	}
	parsed, err := Parse(t.View.Definition, sqltext.GuardLimits{})
	if err != nil || len(parsed.tree.Stmts) != 1 {
		return "", unreadable
	}
	d := &analysis{env: a.env, text: t.View.Definition, stmt: parsed.tree.Stmts[0].Stmt, texts: map[*pg.Node]exprRange{}}
	if d.tokens() == nil {
		return "", unreadable
	}
	var edits []edit
	var refusal *Refusal
	ctes := map[string]bool{}
	ok := true
	eachMessage(d.stmt.ProtoReflect(), func(m protoMessage) {
		if c, is := m.Interface().(*pg.CommonTableExpr); is {
			ctes[c.Ctename] = true
		}
	})
	eachMessage(d.stmt.ProtoReflect(), func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.TypeName:
			// The types of temporary tables come before PostgreSQL's.
			ok = ok && (len(v.Names) != 1 || !a.env.Temp[str(v.Names[0])])
		case *pg.FuncCall:
			if i := d.tokenAt(v.Location); len(v.Funcname) > 1 {
				break
			} else if ok = ok && i >= 0; ok {
				// One of the user's may be a better match for the arguments.
				edits = append(edits, edit{byteRange{int(v.Location), int(v.Location)}, own("pg_catalog.")})
			}
		case *pg.RangeVar:
			used := a.env.find(v.Schemaname, v.Relname)
			switch {
			case v.Schemaname == "" && ctes[v.Relname]:
			case v.Schemaname == "":
				// A system relation, whose name a temporary one may have.
				edits = append(edits, edit{byteRange{int(v.Location), int(v.Location)}, own("pg_catalog.")})
			case used == nil || used.Distribution != ShardedView || refusal != nil:
			default:
				var done bool
				edits, done, refusal = d.insertView(edits, use{rv: v, table: used}, x)
				ok = ok && done
			}
		}
	})
	if refusal != nil {
		return "", refusal
	}
	end := len(d.text)
	if last := d.toks[len(d.toks)-1]; last.Is([]byte(d.text), ';') {
		end = int(last.Start)
	}
	text, divided := d.edited(byteRange{0, end}, edits)
	if !ok || !divided {
		return "", unreadable
	}
	out := strings.TrimSpace(string(text.Append(nil, []byte(d.text), nil, nil)))
	if len(out) > maxExpanded {
		return "", viewRefused(t, "the views below it are too large", writeViewOut)
	}
	return out, nil
}

// insertView puts a view's query in the place of its name in the definition of another. ok is
// false where the name isn't found.
func (a *analysis) insertView(edits []edit, u use, x *expansion) (_ []edit, ok bool, refusal *Refusal) {
	inner, refusal := a.definition(u.table, x)
	if refusal != nil {
		return edits, true, refusal
	}
	if edits, ok = a.replaceName(edits, u.rv, own("("+inner+")")); !ok {
		return edits, false, nil
	}
	u.rte = &rte{name: rangeName(u.rv)}
	for i := range u.table.Columns {
		u.rte.columns = append(u.rte.columns, u.table.Columns[i].Name)
	}
	renameColumns(u.rte.columns, u.rv.GetAlias().GetColnames())
	if a.wholeRow(a.stmt, u.rte.name, u.rte.columns) {
		typed := false
		if edits, typed = a.typeRows(edits, u); !typed {
			x.bar(wholeRow(u.table))
		}
	}
	return edits, true, nil
}

// wholeRow says whether a statement may use an entry's row as a value: by its name,
// or by a name behind it that none of its columns has.
func (a *analysis) wholeRow(tree *pg.Node, entry string, columns []string) bool {
	listed := map[*pg.ColumnRef]bool{} // entry.* in a target list, which stands for the columns
	found := false
	eachMessage(tree.ProtoReflect(), func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.SelectStmt:
			for _, t := range v.TargetList {
				listed[t.GetResTarget().GetVal().GetColumnRef()] = true
			}
		case *pg.ColumnRef:
			last := v.Fields[len(v.Fields)-1]
			switch {
			case len(v.Fields) == 1:
				found = found || str(last) == entry && !slices.Contains(columns, entry)
			case str(v.Fields[len(v.Fields)-2]) != entry:
			case last.GetAStar() != nil:
				found = found || !listed[v]
			default:
				found = found || !slices.Contains(columns, str(last))
			}
		}
	})
	return found
}

// typeRows makes what is a view's row a value of the view's type: the subquery in its
// place has rows of none. ok is false where it isn't certain what is one.
func (a *analysis) typeRows(edits []edit, u use) (out []edit, ok bool) {
	name := u.rte.name
	ok = true
	nullable := false                    // a join may have no row of the view's
	expanded := map[*pg.ColumnRef]bool{} // entry.* that stands for the columns
	var targets []*pg.ResTarget
	eachMessage(a.stmt.ProtoReflect(), func(m protoMessage) {
		var list []*pg.Node
		switch v := m.Interface().(type) {
		case *pg.RowExpr:
			list = v.Args
		case *pg.SelectStmt:
			for _, t := range v.TargetList {
				list = append(list, t.GetResTarget().GetVal())
				targets = append(targets, t.GetResTarget())
			}
		case *pg.JoinExpr:
			ok = ok && v.Alias == nil
			nullable = nullable || v.Jointype != pg.JoinType_JOIN_INNER
		case *pg.RangeVar:
			ok = ok && (v == u.rv || rangeName(v) != name)
		case *pg.Alias:
			ok = ok && (v == u.rv.Alias || v.Aliasname != name)
		}
		for _, n := range list {
			expanded[n.GetColumnRef()] = true
		}
	})
	rows := map[*pg.ColumnRef]bool{}
	eachMessage(a.stmt.ProtoReflect(), func(m protoMessage) {
		ref, is := m.Interface().(*pg.ColumnRef)
		if !is || !ok {
			return
		}
		first := a.tokenAt(ref.Location)
		last := first
		switch n := len(ref.Fields); {
		case n == 1 && str(ref.Fields[0]) == name && !slices.Contains(u.rte.columns, name):
			if a.targets[ref] != nil {
				return
			}
			ok = first >= 0 && a.rows[ref] == u.rte
		case n == 1 || str(ref.Fields[n-2]) != name:
			return
		case ref.Fields[n-1].GetAStar() != nil && expanded[ref]:
			return
		case ref.Fields[n-1].GetAStar() != nil:
			ok = first >= 0 && n == 2
			last = first + 2
		default:
			ok = slices.Contains(u.rte.columns, str(ref.Fields[n-1]))
			return
		}
		if ok {
			rows[ref] = true
			edits = append(edits, a.typed(first, last, u.table, nullable))
		}
	})
	if !ok || !nullable {
		return edits, ok
	}
	return a.keepNames(edits, targets, rows)
}

// keepNames keeps the names of columns of results that rows in CASE are in.
func (a *analysis) keepNames(edits []edit, targets []*pg.ResTarget, rows map[*pg.ColumnRef]bool) (out []edit, ok bool) {
	for _, t := range targets {
		within := false
		eachMessageBelow(t.Val, func(m protoMessage) {
			ref, is := m.Interface().(*pg.ColumnRef)
			within = within || is && rows[ref]
		})
		if !within || t.Name != "" {
			continue
		}
		e, found := a.asName(t)
		if !found {
			return edits, false
		}
		// The row of another view may have been in the same column.
		if !slices.ContainsFunc(edits, func(x edit) bool { return x.start == e.start && x.end == x.start }) {
			edits = append(edits, e)
		}
	}
	return edits, true
}

// typed makes the row in some tokens one of a view's type. One that may be missing is
// NULL then, and the cast would make a row of NULLs of it.
func (a *analysis) typed(first, last int, t *Table, nullable bool) edit {
	r := a.between(first, last+1)
	row := a.verbatim(r)
	cast := slices.Concat(own("("), row, own(")::"+quoteTable(t)))
	if nullable {
		cast = slices.Concat(own("CASE WHEN "), row, own(" IS DISTINCT FROM NULL THEN "), cast, own(" END"))
	}
	return edit{r, slices.Concat(own("("), cast, own(")"))}
}
