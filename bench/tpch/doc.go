// Package tpch has the eight tables and the 22 queries of TPC-H: a generator of rows, a
// schema with the rules by which a gateway distributes it, and a loader for anything that
// speaks PostgreSQL's protocol. The section numbers in it are those of the specification,
// TPC Benchmark H, revision 3.
//
// It is for comparing answers and times on equal data. It is not the TPC's generator: the
// rows follow the specification's distributions, with numbers and words of its own, and no
// figure made with it is a result of the TPC's benchmark.
//
// The governing idea: a row is a function of seed, table and number, so data are the same
// wherever, in whatever order and in however many parts they are made.
package tpch
