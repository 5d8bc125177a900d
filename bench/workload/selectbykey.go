package workload

import (
	"math/rand/v2"
	"time"

	"github.com/shardgate/shardgate/bench/load"
)

// selectByKey is what `pgbench -S` does: the smallest statement that there is, and so
// the one in which a gateway's own cost shows most.
var selectByKey = &Workload{
	Name:       "select-by-key",
	About:      "one row of pgbench_accounts by its key, uniformly distributed",
	Data:       accounts{},
	Statements: []*load.Statement{selectAccount},
	Script: func(p load.Protocol, scale int) load.Script {
		return &selectScript{protocol: p, accounts: int64(scale) * accountsPerBranch}
	},
	Clients: 8,
	Bound:   25 * time.Microsecond,
	Unit:    "select by key",
}

var selectAccount = load.NewStatement("s0", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "SELECT 1")

type selectScript struct {
	protocol load.Protocol
	accounts int64
}

// Transaction selects one account.
func (s *selectScript) Transaction(c *load.Conn, rnd *rand.Rand) error {
	return c.Run(s.protocol, selectAccount, 1+rnd.Int64N(s.accounts))
}
