package planner

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// Explain shows how a statement over sharded tables is run: the gateway's plan, and
// with it PostgreSQL's own on the shards. Of what uses no sharded table, EXPLAIN is
// PostgreSQL's own.
type Explain struct {
	Of *Statement
	// Start is where the statement begins in the text, in bytes. The plan of an
	// EXPLAIN holds for its very text.
	Start int
	// Analyze says that the statement is run, Verbose that the plans of all shards
	// are shown, and not of one.
	Analyze, Verbose bool
	// Timing and Summary say whether times are told, as PostgreSQL's options do.
	Timing, Summary bool
	Format          ExplainFormat
	// Head is EXPLAIN with its options, to stand before a statement. PlanHead is
	// the same without those that have the statement run.
	Head, PlanHead string
}

// ExplainFormat is the format of the answer.
type ExplainFormat uint8

const (
	ExplainText ExplainFormat = iota
	ExplainJSON
	ExplainXML
	ExplainYAML
)

func (*Explain) isNode() {}

// Statement is the text of the statement that is explained, with its literals; for one
// with views over sharded tables, the text that its plan is about.
func (e *Explain) Statement(text []byte, lits []sqltext.Literal) ([]byte, []sqltext.Literal) {
	var own []sqltext.Literal
	for _, l := range lits {
		if int(l.Start) >= e.Start {
			own = append(own, sqltext.Literal{Kind: l.Kind, Start: l.Start - int32(e.Start), End: l.End - int32(e.Start)})
		}
	}
	if e.Of == nil {
		return text[e.Start:], own
	}
	return e.Of.Source(text[e.Start:], own)
}

// explain plans EXPLAIN. The statement in it is planned as a text of its own.
func (a *analysis) explain(e *pg.ExplainStmt) *Statement {
	x := &Explain{Start: a.explained(e)}
	x.options(e.Options)
	x.Of = a.planExplained(x)
	if x.Of.Asked != nil && len(x.Of.Asked.IDs) == 0 {
		refuse(givenInside())
	}
	a.asks = x.Of.Asked != nil
	st := &Statement{Node: x}
	if x.Of.Cursor != "" {
		no := unsupported("EXPLAIN of a cursor over several shards is not supported", "Explain its query.")
		if _, ok := x.Of.Node.(*Gather); ok {
			refuse(no)
		} else if route, ok := x.Of.Node.(*Route); ok && route.Else != nil {
			route.Else, route.Refusal = nil, no
		}
	}
	if x.Analyze {
		st.Writes, st.Taints = x.Of.Writes, x.Of.Taints
	}
	switch n := x.Of.Node.(type) {
	case *Route:
		if n.Place == Pinned {
			return st
		}
		st.Node = n
		if x.Analyze && x.Of.Cursor == "" {
			st.SchemaChange, st.HoldsSession, st.TempTable = x.Of.SchemaChange, x.Of.HoldsSession, x.Of.TempTable
		}
	case *Scatter, *Ordered, *Gather, *Broadcast, *Split, *Move, *InsertSelect, *Steps:
	case *CreateAs:
		refuse(unsupported("EXPLAIN of a statement that makes a table of rows of several shards is not supported yet", "Explain its query."))
	default: // set_config
		if x.Analyze {
			refuse(unsupported("EXPLAIN ANALYZE of a change of settings is not supported", "Leave ANALYZE out."))
		}
		st.Node = &Route{Place: Home}
	}
	return st
}

// planExplained plans the statement of an EXPLAIN.
func (a *analysis) planExplained(x *Explain) *Statement {
	text := a.text[x.Start:]
	tree, err := pg.Parse(text)
	if err != nil || len(tree.Stmts) != 1 {
		refuse(unsupported("the statement of this EXPLAIN can't be found in the text", "Write it in another way."))
	}
	_, lits := x.Statement([]byte(a.text), a.lits)
	st, err := (&Parsed{text: text, tree: tree}).Plan(lits, a.env)
	var r *Refusal
	switch {
	case errors.As(err, &r):
		own := *r
		if own.Position > 0 {
			own.Position += utf8.RuneCountInString(a.text[:x.Start])
		}
		refuse(&own)
	case err != nil:
		refuse(unsupported("this statement can't be explained: "+err.Error(), "Explain its parts."))
	}
	a.params, a.uncertain = st.Params, st.NeedsParamTypes
	if st.Node == nil {
		refuse(unsupported("the types of the statement's parameters decide how it is run", "Declare them: $1::type."))
	}
	return st
}

