package planner

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A SELECT whose FROM clause gives each of its rows on exactly one shard needs less to
// be brought together than its tables: the shards run FROM and WHERE, and where it
// aggregates, they begin with that. What is left of the client's statement is run over
// what they give. Its columns stand there in the place of the tables' columns, and
// partial results in the place of the aggregates' arguments; all else, such as HAVING,
// ORDER BY, windows and expressions over aggregates, is the client's own text.

// combined is the name by which the final statement knows the shards' rows.
const combined = "shardgate"

// combiner plans a SELECT over one part.
type combiner struct {
	a      *analysis
	sel    *pg.SelectStmt
	lvl    *level
	cl     clauses
	part   Part
	exprs  []SQL    // of the part's columns
	list   []string // positions of those that the rows are grouped by
	at     map[column]int
	groups []*groupExpr
	edits  []edit
	// grouped says that the shards group the rows; without it, they give them all.
	grouped bool
	failed  bool
	raw     bool // there is an aggregate that can't begin on the shards
	plain   bool
}

// groupExpr is an expression of GROUP BY.
type groupExpr struct {
	node *pg.Node
	text byteRange
	at   int // its column, -1 as long as it has none
}

// combine plans a SELECT whose rows are the shards'. ok is false where it is not of a
// form for which that is known to be right.
func (a *analysis) combine(sel *pg.SelectStmt, lvl *level) (*Gather, bool) {
	if sel.Larg != nil || sel.WithClause != nil || sel.IntoClause != nil || len(sel.FromClause) == 0 || len(sel.ValuesLists) > 0 {
		return nil, false
	}
	if a.notGathered() != nil || a.multi() != nil || a.outerAgg || a.unstable != "" || len(a.text) == 0 {
		return nil, false
	}
	anchor, r := a.scatterFrom(sel.FromClause, nil)
	if r != nil || !distinctNames(lvl.rtes) {
		return nil, false
	}
	cl, ok := a.clauses(0)
	if !ok || cl.from < 0 {
		return nil, false
	}
	grouped := a.aggregates(sel) || len(sel.GroupClause) > 0 || len(sel.DistinctClause) > 0 && !a.windows(sel)
	if a.volatile || a.emptyGroups(sel) {
		grouped = false
	}
	for {
		c := &combiner{a: a, sel: sel, lvl: lvl, cl: cl, grouped: grouped, at: map[column]int{}, plain: true}
		g, ok := c.plan(anchor)
		if ok && !grouped || ok && !c.raw {
			return g, true
		}
		if !grouped || c.failed {
			return nil, false
		}
		grouped = false
	}
}

// distinctNames says whether each entry of FROM is a table with a name of its own.
func distinctNames(rtes []*rte) bool {
	seen := map[string]bool{}
	for _, e := range rtes {
		if e.name == "" || seen[e.name] {
			return false
		}
		seen[e.name] = true
	}
	return true
}

// windows says whether there is a window function.
func (a *analysis) windows(sel *pg.SelectStmt) bool {
	found := false
	for _, n := range slices.Concat(sel.TargetList, sel.SortClause) {
		a.eachCall(n, func(f *pg.FuncCall) { found = found || f.Over != nil })
	}
	return found
}

// aggregates says whether there is an aggregate, or HAVING, which makes one group.
func (a *analysis) aggregates(sel *pg.SelectStmt) bool {
	found := sel.HavingClause != nil
	for _, n := range slices.Concat(sel.TargetList, sel.SortClause) {
		a.eachCall(n, func(f *pg.FuncCall) { found = found || a.aggregate(f) })
	}
	return found
}

// emptyGroups says whether GROUP BY has no columns: no rows make no group then, but
// each shard would begin one.
func (a *analysis) emptyGroups(sel *pg.SelectStmt) bool {
	if len(sel.GroupClause) == 0 {
		return false
	}
	for _, n := range sel.GroupClause {
		has := false
		eachMessageBelow(a.groupItem(sel, n), func(m protoMessage) {
			if _, ok := m.Interface().(*pg.ColumnRef); ok {
				has = true
			}
		})
		if has {
			return false
		}
	}
	return true
}

// groupItem is what an item of GROUP BY stands for: a position or the name of an
// output column is that column.
func (a *analysis) groupItem(sel *pg.SelectStmt, n *pg.Node) *pg.Node {
	if i := n.GetAConst().GetIval(); i != nil {
		if k := int(i.GetIval()); k >= 1 && k <= len(sel.TargetList) {
			return sel.TargetList[k-1].GetResTarget().GetVal()
		}
	}
	return n
}

