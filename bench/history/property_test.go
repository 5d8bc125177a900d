package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a database that runs one transaction after the other, and so shows no anomaly,
// with clients that are told lies about failures only where that is allowed: what fails is
// not done, and what is unknown is done or not.
type model struct {
	rand     *rand.Rand
	h        *History
	now      time.Duration
	balances []int64
	lists    map[int64][]int64
	rows     map[int64]int64 // of registers and of the long fork
	value    int64
	key      int64 // of registers
	forkKey  int64
}

func newModel(seed uint64) *model {
	m := &model{rand: rand.New(rand.NewPCG(seed, 1)), h: &History{Header: Header{Seed: seed, Accounts: 5, Total: 50, Group: 4}},
		lists: map[int64][]int64{}, rows: map[int64]int64{}, forkKey: 1 << 40}
	for range 5 {
		m.balances = append(m.balances, 10)
	}
	return m
}

// run runs so many transactions and then the final reads.
func (m *model) run(n int) *History {
	for range n {
		m.txn()
	}
	for _, w := range []Workload{Lists, Registers, LongFork} {
		t := m.begin(w)
		t.Final, t.Statements, t.Outcome = true, 1, OK
		if w == Lists {
			for k, l := range m.lists {
				t.Ops = append(t.Ops, Op{Func: Read, Key: k, List: slices.Clone(l)})
			}
			continue
		}
		for k, v := range m.rows {
			if (k >= 1<<40) == (w == LongFork) {
				t.Ops = append(t.Ops, Op{Func: Read, Key: k, List: []int64{v}})
			}
		}
	}
	return m.h
}

func (m *model) begin(w Workload) *Txn {
	t := &Txn{ID: len(m.h.Txns) + 1, Workload: w, Session: m.rand.IntN(5), Start: m.now, End: m.now + 1,
		Isolation: ReadCommitted, Statements: 2, Outcome: OK}
	if m.rand.IntN(2) == 0 {
		t.Isolation = RepeatableRead
	}
	m.now += 2
	m.h.Txns = append(m.h.Txns, t)
	return t
}

func (m *model) txn() {
	t := m.begin(Workloads[m.rand.IntN(len(Workloads))])
	done := true
	switch m.rand.IntN(20) {
	case 0:
		t.Outcome, done = Fail, false
	case 1:
		t.Outcome, done = Unknown, m.rand.IntN(2) == 0
	}
	balances := slices.Clone(m.balances)
	for range 1 + m.rand.IntN(4) {
		switch t.Workload {
		case Bank:
			m.bank(t)
		case Lists:
			m.list(t)
		case Registers:
			m.register(t, &m.key)
		case LongFork:
			m.fork(t)
		}
	}
	if !done {
		m.balances = balances
		m.undo(t)
	}
}

// undo takes back what a transaction has appended and written.
func (m *model) undo(t *Txn) {
	for _, op := range t.Ops {
		switch op.Func {
		case Append:
			m.lists[op.Key] = slices.DeleteFunc(slices.Clone(m.lists[op.Key]), func(v int64) bool { return v == op.Value })
		case Write:
			delete(m.rows, op.Key)
		}
	}
}

func (m *model) bank(t *Txn) {
	if m.rand.IntN(2) == 0 {
		t.Ops = append(t.Ops, Op{Func: Balances, List: slices.Clone(m.balances)})
		return
	}
	for _, n := range []int64{-1, 1} {
		a := m.rand.Int64N(5)
		m.balances[a] += n
		t.Ops = append(t.Ops, Op{Func: Add, Key: a, Value: n})
	}
}

// active is a key that is in use: others follow when some hundred values are appended.
func (m *model) active(i int64) int64 { return m.value/300*8 + i }

func (m *model) list(t *Txn) {
	k := m.active(m.rand.Int64N(8))
	if m.rand.IntN(2) == 0 {
		t.Ops = append(t.Ops, Op{Func: Read, Key: k, List: slices.Clone(m.lists[k])})
		return
	}
	m.value++
	m.lists[k] = append(m.lists[k], m.value)
	t.Ops = append(t.Ops, Op{Func: Append, Key: k, Value: m.value})
}

func (m *model) register(t *Txn, key *int64) {
	if m.rand.IntN(2) == 0 && *key > 0 {
		t.Ops = append(t.Ops, m.read(max(1, *key-m.rand.Int64N(10))))
		return
	}
	t.Ops = append(t.Ops, m.write(key))
}

