package planner

import (
	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// CREATE TABLE AS and SELECT INTO make a table on the home shard. Where their query
// reads sharded tables, it is a statement of its own: its rows come to the gateway, and
// go to the table by COPY, which takes them as they are, whatever their types.

// CreateAs makes a local table of the rows of a query. All of it is in one transaction.
type CreateAs struct {
	// Source is the client's query, and Query its plan.
	Source SQL
	Query  *Statement
	// Create makes the table without rows, by the client's own query.
	Create SQL
	// Exists is a query that gives a row if there is such a relation already. Then the
	// client's statement is PostgreSQL's to answer: the query is not run.
	Exists string
	// Table is the new table's name, qualified.
	Table string
}

func (*CreateAs) isNode() {}

// createTableAs plans CREATE TABLE AS and CREATE MATERIALIZED VIEW.
func (a *analysis) createTableAs(c *pg.CreateTableAsStmt) *Statement {
	a.notDistributed(c.Into.Rel, "CREATE TABLE AS")
	sel := c.Query.GetSelectStmt()
	if sel == nil {
		refuse(unsupported("CREATE TABLE AS EXECUTE is not supported", "Write the query in place."))
	}
	a.selects = c.Objtype == pg.ObjectType_OBJECT_TABLE
	a.query(sel, nil, nil)
	a.complete(c.Query)
	st := atHome()
	if a.temporary(c.Into.Rel) {
		st = temporaryIn(st, c.Into.Rel)
	}
	switch {
	case a.onHome():
	case c.Objtype != pg.ObjectType_OBJECT_TABLE:
		refuse(unsupported("a materialized view over a sharded table is not supported yet", "Create a view, or a table by CREATE TABLE AS."))
	case !c.Into.SkipData: // without rows, the home shard has all that it takes
		st.Node = a.createAs(c.Into.Rel, a.createdAs(c))
	}
	return st
}

// onHome says whether the home shard has all that a query reads.
func (a *analysis) onHome() bool {
	return a.env.Shards == 1 || len(a.leaves)+len(a.views) == 0 && a.opaque == "" && (a.nestedDML == "" || len(a.refs) == 0 && !a.mixed)
}

// selectInto plans SELECT INTO.
func (a *analysis) selectInto(n *pg.Node, into *pg.IntoClause) Node {
	a.selects = true
	a.query(n.GetSelectStmt(), nil, nil)
	a.complete(n)
	if a.onHome() {
		return &Route{Place: Home}
	}
	return a.createAs(into.Rel, a.selectedInto(n, into.Rel))
}

// intoClause is that of a SELECT; in a set operation, it is of the first one.
func intoClause(sel *pg.SelectStmt) *pg.IntoClause {
	for sel.Larg != nil {
		sel = sel.Larg
	}
	return sel.IntoClause
}

// createdAs divides the text of CREATE TABLE name AS query.
func (a *analysis) createdAs(c *pg.CreateTableAsStmt) *CreateAs {
	end := a.textEnd()
	if a.keyword(end-1, "data") && a.keyword(end-2, "with") {
		end -= 2
	}
	for i := a.tokenAt(c.Into.Rel.Location); i >= 0 && i+1 < end; i++ {
		if !a.keyword(i, "as") {
			continue
		}
		r := a.between(i+1, end)
		if readsAsStatement(a.sample(a.verbatim(r)), c.Query) {
			return &CreateAs{Source: a.verbatim(r), Create: append(a.verbatim(byteRange{0, r.end}), Piece{Own: " WITH NO DATA"})}
		}
	}
	return nil
}

// selectedInto divides the text of a SELECT with INTO name.
func (a *analysis) selectedInto(n *pg.Node, rv *pg.RangeVar) *CreateAs {
	toks, end := a.tokens(), a.textEnd()
	name := a.tokenAt(rv.Location)
	into := name
	for into >= 0 && !a.keyword(into, "into") {
		into--
	}
	if into < 0 {
		return nil
	}
	behind := a.nameEnd(name)
	source, ok := a.edited(byteRange{0, int(toks[end-1].End)}, []edit{{a.between(into, behind), nil}})
	want := proto.Clone(n).(*pg.Node)
	first := want.GetSelectStmt()
	for first.Larg != nil {
		first = first.Larg
	}
	first.IntoClause = nil
	if !ok || !readsAsStatement(a.sample(source), want) {
		return nil
	}
	create := own("CREATE " + when(rv.Relpersistence == "t", "TEMPORARY ") + when(rv.Relpersistence == "u", "UNLOGGED ") + "TABLE ")
	create = append(create, a.verbatim(a.between(name, behind))...)
	create = create.add(" AS ", source, " WITH NO DATA")
	return &CreateAs{Source: source, Create: create}
}

// textEnd is the token behind the statement's last.
func (a *analysis) textEnd() int {
	end := len(a.tokens())
	for a.is(end-1, ';') {
		end--
	}
	return end
}

// createAs plans the query, and completes the plan around it.
func (a *analysis) createAs(rv *pg.RangeVar, out *CreateAs) Node {
	if out == nil {
		refuse(unsupported("the query in this statement can't be told from the rest of its text", "Write it in another way."))
	}
	text := out.Source.Append(nil, []byte(a.text), a.lits, nil)
	var sc sqltext.Scanner
	_, lits, err := sc.Normalize(text)
	if err != nil {
		refuse(unsupported("the query in this statement can't be read by itself", "Write it in another way."))
	}
	whole, err := Parse(string(text), sqltext.GuardLimits{})
	if err == nil {
		out.Query, err = whole.Plan(lits, a.env)
	}
	if err != nil {
		r, ok := err.(*Refusal)
		if !ok {
			r = unsupported(err.Error(), "Write the query in another way.")
		}
		moved := *r
		moved.Position = 0 // in a text of its own
		refuse(&moved)
	}
	a.uncertain = a.uncertain || out.Query.NeedsParamTypes
	a.textSpecific = a.textSpecific || out.Query.TextSpecific
	if out.Query.Returning {
		refuse(nestedDML())
	}
	out.Query.Node = unmerged(out.Query.Node)
	switch out.Query.Node.(type) {
	case *Route, *Scatter, *Gather:
	default:
		refuse(unsupported("this query can't give the rows of a table", "Create the table, and insert the rows."))
	}
	if out.Query.HoldsSession {
		refuse(unsupported("a session-level advisory lock can't be taken in this statement", "Take the lock in a statement of its own."))
	}
	schema, namespace := "pg_temp", "pg_catalog.pg_my_temp_schema()"
	if !a.temporary(rv) {
		if schema = rv.Schemaname; schema == "" {
			schema = a.env.creationSchema()
		}
		namespace = "(SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = " + QuoteLiteral(schema) + ")"
	}
	out.Table = QuoteIdent(schema) + "." + QuoteIdent(rv.Relname)
	out.Exists = "SELECT FROM pg_catalog.pg_class WHERE relname = " + QuoteLiteral(rv.Relname) + " AND relnamespace = " + namespace
	return out
}

// QueryText is the query with its literals.
func (n *CreateAs) QueryText(text []byte, lits []sqltext.Literal) ([]byte, []sqltext.Literal) {
	text = n.Source.Append(nil, text, lits, nil)
	var sc sqltext.Scanner
	_, lits, _ = sc.Normalize(text)
	return text, lits
}
