package planner

import pg "github.com/pganalyze/pg_query_go/v6"

// Statements that do something with a query's rows: COPY (query) TO and DECLARE
// CURSOR. Over several shards the rows are brought together, and the client's
// statement is run over them.

// declare plans DECLARE CURSOR.
func (a *analysis) declare(d *pg.DeclareCursorStmt) *Statement {
	const cursorOptHold = 0x0020 // parsenodes.h
	hold := d.Options&cursorOptHold != 0
	over := func(n Node) (Node, *Refusal) {
		if len(a.locks) > 0 && hold {
			return &Route{Place: Home}, nil // PostgreSQL refuses it
		}
		if len(a.locks) > 0 {
			return nil, unsupported("a cursor FOR UPDATE or SHARE over several shards is not supported", "Leave FOR UPDATE out, and lock the rows by a statement of their own.")
		}
		g, r := a.around(d.Query, n, a.declaredQuery(), unsupported("a cursor for this query over several shards is not supported", "Fetch the rows with a plain SELECT, or pin the tables to one key."))
		if r != nil {
			return nil, r
		}
		g.Declares = d.Portalname
		return g, nil
	}
	a.names, a.held = true, hold
	st := a.statement(d.Query)
	a.eachPlan(st, over)
	st.HoldsSession, st.Cursor = hold, d.Portalname
	return st
}

// copyQuery plans COPY (query) TO STDOUT.
func (a *analysis) copyQuery(c *pg.CopyStmt) *Statement {
	a.names = true
	st := a.statement(c.Query)
	if a.env.Shards > 1 && (c.Filename != "" || c.IsProgram) && (len(a.leaves) > 0 || len(a.refs) > 0) {
		refuse(unsupported("COPY of distributed tables to a server's file or program is not supported", "Use COPY ... TO STDOUT (\\copy in psql)."))
	}
	if a.params > 0 {
		a.params = 0 // PostgreSQL says that COPY takes none
		return &Statement{Node: &Route{Place: Home}}
	}
	a.eachPlan(st, func(n Node) (Node, *Refusal) {
		if s, ok := n.(*Scatter); ok && s.Merge == Concat {
			format := a.copyFormat(c)
			if format.Binary {
				return nil, unsupported("COPY of a query in binary format over several shards is not supported yet", "Use the text or CSV format, or copy the table.")
			}
			return &CopyOut{Header: format.Header, Pins: s.Pins}, nil
		}
		g, r := a.around(c.Query, n, a.copiedQuery(), unsupported("COPY of this query over several shards is not supported yet", "Pin the tables to one key, or copy the tables one by one."))
		if r != nil {
			return nil, r
		}
		if a.absent != nil {
			return nil, a.unknownRelation(a.absent)
		}
		if name := a.sessionRelation(); name != "" {
			return nil, unsupported("COPY of rows of a distributed table together with the system or temporary relation "+name+" is not supported yet", "Copy the two separately, or use a plain SELECT.")
		}
		if g.Inside != Anywhere {
			return nil, unsupported("a function that may change rows or read the time can't be called in COPY of rows of several shards", "Declare the function IMMUTABLE if it does neither.")
		}
		g.InTables = true
		return g, nil
	})
	return st
}

// eachPlan puts another plan in the place of one for several shards.
func (a *analysis) eachPlan(st *Statement, over func(Node) (Node, *Refusal)) {
	route, ok := st.Node.(*Route)
	switch {
	case !ok:
		n, r := over(st.Node)
		if r != nil {
			refuse(r)
		}
		st.Node = n
	case route.Else != nil:
		route.Else, route.Refusal = over(route.Else)
	}
}

// around makes a plan for a query one of the statement around it. The query is at a
// place in the statement's text. why is the refusal of other plans.
func (a *analysis) around(query *pg.Node, n Node, place byteRange, why *Refusal) (*Gather, *Refusal) {
	if len(a.items) > 0 {
		return nil, why
	}
	if _, ok := n.(*Scatter); ok {
		var r *Refusal
		if n, r = a.gather(query, why); r != nil {
			return nil, r
		}
	}
	g, ok := n.(*Gather)
	if !ok || g.Target != nil || place.end <= place.start {
		return nil, why
	}
	g.Query = a.verbatim(place)
	return g, nil
}

// clientsQuery puts the query in the client's own text in the place of that in a text
// with views' definitions.
func (a *analysis) clientsQuery(n Node) {
	switch n := n.(type) {
	case *Route:
		a.clientsQuery(n.Else)
	case *Gather:
		if n.Query == nil {
			return
		}
		place := a.copiedQuery
		if n.Declares != "" {
			place = a.declaredQuery
		}
		n.Query = a.verbatim(place())
	}
}

// copiedQuery is the place of the query in COPY (query) TO.
func (a *analysis) copiedQuery() byteRange {
	if a.tokens(); !a.is(1, '(') {
		return byteRange{}
	}
	end := a.closing(1)
	if end < 0 {
		return byteRange{}
	}
	return byteRange{int(a.toks[1].End), int(a.toks[end].Start)}
}

// declaredQuery is the place of the query in DECLARE name CURSOR FOR query.
func (a *analysis) declaredQuery() byteRange {
	for i := range a.tokens() {
		if a.keyword(i, "for") {
			return byteRange{int(a.toks[i].End), len(a.text)}
		}
	}
	return byteRange{}
}
