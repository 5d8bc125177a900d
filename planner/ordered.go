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
	// Distinct is how many of the first keys make rows equal, of which only the first counts;
	// 0 if all rows do.
	Distinct int
	// Limit and Offset are the client's, nil for none: the shards give the first Offset +
	// Limit rows of theirs.
	Limit, Offset *Value
	// Pins prune the shards as in Scatter.
	Pins []Pin
	// Gathered is the same by rows that are brought together: for keys that turn out to be of
	// other types, text that comes in another encoding than the servers', by whose bytes it
	// isn't sorted, a Limit that isn't a number, and for an INSERT's query.
	Gathered *Gather
}

func (*Ordered) isNode() {}

// SortKey is an item of ORDER BY. Type is its type's OID, one of sortTypes, or 0 if that is
// the shards' to say: it may be none of these then, and text only if Bytewise says that its
// collation is C.
type SortKey struct {
	Type                   uint32
	Descending, NullsFirst bool
	Bytewise               bool
}

// Undetermined says whether the type of some key is the shards' to say.
func (n *Ordered) Undetermined() bool {
	return slices.ContainsFunc(n.Keys, func(k SortKey) bool { return k.Type == 0 })
}

// Text says whether a key is text, which comes in the client's encoding.
func (k SortKey) Text() bool { return k.Type == oidText || k.Type == oidVarchar }

