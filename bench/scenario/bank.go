package scenario

import (
	"context"
	"fmt"

	"github.com/shardgate/shardgate/bench/history"
)

// bank moves money between two accounts, or reads all balances.
func (c *client) bank() {
	from, to := c.rand.IntN(accounts), c.rand.IntN(accounts-1)
	if to >= from {
		to++
	}
	amount := int64(1 + c.rand.IntN(10))
	switch n := c.rand.IntN(100); {
	case n < 30:
		c.block(history.Bank, c.level(), func(t *txn) error { return c.transfer(t, from, to, amount) })
	case n < 50: // by one statement
		c.single(history.Bank, func(t *txn) error {
			t.Ops = append(t.Ops, history.Op{Func: history.Add, Key: int64(from), Value: -amount}, history.Op{Func: history.Add, Key: int64(to), Value: amount})
			return t.exec(2, fmt.Sprintf("UPDATE histories_bank SET balance = balance + CASE id WHEN %d THEN %d ELSE %d END WHERE id IN (%d, %d)", from, -amount, amount, from, to))
		})
	case n < 70:
		c.single(history.Bank, c.readBank)
	case n < 90:
		c.block(history.Bank, c.level(), func(t *txn) error {
			for range 2 {
				if err := c.readBank(t); err != nil {
					return err
				}
			}
			return nil
		})
	default: // account by account, each on its shard, of one snapshot
		c.block(history.Bank, history.RepeatableRead, c.readAccounts)
	}
}

// transfer changes one account and then the other, always in the same order, since waits
// for each other are not what is looked for.
func (c *client) transfer(t *txn, from, to int, amount int64) error {
	adds := []history.Op{{Func: history.Add, Key: int64(from), Value: -amount}, {Func: history.Add, Key: int64(to), Value: amount}}
	if to < from {
		adds[0], adds[1] = adds[1], adds[0]
	}
	for _, op := range adds {
		t.Ops = append(t.Ops, op)
		if err := t.exec(1, "UPDATE histories_bank SET balance = balance + $1 WHERE id = $2", op.Value, int32(op.Key)); err != nil {
			return err
		}
		if c.chance(10) {
			if err := c.readBank(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// The forms of reading take different ways through a gateway.
var bankReads = []string{
	"SELECT id, balance FROM histories_bank ORDER BY id",
	"SELECT id, b FROM (SELECT id, max(balance) OVER (ORDER BY id ROWS CURRENT ROW) AS b FROM histories_bank) AS t ORDER BY id",
}

const bankSum = "SELECT count(*)::int, sum(balance)::bigint FROM histories_bank"

func (c *client) readBank(t *txn) error {
	if c.chance(30) {
		got, err := query[int32, int64](t, bankSum)
		if err != nil {
			return err
		}
		if len(got) != 1 || got[0].a != accounts {
			return wrong("%v for %s", got, bankSum)
		}
		t.Ops = append(t.Ops, history.Op{Func: history.Sum, Value: got[0].b})
		return nil
	}
	return readBalances(t, bankReads[c.rand.IntN(len(bankReads))])
}

func readBalances(t *txn, sql string) error {
	got, err := query[int32, int64](t, sql)
	if err != nil {
		return err
	}
	op := history.Op{Func: history.Balances}
	for i, p := range got {
		if int(p.a) != i {
			return wrong("account %d in the place of %d for %s", p.a, i, sql)
		}
		op.List = append(op.List, p.b)
	}
	t.Ops = append(t.Ops, op)
	return nil
}

func (c *client) readAccounts(t *txn) error {
	op := history.Op{Func: history.Balances, List: make([]int64, accounts)}
	for _, id := range c.rand.Perm(accounts) {
		got, err := query[int32, int64](t, "SELECT id, balance FROM histories_bank WHERE id = $1", int32(id))
		if err != nil {
			return err
		}
		if len(got) != 1 || int(got[0].a) != id {
			return wrong("%v for account %d", got, id)
		}
		op.List[id] = got[0].b
	}
	t.Ops = append(t.Ops, op)
	return nil
}

// finalRead is how each workload's table is read at the end.
var finalRead = map[history.Workload]string{
	history.Bank:      bankReads[0],
	history.Lists:     "SELECT k, v FROM histories_lists",
	history.Registers: "SELECT k, v FROM histories_registers",
	history.LongFork:  "SELECT k, v FROM histories_fork",
}

// final reads a whole table and records that it is the last read. It returns why it has to
// be tried again.
func (c *client) final(ctx context.Context, w history.Workload) (err error) {
	if !c.connected(ctx) {
		return errNoConnection
	}
	c.single(w, func(t *txn) error {
		t.Final = true
		switch w {
		case history.Bank:
			err = readBalances(t, finalRead[w])
		case history.Lists:
			err = readLists(t, nil, finalRead[w])
		default:
			err = readKeys(t, nil, finalRead[w])
		}
		return err
	})
	if err == nil {
		c.run.record(c.txns)
	}
	c.txns = nil
	return err
}
