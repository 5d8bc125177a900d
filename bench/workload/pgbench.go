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
	Data:       accounts{},
	Statements: []*load.Statement{begin, updateAccount, readAccount, updateTeller, updateBranch, insertHistory, end},
	Script: func(p load.Protocol, scale int) load.Script {
		return &pgbenchScript{protocol: p, scale: int64(scale)}
	},
	Clients: 8,
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

type pgbenchScript struct {
	protocol load.Protocol
	scale    int64
}

// Transaction adds a random amount to an account, a teller, a branch and the history.
func (s *pgbenchScript) Transaction(c *load.Conn, rnd *rand.Rand) error {
	aid := 1 + rnd.Int64N(s.scale*accountsPerBranch)
	bid := 1 + rnd.Int64N(s.scale)
	tid := 1 + rnd.Int64N(s.scale*tellersPerBranch)
	delta := rnd.Int64N(10001) - 5000
	p := s.protocol
	if err := c.Run(p, begin); err != nil {
		return err
	}
	if err := c.Run(p, updateAccount, delta, aid); err != nil {
		return err
	}
	if err := c.Run(p, readAccount, aid); err != nil {
		return err
	}
	if err := c.Run(p, updateTeller, delta, tid); err != nil {
		return err
	}
	if err := c.Run(p, updateBranch, delta, bid); err != nil {
		return err
	}
	if err := c.Run(p, insertHistory, tid, bid, aid, delta); err != nil {
		return err
	}
	return c.Run(p, end)
}
