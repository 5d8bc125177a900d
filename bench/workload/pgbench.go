package workload

import (
	"math/rand/v2"

	"github.com/shardgate/shardgate/bench/load"
)

// pgbench is pgbench's own transaction ("TPC-B (sort of)"), statement by statement. With
// the tables distributed by their own keys it touches up to four shards.
var pgbench = &Workload{
	Name:       "pgbench",
	About:      "pgbench's transaction: three updates, a select and an insert, in a transaction over up to four shards",
	Data:       accounts,
	Statements: []*load.Statement{begin, updateAccount, readAccount, updateTeller, updateBranch, insertHistory, end},
	Script:     scripted(pgbenchTransaction),
	Clients:    8,
	Fsync:      true,
}

var (
	begin         = load.NewStatement("p0", "BEGIN;", "BEGIN")
	updateAccount = load.NewStatement("p1", "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;", "UPDATE 1")
	readAccount   = load.NewStatement("p2", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "SELECT 1")
	updateTeller  = load.NewStatement("p3", "UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2;", "UPDATE 1")
	updateBranch  = load.NewStatement("p4", "UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2;", "UPDATE 1")
	insertHistory = load.NewStatement("p5", "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP);", "INSERT 0 1")
	end           = load.NewStatement("p6", "END;", "COMMIT")
)

// pgbenchTransaction adds a random amount to an account, a teller, a branch and the history.
func pgbenchTransaction(s Setup) func(*load.Work, *rand.Rand) {
	d, scale := s.drawer(accountsOf(s.Size)), int64(s.Size.Scale)
	return func(w *load.Work, rnd *rand.Rand) {
		aid := d.draw(rnd)
		bid := 1 + rnd.Int64N(scale)
		tid := 1 + rnd.Int64N(scale*tellersPerBranch)
		delta := rnd.Int64N(10001) - 5000
		w.Add(begin)
		w.Add(updateAccount, delta, aid)
		w.Add(readAccount, aid)
		w.Add(updateTeller, delta, tid)
		w.Add(updateBranch, delta, bid)
		w.Add(insertHistory, tid, bid, aid, delta)
		w.Add(end)
	}
}