// fork writes one key, if it is the transaction's first operation, or reads a group.
func (m *model) fork(t *Txn) {
	if len(t.Ops) == 0 && m.rand.IntN(3) == 0 {
		t.Ops = append(t.Ops, m.write(&m.forkKey))
		return
	}
	first := m.forkKey / 4 * 4
	t.Ops = append(t.Ops, m.read(first), m.read(first+1), m.read(first+2), m.read(first+3))
}

func (m *model) write(key *int64) Op {
	*key++
	m.value++
	m.rows[*key] = m.value
	return Op{Func: Write, Key: *key, Value: m.value}
}

func (m *model) read(key int64) Op {
	op := Op{Func: Read, Key: key}
	if v, there := m.rows[key]; there {
		op.List = []int64{v}
	}
	return op
}

// A serial execution shows no anomaly.
func TestSerial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newModel(rapid.Uint64().Draw(t, "seed")).run(rapid.IntRange(0, 300).Draw(t, "transactions"))
		if got := kinds(t, h); len(got) > 0 {
			t.Fatalf("%v", got)
		}
	})
}

// injections change a history such that it shows an anomaly of one of some kinds. They
// return none where it has no place for it.
var injections = map[string]func(r *rand.Rand, h *History) []Kind{
	"a balance": func(r *rand.Rand, h *History) []Kind {
		return change(r, h, Bank, Balances, func(_ *Txn, op *Op) []Kind { op.List[0]++; return []Kind{WrongTotal} })
	},
	"a lost register": func(r *rand.Rand, h *History) []Kind {
		return lose(r, h, Registers)
	},
	"a lost key of the long fork": func(r *rand.Rand, h *History) []Kind {
		return lose(r, h, LongFork)
	},
	"a duplicate": func(r *rand.Rand, h *History) []Kind {
		final := finalOf(h, Registers)
		if len(final.Ops) == 0 {
			return nil
		}
		final.Ops = append(final.Ops, final.Ops[r.IntN(len(final.Ops))])
		return []Kind{Duplicate}
	},
	"a failure": func(r *rand.Rand, h *History) []Kind {
		return change(r, h, Registers, Write, func(t *Txn, _ *Op) []Kind {
			if t.Outcome != OK {
				return nil
			}
			t.Outcome = Fail
			return []Kind{G1a}
		})
	},
	"a failed append": func(r *rand.Rand, h *History) []Kind {
		return change(r, h, Lists, Append, func(t *Txn, _ *Op) []Kind {
			if t.Outcome != OK {
				return nil
			}
			t.Outcome = Fail
			return []Kind{G1a}
		})
	},
	"a lost append": func(r *rand.Rand, h *History) []Kind {
		return change(r, h, Lists, Append, func(t *Txn, op *Op) []Kind {
			if t.Outcome != OK {
				return nil
			}
			for _, other := range h.Txns {
				for i := range other.Ops {
					if o := &other.Ops[i]; other.Workload == Lists && o.Func == Read {
						o.List = slices.DeleteFunc(o.List, func(v int64) bool { return v == op.Value })
					}
				}
			}
			return []Kind{LostWrite, HalfCommit}
		})
	},
	// The first transaction of two reads what the second appends.
	"a read from the future": func(r *rand.Rand, h *History) []Kind {
		final := finalOf(h, Lists)
		for _, i := range r.Perm(len(final.Ops)) {
			l := final.Ops[i].List
			if len(l) < 2 {
				continue
			}
			reader, writer := writerOf(h, final.Ops[i].Key, l[0]), writerOf(h, final.Ops[i].Key, l[len(l)-1])
			if reader != writer && reader.Outcome == OK && writer.Outcome == OK {
				reader.Isolation = ReadCommitted
				key := h.Txns[len(h.Txns)-1].Start.Nanoseconds() + 1000 // that nobody uses
				writer.Ops = append(writer.Ops, Op{Func: Append, Key: key, Value: 1})
				reader.Ops = append(reader.Ops, Op{Func: Read, Key: key, List: []int64{1}})
				final.Ops = append(final.Ops, Op{Func: Read, Key: key, List: []int64{1}})
				return []Kind{G1c}
			}
		}
		return nil
	},
	// A snapshot without one of two appends of a transaction.
	"half a snapshot": func(r *rand.Rand, h *History) []Kind {
		for _, i := range r.Perm(len(h.Txns)) {
			t := h.Txns[i]
			if t.Workload != Lists || t.Outcome != OK || t.Final {
				continue
			}
			last := map[int64]int64{}
			for _, op := range t.Ops {
				if op.Func == Append {
					last[op.Key] = op.Value
				}
			}
			if len(last) < 2 {
				continue
			}
			reader := &Txn{ID: len(h.Txns) + 1, Workload: Lists, Session: 99, Isolation: RepeatableRead, Outcome: OK}
			for key, v := range last {
				order := opOf(finalOf(h, Lists), key).List
				end := slices.Index(order, v)
				if len(reader.Ops) > 0 {
					end-- // without v
				}
				for end >= 0 && len(reader.Ops) > 0 && writerOf(h, key, order[end]) == t {
					end-- // and without what it appended before
				}
				reader.Ops = append(reader.Ops, Op{Func: Read, Key: key, List: slices.Clone(order[:end+1])})
				if len(reader.Ops) == 2 {
					break
				}
			}
			h.Txns = append(h.Txns, reader)
			return []Kind{GSingle}
		}
		return nil
	},
	"a fork": func(_ *rand.Rand, h *History) []Kind {
		key := int64(1 << 50)
		for i, n := range []int64{0, 1} {
			h.Txns = append(h.Txns, &Txn{ID: len(h.Txns) + 1, Workload: LongFork, Session: 90 + i, Outcome: Unknown, Ops: []Op{{Func: Write, Key: key + n, Value: n}}})
		}
		for i, n := range []int64{0, 1} {
			h.Txns = append(h.Txns, &Txn{ID: len(h.Txns) + 1, Workload: LongFork, Session: 92 + i, Outcome: OK, Isolation: RepeatableRead,
				Ops: []Op{{Func: Read, Key: key + n, List: []int64{n}}, {Func: Read, Key: key + 1 - n}}})
		}
		return []Kind{Fork}
	},
}

