package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A subquery without sharded tables is run by one PostgreSQL once (or gives the
// same for the same outer row), and by the gateway once on each shard. It is only
// the same thing if the answer follows from the rows: not from their order, a
// sample of them, or a volatile function. The same holds for the copies of a
// reference table, which must not drift apart.

// perhapsUnstable looks at a subquery without sharded tables.
func (a *analysis) perhapsUnstable(sel *pg.SelectStmt) {
	switch {
	case sel.LimitCount != nil, sel.LimitOffset != nil:
		a.notStable("LIMIT or OFFSET")
	case len(sel.DistinctClause) > 0 && sel.DistinctClause[0].GetNode() != nil:
		a.notStable("DISTINCT ON")
	}
}

// orderFree are the aggregates whose result does not depend on the order of
// their input, whatever its type.
var orderFree = set("count", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor")

// exactTypes are the types whose sums and averages don't depend on the order:
// int2, int4, int8, numeric, money, interval.
var exactTypes = []uint32{21, 23, oidInt8, 1700, 790, 1186}

// sharedCall looks at a call in a subquery without sharded tables.
func (a *analysis) sharedCall(f *pg.FuncCall, lvl *level) {
	name := unqualified(f.Funcname)
	switch {
	case !a.shared:
	case a.env.Schema.functions[name].Volatility == Volatile:
		a.notStable(name + "()")
	case f.Over != nil:
		a.notStable("a window function")
	case a.orderMatters(f, lvl):
		a.notStable("the order of rows in " + name + "()")
	}
}

// orderMatters says whether a call is an aggregate whose result may depend on the order of
// rows.
func (a *analysis) orderMatters(f *pg.FuncCall, lvl *level) bool {
	name := unqualified(f.Funcname)
	switch {
	case !a.aggregate(f) || orderFree[name] && len(f.Funcname) == 1 && !a.env.Schema.functions[name].User:
		return false
	case (name == "sum" || name == "avg") && len(f.Args) == 1:
		c, ok := a.column(f.Args[0], lvl)
		return !ok || !slices.Contains(exactTypes, c.rte.table.Columns[c.n].Type)
	}
	return true
}

// aggregateLevel notes an aggregate in a subquery that may be one of a query
// around it: PostgreSQL takes it for one when its arguments have columns of outer
// levels only. It would then run over the rows of each shard.
func (a *analysis) aggregateLevel(f *pg.FuncCall, lvl *level) {
	a.sharedCall(f, lvl)
	if lvl.parent == nil || !a.aggregate(f) {
		return
	}
	columns, own := 0, false
	eachMessage(f.ProtoReflect(), func(m protoreflect.Message) {
		ref, ok := m.Interface().(*pg.ColumnRef)
		if !ok {
			return
		}
		columns++
		n := len(ref.Fields)
		if n == 1 {
			c, ok := among(lvl.rtes, str(ref.Fields[0]))
			own = own || ok && c.rte != nil
		} else if n > 1 {
			own = own || slices.ContainsFunc(lvl.rtes, func(e *rte) bool { return e.name == str(ref.Fields[n-2]) })
		}
	})
	a.outerAgg = a.outerAgg || columns > 0 && !own
}

// systemColumns mean something else on each shard.
var systemColumns = set("ctid", "tableoid", "xmin", "xmax", "cmin", "cmax")

// comparesXmax says whether an expression compares xmax with a constant, and whether by = or
// <> with 0: in the RETURNING of an INSERT, that tells a new row from one that ON CONFLICT has
// updated, on any shard.
func comparesXmax(e *pg.A_Expr) (compares, isNew bool) {
	c := e.Rexpr.GetAConst()
	if e.Kind != pg.A_Expr_Kind_AEXPR_OP || len(e.Name) != 1 || c == nil || unqualified(e.Lexpr.GetColumnRef().GetFields()) != "xmax" {
		return false, false
	}
	zero := c.GetIval() != nil && c.GetIval().Ival == 0 || c.GetSval().GetSval() == "0"
	return true, zero && (str(e.Name[0]) == "=" || str(e.Name[0]) == "<>")
}

func (a *analysis) systemColumn(c *pg.ColumnRef) {
	if name := unqualified(c.Fields); systemColumns[name] {
		a.shardOwn = "the system column " + name
	}
}

// notStable notes what gives other rows on each shard.
func (a *analysis) notStable(what string) {
	a.unstable = what
	if a.block != nil {
		a.block.unstable = what
	}
}
