// Package exec sends messages to shards and brings their answers to the client:
// the one path on which everything a client asks for travels, from a select by
// key to a COPY over all shards. It does not plan and does not know transactions.
//
// The governing idea: what is to be done is a list of operations. All of them are
// written to their shards first, and then the answers are read in the order of
// the list, by the one goroutine that owns the session, straight from a shard's
// read buffer to the client.
//
// # Reading order
//
// run.go has the operations and the Runner that carries them out, answer.go what is done with
// each message of an answer, and report.go with errors and parameters. origins.go, nested.go and
// sum.go are about what differs between shards in them: OIDs, and counts.
//
// Where a statement goes: key.go finds the slots of a plan's keys in its values; what Go can't
// hash is hashed by a shard, in hash.go. ask.go is what else the gateway asks for itself.
//
// COPY data are divided by splitter.go, with copyfields.go, and passed on by copyin.go.
//
// What keeps rows: gather.go the parts of a planner.Gather, with keyset.go for those that others
// are asked with; rows.go what goes on to shards, for insert.go, move.go, copies.go and
// steps.go. What doesn't: ordered.go merges sorted rows as they come, with passing.go for
// DISTINCT, OFFSET and LIMIT, and portions.go for portals with a row limit.
package exec
