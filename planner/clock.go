package planner

import (
	"slices"
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A transaction has one time on one PostgreSQL, and another on each of several
// shards. Where a Gather's text asks for it, the one time of the home shard is put in
// its place.

// clockTypes are the types of what the functions without parentheses give: the
// transaction's time cast to that.
var clockTypes = map[pg.SQLValueFunctionOp]string{
	pg.SQLValueFunctionOp_SVFOP_CURRENT_DATE: "date", pg.SQLValueFunctionOp_SVFOP_CURRENT_TIME: "timetz",
	pg.SQLValueFunctionOp_SVFOP_CURRENT_TIME_N: "timetz", pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP: "timestamptz",
	pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP_N: "timestamptz", pg.SQLValueFunctionOp_SVFOP_LOCALTIME: "time",
	pg.SQLValueFunctionOp_SVFOP_LOCALTIME_N: "time", pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP: "timestamp",
	pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP_N: "timestamp",
}

// transactionTime says whether a call gives the time of the transaction.
func (a *analysis) transactionTime(f *pg.FuncCall) bool {
	name := a.builtin(f)
	return (name == "now" || name == "transaction_timestamp") && len(f.Args) == 0
}

// clockEdits finds what asks for the transaction's time in a statement.
func (a *analysis) clockEdits(n *pg.Node) []edit {
	var out []edit
	eachMessageBelow(n, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.FuncCall:
			if !a.transactionTime(v) {
				return
			}
			first := a.tokenAt(v.Location)
			if first < 0 {
				return
			}
			if open := a.nameEnd(first); a.is(open, '(') && a.is(open+1, ')') {
				out = append(out, a.clockEdit(first, open+1, "timestamptz", -1))
			}
		case *pg.SQLValueFunction:
			t, ok := clockTypes[v.Op]
			first := a.tokenAt(v.Location)
			if !ok || first < 0 {
				return
			}
			last := first
			if v.Typmod >= 0 {
				a.textSpecific = true // the precision is a literal
				if last = a.closing(first + 1); last < 0 {
					return
				}
			}
			out = append(out, a.clockEdit(first, last, t, v.Typmod))
		}
	})
	return out
}

func (a *analysis) clockEdit(first, last int, t string, typmod int32) edit {
	t = "pg_catalog." + t
	if typmod >= 0 {
		t += "(" + strconv.Itoa(int(typmod)) + ")"
	}
	with := SQL{{Own: "('"}, {Clock: true}, {Own: "'::pg_catalog.timestamptz::" + t + ")"}}
	return edit{a.between(first, last+1), with}
}

// replaceClocks has span put the transaction's time in the place of what asks for it, and
// make other edits of the kind.
func (a *analysis) replaceClocks(n *pg.Node, more ...edit) {
	a.clocks = append(a.clockEdits(n), more...)
	slices.SortFunc(a.clocks, func(x, y edit) int { return x.start - y.start })
}

// replacesClock says whether the node at a place is replaced by clockEdits.
func (a *analysis) replacesClock(location int32) bool {
	return slices.ContainsFunc(a.clocks, func(e edit) bool { return e.start == int(location) })
}
