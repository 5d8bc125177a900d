package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// copyIn fills a table with the rows of pgbench_accounts, in the text format and before the
// table has a key, as pgbench does. One client does: it empties the table before.
var copyIn = &Workload{
	Name:       "copy-in",
	About:      "COPY of as many rows as pgbench_accounts has into an empty table",
	Data:       copied,
	Statements: []*load.Statement{truncateCopied},
	Script: func(s Setup) load.Script {
		return &copyInScript{count: accountsOf(s.Size)}
	},
	Clients:   1,
	Alone:     true,
	Protocols: []load.Protocol{load.Simple},
	Streams:   true,
	Bounds: []Bound{
		within(RowCPU, 600*time.Nanosecond, 1),
		times(PerSecond, 1, target.Postgres, 1).atLeast(),
		memoryBound,
	},
}

var truncateCopied = load.NewStatement("c0", "TRUNCATE bench_copied", "TRUNCATE TABLE")

const copiedColumns = "aid, bid, abalance, filler"

type copyInScript struct{ count int64 }

// Transaction empties the table and fills it.
func (s *copyInScript) Transaction(c *load.Conn, _ *rand.Rand) error {
	if err := c.Run(load.Simple, truncateCopied); err != nil {
		return err
	}
	return c.CopyIn("COPY bench_copied ("+copiedColumns+") FROM STDIN", &rows{last: s.count, row: accountRow}, s.count)
}

// copied is the table that copyIn fills.
var copied = &Data{
	Name:   "copied",
	tables: func(Size) []table { return copiedTables },
	sums:   []string{copiedSums},
	check: func(_, after []int64, _ map[string]Tally) []error {
		if err := wholeCopy(after); err != nil {
			return []error{err}
		}
		return nil
	},
	// Since the table is emptied again and again, nothing may be in it but what a COPY of
	// the benchmark's has left.
	fits: func(ctx context.Context, s *target.Store, _ Size) error {
		n, err := total(ctx, s, copiedSums)
		if err == nil && wholeCopy(n) != nil {
			err = errors.New("bench_copied is there, with rows that are not the benchmark's, which would be deleted: use another database, or --reload to drop the table")
		}
		return err
	},
}

var copiedTables = []table{{name: "bench_copied", create: accountColumns, columns: copiedColumns}}

// copiedSums are those of the table: rows, keys and balances.
const copiedSums = "SELECT count(*), coalesce(sum(aid::bigint), 0), coalesce(sum(abalance), 0) FROM bench_copied"

// wholeCopy says what is wrong if they are not those of a COPY of the benchmark's, or of
// none: all of its rows, each once.
func wholeCopy(n []int64) error {
	rows := n[0]
	keys, balances := rows*(rows+1)/2, int64(0)
	for n := int64(1); n <= rows; n++ {
		balances += firstBalance(n)
	}
	if n[1] != keys || n[2] != balances || rows%accountsPerBranch != 0 {
		return fmt.Errorf("the table has %d rows whose keys and balances add up to %d and %d; of a COPY they add up to %d and %d, and there is a multiple of %d",
			rows, n[1], n[2], keys, balances, accountsPerBranch)
	}
	return nil
}

// copyOut reads all accounts by COPY.
var copyOut = &Workload{
	Name:       "copy-out",
	About:      "COPY pgbench_accounts TO STDOUT: every row goes through the gateway",
	Data:       accounts,
	Statements: nil,
	Script:     func(s Setup) load.Script { return &copyOutScript{rows: accountsOf(s.Size)} },
	Clients:    1,
	Protocols:  []load.Protocol{load.Simple},
	Streams:    true,
	Bounds:     []Bound{memoryBound},
	Verify: func(ctx context.Context, t *target.Target, _ Size) error {
		q := query{sql: copyAccounts, answer: allRows}
		return q.compare(ctx, t, func(row func([][]byte) error) error { return eachLine(ctx, t.URL, copyAccounts, row) })
	},
}

const copyAccounts = "COPY pgbench_accounts TO STDOUT"

type copyOutScript struct{ rows int64 }

// Transaction reads all rows.
func (s *copyOutScript) Transaction(c *load.Conn, _ *rand.Rand) error {
	n, err := c.CopyOut(copyAccounts)
	return atLeast(s.rows, n, err)
}

// atLeast is the error of an answer with too few rows.
func atLeast(want, got int64, err error) error {
	if err == nil && got < want {
		return &load.UnexpectedError{Want: fmt.Sprintf("%d rows", want), Got: fmt.Sprintf("%d rows", got)}
	}
	return err
}

// eachLine runs a COPY to the client and gives its rows one by one.
func eachLine(ctx context.Context, url, sql string, row func(values [][]byte) error) error {
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer (&database{conn}).close()
	lines := &lineWriter{row: row}
	if _, err := conn.CopyTo(ctx, lines, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// lineWriter takes apart what is written to it, which is a row of COPY each time.
type lineWriter struct{ row func([][]byte) error }

// Write takes whole rows.
func (w *lineWriter) Write(b []byte) (int, error) {
	for text := range bytes.Lines(b) {
		if err := w.row(bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\t"))); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
