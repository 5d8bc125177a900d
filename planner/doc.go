// Package planner turns a statement, a snapshot of the schema and the number
// of shards into a plan or a refusal. It is pure: no I/O, no clock, no context;
// the same input gives the same plan. It does not know connections, sessions or
// rows, and it never rewrites SQL by deparsing a tree: what a shard is sent is
// the client's text, or pieces of it.
//
// The governing idea: a statement may run on one shard when leaving out every
// row of every other shard can't change its answer, and on all shards when the
// answers are disjoint parts of the whole. What is neither is refused, with the
// reason.
package planner
