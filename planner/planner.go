package planner

import (
	"errors"
	"runtime/debug"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/pganalyze/pg_query_go/v6/parser"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// ErrSeveral says that a text holds more than one statement: Pieces gives them.
var ErrSeveral = errors.New("several statements")

// Parsed is a text that PostgreSQL's grammar has accepted.
type Parsed struct {
	text   string
	tree   *pg.ParseResult
	limits sqltext.GuardLimits
	// names says that the names of the result's columns matter, whoever gives them.
	names bool
}

// Parse reads a text by PostgreSQL's grammar, after a guard has made sure that
// it can't exhaust the parser's stack. The error is a *Refusal.
func Parse(text string, limits sqltext.GuardLimits) (*Parsed, error) {
	if err := sqltext.Guard([]byte(text), limits); err != nil {
		return nil, &Refusal{Code: "54001", Message: "statement too complex: " + err.Error(),
			Hint: "Send the work as several smaller statements, or lists as array parameters."}
	}
	tree, err := pg.Parse(text)
	if err != nil {
		var pe *parser.Error
		if errors.As(err, &pe) {
			return nil, &Refusal{Code: syntaxCode(pe.Message), Message: pe.Message, Position: pe.Cursorpos}
		}
		return nil, &Refusal{Code: "42601", Message: "the statement can't be read: " + err.Error(),
			Hint: "Is it valid UTF-8?"}
	}
	return &Parsed{text: text, tree: tree, limits: limits}, nil
}

// syntaxCode is the SQLSTATE of one of the grammar's errors: nearly all are
// syntax errors; gram.y raises some features of its own.
func syntaxCode(message string) string {
	if strings.Contains(message, "not supported") || strings.Contains(message, "not yet implemented") || strings.Contains(message, "not implemented") {
		return "0A000"
	}
	return "42601"
}

// Statements is the number of statements in the text; 0 for white space and comments.
func (p *Parsed) Statements() int { return len(p.tree.Stmts) }

// Pieces are the texts of the single statements.
func (p *Parsed) Pieces() []string {
	var out []string
	for _, s := range p.tree.Stmts {
		t := p.text[s.StmtLocation:]
		if s.StmtLen > 0 {
			t = t[:s.StmtLen]
		}
		out = append(out, t)
	}
	return out
}

// Plan plans the text's only statement. lits are the literals of the text. The
// error is a *Refusal, or ErrSeveral.
func (p *Parsed) Plan(lits []sqltext.Literal, env *Env) (*Statement, error) {
	st, err := p.plan(lits, env, nil)
	return p.inSteps(st, err, lits, env)
}

func newAnalysis(env *Env, text string, stmt *pg.Node, lits []sqltext.Literal) *analysis {
	return &analysis{env: env, text: text, stmt: stmt, lits: lits,
		paramNodes: map[*pg.ParamRef]family{}, paramRefs: map[int][]*pg.ParamRef{},
		texts: map[*pg.Node]exprRange{}, blocks: map[*pg.SelectStmt]*block{}, columns: map[*pg.ColumnRef]column{}, entries: map[*pg.ColumnRef]*rte{}, rows: map[*pg.ColumnRef]*rte{},
		targets: map[*pg.ColumnRef]*pg.ResTarget{}}
}

// plan is Plan of a text in which views may have been expanded.
func (p *Parsed) plan(lits []sqltext.Literal, env *Env, x *expansion) (st *Statement, err error) {
	if len(p.tree.Stmts) > 1 {
		return nil, ErrSeveral
	}
	if len(p.tree.Stmts) == 0 {
		return &Statement{Node: &Control{Kind: Empty}}, nil
	}
	a := newAnalysis(env, p.text, p.tree.Stmts[0].Stmt, lits)
	a.expansion, a.names = x, p.names
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(viewsUsed); ok {
				st, err = p.planExpanded(a, env)
				return
			}
			refusal, ok := r.(*Refusal)
			if !ok {
				if env.Panicked == nil {
					panic(r)
				}
				env.Panicked(r, debug.Stack())
				refusal = &Refusal{Code: "XX000", Message: "the statement can't be planned, because of a fault in the gateway",
					Hint: "Write it in another way, and report it with what the gateway's log says."}
			}
			if a.uncertain && refusal.Code == "0A000" {
				// With the types known the key may be pinned after all.
				st, err = &Statement{NeedsParamTypes: true, Params: a.params}, nil
				return
			}
			st, err = nil, refusal
		}
	}()
	st = a.statement(p.tree.Stmts[0].Stmt)
	st.Params = a.params
	st.Writes = st.Writes || a.writes
	st.Rowless = a.stmt.GetVariableShowStmt() != nil || a.stmt.GetSelectStmt() != nil && a.seen == 0 && a.opaque == "" && !st.Writes
	st.Taints = st.Taints || a.taints
	st.HoldsSession = st.HoldsSession || a.hold
	st.SessionLock = a.sessionLock
	st.NeedsParamTypes = a.uncertain
	st.Guarded = joinsByAnd(a.stmt)
	a.asksForTime(st)
	a.ask(st)
	if a.given != nil {
		st.Asked = a.given
	}
	st.TextSpecific = st.TextSpecific || a.textSpecific
	if spans(st.Node) || a.dateFixed {
		slices.Sort(a.dated)
		st.instants = slices.Compact(a.dated)
	}
	if r := st.instantIn([]byte(p.text), lits); r != nil {
		return nil, r
	}
	return st, nil
}

// statement chooses the planner of a kind of statement.
func (a *analysis) statement(n *pg.Node) *Statement {
	switch {
	case n.GetSelectStmt() != nil:
		into := intoClause(n.GetSelectStmt())
		if into == nil {
			a.selects = true
			node := a.selectStmt(n)
			return &Statement{Node: node, Returning: len(a.items) > 0}
		}
		st := &Statement{Node: a.selectInto(n, into), SchemaChange: true}
		if a.temporary(into.Rel) {
			st = temporaryIn(st, into.Rel)
		}
		return st
	case n.GetInsertStmt() != nil:
		return &Statement{Node: a.insert(n), Writes: true, Returning: len(n.GetInsertStmt().ReturningList) > 0}
	case n.GetUpdateStmt() != nil:
		u := n.GetUpdateStmt()
		return &Statement{Node: a.change(n, u.Relation, u.FromClause, u.WhereClause, u.TargetList, u.ReturningList, u.WithClause), Writes: true,
			Returning: len(u.ReturningList) > 0}
	case n.GetDeleteStmt() != nil:
		d := n.GetDeleteStmt()
		return &Statement{Node: a.change(n, d.Relation, d.UsingClause, d.WhereClause, nil, d.ReturningList, d.WithClause), Writes: true,
			Returning: len(d.ReturningList) > 0}
	case n.GetMergeStmt() != nil:
		return &Statement{Node: a.merge(n), Writes: true, Returning: len(n.GetMergeStmt().ReturningList) > 0}
	}
	st := a.utility(n)
	st.TextSpecific = true
	return st
}

// temporary says whether a CREATE makes a relation of the session's own.
func (a *analysis) temporary(rv *pg.RangeVar) bool {
	schema := rv.Schemaname
	if schema == "" {
		schema = a.env.creationSchema()
	}
	return rv.Relpersistence == "t" || strings.HasPrefix(schema, "pg_temp")
}

// temporaryIn marks a statement that makes a temporary relation: the schema that
// others see stays as it is.
func temporaryIn(st *Statement, rv *pg.RangeVar) *Statement {
	st.SchemaChange, st.HoldsSession, st.TempTable = false, true, rv.Relname
	return st
}
