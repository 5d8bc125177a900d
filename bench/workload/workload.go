// Package workload says what the clients of a benchmark do, on which data, and what has
// to hold of the data afterwards.
//
// It does not make the load (package load) and does not know what it is pointed at
// (package target).
//
// The governing idea: a figure counts only if the answers were right. Each statement
// says which command tag it is answered with, and each kind of data has invariants,
// computed on the servers that hold it.
package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Workload is something for clients to do.
type Workload struct {
	Name  string
	About string
	Data  Data
	// Statements are all that the script runs.
	Statements []*load.Statement
	// Clients is the number of clients that the bounds are for, and that is measured if
	// no other is asked for.
	Clients int
	// Script makes the script of one client, for data of a scale.
	Script func(p load.Protocol, scale int) load.Script
	// Bound is the most CPU time that a transaction may cost Shardgate's gateway; 0: none
	// is promised.
	Bound time.Duration
	// Unit is what Bound is for, in words.
	Unit string
	// Direct is what the gateway asks of each shard. Asked of all of them at once without
	// the gateway, it gives the time by which the gateway's is bounded: DirectFactor times
	// that and DirectExtra. nil: there is no such bound.
	Direct *load.Statement
	// Streams says that the answers are large: the rows count, and the gateway's memory.
	Streams bool
	// RowBound is the most CPU time that a row may cost the gateway; 0: none is promised.
	RowBound time.Duration
	// Verify compares the answer through a target with what its servers hold; nil: the
	// command tags say enough.
	Verify func(ctx context.Context, t *target.Target) error
}

// The bounds of workloads that have Direct, and that of the gateway's memory above what
// it holds when idle where answers are streamed.
const (
	DirectFactor = 1.1
	DirectExtra  = 2 * time.Millisecond
	MemoryBytes  = 64 << 20
)

// All are the workloads, in the order in which they are run.
var All = []*Workload{selectByKey, pgbench, aggregate, groupBy, orderLimit, selectAll, selectAllStalled, selectOrdered}

// Default are the names of those that are run if none is asked for.
var Default = []string{selectByKey.Name, pgbench.Name}

// Names are those of All.
func Names() (list []string) {
	for _, w := range All {
		list = append(list, w.Name)
	}
	return list
}

// ByName returns the workloads of these names, in the order of All.
func ByName(names []string) ([]*Workload, error) {
	var list []*Workload
	known := Names()
	for _, w := range All {
		if slices.Contains(names, w.Name) {
			list = append(list, w)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no workload %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return list, nil
}

// Data is a set of tables that workloads share.
type Data interface {
	Name() string
	// Load makes the tables anew. What was in them is lost.
	Load(ctx context.Context, s *target.Store, scale int) error
	// Loaded says whether the tables are there and large enough for a scale. Tables that
	// are there and too small are an error.
	Loaded(ctx context.Context, s *target.Store, scale int) (bool, error)
	// State reads what the invariants are about. The error matches ErrUnchecked if the
	// store can't tell.
	State(ctx context.Context, s *target.Store) (State, error)
}

// State is what the invariants of some data are about, at one time.
type State interface {
	// Check says which invariants don't hold of a later state of the same store, after
	// transactions of the workloads by name.
	Check(later State, done map[string]Tally) []error
}

// Tally is how many transactions of a workload ran in a store.
type Tally struct {
	Committed int64
	Unknown   int64 // that may have been committed
}

// Add adds what a run has done.
func (t Tally) Add(r *load.Result) Tally {
	return Tally{Committed: t.Committed + r.Committed, Unknown: t.Unknown + r.Unknown}
}
