package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// selectByKey is what `pgbench -S` does: the smallest statement that there is, and so
// the one in which a gateway's own cost shows most.
var selectByKey = &Workload{
	Name:       "select-by-key",
	About:      "one row of pgbench_accounts by its key",
	Data:       accounts,
	Statements: []*load.Statement{selectAccount},
	Script: scripted(func(s Setup) func(*load.Work, *rand.Rand) {
		d := s.drawer(accountsOf(s.Size))
		return func(w *load.Work, rnd *rand.Rand) { w.Add(selectAccount, d.draw(rnd)) }
	}),
	Clients: 8,
	Bounds: []Bound{
		within(GatewayCPU, 25*time.Microsecond, 8),
		times(GatewayCPU, 1.7, target.PgBouncer, 8, 32).by(load.Simple),
		times(GatewayCPU, 1.6, target.PgBouncer, 8, 32).by(load.Prepared),
		times(Median, 1.25, target.PgBouncer, 1).by(load.Simple),
		times(PerSecond, 1, target.PgBouncer, 32).atLeast(),
	},
}

var selectAccount = load.NewStatement("s0", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "SELECT 1")

// updateByKey changes one row, which is a transaction of one shard.
var updateByKey = &Workload{
	Name:       "update-by-key",
	About:      "one row of pgbench_accounts is changed by its key",
	Data:       accounts,
	Statements: []*load.Statement{raiseAccount},
	Script: scripted(func(s Setup) func(*load.Work, *rand.Rand) {
		d := s.drawer(accountsOf(s.Size))
		return func(w *load.Work, rnd *rand.Rand) { w.Add(raiseAccount, d.draw(rnd)) }
	}),
	Clients: 8,
	Fsync:   true,
}

// readWrite is a transaction on one key, and so on one shard.
var readWrite = &Workload{
	Name:       "read-write",
	About:      "BEGIN, an UPDATE and a SELECT of the same row, COMMIT",
	Data:       accounts,
	Statements: []*load.Statement{transferBegin, raiseAccount, selectAccount, transferCommit},
	Script: scripted(func(s Setup) func(*load.Work, *rand.Rand) {
		d := s.drawer(accountsOf(s.Size))
		return func(w *load.Work, rnd *rand.Rand) {
			key := d.draw(rnd)
			w.Add(transferBegin)
			w.Add(raiseAccount, key)
			w.Add(selectAccount, key)
			w.Add(transferCommit)
		}
	}),
	Clients: 8,
	Fsync:   true,
	Bounds:  []Bound{times(GatewayCPU, 1.2, target.PgBouncer, 8)},
}

var raiseAccount = load.NewStatement("s1", "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = $1", "UPDATE 1")

// inList reads rows of several shards by their keys.
var inList = &Workload{
	Name:       "in-list",
	About:      fmt.Sprintf("%d rows of pgbench_accounts by an IN list of their keys", inListKeys),
	Data:       accounts,
	Statements: []*load.Statement{selectInList},
	Script: scripted(func(s Setup) func(*load.Work, *rand.Rand) {
		d := s.drawer(accountsOf(s.Size))
		keys := make([]int64, inListKeys)
		return func(w *load.Work, rnd *rand.Rand) {
			for i := range keys {
				key := d.draw(rnd)
				for slices.Contains(keys[:i], key) {
					key = key%d.n + 1
				}
				keys[i] = key
			}
			w.Add(selectInList, keys...)
		}
	}),
	Clients: 8,
	Bounds:  []Bound{within(GatewayCPU, 120*time.Microsecond, 8)},
}

const inListKeys = 10

var selectInList = load.NewStatement("s2", "SELECT aid, abalance FROM pgbench_accounts WHERE aid IN ("+parameters(1, inListKeys)+")", fmt.Sprintf("SELECT %d", inListKeys))

// parameters are count of them, from the first one.
func parameters(first, count int) string {
	var list []string
	for i := range count {
		list = append(list, fmt.Sprintf("$%d", first+i))
	}
	return strings.Join(list, ", ")
}
