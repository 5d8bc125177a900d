package planner

import (
	"errors"
	"maps"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// A statement with items of WITH that change rows, or with WITH before a change of rows,
// which no shard can run for itself, is run as several: each item and the statement behind WITH are statements of their own, with
// plans of their own, and get what the items before have returned as arrays. PostgreSQL
// runs all of it by one snapshot, and checks constraints and fires triggers when all is
// done. So what is read of a table that an earlier step changes is read before the first
// change, and what could tell one statement from several is refused.

// Steps runs a statement as several, one after the other, in one transaction. How each is
// run is planned when the types of the rows between them are known, before the first runs.
type Steps struct {
	Steps []Step
	Main  int // the one whose answer is the client's
	// Clock is as in Gather.
	Clock bool
	// Verb is the one of the answer's tag.
	Verb string
}

// Step is one of Steps.
type Step struct {
	Name string // of the item, or of the table that is read before the changes
	// Text is the statement; a Part in it is the rows of the step of that number.
	Text SQL
	// Shape is a query with the columns of the step's rows, which is not run; nil where no
	// step takes any.
	Shape SQL
	// Collations are those of the rows' columns, as in Part; nil where all are the database's.
	Collations []string
	// Whole says that all columns of the rows are read, Names which ones if not.
	Whole   bool
	Names   map[string]bool
	Changes bool
}

func (*Steps) isNode() {}

// piece is a part of the statement that becomes a step.
type piece struct {
	cte    *pg.CommonTableExpr // nil for the statement behind WITH
	stmt   *pg.Node
	text   byteRange
	target *pg.RangeVar // of the table that it changes
	table  *Table
	reads  []*pg.RangeVar // relations
	items  []*pg.RangeVar // items
	after  []int          // the pieces that they are
	edits  []edit
	step   int
	w      *wanted
	self   bool // it is a recursive query
	// late says that it changes rows, or reads what pieces return that do; see arrange.
	late bool
	// names and collations are those of the columns that an item gives; nil where they
	// aren't known, collations also where all are the database's.
	names, collations []string
}

// stepper plans Steps.
type stepper struct {
	a      *analysis
	pieces []*piece // the last is the statement behind WITH
	order  []*piece
	before []Step // tables that are read before the changes
	nested map[string]bool
}

// inSteps plans a statement by Steps where it is refused otherwise.
func (p *Parsed) inSteps(st *Statement, err error, lits []sqltext.Literal, env *Env) (*Statement, error) {
	var why *Refusal
	var route *Route
	if errors.As(err, &why) {
		if why.Code != "0A000" {
			return st, err
		}
	} else if err != nil {
		return st, err
	} else if route, _ = st.Node.(*Route); route == nil || route.Refusal == nil || route.Else != nil {
		return st, err
	}
	if env.Shards == 1 || len(p.tree.Stmts) != 1 {
		return st, err
	}
	n := p.tree.Stmts[0].Stmt
	if w := withOf(n); w == nil || targetOf(n) == nil && !changesIn(w) {
		return st, err
	}
	a := &analysis{env: env, text: p.text, stmt: n, lits: lits}
	steps, no := a.steps(n)
	switch {
	case no != nil && route != nil:
		route.Refusal = no
		return st, nil
	case no != nil:
		return nil, no
	case route != nil:
		route.Else, route.Refusal = steps, nil
		st.TextSpecific = st.TextSpecific || a.textSpecific
		return st, nil
	}
	st = &Statement{Node: steps, Writes: true, Returning: returns(n), TextSpecific: a.textSpecific}
	eachMessageBelow(n, func(m protoMessage) {
		if v, ok := m.Interface().(*pg.ParamRef); ok {
			st.Params = max(st.Params, int(v.Number))
		}
	})
	return st, nil
}

// steps divides a statement.
func (a *analysis) steps(n *pg.Node) (*Steps, *Refusal) {
	if a.tokens() == nil {
		return nil, undivided()
	}
	s := &stepper{a: a, nested: map[string]bool{}}
	for _, f := range []func(*pg.Node) *Refusal{s.divide, s.resolve, s.plain, s.times, s.arrange, s.collate, s.separate} {
		if r := f(n); r != nil {
			return nil, r
		}
	}
	out := &Steps{Steps: s.before, Clock: len(a.clocks) > 0, Verb: verbOf(n)}
	for _, p := range s.order {
		text, ok := a.edited(p.text, p.edits)
		if p.self {
			head := a.verbatim(byteRange{int(p.cte.Location), p.text.start})
			text = slices.Concat(own("WITH RECURSIVE "), head, text, own(") SELECT * FROM "+QuoteIdent(p.cte.Ctename)))
		}
		if !ok || !a.readsSQL(text) {
			return nil, nestedDML()
		}
		if r := a.refusesStep(text); r != nil {
			return nil, r
		}
		step := Step{Text: text, Changes: p.target != nil}
		if p.cte == nil {
			out.Main = len(out.Steps)
		} else {
			step.Name = p.cte.Ctename
			if step.Whole, step.Names = s.read(p); step.Whole || step.Names != nil {
				step.Shape, step.Collations = s.shape(p, withOf(n)), p.collations
			}
		}
		out.Steps = append(out.Steps, step)
	}
	return out, nil
}

// read finds which columns of an item others read; none if no other does.
func (s *stepper) read(p *piece) (whole bool, names map[string]bool) {
	at := slices.Index(s.pieces, p)
	for _, x := range s.order {
		for i, rv := range x.items {
			if x.after[i] != at {
				continue
			}
			w := x.w
			if ins := x.stmt.GetInsertStmt(); ins != nil { // RETURNING * is of the table's columns
				own := proto.Clone(ins).(*pg.InsertStmt)
				own.WithClause = nil
				own.ReturningList = slices.DeleteFunc(own.ReturningList, func(n *pg.Node) bool {
					f := n.GetResTarget().GetVal().GetColumnRef().GetFields()
					return len(f) == 1 && f[0].GetAStar() != nil
				})
				w = s.a.wanted(&pg.Node{Node: &pg.Node_InsertStmt{InsertStmt: own}})
			}
			whole = whole || w.all || w.names[rangeName(rv)] || len(rv.GetAlias().GetColnames()) > 0
			if names == nil {
				names = map[string]bool{}
			}
			maps.Copy(names, w.names)
		}
	}
	return whole, names
}

// refusesStep says why a step that takes no rows can't be run.
func (a *analysis) refusesStep(q SQL) *Refusal {
	if slices.ContainsFunc(q, func(p Piece) bool { return p.Part > 0 || p.Clock }) {
		return nil
	}
	text := q.Append(nil, []byte(a.text), a.lits, placeholder{})
	var sc sqltext.Scanner
	_, lits, err := sc.Normalize(text)
	if err != nil {
		return nestedDML()
	}
	p, err := Parse(string(text), sqltext.GuardLimits{})
	if err == nil {
		var st *Statement
		if st, err = p.Plan(lits, a.env); err == nil && st.Asked != nil {
			err = givenInside()
		}
	}
	var why *Refusal
	if errors.As(err, &why) && why.Code == "0A000" {
		own := *why
		own.Position = 0
		return &own
	}
	return nil
}

// shape is the query of an item's columns: SELECT * FROM it.
func (s *stepper) shape(p *piece, w *pg.WithClause) SQL {
	last := s.pieces[len(s.pieces)-2]
	return append(s.a.verbatim(byteRange{int(w.Location), last.text.end}), Piece{Own: ") SELECT * FROM " + QuoteIdent(p.cte.Ctename)})
}

// divide finds the pieces and their texts.
func (s *stepper) divide(n *pg.Node) *Refusal {
	w := withOf(n)
	if n.GetSelectStmt().GetIntoClause() != nil || slices.ContainsFunc(w.Ctes, func(c *pg.Node) bool {
		return c.GetCommonTableExpr().SearchClause != nil || c.GetCommonTableExpr().CycleClause != nil
	}) {
		return nestedDML()
	}
	rest := 0
	for _, c := range w.Ctes {
		cte := c.GetCommonTableExpr()
		text, ok := s.a.itemText(cte)
		if !ok {
			return nestedDML()
		}
		rest = text.end
		s.pieces = append(s.pieces, &piece{cte: cte, stmt: cte.Ctequery, text: text, target: targetOf(cte.Ctequery)})
	}
	last := len(s.a.toks)
	for last > 0 && s.a.is(last-1, ';') {
		last--
	}
	i := s.a.tokenAt(int32(rest)) + 1
	if i == 0 || i >= last {
		return nestedDML()
	}
	s.pieces = append(s.pieces, &piece{stmt: n, text: s.a.between(i, last), target: targetOf(n)})
	return nil
}

// resolve finds what the pieces read and change.
func (s *stepper) resolve(n *pg.Node) *Refusal {
	top, recursive := map[string]int{}, withOf(n).Recursive
	for i, c := range withOf(n).Ctes {
		top[c.GetCommonTableExpr().Ctename] = i
	}
	for _, p := range s.pieces {
		p.each(func(m protoMessage) {
			if w, ok := m.Interface().(*pg.CommonTableExpr); ok {
				s.nested[w.Ctename] = true
			}
		})
	}
	for name := range s.nested {
		if _, ok := top[name]; ok || s.a.env.find("", name) != nil {
			return unsupported("the name \""+name+"\" of a WITH within a part of this statement is one of something else as well", "Give it another name.")
		}
	}
	for i, p := range s.pieces {
		locked := map[*pg.RangeVar]bool{}
		p.each(func(m protoMessage) {
			switch v := m.Interface().(type) {
			case *pg.LockingClause:
				for _, l := range v.LockedRels {
					locked[l.GetRangeVar()] = true
				}
			case *pg.RangeVar:
				at, is := top[v.Relname]
				switch {
				case v == p.target || locked[v] || v.Schemaname == "" && s.nested[v.Relname]:
				case v.Schemaname == "" && is && at == i && recursive:
					p.self = true
				case v.Schemaname == "" && is && (at < i || recursive):
					p.items = append(p.items, v)
					p.after = append(p.after, at)
				default:
					p.reads = append(p.reads, v)
				}
			}
		})
		if p.target == nil {
			continue
		}
		p.table = s.a.env.find(p.target.Schemaname, p.target.Relname)
		if p.table == nil && !s.a.env.system(p.target.Schemaname, p.target.Relname) {
			return s.a.missing(p.target)
		}
		if p.table == nil || p.table.Kind != 'r' && p.table.Kind != 'p' && p.table.Kind != 0 {
			return unsupported("a data-modifying WITH over several shards can't change \""+p.target.Relname+"\", which is not a table of its schema", "Send the statements one by one in a transaction.")
		}
	}
	return nil
}

// each calls f for all that a piece consists of; of the statement behind WITH, all but that.
func (p *piece) each(f func(protoMessage)) {
	w := withOf(p.stmt)
	var visit func(m protoMessage)
	visit = func(m protoMessage) {
		if v, ok := m.Interface().(*pg.WithClause); ok && v == w && p.cte == nil {
			return
		}
		f(m)
		eachField(m, visit)
	}
	visit(p.stmt.ProtoReflect())
}

// columns are the columns of a table, none of what isn't known.
func (t *Table) columns() []Column {
	if t == nil {
		return nil
	}
	return t.Columns
}

// times replaces what asks for the time of the transaction.
func (s *stepper) times(n *pg.Node) *Refusal {
	a := s.a
	a.replaceClocks(n)
	g := &gatherer{a: a}
	var r *Refusal
	for _, p := range s.pieces {
		p.each(func(m protoMessage) {
			sel, ok := m.Interface().(*pg.SelectStmt)
			if !ok {
				return
			}
			for _, t := range sel.TargetList {
				if t := t.GetResTarget(); t.Name == "" && g.replaces(t.Val) && sel != p.stmt.GetSelectStmt() && sel != p.stmt.GetInsertStmt().GetSelectStmt().GetSelectStmt() {
					r = unsupported("a column of a subquery that gives the time needs a name in a data-modifying WITH over several shards", "Name it by AS.")
				}
			}
		})
	}
	return r
}

// arrange puts the pieces into the order in which PostgreSQL runs them: what the statement
// reads, that, and then, last first, the items that it doesn't read. Queries of what was
// before come first.
func (s *stepper) arrange(*pg.Node) *Refusal {
	var order []*piece
	cycle := false // which PostgreSQL refuses
	under := map[int]bool{}
	var visit func(i int)
	visit = func(i int) {
		p := s.pieces[i]
		if cycle = cycle || under[i]; cycle || slices.Contains(order, p) {
			return
		}
		under[i] = true
		defer delete(under, i)
		after := slices.Clone(p.after)
		slices.Sort(after)
		p.late = p.target != nil
		for _, x := range after {
			visit(x)
			p.late = p.late || s.pieces[x].late
		}
		order = append(order, p)
	}
	visit(len(s.pieces) - 1)
	for i := len(s.pieces) - 2; i >= 0; i-- {
		if s.pieces[i].target != nil {
			visit(i)
		}
	}
	if cycle {
		return nestedDML()
	}
	for _, late := range []bool{false, true} {
		for _, p := range order {
			if p.late == late {
				s.order = append(s.order, p)
			}
		}
	}
	return nil
}

// separate sees to it that no step can tell that others have run before it, and puts
// rows in the place of names.
func (s *stepper) separate(*pg.Node) *Refusal {
	for i, p := range s.order {
		for _, w := range s.order[:i] {
			if w.target == nil {
				continue
			}
			if r := s.disturbs(w, p); r != nil {
				return r
			}
		}
		if r := s.readBefore(p, s.order[:i]); r != nil {
			return r
		}
	}
	for i, p := range s.order {
		p.step = len(s.before) + i
	}
	for _, p := range s.pieces {
		for i, rv := range p.items {
			if r := s.replace(p, rv, s.pieces[p.after[i]].step); r != nil {
				return r
			}
		}
	}
	return nil
}

// replace puts the rows of a step in the place of a name.
func (s *stepper) replace(p *piece, rv *pg.RangeVar, step int) (r *Refusal) {
	var ok bool
	if p.edits, ok = s.a.replaceName(p.edits, rv, SQL{{Part: step + 1}}); !ok {
		return nestedDML()
	}
	p.each(func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.LockingClause:
			r = unsupported("FOR UPDATE or SHARE in a part of this statement that reads what other parts give or change is not supported over several shards yet", "Send the statements one by one in a transaction.")
		case *pg.RangeTableSample:
			if v.Relation.GetRangeVar() == rv {
				r = nestedDML()
			}
		}
	})
	return r
}

// readBefore has what a piece reads of tables that others have changed by then read before
// all changes.
func (s *stepper) readBefore(p *piece, earlier []*piece) *Refusal {
	for _, rv := range p.reads {
		t := s.a.env.find(rv.Schemaname, rv.Relname)
		changed := t != nil && slices.ContainsFunc(earlier, func(w *piece) bool {
			return w.target != nil && (w.table.root() == t.root() || t.Kind != 'r' && t.Kind != 'p')
		})
		if !changed {
			continue
		}
		u := s.a.uses[slices.IndexFunc(s.a.uses, func(u use) bool { return u.rv == rv })]
		text := own(selectColumns(p.w.columns(t, u), t, rv))
		i := slices.IndexFunc(s.before, func(b Step) bool { return b.Text[0].Own == text[0].Own })
		if i < 0 {
			i = len(s.before)
			s.before = append(s.before, Step{Name: t.String(), Text: text, Shape: text, Whole: true, Collations: p.w.collations(u)})
		}
		if r := s.replace(p, rv, i); r != nil {
			return r
		}
	}
	return nil
}