// plan makes the plan.
func (c *combiner) plan(anchor *leaf) (*Gather, bool) {
	a, sel := c.a, c.sel
	c.part = Part{Place: Pinned, Table: anchor.table.String()}
	if pin, ok := a.pin(anchor); ok {
		c.part.Pins = []Pin{pin}
	}
	if c.grouped {
		c.groupExprs()
	}
	for _, t := range sel.TargetList {
		c.target(t.GetResTarget())
	}
	for _, n := range slices.Concat(sel.DistinctClause, sel.GroupClause, []*pg.Node{sel.HavingClause}, sel.WindowClause, sel.SortClause) {
		c.item(n)
	}
	if c.failed || c.grouped && c.raw {
		return nil, false
	}
	query, ok := c.query()
	if !ok {
		return nil, false
	}
	c.part.Query, c.part.Plain = query, c.plain
	last := c.cl.after(c.cl.from)
	if c.cl.where >= 0 {
		last = c.cl.after(c.cl.where)
	}
	from := append(own("FROM "), Piece{Part: 1}, Piece{Own: " AS " + combined + " "})
	c.edits = append(c.edits, edit{byteRange{c.tokenStart(c.cl.from), c.tokenStart(last)}, from})
	final, ok := a.edited(byteRange{0, len(a.text)}, c.edits)
	if !ok {
		return nil, false
	}
	g := &Gather{Parts: []Part{c.part}, Final: final}
	return g, a.reads(g)
}

// tokenStart is where a token begins, or where the text ends.
func (c *combiner) tokenStart(i int) int {
	if i >= len(c.a.toks) {
		return len(c.a.text)
	}
	return int(c.a.toks[i].Start)
}

// reads says whether PostgreSQL's grammar accepts the texts of a plan.
func (a *analysis) reads(g *Gather) bool {
	for _, q := range []SQL{g.Parts[0].Query, g.Final} {
		text := string(q.Append(nil, []byte(a.text), a.lits, placeholder{}))
		if tree, err := pg.Parse(text); err != nil || len(tree.Stmts) != 1 {
			return false
		}
	}
	return true
}

// placeholder writes something that the grammar accepts for a part.
type placeholder struct{}

func (placeholder) AppendSource(dst []byte, _ int) []byte  { return append(dst, "x"...) }
func (placeholder) AppendCast(dst []byte, _, _ int) []byte { return append(dst, "::x"...) }

// groupExprs finds the expressions of GROUP BY that are not just columns. Where their
// text is known, the shards compute them.
func (c *combiner) groupExprs() {
	add := func(n *pg.Node) {
		n = c.a.groupItem(c.sel, n)
		if n.GetColumnRef() != nil || n.GetAConst() != nil || n.GetRowExpr() != nil {
			return
		}
		if r, ok := c.a.exprText(n); ok {
			c.groups = append(c.groups, &groupExpr{n, r, -1})
		}
	}
	for _, n := range c.sel.GroupClause {
		if gs := n.GetGroupingSet(); gs != nil {
			for _, x := range gs.Content {
				add(x)
			}
		} else {
			add(n)
		}
	}
}

// target deals with an item of the target list.
func (c *combiner) target(t *pg.ResTarget) {
	ref := t.Val.GetColumnRef()
	if ref != nil && ref.Fields[len(ref.Fields)-1].GetAStar() != nil {
		c.star(ref)
		return
	}
	before := len(c.edits)
	c.expr(t.Val)
	if t.Name != "" || len(c.edits) != before+1 || c.failed {
		return
	}
	// The whole item was replaced, perhaps: its name must stay, for ORDER BY.
	name := ""
	e := &c.edits[before]
	switch {
	case ref != nil:
		name = str(ref.Fields[len(ref.Fields)-1])
	case t.Val.GetFuncCall() != nil && c.wholeCall(t.Val.GetFuncCall(), e.byteRange):
		f := t.Val.GetFuncCall().Funcname
		name = str(f[len(f)-1])
	}
	if name != "" {
		e.with = append(slices.Clip(e.with), Piece{Own: " AS " + QuoteIdent(name)})
	}
}

// wholeCall says whether a range is all of a function call.
func (c *combiner) wholeCall(f *pg.FuncCall, r byteRange) bool {
	whole, ok := c.callRange(f)
	return ok && whole == r
}

