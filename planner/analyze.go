package planner

import (
	"cmp"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shardgate/shardgate/planner/sqltext"
)

// The walk over a statement's tree. What names mean in it is in scope.go, what
// its conditions say in facts.go, and where the statement may run for that is
// decided in route.go and select.go.

// analysis is what is found out about one statement while its tree is walked.
type analysis struct {
	env       *Env
	text      string
	stmt      *pg.Node
	lits      []sqltext.Literal
	toks      []sqltext.Token // see tokens
	expansion *expansion      // of views, whose definitions are in the text
	names     bool            // the result's columns are named by the final statement of a Gather
	selects   bool            // the statement is a SELECT, or is about one

	// Where the walk is.
	block    *block
	changing *changed     // the item of WITH
	shared   bool         // in a subquery without sharded tables, which one PostgreSQL would run once
	copies   bool         // a reference table is changed: subqueries have to give the same for each copy
	inserts  bool         // in the RETURNING of an INSERT
	named    *pg.FuncCall // whose result is cast to text: the name of a type, and not its OID

	// The relations that are used.
	uses       []use                 // in FROM clauses
	leaves     []*leaf               // sharded tables
	refs       []*Table              // reference tables
	views      []use                 // views over sharded tables
	mixed      bool                  // a view over reference and local tables is used
	absent     *pg.RangeVar          // a relation that exists nowhere, as far as the snapshot knows
	sampled    map[*pg.RangeVar]bool // uses with TABLESAMPLE
	items      map[string]*changed   // of WITH, that change rows
	withLeaves int                   // uses of sharded tables by the items of an INSERT's WITH, if those but change rows
	withRefs   int                   // likewise of reference tables
	seen       int                   // RangeVars accounted for; see complete

	// The queries, and what names mean in them, where that is certain.
	root    *block // the statement's SELECT
	blocks  map[*pg.SelectStmt]*block
	columns map[*pg.ColumnRef]column        // the tables' columns
	entries map[*pg.ColumnRef]*rte          // whose columns they are, also where these are no table's
	rows    map[*pg.ColumnRef]*rte          // the entries of FROM whose rows are meant
	targets map[*pg.ColumnRef]*pg.ResTarget // output columns that names in GROUP BY, ORDER BY and DISTINCT ON mean

	// What matters to where the statement may run.
	obstacles
	writes   bool   // rows may be changed by a function or a nested statement
	changes  bool   // a function may change rows
	volatile bool   // a volatile function is called
	outerAgg bool   // an aggregate in a subquery may belong to the query around it
	rowType  bool   // the type of a table's row is asked for: rows that are brought together have another
	oid      string // what gives the OID of an object, which is each shard's own
	locks    []*pg.LockingClause

	// What the plan says besides.
	taints       bool
	hold         bool   // what outlives the transaction on its connection
	sessionLock  bool   // a session-level advisory lock
	held         bool   // the statement declares a cursor WITH HOLD
	dated        []int  // literals that are read as a date or a time
	dateFixed    bool   // one of them may be read before the statement runs
	textSpecific bool   // the plan depends on a literal's value
	tells        bool   // the time of the transaction is asked for
	given        *Asked // the defaults that an INSERT's rows are given
	asks         bool   // the gateway is asked for the status of a transaction
	timed        SQL    // see atOneTime

	params     int
	paramNodes map[*pg.ParamRef]family // where a parameter is compared with, or stored in, a column of that family
	paramRefs  map[int][]*pg.ParamRef  // occurrences of $n
	uncertain  bool                    // a pin was left out for want of a parameter's type

	clocks []edit // see replaceClocks
	casts  []edit // see tabular

	// What has been found out before.
	texts      map[*pg.Node]exprRange      // see exprText
	canonicals map[*pg.Node]string         // see canonical
	sharded    map[*pg.SelectStmt]bool     // see within
	rowsOf     map[*pg.SelectStmt][]string // the collations of queries that stand for rows of others, see standIns
	mentions   map[string]mentions         // see mentioned
}

