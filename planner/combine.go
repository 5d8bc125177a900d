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

// source is the one that has an entry of FROM.
func (c *combiner) source(e *rte) *source {
	for _, s := range c.sources {
		if slices.Contains(s.rtes, e) {
			return s
		}
	}
	return nil
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
