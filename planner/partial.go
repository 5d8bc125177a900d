package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// repeatable are the aggregates whose result over the results of parts is that of the
// whole, whatever the type.
var repeatable = set("min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor")

// partial is an aggregate that is replaced, and by what.
type partial struct {
	call  *pg.Node
	final SQL
}

// again replaces an aggregate as one that is the same: PostgreSQL may require that they
// are, as in SELECT DISTINCT count(*) ... ORDER BY count(*).
func (c *combiner) again(n *pg.Node) bool {
	i := slices.IndexFunc(c.partials, func(p partial) bool { return c.a.equal(p.call, n) })
	whole, ok := c.a.callRange(n.GetFuncCall())
	if i < 0 || !ok {
		return false
	}
	c.a.textSpecific = c.a.textSpecific || hasLiteral(n)
	c.edits = append(c.edits, edit{whole, c.partials[i].final})
	return true
}

// partial replaces an aggregate by what puts partial results together, and has the
// shards compute these. It returns false for one that is not made of such parts with
// the same result to the last digit.
func (c *combiner) partial(n *pg.Node) bool {
	f := n.GetFuncCall()
	name := c.a.builtin(f)
	open, last, ok := c.a.call(f)
	if name == "" || !ok || f.AggDistinct || f.AggWithinGroup || len(f.AggOrder) > 0 || f.Over != nil || f.FuncVariadic || c.nested(f) {
		return false
	}
	a, s := c.a, c.sources[0]
	whole, _ := c.a.callRange(f)
	args := a.span(a.between(open, last+1))
	var final SQL
	switch {
	case name == "count":
		final = own("coalesce(pg_catalog.sum(" + s.column(s.addPartial(a.span(whole), "")) + "),0)::pg_catalog.int8")
	case name == "sum" && len(f.Args) == 1:
		i := s.addPartial(a.span(whole), "")
		final = SQL{{Own: "pg_catalog.sum(" + s.column(i) + ")"}, {Part: len(c.g.parts) + 1, Column: i + 1}}
	case name == "avg" && len(f.Args) == 1:
		count := ""
		switch t := a.typeOf(f.Args[0]); {
		case slices.Contains([]uint32{21, 23, oidInt8, 1700}, t):
		case t == 701:
			count = "::pg_catalog.float8"
		default:
			return false // a float4's sum is less exact than its average; an interval's is found out in steps
		}
		sum := s.addPartial(append(own("pg_catalog.sum"), args...), "")
		rows := s.addPartial(append(own("pg_catalog.count"), args...), "")
		final = own("(pg_catalog.sum(" + s.column(sum) + ")/nullif(pg_catalog.sum(" + s.column(rows) + "),0)" + count + ")")
	case repeatable[name] && len(f.Args) == 1:
		collation, ok := a.collation(c.b, f.Args[0])
		s.plain = s.plain && ok
		final = own("pg_catalog." + name + "(" + s.column(s.addPartial(a.span(whole), collation)) + ")")
	default:
		return false
	}
	c.partials = append(c.partials, partial{n, final})
	c.edits = append(c.edits, edit{whole, final})
	return true
}

// nested looks at the arguments of an aggregate: a subquery, a column that isn't one
// of FROM's, or an aggregate.
func (c *combiner) nested(f *pg.FuncCall) bool {
	bad := false
	eachMessage(f.ProtoReflect(), func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.SubLink, *pg.SelectStmt:
			bad = true
		case *pg.ColumnRef:
			col, ok := c.a.columns[v]
			bad = bad || !ok || col.rte.block != c.b || c.a.ownOIDs(v)
		case *pg.FuncCall:
			bad = bad || v != f && (v.Over != nil || c.a.aggregate(v) || c.a.varies(v) && !c.a.replacesClock(v.Location))
		case *pg.TypeCast:
			bad = bad || oidCast(v)
		case *pg.SQLValueFunction:
			bad = bad || clockValue(v) && !c.a.replacesClock(v.Location)
		}
	})
	return bad
}

// typeOf is the type of an expression where that follows from its columns' and
// casts' types by the rules of PostgreSQL's operators for numbers; else 0.
func (a *analysis) typeOf(n *pg.Node) uint32 {
	switch {
	case n.GetColumnRef() != nil:
		if c, ok := a.columns[n.GetColumnRef()]; ok && c.rte.table.Columns[c.n].Scalar {
			return c.rte.table.Columns[c.n].Type
		}
	case n.GetTypeCast() != nil:
		t := n.GetTypeCast().TypeName
		if len(t.ArrayBounds) == 0 && !t.Setof {
			return numberType(t)
		}
	case n.GetAConst() != nil:
		switch n.GetAConst().Val.(type) {
		case *pg.A_Const_Ival:
			a.textSpecific = true // a greater number is of another type
			return 23
		case *pg.A_Const_Fval:
			a.textSpecific = true
		}
	case n.GetAExpr() != nil:
		e := n.GetAExpr()
		if e.Kind != pg.A_Expr_Kind_AEXPR_OP || len(e.Name) != 1 || !slices.Contains([]string{"+", "-", "*", "/"}, str(e.Name[0])) ||
			len(a.env.Schema.Operators[str(e.Name[0])]) > 0 {
			return 0
		}
		r := a.typeOf(e.Rexpr)
		if e.Lexpr == nil {
			return r
		}
		l := a.typeOf(e.Lexpr)
		return widerNumber(l, r)
	}
	return 0
}

// widerNumber is the type of what an operator gives for two numbers, 0 if they aren't.
func widerNumber(l, r uint32) uint32 {
	i, j := slices.Index(numbers, l), slices.Index(numbers, r)
	if i < 0 || j < 0 {
		return 0
	}
	if k := max(i, j); k != 4 || i == j {
		return numbers[k]
	}
	return 701 // a float4 with another number is compared as a float8
}

// numbers are the numeric types, each of which an operator with one of those before
// takes for itself: int2, int4, int8, numeric, float4, float8.
var numbers = []uint32{21, 23, oidInt8, 1700, 700, 701}

// numberType is the OID of a number's type by its name, or 0.
func numberType(t *pg.TypeName) uint32 {
	n := len(t.Names)
	if n == 0 || n == 2 && str(t.Names[0]) != "pg_catalog" {
		return 0
	}
	switch str(t.Names[n-1]) {
	case "int2":
		return 21
	case "int4":
		return 23
	case "int8":
		return oidInt8
	case "numeric":
		return 1700
	case "float4":
		return 700
	case "float8":
		return 701
	}
	return 0
}
