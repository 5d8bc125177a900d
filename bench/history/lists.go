package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// lists is a check of transactions that append to lists and read them. A list shows the
// order of its versions, and each of its elements who wrote it.
type lists struct {
	*Result
	txns    []*Txn
	writers map[place]appended
	order   map[int64][]int64 // by key, all elements that anybody saw
	seen    map[int64]*Txn    // who saw that
	broken  map[int64]bool    // keys without one order
	aborted map[place]bool    // values that were rolled back, seen and reported
	commit  []bool            // by transaction: it is known to be committed
	deps    []dependency
}

type appended struct {
	txn  int32
	last bool // of the transaction's own to that key
}

// checkLists looks for the anomalies that Elle does: G1a, G1b and contradictions while it
// reads, cycles in the graph of dependencies afterwards.
//
// Levels may be mixed. By Adya's rule, a transaction's anti-dependencies count if its level
// forbids them: here, if its reads were of one snapshot.
func checkLists(txns []*Txn, _ *Header, r *Result) error {
	l := &lists{Result: r, txns: txns, writers: map[place]appended{}, order: map[int64][]int64{}, seen: map[int64]*Txn{},
		broken: map[int64]bool{}, aborted: map[place]bool{}, commit: make([]bool, len(txns))}
	if err := l.indexWrites(); err != nil {
		return err
	}
	l.findOrders()
	l.findCommitted()
	reads := 0
	for i, t := range txns {
		if t.Outcome != OK {
			continue
		}
		for _, op := range t.Ops {
			if op.Func == Read {
				reads++
				l.checkRead(int32(i), op)
			}
		}
		l.checkInternal(t)
	}
	for _, f := range finals(txns) {
		l.checkFinal(f)
	}
	l.dependencies()
	l.lostUpdates()
	l.cycles()
	r.Checked = plural(len(l.writers), "append", "to ") + plural(len(l.order), "list", "and ") +
		plural(reads, "read", "of them, ") + plural(len(l.deps), "dependency", "between transactions")
	r.Checked = strings.ReplaceAll(r.Checked, "dependencys", "dependencies")
	return nil
}

func (l *lists) indexWrites() error {
	for i, t := range l.txns {
		last := map[int64]place{}
		for _, op := range t.Ops {
			if op.Func != Append {
				continue
			}
			p := place{op.Key, op.Value}
			if _, there := l.writers[p]; there {
				return fmt.Errorf("%d was appended twice to key %d", op.Value, op.Key)
			}
			if before, there := last[op.Key]; there {
				l.writers[before] = appended{int32(i), false}
			}
			l.writers[p], last[op.Key] = appended{int32(i), true}, p
		}
	}
	return nil
}

// findOrders takes for each key the longest list that anybody read, and holds all others
// against it.
func (l *lists) findOrders() {
	each := func(f func(t *Txn, op Op)) {
		for _, t := range l.txns {
			if t.Outcome == OK {
				for _, op := range t.Ops {
					if op.Func == Read {
						f(t, op)
					}
				}
			}
		}
	}
	each(func(t *Txn, op Op) {
		if longest, there := l.order[op.Key]; !there || len(op.List) > len(longest) {
			l.order[op.Key], l.seen[op.Key] = op.List, t
		}
	})
	each(func(t *Txn, op Op) {
		longest := l.order[op.Key]
		if !slices.Equal(longest[:len(op.List)], op.List) {
			l.broken[op.Key] = true
			l.found(Incompatible, []*Txn{t, l.seen[op.Key]}, "key %d: %s read %s, and %s read %s", op.Key, t, list(op.List), l.seen[op.Key], list(longest))
		}
	})
	for _, key := range slices.Sorted(maps.Keys(l.order)) {
		longest := l.order[key]
		values := map[int64]bool{}
		for _, v := range longest {
			if values[v] {
				l.broken[key] = true
				l.found(Duplicate, []*Txn{l.seen[key]}, "key %d: %s read %s, which has %d twice", key, l.seen[key], list(longest), v)
			}
			values[v] = true
			if w, there := l.writers[place{key, v}]; !there {
				l.found(Garbage, []*Txn{l.seen[key]}, "key %d: %s read %d, which nobody appended", key, l.seen[key], v)
			} else {
				l.checkAborted(l.txns[w.txn], l.seen[key], place{key, v})
			}
		}
	}
}

// findCommitted takes a transaction whose outcome is unknown for committed if anybody saw
// what it wrote.
func (l *lists) findCommitted() {
	for i, t := range l.txns {
		l.commit[i] = t.Outcome == OK
	}
	for key, longest := range l.order {
		for _, v := range longest {
			if w, there := l.writers[place{key, v}]; there && l.txns[w.txn].Outcome == Unknown {
				l.commit[w.txn] = true
			}
		}
	}
}

// checkAborted looks for G1a. A value that was rolled back is reported once, and not again
// for each longer list that has it as well.
func (l *lists) checkAborted(writer, reader *Txn, p place) {
	if writer.Outcome == Fail && !l.aborted[p] {
		l.aborted[p] = true
		l.found(G1a, []*Txn{writer, reader}, "%s read %d at key %d, which %s appended before it was rolled back", reader, p.value, p.key, writer)
	}
}

// checkRead looks for G1a and G1b at the end of a list.
func (l *lists) checkRead(reader int32, op Op) {
	if len(op.List) == 0 {
		return
	}
	t, v := l.txns[reader], op.List[len(op.List)-1]
	w, there := l.writers[place{op.Key, v}]
	if !there || w.txn == reader {
		return
	}
	writer := l.txns[w.txn]
	l.checkAborted(writer, t, place{op.Key, v})
	if !w.last {
		l.found(G1b, []*Txn{writer, t}, "%s read key %d up to %d, after which %s appended more to it in the same transaction", t, op.Key, v, writer)
	}
}

