package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Facts are read from WHERE and ON: which columns are equal, and which values a
// column can have. A condition of another form says nothing, which is always
// safe.

// facts are conditions that hold for every row that matters at a place in the
// query: a row of a table for which they don't hold can be left out there
// without changing the answer.
type facts struct {
	outer *facts
	equal [][2]column
	pins  []factPin
}

// factPin says that a column has one of some values.
type factPin struct {
	column column
	keys   []Value
	array  *Value
}

// equate notes that two columns are equal, if their types compare by hash.
func (f *facts) equate(x, y column) {
	x, y = x.base(), y.base()
	fx, fy := x.family(), y.family()
	if fx != familyNone && fx == fy && x.bytewise() && y.bytewise() {
		f.equal = append(f.equal, [2]column{x, y})
	}
}

// collect adds what a condition, which holds, says of columns.
func (a *analysis) collect(n *pg.Node, lvl *level, f *facts) {
	if n == nil {
		return
	}
	if b := n.GetBoolExpr(); b != nil {
		switch b.Boolop {
		case pg.BoolExprType_AND_EXPR:
			for _, x := range b.Args {
				a.collect(x, lvl, f)
			}
		case pg.BoolExprType_OR_EXPR:
			a.collectOr(b.Args, lvl, f)
		}
		return
	}
	if t := n.GetNullTest(); t != nil && t.Nulltesttype == pg.NullTestType_IS_NULL {
		// It isn't in the table's own rows. In a join, a row may have been made.
		if c, ok := a.entryColumn(t.Arg, lvl); ok && c.rte.leaf != nil && len(lvl.rtes) == 1 && lvl.rtes[0] == c.rte && c.rte.table.Columns[c.n].NotNull {
			f.pins = append(f.pins, factPin{column: c, keys: []Value{{Source: IsNull}}})
		}
		return
	}
	e := n.GetAExpr()
	if e == nil || len(e.Name) != 1 || str(e.Name[0]) != "=" {
		return
	}
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		// With what may be NULL, it may hold for a row that an outer join has made.
		if c := e.Rexpr.GetAConst(); c != nil && !c.Isnull {
			a.collectEqual(e.Lexpr, e.Rexpr, lvl, f)
		}
	case pg.A_Expr_Kind_AEXPR_OP:
		if l, r := e.Lexpr.GetRowExpr(), e.Rexpr.GetRowExpr(); l != nil && r != nil && len(l.Args) == len(r.Args) {
			for i := range l.Args {
				a.collectEqual(l.Args[i], r.Args[i], lvl, f)
			}
			return
		}
		a.collectEqual(e.Lexpr, e.Rexpr, lvl, f)
	case pg.A_Expr_Kind_AEXPR_IN:
		if l := e.Lexpr.GetRowExpr(); l != nil {
			a.collectRows(l.Args, e.Rexpr.GetList().GetItems(), lvl, f)
		}
		if c, ok := a.column(e.Lexpr, lvl); ok {
			if keys, ok := a.values(e.Rexpr.GetList().GetItems(), c.family()); ok {
				f.pins = append(f.pins, factPin{column: c, keys: keys})
			}
		}
	case pg.A_Expr_Kind_AEXPR_OP_ANY:
		if c, ok := a.column(e.Lexpr, lvl); ok {
			a.collectAny(c, e.Rexpr, f)
		}
	}
}

// collectAny reads column = ANY(array).
func (a *analysis) collectAny(c column, array *pg.Node, f *facts) {
	elem := uint32(0)
	if tc := array.GetTypeCast(); tc != nil && len(tc.TypeName.GetArrayBounds()) == 1 {
		elem = typeOID(tc.TypeName)
		if familyOfOID(elem) != c.family() || len(tc.TypeName.Typmods) > 0 {
			return
		}
		if p := tc.Arg.GetParamRef(); p != nil {
			a.paramNodes[p] = c.family()
		}
		array = tc.Arg
	}
	if arr := array.GetAArrayExpr(); arr != nil {
		if keys, ok := a.values(arr.Elements, c.family()); ok {
			f.pins = append(f.pins, factPin{column: c, keys: keys})
		}
		return
	}
	switch {
	case array.GetParamRef() != nil:
		p := array.GetParamRef()
		declared := elem
		if p.Number < 1 {
			return
		}
		if oid := a.declared(int(p.Number) - 1); oid != 0 {
			if declared = elementOID(oid); familyOfOID(declared) != c.family() {
				return
			}
		}
		a.paramNodes[p] = c.family()
		f.pins = append(f.pins, factPin{column: c, array: &Value{Source: FromParam, Index: int(p.Number) - 1, Type: declared}})
	case array.GetAConst().GetSval() != nil:
		if v, ok := a.literal(array.GetAConst(), c.family()); ok {
			f.pins = append(f.pins, factPin{column: c, array: &v})
		}
	}
}

// collectRows reads (columns) IN (rows).
func (a *analysis) collectRows(columns, rows []*pg.Node, lvl *level, f *facts) {
	for i, n := range columns {
		var items []*pg.Node
		for _, r := range rows {
			if args := r.GetRowExpr().GetArgs(); len(args) == len(columns) {
				items = append(items, args[i])
			}
		}
		c, ok := a.column(n, lvl)
		if !ok || len(items) != len(rows) {
			continue
		}
		if keys, ok := a.values(items, c.family()); ok {
			f.pins = append(f.pins, factPin{column: c, keys: keys})
		}
	}
}

// collectOr reads an OR: a column that each branch pins has one of all their values.
func (a *analysis) collectOr(branches []*pg.Node, lvl *level, f *facts) {
	var merged []factPin
	for i, b := range branches {
		one := &facts{}
		a.collect(b, lvl, one)
		var both []factPin
		for _, p := range one.pins {
			if p.array != nil || slices.ContainsFunc(both, func(q factPin) bool { return q.column == p.column }) {
				continue
			}
			if i == 0 {
				both = append(both, p)
			} else if k := slices.IndexFunc(merged, func(q factPin) bool { return q.column == p.column }); k >= 0 {
				both = append(both, factPin{column: p.column, keys: append(merged[k].keys, p.keys...)})
			}
		}
		merged = both
	}
	f.pins = append(f.pins, merged...)
}

func (a *analysis) collectEqual(l, r *pg.Node, lvl *level, f *facts) {
	lc, lok := a.column(l, lvl)
	rc, rok := a.column(r, lvl)
	switch {
	case lok && rok:
		f.equate(lc, rc)
	case lok:
		if v, ok := a.value(r, lc.family()); ok {
			f.pins = append(f.pins, factPin{column: lc, keys: []Value{v}})
		}
	case rok:
		if v, ok := a.value(l, rc.family()); ok {
			f.pins = append(f.pins, factPin{column: rc, keys: []Value{v}})
		}
	}
}
