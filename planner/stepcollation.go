package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// collate finds the collations of the rows that the items give to other pieces: arrays,
// as which they travel, have none.
func (s *stepper) collate(*pg.Node) *Refusal {
	for _, p := range s.order {
		if p.cte == nil {
			continue
		}
		names, collations, ok := s.outputs(p)
		at := slices.Index(s.pieces, p)
		read := slices.ContainsFunc(s.order, func(x *piece) bool { return slices.Contains(x.after, at) })
		if !ok && read && s.mentionsCollations(p) {
			return unsupported("a data-modifying WITH over several shards with an item whose columns' collations are not known is not supported yet", "Return the columns themselves, and write COLLATE where they are compared.")
		}
		p.names, p.collations = names, collations
	}
	return nil
}

// mentionsCollations says whether what a piece returns may have other collations than the
// database's.
func (s *stepper) mentionsCollations(p *piece) bool {
	gives := p.gives()
	if hasCollate(gives.ProtoReflect()) || s.a.castsCollated(gives.ProtoReflect()) || slices.ContainsFunc(p.after, func(i int) bool { return mixed(s.pieces[i].collations) }) {
		return true
	}
	w := s.a.wanted(gives)
	return slices.ContainsFunc(s.a.uses, func(u use) bool {
		return (u.rv == p.target || slices.Contains(p.reads, u.rv)) && u.table != nil && slices.ContainsFunc(w.columns(u.table, u), func(name string) bool {
			return s.a.env.Schema.collated(&u.table.Columns[u.table.Column(name)])
		})
	})
}

// mixed says whether one of some columns has another collation than the database's.
func mixed(collations []string) bool {
	return slices.ContainsFunc(collations, func(c string) bool { return c != "" })
}

// collations are those of the columns of a use that are wanted.
func (w *wanted) collations(u use) (out []string) {
	if u.table == nil {
		return nil
	}
	for _, name := range w.columns(u.table, u) {
		out = append(out, u.table.Columns[u.table.Column(name)].Collation)
	}
	return out
}

// gives is what the values that a piece returns are made of: its list of RETURNING where
// that is of columns of tables and items, or all of it.
func (p *piece) gives() *pg.Node {
	if p.target == nil || p.stmt.GetMergeStmt() != nil || withOf(p.stmt) != nil ||
		slices.ContainsFunc(p.from(), func(n *pg.Node) bool { return n.GetRangeVar() == nil }) {
		return p.stmt
	}
	return &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: &pg.SelectStmt{TargetList: p.returning()}}}
}

// from is what an UPDATE or DELETE is joined with.
func (p *piece) from() []*pg.Node {
	return slices.Concat(p.stmt.GetUpdateStmt().GetFromClause(), p.stmt.GetDeleteStmt().GetUsingClause())
}

// returning is the list of RETURNING, except a MERGE's.
func (p *piece) returning() []*pg.Node {
	return slices.Concat(p.stmt.GetInsertStmt().GetReturningList(), p.stmt.GetUpdateStmt().GetReturningList(), p.stmt.GetDeleteStmt().GetReturningList())
}

// outputs are the names of the columns that an item gives, and their collations, as in
// Step. They are those of a query: what an item with RETURNING gives is what its list
// would be over the table that it changes and those that this is joined with. The names
// are empty where they aren't known.
func (s *stepper) outputs(p *piece) (names, collations []string, ok bool) {
	var sel *pg.SelectStmt
	switch {
	case p.self || p.stmt.GetMergeStmt() != nil || p.target != nil && withOf(p.stmt) != nil:
		return nil, nil, false
	case p.target == nil:
		sel = p.stmt.GetSelectStmt()
	default:
		target := &pg.Node{Node: &pg.Node_RangeVar{RangeVar: p.target}}
		sel = &pg.SelectStmt{TargetList: named(p.returning()), FromClause: append([]*pg.Node{target}, p.from()...)}
	}
	sel = proto.Clone(sel).(*pg.SelectStmt)
	a := newAnalysis(s.a.env, s.a.text, &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: sel}}, s.a.lits)
	a.selects = true
	if a.rowsOf, ok = s.standIns(p, a.stmt); !ok {
		return nil, nil, false
	}
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(*Refusal); !is {
				panic(r)
			}
			names, collations, ok = nil, nil, false
		}
	}()
	lvl := a.query(sel, nil, nil)
	if collations, ok = a.collations(a.blocks[sel]); !ok {
		return nil, nil, false
	}
	names, _, known := a.outputs(sel, lvl)
	if !known {
		names = make([]string, len(collations))
	}
	if len(names) != len(collations) || len(p.cte.Aliascolnames) > len(names) {
		return nil, nil, false
	}
	renameColumns(names, p.cte.Aliascolnames)
	return names, collations, true
}

// standIns puts subqueries, which are nothing to be run, in the place of the items that a
// piece reads: of columns with their names. It returns the collations of each.
func (s *stepper) standIns(p *piece, n *pg.Node) (rowsOf map[*pg.SelectStmt][]string, ok bool) {
	rowsOf, ok = map[*pg.SelectStmt][]string{}, true
	eachMessageBelow(n, func(m protoMessage) {
		n, _ := m.Interface().(*pg.Node)
		from := n.GetRangeVar()
		i := slices.IndexFunc(p.items, func(rv *pg.RangeVar) bool { return from != nil && proto.Equal(rv, from) })
		if i < 0 {
			return
		}
		item := s.pieces[p.after[i]]
		if item.names == nil {
			ok = false
			return
		}
		rows := &pg.SelectStmt{}
		for _, name := range item.names {
			null := &pg.Node{Node: &pg.Node_AConst{AConst: &pg.A_Const{Isnull: true}}}
			rows.TargetList = append(rows.TargetList, &pg.Node{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Name: name, Val: null}}})
		}
		rowsOf[rows] = item.collations
		alias := from.Alias
		if alias == nil {
			alias = &pg.Alias{Aliasname: from.Relname}
		}
		n.Node = &pg.Node_RangeSubselect{RangeSubselect: &pg.RangeSubselect{Subquery: &pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: rows}}, Alias: alias}}
	})
	return rowsOf, ok
}
