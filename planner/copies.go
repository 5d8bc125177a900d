package planner

import (
	"fmt"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A change of a reference table is run by each shard for its own copy, where the copies
// can't but change alike. Where they could differ, because PostgreSQL may choose among rows
// or a function is volatile, the home shard alone runs the statement. It returns the rows
// that it has changed, as they are now, and the others store these.

// Copies says how the other copies of a reference table get a change that the home shard has
// made to its own.
type Copies struct {
	// Columns is how many columns the final statement returns behind those for the client:
	// the primary key's, and then those assigned.
	Columns int
	// Change is what the other shards run. Its part is the rows of these columns, whose names
	// are by MoveColumn.
	Change SQL
	// returned are the names of the columns in the table.
	returned []string
}

// copies is t.Copies, nil where there is no Target.
func (t *Target) copies() *Copies {
	if t == nil {
		return nil
	}
	return t.Copies
}

// copyRows is the name of the rows in a Copies' Change, and ownCopy that of the table.
const copyRows, ownCopy = `"shardgate rows"`, `"shardgate copy"`

// planCopies plans how the other copies of a reference table get a change. why is the reason for
// which not every shard runs it for its own.
func (a *analysis) planCopies(n *pg.Node, target *rte, why *Refusal) (*Copies, *Refusal) {
	t := target.table
	no := func(what, hint string) (*Copies, *Refusal) {
		return nil, &Refusal{Code: "0A000", Message: why.Message, Detail: "Only the home shard could run the statement, for the others to get the rows that it has changed, but " + what + ".", Hint: hint}
	}
	switch {
	case n.GetMergeStmt() != nil || a.stmt != n:
		return nil, why
	case t.Triggers:
		return no(t.String()+" has triggers, rules or row level security", why.Hint)
	case a.env.Schema.inherits(t):
		return no("the rows of tables that inherit from "+t.String()+" may have the same primary key", why.Hint)
	}
	if end := a.statementEnd(); end < 0 {
		return nil, undivided()
	}
	out := &Copies{}
	var found, set []string
	for _, c := range t.Columns {
		if c.Primary {
			found = append(found, fmt.Sprintf("%s.%s OPERATOR(pg_catalog.=) %s.%s", ownCopy, QuoteIdent(c.Name), copyRows, out.add(c.Name)))
		}
	}
	if len(found) == 0 {
		return no(t.String()+" has no primary key to find them by", "Give the table a primary key.")
	}
	for _, c := range t.Columns {
		switch {
		case c.Generated || !assigns(n.GetUpdateStmt().GetTargetList(), c.Name):
		case c.Primary:
			return no("the statement assigns the primary key, by which they are found", why.Hint)
		default:
			set = append(set, QuoteIdent(c.Name)+" = "+copyRows+"."+out.add(c.Name))
		}
	}
	for _, name := range out.returned {
		if c := t.Columns[t.Column(name)]; OwnOIDs(c.Type) || !c.Scalar && c.Carried.Type == "" {
			return no("values of column \""+name+"\" can't be brought there", why.Hint)
		}
	}
	head := "DELETE FROM " + quoteTable(t) + " AS " + ownCopy + " USING "
	if n.GetUpdateStmt() != nil {
		if len(set) == 0 {
			return nil, why
		}
		head = "UPDATE " + quoteTable(t) + " AS " + ownCopy + " SET " + strings.Join(set, ", ") + " FROM "
	}
	out.Change = SQL{{Own: head}, {Part: 1}, {Own: " AS " + copyRows + " WHERE " + strings.Join(found, " AND ")}}
	return out, nil
}

// add adds a column, and returns its name in the rows.
func (c *Copies) add(name string) string {
	c.returned = append(c.returned, name)
	c.Columns++
	return QuoteIdent(MoveColumn(c.Columns - 1))
}

// statementEnd is where the last token of the statement ends, or -1.
func (a *analysis) statementEnd() int {
	last := len(a.tokens())
	for last > 0 && a.is(last-1, ';') {
		last--
	}
	if last == 0 {
		return -1
	}
	return int(a.toks[last-1].End)
}

// returnsCopied has a statement return, behind what the client wants, the columns by which
// other copies are changed.
func (a *analysis) returnsCopied(n *pg.Node, target *rte, c *Copies) edit {
	returning := len(n.GetUpdateStmt().GetReturningList())+len(n.GetDeleteStmt().GetReturningList()) > 0
	var items []string
	for i, name := range c.returned {
		items = append(items, QuoteIdent(target.name)+"."+QuoteIdent(name)+" AS "+QuoteIdent(MoveColumn(i)))
	}
	end := a.statementEnd()
	return edit{byteRange{end, end}, own(choose(returning, ", ", " RETURNING ") + strings.Join(items, ", "))}
}

// assigns says whether a SET list assigns a column, or a part of it.
func assigns(list []*pg.Node, column string) bool {
	for _, n := range list {
		if n.GetResTarget().GetName() == column {
			return true
		}
	}
	return false
}

// inherits says whether a table may have rows of tables that inherit from it, of which none
// is a partition: each has a primary key of its own.
func (s *Schema) inherits(t *Table) bool {
	if t.root().Kind == 'p' {
		return false
	}
	for _, tables := range s.tables {
		for _, x := range tables {
			if x.Root == t.root() && (x.Kind == 'r' || x.Kind == 'f') {
				return true
			}
		}
	}
	return false
}

// copiesChoose is why UPDATE ... FROM of a reference table is not run by each shard.
func copiesChoose(t *Table) *Refusal {
	return unsupported("UPDATE ... FROM of the reference table "+t.String()+" could choose another row for each of its copies, were several to match",
		"Use a subquery in SET, which must give one row.")
}
