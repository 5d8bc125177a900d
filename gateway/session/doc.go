// Package session is one client's conversation with the gateway: the protocol's
// state machine, the transaction, the settings, and the prepared statements and
// portals under the client's own names. It decides what runs where and when;
// exec carries it out.
//
// The governing idea: one goroutine owns a session with its socket, its
// transaction and its shard connections. Others only signal it, by Cancel and
// Terminate.
//
// # Reading order
//
// session.go serves a client by the table in state.go. listen.go waits for its messages.
//
// A message: query.go runs a simple Query, and block.go a statement in a transaction block. A
// batch of the extended protocol is gathered by extended.go, resolved by batch.go with
// prepared.go, and sent by emit.go. resolve.go finds the shards of a plan. execute.go has
// PREPARE and EXECUTE in SQL.
//
// The transaction: transaction.go joins shards to it and ends it; control.go carries out the
// statements about it, and about the session; snapshot.go gives its reads one snapshot, and
// clock.go one time; waits.go says what it waits for, and doubt.go what has become of one in
// doubt. settings.go and ownsettings.go are about the client's SET.
//
// A plan that is more than a text for shards, by its name in package planner: gather.go, with
// change.go for one that changes a table and cursor.go for one that is read bit by bit; ordered.go,
// insert.go, createas.go, move.go and steps.go. explain.go has any of them explained,
// explainrun.go what takes several rounds; explained.go and explainother.go write the answer.
package session
