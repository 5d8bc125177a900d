// Package localpg runs stock PostgreSQL servers from the binaries that are installed on this machine: the shards of
// `shardgate dev`, of the tests and of the benchmark. It makes a data directory, starts, watches, stops and crashes
// a server. It knows nothing of Shardgate, and it is not for operating servers that hold data one can't lose: anybody
// who can reach the loopback interface is let in without a password.
//
// The governing idea: a directory is a whole cluster or it is not one. A cluster is made beside its place and renamed
// into it, and what is found alive in it is reported and never adopted, so that every run can follow any crash of the
// one before it.
//
// It is for Unix systems. On Linux the servers end with the process that started them, however that one ends.
package localpg
