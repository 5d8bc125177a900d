package planner

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Ordered asks several shards for their rows in the client's order, and merges the
// answers row by row. It is for a SELECT that would be a Scatter but for its ORDER BY, if
// the gateway can compare the keys exactly as PostgreSQL does.
type Ordered struct {
	// Query is the client's text with the keys as further columns behind its own.
	Query SQL
	Keys  []SortKey
	// Columns is the number of the client's own columns, 0 where a star leaves it open.
	Columns int
	// Pins prune the shards as in Scatter.
	Pins []Pin
	// Gathered is the same by rows that are brought together: for text that comes in another
	// encoding than the servers', by whose bytes it isn't sorted, and for an INSERT's query.
	Gathered *Gather
}

func (*Ordered) kind() string { return "Ordered" }

// SortKey is an item of ORDER BY. Type is its type's OID, one of sortTypes.
type SortKey struct {
	Type                   uint32
	Descending, NullsFirst bool
}

// Text says whether a key is text, which comes in the client's encoding.
func (k SortKey) Text() bool { return k.Type == oidText || k.Type == oidVarchar }

// sortTypes are the types whose order can be told from their binary form, by pg_type.dat. That
// of text and varchar can if the collation is C.
var sortTypes = map[uint32]string{
	16: "bool", 17: "bytea", 20: "int8", 21: "int2", 23: "int4", 25: "text", 700: "float4", 701: "float8", 1043: "varchar", 1082: "date",
	1083: "time", 1114: "timestamp", 1184: "timestamptz", 1266: "timetz", 1700: "numeric", 2950: "uuid",
}

// Sortable says whether rows can be merged by a key of a type; of text, if the collation is C.
func Sortable(oid uint32) bool { return sortTypes[oid] != "" }

const (
	oidText    = 25
	oidVarchar = 1043
)

// mergeSorted plans a SELECT with ORDER BY as a merge of the shards' answers; nil where it
// can't be one. gathered is its other plan.
func (a *analysis) mergeSorted(sel *pg.SelectStmt, gathered *Gather) (*Ordered, *leaf) {
	if len(sel.SortClause) == 0 || len(sel.TargetList) == 0 || len(sel.DistinctClause) > 0 || a.names || a.expansion != nil || a.returnsSets(sel) || a.multi() != nil {
		return nil, nil
	}
	merge, anchor, why := a.scatterSelect(sel, true)
	if why != nil || merge != Concat {
		return nil, nil
	}
	out := &Ordered{Gathered: gathered, Columns: len(sel.TargetList)}
	if slices.ContainsFunc(sel.TargetList, isStar) {
		out.Columns = 0
	}
	var hidden SQL
	for i, n := range sel.SortClause {
		s := n.GetSortBy()
		x, ok := a.sortExpr(sel, a.root.lvl, s.Node)
		if !ok {
			return nil, nil
		}
		key, ok := a.sortKey(x, s)
		r, found := a.exprText(x)
		if !ok || !found {
			return nil, nil
		}
		out.Keys = append(out.Keys, key)
		hidden = append(append(append(hidden, Piece{Own: ", ("}), a.span(r)...), Piece{Own: ") AS " + keyName(i)})
	}
	if !a.addColumns(sel, out, hidden) {
		return nil, nil
	}
	return out, anchor
}

// keyName is the name of a key's column. No other column is referred to by such a name;
// see sortExpr.
func keyName(i int) string { return keyNames + strconv.Itoa(i+1) }

const keyNames = "shardgate_key_"

// addColumns makes the shards' query: the client's with the keys behind its columns.
func (a *analysis) addColumns(sel *pg.SelectStmt, out *Ordered, hidden SQL) bool {
	first := a.selectToken(sel)
	if first < 0 {
		return false
	}
	cl, ok := a.clauses(first)
	if !ok || cl.from <= first {
		return false
	}
	end := int(a.toks[cl.from-1].End)
	if out.Query, ok = a.edited(byteRange{0, len(a.text)}, []edit{{byteRange{end, end}, hidden}}); !ok {
		return false
	}
	tree, err := pg.Parse(string(out.Query.Append(nil, []byte(a.text), a.lits, placeholder{})))
	if err != nil || len(tree.Stmts) != 1 {
		return false
	}
	list := tree.Stmts[0].Stmt.GetSelectStmt().GetTargetList()
	own := len(sel.TargetList)
	if len(list) != own+len(out.Keys) {
		return false
	}
	for i := range out.Keys {
		if list[own+i].GetResTarget().GetName() != keyName(i) {
			return false
		}
	}
	return true
}

