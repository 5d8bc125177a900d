package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// computed reads an expression that is compared with, or stored in, a column of
// family f, if its value is known before the statement runs, and its type is of the
// family: current_setting('app.tenant')::bigint, or 60 * 24.
func (a *analysis) computed(n *pg.Node, f family) (Value, bool) {
	if f == familyNone || !a.fixed(n) {
		return Value{}, false
	}
	t := a.typeOf(n)
	if c := n.GetTypeCast(); c != nil {
		t = typeOID(c.TypeName)
	}
	// What a text means as a date or a time may depend on when it is read.
	if familyOfOID(t) != f || slices.Contains(dateTypes, t) {
		return Value{}, false
	}
	r, ok := a.exprText(n)
	return Value{Source: Computed, Expr: &Expression{a.verbatim(r)}}, ok
}

// fixed says whether an expression is of constants, settings, and immutable functions
// and operators of PostgreSQL's own.
func (a *analysis) fixed(n *pg.Node) bool { return a.fixedBut(n, false) }

// fixedBut is fixed where there may be parameters.
func (a *analysis) fixedBut(n *pg.Node, params bool) bool {
	ok := true
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.Node, *pg.A_Const, *pg.Integer, *pg.Float, *pg.Boolean, *pg.String, *pg.BitString, *pg.List,
			*pg.CoalesceExpr, *pg.MinMaxExpr, *pg.CaseExpr, *pg.CaseWhen, *pg.BoolExpr, *pg.NullTest:
		case *pg.ParamRef:
			ok = ok && params
		case *pg.TypeCast:
			t := typeOID(v.TypeName)
			ok = ok && (t != 0 || numberType(v.TypeName) != 0) && !slices.Contains(dateTypes, t)
		case *pg.TypeName:
			ok = ok && len(v.ArrayBounds) == 0
		case *pg.A_Expr:
			ok = ok && (v.Kind == pg.A_Expr_Kind_AEXPR_OP || v.Kind == pg.A_Expr_Kind_AEXPR_NULLIF) && len(v.Name) == 1 && len(a.env.Schema.Operators[str(v.Name[0])]) == 0
		case *pg.FuncCall:
			name := unqualified(v.Funcname)
			fn, known := a.env.Schema.functions[name]
			ok = ok && known && len(v.Funcname) == 1 && v.Over == nil && !fn.User && !fn.Aggregate && !fn.ReturnsSet &&
				(fn.Volatility == Immutable || name == "current_setting")
		default:
			ok = false
		}
	})
	return ok
}
