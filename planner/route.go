package planner

import (
	"cmp"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// maxKeyAlternatives bounds the combinations of the alternatives of a key's
// columns.
const maxKeyAlternatives = 10_000

// class returns the columns that are equal to c by the facts.
func (f *facts) class(c column) []column {
	out := []column{c}
	for i := 0; i < len(out); i++ {
		for g := f; g != nil; g = g.outer {
			for _, e := range g.equal {
				for k := range 2 {
					if e[k] == out[i] && !slices.Contains(out, e[1-k]) {
						out = append(out, e[1-k])
					}
				}
			}
		}
	}
	return out
}

// pinned returns the pins on any column of the class, those with the fewest
// alternatives first, and before others those that no shard has to compute.
func (f *facts) pinned(class []column) []factPin {
	var out []factPin
	for g := f; g != nil; g = g.outer {
		for _, p := range g.pins {
			if slices.Contains(class, p.column) {
				out = append(out, p)
			}
		}
	}
	slices.SortStableFunc(out, func(x, y factPin) int {
		return cmp.Or(x.size()-y.size(), choose(x.computed(), 1, 0)-choose(y.computed(), 1, 0))
	})
	return out
}

func (p factPin) computed() bool {
	return slices.ContainsFunc(p.keys, func(v Value) bool { return v.Source == Computed })
}

func (p factPin) size() int {
	if p.array != nil {
		return maxKeyAlternatives
	}
	return len(p.keys)
}

// pin finds the keys to which a leaf is pinned.
func (a *analysis) pin(l *leaf) (Pin, bool) {
	out := Pin{Table: l.table, Types: l.table.Key.Types, Stores: l.stores}
	keys := [][]Value{nil}
	for i, n := range l.table.Key.Columns {
		c := column{l.rte, n}
		pins := l.facts.pinned(l.facts.class(c))
		pins = slices.DeleteFunc(pins, func(p factPin) bool { return !a.certain(p, c.family()) })
		if len(pins) == 0 {
			return Pin{}, false
		}
		p := pins[0]
		if p.array != nil {
			if len(l.table.Key.Columns) > 1 {
				return Pin{}, false
			}
			out.Array = p.array
			return out, true
		}
		if len(keys)*len(p.keys) > maxKeyAlternatives {
			return Pin{}, false
		}
		var next [][]Value
		for _, k := range keys {
			for _, v := range p.keys {
				next = append(next, append(slices.Clone(k[:i:i]), v))
			}
		}
		keys = next
	}
	out.Keys = keys
	return out, true
}

// certain says whether the types of a pin's parameters are known to be of the
// column's family. Where only the server's inference can tell, the statement is
// planned again with the types that a shard infers.
func (a *analysis) certain(p factPin, f family) bool {
	vs := p.keys
	if p.array != nil {
		vs = []Value{*p.array}
	}
	for _, v := range vs {
		if v.Source != FromParam || a.declared(v.Index) != 0 {
			continue
		}
		if v.Type != 0 {
			f = familyOfOID(v.Type) // of a cast
		}
		if !a.inferred(v.Index, f) {
			a.uncertain = true
			return false
		}
	}
	return true
}

// pins are the pins of all uses of sharded tables; ok if each has one.
func (a *analysis) pins() (pins []Pin, ok bool) {
	ok = true
	for _, l := range a.leaves {
		p, pinned := a.pin(l)
		if !pinned {
			ok = false
			continue
		}
		pins = append(pins, p)
	}
	return pins, ok
}

// aligned says whether, by the facts at l, its key equals the anchor's, so that
// the rows that meet are on one shard.
func aligned(l, anchor *leaf) bool {
	if l == anchor {
		return true
	}
	if !colocated(l.table.Key, anchor.table.Key) {
		return false
	}
	for i, n := range l.table.Key.Columns {
		key, other := column{l.rte, n}, column{anchor.rte, anchor.table.Key.Columns[i]}
		if !slices.Contains(l.facts.class(key), other) && !slices.Contains(l.used.class(key), other) {
			return false
		}
	}
	return true
}

// spanning checks what must hold of every statement that runs on several shards.
func (a *analysis) spanning() *Refusal {
	switch {
	case a.nestedDML != "":
		return nestedDML()
	case a.opaque != "":
		return readsBehind(a.opaque)
	case a.absent != nil:
		return a.unknownRelation(a.absent)
	case len(a.locals) > 0:
		return &Refusal{Code: "0A000", Message: "a distributed table can't be combined with the local table \"" + a.locals[0] + "\" yet",
			Hint: "Declare \"" + a.locals[0] + "\" as a reference table or as sharded, or query the two separately."}
	case a.locksCopies():
		return unsupported("FOR UPDATE would lock only one shard's copy of a reference table", "Name the sharded tables: FOR UPDATE OF name.")
	case a.home != "":
		return homesOwn(a.home)
	}
	return nil
}

// multi checks what must hold besides when more than one shard takes part.
func (a *analysis) multi() *Refusal {
	switch {
	case a.unknown != "":
		return unknownFunction(a.unknown)
	case a.clock != "":
		return unsupported(a.clock+" would give another time on each shard", "Pass the time as a parameter.")
	case a.stable != "":
		return unsupported(a.stable+" may have another value on each shard", "Declare it IMMUTABLE if it reads neither tables nor the time.")
	case a.shardOwn != "":
		return shardsOwn(a.shardOwn)
	case a.oid != "":
		return unsupported(a.oid+" may give another OID on each shard", "Send the name as text.")
	case a.unstable != "":
		return unsupported("a part of this statement that every shard would run for itself depends on "+a.unstable+", and may give other rows on each",
			"Send that part as a statement of its own, and pass the result as a parameter.")
	}
	return nil
}

// What is refused wherever more than one shard takes part.

func readsBehind(function string) *Refusal {
	return unsupported(function+" may read tables that are spread over shards", "Put the function's query into the statement.")
}

func homesOwn(function string) *Refusal {
	return unsupported(function+" can't be used in a statement over sharded or reference tables", "Call it in a statement of its own and pass the result as a parameter.")
}

func shardsOwn(what string) *Refusal {
	return unsupported(what+" may have another value on each shard", "Read it in a statement of its own.")
}

// scatterFrom checks that a FROM clause gives each of its rows on exactly one
// shard, and returns the sharded table that decides on which.
func (a *analysis) scatterFrom(items []*pg.Node, target *leaf) (*leaf, *Refusal) {
	anchor := target
	if r := a.eachOnItsShard(); r != nil {
		return nil, r
	}
	for _, it := range items {
		side, r := a.side(it)
		if r != nil {
			return nil, r
		}
		if anchor == nil && side != nil {
			anchor = side
		}
	}
	if anchor == nil {
		return nil, unsupported("the sharded tables of this statement are only in subqueries, and not pinned to one key",
			"Compare their keys with constants or parameters, or put them into the FROM clause.")
	}
	for _, l := range a.leaves {
		to := anchor
		if l.to != nil {
			to = l.to
		}
		if !aligned(l, to) {
			if !colocated(l.table.Key, anchor.table.Key) {
				return nil, &Refusal{Code: "0A000",
					Message: "the tables " + anchor.table.String() + " and " + l.table.String() + " are not co-located, and joining them across shards is not supported yet",
					Hint:    "Put them into one group and join them by their keys, or make one of them a reference table."}
			}
			return nil, &Refusal{Code: "0A000",
				Message: "the use of " + l.table.String() + " is not joined to " + anchor.table.String() + " by the key, and joining across shards is not supported yet",
				Hint:    "Add a condition that equates the keys of both, or pin them to one key."}
		}
	}
	return anchor, nil
}

// side returns the first sharded table among a FROM item's rows; nil means that
// the item is the same on each shard.
func (a *analysis) side(n *pg.Node) (*leaf, *Refusal) {
	switch {
	case n.GetRangeVar() != nil:
		for _, l := range a.leaves {
			if l.rv == n.GetRangeVar() {
				return l, nil
			}
		}
		for _, c := range a.items {
			if c.use == n.GetRangeVar() {
				return c.leaf, nil
			}
		}
		return nil, nil
	case n.GetJoinExpr() != nil:
		j := n.GetJoinExpr()
		if j.Alias != nil {
			return nil, unsupported("an alias for a join is not supported over several shards yet", "Name the tables instead.")
		}
		l, r1 := a.side(j.Larg)
		if r1 != nil {
			return nil, r1
		}
		r, r2 := a.side(j.Rarg)
		if r2 != nil {
			return nil, r2
		}
		switch j.Jointype {
		case pg.JoinType_JOIN_INNER:
			if l == nil {
				l = r
			}
			return l, nil
		case pg.JoinType_JOIN_LEFT:
			if l == nil && r != nil {
				return nil, keptSide(r)
			}
			return l, nil
		case pg.JoinType_JOIN_RIGHT:
			if r == nil && l != nil {
				return nil, keptSide(l)
			}
			return r, nil
		default:
			return nil, unsupported("FULL JOIN over shards is not supported yet", "Pin the tables to one key.")
		}
	case n.GetRangeSubselect() != nil:
		sub := n.GetRangeSubselect().Subquery.GetSelectStmt()
		if has := a.within(sub); has {
			if l, ok := a.disjoint(n.GetRangeSubselect()); ok {
				return l, nil
			}
			return nil, unsupported("a subquery in FROM over sharded tables is not supported over several shards yet",
				"Join the tables directly, or pin them to one key.")
		}
		return nil, nil
	case n.GetRangeFunction() != nil:
		if a.volatile {
			return nil, unsupported("a volatile function in FROM would give other rows on each shard", "Use an immutable function.")
		}
		return nil, nil
	}
	return nil, unsupported("this form of FROM item is not supported over several shards yet", "Use tables and joins.")
}

// within says whether a sharded table is used inside a subquery. It is found out once for
// each: a chain of set operations is subqueries within subqueries.
func (a *analysis) within(sel *pg.SelectStmt) bool {
	has, known := a.sharded[sel]
	if !known {
		eachField(sel.ProtoReflect(), func(m protoMessage) { has = a.usesSharded(m) || has })
		if a.sharded == nil {
			a.sharded = map[*pg.SelectStmt]bool{}
		}
		a.sharded[sel] = has
	}
	return has
}

func (a *analysis) usesSharded(m protoMessage) bool {
	switch v := m.Interface().(type) {
	case *pg.SelectStmt:
		return a.within(v)
	case *pg.RangeVar:
		t := a.env.find(v.Schemaname, v.Relname)
		return t != nil && t.Distribution == Sharded
	}
	has := false
	eachField(m, func(m protoMessage) { has = a.usesSharded(m) || has })
	return has
}

func keptSide(l *leaf) *Refusal {
	return unsupported("an outer join that keeps the rows of a reference table and adds those of the sharded table "+l.table.String()+" is not supported over several shards yet",
		"Use an inner join, or pin "+l.table.String()+" to one key.")
}

func rangeName(rv *pg.RangeVar) string {
	if rv.Alias != nil {
		return rv.Alias.Aliasname
	}
	return rv.Relname
}