// sortExpr is what an item of ORDER BY stands for, by the rules of
// findTargetlistEntrySQL92 in PostgreSQL's parse_clause.c: a position, the name of an output
// column before that of a column of FROM, or an expression.
func (a *analysis) sortExpr(sel *pg.SelectStmt, lvl *level, x *pg.Node) (*pg.Node, bool) {
	if x.GetAConst() != nil {
		a.textSpecific = true
		at := outputAt(sel, x)
		return at, at != x
	}
	ref := x.GetColumnRef()
	if ref == nil || len(ref.Fields) != 1 {
		return x, true
	}
	name := str(ref.Fields[0])
	if strings.HasPrefix(name, keyNames) {
		return nil, false
	}
	var found *pg.Node
	for _, t := range sel.TargetList {
		switch v := t.GetResTarget().GetVal(); {
		case isStar(t):
			// A column of *, which is the one of FROM by that name, if that is certain. Of
			// name.*, a column that USING has merged is only one side's.
			if _, merged := lvl.merged[name]; v.GetColumnRef() == nil || merged && len(v.GetColumnRef().Fields) > 1 {
				return nil, false
			}
		case outputName(t.GetResTarget()) == "":
			return nil, false // it is that of a star's column
		case outputName(t.GetResTarget()) != name:
		case found != nil && !same(found, v):
			return nil, false // PostgreSQL says that it is ambiguous
		default:
			found = v
		}
	}
	if found == nil {
		found = x
	}
	return found, true
}

// sortKey says in what order an expression sorts; ok is false where that isn't certain, or
// where the gateway can't compare.
func (a *analysis) sortKey(x *pg.Node, s *pg.SortBy) (k SortKey, ok bool) {
	if k.Type, ok = a.sortType(x); !ok {
		return k, false
	}
	switch s.SortbyDir {
	case pg.SortByDir_SORTBY_DESC:
		k.Descending = true
	case pg.SortByDir_SORTBY_USING:
		op := str(s.UseOp[len(s.UseOp)-1])
		if len(s.UseOp) > 1 || op != "<" && op != ">" || len(a.env.Schema.Operators[op]) > 0 {
			return k, false
		}
		k.Descending = op == ">"
	}
	switch s.SortbyNulls {
	case pg.SortByNulls_SORTBY_NULLS_DEFAULT:
		k.NullsFirst = k.Descending
	case pg.SortByNulls_SORTBY_NULLS_FIRST:
		k.NullsFirst = true
	}
	return k, true
}

// sortType is the type of an expression whose values the gateway can compare: a column, a
// column with COLLATE "C", or a column that is cast.
func (a *analysis) sortType(x *pg.Node) (uint32, bool) {
	if tc := x.GetTypeCast(); tc != nil {
		_, known := a.sortColumn(tc.Arg)
		oid := typeOID(tc.TypeName)
		return oid, known && Sortable(oid) && !SortKey{Type: oid}.Text() && len(tc.TypeName.Typmods)+len(tc.TypeName.ArrayBounds) == 0
	}
	inC := false
	if cc := x.GetCollateClause(); cc != nil {
		name := str(cc.Collname[len(cc.Collname)-1])
		inC = (name == "C" || name == "POSIX") && (len(cc.Collname) == 1 || str(cc.Collname[0]) == "pg_catalog")
		if x = cc.Arg; !inC {
			return 0, false
		}
	}
	col, ok := a.sortColumn(x)
	if !ok {
		return 0, false
	}
	t := &col.rte.table.Columns[col.n]
	if (SortKey{Type: t.Type}).Text() {
		// What USING has merged may have the collation of either side.
		return t.Type, inC || t.Bytewise && !a.mergedName(x)
	}
	return t.Type, !inC && Sortable(t.Type) && (!a.mergedName(x) || col.family() != familyNone)
}

// sortColumn is the column that an expression is, of an entry of the statement's FROM.
func (a *analysis) sortColumn(x *pg.Node) (column, bool) {
	c, ok := a.columns[x.GetColumnRef()]
	return c, ok && c.rte.block == a.root
}

// mergedName says whether a column is meant by a name that USING or NATURAL has merged:
// where both sides are not of the same family, it may have another type than one of them.
func (a *analysis) mergedName(x *pg.Node) bool {
	fields := x.GetColumnRef().GetFields()
	if len(fields) != 1 {
		return false
	}
	_, ok := a.root.lvl.merged[str(fields[0])]
	return ok
}
