package planner

import (
	"cmp"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Asked is what has to be known before a statement is planned, and then run, by Text: the
// answers to the calls of shardgate.transaction_status in it, which the gateway gives, or
// defaults of an INSERT, which the home shard computes.
type Asked struct {
	// Defaults are those of an INSERT's rows: there are no IDs then, and part i+1 is the
	// value of Defaults[i].
	Defaults []AskedDefault
	// IDs are SQL for what each call is about, of constants and parameters alone.
	IDs []SQL
	// Text is the statement's text without the calls. Part i+1 is the answer to the call
	// about IDs[i], or NULL; its type, its column's name and the parameters are the same
	// with any.
	Text SQL
}

const statusFunction = "transaction_status"

// asksStatus says whether a call is for the gateway to answer.
func asksStatus(f *pg.FuncCall) bool {
	return len(f.Funcname) == 2 && str(f.Funcname[0]) == gatewaySchema && str(f.Funcname[1]) == statusFunction
}

// ask finds the statement's calls that the gateway answers, if it has any.
func (a *analysis) ask(st *Statement) {
	if !a.asks {
		return
	}
	if !st.Rowless || a.stmt.GetSelectStmt() == nil {
		refuse(unsupported("shardgate.transaction_status is only answered in a SELECT that reads no tables", "Ask by a statement of its own."))
	}
	var calls []*pg.FuncCall
	eachMessageBelow(a.stmt, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.RangeFunction:
			for _, f := range v.Functions {
				if call := f.GetList().GetItems()[0].GetFuncCall(); call != nil && asksStatus(call) {
					refuse(&Refusal{Code: "0A000", Message: "shardgate.transaction_status is not answered in FROM",
						Hint: "Write SELECT shardgate.transaction_status('...').", Position: a.position(call.Location)})
				}
			}
		case *pg.FuncCall:
			if asksStatus(v) {
				calls = append(calls, v)
			}
		}
	})
	slices.SortFunc(calls, func(x, y *pg.FuncCall) int { return cmp.Compare(x.Location, y.Location) })
	out := &Asked{}
	var edits []edit
	for _, call := range calls {
		id, r := a.askedID(call)
		out.IDs = append(out.IDs, id)
		with := append(append(own("(SELECT CASE WHEN ("), id...), Piece{Own: ")::pg_catalog.text IS NOT NULL THEN "},
			Piece{Part: len(out.IDs)}, Piece{Own: "::pg_catalog.text END AS " + statusFunction + ")"})
		edits = append(edits, edit{r, with})
	}
	var ok bool
	if out.Text, ok = a.edited(byteRange{0, len(a.text)}, edits); !ok {
		refuse(unsupported("calls of shardgate.transaction_status within each other are not supported", "Ask by a statement for each."))
	}
	st.Asked = out
}

// askedID is what a call is about, and where in the text the call is.
func (a *analysis) askedID(f *pg.FuncCall) (SQL, byteRange) {
	if len(f.Args) != 1 || f.AggStar || f.AggDistinct || f.Over != nil || f.AggFilter != nil || len(f.AggOrder) > 0 || f.FuncVariadic || f.Args[0].GetNamedArgExpr() != nil {
		refuse(&Refusal{Code: "42883", Message: "shardgate.transaction_status takes one argument, the id of a transaction", Position: a.position(f.Location)})
	}
	if !a.fixed(f.Args[0]) {
		refuse(&Refusal{Code: "0A000", Message: "the argument of shardgate.transaction_status has to be known before the statement runs",
			Hint: "Give it the id as a constant or a parameter.", Position: a.position(f.Location)})
	}
	first := a.tokenAt(f.Location)
	open := a.nameEnd(first)
	last := -1
	if first >= 0 && a.is(open, '(') {
		last = a.closing(open)
	}
	if last < open+2 || a.keyword(open+1, "all") {
		refuse(unsupported("this call of shardgate.transaction_status can't be found in the text", "Write it in another way."))
	}
	return a.verbatim(byteRange{int(a.toks[open+1].Start), int(a.toks[last-1].End)}), byteRange{int(a.toks[first].Start), int(a.toks[last].End)}
}

// Answers write a text of an Asked.
type Answers []string // an SQL literal for each call

func (v Answers) AppendSource(dst []byte, part int) []byte { return append(dst, v[part]...) }

func (Answers) AppendCast(dst []byte, _, _ int) []byte { return dst }

func (Answers) AppendKeys(dst []byte, _ string, _, _ int) []byte { return dst }

func (Answers) AppendClock(dst []byte) []byte { return dst }

// NoAnswers write a text of the same shape before anything is known.
func (a *Asked) NoAnswers() Answers {
	if len(a.IDs) == 0 {
		var out Answers
		for _, d := range a.Defaults {
			out = append(out, d.Sample)
		}
		return out
	}
	return Answers(strings.Split(strings.Repeat("NULL,", len(a.IDs)-1)+"NULL", ","))
}