// obstacles are what keeps a statement from being run on several shards, or makes more of it
// necessary: each by the name that messages have for it, "" for none.
type obstacles struct {
	clock     string   // what tells another time on each shard
	stable    string   // a STABLE function of the user's, which may read the clock
	usesHome  string   // a function that uses a local table, or a sequence
	shardOwn  string   // a function whose value differs between shards, such as pg_backend_pid
	home      string   // a function that has to run on the home shard, such as nextval
	opaque    string   // a function that may read distributed tables behind the planner's back
	unknown   string   // a function that the snapshot doesn't hold: it may be anything
	unstable  string   // what gives other rows on each shard though it reads the same rows there; see shared
	nestedDML string   // a data-modifying CTE that is not one of items
	locals    []string // uses of relations that only the home shard has
}

// and adds the obstacles that were met before.
func (o obstacles) and(before obstacles) obstacles {
	return obstacles{
		clock: cmp.Or(o.clock, before.clock), stable: cmp.Or(o.stable, before.stable), usesHome: cmp.Or(o.usesHome, before.usesHome), shardOwn: cmp.Or(o.shardOwn, before.shardOwn),
		home: cmp.Or(o.home, before.home), opaque: cmp.Or(o.opaque, before.opaque), unknown: cmp.Or(o.unknown, before.unknown),
		unstable: cmp.Or(o.unstable, before.unstable), nestedDML: cmp.Or(o.nestedDML, before.nestedDML),
		locals: slices.Concat(before.locals, o.locals),
	}
}

// leaf is one use of a sharded table.
type leaf struct {
	rv    *pg.RangeVar
	table *Table
	rte   *rte
	facts *facts
	level *level
	// Of statements with items of WITH that change rows; see changed. used is, for the
	// table changed, what holds where the item is read. to is the use that it is to be
	// aligned with, for one in an item; nil for the others.
	used *facts
	to   *leaf
	// stores says that rows with the keys of its facts are inserted.
	stores bool
}

// refuse stops the planning of the statement. It is recovered by Plan.
func refuse(r *Refusal) { panic(r) }

func unsupported(message, hint string) *Refusal {
	return &Refusal{Code: "0A000", Message: message, Hint: hint}
}

// complete makes sure that the walk has met every relation of the tree: a node
// that it does not know must not hide one.
func (a *analysis) complete(tree *pg.Node) {
	n := 0
	eachMessage(tree.ProtoReflect(), func(m protoreflect.Message) {
		if _, ok := m.Interface().(*pg.RangeVar); ok {
			n++
		}
	})
	if n != a.seen {
		refuse(unsupported("this form of statement is not supported over shards",
			"Put the tables into the FROM clause, or send the parts as separate statements."))
	}
}

// protoMessage is a message of a tree, as reflection gives it.
type protoMessage = protoreflect.Message

// eachMessage calls f for m and all messages below it.
func eachMessage(m protoreflect.Message, f func(protoreflect.Message)) {
	f(m)
	eachField(m, func(m protoreflect.Message) { eachMessage(m, f) })
}

// eachField calls f for the messages that are directly in m, in the order of its
// fields: equal trees are walked alike, so that equal texts have equal plans.
func eachField(m protoreflect.Message, f func(protoreflect.Message)) {
	if _, ok := m.Interface().(*pg.Node); ok { // one of some hundred fields
		if fd := m.WhichOneof(nodeOneof); fd != nil {
			f(m.Get(fd).Message())
		}
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Message() == nil || !m.Has(fd) {
			continue
		}
		if v := m.Get(fd); fd.IsList() {
			for i := range v.List().Len() {
				f(v.List().Get(i).Message())
			}
		} else {
			f(v.Message())
		}
	}
}

var nodeOneof = (*pg.Node)(nil).ProtoReflect().Descriptor().Oneofs().Get(0)

