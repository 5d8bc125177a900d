package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shardgate/shardgate/bench/load"
)

// Inserts into a table of their own, with keys that have not been used.
var (
	insertRow  = insert(insertOne, 1)
	insertRows = insert(insertHundred, 100, within(GatewayCPU, 150*time.Microsecond, 8).by(load.Simple))
)

// Their names.
const insertOne, insertHundred = "insert", "insert-100"

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
		Data:       inserted,
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
var inserted = &Data{
	Name:   "rows",
	tables: func(Size) []table { return insertedTables },
	sums:   []string{"SELECT count(*), count(*) FILTER (WHERE n <> id % 1000 OR note <> 'a row') FROM bench_rows"},
	check:  checkInserted,
}

var insertedTables = []table{{name: "bench_rows", create: "id bigint PRIMARY KEY, n int NOT NULL, note text NOT NULL", columns: "id, n, note"}}

// checkInserted compares the number of rows with that of transactions.
func checkInserted(before, after []int64, done map[string]Tally) (wrong []error) {
	one, hundred := done[insertOne], done[insertHundred]
	least := one.Committed + 100*hundred.Committed
	if rose := after[0] - before[0]; rose < least || rose > least+one.Unknown+100*hundred.Unknown {
		wrong = append(wrong, fmt.Errorf("there are %d rows more; of one row each, %d transactions were committed and %d may have been, and of 100 rows, %d and %d",
			rose, one.Committed, one.Unknown, hundred.Committed, hundred.Unknown))
	}
	if broken := after[1]; broken != 0 {
		wrong = append(wrong, fmt.Errorf("%d rows are not as they were inserted", broken))
	}
	return wrong
}
