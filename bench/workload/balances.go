package workload

import (
	"fmt"
	"strconv"
)

// balances is one table of balances that are moved about and never change in sum. It is
// smaller than pgbench's accounts: how readers and writers get on is the question, not how
// long it takes to add up a million rows.
var balances = &Data{
	Name:   "balances",
	tables: func(Size) []table { return balanceTables },
	keyed:  "bench_balances", key: "id", keys: balancesOf,
	sums:  []string{"SELECT count(*), coalesce(sum(balance), 0) FROM bench_balances"},
	check: checkBalances,
}

const (
	balancesPerScale = 1000
	firstOfEach      = 1000 // the balance that each begins with
)

var balanceTables = []table{{name: "bench_balances", create: "id int PRIMARY KEY, balance bigint NOT NULL", columns: "id, balance",
	rows: balancesOf,
	row: func(dst []byte, n int64) []byte {
		return append(strconv.AppendInt(append(strconv.AppendInt(dst, n, 10), '\t'), firstOfEach, 10), '\n')
	}, last: "id"}}

func balancesOf(s Size) int64 { return balancesPerScale * int64(s.Scale) }

// checkBalances says whether the sum is the one it always was.
func checkBalances(before, after []int64, _ map[string]Tally) []error {
	rows, sum := after[0], after[1]
	if rows != before[0] || sum != before[1] || sum != firstOfEach*rows {
		return []error{fmt.Errorf("%d balances add up to %d, and %d to %d before; it should be %d for each", rows, sum, before[0], before[1], firstOfEach)}
	}
	return nil
}
