package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// computed reads an expression that is compared with, or stored in, a column of
// family f, if its value is known before the statement runs, and its type is of the
// family: current_setting('app.tenant')::bigint, or $1 + 1.
func (a *analysis) computed(n *pg.Node, f family) (Value, bool) {
	if f == familyNone || !a.fixed(n) {
		return Value{}, false
	}
	types, ok := a.fixedParams(n)
	if !ok || familyOfOID(a.fixedType(n)) != f {
		return Value{}, false
	}
	r, ok := a.exprText(n)
	return Value{Source: Computed, Expr: &Expression{SQL: a.verbatim(r), Params: types}}, ok
}

// fixed says whether an expression is of constants, parameters, settings, and immutable
// functions and operators of PostgreSQL's own.
func (a *analysis) fixed(n *pg.Node) bool {
	ok := true
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.Node, *pg.A_Const, *pg.Integer, *pg.Float, *pg.Boolean, *pg.String, *pg.BitString, *pg.List, *pg.ParamRef, *pg.ResTarget,
			*pg.CoalesceExpr, *pg.MinMaxExpr, *pg.CaseExpr, *pg.CaseWhen, *pg.BoolExpr, *pg.NullTest:
		case *pg.SubLink:
			ok = ok && fixedSelect(v) != nil
		case *pg.SelectStmt: // of a SubLink
		case *pg.TypeCast:
			t := typeOID(v.TypeName)
			ok = ok && (t != 0 || numberType(v.TypeName) != 0 || isInterval(v.TypeName))
			ok = ok && (!slices.Contains(dateTypes, t) || a.fixedDate(v.Arg))
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

// fixedDate says whether what is cast to a date or a time doesn't depend on when that is
// done, as 'today' does. Of a constant the text will tell.
func (a *analysis) fixedDate(n *pg.Node) bool {
	if n.GetAConst().GetSval() != nil {
		a.dateFixed = true
		return true
	}
	p := n.GetParamRef()
	return p != nil && a.declared(int(p.Number)-1) == 0 || slices.Contains(dateTypes, a.fixedType(n))
}

// fixedSelect is the expression of a subquery that reads nothing, (SELECT expression);
// nil for any other.
func fixedSelect(s *pg.SubLink) *pg.Node {
	sel := s.Subselect.GetSelectStmt()
	if s.SubLinkType != pg.SubLinkType_EXPR_SUBLINK || len(sel.GetTargetList()) != 1 {
		return nil
	}
	only := &pg.SelectStmt{TargetList: sel.TargetList, LimitOption: sel.LimitOption, Op: pg.SetOperation_SETOP_NONE}
	if !proto.Equal(sel, only) {
		return nil
	}
	return sel.TargetList[0].GetResTarget().Val
}

// fixedParams are the types of the parameters up to the last one that an expression has.
// Where one isn't known, the statement is planned again with the types that a shard infers.
func (a *analysis) fixedParams(n *pg.Node) (types []uint32, ok bool) {
	last := 0
	eachMessageBelow(n, func(m protoMessage) {
		if p, is := m.Interface().(*pg.ParamRef); is {
			last = max(last, int(p.Number))
		}
	})
	for i := range last {
		t := a.declared(i)
		if t == 0 {
			a.uncertain = true
			return nil, false
		}
		types = append(types, t)
	}
	return types, true
}

// fixedType is the type of a fixed expression, where it is certain; else 0.
func (a *analysis) fixedType(n *pg.Node) uint32 {
	switch {
	case n.GetParamRef() != nil:
		return a.declared(int(n.GetParamRef().Number) - 1)
	case n.GetTypeCast() != nil:
		if t := typeOID(n.GetTypeCast().TypeName); t != 0 {
			return t
		}
		if isInterval(n.GetTypeCast().TypeName) {
			return oidInterval
		}
	case n.GetSubLink() != nil:
		inner := fixedSelect(n.GetSubLink())
		if untyped(inner) {
			return oidText
		}
		return a.fixedType(inner)
	case n.GetCoalesceExpr() != nil:
		return a.commonType(n.GetCoalesceExpr().Args)
	case n.GetMinMaxExpr() != nil:
		return a.commonType(n.GetMinMaxExpr().Args)
	case n.GetFuncCall() != nil:
		return a.resultType(n.GetFuncCall())
	case n.GetAExpr() != nil:
		return a.operationType(n.GetAExpr())
	}
	return a.typeOf(n)
}

// commonType is the type that expressions have, but for NULL and strings.
func (a *analysis) commonType(args []*pg.Node) uint32 {
	common := uint32(0)
	for _, x := range args {
		if untyped(x) {
			continue
		}
		t := a.fixedType(x)
		if t == 0 || common != 0 && t != common {
			return 0
		}
		common = t
	}
	return common
}

// resultType is the type of a call.
func (a *analysis) resultType(f *pg.FuncCall) uint32 {
	if len(f.Args) != 1 {
		return a.env.Schema.functions[unqualified(f.Funcname)].Result
	}
	arg := f.Args[0]
	switch unqualified(f.Funcname) {
	case "lower", "upper": // of ranges as well
		if t := a.fixedType(arg); untyped(arg) || familyOfOID(t) == familyText || familyOfOID(t) == familyBpchar {
			return oidText
		}
		return 0
	case "abs":
		if t := a.fixedType(arg); slices.Contains(numbers, t) {
			return t
		}
		return 0
	}
	return a.env.Schema.functions[unqualified(f.Funcname)].Result
}

// operationType is the type of what an operator gives: of those for numbers, of || for
// texts, and of + and - for dates and times.
func (a *analysis) operationType(e *pg.A_Expr) uint32 {
	if e.Kind != pg.A_Expr_Kind_AEXPR_OP || len(e.Name) != 1 {
		return 0
	}
	op := str(e.Name[0])
	right := a.fixedType(e.Rexpr)
	if e.Lexpr == nil {
		if slices.Contains(numbers, right) && (op == "-" || op == "+") {
			return right
		}
		return 0
	}
	left := a.fixedType(e.Lexpr)
	date, timestamp, timestamptz := typeOIDs["date"], typeOIDs["timestamp"], typeOIDs["timestamptz"]
	switch {
	case op == "||":
		isText := func(n *pg.Node, t uint32) bool { return untyped(n) || familyOfOID(t) == familyText }
		if isText(e.Lexpr, left) && isText(e.Rexpr, right) {
			return oidText
		}
	case op != "+" && op != "-" && op != "*" && op != "/":
	case slices.Contains(numbers, left) && slices.Contains(numbers, right):
		return widerNumber(left, right)
	case op == "*" || op == "/":
	case left == date && right == 23, op == "+" && left == 23 && right == date:
		return date
	case (left == date || left == timestamp) && right == oidInterval:
		return timestamp
	case left == timestamptz && right == oidInterval:
		return timestamptz
	}
	return 0
}

func isInterval(t *pg.TypeName) bool {
	n := t.GetNames()
	return unqualified(n) == "interval" && (len(n) == 1 || len(n) == 2 && str(n[0]) == "pg_catalog") && len(t.ArrayBounds) == 0 && !t.Setof
}
