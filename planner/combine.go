package planner

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A SELECT within a Gather needs less to be brought together than its tables, if the
// rows of its FROM clause are on one shard each, or fall into groups of tables of
// which that is true: the shards run these joins with the conditions about them, and
// where nothing else is left of FROM and WHERE and the SELECT aggregates, they begin
// with that. What is left of the client's text is run over what they give. Its columns
// stand there in the place of the tables' columns, and partial results in the place of
// aggregates' arguments; all else, such as HAVING, ORDER BY, windows and expressions
// over aggregates, is the client's own text.

// maxColumns is how many columns a table can have. Partial results can be more than what
// they are made of.
const maxColumns = 1600

// combiner plans one block of a statement.
type combiner struct {
	g        *gatherer
	a        *analysis
	b        *block
	sel      *pg.SelectStmt
	cl       clauses
	first    int // the token SELECT
	sources  []*source
	kept     []*pg.Node // items of FROM that stay as they are: subqueries, functions, local tables
	rest     []*pg.Node // conditions that are left to the final statement
	terms    []*pg.Node // what GROUP BY stands for
	groups   []*groupExpr
	partials []partial
	edits    []edit
	// grouped says that the shards group the rows; without it, they give them all.
	grouped  bool
	failed   bool
	raw      bool // there is an aggregate that can't begin on the shards
	inner    []*pg.SelectStmt
	within   bool     // the walk is in an item of GROUP BY or an aggregate
	loose    []column // used outside of both
	verbatim bool     // there is an aggregate that stays as it is
}

// source is a join that the shards run for a block: a part of the Gather.
type source struct {
	anchor *leaf // nil for reference and local tables
	place  Place
	items  []*pg.Node // of FROM
	rtes   []*rte
	conds  []*pg.Node
	part   int      // its number
	exprs  []SQL    // of its columns
	list   []string // positions of those that the rows are grouped by
	at     map[column]int
	plain  bool
	// collations are the names of the columns' by position, as in Part. A column of another
	// collation, which is not known, makes plain false.
	collations []string
	carried    map[int]Carried // by column, of those that don't travel as they are
	// implied are conditions that others imply, which the final statement decides, and
	// keys those that another part's values give: see semiJoins.
	implied, keys []SQL
}

// groupExpr is an expression of GROUP BY.
type groupExpr struct {
	node *pg.Node
	text byteRange
	at   int // its column, -1 as long as it has none
}

// combine plans a block whose rows are joined on the shards. ok is false where it is
// not of a form for which that is known to be right; nothing was changed then.
func (g *gatherer) combine(b *block) bool {
	a, sel := g.a, b.sel
	if sel.Larg != nil || len(sel.FromClause) == 0 || len(sel.ValuesLists) > 0 || a.outerAgg {
		return false
	}
	first := a.selectToken(sel)
	if first < 0 {
		return false
	}
	cl, ok := a.clauses(first)
	if !ok || cl.from < 0 {
		return false
	}
	grouped := a.aggregates(sel) || len(sel.GroupClause) > 0 || len(sel.DistinctClause) > 0 && !a.windows(sel)
	if a.volatile || a.emptyGroups(sel) {
		grouped = false
	}
	for {
		c := &combiner{g: g, a: a, b: b, sel: sel, cl: cl, first: first, terms: a.grouped(sel), grouped: grouped}
		if c.plan() {
			g.edits = append(g.edits, c.edits...)
			g.combined = append(g.combined, c)
			for _, s := range c.inner {
				g.block(a.blocks[s])
			}
			for _, u := range b.uses {
				if c.source(u.rte) == nil {
					g.table(u)
				}
			}
			return true
		}
		if !grouped || c.failed {
			return false
		}
		grouped = false
	}
}

// windows says whether there is a window function.
func (a *analysis) windows(sel *pg.SelectStmt) bool {
	found := false
	for _, n := range slices.Concat(sel.TargetList, sel.DistinctClause, sel.SortClause) {
		a.eachCall(n, func(f *pg.FuncCall) { found = found || f.Over != nil })
	}
	return found
}

