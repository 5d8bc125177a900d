package workload

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Transfers move an amount between accounts on different shards.
var (
	transfer2 = transfer("transfer", 2)
	transfer3 = transfer("transfer-3", 3)
	transfer4 = transfer("transfer-4", 4)
)

var (
	transferBegin  = load.NewStatement("t0", "BEGIN", "BEGIN")
	transferUpdate = load.NewStatement("t1", "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2", "UPDATE 1")
	transferCommit = load.NewStatement("t2", "COMMIT", "COMMIT")
)

// transfer is one between so many accounts.
func transfer(name string, accountCount int) *Workload {
	w := &Workload{
		Name:       name,
		About:      fmt.Sprintf("a transaction that moves an amount between %d accounts on different shards", accountCount),
		Data:       accounts,
		Statements: []*load.Statement{transferBegin, transferUpdate, transferCommit},
		Script: scripted(func(s Setup) func(*load.Work, *rand.Rand) {
			return moves(s, accountsOf(s.Size), accountCount, transferUpdate)
		}),
		Clients: 8,
		Placed:  true,
		Fsync:   true,
	}
	if accountCount == 2 {
		w.Bounds = []Bound{
			within(GatewayCPU, 150*time.Microsecond, 8),
			times(Median, 3, target.Postgres, 1),
		}
	}
	return w
}

// moves draws transactions that move an amount from all but the last of count keys to that one.
func moves(s Setup, n int64, count int, update *load.Statement) func(*load.Work, *rand.Rand) {
	d := s.drawer(s.Placement.within(n))
	keys := make([]int64, count)
	return func(w *load.Work, rnd *rand.Rand) {
		d.different(rnd, keys, s.Placement)
		amount := 1 + rnd.Int64N(100)
		w.Add(transferBegin)
		for i, key := range keys {
			if i < count-1 {
				w.Add(update, -amount, key)
			} else {
				w.Add(update, amount*int64(count-1), key)
			}
		}
		w.Add(transferCommit)
	}
}

// transferReaders are transfers beside readers who add up all balances: how much do
// reads that see one snapshot of all shards slow the writers, and the writers them?
var transferReaders = []*Workload{
	beside("transfer-readers", "READ COMMITTED", "atomic"),
	beside("transfer-readers-rr", "REPEATABLE READ", "atomic"),
	beside("transfer-readers-shard", "READ COMMITTED", "shard"),
	beside("transfer-readers-rr-shard", "REPEATABLE READ", "shard"),
}

var (
	balanceUpdate = load.NewStatement("u0", "UPDATE bench_balances SET balance = balance + $1 WHERE id = $2", "UPDATE 1")
	balanceSum    = load.NewStatement("u1", "SELECT count(*), sum(balance) FROM bench_balances", "SELECT 1")
)

func beside(name, isolation, snapshot string) *Workload {
	open := load.NewStatement("u2", "BEGIN ISOLATION LEVEL "+isolation, "BEGIN")
	return &Workload{
		Name:       name,
		About:      "transfers between two shards, beside clients who add up all balances at " + isolation + ", with shardgate.snapshot=" + snapshot,
		Data:       balances,
		Statements: []*load.Statement{transferBegin, balanceUpdate, transferCommit},
		Session:    []string{"SET shardgate.snapshot = " + snapshot},
		Script: scripted(func(s Setup) func(*load.Work, *rand.Rand) {
			return moves(s, balancesOf(s.Size), 2, balanceUpdate)
		}),
		Clients: 8,
		Placed:  true,
		Fsync:   true,
		Readers: &Readers{
			Numbers:    []int{1, 8, 32},
			Statements: []*load.Statement{open, balanceSum, transferCommit},
			Script: func(s Setup) load.Script {
				return &sumReader{Setup: s, open: open, exact: snapshot == "atomic"}
			},
		},
	}
}

// sumReader adds up all balances. Where all shards are seen at one time, the sum is always
// the same.
type sumReader struct {
	Setup
	open  *load.Statement
	exact bool
	seen  bool // a wrong sum: one is enough to say so
}

// Transaction reads the sum in a transaction of its own.
func (r *sumReader) Transaction(c *load.Conn, _ *rand.Rand) error {
	p := r.Protocol
	if err := c.Run(p, r.open); err != nil {
		return err
	}
	got, err := c.Numbers(p, balanceSum)
	if err != nil {
		return err
	}
	if want := got[0] * firstOfEach; r.exact && got[1] != want && !r.seen {
		r.seen = true
		r.Violation(fmt.Errorf("a reader saw %d balances that add up to %d, not to %d", got[0], got[1], want))
	}
	return c.Run(p, transferCommit)
}
