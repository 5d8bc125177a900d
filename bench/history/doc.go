// Package history holds what clients of a database saw, transaction by transaction, and
// says what of it could not have happened on one PostgreSQL: it checks histories for
// anomalies of isolation and for lost, duplicated or halved commits.
//
// It is pure: it starts nothing and connects to nothing. Package scenario makes
// histories, package nemesis the faults in them.
//
// The governing idea: clients alone are believed. An anomaly is derived from what they
// were told, so it is one whatever the servers, their logs and their clocks say.
//
// Sources: Adya, Weak Consistency: A Generalized Theory and Optimistic Implementations for
// Distributed Transactions (1999), for the anomalies' names and for histories of mixed
// levels; Kingsbury and Alvaro, Elle: Inferring Isolation Anomalies from Experimental
// Observations (VLDB 2020), for lists that show their own version order and for the search
// of cycles; Jepsen's workloads bank and long fork.
package history
