package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Inserts into a table of their own, with keys that have not been used.
var (
	insertRow  = insert("insert", 1)
	insertRows = insert("insert-100", 100, within(GatewayCPU, 150*time.Microsecond, 8).by(load.Simple))
)

func insert(name string, count int, bounds ...Bound) *Workload {
	var values []string
	for i := range count {
		values = append(values, fmt.Sprintf("($%d, $%d, 'a row')", 2*i+1, 2*i+2))
	}
	s := load.NewStatement("i"+fmt.Sprint(count), "INSERT INTO bench_rows (id, n, note) VALUES "+strings.Join(values, ", "), fmt.Sprintf("INSERT 0 %d", count))
	about := "an INSERT of one row"
	if count > 1 {
		about = fmt.Sprintf("an INSERT of %d rows, which are on all shards", count)
	}
	return &Workload{
		Name:       name,
		About:      about,
		Data:       inserted{},
		Statements: []*load.Statement{s},
		Script: scripted(func(Setup) func(*load.Work, *rand.Rand) {
			var ids freshKeys
			args := make([]int64, 2*count)
			return func(w *load.Work, _ *rand.Rand) {
				for i := range count {
					id := ids.next()
					args[2*i], args[2*i+1] = id, checkOf(id)
				}
				w.Add(s, args...)
			}
		}),
		Clients: 8,
		Fsync:   true,
		Bounds:  bounds,
	}
}

// freshKeys are keys that this process, and those before it, have not used.
type freshKeys struct{ at, end int64 }

const keyBlock = 10_000

// keyBlocks are handed out from the number of microseconds since 2026 on: nobody inserts a
// million rows in a second for as long as that.
var keyBlocks atomic.Int64

func init() {
	keyBlocks.Store(time.Since(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds())
}

func (k *freshKeys) next() int64 {
	if k.at == k.end {
		k.end = keyBlocks.Add(keyBlock)
		k.at = k.end - keyBlock
	}
	k.at++
	return k.at
}

// checkOf is what a row has besides its key.
func checkOf(id int64) int64 { return id % 1000 }

// inserted is the table that rows are inserted into. There are as many more of them as
// transactions were committed, and each is whole.
type inserted struct{}

var insertedTables = []table{{name: "bench_rows", create: "id bigint PRIMARY KEY, n int NOT NULL, note text NOT NULL", columns: "id, n, note"}}

// Name is that of the data.
func (inserted) Name() string { return "rows" }

// Load makes the table, which is empty, through the store's URL.
func (inserted) Load(ctx context.Context, s *target.Store, size Size) error {
	return loadTables(ctx, s, size, insertedTables)
}

// Loaded looks for the table.
func (inserted) Loaded(ctx context.Context, s *target.Store, size Size) (bool, error) {
	return loadedTables(ctx, s, size, insertedTables)
}

// insertedState is the state of the table.
type insertedState struct{ Rows, Broken, Prepared int64 }

// State counts what the servers have.
func (inserted) State(ctx context.Context, s *target.Store) (State, error) {
	n, err := total(ctx, s, "SELECT count(*), count(*) FILTER (WHERE n <> id % 1000 OR note <> 'a row') FROM bench_rows")
	if err != nil {
		return nil, err
	}
	prepared, err := preparedTransactions(ctx, s)
	return &insertedState{Rows: n[0], Broken: n[1], Prepared: prepared}, err
}

// Check compares two states.
func (s *insertedState) Check(later State, done map[string]Tally) (wrong []error) {
	l, ok := later.(*insertedState)
	if !ok {
		return []error{errors.New("not a state of the same data")}
	}
	one, hundred := done[insertRow.Name], done[insertRows.Name]
	least := one.Committed + 100*hundred.Committed
	if rose := l.Rows - s.Rows; rose < least || rose > least+one.Unknown+100*hundred.Unknown {
		wrong = append(wrong, fmt.Errorf("there are %d rows more; of one row each, %d transactions were committed and %d may have been, and of 100 rows, %d and %d",
			rose, one.Committed, one.Unknown, hundred.Committed, hundred.Unknown))
	}
	if l.Broken != 0 {
		wrong = append(wrong, fmt.Errorf("%d rows are not as they were inserted", l.Broken))
	}
	return append(wrong, stillPrepared(l.Prepared)...)
}
