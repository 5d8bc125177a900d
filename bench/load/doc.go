// Package load makes the load of a benchmark: connections that speak the protocol at
// little cost, and clients that run transactions on them one after the other, counting
// latencies and errors.
//
// It does not know what the transactions are for (see package workload) nor what is at
// the other end.
//
// The governing idea: the generator shares its processors with what it measures. On the
// hot path are one write, one read and a scan of the answer; nothing is allocated,
// decoded or handed to another goroutine.
package load
