package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// What statements of all kinds have in common.

// withOf is the WITH clause of a statement, or nil.
func withOf(n *pg.Node) *pg.WithClause {
	switch {
	case n.GetSelectStmt() != nil:
		return n.GetSelectStmt().WithClause
	case n.GetInsertStmt() != nil:
		return n.GetInsertStmt().WithClause
	case n.GetUpdateStmt() != nil:
		return n.GetUpdateStmt().WithClause
	case n.GetDeleteStmt() != nil:
		return n.GetDeleteStmt().WithClause
	}
	return n.GetMergeStmt().GetWithClause()
}

// targetOf is the name of the table that a statement changes, or nil.
func targetOf(n *pg.Node) *pg.RangeVar {
	switch {
	case n.GetInsertStmt() != nil:
		return n.GetInsertStmt().Relation
	case n.GetUpdateStmt() != nil:
		return n.GetUpdateStmt().Relation
	case n.GetDeleteStmt() != nil:
		return n.GetDeleteStmt().Relation
	}
	return n.GetMergeStmt().GetRelation()
}

// returns says whether a statement gives rows.
func returns(n *pg.Node) bool {
	return n.GetSelectStmt() != nil || len(n.GetInsertStmt().GetReturningList())+len(n.GetUpdateStmt().GetReturningList())+
		len(n.GetDeleteStmt().GetReturningList())+len(n.GetMergeStmt().GetReturningList()) > 0
}

// verbOf is the verb of a statement's tag.
func verbOf(n *pg.Node) string {
	switch {
	case n.GetSelectStmt() != nil:
		return "SELECT"
	case n.GetInsertStmt() != nil:
		return "INSERT"
	case n.GetUpdateStmt() != nil:
		return "UPDATE"
	case n.GetDeleteStmt() != nil:
		return "DELETE"
	}
	return "MERGE"
}

// withoutWith is a statement without its WITH clause, if it has one.
func withoutWith(n *pg.Node) *pg.Node {
	n = proto.Clone(n).(*pg.Node)
	switch {
	case n.GetSelectStmt() != nil:
		n.GetSelectStmt().WithClause = nil
	case n.GetUpdateStmt() != nil:
		n.GetUpdateStmt().WithClause = nil
	case n.GetDeleteStmt() != nil:
		n.GetDeleteStmt().WithClause = nil
	case n.GetMergeStmt() != nil:
		n.GetMergeStmt().WithClause = nil
	}
	return n
}

// changesIn says whether an item of a WITH clause changes rows.
func changesIn(w *pg.WithClause) bool {
	return slices.ContainsFunc(w.Ctes, func(c *pg.Node) bool { return targetOf(c.GetCommonTableExpr().Ctequery) != nil })
}

// joinsByAnd says whether a statement has conditions joined by AND.
func joinsByAnd(n *pg.Node) (found bool) {
	eachMessageBelow(n, func(m protoMessage) {
		b, is := m.Interface().(*pg.BoolExpr)
		found = found || is && b.Boolop == pg.BoolExprType_AND_EXPR
	})
	return found
}
