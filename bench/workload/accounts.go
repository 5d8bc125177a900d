package workload

import (
	"fmt"
	"strconv"
)

// The sizes of pgbench's tables for a scale of 1, as pgbench has them.
const (
	accountsPerBranch = 100_000
	tellersPerBranch  = 10
)

// accounts are the four tables of pgbench. pgbench's transaction adds the same amount to an
// account, a teller, a branch and the history, and transfers add nothing, so the four sums stay
// equal but for what raises adds; and the history has a row for every one of pgbench's
// transactions that was committed. Unlike pgbench's own, the accounts begin with balances that
// differ, so that sorting them is work.
var accounts = &Data{
	Name:   "pgbench",
	tables: func(Size) []table { return accountTables },
	keyed:  "pgbench_accounts", key: "aid", keys: accountsOf,
	sums: []string{
		"SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts",
		"SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers",
		"SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches",
		"SELECT coalesce(sum(delta), 0), count(*) FROM pgbench_history",
	},
	check: checkAccounts,
}

var accountTables = []table{
	{name: "pgbench_branches", create: "bid int NOT NULL, bbalance int, filler char(88)", columns: "bid, bbalance",
		rows: func(s Size) int64 { return int64(s.Scale) },
		row: func(dst []byte, n int64) []byte {
			return append(strconv.AppendInt(dst, n, 10), "\t0\n"...)
		},
		after: "ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid)", last: "bid"},
	{name: "pgbench_tellers", create: "tid int NOT NULL, bid int, tbalance int, filler char(84)", columns: "tid, bid, tbalance",
		rows: func(s Size) int64 { return int64(s.Scale) * tellersPerBranch },
		row: func(dst []byte, n int64) []byte {
			dst = append(strconv.AppendInt(dst, n, 10), '\t')
			return append(strconv.AppendInt(dst, (n-1)/tellersPerBranch+1, 10), "\t0\n"...)
		},
		after: "ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid)", last: "tid"},
	{name: "pgbench_accounts", create: accountColumns, columns: "aid, bid, abalance, filler", rows: accountsOf, row: accountRow,
		after: "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)", last: "aid"},
	{name: "pgbench_history", create: "tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)", columns: "tid, bid, aid, delta, mtime"},
}

const accountColumns = "aid int NOT NULL, bid int, abalance int, filler char(84)"

func accountsOf(s Size) int64 { return int64(s.Scale) * accountsPerBranch }

func accountRow(dst []byte, n int64) []byte {
	dst = append(strconv.AppendInt(dst, n, 10), '\t')
	dst = append(strconv.AppendInt(dst, (n-1)/accountsPerBranch+1, 10), '\t')
	return append(strconv.AppendInt(dst, firstBalance(n), 10), "\t\n"...)
}

// firstBalance is that of an account when it is made: -5000 to 5000, in no order.
func firstBalance(aid int64) int64 { return aid*7919%10_001 - 5000 }

// raises are the workloads whose transactions each add 1 to the balance of an account, and
// to nothing else.
var raises = []string{"update-by-key", "read-write"}

// checkAccounts compares the sums.
func checkAccounts(before, after []int64, done map[string]Tally) (wrong []error) {
	rose := make([]int64, len(before))
	for i := range before {
		rose[i] = after[i] - before[i]
	}
	accounts, tellers, branches, deltas, rows := rose[0], rose[1], rose[2], rose[3], rose[4]
	var raised Tally
	for _, name := range raises {
		raised.Committed += done[name].Committed
		raised.Unknown += done[name].Unknown
	}
	if raise := accounts - tellers; tellers != branches || tellers != deltas || raise < raised.Committed || raise > raised.Committed+raised.Unknown {
		wrong = append(wrong, fmt.Errorf("the sums differ: the balances of the accounts rose by %d, the tellers' by %d, the branches' by %d, and the deltas of the history add up to %d; transactions that add 1 to an account only: %d committed, %d that may have been",
			accounts, tellers, branches, deltas, raised.Committed, raised.Unknown))
	}
	if ran := done["pgbench"]; rows < ran.Committed || rows > ran.Committed+ran.Unknown {
		wrong = append(wrong, fmt.Errorf("the history has %d rows more, after %d transactions that were committed and %d that may have been",
			rows, ran.Committed, ran.Unknown))
	}
	return wrong
}
