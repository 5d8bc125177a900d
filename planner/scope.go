package planner

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// A column counts as one of a table's only where the rules of names leave no
// doubt: a reference that may mean something else is left unresolved, and nothing
// is then concluded from it.

// level is one query level: its FROM entries are visible to its expressions and
// to the levels nested in it.
type level struct {
	parent  *level
	rtes    []*rte
	ctes    map[string]outputs
	merged  map[string]column // columns merged by USING; the zero column where neither side has the value
	recast  map[string]bool   // of these, those that may have another type or look otherwise than the column
	hidden  bool              // NATURAL has merged columns that are not known: no unqualified name is certain
	rows    bool              // the query in it gives the rows of an INSERT
	unnamed bool              // an entry has a name that is not known: no qualified name of a level outside is certain
}

// scope is the part of a level that some of its FROM entries make up: what ON
// and LATERAL see of it. A name that only other entries have is one of the levels
// around it.
func (l *level) scope(rtes []*rte) *level {
	s := &level{parent: l.parent, rtes: slices.Clone(rtes), ctes: l.ctes, recast: l.recast, hidden: l.hidden, unnamed: l.unnamed}
	for name, c := range l.merged {
		if c.rte == nil || slices.Contains(s.rtes, c.rte) {
			if s.merged == nil {
				s.merged = map[string]column{}
			}
			s.merged[name] = c
		}
	}
	return s
}

// outputs are the columns of a query: their names, and which tables' columns they are.
// The zero value is for one whose columns are not known.
type outputs struct {
	names []string
	cols  []column
}

// cte finds what a name means if it is a CTE's.
func (l *level) cte(name string) (outputs, bool) {
	for ; l != nil; l = l.parent {
		if out, ok := l.ctes[name]; ok {
			return out, true
		}
	}
	return outputs{}, false
}

// rte is an entry of a FROM clause.
type rte struct {
	name    string
	aliased bool
	table   *Table   // nil unless it is a sharded or reference table
	view    *Table   // a view over local tables
	columns []string // by position, as they are visible; nil when unknown
	inside  []column // of a subquery: the tables' columns that its columns are, the zero column for none
	leaf    *leaf
	changed *changed // that it is the rows of
	block   *block
	number  int // among the statement's, from 1
}

// column is one column of an entry.
type column struct {
	rte *rte
	n   int
}

// qualified is the column's name with that of its entry.
func (c column) qualified() string {
	return QuoteIdent(c.rte.name) + "." + QuoteIdent(c.rte.columns[c.n])
}

func (c column) family() family {
	if c.rte == nil || c.rte.table == nil || c.n >= len(c.rte.table.Columns) {
		return familyNone
	}
	return familyOfOID(c.rte.table.Columns[c.n].Type)
}

// bytewise says whether values of the column that are equal have the same bytes.
func (c column) bytewise() bool {
	switch c.family() {
	case familyText, familyBpchar:
		return c.rte.table.Columns[c.n].Deterministic
	}
	return true
}

// row is the entry whose row a name alone means, as none of the columns that it could be
// has it; nil where that isn't certain.
func (l *level) row(ref *pg.ColumnRef) *rte {
	name := str(ref.Fields[0])
	if len(ref.Fields) > 1 || name == "" {
		return nil
	}
	for o := l; o != nil; o = o.parent {
		if o.mayHave(name) {
			return nil
		}
	}
	for ; l != nil && !l.unnamed; l = l.parent {
		for _, e := range l.rtes {
			if e.name == name {
				return e
			}
		}
	}
	return nil
}

// recasts says whether a reference is to a merged column that is not just one of its
// sides' columns.
func (l *level) recasts(ref *pg.ColumnRef) bool {
	for ; l != nil && len(ref.Fields) == 1; l = l.parent {
		if _, ok := l.merged[str(ref.Fields[0])]; ok {
			return l.recast[str(ref.Fields[0])]
		}
	}
	return false
}

// column resolves a column reference; ok only when it is certain which column
// of which table it is. That table may be inside a subquery in FROM.
func (a *analysis) column(n *pg.Node, lvl *level) (column, bool) {
	c, ok := a.entryColumn(n, lvl)
	c = c.base()
	return c, ok && c.rte != nil
}

// entryColumn resolves a column reference to a column of a FROM entry.
func (a *analysis) entryColumn(n *pg.Node, lvl *level) (column, bool) {
	ref := n.GetColumnRef()
	if ref == nil {
		return column{}, false
	}
	var names []string
	for _, f := range ref.Fields {
		if f.GetString_() == nil {
			return column{}, false
		}
		names = append(names, str(f))
	}
	for l := lvl; l != nil; l = l.parent {
		if len(names) == 1 {
			if c, ok := l.merged[names[0]]; ok {
				return c, c.rte != nil
			}
			var found column
			unknown := l.hidden
			for _, e := range l.rtes {
				if e.columns == nil {
					unknown = true
				} else if i := slices.Index(e.columns, names[0]); i >= 0 {
					if found.rte != nil {
						return column{}, false
					}
					found = column{e, i}
				}
			}
			if found.rte != nil {
				return found, !l.hidden
			}
			if unknown {
				return column{}, false
			}
			continue
		}
		if len(names) > 3 {
			return column{}, false
		}
		table, name := names[len(names)-2], names[len(names)-1]
		for _, e := range l.rtes {
			if e.name != table || len(names) == 3 && (e.aliased || e.table == nil || e.table.Schema != names[0]) {
				continue
			}
			i := slices.Index(e.columns, name)
			return column{e, i}, i >= 0
		}
		if l.unnamed {
			return column{}, false
		}
	}
	return column{}, false
}
