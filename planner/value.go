package planner

import (
	"sort"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
)

func (a *analysis) values(items []*pg.Node, f family) ([]Value, bool) {
	if len(items) == 0 || f == familyNone {
		return nil, false
	}
	out := make([]Value, 0, len(items))
	for _, it := range items {
		v, ok := a.value(it, f)
		if !ok {
			// The list is compared in a type that isn't known: so is the
			// parameters' type.
			for _, it := range items {
				delete(a.paramNodes, it.GetParamRef())
			}
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}

// value reads a constant or parameter that is compared with, or stored in, a
// column of family f. It is not ok where PostgreSQL would compare in another
// type than the column's, since equal values might then hash differently.
func (a *analysis) value(n *pg.Node, f family) (Value, bool) {
	if f == familyNone {
		return Value{}, false
	}
	switch {
	case n.GetAConst() != nil:
		return a.literal(n.GetAConst(), f)
	case n.GetParamRef() != nil:
		p := n.GetParamRef()
		i := int(p.Number) - 1
		v := Value{Source: FromParam, Index: i}
		if i < 0 {
			return v, false
		}
		if v.Type = a.declared(i); v.Type != 0 {
			return v, compatible(familyOfOID(v.Type), f)
		}
		a.paramNodes[p] = f
		return v, true
	case n.GetTypeCast() != nil:
		tc := n.GetTypeCast()
		oid := typeOID(tc.TypeName)
		if !compatible(familyOfOID(oid), f) || len(tc.TypeName.Typmods) > 0 || len(tc.TypeName.ArrayBounds) > 0 {
			return Value{}, false
		}
		v, ok := a.value(tc.Arg, familyOfOID(oid))
		if !ok || v.Source == Computed {
			break
		}
		if v.Type == 0 {
			v.Type = oid
		}
		return v, true
	}
	return a.computed(n, f)
}

// declared is the type of parameter n (from 0) as far as it is known, or 0.
func (a *analysis) declared(n int) uint32 {
	if n >= len(a.env.ParamTypes) || a.env.ParamTypes[n] == oidUnknown {
		return 0
	}
	return a.env.ParamTypes[n]
}

// compatible says whether a value of one family can be compared with, or stored
// in, a column of another without a change of its hash: the comparison is made
// in the column's own type.
func compatible(value, column family) bool {
	return value == column || column == familyBpchar && value == familyText
}

// literal reads a constant.
func (a *analysis) literal(c *pg.A_Const, f family) (Value, bool) {
	if c.Isnull {
		return Value{Source: IsNull}, true
	}
	if c.Location < 0 {
		return Value{}, false // that of FETCH FIRST ROW ONLY, which isn't in the text
	}
	i := sort.Search(len(a.lits), func(i int) bool { return a.lits[i].Start >= c.Location })
	if i == len(a.lits) {
		return Value{}, false
	}
	v := Value{Source: FromLiteral, Index: i}
	switch c.Val.(type) {
	case *pg.A_Const_Ival, *pg.A_Const_Fval:
		// An integer beyond int4 is a float to the grammar and an int8 to PostgreSQL.
		v.Negative = a.negative(c.Location, a.lits[i].Start)
		return v, f == familyInt && a.lits[i].Kind == sqltext.Integer
	case *pg.A_Const_Sval:
		switch a.lits[i].Kind {
		case sqltext.String, sqltext.EscapeString, sqltext.DollarString:
			return v, a.lits[i].Start == c.Location
		}
	}
	return Value{}, false
}

// negative says whether an odd number of minus signs stands between where the
// grammar says that a constant begins and its digits: - -5 is 5. The value can't
// tell, since the plan is for other values as well, and 0 is one of them.
func (a *analysis) negative(from, to int32) bool {
	odd := false
	between := []byte(a.text[from:to])
	toks := sqltext.NewTokens(between)
	for {
		t, ok := toks.Next()
		if !ok {
			return odd
		}
		if t.Is(between, '-') {
			odd = !odd
		}
	}
}