// star replaces * or name.* by the columns.
func (c *combiner) star(ref *pg.ColumnRef) {
	entry := ""
	if len(ref.Fields) > 1 {
		entry = str(ref.Fields[len(ref.Fields)-2])
	}
	var list []string
	for _, e := range c.lvl.rtes {
		if entry != "" && e.name != entry {
			continue
		}
		if e.table == nil || len(c.lvl.merged) > 0 && entry == "" {
			c.failed = true
			return
		}
		for n, name := range e.columns {
			list = append(list, c.column(column{e, n})+" AS "+QuoteIdent(name))
		}
	}
	first := c.a.tokenAt(ref.Location)
	last := first + 2*(len(ref.Fields)-1)
	if first < 0 || last >= len(c.a.toks) || len(list) == 0 {
		c.failed = true
		return
	}
	c.edits = append(c.edits, edit{byteRange{int(c.a.toks[first].Start), int(c.a.toks[last].End)}, own(strings.Join(list, ", "))})
}

// item deals with an item of the other clauses, where a name alone may be that of an
// output column.
func (c *combiner) item(n *pg.Node) {
	if n == nil {
		return
	}
	x := n
	if s := n.GetSortBy(); s != nil {
		x = s.Node
	}
	if x.GetAConst() != nil {
		return // a position
	}
	if ref := x.GetColumnRef(); ref != nil && len(ref.Fields) == 1 && c.output(str(ref.Fields[0]), n.GetSortBy() != nil) {
		return
	}
	c.expr(n)
}

// output says whether a name alone is that of an output column. In ORDER BY, it is
// one rather than a column of FROM; in GROUP BY, the other way round.
func (c *combiner) output(name string, order bool) bool {
	if !order {
		if _, ok := c.resolve(&pg.ColumnRef{Fields: []*pg.Node{pg.MakeStrNode(name)}}); ok {
			return false
		}
	}
	return slices.ContainsFunc(c.sel.TargetList, func(t *pg.Node) bool { return t.GetResTarget().Name == name })
}

func (c *combiner) resolve(ref *pg.ColumnRef) (column, bool) {
	col, ok := c.a.column(&pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: ref}}, c.lvl)
	return col, ok && slices.Contains(c.lvl.rtes, col.rte)
}

// expr replaces what an expression has of the shards' rows.
func (c *combiner) expr(n *pg.Node) {
	if n == nil || c.failed {
		return
	}
	for _, g := range c.groups {
		if same(n, g.node) {
			c.groupExpr(n, g)
			return
		}
	}
	switch {
	case n.GetColumnRef() != nil:
		c.columnRef(n.GetColumnRef())
		return
	case n.GetSubLink() != nil, n.GetSelectStmt() != nil:
		c.failed = true
		return
	case n.GetJsonArrayAgg() != nil, n.GetJsonObjectAgg() != nil:
		c.raw = true
	case n.GetCollateClause() != nil:
		c.plain = false
	case n.GetFuncCall() != nil:
		if f := n.GetFuncCall(); c.a.aggregate(f) && c.grouped {
			if c.partial(f) {
				return
			}
			c.raw = c.raw || !f.AggDistinct || f.AggWithinGroup || len(f.AggOrder) > 0 && !f.AggDistinct
		}
	}
	children(n, c.expr)
}

// columnRef replaces a column.
func (c *combiner) columnRef(ref *pg.ColumnRef) {
	col, ok := c.resolve(ref)
	first := c.a.tokenAt(ref.Location)
	last := first + 2*(len(ref.Fields)-1)
	if !ok || first < 0 || last >= len(c.a.toks) {
		c.failed = true
		return
	}
	c.edits = append(c.edits, edit{byteRange{int(c.a.toks[first].Start), int(c.a.toks[last].End)}, own(c.column(col))})
}

// column is the final statement's name of a column of FROM.
func (c *combiner) column(col column) string {
	i, ok := c.at[col]
	if !ok {
		t := &col.rte.table.Columns[col.n]
		c.plain = c.plain && t.plain()
		if c.grouped && !c.groupable(col) {
			c.raw = true
		}
		i = c.add(own(QuoteIdent(col.rte.name) + "." + QuoteIdent(col.rte.columns[col.n])))
		c.at[col] = i
	}
	return c.name(i)
}

