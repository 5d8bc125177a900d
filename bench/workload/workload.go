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

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/target"
)

// Workload is something for clients to do.
type Workload struct {
	Name  string
	About string
	Data  *Data
	// Statements are all that the script runs.
	Statements []*load.Statement
	// Session are statements that each connection begins with.
	Session []string
	// Clients is the number of clients that is measured if no other is asked for.
	Clients int
	// Alone says that it is only for so many clients, whatever is asked for.
	Alone bool
	// Protocols are those that it can be run by; nil: all.
	Protocols []load.Protocol
	// Script makes the script of one client.
	Script func(Setup) load.Script
	// Placed says that the script wants to know which server holds which key.
	Placed bool
	// Fsync says that the time of an fsync is to be measured as well, since commits wait
	// for it.
	Fsync bool
	// Bounds are what is promised of Shardgate's figures.
	Bounds []Bound
	// Direct is what the gateway asks of each shard, to be asked of all of them at once
	// without the gateway; nil: that is not measured.
	Direct *load.Statement
	// Streams says that there are many rows in a transaction: they count, and the gateway's memory.
	Streams bool
	// Readers are clients that do something else meanwhile, and are measured as well; nil: none.
	Readers *Readers
	// Connecting says what is measured of clients that connect and do little else; 0: this is
	// not such a workload, and it has a Script.
	Connecting Connecting
	// Verify compares the answer through a target with what its servers hold; nil: the
	// command tags say enough.
	Verify func(ctx context.Context, t *target.Target, size Size) error
}

// By are those of some protocols by which the workload can be run, or the first one by
// which it can.
func (w *Workload) By(protocols []load.Protocol) (list []load.Protocol) {
	if w.Protocols == nil {
		return protocols
	}
	for _, p := range protocols {
		if slices.Contains(w.Protocols, p) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		list = w.Protocols[:1]
	}
	return list
}

// Readers are clients beside those of a workload.
type Readers struct {
	Numbers    []int // of them; each is measured if no other is asked for
	Statements []*load.Statement
	Script     func(Setup) load.Script
}

// All are the workloads, in the order in which they are run.
var All = slices.Concat([]*Workload{
	selectByKey, updateByKey, readWrite, insertRow, insertRows, inList, join, gatherJoin,
	pgbench, transfer2, transfer3, transfer4}, transferReaders, []*Workload{
	aggregate, groupBy, orderLimit, selectAll, selectAllStalled, selectOrdered, copyIn, copyOut,
	orderEntry, orderEntryRemote, tpchAll, connectStorm, idleClients})

// Default are the names of those that are run if none is asked for.
var Default = []string{selectByKey.Name, pgbench.Name}

// Names are those of All.
func Names() (list []string) {
	for _, w := range All {
		list = append(list, w.Name)
	}
	return list
}

// Bounded are the names of those of which something is promised.
func Bounded() (list []string) {
	for _, w := range All {
		if len(w.Bounds) > 0 {
			list = append(list, w.Name)
		}
	}
	return list
}

// BoundedClients are the numbers of clients for which something is promised.
func (w *Workload) BoundedClients() (list []int) {
	for _, b := range w.Bounds {
		list = append(list, b.Clients...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// BoundedBy says whether something is promised for so many clients and a protocol.
func (w *Workload) BoundedBy(clients int, p load.Protocol) bool {
	return slices.ContainsFunc(w.Bounds, func(b Bound) bool { return b.For(clients, p) })
}

// ByName returns the workloads of these names, in the order of All. It knows besides the
// single queries of TPC-H, tpch-1 to tpch-22.
func ByName(names []string) ([]*Workload, error) {
	var list []*Workload
	known := map[string]bool{}
	for _, w := range slices.Concat(All, tpchQueries) {
		known[w.Name] = true
		if slices.Contains(names, w.Name) {
			list = append(list, w)
		}
	}
	for _, name := range names {
		if !known[name] {
			return nil, fmt.Errorf("no workload %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	return list, nil
}

// Size is that of the data.
type Size struct {
	Scale int
	// Small cuts down what is large at any scale, to try the benchmark out.
	Small bool
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
