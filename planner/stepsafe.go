package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// What could tell several statements in one transaction from the one that they stand for, of
// which all parts see one snapshot.

// plain checks what a text of its own could change: functions that see what has been
// changed before. It notes what the pieces use.
func (s *stepper) plain(n *pg.Node) *Refusal {
	var r *Refusal
	several := changesIn(withOf(n))
	called := func(name string) {
		if f := s.a.env.Schema.functions[name]; several && f.User && f.Volatility != Immutable || name == "statement_timestamp" {
			r = unsupported(name+"() can't be called in a data-modifying WITH over several shards: it could see that this is several statements", "Call it in a statement of its own and pass the result as a parameter.")
		}
	}
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			called(unqualified(v.Funcname))
		case *pg.A_Expr:
			for _, f := range s.a.env.Schema.Operators[unqualified(v.Name)] {
				called(f)
			}
		}
	})
	for _, p := range s.pieces {
		for _, rv := range append(slices.Clone(p.reads), p.target) {
			if rv == nil {
				continue
			}
			e := &rte{name: rangeName(rv)}
			t := s.a.env.find(rv.Schemaname, rv.Relname)
			for i := range t.columns() {
				e.columns = append(e.columns, t.Columns[i].Name)
			}
			s.a.uses = append(s.a.uses, use{rv, t, e})
		}
	}
	for _, p := range s.pieces {
		whole := p.stmt
		if p.cte == nil {
			whole = withoutWith(p.stmt)
		}
		p.w = s.a.wanted(whole)
	}
	return r
}

// acted are the tables of which rows may change when those of a table do, by foreign keys.
func acted(t *Table) (out []*Table) {
	todo := []*Table{t}
	for len(todo) > 0 {
		t, todo = todo[0], todo[1:]
		for _, k := range t.ForeignKeys {
			if k.To == t && k.Acts && !slices.Contains(out, k.From) {
				out, todo = append(out, k.From), append(todo, k.From)
			}
		}
	}
	return out
}

// touches says whether a piece reads or changes one of some tables, or may.
func (s *stepper) touches(p *piece, tables []*Table) bool {
	return p.table != nil && slices.Contains(tables, p.table.root()) || slices.ContainsFunc(p.reads, func(rv *pg.RangeVar) bool {
		t := s.a.env.find(rv.Schemaname, rv.Relname)
		return t != nil && (slices.Contains(tables, t.root()) || t.Kind != 'r' && t.Kind != 'p')
	})
}

// disturbs says why a piece that changes rows can't be run before another one.
func (s *stepper) disturbs(p, later *piece) *Refusal {
	no := func(why string) *Refusal {
		return unsupported("a data-modifying WITH over several shards is not supported where "+why, "Send the statements one by one in a transaction.")
	}
	any := later.target != nil || len(later.reads) > 0
	t := p.table.root()
	tables := acted(t)
	triggered := slices.IndexFunc(append([]*Table{t}, tables...), func(x *Table) bool { return x.Triggers })
	switch {
	case later.table != nil && later.table.root() == t && !p.apart(later):
		return no("two parts change " + p.table.String())
	case any && triggered >= 0:
		return no("a table has triggers, rules or row level security: " + append([]*Table{t}, tables...)[triggered].String())
	}
	for _, k := range t.ForeignKeys {
		there := later.table != nil && (k.From == later.table.root() || k.To == later.table.root())
		switch {
		case k.To == t && p.takes(k.Referred) && (there || k.Acts && s.touches(later, tables)),
			k.From == t && there && p.stores(k.Columns) && (later.stores(nil) || later.takes(k.Referred)):
			return no("a foreign key ties " + k.From.String() + " to " + k.To.String())
		}
	}
	return nil
}

// apart says whether a piece and a later one that change the same table concern different
// rows in any order: an UPDATE, and an INSERT which it doesn't see, where the UPDATE changes
// nothing by which the INSERT may find a duplicate.
func (p *piece) apart(later *piece) bool {
	ins := later.stmt.GetInsertStmt()
	return ins != nil && p.stmt.GetUpdateStmt() != nil && ins.GetOnConflictClause().GetAction() != pg.OnConflictAction_ONCONFLICT_UPDATE &&
		!slices.ContainsFunc(p.table.Columns, func(c Column) bool { return c.Unique && p.assigns([]string{c.Name}) })
}

// takes says whether a piece may take away values of these columns; stores whether it may
// store new ones, of any column for none.
func (p *piece) takes(columns []string) bool {
	return p.stmt.GetDeleteStmt() != nil || p.stmt.GetMergeStmt() != nil || p.assigns(columns)
}

func (p *piece) stores(columns []string) bool {
	return p.stmt.GetInsertStmt() != nil || p.stmt.GetMergeStmt() != nil || p.assigns(columns)
}

func (p *piece) assigns(columns []string) bool {
	return slices.ContainsFunc(append(slices.Clone(p.stmt.GetUpdateStmt().GetTargetList()), p.stmt.GetInsertStmt().GetOnConflictClause().GetTargetList()...),
		func(n *pg.Node) bool { return slices.Contains(columns, n.GetResTarget().Name) })
}
