package scenario

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/shardgate/shardgate/bench/history"
)

// recentWrites are the keys of the last transactions that write registers, from when they
// begin: those that are worth reading.
type recentWrites struct {
	mu   sync.Mutex
	ring [16][]int64
	next int
	key  int64
}

// take gives so many new keys.
func (w *recentWrites) take(n int) []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]int64, n)
	for i := range keys {
		w.key++
		keys[i] = w.key
	}
	w.ring[w.next%len(w.ring)] = keys
	w.next++
	return keys
}

// draw gives the keys of one of the last transactions.
func (w *recentWrites) draw(r *rand.Rand) []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == 0 {
		return nil
	}
	return w.ring[r.IntN(min(w.next, len(w.ring)))]
}

// register writes some keys that are new, or reads those of a recent transaction.
func (c *client) register() {
	if c.chance(45) {
		if keys := c.run.registers.draw(c.rand); keys != nil {
			c.readTogether(history.Registers, "histories_registers", keys)
			return
		}
	}
	var ops []history.Op
	for _, k := range c.run.registers.take(1 + c.rand.IntN(4)) {
		ops = append(ops, history.Op{Func: history.Write, Key: k, Value: c.run.values.Add(1)})
	}
	together := func(t *txn) error {
		var rows []string
		for _, op := range ops {
			rows = append(rows, fmt.Sprintf("(%d, %d)", op.Key, op.Value))
		}
		t.Ops = append(t.Ops, ops...)
		return t.exec(int64(len(rows)), "INSERT INTO histories_registers (k, v) VALUES "+strings.Join(rows, ", "))
	}
	switch n := c.rand.IntN(100); {
	case n < 40:
		c.single(history.Registers, together)
	case n < 55:
		c.block(history.Registers, c.level(), together)
	default:
		c.block(history.Registers, c.level(), func(t *txn) error {
			for _, op := range ops {
				t.Ops = append(t.Ops, op)
				if err := t.exec(1, "INSERT INTO histories_registers (k, v) VALUES ($1, $2)", op.Key, op.Value); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// readTogether reads keys of one snapshot: by one statement, or at REPEATABLE READ by one
// for each.
func (c *client) readTogether(w history.Workload, table string, keys []int64) {
	if c.chance(60) {
		c.single(w, func(t *txn) error {
			return readKeys(t, keys, "SELECT k, v FROM "+table+" WHERE k IN ("+numbers(keys)+")")
		})
		return
	}
	c.block(w, history.RepeatableRead, func(t *txn) error {
		for _, i := range c.rand.Perm(len(keys)) {
			if err := readKeys(t, keys[i:i+1], "SELECT k, v FROM "+table+" WHERE k = $1", keys[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// forkGroups hands out the keys of the long fork: a group's are written and read at the
// same time, and then the next group's.
type forkGroups struct {
	mu   sync.Mutex
	next int64
}

func (g *forkGroups) write() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next++
	return g.next - 1
}

// read gives the group that is being written, or one before.
func (g *forkGroups) read(back int64) (keys []int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := max(0, (g.next-1)/forkGroup-back) * forkGroup
	for i := range int64(forkGroup) {
		keys = append(keys, first+i)
	}
	return keys
}

// fork writes one key, or reads a group of them.
func (c *client) fork() {
	if c.chance(70) {
		c.readTogether(history.LongFork, "histories_fork", c.run.groups.read(int64(c.rand.IntN(3)/2)))
		return
	}
	op := history.Op{Func: history.Write, Key: c.run.groups.write(), Value: c.run.values.Add(1)}
	c.single(history.LongFork, func(t *txn) error {
		t.Ops = append(t.Ops, op)
		return t.exec(1, "INSERT INTO histories_fork (k, v) VALUES ($1, $2)", op.Key, op.Value)
	})
}
