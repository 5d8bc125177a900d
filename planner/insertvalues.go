package planner

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"github.com/shardgate/shardgate/planner/sqltext"
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
// rows those of a query or not. It notes the casts that see to it.
func (a *analysis) tabular(ins *pg.InsertStmt, t *Table) bool {
	a.casts = nil
	rows := ins.SelectStmt.GetSelectStmt().GetValuesLists()
	a.textSpecific = a.textSpecific || len(rows) > 1 // an integer's type is a matter of its size
	names := insertColumns(ins, t)
	width := len(rows[0].GetList().GetItems())
	if width > len(names) {
		return false // PostgreSQL says so
	}
	for i := range width {
		var values []*pg.Node
		defaults := false
		for _, row := range rows {
			items := row.GetList().GetItems()
			if len(items) != width {
				return false
			}
			defaults = defaults || items[i].GetSetToDefault() != nil
			values = append(values, items[i])
		}
		c := t.Column(names[i])
		if c < 0 || defaults && slices.Contains(t.keyColumns(), c) || (defaults || len(values) > 1 && !a.ofOneType(values, familyOfOID(t.Columns[c].Type))) && !a.castTo(&t.Columns[c], values) {
			return false
		}
	}
	return true
}

// castTo notes casts of values to the type of the column that they are stored in, which say
// what PostgreSQL does with each when it is stored: an assignment has no other conversions
// than a cast, and what the type's modifier does comes when the rows are stored. A DEFAULT is
// NULL where there is none.
func (a *analysis) castTo(c *Column, values []*pg.Node) bool {
	typ := scalarTypes[c.Type]
	known := c.Scalar && typ != ""
	if !known {
		// Of an enum, an array or the like; but not of a domain, whose modifier a cast applies.
		if typ = c.Carried.Type; !c.Carried.Text || a.env.Schema.Carried[c.Type] != c.Carried {
			return false
		}
	}
	for _, n := range values {
		if d := n.GetSetToDefault(); d != nil {
			at := a.tokenAt(d.Location)
			if at < 0 || c.HasDefault || c.Generated {
				return false
			}
			a.casts = append(a.casts, edit{a.between(at, at+1), own("CAST(NULL AS " + typ + ")")})
			continue
		}
		bare := untyped(n) || n.GetParamRef() != nil && a.paramType(n.GetParamRef()) == 0
		r, ok := a.exprText(n)
		switch {
		case !ok, bare && c.Type == oidInterval: // whose modifier says how a string is read
			return false
		case known, bare:
			a.casts = append(a.casts, edit{byteRange{r.start, r.start}, own("CAST(")}, edit{byteRange{r.end, r.end}, own(" AS " + typ + ")")})
		}
	}
	return true
}

// castRows is the text of a VALUES list, at a place in the statement's, with its casts.
func (a *analysis) castRows(r byteRange, out *InsertSelect) *Refusal {
	q, ok := a.edited(r, a.casts)
	if !ok || slices.ContainsFunc(q, func(p Piece) bool { return p.Clock }) {
		return unsupported("the rows of this INSERT can't be divided", "Insert them one by one.")
	}
	out.Own = a.sample(q)
	var sc sqltext.Scanner
	_, lits, err := sc.Normalize([]byte(out.Own))
	if err != nil {
		return unsupported(err.Error(), "Insert the rows one by one.")
	}
	out.OwnLiterals = slices.Clone(lits)
	a.textSpecific = true
	return nil
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