// relation accounts for a table name in a FROM clause, or as the target of a
// statement, and returns its entry.
func (a *analysis) relation(rv *pg.RangeVar, lvl *level) *rte {
	a.seen++
	e := &rte{name: rangeName(rv), aliased: rv.Alias != nil}
	if rv.Schemaname == gatewaySchema {
		refuse(gatewayOwn())
	}
	if rv.Schemaname == "" {
		if out, ok := lvl.cte(rv.Relname); ok {
			e.see(out, rv.GetAlias().GetColnames())
			a.returns(e, rv)
			return e
		}
	}
	t := a.env.find(rv.Schemaname, rv.Relname)
	e.block, e.number = a.block, len(a.uses)+1
	a.uses = append(a.uses, use{rv, t, e})
	if a.block != nil {
		a.block.uses = append(a.block.uses, use{rv, t, e})
	}
	if t == nil {
		a.locals = append(a.locals, rv.Relname)
		if a.absent == nil && !a.env.system(rv.Schemaname, rv.Relname) {
			a.absent = rv
		}
		return e
	}
	switch t.Distribution {
	case Sharded:
		if t.Key == nil && a.env.Shards > 1 {
			refuse(a.missing(rv))
		}
		e.table = t
		e.leaf = &leaf{rv: rv, table: t, rte: e, level: lvl}
		a.leaves = append(a.leaves, e.leaf)
	case Reference:
		e.table = t
		a.refs = append(a.refs, t)
	case ShardedView:
		if a.env.Shards > 1 {
			if !a.selects || a.expansion != nil {
				refuse(unsupported("a view over a sharded table can't be used in a statement that changes something yet: "+t.String(), writeViewOut))
			}
			a.views = append(a.views, use{rv, t, e})
		}
	case MixedView:
		e.view, a.mixed = t, true
		a.locals = append(a.locals, rv.Relname)
	default:
		a.locals = append(a.locals, rv.Relname)
	}
	for i := range t.Columns {
		e.columns = append(e.columns, t.Columns[i].Name)
	}
	renameColumns(e.columns, rv.GetAlias().GetColnames())
	return e
}

// renameColumns gives the first of some columns the names that an alias lists.
func renameColumns(columns []string, names []*pg.Node) {
	for i, n := range names[:min(len(names), len(columns))] {
		columns[i] = str(n)
	}
}

// missing is PostgreSQL's own error for a relation that does not exist.
func (a *analysis) missing(rv *pg.RangeVar) *Refusal {
	name := rv.Relname
	if rv.Schemaname != "" {
		name = rv.Schemaname + "." + name
	}
	return &Refusal{Code: "42P01", Message: `relation "` + name + `" does not exist`, Position: a.position(rv.Location)}
}

// unknownRelation is missing for one whose distribution isn't known by its name.
func (a *analysis) unknownRelation(rv *pg.RangeVar) *Refusal {
	r := a.missing(rv)
	r.Hint = "If it was made a moment ago through another gateway, try again."
	return r
}

func gatewayOwn() *Refusal {
	return &Refusal{Code: "42501", Message: "permission denied for schema " + gatewaySchema,
		Detail: "The schema holds what the gateways keep on the shards."}
}

// position turns a byte offset into PostgreSQL's position: characters from 1.
func (a *analysis) position(offset int32) int {
	if offset < 0 || int(offset) > len(a.text) {
		return 0
	}
	return len([]rune(a.text[:offset])) + 1
}

// query analyses a SELECT, VALUES or set operation. f holds around it.
func (a *analysis) query(sel *pg.SelectStmt, parent *level, f *facts) *level {
	lvl := &level{parent: parent}
	b := &block{sel: sel, lvl: lvl, parent: a.block}
	if a.block == nil {
		a.root = b
	} else {
		a.block.children = append(a.block.children, b)
	}
	a.blocks[sel] = b
	defer func(outer *block) { a.block = outer }(a.block)
	a.block = b
	if parent != nil && !parent.rows {
		defer func(outer bool) { a.shared = outer }(a.shared)
		if a.shared = a.copies || !a.within(sel); a.shared {
			a.perhapsUnstable(sel)
		}
	}
	a.with(sel.WithClause, lvl)
	if sel.IntoClause != nil && sel.IntoClause.Rel != nil {
		a.into(sel.IntoClause.Rel)
	}
	if sel.Larg != nil {
		a.query(sel.Larg, lvl, f)
		a.query(sel.Rarg, lvl, f)
		a.outputItems(sel, sel.SortClause, lvl, nil, true)
		a.expr(sel.LimitOffset, lvl, nil)
		a.expr(sel.LimitCount, lvl, nil)
		a.locking(sel.LockingClause)
		return lvl
	}
	for _, v := range sel.ValuesLists {
		a.expr(v, lvl, f)
	}
	f = a.from(sel.FromClause, sel.WhereClause, lvl, f)
	a.exprs(sel.TargetList, lvl, f)
	a.outputItems(sel, sel.DistinctClause, lvl, f, true)
	a.outputItems(sel, groupTerms(sel.GroupClause), lvl, f, false)
	a.expr(sel.HavingClause, lvl, f)
	a.exprs(sel.WindowClause, lvl, f)
	a.outputItems(sel, sel.SortClause, lvl, f, true)
	a.expr(sel.LimitOffset, lvl, nil)
	a.expr(sel.LimitCount, lvl, nil)
	a.locking(sel.LockingClause)
	return lvl
}

