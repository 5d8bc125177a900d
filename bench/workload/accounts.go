package workload

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/shardgate/shardgate/bench/target"
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
type accounts struct{}

// Name is that of the data.
func (accounts) Name() string { return "pgbench" }

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

// Load makes the tables through the store's URL.
func (accounts) Load(ctx context.Context, s *target.Store, size Size) error {
	return loadTables(ctx, s, size, accountTables)
}

// Loaded looks for the last account.
func (accounts) Loaded(ctx context.Context, s *target.Store, size Size) (bool, error) {
	return loadedTables(ctx, s, size, accountTables)
}

func (accounts) keys(s Size) (table, column string, n int64) {
	return "pgbench_accounts", "aid", accountsOf(s)
}

// sums is the state of the tables.
type sums struct {
	Accounts, Tellers, Branches, Deltas int64
	Rows                                int64 // of the history
	Prepared                            int64 // transactions
}

// State adds up what the servers say.
func (accounts) State(ctx context.Context, s *target.Store) (State, error) {
	n, err := total(ctx, s,
		"SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts",
		"SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers",
		"SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches",
		"SELECT coalesce(sum(delta), 0), count(*) FROM pgbench_history")
	if err != nil {
		return nil, err
	}
	prepared, err := preparedTransactions(ctx, s)
	return &sums{Accounts: n[0], Tellers: n[1], Branches: n[2], Deltas: n[3], Rows: n[4], Prepared: prepared}, err
}

// raises are the workloads whose transactions each add 1 to the balance of an account, and
// to nothing else.
var raises = []string{"update-by-key", "read-write"}

// Check compares two states.
func (s *sums) Check(later State, done map[string]Tally) []error {
	l, ok := later.(*sums)
	if !ok {
		return []error{errors.New("not a state of the same data")}
	}
	var wrong []error
	accounts, tellers, branches, deltas := l.Accounts-s.Accounts, l.Tellers-s.Tellers, l.Branches-s.Branches, l.Deltas-s.Deltas
	var raised Tally
	for _, name := range raises {
		raised.Committed += done[name].Committed
		raised.Unknown += done[name].Unknown
	}
	if rose := accounts - tellers; tellers != branches || tellers != deltas || rose < raised.Committed || rose > raised.Committed+raised.Unknown {
		wrong = append(wrong, fmt.Errorf("the sums differ: the balances of the accounts rose by %d, the tellers' by %d, the branches' by %d, and the deltas of the history add up to %d; transactions that add 1 to an account only: %d committed, %d that may have been",
			accounts, tellers, branches, deltas, raised.Committed, raised.Unknown))
	}
	ran := done["pgbench"]
	if rows := l.Rows - s.Rows; rows < ran.Committed || rows > ran.Committed+ran.Unknown {
		wrong = append(wrong, fmt.Errorf("the history has %d rows more, after %d transactions that were committed and %d that may have been",
			rows, ran.Committed, ran.Unknown))
	}
	return append(wrong, stillPrepared(l.Prepared)...)
}