// aggregates says whether there is an aggregate, or HAVING, which makes one group.
func (a *analysis) aggregates(sel *pg.SelectStmt) bool {
	found := sel.HavingClause != nil
	for _, n := range slices.Concat(sel.TargetList, sel.DistinctClause, sel.WindowClause, sel.SortClause) {
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
	for _, n := range a.grouped(sel) {
		has := false
		eachMessageBelow(n, func(m protoMessage) {
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

// plan divides the block and replaces what has to be. It returns false if that can't
// be done; failed says that it can't be done without grouping either.
func (c *combiner) plan() bool {
	if !c.divide() {
		c.failed = true
		return false
	}
	for _, n := range c.sel.WithClause.GetCtes() {
		c.subquery(n.GetCommonTableExpr().Ctequery.GetSelectStmt())
	}
	if c.grouped && (len(c.sources) > 1 || len(c.rest)+len(c.kept) > 0) {
		return false
	}
	if c.grouped {
		c.groupExprs()
	}
	for _, t := range c.sel.TargetList {
		c.target(t.GetResTarget())
	}
	for _, n := range slices.Concat(c.sel.DistinctClause, c.sel.SortClause, groupTerms(c.sel.GroupClause)) {
		c.item(n)
	}
	for _, n := range slices.Concat([]*pg.Node{c.sel.HavingClause}, c.sel.WindowClause) {
		c.expr(n)
	}
	if c.grouped && c.verbatim && len(c.sources[0].list) == 0 {
		c.raw = true // over no rows, the shards give one each
	}
	c.dependent()
	// What the other clauses refer to need not be grouped by: they come after that.
	for _, n := range c.kept {
		c.keep(n)
	}
	c.expr(c.sel.LimitCount)
	c.expr(c.sel.LimitOffset)
	for _, n := range c.rest {
		if _, ok := c.a.exprText(n); !ok {
			c.failed = true
		}
		c.expr(n)
	}
	if c.grouped && len(c.sources[0].exprs) > maxColumns {
		c.raw = true
	}
	if c.failed || c.grouped && (c.raw || c.g.inArrays() && !c.sources[0].plain) {
		return false
	}
	if !c.lock() {
		c.failed = true
		return false
	}
	for _, s := range c.sources {
		s.part = len(c.g.parts)
		c.g.parts = append(c.g.parts, &Part{})
	}
	return true
}

// compose makes the block's parts, and the edit of its FROM and WHERE. edits are all
// those within the block.
func (c *combiner) compose() bool {
	a, g := c.a, c.g
	from := own("FROM ")
	for i, s := range c.sources {
		q, ok := c.query(s)
		if !ok {
			return false
		}
		p := g.parts[s.part]
		p.Place, p.Query, p.Plain, p.Collations, p.Locks = s.place, q, s.plain, s.collations, c.g.locked(s.rtes)
		if len(s.carried) > 0 {
			p.Carried = make([]Carried, len(s.exprs))
			for i, carried := range s.carried {
				p.Carried[i] = carried
			}
		}
		var names []string
		for _, e := range s.rtes {
			names = append(names, e.table.String())
		}
		p.Table = strings.Join(names, ", ")
		if s.anchor != nil {
			p.Place = Pinned
			if pin, ok := a.pin(s.anchor); ok {
				p.Pins = []Pin{pin}
			}
		}
		for k := range s.exprs {
			p.Columns = append(p.Columns, columnName(k))
		}
		for _, n := range c.rest {
			if col, ok := a.probed(c.b, n); ok && c.source(col.rte) == s && indexable(col) {
				p.Index = append(p.Index, columnName(s.at[col]))
			}
		}
		from = append(from, Piece{Own: when(i > 0, ", ")}, Piece{Part: s.part + 1}, Piece{Own: " AS " + s.name() + " "})
	}
	end := c.cl.after(c.cl.from)
	if c.cl.where >= 0 {
		end = c.cl.after(c.cl.where)
	}
	for _, n := range c.kept {
		r, ok := c.itemText(n)
		if !ok {
			return false
		}
		text, ok := a.edited(r, g.edits)
		if !ok {
			return false
		}
		from = from.add(", ", text, " ")
	}
	for i, n := range c.rest {
		r, _ := a.exprText(n)
		text, ok := a.edited(r, g.edits)
		if !ok {
			return false
		}
		from = from.add(choose(i == 0, "WHERE (", "AND ("), text, ") ")
	}
	r := byteRange{c.tokenStart(c.cl.from), c.tokenStart(end)}
	g.edits = slices.DeleteFunc(g.edits, func(e edit) bool { return e.start >= r.start && e.end <= r.end })
	g.edits = append(g.edits, edit{r, from})
	return true
}

// tokenStart is where a token begins, or where the text ends.
func (c *combiner) tokenStart(i int) int {
	if i >= len(c.a.toks) {
		return len(c.a.text)
	}
	return int(c.a.toks[i].Start)
}

// groupExprs finds the expressions of GROUP BY that are not just columns. Where their
// text is known, the shards compute them.
func (c *combiner) groupExprs() {
	for _, n := range c.terms {
		if n.GetColumnRef() != nil || n.GetRowExpr() != nil {
			continue
		}
		if r, ok := c.a.regionOf(c.b, nil, false, n); !ok || len(r.rtes) == 0 {
			continue
		}
		if r, ok := c.a.exprText(n); ok {
			c.groups = append(c.groups, &groupExpr{n, r, -1})
		}
	}
}

// target deals with an item of the target list.
func (c *combiner) target(t *pg.ResTarget) {
	if entry, ok := star(t.Val); ok {
		c.star(t.Val.GetColumnRef(), entry)
		return
	}
	c.expr(t.Val)
	if t.Name != "" || c.b.parent == nil && !c.a.names && !c.named() || c.failed {
		return
	}
	// Its name must stay, for the queries around and a name alone in ORDER BY or GROUP BY.
	e, ok := c.a.asName(t)
	c.failed = !ok
	c.edits = append(c.edits, e)
}

// named says whether output columns may be meant by a name alone.
func (c *combiner) named() bool {
	return slices.ContainsFunc(slices.Concat(c.sel.SortClause, groupTerms(c.sel.GroupClause), c.sel.DistinctClause), func(n *pg.Node) bool {
		return len(sorted(n).GetColumnRef().GetFields()) == 1
	})
}

// star replaces * or name.* by the columns.
func (c *combiner) star(ref *pg.ColumnRef, entry string) {
	var list []string
	for _, e := range c.b.lvl.rtes {
		if entry != "" && e.name != entry {
			continue
		}
		if c.source(e) == nil && len(c.kept) > 0 && e.name != "" && e.table == nil {
			list = append(list, QuoteIdent(e.name)+".*")
			continue
		}
		if e.table == nil || len(c.b.lvl.merged) > 0 && entry == "" || c.source(e) == nil {
			c.failed = true
			return
		}
		for n, name := range e.columns {
			c.outside(column{e, n})
			list = append(list, c.column(column{e, n})+" AS "+QuoteIdent(name))
		}
	}
	first := c.a.tokenAt(ref.Location)
	last := first + 2*(len(ref.Fields)-1)
	if first < 0 || last >= len(c.a.toks) || len(list) == 0 {
		c.failed = true
		return
	}
	c.replace(first, last, strings.Join(list, ", "))
}

// replace replaces tokens.
func (c *combiner) replace(first, last int, with string) {
	c.edits = append(c.edits, edit{byteRange{int(c.a.toks[first].Start), int(c.a.toks[last].End)}, own(with)})
}

// item deals with an item of a clause where a number is a position.
func (c *combiner) item(n *pg.Node) {
	if sorted(n).GetAConst() == nil {
		c.expr(n)
	}
}

// keep replaces what a kept item of FROM has of the shards' rows.
func (c *combiner) keep(n *pg.Node) {
	if _, ok := c.itemText(n); !ok {
		c.failed = true
		return
	}
	switch {
	case n.GetRangeSubselect() != nil:
		c.subquery(n.GetRangeSubselect().Subquery.GetSelectStmt())
	case n.GetRangeFunction() != nil:
		for _, f := range n.GetRangeFunction().Functions {
			children(f, c.expr)
		}
	}
}

// source is the one that has an entry of FROM.
func (c *combiner) source(e *rte) *source {
	for _, s := range c.sources {
		if slices.Contains(s.rtes, e) {
			return s
		}
	}
	return nil
}

// expr replaces what an expression has of the shards' rows.
func (c *combiner) expr(n *pg.Node) {
	if n == nil || c.failed {
		return
	}
	for _, g := range c.groups {
		if c.a.equal(n, g.node) {
			c.groupExpr(n, g)
			return
		}
	}
	if !c.within && c.isGrouped(n) {
		c.within = true
		defer func() { c.within = false }()
	}
	switch {
	case n.GetColumnRef() != nil:
		c.columnRef(n.GetColumnRef(), false)
		return
	case n.GetSubLink() != nil:
		c.expr(n.GetSubLink().Testexpr)
		c.subquery(n.GetSubLink().Subselect.GetSelectStmt())
		return
	case n.GetSelectStmt() != nil:
		c.failed = true
		return
	case n.GetJsonArrayAgg() != nil, n.GetJsonObjectAgg() != nil:
		c.raw = true
		defer c.aggregate()()
	case n.GetXmlExpr() != nil:
		c.failed = c.failed || slices.ContainsFunc(n.GetXmlExpr().NamedArgs, unnamed)
	case n.GetFuncCall() != nil:
		if f := n.GetFuncCall(); c.a.aggregate(f) && c.grouped {
			if c.again(n) || c.partial(n) {
				return
			}
			c.raw = c.raw || !f.AggDistinct || f.AggWithinGroup
			c.verbatim = true
		}
		if f := n.GetFuncCall(); c.a.aggregate(f) {
			if f.AggWithinGroup { // whose direct arguments are outside
				for _, x := range f.Args {
					c.expr(x)
				}
				defer c.aggregate()()
				for _, x := range append(slices.Clone(f.AggOrder), f.AggFilter) {
					c.expr(x)
				}
				return
			}
			defer c.aggregate()()
		}
	}
	children(n, c.expr)
}

// aggregate notes that the walk is in an aggregate until the function that it returns
// is called.
func (c *combiner) aggregate() (leave func()) {
	before := c.within
	c.within = true
	return func() { c.within = before }
}

// unnamed says whether an argument of XMLFOREST or XMLATTRIBUTES has the name of its
// column.
func unnamed(n *pg.Node) bool { return n.GetResTarget().GetName() == "" }

// subquery replaces this block's columns within a subquery, which is planned by itself
// afterwards.
func (c *combiner) subquery(sel *pg.SelectStmt) {
	if sel == nil || c.a.blocks[sel] == nil {
		c.failed = true
		return
	}
	eachMessage(sel.ProtoReflect(), func(m protoMessage) {
		if ref, ok := m.Interface().(*pg.ColumnRef); ok && !c.failed {
			c.columnRef(ref, true)
		}
	})
	c.inner = append(c.inner, sel)
}

// columnRef replaces a column. In a subquery, it may be another block's.
func (c *combiner) columnRef(ref *pg.ColumnRef, inner bool) {
	if c.a.targets[ref] != nil {
		return
	}
	col, ok := c.a.columns[ref]
	if ok && col.rte.block != c.b || !ok && (inner || len(c.kept) > 0 || !c.b.alone()) && !c.mayMean(ref) {
		return // another block's, or a kept item's
	}
	first := c.a.tokenAt(ref.Location)
	last := first + 2*(len(ref.Fields)-1)
	if !ok || first < 0 || last >= len(c.a.toks) || c.source(col.rte) == nil {
		c.failed = true
		return
	}
	c.outside(col)
	c.replace(first, last, c.column(col))
}

// outside notes a column that stands outside of GROUP BY and of aggregates.
func (c *combiner) outside(col column) {
	if !c.within && !c.groupsBy(col) && !slices.Contains(c.loose, col) {
		c.loose = append(c.loose, col)
	}
}

// isGrouped says whether an expression is an item of GROUP BY.
func (c *combiner) isGrouped(n *pg.Node) bool {
	return slices.ContainsFunc(c.terms, func(x *pg.Node) bool { return c.a.equal(n, x) })
}

// groupsBy says whether a column is an item of GROUP BY.
func (c *combiner) groupsBy(col column) bool {
	return slices.ContainsFunc(c.terms, func(x *pg.Node) bool {
		y, ok := c.a.columns[x.GetColumnRef()]
		return ok && y == col
	})
}

// dependent adds to GROUP BY the columns that stand outside of it and of aggregates:
// they may because they depend on the table's primary key, which the rows brought
// together don't have. Others are left out: they would make more groups.
func (c *combiner) dependent() {
	if c.cl.group < 0 || c.failed {
		return
	}
	text := ""
	for _, col := range c.loose {
		if c.keyed(col.rte) {
			text += ", " + c.column(col)
			// The table itself can be brought with its key.
			c.failed = c.failed || col.typ().Scalar && !c.groupable(col)
		}
	}
	if text == "" || c.failed {
		return
	}
	if slices.ContainsFunc(c.sel.GroupClause, func(n *pg.Node) bool { return n.GetGroupingSet() != nil }) {
		c.failed = true
		return
	}
	end := int(c.a.toks[c.cl.after(c.cl.group)-1].End)
	c.edits = append(c.edits, edit{byteRange{end, end}, own(text)})
}

// keyed says whether GROUP BY has the primary key of an entry's table.
func (c *combiner) keyed(e *rte) bool {
	has := false
	for n := range e.table.Columns {
		if e.table.Columns[n].Primary {
			if has = c.groupsBy(column{e, n}); !has {
				return false
			}
		}
	}
	return has
}

// mayMean says whether a name whose meaning isn't certain may be of a table that the
// shards join.
func (c *combiner) mayMean(ref *pg.ColumnRef) bool {
	for _, e := range c.b.lvl.rtes {
		if c.source(e) == nil {
			continue
		}
		for _, f := range ref.Fields {
			if str(f) == e.name || f.GetString_() != nil && slices.Contains(e.columns, str(f)) {
				return true
			}
		}
	}
	return false
}

// column is the final statement's name of a column of FROM.
func (c *combiner) column(col column) string {
	s := c.source(col.rte)
	i, ok := s.at[col]
	if !ok {
		t := &col.rte.table.Columns[col.n]
		c.failed = c.failed || OwnOIDs(t.Type)
		if c.grouped && !c.groupable(col) {
			c.raw = true
		}
		expr := own(col.qualified())
		// What is grouped has to be of its own type for that.
		if carried := t.Carried; carried.Type != "" && c.g.inArrays() && !c.grouped {
			i = s.add(carried.send(expr), t.Collation)
			s.carried[i] = carried
		} else {
			i = s.add(expr, t.Collation)
			s.plain = s.plain && t.Scalar
		}
		s.at[col] = i
	}
	return s.column(i)
}

// add adds a column to those that the rows are grouped by.
func (s *source) add(q SQL, collation string) int {
	s.exprs, s.collations = append(s.exprs, q), append(s.collations, collation)
	s.list = append(s.list, strconv.Itoa(len(s.exprs)))
	return len(s.exprs) - 1
}

// addPartial adds a partial result.
func (s *source) addPartial(q SQL, collation string) int {
	s.exprs, s.collations = append(s.exprs, q), append(s.collations, collation)
	return len(s.exprs) - 1
}

// columnName is a name that the client is not likely to have used: in GROUP BY, a name
// alone is that of a column of FROM before that of an output column.
func columnName(i int) string { return "shardgate_" + strconv.Itoa(i+1) }

// name is the name by which the final statement knows a source. Its number comes from
// the first table's place in the text, since the part's is not known yet.
func (s *source) name() string {
	return "shardgate" + strconv.Itoa(s.rtes[0].number)
}

func (s *source) column(i int) string { return s.name() + "." + columnName(i) }

// groupExpr replaces an expression of GROUP BY.
func (c *combiner) groupExpr(n *pg.Node, g *groupExpr) {
	r, ok := c.a.exprText(n)
	if !ok {
		c.failed = true
		return
	}
	s := c.sources[0]
	if g.at < 0 {
		collation, ok := c.a.collation(c.b, n)
		s.plain = s.plain && ok
		g.at = s.add(c.a.span(g.text), collation)
	}
	c.edits = append(c.edits, edit{r, own(s.column(g.at))})
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
	return c.groupsBy(col)
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

// query is what each shard is asked for a source.
func (c *combiner) query(s *source) (SQL, bool) {
	a := c.a
	q := own("SELECT ")
	if len(s.exprs) == 0 {
		s.exprs = []SQL{own("true")} // the rows count, and nothing of them
	}
	for i, e := range s.exprs {
		q = q.add(when(i > 0, ", "), e, " AS "+columnName(i))
	}
	for i, n := range s.items {
		r, ok := c.itemText(n)
		if !ok {
			return nil, false
		}
		q = q.add(choose(i == 0, " FROM ", ", "), a.span(r), "")
	}
	for i, n := range s.conds {
		r, _ := a.exprText(n)
		q = q.add(choose(i == 0, " WHERE (", " AND ("), a.span(r), ")")
	}
	for i, k := range slices.Concat(s.implied, s.keys) {
		q = q.add(choose(i+len(s.conds) == 0, " WHERE ", " AND "), k, "")
	}
	if c.grouped {
		if len(s.list) > 0 {
			q = append(q, Piece{Own: " GROUP BY " + strings.Join(s.list, ", ")})
		}
		if having, ok := c.having(); ok {
			q = q.add(" HAVING (", a.span(having), ")")
		}
		return append(q, c.limit()...), true
	}
	return append(append(q, c.limit()...), Piece{Own: c.g.lockSQL(s.rtes)}), true
}

// itemText is the text of an item of FROM. It is guessed and checked, as that of an
// expression.
func (c *combiner) itemText(n *pg.Node) (byteRange, bool) {
	a := c.a
	want := withoutPlaces(n)
	lo, hi := a.extent(n)
	if lo < 0 {
		return byteRange{}, false
	}
	for from := lo; from >= c.cl.from+1 && lo-from <= maxSpanTokens; from-- {
		for to := hi; to < len(a.toks) && to-hi <= maxSpanTokens; to++ {
			if !a.balanced(from, to) {
				continue
			}
			r := byteRange{int(a.toks[from].Start), int(a.toks[to].End)}
			sel := parseOne("SELECT FROM " + a.text[r.start:r.end]).GetSelectStmt()
			if len(sel.GetFromClause()) == 1 && bareFrom(sel) && same(sel.FromClause[0], want) {
				return r, true
			}
		}
	}
	return byteRange{}, false
}

// bareFrom says whether a SELECT is a FROM clause and nothing else.
func bareFrom(sel *pg.SelectStmt) bool {
	return sel.WhereClause == nil && len(sel.TargetList)+len(sel.GroupClause)+len(sel.WindowClause)+len(sel.SortClause)+len(sel.LockingClause) == 0 &&
		sel.HavingClause == nil && sel.LimitCount == nil && sel.LimitOffset == nil && sel.Larg == nil
}
