package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/shardgate/shardgate/bench/target"
)

// The sizes of pgbench's tables for a scale of 1, as pgbench has them.
const (
	accountsPerBranch = 100_000
	tellersPerBranch  = 10
)

// accounts are the four tables of pgbench. Every transaction adds the same amount to an
// account, a teller, a branch and the history, so the four sums stay equal, and the
// history has a row for every transaction that was committed. Unlike pgbench's own, the
// accounts begin with balances that differ, so that sorting them is work.
type accounts struct{}

// Name is that of the data.
func (accounts) Name() string { return "pgbench" }

var createAccounts = []string{
	"DROP TABLE IF EXISTS pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
	"CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22))",
	"CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84))",
	"CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84))",
	"CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88))",
}

var accountTables = []struct {
	copy      string
	perBranch int64
	row       func(dst []byte, n int64) []byte // the n-th row, from 1, in COPY's text format
	key       string
}{
	{"COPY pgbench_branches (bid, bbalance) FROM STDIN", 1, func(dst []byte, n int64) []byte {
		return append(strconv.AppendInt(dst, n, 10), "\t0\n"...)
	}, "ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid)"},
	{"COPY pgbench_tellers (tid, bid, tbalance) FROM STDIN", tellersPerBranch, func(dst []byte, n int64) []byte {
		dst = append(strconv.AppendInt(dst, n, 10), '\t')
		return append(strconv.AppendInt(dst, (n-1)/tellersPerBranch+1, 10), "\t0\n"...)
	}, "ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid)"},
	{"COPY pgbench_accounts (aid, bid, abalance, filler) FROM STDIN", accountsPerBranch, func(dst []byte, n int64) []byte {
		dst = append(strconv.AppendInt(dst, n, 10), '\t')
		dst = append(strconv.AppendInt(dst, (n-1)/accountsPerBranch+1, 10), '\t')
		return append(strconv.AppendInt(dst, firstBalance(n), 10), "\t\n"...)
	}, "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)"},
}

// firstBalance is that of an account when it is made: -5000 to 5000, in no order.
func firstBalance(aid int64) int64 { return aid*7919%10_001 - 5000 }

// Load makes the tables through the store's URL.
func (accounts) Load(ctx context.Context, s *target.Store, scale int) error {
	db, err := connect(ctx, s.URL)
	if err != nil {
		return err
	}
	defer db.close()
	for _, sql := range createAccounts {
		if err := db.exec(ctx, sql); err != nil {
			return err
		}
	}
	for _, t := range accountTables {
		if err := db.copyIn(ctx, t.copy, &rows{last: t.perBranch * int64(scale), row: t.row}); err != nil {
			return err
		}
	}
	for _, t := range accountTables {
		if err := db.exec(ctx, t.key); err != nil {
			return err
		}
	}
	return tidy(ctx, s)
}

// tidy leaves nothing for the servers to do in the middle of a measurement.
func tidy(ctx context.Context, s *target.Store) error {
	urls := s.Servers
	if len(urls) == 0 {
		urls = []string{s.URL}
	}
	for _, url := range urls {
		db, err := connect(ctx, url)
		if err != nil {
			return err
		}
		err = db.exec(ctx, "VACUUM ANALYZE")
		if err == nil && s.Own {
			err = db.exec(ctx, "CHECKPOINT")
		}
		db.close()
		if err != nil && !refused(err) {
			return err
		}
	}
	return nil
}

// rows is COPY data that is made as it is read.
type rows struct {
	n, last int64
	row     func(dst []byte, n int64) []byte
	made    []byte
	rest    []byte // of made, not read yet
}

// Read returns rows until the last one.
func (r *rows) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n == r.last {
			return 0, io.EOF
		}
		r.made = r.made[:0]
		for r.n < r.last && len(r.made) < 32<<10 {
			r.n++
			r.made = r.row(r.made, r.n)
		}
		r.rest = r.made
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Loaded looks for the last account.
func (accounts) Loaded(ctx context.Context, s *target.Store, scale int) (bool, error) {
	db, err := connect(ctx, s.URL)
	if err != nil {
		return false, err
	}
	defer db.close()
	for _, c := range []struct {
		table, key string
		last       int
	}{
		{"pgbench_accounts", "aid", scale * accountsPerBranch},
		{"pgbench_tellers", "tid", scale * tellersPerBranch},
		{"pgbench_branches", "bid", scale},
	} {
		got, err := db.numbers(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s = %d", c.key, c.table, c.key, c.last))
		switch {
		case undefinedTable(err):
			return false, nil
		case err != nil:
			return false, err
		case len(got) == 0:
			return false, fmt.Errorf("%s: %s is there, but has no row with %s %d: use a smaller --scale, or --reload to replace the tables",
				s.Name, c.table, c.key, c.last)
		}
	}
	return true, nil
}

// sums is the state of the tables.
type sums struct {
	Accounts, Tellers, Branches, Deltas int64
	Rows                                int64 // of the history
	Prepared                            int64 // transactions
}

var sumQueries = []string{
	"SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts",
	"SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers",
	"SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches",
	"SELECT coalesce(sum(delta), 0) FROM pgbench_history",
	"SELECT count(*) FROM pgbench_history",
}

// State adds up what the servers say.
func (accounts) State(ctx context.Context, s *target.Store) (State, error) {
	state := &sums{}
	urls := s.Servers
	if len(urls) == 0 {
		urls = []string{s.URL}
	}
	for _, url := range urls {
		if err := state.add(ctx, url); err != nil {
			if len(s.Servers) == 0 && refused(err) {
				return nil, fmt.Errorf("%w: %w", ErrUnchecked, err)
			}
			return nil, err
		}
	}
	var err error
	state.Prepared, err = preparedTransactions(ctx, s)
	return state, err
}

func (s *sums) add(ctx context.Context, url string) error {
	db, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.close()
	for i, to := range []*int64{&s.Accounts, &s.Tellers, &s.Branches, &s.Deltas, &s.Rows} {
		got, err := db.numbers(ctx, sumQueries[i])
		if err != nil {
			return err
		}
		if len(got) != 1 {
			return fmt.Errorf("%s gave %d rows", sumQueries[i], len(got))
		}
		*to += got[0]
	}
	return nil
}

// Check compares two states.
func (s *sums) Check(later State, done map[string]Tally) []error {
	l, ok := later.(*sums)
	if !ok {
		return []error{errors.New("not a state of the same data")}
	}
	var wrong []error
	accounts, tellers, branches, deltas := l.Accounts-s.Accounts, l.Tellers-s.Tellers, l.Branches-s.Branches, l.Deltas-s.Deltas
	if accounts != tellers || accounts != branches || accounts != deltas {
		wrong = append(wrong, fmt.Errorf("the sums differ: the balances of the accounts rose by %d, the tellers' by %d, the branches' by %d, and the deltas of the history add up to %d",
			accounts, tellers, branches, deltas))
	}
	ran := done[pgbench.Name]
	if rows := l.Rows - s.Rows; rows < ran.Committed || rows > ran.Committed+ran.Unknown {
		wrong = append(wrong, fmt.Errorf("the history has %d rows more, after %d transactions that were committed and %d that may have been",
			rows, ran.Committed, ran.Unknown))
	}
	if l.Prepared != 0 {
		wrong = append(wrong, fmt.Errorf("%d transactions are still prepared", l.Prepared))
	}
	return wrong
}
