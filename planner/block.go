package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// block is one SELECT of a statement with what the analysis has found in it: a query
// level with its text.
type block struct {
	sel      *pg.SelectStmt
	lvl      *level
	parent   *block
	children []*block                // in the order of the analysis
	uses     []use                   // of relations in its own FROM
	unstable string                  // as of analysis, but of this block
	twins    map[*pg.SelectStmt]bool // see twice; nil until it is asked
}

// below says whether a block is another one, or inside it.
func (b *block) below(outer *block) bool {
	for ; b != nil; b = b.parent {
		if b == outer {
			return true
		}
	}
	return false
}

// reference notes which column a reference means, or of which entry of FROM it is the
// row, where that is certain.
func (a *analysis) reference(ref *pg.ColumnRef, lvl *level) {
	c, ok := a.entryColumn(&pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: ref}}, lvl)
	if ok {
		a.entries[ref] = c.rte
	}
	if ok && c.rte.table != nil && !lvl.recasts(ref) {
		a.columns[ref] = c
	} else if e := lvl.row(ref); e != nil {
		a.rows[ref] = e
	}
}

// alone says whether no query level around a block has names that it could mean.
func (b *block) alone() bool {
	for l := b.lvl.parent; l != nil; l = l.parent {
		if len(l.rtes) > 0 {
			return false
		}
	}
	return true
}

// region is a part of a block that may be run on the shards.
type region struct {
	rtes []*rte // of the block, that it refers to
}

// regionOf looks into nodes of block b: whether each shard can run them for its own
// rows of the anchor's table. ok is false where that isn't certain. alone says that a
// name whose column isn't known can only be one of the block's tables, or of a block
// inside.
func (a *analysis) regionOf(b *block, anchor *leaf, alone bool, nodes ...*pg.Node) (r region, ok bool) {
	ok = true
	for _, n := range nodes {
		if n == nil {
			continue
		}
		eachMessageBelow(n, func(m protoMessage) {
			switch v := m.Interface().(type) {
			case *pg.ColumnRef:
				c, known := a.columns[v]
				ok = ok && !a.ownOIDs(v)
				switch {
				case known && c.rte.block == b:
					if !slices.Contains(r.rtes, c.rte) {
						r.rtes = append(r.rtes, c.rte)
					}
				case known && c.rte.block.below(b):
				case known, !alone:
					ok = false
				}
			case *pg.RangeVar:
				u, known := a.useOf(v)
				switch {
				case !known: // the name of a CTE
					ok = false
				case u.rte.leaf != nil:
					ok = ok && anchor != nil && aligned(u.rte.leaf, anchor)
				case u.table == nil || u.table.Distribution != Reference:
					ok = false
				}
			case *pg.SelectStmt:
				if inner := a.blocks[v]; inner == nil || inner.unstable != "" || v.WithClause != nil || len(v.LockingClause) > 0 {
					ok = false
				}
			case *pg.FuncCall:
				ok = ok && (!a.varies(v) || a.replacesClock(v.Location))
			case *pg.TypeCast:
				ok = ok && !oidCast(v)
			case *pg.SQLValueFunction:
				ok = ok && (!clockValue(v) || a.replacesClock(v.Location))
			case *pg.RangeTableSample:
				ok = false
			}
		})
	}
	return r, ok
}

// useOf finds the use of a relation by its name's node.
func (a *analysis) useOf(rv *pg.RangeVar) (use, bool) {
	i := slices.IndexFunc(a.uses, func(u use) bool { return u.rv == rv })
	if i < 0 {
		return use{}, false
	}
	return a.uses[i], true
}

// varies says whether a function may give another value on each shard.
func (a *analysis) varies(f *pg.FuncCall) bool {
	name := unqualified(f.Funcname)
	fn := a.env.Schema.functions[name]
	return clockFunctions[name] || oidFunctions[name] || fn.Volatility == Volatile || fn.User && fn.Volatility != Immutable
}

// clockValue says whether a function without parentheses tells a time.
func clockValue(f *pg.SQLValueFunction) bool {
	switch f.Op {
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE, pg.SQLValueFunctionOp_SVFOP_CURRENT_USER,
		pg.SQLValueFunctionOp_SVFOP_USER, pg.SQLValueFunctionOp_SVFOP_SESSION_USER,
		pg.SQLValueFunctionOp_SVFOP_CURRENT_CATALOG, pg.SQLValueFunctionOp_SVFOP_CURRENT_SCHEMA:
		return false
	}
	return true
}

// conjuncts divides a condition at its ANDs.
func conjuncts(n *pg.Node) []*pg.Node {
	if n == nil {
		return nil
	}
	if b := n.GetBoolExpr(); b != nil && b.Boolop == pg.BoolExprType_AND_EXPR {
		var out []*pg.Node
		for _, x := range b.Args {
			out = append(out, conjuncts(x)...)
		}
		return out
	}
	return []*pg.Node{n}
}

// equated are the two sides of a condition that is an equality; nil for another.
func equated(n *pg.Node) (l, r *pg.Node) {
	e := n.GetAExpr()
	if e.GetKind() != pg.A_Expr_Kind_AEXPR_OP || len(e.Name) != 1 || str(e.Name[0]) != "=" {
		return nil, nil
	}
	return e.Lexpr, e.Rexpr
}

// selectToken is the token SELECT of a block, or -1.
func (a *analysis) selectToken(sel *pg.SelectStmt) int {
	if len(sel.TargetList) == 0 {
		return -1
	}
	i := a.tokenAt(sel.TargetList[0].GetResTarget().Location) - 1
	if a.is(i, ')') && len(sel.DistinctClause) > 0 { // DISTINCT ON (...)
		for depth := 0; i >= 0; i-- {
			if a.is(i, ')') {
				depth++
			} else if a.is(i, '(') {
				if depth--; depth == 0 {
					break
				}
			}
		}
		i--
	}
	for a.keyword(i, "on") || a.keyword(i, "distinct") || a.keyword(i, "all") {
		i--
	}
	if !a.keyword(i, "select") {
		return -1
	}
	return i
}

// probed returns the column of block b that a condition compares with something of a
// query around it: it is looked up for each of that one's rows.
func (a *analysis) probed(b *block, n *pg.Node) (column, bool) {
	l, r := equated(n)
	for _, x := range [][2]*pg.Node{{l, r}, {r, l}} {
		c, ok := a.columns[x[0].GetColumnRef()]
		if !ok || c.rte.block != b || x[1] == nil {
			continue
		}
		outer := false
		eachMessageBelow(x[1], func(m protoMessage) {
			if ref, ok := m.Interface().(*pg.ColumnRef); ok {
				o, known := a.columns[ref]
				outer = outer || known && !o.rte.block.below(b)
			}
		})
		if outer {
			return c, true
		}
	}
	return column{}, false
}

// indexable says whether a column can be indexed.
func indexable(c column) bool {
	t := &c.rte.table.Columns[c.n]
	return t.Scalar && slices.Contains(groupableTypes, t.Type)
}