// checkInternal holds a transaction's reads against its own operations before: its appends
// stand last, since it holds the row's lock, and at REPEATABLE READ nothing else is new.
func (l *lists) checkInternal(t *Txn) {
	own := map[int64][]int64{}    // appended
	before := map[int64][]int64{} // what a read should find, if the key was read
	for _, op := range t.Ops {
		known, read := before[op.Key]
		switch op.Func {
		case Append:
			own[op.Key] = append(own[op.Key], op.Value)
			if read {
				before[op.Key] = append(slices.Clone(known), op.Value)
			}
		case Read:
			mine := own[op.Key]
			if n := len(op.List) - len(mine); n < 0 || !slices.Equal(op.List[n:], mine) {
				l.found(Internal, []*Txn{t}, "%s read %s at key %d, to which it had appended %s", t, list(op.List), op.Key, list(mine))
			} else if read && t.Isolation == RepeatableRead && !slices.Equal(known, op.List) {
				l.found(Internal, []*Txn{t}, "%s read %s at key %d, where it should have found %s as before", t, list(op.List), op.Key, list(known))
			}
			before[op.Key] = op.List
		}
	}
}

// checkFinal looks for appends that are not there at the end.
func (l *lists) checkFinal(f finalRead) {
	there := map[place]bool{}
	for key, values := range f.at {
		for _, v := range values {
			there[place{key, v}] = true
		}
	}
	for i, t := range l.txns {
		if !l.commit[i] {
			continue
		}
		var has, lacks []string
		for _, op := range t.Ops {
			if op.Func != Append {
				continue
			}
			text := fmt.Sprintf("%d at key %d", op.Value, op.Key)
			if there[place{op.Key, op.Value}] {
				has = append(has, text)
			} else {
				lacks = append(lacks, text)
			}
		}
		switch {
		case len(lacks) == 0:
		case len(has) > 0:
			l.found(HalfCommit, []*Txn{t}, "%s appended %s, which is there at the end, and %s, which is not", t, strings.Join(has, ", "), strings.Join(lacks, ", "))
		default:
			l.found(LostWrite, []*Txn{t}, "%s was committed, and lacks at the end: %s", t, strings.Join(lacks, ", "))
		}
	}
}

// dependencies makes the graph.
func (l *lists) dependencies() {
	next := map[place]place{} // by a list's element, or none, the committed one after it
	for _, key := range slices.Sorted(maps.Keys(l.order)) {
		order := l.order[key]
		if l.broken[key] {
			continue
		}
		var committed []int64
		for _, v := range order {
			if w, ok := l.writers[place{key, v}]; ok && l.commit[w.txn] {
				committed = append(committed, v)
			}
		}
		for i, v := range committed {
			w := l.writers[place{key, v}]
			if i == 0 {
				next[place{key, none}] = place{key, v}
				continue
			}
			p := place{key, committed[i-1]}
			next[p] = place{key, v}
			if before := l.writers[p]; before.txn != w.txn {
				l.deps = append(l.deps, dependency{before.txn, w.txn, ww, key, p.value, v})
			}
		}
	}
	last := map[int]int32{} // by session
	for i, t := range l.txns {
		if !l.commit[i] {
			continue
		}
		l.readDependencies(int32(i), next)
		if t.Outcome == OK {
			if before, there := last[t.Session]; there {
				l.deps = append(l.deps, dependency{from: before, to: int32(i), kind: session})
			}
			last[t.Session] = int32(i)
		}
	}
}

// none stands for the version of a key before its first append.
const none = -1

func (l *lists) readDependencies(reader int32, next map[place]place) {
	t := l.txns[reader]
	for _, op := range t.Ops {
		if op.Func != Read || l.broken[op.Key] {
			continue
		}
		read := int64(none) // the last element that another one appended
		for i := len(op.List) - 1; i >= 0 && read == none; i-- {
			if w, ok := l.writers[place{op.Key, op.List[i]}]; ok && w.txn != reader && l.commit[w.txn] {
				read = op.List[i]
				l.deps = append(l.deps, dependency{w.txn, reader, wr, op.Key, read, 0})
			}
		}
		if !t.oneSnapshot() {
			continue
		}
		if after, there := next[place{op.Key, read}]; there {
			if w := l.writers[after]; w.txn != reader {
				l.deps = append(l.deps, dependency{reader, w.txn, rw, op.Key, 0, after.value})
			}
		}
	}
}

// lostUpdates looks for transactions that read the same version of a key at REPEATABLE
// READ and then both appended to it.
func (l *lists) lostUpdates() {
	first := map[place]*Txn{}
	for i, t := range l.txns {
		if !l.commit[i] || t.Isolation != RepeatableRead {
			continue
		}
		read := map[int64]int64{} // by key, the last element
		for _, op := range t.Ops {
			switch op.Func {
			case Read:
				if _, there := read[op.Key]; !there {
					read[op.Key] = none
					if n := len(op.List); n > 0 {
						read[op.Key] = op.List[n-1]
					}
				}
			case Append:
				v, there := read[op.Key]
				if !there {
					read[op.Key] = op.Value // blind, or looked at already
					continue
				}
				if w, mine := l.writers[place{op.Key, v}]; mine && l.txns[w.txn] == t {
					continue
				}
				p := place{op.Key, v}
				if other := first[p]; other != nil && other != t {
					l.found(LostUpdate, []*Txn{other, t}, "%s and %s read the same list at key %d, and both appended to it", other, t, op.Key)
				}
				first[p] = t
			}
		}
	}
}