// explained is where the statement begins: behind EXPLAIN and its options.
func (a *analysis) explained(e *pg.ExplainStmt) int {
	toks := a.tokens()
	i := 1
	switch {
	case len(toks) < 3:
		refuse(undivided())
	case len(e.Options) == 0: // a parenthesis is the statement's
	case a.is(i, '('):
		i = a.closing(i) + 1
	default:
		for a.keyword(i, "analyze") || a.keyword(i, "analyse") || a.keyword(i, "verbose") {
			i++
		}
	}
	if i <= 0 || i >= len(toks) {
		refuse(unsupported("the statement of this EXPLAIN can't be found in the text", "Write it in another way."))
	}
	return int(toks[i].Start)
}

// options reads the options. What they may be and what goes together is PostgreSQL's
// to say, on the shards.
func (x *Explain) options(options []*pg.Node) {
	timing, summary := true, true
	var all, planned []string
	for _, o := range options {
		d := o.GetDefElem()
		on := explainSwitch(d.Arg)
		runs := false
		switch d.Defname {
		case "analyze":
			x.Analyze, runs = on, true
		case "verbose":
			x.Verbose = on
		case "timing":
			timing, runs = on, true
		case "wal", "serialize":
			runs = true
		case "summary":
			summary = on
		case "format":
			x.Format = explainFormats[strings.ToLower(d.Arg.GetString_().GetSval())]
		}
		option := QuoteIdent(d.Defname) + explainValue(d.Arg)
		all = append(all, option)
		if !runs {
			planned = append(planned, option)
		}
	}
	x.Timing, x.Summary = x.Analyze && timing, x.Analyze && summary
	x.Head = explainHead(all)
	if x.PlanHead = x.Head; x.Analyze {
		x.PlanHead = explainHead(planned)
	}
}

func explainHead(options []string) string {
	if len(options) == 0 {
		return "EXPLAIN "
	}
	return "EXPLAIN (" + strings.Join(options, ", ") + ") "
}

// explainFormats: a format that PostgreSQL doesn't know is one that it refuses.
var explainFormats = map[string]ExplainFormat{"json": ExplainJSON, "xml": ExplainXML, "yaml": ExplainYAML}

// explainSwitch is the value of an option as defGetBoolean in PostgreSQL's define.c
// reads it.
func explainSwitch(arg *pg.Node) bool {
	if i := arg.GetInteger(); i != nil {
		return i.Ival != 0
	}
	s := strings.ToLower(arg.GetString_().GetSval())
	return s != "false" && s != "off"
}

// explainValue writes an option's value as SQL.
func explainValue(arg *pg.Node) string {
	switch {
	case arg == nil:
		return ""
	case arg.GetInteger() != nil:
		return " " + strconv.Itoa(int(arg.GetInteger().Ival))
	case arg.GetFloat() != nil:
		return " " + arg.GetFloat().Fval
	}
	return " " + QuoteLiteral(arg.GetString_().GetSval())
}

// RenderExplained renders a plan for people, with lines of what is known of it when it
// is explained: parts are those about a Gather's parts or about Steps, final is about its
// final statement, or about a plan of another kind. Of an InsertSelect they are about its
// query.
func RenderExplained(n Node, text []byte, lits []sqltext.Literal, parts [][]string, final []string) string {
	r := renderer{text: text, lits: lits, explained: true, parts: parts, final: final}
	r.noted(n)
	return strings.TrimSuffix(r.String(), "\n")
}

// noted renders a plan with what is known of it.
func (r *renderer) noted(n Node) {
	r.node(n)
	switch n.(type) {
	case *Gather, *InsertSelect:
	default:
		r.below(func() { r.notes(r.final) })
	}
}

func (r *renderer) notes(lines []string) {
	for _, l := range lines {
		r.line("%s", l)
	}
}

// value renders a value: for people, a literal as it is in the text.
func (r *renderer) value(v Value) string {
	if v.Source == Computed {
		return r.sql(v.Expr.SQL)
	}
	if !r.explained || v.Source != FromLiteral || v.Index >= len(r.lits) {
		return v.String()
	}
	l := r.lits[v.Index]
	return when(v.Negative, "-") + string(r.text[l.Start:l.End])
}

func (r *renderer) explain(x *Explain) {
	r.line("Explain%s%s%s", when(x.Analyze, ", analyze"), when(x.Verbose, ", verbose"),
		[...]string{ExplainText: "", ExplainJSON: ", json", ExplainXML: ", xml", ExplainYAML: ", yaml"}[x.Format])
	text, lits := r.text, r.lits
	if text != nil {
		r.text, r.lits = x.Statement(text, lits)
	}
	r.below(func() { r.node(x.Of.Node) })
	r.text, r.lits = text, lits
}
