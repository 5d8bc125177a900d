package planner

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// INSERT ... VALUES whose rows must be computed before it is known where they belong, or
// out of what no shard has by itself. VALUES is a query as well, so that it is planned as
// INSERT ... SELECT is; but the values of a query's column are of one type, while those of
// an INSERT are each converted to the type of the column that they are stored in.

// insertValues plans the rows of an INSERT ... VALUES as those of a query. why is the
// reason for which no shard is sent the statement, or its part of the rows.
func (a *analysis) insertValues(ins *pg.InsertStmt, t *Table, tail insertTail, why *Refusal) Node {
	if tail.reads || !a.tabular(ins, t) {
		refuse(why)
	}
	node, r := a.insertRows(ins, t, tail)
	if r != nil {
		refuse(why)
	}
	return node
}

// computedOnce says whether rows for a reference table have to be computed once for all of its
// copies, and not by each shard for its own.
func (a *analysis) computedOnce() bool {
	return len(a.leaves) > 0 || len(a.locals) > 0 || a.volatile || a.home != ""
}

// tabular says whether each column of the rows of a VALUES list is stored alike, be the
// rows those of a query or not.
func (a *analysis) tabular(ins *pg.InsertStmt, t *Table) bool {
	rows := ins.SelectStmt.GetSelectStmt().GetValuesLists()
	a.textSpecific = a.textSpecific || len(rows) > 1 // an integer's type is a matter of its size
	names := insertColumns(ins, t)
	width := len(rows[0].GetList().GetItems())
	if width > len(names) {
		return false // PostgreSQL says so
	}
	for i := range width {
		var values []*pg.Node
		for _, row := range rows {
			if items := row.GetList().GetItems(); len(items) != width || items[i].GetSetToDefault() != nil {
				return false
			}
			values = append(values, row.GetList().Items[i])
		}
		if c := t.Column(names[i]); c < 0 || len(values) > 1 && !a.ofOneType(values, familyOfOID(t.Columns[c].Type)) {
			return false
		}
	}
	return true
}

// ofOneType says whether it is certain that values have one type before they are stored
// in a column of this family, or that it makes no difference.
func (a *analysis) ofOneType(values []*pg.Node, f family) bool {
	some := func(is func(*pg.Node) bool) bool { return slices.ContainsFunc(values, is) }
	if (f == familyText || f == familyBpchar) && !some(func(n *pg.Node) bool {
		return !untyped(n) && (n.GetParamRef() == nil || a.paramType(n.GetParamRef()) != 0)
	}) {
		return true // they are text then
	}
	values = slices.DeleteFunc(slices.Clone(values), func(n *pg.Node) bool { return n.GetAConst().GetIsnull() })
	if len(values) == 0 || untyped(values[0]) {
		return false
	}
	first, ok := a.shape(values[0])
	return ok && !some(func(n *pg.Node) bool {
		shape, ok := a.shape(n)
		return !n.GetAConst().GetIsnull() && !(ok && proto.Equal(shape, first))
	})
}

// shape is what decides on the type of an expression: all but the values in it. ok is
// false where that isn't certain.
func (a *analysis) shape(n *pg.Node) (out *pg.Node, ok bool) {
	out, ok = withoutPlaces(n), true
	eachMessage(out.ProtoReflect(), func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.A_Const:
			switch {
			case v.GetIval() != nil:
				v.GetIval().Ival = 0
			case v.GetSval() != nil:
				v.GetSval().Sval = ""
			case v.GetBoolval() != nil:
				v.GetBoolval().Boolval = false
			case strings.ContainsAny(v.GetFval().GetFval(), ".eE"): // else it may be a bigint, or beyond it
				v.GetFval().Fval = "0.0"
			}
		case *pg.ParamRef:
			t := a.paramType(v)
			ok = ok && (t != 0 || a.usedOnce(v.Number)) // or another place may decide on its type
			v.Number = int32(t)
		}
	})
	return out, ok
}

// usedOnce says whether the statement has a parameter in one place only.
func (a *analysis) usedOnce(param int32) bool {
	n := 0
	eachMessageBelow(a.stmt, func(m protoMessage) {
		if p, ok := m.Interface().(*pg.ParamRef); ok && p.Number == param {
			n++
		}
	})
	return n == 1
}

// paramType is the declared type of a parameter, or 0.
func (a *analysis) paramType(p *pg.ParamRef) uint32 {
	if i := int(p.Number); i > 0 && i <= len(a.env.ParamTypes) {
		return a.env.ParamTypes[i-1]
	}
	return 0
}
