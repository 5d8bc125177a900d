package planner

import (
	"bytes"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// dateTypes are the types whose input takes 'now', 'today' and the like: date,
// time, timetz, timestamp and timestamptz.
var dateTypes = []uint32{1082, 1083, 1266, 1114, 1184}

var dateNames = set("date", "time", "timetz", "timestamp", "timestamptz")

// dateText notes a string constant that is read as a date or a time.
func (a *analysis) dateText(n *pg.Node) {
	c := n.GetAConst()
	if c.GetSval() == nil {
		return
	}
	i := slices.IndexFunc(a.lits, func(l sqltext.Literal) bool { return l.Start == c.Location })
	if i >= 0 {
		a.dated = append(a.dated, i)
	}
}

// castDate notes the constant of a cast to a date or a time.
func (a *analysis) castDate(c *pg.TypeCast) {
	if dateNames[unqualified(c.TypeName.GetNames())] {
		a.dateText(c.Arg)
	}
}

// compareDate notes the constants that a comparison reads as the type of a
// column of a date or a time.
func (a *analysis) compareDate(e *pg.A_Expr, lvl *level) {
	for _, x := range [][2]*pg.Node{{e.Lexpr, e.Rexpr}, {e.Rexpr, e.Lexpr}} {
		if c, ok := a.column(x[0], lvl); ok && slices.Contains(dateTypes, c.rte.table.Columns[c.n].Type) {
			a.dateText(x[1])
			for _, item := range x[1].GetList().GetItems() {
				a.dateText(item)
			}
		}
	}
}

// storeDate notes a constant that is stored in a column of a date or a time.
func (a *analysis) storeDate(n *pg.Node, t *Table, column string) {
	if i := t.Column(column); i >= 0 && slices.Contains(dateTypes, t.Columns[i].Type) {
		a.dateText(n)
	}
}

// spans says whether a plan may run on several shards.
func spans(n Node) bool {
	switch n := n.(type) {
	case *Route:
		return n.Else != nil
	case *Scatter, *Ordered, *Broadcast, *Split, *Gather, *InsertSelect, *Move:
		return true
	case *CreateAs:
		return spans(n.Query.Node)
	}
	return false
}

var instantWords = [][]byte{[]byte("now"), []byte("today"), []byte("tomorrow"), []byte("yesterday")}

// instantIn looks at the values of literals, which a cached plan can't know: one
// that each shard would read as the time on its own clock is refused. It is asked
// for each text that runs by the plan.
func (s *Statement) instantIn(text []byte, lits []sqltext.Literal) error {
	if len(s.instants) == 0 {
		return nil
	}
	text, lits = s.Source(text, lits)
	for _, i := range s.instants {
		word := bytes.ToLower(text[lits[i].Start:lits[i].End])
		for _, w := range instantWords {
			if bytes.Contains(word, w) {
				return unsupported("the constant "+string(text[lits[i].Start:lits[i].End])+" would be another time on each shard", "Pass the time as a parameter.")
			}
		}
	}
	return nil
}
