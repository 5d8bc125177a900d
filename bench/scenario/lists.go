package scenario

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/shardgate/shardgate/bench/history"
)

var errNoConnection = errors.New("the gateway can't be reached")

const (
	activeLists = 8  // keys that are in use at a time
	listLength  = 40 // appends, after which a key gives its place to a new one
)

// listKeys are the keys that are in use: few, so that transactions meet, and of lists that
// are short, since each read returns a whole one.
type listKeys struct {
	mu      sync.Mutex
	appends [activeLists]int
	keys    [activeLists]int64
	next    int64
}

// draw chooses a key, to append to or to read.
func (l *listKeys) draw(i int, toAppend bool) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys[i] == 0 || l.appends[i] == listLength {
		l.next++
		l.keys[i], l.appends[i] = l.next, 0
	}
	if toAppend {
		l.appends[i]++
	}
	return l.keys[i]
}

// list appends to lists and reads them, in a block or by one statement.
func (c *client) list() {
	n := 1 + c.rand.IntN(4)
	if c.chance(20) {
		n = 1
	}
	switch kind := c.rand.IntN(100); {
	case kind < 15:
		c.single(history.Lists, func(t *txn) error { return c.readSome(t, 3) })
	case kind < 30:
		c.single(history.Lists, func(t *txn) error { return c.appendSome(t, 1+c.rand.IntN(3)) })
	default:
		c.block(history.Lists, c.level(), func(t *txn) error {
			for range n {
				if err := c.listStep(t); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// listStep is one statement of a block.
func (c *client) listStep(t *txn) error {
	switch n := c.rand.IntN(100); {
	case n < 50:
		return c.appendSome(t, 1)
	case n < 90:
		key := c.run.lists.draw(c.rand.IntN(activeLists), false)
		return readLists(t, []int64{key}, "SELECT k, v FROM histories_lists WHERE k = $1", key)
	default:
		return c.readSome(t, 2)
	}
}

// appendSome appends a value to each of so many keys, by one statement.
func (c *client) appendSome(t *txn, n int) error {
	sql := "INSERT INTO histories_lists (k, v) VALUES "
	var args []any
	for i, slot := range c.rand.Perm(activeLists)[:n] {
		op := history.Op{Func: history.Append, Key: c.run.lists.draw(slot, true), Value: c.run.values.Add(1)}
		t.Ops = append(t.Ops, op)
		if i > 0 {
			sql += ", "
		}
		sql += fmt.Sprintf("($%d, $%d)", 2*i+1, 2*i+2)
		args = append(args, op.Key, strconv.FormatInt(op.Value, 10))
	}
	return t.exec(int64(n), sql+" ON CONFLICT (k) DO UPDATE SET v = histories_lists.v || ',' || excluded.v", args...)
}

// readSome reads so many keys by one statement.
func (c *client) readSome(t *txn, n int) error {
	var keys []int64
	for _, slot := range c.rand.Perm(activeLists)[:n] {
		keys = append(keys, c.run.lists.draw(slot, false))
	}
	return readLists(t, keys, "SELECT k, v FROM histories_lists WHERE k IN ("+numbers(keys)+")")
}

func numbers(keys []int64) string {
	var list []string
	for _, k := range keys {
		list = append(list, strconv.FormatInt(k, 10))
	}
	return strings.Join(list, ", ")
}

// readLists runs a query for lists and records what was read of the keys: those that have
// no row, too. Without keys it records what is there.
func readLists(t *txn, keys []int64, sql string, args ...any) error {
	got, err := query[int64, string](t, sql, args...)
	if err != nil {
		return err
	}
	found := map[int64][]int64{}
	for _, p := range got {
		if _, twice := found[p.a]; twice {
			return wrong("two rows of key %d", p.a)
		}
		var list []int64
		for _, text := range strings.Split(p.b, ",") {
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return wrong("key %d: %q is no list", p.a, p.b)
			}
			list = append(list, v)
		}
		found[p.a] = list
		if keys == nil {
			t.Ops = append(t.Ops, history.Op{Func: history.Read, Key: p.a, List: list})
		}
	}
	for _, k := range keys {
		t.Ops = append(t.Ops, history.Op{Func: history.Read, Key: k, List: found[k]})
	}
	return nil
}

// readKeys is readLists for tables of a value in each row.
func readKeys(t *txn, keys []int64, sql string, args ...any) error {
	got, err := query[int64, int64](t, sql, args...)
	if err != nil {
		return err
	}
	found := map[int64][]int64{}
	for _, p := range got {
		found[p.a] = append(found[p.a], p.b)
		if keys == nil {
			t.Ops = append(t.Ops, history.Op{Func: history.Read, Key: p.a, List: []int64{p.b}})
		}
	}
	for _, k := range keys {
		t.Ops = append(t.Ops, history.Op{Func: history.Read, Key: k, List: found[k]})
	}
	return nil
}
