package workload

import (
	"time"

	"github.com/shardgate/shardgate/bench/load"
)

// Connecting is what a workload is about whose clients connect and do little else.
type Connecting int

const (
	Storm Connecting = 1 + iota // all clients connect at once, with a password
	Idle                        // clients stay idle after a query each
)

// connectStorm is what happens to a gateway when all of an application's processes start, or
// lose their connections, at one time.
var connectStorm = &Workload{
	Name:       "connect-storm",
	About:      "so many clients connect at once, each by SCRAM-SHA-256",
	Data:       accounts,
	Clients:    5000,
	Protocols:  []load.Protocol{load.Simple},
	Connecting: Storm,
	Bounds: []Bound{
		{Figure: Refused, Clients: []int{5000}},
		within(LoginCPU, 30*time.Second, 5000),
	},
}

// idleClients is what a gateway keeps for clients that do nothing.
var idleClients = &Workload{
	Name:       "idle-clients",
	About:      "the gateway's memory for clients that are idle after a query each",
	Data:       accounts,
	Clients:    5000,
	Protocols:  []load.Protocol{load.Simple},
	Connecting: Idle,
	Bounds: []Bound{
		{Figure: Refused, Clients: []int{5000}},
		{Figure: ClientMemory, Clients: []int{5000}, Limit: 12 << 10},
	},
}

// IdleQuery is what an idle client has run.
const IdleQuery = "SELECT abalance FROM pgbench_accounts WHERE aid = 1"
