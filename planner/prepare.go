package planner

import (
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// PREPARE and EXECUTE as SQL statements. The session keeps what they are about beside the
// prepared statements of the protocol, with which they share the names, and plans it as a
// text of its own.

// NamedText says where a PREPARE, or the EXECUTE in a statement, has its parts: in bytes of
// the text, which the plan is for.
type NamedText struct {
	Start   int // where EXECUTE begins
	NameEnd int // behind the name: types or arguments follow
	Query   int // of PREPARE, where its statement begins
	End     int // behind it all
	// Arguments are those of EXECUTE. Inside says that it is a part of another statement.
	Arguments []Argument
	Inside    bool
}

// Argument of EXECUTE. Known says that it is NULL, or a string or an integer, whose text is
// Text.
type Argument struct {
	Known, Null bool
	Text        string
}

// known is the number of arguments that are known.
func (n *NamedText) known() (known int) {
	for _, a := range n.Arguments {
		if a.Known {
			known++
		}
	}
	return known
}

// prepare plans PREPARE.
func (a *analysis) prepare(p *pg.PrepareStmt) *Statement {
	if len(a.tokens()) < 4 {
		refuse(undivided())
	}
	as := 2
	if a.is(as, '(') {
		as = a.closing(as) + 1
	}
	if !a.keyword(as, "as") || as+1 >= len(a.toks) {
		refuse(undivided())
	}
	return &Statement{Node: &Control{Kind: Prepare, Tag: "PREPARE", Name: p.Name,
		Named: &NamedText{Start: int(a.toks[0].Start), NameEnd: int(a.toks[1].End), Query: int(a.toks[as+1].Start), End: int(a.toks[a.textEnd()-1].End)}}}
}

// execute plans EXECUTE, which begins with token i. inside says that it is a part of EXPLAIN
// or CREATE TABLE AS.
func (a *analysis) execute(e *pg.ExecuteStmt, i int, inside bool) *Statement {
	if i < 0 || i+1 >= len(a.toks) || !a.keyword(i, "execute") {
		refuse(undivided())
	}
	named := &NamedText{Start: int(a.toks[i].Start), NameEnd: int(a.toks[i+1].End), End: int(a.toks[i+1].End), Inside: inside}
	if next := i + 2; a.is(next, '(') {
		named.End = int(a.toks[a.closing(next)].End)
	} else if next < len(a.toks) && !a.is(next, ';') && !a.keyword(next, "with") {
		refuse(undivided())
	}
	for _, x := range e.Params {
		a.expr(x, &level{}, nil)
		named.Arguments = append(named.Arguments, argument(x))
	}
	switch {
	case a.opaque != "":
		refuse(readsBehind(a.opaque))
	case a.tells || a.clock != "":
		refuse(unsupported("the time of the transaction is not supported as an argument of EXECUTE", "Ask for the time in the prepared statement."))
	case a.unknown != "":
		refuse(unknownFunction(a.unknown))
	case a.changes || a.taints || a.hold:
		refuse(unsupported("a function that may change something is not supported as an argument of EXECUTE", "Call it in a statement of its own, and pass the result."))
	}
	return &Statement{Node: &Control{Kind: Execute, Tag: "EXECUTE", Name: e.Name, Named: named}}
}

// executeIn is where EXECUTE begins in CREATE TABLE AS, or -1.
func (a *analysis) executeIn() int {
	for i := range a.tokens() {
		if a.keyword(i, "execute") && a.keyword(i-1, "as") {
			return i
		}
	}
	return -1
}

// argument reads an argument of EXECUTE.
func argument(n *pg.Node) Argument {
	c := n.GetAConst()
	switch {
	case c.GetIsnull():
		return Argument{Known: true, Null: true}
	case c.GetSval() != nil:
		return Argument{Known: true, Text: c.GetSval().Sval}
	case c.GetIval() != nil:
		return Argument{Known: true, Text: strconv.Itoa(int(c.GetIval().Ival))}
	}
	return Argument{}
}
