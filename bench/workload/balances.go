package workload

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/shardgate/shardgate/bench/target"
)

// balances is one table of balances that are moved about and never change in sum. It is
// smaller than pgbench's accounts: how readers and writers get on is the question, not how
// long it takes to add up a million rows.
type balances struct{}

const (
	balancesPerScale = 1000
	firstOfEach      = 1000 // the balance that each begins with
)

var balanceTables = []table{{name: "bench_balances", create: "id int PRIMARY KEY, balance bigint NOT NULL", columns: "id, balance",
	rows: func(s Size) int64 { return balancesPerScale * int64(s.Scale) },
	row: func(dst []byte, n int64) []byte {
		return append(strconv.AppendInt(append(strconv.AppendInt(dst, n, 10), '\t'), firstOfEach, 10), '\n')
	}, last: "id"}}

// Name is that of the data.
func (balances) Name() string { return "balances" }

// Load makes the table through the store's URL.
func (balances) Load(ctx context.Context, s *target.Store, size Size) error {
	return loadTables(ctx, s, size, balanceTables)
}

// Loaded looks for the last row.
func (balances) Loaded(ctx context.Context, s *target.Store, size Size) (bool, error) {
	return loadedTables(ctx, s, size, balanceTables)
}

func (balances) keys(s Size) (table, column string, n int64) {
	return "bench_balances", "id", balancesPerScale * int64(s.Scale)
}

// balanceState is the state of the table.
type balanceState struct{ Rows, Sum, Prepared int64 }

// State adds up what the servers say.
func (balances) State(ctx context.Context, s *target.Store) (State, error) {
	n, err := total(ctx, s, "SELECT count(*), coalesce(sum(balance), 0) FROM bench_balances")
	if err != nil {
		return nil, err
	}
	prepared, err := preparedTransactions(ctx, s)
	return &balanceState{Rows: n[0], Sum: n[1], Prepared: prepared}, err
}

// Check says whether the sum is the one it always was.
func (s *balanceState) Check(later State, _ map[string]Tally) (wrong []error) {
	l, ok := later.(*balanceState)
	if !ok {
		return []error{errors.New("not a state of the same data")}
	}
	if l.Rows != s.Rows || l.Sum != s.Sum || l.Sum != firstOfEach*l.Rows {
		wrong = append(wrong, fmt.Errorf("%d balances add up to %d, and %d to %d before; it should be %d for each", l.Rows, l.Sum, s.Rows, s.Sum, firstOfEach))
	}
	return append(wrong, stillPrepared(l.Prepared)...)
}
