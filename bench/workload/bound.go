package workload

import (
	"slices"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Figure is what a bound is about.
type Figure int

const (
	GatewayCPU   Figure = iota // of the gateway for a transaction
	RowCPU                     // of the gateway for a row
	Median                     // latency
	FirstRow                   // time to the first row
	PerSecond                  // transactions
	Memory                     // of the gateway, above what it holds at rest, in bytes
	Refused                    // clients that were not let in
	LoginCPU                   // of the gateway, until all clients are in
	ClientMemory               // of the gateway for an idle client, in bytes
)

// Bound is what is promised of a figure of Shardgate's.
type Bound struct {
	Figure    Figure
	Clients   []int           // for which it holds
	Protocols []load.Protocol // for which it holds; nil: all
	// Of is the target whose figure in the same rounds the bound is Factor times, plus
	// Limit; "": the bound is Limit. Limit is in nanoseconds, or in the figure's own unit.
	Of     string
	Factor float64
	Limit  float64
	Least  bool // the figure is to be as large as that at least, and not at most
}

// For says whether the bound is for so many clients and a protocol.
func (b Bound) For(clients int, p load.Protocol) bool {
	return slices.Contains(b.Clients, clients) && (b.Protocols == nil || slices.Contains(b.Protocols, p))
}

// within makes an absolute bound of a time.
func within(f Figure, most time.Duration, clients ...int) Bound {
	return Bound{Figure: f, Clients: clients, Limit: float64(most)}
}

// times makes a bound relative to another target.
func times(f Figure, factor float64, of string, clients ...int) Bound {
	return Bound{Figure: f, Clients: clients, Of: of, Factor: factor}
}

func (b Bound) by(protocols ...load.Protocol) Bound {
	b.Protocols = protocols
	return b
}

func (b Bound) plus(more time.Duration) Bound {
	b.Limit = float64(more)
	return b
}

// atLeast makes it a lower bound.
func (b Bound) atLeast() Bound {
	b.Least = true
	return b
}

// MemoryBytes bounds the gateway's memory above what it holds at rest where answers are
// streamed.
const MemoryBytes = 64 << 20

var (
	memoryBound = Bound{Figure: Memory, Clients: []int{1}, Limit: MemoryBytes}
	rowBound    = within(RowCPU, 250*time.Nanosecond, 1)
	firstBound  = within(FirstRow, 10*time.Millisecond, 1)
	// What is asked of all shards takes little more than without the gateway.
	directBound = times(Median, 1.1, target.Direct, 1).plus(2 * time.Millisecond)
)