// locking accounts for the names in FOR UPDATE OF, which are not relations but
// names of FROM entries.
//
// Whoever locks rows takes part in the commit: were the shard only read, its
// locks would go before the other shards have committed. For the same reason
// copies of a reference table are locked on the home shard only.
func (a *analysis) locking(clauses []*pg.Node) {
	for _, c := range clauses {
		a.writes = true
		a.locks = append(a.locks, c.GetLockingClause())
		a.seen += len(c.GetLockingClause().GetLockedRels())
	}
}

// into accounts for the target of SELECT INTO.
func (a *analysis) into(rv *pg.RangeVar) {
	a.seen++
	a.writes = true
	a.locals = append(a.locals, rv.Relname)
	a.notDistributed(rv, "SELECT INTO")
	a.hold = a.hold || a.temporary(rv)
}

// notDistributed refuses to make a distributed table by a statement that would
// fill it on one shard only.
func (a *analysis) notDistributed(rv *pg.RangeVar, what string) {
	if rv.Schemaname == gatewaySchema {
		refuse(gatewayOwn())
	}
	if a.env.Shards == 1 || a.temporary(rv) {
		return
	}
	schema := rv.Schemaname
	if schema == "" {
		schema = a.env.creationSchema()
	}
	if _, ok := a.env.Schema.rules.Rule(schema, rv.Relname); ok {
		refuse(unsupported(what+" can't make a distributed table yet",
			"Use CREATE TABLE, and fill it with COPY or INSERT ... VALUES."))
	}
}

// with analyses common table expressions. Nothing that holds around the query
// holds in them.
func (a *analysis) with(w *pg.WithClause, lvl *level) {
	if w == nil {
		return
	}
	if lvl.ctes == nil {
		lvl.ctes = map[string]outputs{}
	}
	if w.Recursive {
		// They may refer to later ones as well.
		for _, c := range w.Ctes {
			lvl.ctes[c.GetCommonTableExpr().Ctename] = outputs{}
		}
	}
	for _, c := range w.Ctes {
		cte := c.GetCommonTableExpr()
		if a.items[cte.Ctename] != nil {
			a.nestedDML = "WITH" // a name for two things
		}
		// A CTE sees the levels around the query, not the query's FROM.
		inner := &level{parent: lvl.parent, ctes: lvl.ctes}
		if sel := cte.Ctequery.GetSelectStmt(); sel != nil {
			in := a.query(sel, inner, nil)
			lvl.ctes[cte.Ctename] = a.outputsOf(cte, w, in)
		} else {
			if w.Recursive || !a.changesRows(cte, inner) {
				a.nested(cte.Ctequery)
			}
			lvl.ctes[cte.Ctename] = outputs{}
		}
		if cte.SearchClause != nil || cte.CycleClause != nil {
			if cte.CycleClause != nil {
				a.expr(cte.CycleClause.CycleMarkValue, inner, nil)
				a.expr(cte.CycleClause.CycleMarkDefault, inner, nil)
			}
		}
	}
}

// nested accounts for a data-modifying statement in a WITH clause: it is taken
// for what it may touch, without facts. A target is a table even if a CTE has its
// name, so that no name is taken for a CTE's here.
func (a *analysis) nested(n *pg.Node) {
	a.writes = true
	a.nestedDML = "WITH"
	eachMessage(n.ProtoReflect(), func(m protoreflect.Message) {
		switch v := m.Interface().(type) {
		case *pg.RangeVar:
			a.relation(v, &level{})
		case *pg.FuncCall:
			a.function(v)
		case *pg.SQLValueFunction:
			a.valueFunction(v)
		case *pg.ParamRef:
			a.param(v)
		}
	})
}