// sortTypes are the types whose order can be told from their binary form, by pg_type.dat. That
// of text and varchar can if the collation is C.
var sortTypes = map[uint32]string{
	16: "bool", 17: "bytea", 20: "int8", 21: "int2", 23: "int4", 25: "text", 700: "float4", 701: "float8", 1043: "varchar", 1082: "date",
	1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval", 1266: "timetz", 1700: "numeric", 2950: "uuid",
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
	limited := sel.LimitCount != nil || sel.LimitOffset != nil
	if len(sel.SortClause) == 0 || len(sel.TargetList) == 0 || a.names || a.returnsSets(sel) || a.multi() != nil || limited && (len(a.locks) > 0 || a.volatile) {
		return nil, nil
	}
	if a.expansion != nil && a.namesSchemas() || a.width(sel)+len(sel.SortClause) > maxTargets {
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
	var sorts []*pg.Node
	for i, n := range sel.SortClause {
		s := n.GetSortBy()
		x, ok := a.sortExpr(sel, a.root.lvl, s.Node)
		if !ok {
			return nil, nil
		}
		key, ok := a.sortKey(x, s)
		text, found := a.keyText(sel, x)
		sorts = append(sorts, x)
		if !ok || !found {
			return nil, nil
		}
		out.Keys = append(out.Keys, key)
		hidden = hidden.add(", (", text, ") AS "+keyName(i))
	}
	limit, ok := a.mergeLimit(sel, out)
	if !ok || !a.mergeDistinct(sel, sorts, out) || !a.addColumns(sel, out, hidden, limit) {
		return nil, nil
	}
	return out, anchor
}

// maxTargets is how many columns a SELECT can give: MaxTupleAttributeNumber in PostgreSQL's
// htup_details.h.
const maxTargets = 1664

// width is how many columns a SELECT gives at most, as far as it is known.
func (a *analysis) width(sel *pg.SelectStmt) int {
	n := len(sel.TargetList)
	if slices.ContainsFunc(sel.TargetList, isStar) {
		for _, e := range a.root.lvl.rtes {
			n += len(e.columns)
		}
	}
	return n
}

// namesSchemas says whether a column is referred to by a schema as well, which is no view's
// once its query stands in its place.
func (a *analysis) namesSchemas() bool {
	found := false
	eachMessageBelow(a.stmt, func(m protoMessage) {
		ref, ok := m.Interface().(*pg.ColumnRef)
		found = found || ok && len(ref.Fields) > 2
	})
	return found
}

// keyName is the name of a key's column. No other column is referred to by such a name;
// see sortExpr.
func keyName(i int) string { return keyNames + strconv.Itoa(i+1) }

const keyNames = "shardgate_key_"

// addColumns makes the shards' query: the client's with the keys behind its columns.
func (a *analysis) addColumns(sel *pg.SelectStmt, out *Ordered, hidden SQL, limit []edit) bool {
	first := a.selectToken(sel)
	if first < 0 {
		return false
	}
	cl, ok := a.clauses(first)
	if !ok || cl.from <= first {
		return false
	}
	end := int(a.toks[cl.from-1].End)
	if out.Query, ok = a.edited(byteRange{0, len(a.text)}, append(limit, edit{byteRange{end, end}, hidden})); !ok {
		return false
	}
	list := parseOne(a.sample(out.Query)).GetSelectStmt().GetTargetList()
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

// keyText is the text of a key, as a further column of the SELECT. A name alone may be that
// of a star's column, and ambiguous among those of FROM.
func (a *analysis) keyText(sel *pg.SelectStmt, x *pg.Node) (SQL, bool) {
	single := len(sel.FromClause) == 1 && sel.FromClause[0].GetJoinExpr() == nil
	if ref := x.GetColumnRef(); len(ref.GetFields()) == 1 && !single && !a.mergedName(x) {
		c, ok := a.sortColumn(x)
		if !ok {
			return nil, false
		}
		return own(c.qualified()), true
	}
	r, ok := a.exprText(x)
	return a.span(r), ok
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
		if k.Type, k.Bytewise = 0, collatedC(x.GetCollateClause()); !a.comparable(x) {
			return k, false
		}
	}
	switch s.SortbyDir {
	case pg.SortByDir_SORTBY_DESC:
		k.Descending = true
	case pg.SortByDir_SORTBY_USING:
		op := unqualified(s.UseOp)
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
		if inC = collatedC(cc); !inC {
			return 0, false
		}
		x = cc.Arg
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

// collatedC says whether text is sorted by its bytes because of a COLLATE.
func collatedC(cc *pg.CollateClause) bool {
	if cc == nil {
		return false
	}
	name := unqualified(cc.Collname)
	return (name == "C" || name == "POSIX") && (len(cc.Collname) == 1 || str(cc.Collname[0]) == "pg_catalog")
}

// comparable says whether the values of an expression, whose type isn't certain, may be such
// as the gateway can compare, and don't change from one evaluation to the next.
func (a *analysis) comparable(x *pg.Node) bool {
	ok := x.GetAConst() == nil && x.GetParamRef() == nil
	if cc := x.GetCollateClause(); cc != nil && !collatedC(cc) {
		return false
	}
	if oid := typeOID(x.GetTypeCast().GetTypeName()); x.GetTypeCast() != nil && (oid == 0 || !Sortable(oid) || SortKey{Type: oid}.Text()) {
		return false
	}
	if _, known := a.sortColumn(x); known && !a.mergedName(x) {
		return false
	}
	eachMessageBelow(x, func(m protoMessage) {
		switch v := m.Interface().(type) {
		case *pg.ParamRef: // as a further column, it would come first, and decide its type
			ok = ok && (a.declared(int(v.Number)-1) != 0 || len(a.paramRefs[int(v.Number)]) == 1)
		case *pg.FuncCall:
			f, known := a.env.Schema.functions[unqualified(v.Funcname)]
			ok = ok && known && f.Volatility != Volatile && !f.ReturnsSet
		case *pg.A_Expr:
			for _, f := range a.env.Schema.Operators[unqualified(v.Name)] {
				ok = ok && a.env.Schema.functions[f].Volatility != Volatile
			}
		}
	})
	return ok
}

// mergeLimit has the shards give as many rows as may be among those of the answer. ok is
// false where the gateway can't count these.
func (a *analysis) mergeLimit(sel *pg.SelectStmt, out *Ordered) (edits []edit, ok bool) {
	if sel.LimitOption == pg.LimitOption_LIMIT_OPTION_WITH_TIES {
		return nil, false
	}
	var texts [2]byteRange
	for i, x := range []struct {
		node *pg.Node
		to   **Value
	}{{sel.LimitCount, &out.Limit}, {sel.LimitOffset, &out.Offset}} {
		if x.node == nil {
			continue
		}
		if x.node.GetAConst() == nil && x.node.GetParamRef() == nil {
			return nil, false
		}
		v, known := a.value(x.node, familyInt)
		r, found := a.exprText(x.node)
		if v.Source == FromParam && v.Type == 0 && len(a.paramRefs[v.Index+1]) > 1 {
			return nil, false // it may be of another type than bigint
		}
		if !known || !found || v.Source != FromLiteral && v.Source != FromParam {
			return nil, false
		}
		*x.to, texts[i] = &v, r
	}
	switch {
	case sel.LimitOffset == nil:
		return nil, true
	case sel.LimitCount != nil:
		return []edit{{texts[1], own("0")}, {texts[0], slices.Concat(own("(least(("), a.span(texts[0]), own(")::pg_catalog.int8::pg_catalog.numeric+("), a.span(texts[1]),
			own(")::pg_catalog.int8,9223372036854775807)::pg_catalog.int8)"))}}, true
	case out.Offset.Source == FromParam:
		// It is 0, and has the parameter in it, which the statement may not have elsewhere.
		return []edit{{texts[1], SQL(nil).add("(least((", a.span(texts[1]), ")::pg_catalog.int8,0))")}}, true
	}
	return []edit{{texts[1], own("0")}}, true
}

// mergeDistinct finds the keys that make rows equal for DISTINCT. It returns false where
// equal rows may not come one after the other.
func (a *analysis) mergeDistinct(sel *pg.SelectStmt, sorts []*pg.Node, out *Ordered) bool {
	if len(sel.DistinctClause) == 0 {
		return true
	}
	out.Distinct = len(sorts)
	if sel.DistinctClause[0].GetNode() == nil {
		for _, t := range sel.TargetList {
			if isStar(t) || !slices.ContainsFunc(sorts, func(x *pg.Node) bool { return a.equal(x, t.GetResTarget().GetVal()) }) {
				return false
			}
		}
		return true
	}
	var on []*pg.Node
	for _, n := range sel.DistinctClause {
		x, ok := a.sortExpr(sel, a.root.lvl, n)
		if !ok {
			return false
		}
		on = append(on, x)
	}
	among := func(x *pg.Node, list []*pg.Node) bool {
		return slices.ContainsFunc(list, func(y *pg.Node) bool { return a.equal(x, y) })
	}
	for out.Distinct = 0; out.Distinct < len(sorts) && among(sorts[out.Distinct], on); {
		out.Distinct++
	}
	return !slices.ContainsFunc(on, func(x *pg.Node) bool { return !among(x, sorts[:out.Distinct]) })
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