func finalOf(h *History, w Workload) *Txn {
	for _, t := range h.Txns {
		if t.Final && t.Workload == w {
			return t
		}
	}
	return &Txn{}
}

func opOf(t *Txn, key int64) Op {
	for _, op := range t.Ops {
		if op.Key == key {
			return op
		}
	}
	return Op{}
}

func writerOf(h *History, key, value int64) *Txn {
	for _, t := range h.Txns {
		for _, op := range t.Ops {
			if op.Func == Append && op.Key == key && op.Value == value {
				return t
			}
		}
	}
	return nil
}

// change does something to an operation of some transaction.
func change(r *rand.Rand, h *History, w Workload, f Func, do func(*Txn, *Op) []Kind) []Kind {
	for _, i := range r.Perm(len(h.Txns)) {
		if h.Txns[i].Workload != w {
			continue
		}
		for j := range h.Txns[i].Ops {
			if op := &h.Txns[i].Ops[j]; op.Func == f {
				if kinds := do(h.Txns[i], op); kinds != nil {
					return kinds
				}
			}
		}
	}
	return nil
}

// lose removes a row from the final read.
func lose(r *rand.Rand, h *History, w Workload) []Kind {
	final := finalOf(h, w)
	if len(final.Ops) == 0 {
		return nil
	}
	i := r.IntN(len(final.Ops))
	for _, t := range h.Txns {
		for _, op := range t.Ops {
			if op.Func == Write && op.Key == final.Ops[i].Key && t.Outcome == Unknown {
				return nil // it may be missing
			}
		}
	}
	final.Ops = slices.Delete(final.Ops, i, i+1)
	return []Kind{LostWrite, HalfCommit}
}

// What is injected into a serial execution is found.
func TestInjected(t *testing.T) {
	for name, inject := range injections {
		t.Run(name, func(t *testing.T) {
			found := false
			rapid.Check(t, func(t *rapid.T) {
				seed := rapid.Uint64().Draw(t, "seed")
				h := newModel(seed).run(rapid.IntRange(0, 100).Draw(t, "transactions"))
				want := inject(rand.New(rand.NewPCG(seed, 2)), h)
				if want == nil {
					return
				}
				found = true
				got := kinds(t, h)
				if !slices.ContainsFunc(want, func(k Kind) bool { return slices.Contains(got, k) }) {
					t.Fatalf("found %q, want one of %q", got, want)
				}
			})
			if !found {
				t.Error("never injected")
			}
		})
	}
}