// exprs and expr look for subqueries, functions and parameters in expressions.
func (a *analysis) exprs(ns []*pg.Node, lvl *level, f *facts) {
	for _, n := range ns {
		a.expr(n, lvl, f)
	}
}

func (a *analysis) expr(n *pg.Node, lvl *level, f *facts) {
	if n == nil {
		return
	}
	a.walk(n.ProtoReflect(), lvl, f)
}

func (a *analysis) walk(m protoreflect.Message, lvl *level, f *facts) {
	switch v := m.Interface().(type) {
	case *pg.ColumnRef:
		a.systemColumn(v)
		a.reference(v, lvl)
		if c, ok := a.column(&pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: v}}, lvl); ok && OwnOIDs(c.rte.table.Columns[c.n].Type) {
			a.oid = "column " + unqualified(v.Fields)
		}
		return
	case *pg.ResTarget:
		if a.shown(v.Val, lvl) {
			a.exprs(v.Indirection, lvl, f)
			return
		}
	case *pg.A_Const, *pg.TypeName:
		return
	case *pg.TypeCast:
		a.castDate(v)
		if unqualified(v.TypeName.Names) == "text" {
			if a.shown(v.Arg, lvl) {
				return
			}
			a.named = v.Arg.GetFuncCall()
		}
		if oidCast(v) {
			a.oid = "a cast to " + unqualified(v.TypeName.Names)
		}
	case *pg.A_Expr:
		if compares, isNew := comparesXmax(v); a.inserts && compares {
			a.textSpecific = true
			if isNew {
				return
			}
		}
		a.operator(v.Name)
		a.compareDate(v, lvl)
	case *pg.ParamRef:
		a.param(v)
		return
	case *pg.FuncCall:
		a.function(v)
		a.aggregateLevel(v, lvl)
	case *pg.JsonArrayAgg, *pg.JsonObjectAgg:
		a.sharedCall(jsonAggregate, lvl)
		a.outerAgg = a.outerAgg || lvl.parent != nil
	case *pg.SQLValueFunction:
		a.valueFunction(v)
	case *pg.MultiAssignRef:
		if v.Colno > 1 { // the source is that of the first column, again
			eachMessage(m, func(m protoreflect.Message) {
				if _, ok := m.Interface().(*pg.RangeVar); ok {
					a.seen++
				}
			})
			return
		}
	case *pg.SubLink:
		a.operator(v.OperName)
		a.expr(v.Testexpr, lvl, f)
		if sel := v.Subselect.GetSelectStmt(); sel != nil {
			a.query(sel, lvl, f)
		}
		return
	case *pg.SelectStmt:
		a.query(v, lvl, nil)
		return
	}
	eachField(m, func(m protoreflect.Message) { a.walk(m, lvl, f) })
}

// shown walks a column that is put out as it is, or as text: the OID of an object is its
// name there. It says whether it is one.
func (a *analysis) shown(n *pg.Node, lvl *level) bool {
	ref := n.GetColumnRef()
	if ref != nil {
		a.systemColumn(ref)
		a.reference(ref, lvl)
	}
	return ref != nil
}

func (a *analysis) param(p *pg.ParamRef) {
	a.params = max(a.params, int(p.Number))
	a.paramRefs[int(p.Number)] = append(a.paramRefs[int(p.Number)], p)
}

// inferred says whether PostgreSQL is certain to give the undeclared parameter
// n (from 0) a type of family f: every use of it is next to such a column.
func (a *analysis) inferred(n int, f family) bool {
	return !slices.ContainsFunc(a.paramRefs[n+1], func(p *pg.ParamRef) bool {
		g, known := a.paramNodes[p]
		return !known || g != f
	})
}

// str is the value of a String node.
func str(n *pg.Node) string { return n.GetString_().GetSval() }

// stringsOf are the values of String nodes.
func stringsOf(ns []*pg.Node) []string {
	var out []string
	for _, n := range ns {
		out = append(out, str(n))
	}
	return out
}

// unqualified is the last part of a name, which is without a schema or the like; "" for none.
func unqualified(name []*pg.Node) string {
	if len(name) == 0 {
		return ""
	}
	return str(name[len(name)-1])
}