// add adds a column to those that the rows are grouped by.
func (c *combiner) add(q SQL) int {
	c.exprs = append(c.exprs, q)
	c.list = append(c.list, strconv.Itoa(len(c.exprs)))
	return len(c.exprs) - 1
}

// addPartial adds a partial result.
func (c *combiner) addPartial(q SQL) int {
	c.exprs = append(c.exprs, q)
	return len(c.exprs) - 1
}

func columnName(i int) string { return "c" + strconv.Itoa(i+1) }

func (c *combiner) name(i int) string { return combined + "." + columnName(i) }

// groupExpr replaces an expression of GROUP BY.
func (c *combiner) groupExpr(n *pg.Node, g *groupExpr) {
	r, ok := c.a.exprText(n)
	if !ok {
		c.failed = true
		return
	}
	if g.at < 0 {
		eachMessageBelow(n, func(m protoMessage) {
			if ref, ok := m.Interface().(*pg.ColumnRef); ok {
				col, ok := c.resolve(ref)
				c.plain = c.plain && ok && !col.rte.table.Columns[col.n].Collated
			}
			if _, ok := m.Interface().(*pg.CollateClause); ok {
				c.plain = false
			}
		})
		g.at = c.add(c.a.span(g.text))
	}
	c.edits = append(c.edits, edit{r, own(c.name(g.at))})
}

// groupableTypes are the types of PostgreSQL's own that can be grouped by.
var groupableTypes = []uint32{16, 17, 18, 20, 21, 23, 25, 26, 700, 701, 790, 869, 650, 829, 774, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802}

// groupable says whether rows can be grouped by a column: one of GROUP BY or
// DISTINCT can, any other may be there because it depends on them.
func (c *combiner) groupable(col column) bool {
	t := &col.rte.table.Columns[col.n]
	if t.Scalar && slices.Contains(groupableTypes, t.Type) {
		return true
	}
	for _, n := range c.sel.GroupClause {
		if ref := c.a.groupItem(c.sel, n).GetColumnRef(); ref != nil {
			if x, ok := c.resolve(ref); ok && x == col {
				return true
			}
		}
	}
	return false
}

// callRange is the text of a function call with its FILTER.
func (c *combiner) callRange(f *pg.FuncCall) (byteRange, bool) {
	_, last, ok := c.call(f)
	if !ok {
		return byteRange{}, false
	}
	return byteRange{int(c.a.toks[c.a.tokenAt(f.Location)].Start), int(c.a.toks[last].End)}, true
}

// call finds the tokens of a function call: its opening parenthesis, and the last
// one of it, that of FILTER included.
func (c *combiner) call(f *pg.FuncCall) (open, last int, ok bool) {
	a := c.a
	first := a.tokenAt(f.Location)
	if first < 0 {
		return 0, 0, false
	}
	open = a.nameEnd(first)
	if !a.is(open, '(') {
		return 0, 0, false
	}
	last = a.closing(open)
	if f.AggFilter != nil {
		if !a.keyword(last+1, "filter") || !a.is(last+2, '(') {
			return 0, 0, false
		}
		last = a.closing(last + 2)
	}
	return open, last, last > 0
}

// closing is the token that closes the parenthesis at token i, or -1.
func (a *analysis) closing(i int) int {
	depth := 0
	for ; i < len(a.toks); i++ {
		switch {
		case a.is(i, '('):
			depth++
		case a.is(i, ')'):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// query is what each shard is asked.
func (c *combiner) query() (SQL, bool) {
	a := c.a
	q := own("SELECT ")
	if len(c.exprs) == 0 {
		c.exprs = []SQL{own("true")}
	}
	for i, e := range c.exprs {
		if i > 0 {
			q = append(q, Piece{Own: ", "})
		}
		q = append(append(q, e...), Piece{Own: " AS " + columnName(i)})
		c.part.Columns = append(c.part.Columns, columnName(i))
	}
	q = append(q, Piece{Own: " "})
	last := c.cl.after(c.cl.from)
	if c.cl.where >= 0 {
		last = c.cl.after(c.cl.where)
	}
	q = append(q, a.span(byteRange{c.tokenStart(c.cl.from), int(a.toks[last-1].End)})...)
	if c.grouped {
		if len(c.list) > 0 {
			q = append(q, Piece{Own: " GROUP BY " + strings.Join(c.list, ", ")})
		}
		return q, true
	}
	return append(q, c.limit()...), true
}
