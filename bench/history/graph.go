package history

// digraph is a directed graph whose edges lie one after the other, by the node that they
// leave.
type digraph struct {
	first []int32 // of a node's edges; one more than there are nodes
	to    []int32
	label []int32 // of each edge
}

// arc is an edge of a graph that is being made.
type arc struct{ from, to, label int32 }

func newDigraph(nodes int, arcs []arc) *digraph {
	g := &digraph{make([]int32, nodes+1), make([]int32, len(arcs)), make([]int32, len(arcs))}
	for _, a := range arcs {
		g.first[a.from+1]++
	}
	for i := range nodes {
		g.first[i+1] += g.first[i]
	}
	at := make([]int32, nodes)
	copy(at, g.first)
	for _, a := range arcs {
		g.to[at[a.from]], g.label[at[a.from]] = a.to, a.label
		at[a.from]++
	}
	return g
}

func (g *digraph) nodes() int { return len(g.first) - 1 }

// components numbers the strongly connected components, by Tarjan's algorithm with a
// stack of its own: two nodes of one number lie on a common cycle.
func (g *digraph) components() []int32 {
	const unseen = -1
	n := g.nodes()
	comp, low, order := make([]int32, n), make([]int32, n), make([]int32, n)
	for i := range n {
		comp[i], order[i] = unseen, unseen
	}
	at := make([]int32, n) // the next edge of a node that is being visited
	copy(at, g.first)
	var path, open []int32
	var visited, found int32
	for root := range int32(n) {
		if order[root] != unseen {
			continue
		}
		path = append(path, root)
		for len(path) > 0 {
			v := path[len(path)-1]
			if order[v] == unseen {
				order[v], low[v] = visited, visited
				visited++
				open = append(open, v)
			}
			if at[v] < g.first[v+1] {
				w := g.to[at[v]]
				at[v]++
				if order[w] == unseen {
					path = append(path, w)
				} else if comp[w] == unseen {
					low[v] = min(low[v], order[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				parent := path[len(path)-1]
				low[parent] = min(low[parent], low[v])
			}
			if low[v] == order[v] {
				for {
					w := open[len(open)-1]
					open = open[:len(open)-1]
					comp[w] = found
					if w == v {
						break
					}
				}
				found++
			}
		}
	}
	return comp
}

// finder looks for shortest paths within the components of a graph.
type finder struct {
	*digraph
	comp   []int32
	via    []int32 // the edge by which a node was reached
	from   []int32 // and the node before it
	seen   []int32 // the search that reached it
	search int32
}

func newFinder(g *digraph) *finder {
	n := g.nodes()
	return &finder{digraph: g, comp: g.components(), via: make([]int32, n), from: make([]int32, n), seen: make([]int32, n)}
}

// path returns the labels of a shortest path, nil if there is none, and takes from the
// budget, a number of edges, beyond which it gives up. Both ends may be the same node,
// which then is a cycle.
func (f *finder) path(from, to int32, budget *int) []int32 {
	if f.comp[from] != f.comp[to] {
		return nil
	}
	f.search++
	queue := []int32{from}
	for len(queue) > 0 && *budget > 0 {
		v := queue[0]
		queue = queue[1:]
		for e := f.first[v]; e < f.first[v+1]; e++ {
			*budget--
			w := f.to[e]
			if w == to {
				return append(f.back(from, v), f.label[e])
			}
			if f.seen[w] != f.search && f.comp[w] == f.comp[to] && w != from {
				f.seen[w], f.via[w], f.from[w] = f.search, f.label[e], v
				queue = append(queue, w)
			}
		}
	}
	return nil
}

// back lists the labels from a search's beginning to a node that it reached.
func (f *finder) back(from, v int32) []int32 {
	if v == from {
		return nil
	}
	return append(f.back(from, f.from[v]), f.via[v])
}
