package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// dependency is an edge between two transactions (Adya's thesis, section 4.4).
type dependency struct {
	from, to int32 // indices of transactions
	kind     depKind
	key      int64
	a, b     int64 // values of from and of to, where they have one
}

type depKind uint8

const (
	ww      depKind = iota // both appended, one after the other
	wr                     // to read what from appended
	rw                     // from read what to then appended to
	session                // one session committed from before it began to
)

// searchBudget bounds the search for shortest cycles, in edges that are followed: some
// seconds. A history without cycles needs none of it.
const searchBudget = 200_000_000

// cycles looks for them in the graph of dependencies.
func (l *lists) cycles() {
	budget := searchBudget
	l.plainCycles(G0, ww, &budget)
	l.plainCycles(G1c, wr, &budget)
	l.antiCycles(&budget)
	if budget <= 0 {
		l.note("there are too many cycles to look at all of them: the numbers are lower bounds")
	}
}

// plainCycles looks for cycles of ww alone, or of ww and wr with at least one wr: through
// any dependency of the kind. Each component is reported once, by its shortest.
func (l *lists) plainCycles(kind Kind, through depKind, budget *int) {
	f := newFinder(l.graph(false, func(d dependency) bool { return d.kind <= through }))
	shortest := map[int32][]int32{} // by component
	for i, d := range l.deps {
		if d.kind != through || f.comp[d.from] != f.comp[d.to] {
			continue
		}
		if have, there := shortest[f.comp[d.from]]; there && len(have) == 2 {
			continue
		}
		path := f.path(d.to, d.from, budget)
		if path == nil {
			continue
		}
		if have, there := shortest[f.comp[d.from]]; !there || len(path)+1 < len(have) {
			shortest[f.comp[d.from]] = append([]int32{int32(i)}, path...)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(shortest)) {
		l.cycle(kind, shortest[c])
	}
}

// antiCycles looks for cycles with anti-dependencies of which no two are adjacent. A node
// of the graph is a transaction and whether it was reached by one: a walk that has just
// followed one can't follow another.
func (l *lists) antiCycles(budget *int) {
	all := newFinder(l.graph(true, func(dependency) bool { return true }))
	var inCycle []int32
	for i, d := range l.deps {
		if d.kind == rw && all.comp[2*d.from] == all.comp[2*d.to+1] {
			inCycle = append(inCycle, int32(i))
		}
	}
	if len(inCycle) == 0 {
		return
	}
	for _, pass := range []struct {
		kind   Kind
		double bool
		with   func(d dependency) bool
	}{
		{GSingle, false, func(d dependency) bool { return d.kind <= wr }},
		{GNonadjacent, true, func(d dependency) bool { return d.kind <= rw }},
		{GSingleSession, false, func(d dependency) bool { return d.kind != rw }},
		{GNonadjacentSession, true, func(dependency) bool { return true }},
	} {
		f := newFinder(l.graph(pass.double, pass.with))
		if !pass.double {
			// The cycles are closed by an anti-dependency, which is not in this graph.
			f.comp = l.graph(false, func(d dependency) bool { return d.kind == rw || pass.with(d) }).components()
		}
		var rest []int32
		for _, i := range inCycle {
			from, to := l.deps[i].from, l.deps[i].to
			if pass.double {
				from, to = 2*from, 2*to+1
			}
			if path := f.path(to, from, budget); path != nil {
				l.cycle(pass.kind, append([]int32{i}, path...))
			} else {
				rest = append(rest, i)
			}
		}
		inCycle = rest
	}
}

// graph makes one of some dependencies, with a node for each transaction; or, double, two:
// 2n is transaction n, 2n+1 the same reached by an anti-dependency.
func (l *lists) graph(double bool, with func(d dependency) bool) *digraph {
	var arcs []arc
	nodes := len(l.txns)
	if double {
		nodes *= 2
	}
	for i, d := range l.deps {
		switch {
		case !with(d):
		case !double:
			arcs = append(arcs, arc{d.from, d.to, int32(i)})
		case d.kind == rw:
			arcs = append(arcs, arc{2 * d.from, 2*d.to + 1, int32(i)})
		default:
			arcs = append(arcs, arc{2 * d.from, 2 * d.to, int32(i)}, arc{2*d.from + 1, 2 * d.to, int32(i)})
		}
	}
	return newDigraph(nodes, arcs)
}

// cycle reports one, by its dependencies.
func (l *lists) cycle(kind Kind, cycle []int32) {
	if l.Counts[kind] >= examples {
		l.Counts[kind]++
		return
	}
	var words []string
	var txns []*Txn
	for _, i := range cycle {
		d := l.deps[i]
		from, to := l.txns[d.from], l.txns[d.to]
		txns = append(txns, from)
		switch d.kind {
		case ww:
			words = append(words, fmt.Sprintf("%s appended %d to key %d and %s then %d", from, d.a, d.key, to, d.b))
		case wr:
			words = append(words, fmt.Sprintf("%s appended %d to key %d, which %s read", from, d.a, d.key, to))
		case rw:
			words = append(words, fmt.Sprintf("%s read key %d without %d, which %s appended", from, d.key, d.b, to))
		case session:
			words = append(words, fmt.Sprintf("%s was committed before %s began in the same session", from, to))
		}
	}
	l.found(kind, txns, "%s", strings.Join(words, "; "))
}
